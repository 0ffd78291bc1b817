//! The ground that the end-to-end tests stand on: namespaces that clean up after themselves, the
//! binary under test, a lock for what is global to the host, and a harness in which a test that
//! cannot run is *ignored* with its reason, or fails where `CI` is set.
//!
//! Namespaces, fills and the lock are the lab's; its rules hold here too.

mod binary;
pub mod conntrack;
mod doctor;
pub mod engine;
mod harness;
mod matrix;

pub use binary::{Output, ctkeeper, ctkeeper_path, run};
pub use ctkeeper_lab::{Filling, HostValues, Namespace, ensure_harmless, fill, filled};
pub use doctor::{Report, doctor, report_of};
pub use harness::{Case, KERNEL, MOUNTS, NOBODY, Need, RULES, main, named_trial};
pub use matrix::Matrix;
