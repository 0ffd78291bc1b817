//! Remedies: a change of limit and buckets, planned with its proof, applied, verified, persisted,
//! and undone.
//!
//! [`plan`] is pure: a [`Snapshot`](ctkeeper_snapshot::Snapshot) and a [`Request`] in, a [`Plan`]
//! out in which every number carries its reason, or a [`Refusal`] that says what to do instead.
//! It does no I/O and reads no clock.

mod plan;
mod text;

pub use plan::{
    About, Access, BUCKETS_STEP, FileStep, LIMIT_LARGEST, MODPROBE_FILE, MODULES_LOAD_FILE,
    MemoryProof, PLAN_SCHEMA, Persist, Plan, Reason, Refusal, Request, RunningStep, SYSCTL_FILE,
    buckets_in_kernel, plan,
};
