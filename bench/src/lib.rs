//! What the benches share: running programs and measuring what they cost.
//!
//! A bench makes its own namespaces, runs ctkeeper and its peer side by side in one run, prints
//! medians and the ratio, and cleans up.

mod core;
mod floor;
mod measure;
mod traffic;

pub use self::core::{Numbers, PerItem, per_item, pin, resident, shuffled, summary, thread_cpu};
pub use floor::walk_headers;
pub use measure::{Cost, children_cpu, measure, median, peak_resident};
pub use traffic::{CHUNK, Kind, Step, Traffic};
