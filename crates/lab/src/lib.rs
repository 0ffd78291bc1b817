//! The lab: network namespaces, links, rules, processes and load on the real kernel, as values whose
//! guards take everything away again.
//!
//! * [`Namespace`], [`Link`], [`Bridge`], [`Process`], [`HaProxy`] are guards: what they made goes
//!   when they go, on errors and panics too. [`catch_signals`] turns SIGINT, SIGTERM and SIGHUP into
//!   [`LabError::Interrupted`], so that guards run then as well. What kill -9 leaves, the next
//!   [`clean`] removes.
//! * [`fill`] and [`Filler`] make entries by netlink.
//! * [`Clash`] sends first packets that claim one place at the same moment.
//! * [`load`] makes connections and packets at a rate of their own.
//! * [`HostValues`] is the right to raise limit and buckets.
//! * [`scenario`] puts all of that together from TOML.
//!
//! The lab hurts nobody: everything happens in namespaces that it made, load and fills are bounded,
//! and what is global to the host is only ever raised, under one lock across processes, and put back.

mod announce;
pub mod artefacts;
mod clash;
mod clean;
mod error;
mod fill;
mod haproxy;
mod host_values;
mod interruption;
pub mod load;
mod namespace;
mod network;
mod owner;
mod process;
mod program;
pub mod scenario;

pub use clash::{Clash, Clashed, Rivals};
pub use clean::{Cleaned, clean};
pub use error::LabError;
pub use fill::{Filler, Filling, ensure_harmless, fill, filled};
pub use haproxy::HaProxy;
pub use host_values::{HostValues, Restored};
pub use interruption::{catch_signals, check_interrupted, interrupted, pause, wait_for};
pub use namespace::Namespace;
pub use network::{Bridge, End, Link};
pub use process::{Process, bound_command};
pub use program::{is_installed, require};
