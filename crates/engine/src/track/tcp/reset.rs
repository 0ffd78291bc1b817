//! Which resets are believed (RFC 5961 in the eyes of a tracker; `nf_conntrack_tcp_packet`,
//! `nf_conntrack_proto_tcp.c`, Linux 6.12; the same in 6.1).

use ctkeeper_flow::{Direction, Status};

use super::cells::{Kind, state};
use super::window::{before, side};
use super::{Course, Move};
use crate::entry::{Entry, TcpWindow};
use crate::outcome::Reason;
use crate::packet::TcpSegment;
use crate::track::{Context, Judgement};

/// What a reset that leads to CLOSE does.
pub(super) fn course(
    context: &Context<'_>,
    entry: &Entry,
    window: &TcpWindow,
    segment: TcpSegment<'_>,
) -> Course {
    let close = Move { from: entry.state, to: state::CLOSE };
    // The numbers of a closing connection may be those of one that has ended.
    if matches!(entry.state, state::FIN_WAIT..=state::CLOSE) {
        return Course::Take(close);
    }
    let peer = &window.seen[usize::from(context.direction == Direction::Original)];
    // A SYN that was let through may have made the acknowledgement obsolete.
    if peer.has(side::ACK_KNOWN) && window.last_index != Kind::Syn as u8 {
        return by_acknowledgement(context, entry, window, segment, peer.max_ack);
    }
    if answers_one_let_through(context, entry, window, segment) {
        return Course::Take(close);
    }
    Course::Check(close)
}

/// A reset while it is known what the other side has acknowledged, which the reset should
/// begin at.
fn by_acknowledgement(
    context: &Context<'_>,
    entry: &Entry,
    window: &TcpWindow,
    segment: TcpSegment<'_>,
    acknowledged: u32,
) -> Course {
    let close = Move { from: entry.state, to: state::CLOSE };
    let established = entry.state == state::ESTABLISHED && entry.has(Status::ASSURED);
    // Most likely the answer to a SYN that was let through.
    if segment.sequence == 0 && !established {
        return Course::Check(close);
    }
    let ignore_old = context.settings.tcp_ignore_invalid_rst;
    if before(segment.sequence, acknowledged) && !ignore_old {
        return Course::Settled(Judgement::Invalid(Reason::TcpResetOld));
    }
    let follows_own = window.last_index == Kind::Ack as u8
        && window.last_direction == context.direction as u8
        && segment.sequence == window.last_end;
    if !established || segment.sequence == acknowledged || follows_own {
        return Course::Check(close);
    }
    // Not exact: its receiver answers with a challenge instead of closing.
    Course::Check(Move { from: entry.state, to: entry.state })
}

/// Whether the reset answers a segment that passed without being believed; what it says need not
/// be in the window then.
fn answers_one_let_through(
    context: &Context<'_>,
    entry: &Entry,
    window: &TcpWindow,
    segment: TcpSegment<'_>,
) -> bool {
    let (last, direction) = (window.last_index, window.last_direction);
    let after_syn = entry.has(Status::SEEN_REPLY)
        && last == Kind::Syn as u8
        && direction != context.direction as u8;
    let after_ack = !entry.has(Status::ASSURED) && last == Kind::Ack as u8;
    if (after_syn || after_ack) && segment.acknowledgement == window.last_end {
        return true;
    }
    entry.state == state::SYN_SENT
        && last == Kind::Ack as u8
        && direction == Direction::Reply as u8
        && segment.sequence == window.last_acknowledgement
}
