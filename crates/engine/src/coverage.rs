//! Which places of the trackers' tables packets have reached.

use std::collections::BTreeMap;

use ctkeeper_flow::{Direction, SctpState, TcpState};

use crate::outcome::Reason;

/// Counts of the table cells and reasons that were met; kept when
/// [`Config::coverage`](crate::Config) is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    tcp: BTreeMap<(u8, u8, u8), u64>,
    sctp: BTreeMap<(u8, u8, u8), u64>,
    reasons: BTreeMap<Reason, u64>,
}

/// One cell of a tracker's state table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell<State> {
    /// Direction of the packet, by its number: 0 original, 1 reply.
    pub direction: u8,
    /// The table's row: kind of TCP packet or of SCTP chunk.
    pub row: u8,
    /// State of the connection before the packet.
    pub from: State,
}

impl Coverage {
    /// A packet met a cell of the TCP table.
    pub(crate) fn tcp(&mut self, direction: Direction, row: u8, from: u8) {
        *self.tcp.entry((direction as u8, row, from)).or_default() += 1;
    }

    /// A chunk met a cell of the SCTP table.
    pub(crate) fn sctp(&mut self, direction: Direction, row: u8, from: u8) {
        *self.sctp.entry((direction as u8, row, from)).or_default() += 1;
    }

    /// A packet was turned away.
    pub(crate) fn reason(&mut self, reason: Reason) {
        *self.reasons.entry(reason).or_default() += 1;
    }

    /// How often each cell of the TCP table was met; rows are syn, synack, fin, ack, rst, none.
    pub fn tcp_cells(&self) -> impl Iterator<Item = (Cell<TcpState>, u64)> {
        self.tcp.iter().filter_map(|(&(direction, row, from), &count)| {
            Some((Cell { direction, row, from: TcpState::from_number(from)? }, count))
        })
    }

    /// How often each cell of the SCTP table was met; rows are init, init ack, abort, shutdown,
    /// shutdown ack, error, cookie echo, cookie ack, shutdown complete, heartbeat, heartbeat ack.
    pub fn sctp_cells(&self) -> impl Iterator<Item = (Cell<SctpState>, u64)> {
        self.sctp.iter().filter_map(|(&(direction, row, from), &count)| {
            Some((Cell { direction, row, from: SctpState::from_number(from)? }, count))
        })
    }

    /// How often packets were turned away for each reason.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.reasons.iter().map(|(&reason, &count)| (reason, count))
    }

    /// Adds what another run met.
    pub fn add(&mut self, other: &Self) {
        let tables = [(&mut self.tcp, &other.tcp), (&mut self.sctp, &other.sctp)];
        for (mine, theirs) in tables {
            for (cell, count) in theirs {
                *mine.entry(*cell).or_default() += count;
            }
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(*reason).or_default() += count;
        }
    }
}
