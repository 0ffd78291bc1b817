//! The ground that the end-to-end tests stand on: namespaces that clean up after themselves, the
//! binary under test, a lock for what is global to the host, and a harness in which a test that
//! cannot run is *ignored* with its reason, or fails where `CI` is set.
//!
//! The tests and their guards hurt nobody: the hash table is shared by all namespaces, so fills are
//! refused unless they leave room (see [`fill`]); limit and buckets are only ever raised, under a
//! lock across processes, and put back by whoever comes next (see [`HostValues`]).

mod binary;
mod doctor;
mod fill;
mod harness;
mod host_values;
mod namespace;

pub use binary::{Output, ctkeeper, ctkeeper_path, run};
pub use doctor::{Report, doctor, report_of};
pub use fill::{Filling, ensure_harmless, fill, filled};
pub use harness::{Case, Need, main};
pub use host_values::HostValues;
pub use namespace::Namespace;
