//! Counting, pure: what a table's entries are, from all of them or from a sample with its
//! uncertainty; whose they are; whether eviction can make room; how long until the table is full.
//!
//! A dump walks the hash table in keyed-hash order, so its first *k* entries are a uniform sample
//! of the whole (measured: block shares spread as the binomial says; the suite `sampling` holds the
//! intervals against tables whose content is known).
//!
//! * [`Attributor`] tells whose an entry is, by a roster of holders.
//! * [`Counter`] counts entries of one or many tables by a key or a pair, with intervals.
//! * [`Stopping`] tells when a sample is large enough.
//! * [`Panel`] tells how rows grow, from two looks at the same entries.
//! * [`Suspects`] finds ghosts: entries whose socket no longer exists.
//! * [`Tally`] sums up one table for the Snapshot.

mod attribution;
mod counter;
mod estimate;
mod ghosts;
mod groups;
mod hashing;
mod headroom;
mod idle;
mod pairs;
mod panel;
mod stopping;
mod tally;

pub use attribution::{Attribution, Attributor, HolderRef, PeerRef, Way};
pub use counter::{Counter, Rows, TableCounter, TableFacts};
pub use estimate::{Estimate, entries, figure, sum};
pub use ghosts::{BETWEEN_LOOKS_MS, GhostLook, Inhabitants, Spared, Suspects};
pub use groups::PortUse;
pub use headroom::{Headroom, eviction_chance, time_until_full};
pub use idle::{Clock, Idle};
pub use pairs::{Local, ProcessSockets, proxies};
pub use panel::{Growth, Panel};
pub use stopping::Stopping;
pub use tally::{IDLE_SECONDS, LOCKED_SECONDS, Tally};
