//! Remedies: a change of limit and buckets, planned with its proof, applied, verified, persisted,
//! and undone.
//!
//! - [`plan`] is pure: a [`Snapshot`](ctkeeper_snapshot::Snapshot) and a [`Request`] in, a [`Plan`]
//!   out in which every number carries its reason, or a [`Refusal`] that says what to do instead.
//! - [`apply`] makes a plan true, one journalled step after the other, and looks whether it holds;
//!   a failure takes everything back. [`undo`] does so later, [`recover`] after a crash.
//! - [`emit`] writes a plan down for hosts that are managed elsewhere.

mod apply;
mod edit;
mod emit;
mod error;
mod journal;
mod plan;
mod root;
mod time;

pub use apply::{Hands, Progress, Recovered, apply, recover, undo};
pub use emit::{Format, emit};
pub use error::Error;
pub use journal::{
    CHANGE_SCHEMA, Change, ChangeState, FOLDER as JOURNAL_FOLDER, FileChange, changes, unfinished,
};
pub use plan::{
    About, Access, FileStep, LIMIT_LARGEST, MODPROBE_FILE, MODULES_LOAD_FILE, MemoryProof,
    PLAN_SCHEMA, Persist, Plan, Reason, Refusal, Request, RunningStep, SYSCTL_FILE,
    buckets_in_kernel, plan,
};
pub use root::{Bytes, FileError, FileState, RegularFile, Root};
pub use time::{compact as compact_time, readable as readable_time};
