//! A record as the vocabulary's value of a connection.

use ctkeeper_flow::{
    Direction, Flow, Helper, Mark, ProtocolState, SctpState, SctpTracking, TcpFlags, TcpState,
    TcpTracking,
};

use crate::entry::{Entry, TcpWindow, flag};
use crate::index::Index;
use crate::index::records::Records;
use crate::table::Table;
use crate::time::Ticks;
use crate::tuple::{Tuple, protocol};

impl Table {
    /// Every connection in the table, but for those that stand in it with their reply tuple only.
    pub(crate) fn listed(&self) -> impl Iterator<Item = u32> {
        let (chained, all) = match &self.index {
            Index::Exact(chains) => {
                let records = self.records();
                (chains.listed(&records, Direction::Original).collect(), None)
            }
            Index::Fast(_) => (Vec::new(), Some(self.arena.records())),
        };
        chained.into_iter().chain(all.into_iter().flatten()).filter(|&line| {
            let flags = self.arena.entry(line).flags;
            flags & (flag::LISTED | flag::REPLY_ONLY) == flag::LISTED
        })
    }

    /// The tuple of a connection in one of its directions.
    pub(crate) fn tuple(&self, line: u32, direction: Direction) -> Tuple {
        self.records().tuple(line, direction)
    }

    /// The connection as the kernel would list it.
    pub(crate) fn flow(&self, now: Ticks, line: u32) -> Flow {
        let entry = self.arena.entry(line);
        let left = entry.deadline().after(now).max(0).cast_unsigned();
        let mut flow = Flow {
            original: self.tuple(line, Direction::Original).into(),
            reply: self.tuple(line, Direction::Reply).into(),
            zone: entry.zone(),
            status: entry.status(),
            state: self.protocol_state(line, entry),
            timeout: Some(Ticks(left).seconds()),
            mark: Some(Mark(entry.mark)),
            id: Some(entry.id),
            use_count: Some(1),
            ..Flow::default()
        };
        self.extensions.describe(entry, &mut flow);
        flow.master = self.master(line).map(|master| Box::new(master.into()));
        flow.helper = self.helper(line).map(|name| {
            let info = Box::default();
            Box::new(Helper { name: name.into(), info })
        });
        flow
    }

    fn protocol_state(&self, line: u32, entry: &Entry) -> ProtocolState {
        match entry.protocol {
            protocol::TCP => self.tcp_state(line, entry),
            protocol::SCTP => SctpState::from_number(entry.state)
                .map(|state| SctpTracking {
                    state,
                    verification_tags: Some((entry.small[0], entry.small[1])),
                })
                .map_or(ProtocolState::None, ProtocolState::Sctp),
            _ => ProtocolState::None,
        }
    }

    fn tcp_state(&self, line: u32, entry: &Entry) -> ProtocolState {
        let window = self.arena.tcp(line);
        TcpState::from_number(entry.state).map_or(ProtocolState::None, |state| {
            ProtocolState::Tcp(TcpTracking {
                state,
                window_scale: window.map(|w| (w.seen[0].scale, w.seen[1].scale)),
                flags: window.map(|w| (flags(w, 0), flags(w, 1))),
            })
        })
    }
}

const fn flags(window: &TcpWindow, side: usize) -> TcpFlags {
    TcpFlags { flags: window.seen[side].flags, mask: 0 }
}
