//! The kinds of segments, the states, and the table that leads from state to state.
//!
//! What stands in the table is the kernel's (`tcp_conntracks`, `nf_conntrack_proto_tcp.c`, Linux 6.12; the same in 6.1).

use ctkeeper_flow::{Direction, TcpState};

use crate::packet::flag::{ACK, FIN, RST, SYN};

/// What a segment is to the state table: its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Syn = 0,
    SynAck = 1,
    Fin = 2,
    Ack = 3,
    Reset = 4,
    /// None of the flags. No segment is of this kind, for such flags are refused beforehand; it
    /// stands for the segment before a connection's first.
    None = 5,
}

impl Kind {
    /// The kind of a segment with these flags (`get_conntrack_index`).
    #[inline]
    pub(super) const fn of(flags: u8) -> Self {
        KINDS[(flags & (FIN | SYN | RST | ACK)) as usize]
    }
}

const KINDS: [Kind; 32] = {
    let mut kinds = [Kind::None; 32];
    let mut flags = 0;
    while flags < 32 {
        kinds[flags as usize] = match flags {
            _ if flags & RST != 0 => Kind::Reset,
            _ if flags & (SYN | ACK) == SYN | ACK => Kind::SynAck,
            _ if flags & SYN != 0 => Kind::Syn,
            _ if flags & FIN != 0 => Kind::Fin,
            _ if flags & ACK != 0 => Kind::Ack,
            _ => Kind::None,
        };
        flags += 1;
    }
    kinds
};

/// The states by the kernel's numbers, and the two contents of a cell that are none.
pub(super) mod state {
    use super::TcpState;

    pub(in crate::track::tcp) const NONE: u8 = TcpState::None.number();
    pub(in crate::track::tcp) const SYN_SENT: u8 = TcpState::SynSent.number();
    pub(in crate::track::tcp) const SYN_RECV: u8 = TcpState::SynRecv.number();
    pub(in crate::track::tcp) const ESTABLISHED: u8 = TcpState::Established.number();
    pub(in crate::track::tcp) const FIN_WAIT: u8 = TcpState::FinWait.number();
    pub(in crate::track::tcp) const CLOSE_WAIT: u8 = TcpState::CloseWait.number();
    pub(in crate::track::tcp) const LAST_ACK: u8 = TcpState::LastAck.number();
    pub(in crate::track::tcp) const TIME_WAIT: u8 = TcpState::TimeWait.number();
    pub(in crate::track::tcp) const CLOSE: u8 = TcpState::Close.number();
    pub(in crate::track::tcp) const SYN_SENT2: u8 = TcpState::SynSent2.number();
    /// The state has no place for the segment.
    pub(in crate::track::tcp) const INVALID: u8 = 10;
    /// The segment passes and is remembered, but decides nothing.
    pub(in crate::track::tcp) const IGNORED: u8 = 11;
}

/// The state that a segment leads to, or [`state::INVALID`] or [`state::IGNORED`]. From a number
/// that is no state all is invalid.
#[inline]
pub(super) const fn next(direction: Direction, kind: Kind, from: u8) -> u8 {
    let row = (direction as usize & 1) << 3 | (kind as usize & 7);
    CELLS[row << 4 | (from & 15) as usize]
}

/// Rows of 16 cells, 8 rows a direction, so that every index is in range.
const CELLS: [u8; 256] = spread();

const fn spread() -> [u8; 256] {
    let mut cells = [state::INVALID; 256];
    let mut direction = 0;
    while direction < 2 {
        let mut row = 0;
        while row < 5 {
            let mut from = 0;
            while from < 10 {
                cells[direction << 7 | row << 4 | from] = TABLE[direction][row][from];
                from += 1;
            }
            row += 1;
        }
        direction += 1;
    }
    cells
}

const NO: u8 = state::NONE;
const SS: u8 = state::SYN_SENT;
const SR: u8 = state::SYN_RECV;
const ES: u8 = state::ESTABLISHED;
const FW: u8 = state::FIN_WAIT;
const CW: u8 = state::CLOSE_WAIT;
const LA: u8 = state::LAST_ACK;
const TW: u8 = state::TIME_WAIT;
const CL: u8 = state::CLOSE;
const S2: u8 = state::SYN_SENT2;
const IV: u8 = state::INVALID;
const IG: u8 = state::IGNORED;

