//! The vocabulary of connection tracking.
//!
//! A [`Flow`] is our value of one entry in the kernel's table: a [`Tuple`] for each direction, a
//! [`Status`], a protocol state, a timeout and whatever else the kernel sends. Everything that
//! ctkeeper reads from the kernel, prints, filters, counts or simulates is expressed in these types.
//! This crate does no I/O and imports none of our other crates.
//!
//! Names follow the kernel's where it has one: *original* and *reply* are the two directions,
//! *assured* entries are never evicted by early drop, a *zone* separates equal tuples.

mod civil;
mod digits;
mod entry;
mod event;
mod expectation;
pub mod hostile;
mod labels;
mod limits;
mod protocol;
mod state;
mod statistics;
mod status;
mod tuple;
pub mod units;

pub mod filter;
pub mod json;
pub mod save;
pub mod text;
pub mod xml;

pub use civil::LocalTime;
pub use entry::{
    Counters, Flow, Helper, Labels, Mark, SequenceAdjustment, SynProxy, Timestamps, Zone,
    ZoneDirection,
};
pub use event::EventKind;
pub use expectation::{Expectation, ExpectationFlags};
pub use filter::{Filter, FilterError};
pub use labels::LabelNames;
pub use limits::{Limit, Limits, Timeouts};
pub use protocol::{Family, Protocol};
pub use state::{
    DccpRole, DccpState, ProtocolState, SctpState, SctpTracking, TcpFlags, TcpState, TcpTracking,
};
pub use statistics::{Statistic, Statistics};
pub use status::Status;
pub use tuple::{Direction, Layer4, Tuple};
