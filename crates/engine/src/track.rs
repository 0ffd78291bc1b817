//! The protocol trackers: what a packet means to its connection.
//!
//! A tracker is a function over the connection's record and a checked view of the packet. It
//! changes the record's state, status bits and its own part; the deadline, the counters and the
//! table are the engine's business, which follows the tracker's [`Judgement`].

pub(crate) mod dispatch;
pub(crate) mod error;
mod generic;
pub(crate) mod gre;
mod icmp;
mod icmpv6;
mod sctp;
pub(crate) mod tcp;
#[cfg(test)]
mod testing;
pub(crate) mod udp;
mod udplite;

use ctkeeper_flow::Direction;

use crate::coverage::Coverage;
use crate::event::Changes;
use crate::outcome::Reason;
use crate::settings::{Profile, Settings};
use crate::time::Ticks;

/// What a tracker is told beside the packet and the record.
pub(crate) struct Context<'a> {
    pub(crate) now: Ticks,
    pub(crate) settings: &'a Settings,
    pub(crate) profile: Profile,
    /// Direction of the packet within its connection.
    pub(crate) direction: Direction,
    /// Whether checksums are to be verified here: the packet enters the host, the namespace says
    /// so and the caller has not verified them.
    pub(crate) verify: bool,
    /// What the packet changed, for the event that tells of it.
    pub(crate) changes: &'a mut Changes,
    pub(crate) coverage: Option<&'a mut Coverage>,
}

/// What a tracker says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Part of the connection, which now lives so long from now on, and is counted.
    Refresh(Ticks),
    /// Part of the connection; neither deadline nor counters change.
    Ignore,
    /// Part of the connection and counted; the connection ends with it.
    End,
    /// The connection has ended: look the packet up again.
    Repeat,
    /// Not part of the connection.
    Invalid(Reason),
}
