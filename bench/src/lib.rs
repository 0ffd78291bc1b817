//! What the benches share: running programs and measuring what they cost.
//!
//! A bench makes its own namespaces, runs ctkeeper and its peer side by side in one run, prints
//! medians and the ratio, and cleans up.

mod measure;

pub use measure::{Cost, children_cpu, measure, median};
