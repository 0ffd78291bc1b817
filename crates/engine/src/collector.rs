//! Collecting expired connections, in either mode.
//!
//! What is collected here was not met by a lookup before. Work a call is bounded; a
//! [`Collector`] that could not finish goes on at the next call.

mod sweep;
#[cfg(test)]
mod testing;
mod worker;

use ctkeeper_flow::{SctpState, Status, TcpState};
use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::settings::{Config, Mode};
use crate::time::{Ticks, Time};
use crate::tuple::protocol;

pub(crate) use sweep::Sweep;
pub(crate) use worker::Worker;

/// The table as a collector works on it.
pub(crate) trait Collectable {
    /// Exact mode: number of hash chains.
    fn buckets(&self) -> u32;
    /// Exact mode: puts the lines of a chain into `lines`, from its head on, a line with both of
    /// its tuples there twice.
    fn chain(&self, bucket: u32, lines: &mut Vec<u32>);
    /// Fast mode: how many places of records there are at most.
    fn places(&self) -> usize;
    /// Fast mode: shows records in use to `visit`, as [`Arena::scan`](crate::memory::Arena).
    fn scan(&self, cursor: u32, places: usize, visit: impl FnMut(u32, &Entry)) -> u32;
    /// The header of a record.
    fn entry(&self, line: u32) -> &Entry;
    /// Connections that a namespace holds.
    fn count(&self, namespace: u16) -> u32;
    /// Connections that a namespace may hold; 0 for any number.
    fn limit(&self) -> u32;
    /// Ends connections that are in the table, each once.
    fn end(&mut self, now: Ticks, lines: &[u32]);
    /// Ends the expired expectations of a connection.
    fn end_expectations(&mut self, now: Ticks, line: u32);
}

/// Collects expired connections as the mode wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Collector {
    /// The kernel's worker.
    Exact(Worker),
    /// A steady sweep over all records.
    Fast(Sweep),
}

impl Collector {
    pub(crate) fn new(config: &Config) -> Self {
        match config.mode {
            Mode::Exact => Self::Exact(Worker::new()),
            Mode::Fast => Self::Fast(Sweep::new(config.sweep)),
        }
    }

    /// Whether [`Self::run`] would do anything.
    #[inline]
    pub(crate) fn is_due(&self, now: Time) -> bool {
        match self {
            Self::Exact(worker) => worker.is_due(now),
            Self::Fast(sweep) => sweep.is_due(now),
        }
    }

    /// Does what has become due by `now`, and whether that is all of it; at most `budget` places
    /// are looked at: buckets and connections in exact mode, places of records in fast mode.
    pub(crate) fn run(&mut self, now: Time, table: &mut impl Collectable, budget: usize) -> bool {
        match self {
            Self::Exact(worker) => worker.run(now, table, budget),
            Self::Fast(sweep) => sweep.run(now, table, budget),
        }
    }

    /// Whether it may be the collector of an engine of this configuration: those that come out of
    /// files may be anything.
    pub(crate) fn is_sound(&self, config: &Config) -> bool {
        match self {
            Self::Exact(worker) => config.mode == Mode::Exact && worker.is_sound(),
            Self::Fast(sweep) => config.mode == Mode::Fast && sweep.is_sound(config.sweep),
        }
    }

    /// A connection was refused because its namespace is at the limit and nothing could be
    /// evicted (`conntrack_gc_work.early_drop`, Linux 6.12).
    pub(crate) const fn note_full(&mut self) {
        match self {
            Self::Exact(worker) => worker.note_full(),
            Self::Fast(sweep) => sweep.note_full(),
        }
    }
}

/// Whether a connection may be ended near the limit (`gc_worker_can_early_drop`).
fn may_end_early(entry: &Entry) -> bool {
    !entry.has(Status::ASSURED)
        || match entry.protocol {
            protocol::TCP => TcpState::from_number(entry.state).is_some_and(TcpState::is_closing),
            protocol::SCTP => {
                SctpState::from_number(entry.state).is_some_and(SctpState::is_closing)
            }
            _ => false,
        }
}

/// 95 % of a limit: where the kernel begins to end more than what has expired, and where that
/// stops again.
const fn nearly_full(limit: u32) -> u32 {
    limit / 100 * 95
}