/// By direction, kind and state; the columns are in the order of the constants above. The row of
/// [`Kind::None`] is not written out: all of it is invalid.
#[rustfmt::skip]
const TABLE: [[[u8; 10]; 5]; 2] = [
    [
        /* syn     */ [SS, SS, IG, IG, IG, IG, IG, SS, SS, S2],
        /* syn+ack */ [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR],
        /* fin     */ [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
        /* ack     */ [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV],
        /* rst     */ [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
    [
        /* syn     */ [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2],
        /* syn+ack */ [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR],
        /* fin     */ [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
        /* ack     */ [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG],
        /* rst     */ [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
];

const _: () = assert!(NO == 0 && SS == 1 && SR == 2 && ES == 3 && FW == 4, "columns in order");
const _: () = assert!(CW == 5 && LA == 6 && TW == 7 && CL == 8 && S2 == 9, "columns in order");

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS_OF_SEGMENTS: [Kind; 5] =
        [Kind::Syn, Kind::SynAck, Kind::Fin, Kind::Ack, Kind::Reset];

    #[test]
    fn a_reset_goes_before_a_syn_and_that_before_a_fin() {
        let kinds =
            [RST | ACK | SYN, SYN | FIN, SYN | ACK | FIN, FIN | ACK, ACK | 0xe8].map(Kind::of);
        assert_eq!(kinds, [Kind::Reset, Kind::Syn, Kind::SynAck, Kind::Fin, Kind::Ack]);
    }

    /// The table in the words of the rules behind it.
    fn by_rule(direction: Direction, kind: Kind, from: u8) -> u8 {
        let original = direction == Direction::Original;
        match kind {
            Kind::Syn if original => match from {
                NO | SS | TW | CL => SS,
                S2 => S2,
                _ => IG,
            },
            Kind::Syn => match from {
                SS | S2 => S2,
                TW => SS,
                _ => IV,
            },
            Kind::SynAck => match from {
                S2 => SR,
                SR if original => SR,
                NO => IV,
                SS if !original => SR,
                _ => [IG, IV][usize::from(original)],
            },
            Kind::Fin => match from {
                SR | ES => FW,
                FW | CW | LA => LA,
                TW | CL => from,
                _ => IV,
            },
            Kind::Ack => match from {
                NO | SR if original => ES,
                SS | S2 if !original => IG,
                NO | SS | S2 => IV,
                FW | CW => CW,
                LA | TW => TW,
                _ => from,
            },
            Kind::Reset if from != NO => CL,
            Kind::Reset | Kind::None => IV,
        }
    }

    #[test]
    fn every_cell_follows_its_rule() {
        for direction in [Direction::Original, Direction::Reply] {
            for kind in KINDS_OF_SEGMENTS {
                for from in 0..10 {
                    let cell = next(direction, kind, from);
                    assert_eq!(
                        cell,
                        by_rule(direction, kind, from),
                        "{direction:?} {kind:?} {from}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_state_leads_nowhere() {
        for kind in KINDS_OF_SEGMENTS {
            for from in 10..16 {
                assert_eq!(next(Direction::Original, kind, from), state::INVALID);
            }
        }
        assert_eq!(next(Direction::Reply, Kind::None, state::ESTABLISHED), state::INVALID);
    }

    #[test]
    fn a_connection_runs_through_its_states() {
        let steps = [
            (Direction::Original, Kind::Syn),
            (Direction::Reply, Kind::SynAck),
            (Direction::Original, Kind::Ack),
            (Direction::Original, Kind::Fin),
            (Direction::Reply, Kind::Ack),
            (Direction::Reply, Kind::Fin),
            (Direction::Original, Kind::Ack),
        ];
        let mut at = state::NONE;
        let met = steps.map(|(direction, kind)| {
            at = next(direction, kind, at);
            at
        });
        assert_eq!(met, [SS, SR, ES, FW, CW, LA, TW]);
    }
}
