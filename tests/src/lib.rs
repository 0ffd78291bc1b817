//! The ground that the end-to-end tests stand on: namespaces that clean up after themselves, the
//! binary under test, a lock for what is global to the host, and a harness in which a test that
//! cannot run is *ignored* with its reason, or fails where `CI` is set.
//!
//! Namespaces, fills and the lock are the lab's; its rules hold here too.

mod ask;
mod binary;
pub mod conntrack;
mod control_group;
mod docker;
mod doctor;
pub mod engine;
mod harness;
mod matrix;
mod named_group;
mod podman;
mod pods;
pub mod sampling;

pub use ask::ask;
pub use binary::{Output, ctkeeper, ctkeeper_path, run};
pub use control_group::ControlGroup;
pub use ctkeeper_lab::{Filling, HostValues, Namespace, ensure_harmless, fill, filled};
pub use docker::{DOCKER, Docker, IMAGE};
pub use doctor::{Report, doctor, report_of};
pub use harness::{Case, KERNEL, MOUNTS, NOBODY, Need, RULES, main, named_trial};
pub use matrix::Matrix;
pub use named_group::NamedGroup;
pub use podman::{PODMAN, Podman};
pub use pods::{PODS, PodConfig, Pods, Sandbox};
