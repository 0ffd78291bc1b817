//! Counting, pure: what a table's entries are, from all of them or from a sample with its
//! uncertainty; whether eviction can make room; how long until the table is full.
//!
//! A dump walks the hash table in keyed-hash order, so its first *k* entries are a uniform sample
//! of the whole (measured: `facts` of this project, block shares spread as the binomial says).

mod estimate;
mod groups;
mod headroom;
mod pairs;
mod tally;

pub use estimate::{Estimate, entries};
pub use groups::PortUse;
pub use headroom::{Headroom, eviction_chance, time_until_full};
pub use pairs::{Local, ProcessSockets, proxies};
pub use tally::{IDLE_SECONDS, LOCKED_SECONDS, Tally};
