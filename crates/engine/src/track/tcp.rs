//! TCP: states, windows and resets (`nf_conntrack_proto_tcp.c`, Linux 6.12).
//!
//! A segment is looked up in the table of states ([`cells`]); some cells have rules of their own
//! here or in [`reset`]. What is left must fit the window ([`window`]) and then moves the
//! connection on.

mod cells;
mod reset;
mod window;

#[cfg(test)]
mod tests;

use ctkeeper_flow::{Direction, Status};

use self::cells::{Kind, state};
use self::window::{Fit, side, sides};
use super::{Context, Judgement};
use crate::coverage::Coverage;
use crate::entry::{Entry, TcpWindow};
use crate::event::Changes;
use crate::outcome::Reason;
use crate::packet::checksum::layer4_holds;
use crate::packet::{Datagram, TcpSegment, flag};
use crate::settings::{Profile, TcpTimeout};
use crate::time::Ticks;
use crate::tuple::protocol;

/// What a cell of the table of states comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// The window decides.
    Check(Move),
    /// The segment counts, whatever its numbers.
    Take(Move),
    /// Nothing is left to decide.
    Settled(Judgement),
}

/// From which state to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    from: u8,
    to: u8,
}

/// Judges a segment of a connection, or one that would begin it.
///
/// `segment` is read from the payload of `datagram`. `shift` is what the sequence numbers of the
/// receiver were shifted by under way, where the segment's acknowledgement stands, 0 without such
/// a helper (`nf_ct_seq_offset` for the other direction at the acknowledgement less one).
#[inline]
pub(crate) fn packet(
    context: &mut Context<'_>,
    entry: &mut Entry,
    window: &mut TcpWindow,
    datagram: &Datagram<'_>,
    segment: TcpSegment<'_>,
    shift: i32,
) -> Judgement {
    if context.verify && is_corrupt(datagram) {
        return Judgement::Invalid(Reason::TcpChecksum);
    }
    match steady(context, entry, window, segment, shift) {
        Some(life) => Judgement::Refresh(life),
        None => judge(context, entry, window, segment, shift),
    }
}

/// How long the connection lives from now on, if the segment is one of those that make up nearly
/// all traffic ([`is_steady`]); otherwise nothing has changed. Its checksum is the caller's business
/// ([`is_corrupt`]).
#[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
#[inline(always)]
pub(crate) fn steady(
    context: &Context<'_>,
    entry: &Entry,
    window: &mut TcpWindow,
    segment: TcpSegment<'_>,
    shift: i32,
) -> Option<Ticks> {
    if !is_steady(context, entry, segment) || !window::keep_steady(context, window, segment, shift)
    {
        return None;
    }
    window.last_index = Kind::Ack as u8;
    Some(Ticks::from_seconds(life(context, window, Kind::Ack, state::ESTABLISHED)))
}

/// Whether the segment is one of the many that make up nearly all traffic: ACK or data of an
/// assured connection, which changes neither state nor status if it is in the window. All of
/// [`judge`] comes to that for it, only later.
#[inline]
fn is_steady(context: &Context<'_>, entry: &Entry, segment: TcpSegment<'_>) -> bool {
    const STATUS: u32 = Status::CONFIRMED.0 | Status::SEEN_REPLY.0 | Status::ASSURED.0;
    entry.state == state::ESTABLISHED
        && entry.status & STATUS == STATUS
        && segment.flags & !(flag::PSH | flag::ECE | flag::CWR) == flag::ACK
        && context.coverage.is_none()
}

/// Judges any segment whose checksum is not to be doubted.
#[inline(never)]
fn judge(
    context: &mut Context<'_>,
    entry: &mut Entry,
    window: &mut TcpWindow,
    segment: TcpSegment<'_>,
    shift: i32,
) -> Judgement {
    if !segment.flags_make_sense() {
        return Judgement::Invalid(Reason::TcpFlags);
    }
    let kind = Kind::of(segment.flags);
    if !entry.has(Status::CONFIRMED)
        && let Err(reason) = begin(context, entry, window, (kind, segment))
    {
        return Judgement::Invalid(reason);
    }
    let from = entry.state;
    let to = cells::next(context.direction, kind, from);
    count_cell(context, kind, from);
    let course = match to {
        state::ESTABLISHED..=state::LAST_ACK => Course::Check(Move { from, to }),
        _ => particular(context, entry, window, (kind, segment), to),
    };
    let step = match course {
        Course::Check(step) => match window::check(context, window, (kind, from), segment, shift) {
            Fit::Inside => step,
            Fit::Ignored => return Judgement::Ignore,
            Fit::Outside(reason) => {
                lower_deadline(context, entry, window, kind);
                return Judgement::Invalid(reason);
            }
        },
        Course::Take(step) => step,
        Course::Settled(judgement) => return judgement,
    };
    advance(context, entry, window, (kind, step))
}

const _: () = {
    let original = cells::next(Direction::Original, Kind::Ack, state::ESTABLISHED);
    let reply = cells::next(Direction::Reply, Kind::Ack, state::ESTABLISHED);
    assert!(original == state::ESTABLISHED && reply == original, "what is steady stays");
};

/// Whether the checksum is wrong.
#[cold]
pub(crate) fn is_corrupt(datagram: &Datagram<'_>) -> bool {
    !layer4_holds(datagram, protocol::TCP, datagram.payload.len())
}

#[inline]
fn count_cell(context: &mut Context<'_>, kind: Kind, from: u8) {
    if let Some(coverage) = &mut context.coverage {
        count_in(coverage, context.direction, kind, from);
    }
}

#[cold]
#[inline(never)]
fn count_in(coverage: &mut Coverage, direction: Direction, kind: Kind, from: u8) {
    coverage.tcp(direction, kind as u8, from);
}

/// Begins a connection with its first segment, if it may (`tcp_new`).
#[cold]
fn begin(
    context: &mut Context<'_>,
    entry: &mut Entry,
    window: &mut TcpWindow,
    (kind, segment): (Kind, TcpSegment<'_>),
) -> Result<(), Reason> {
    match cells::next(Direction::Original, kind, state::NONE) {
        state::INVALID => {
            count_cell(context, kind, state::NONE);
            return Err(Reason::TcpNew);
        }
        state::ESTABLISHED if !context.settings.tcp_loose => return Err(Reason::TcpNotLoose),
        _ => {}
    }
    entry.state = state::NONE;
    window::begin(window, segment);
    Ok(())
}

/// The cells that a rule of their own belongs to.
#[cold]
fn particular(
    context: &Context<'_>,
    entry: &Entry,
    window: &mut TcpWindow,
    (kind, segment): (Kind, TcpSegment<'_>),
    to: u8,
) -> Course {
    let from = entry.state;
    let step = Move { from, to };
    match to {
        state::SYN_SENT if from >= state::TIME_WAIT => {
            reopen_or_pass(context, entry, window, (kind, segment))
        }
        state::IGNORED => pass_by(context, entry, window, (kind, segment)),
        state::INVALID => Course::Settled(Judgement::Invalid(Reason::TcpState)),
        state::TIME_WAIT if is_challenge(context, entry, window, kind) => {
            window.last_flags &= !side::CHALLENGE;
            Course::Settled(Judgement::Ignore)
        }
        state::SYN_SENT2 => {
            window.last_flags |= side::SIMULTANEOUS;
            Course::Check(step)
        }
        state::SYN_RECV if ends_simultaneous_open(context, window, kind) => {
            Course::Check(Move { from, to: state::ESTABLISHED })
        }
        state::CLOSE if kind == Kind::Reset => reset::course(context, entry, window, segment),
        _ => Course::Check(step),
    }
}

/// A SYN to a connection that has ended, or seems to have.
fn reopen_or_pass(
    context: &Context<'_>,
    entry: &Entry,
    window: &mut TcpWindow,
    (kind, segment): (Kind, TcpSegment<'_>),
) -> Course {
    let closed = (window.seen[0].flags | window.seen[1].flags) & side::CLOSE_BEGUN != 0;
    let aborted =
        window.last_direction == context.direction as u8 && window.last_index == Kind::Reset as u8;
    if closed || aborted {
        return Course::Settled(Judgement::Repeat);
    }
    pass_by(context, entry, window, (kind, segment))
}

/// A segment that passes without being believed, for the two ends may know better: a SYN, its
/// answer, or an ACK that challenges it. What the answers to it need is remembered.
fn pass_by(
    context: &Context<'_>,
    entry: &Entry,
    window: &mut TcpWindow,
    (kind, segment): (Kind, TcpSegment<'_>),
) -> Course {
    let answers_last_syn = window.last_index == Kind::Syn as u8
        && window.last_direction != context.direction as u8
        && segment.acknowledgement == window.last_end;
    if kind == Kind::SynAck && answers_last_syn {
        believe_last_syn(window, context.direction);
        return Course::Check(Move { from: state::SYN_SENT, to: state::SYN_RECV });
    }
    window.last_index = kind as u8;
    window.last_direction = context.direction as u8;
    window.last_sequence = segment.sequence;
    window.last_end = segment.end();
    window.last_window = segment.window;
    if kind == Kind::Syn && context.direction == Direction::Original {
        remember_syn(entry, window, segment);
    }
    let challenges_syn = entry.state == state::SYN_SENT && kind == Kind::Ack;
    if challenges_syn && context.direction == Direction::Reply {
        window.last_acknowledgement = segment.acknowledgement;
    }
    Course::Settled(Judgement::Ignore)
}

/// The two ends have begun anew with a SYN that was passed by, so its numbers are true.
fn believe_last_syn(window: &mut TcpWindow, direction: Direction) {
    window.last_flags &= !side::CHALLENGE;
    let (answering, opening) = sides(&mut window.seen, direction);
    opening.end = window.last_end;
    opening.max_end = window.last_end;
    opening.max_window = u32::from(window.last_window).max(1);
    opening.scale = window.last_scale;
    opening.flags = window.last_flags;
    answering.forget();
}

fn remember_syn(entry: &Entry, window: &mut TcpWindow, segment: TcpSegment<'_>) {
    let offer = segment.syn_options();
    window.last_scale = offer.scale.unwrap_or(0);
    window.last_flags = 0;
    if offer.scale.is_some() {
        window.last_flags |= side::WINDOW_SCALE;
    }
    if offer.sack_permitted {
        window.last_flags |= side::SACK_PERMITTED;
    }
    // Here the challenge would look like the acknowledgement of the last FIN.
    if entry.state == state::LAST_ACK {
        window.last_flags |= side::CHALLENGE;
    }
}

fn is_challenge(context: &Context<'_>, entry: &Entry, window: &TcpWindow, kind: Kind) -> bool {
    entry.state == state::LAST_ACK
        && kind == Kind::Ack
        && window.last_direction != context.direction as u8
        && window.last_index == Kind::Syn as u8
        && window.last_flags & side::CHALLENGE != 0
}

fn ends_simultaneous_open(context: &Context<'_>, window: &TcpWindow, kind: Kind) -> bool {
    context.direction == Direction::Reply
        && kind == Kind::Ack
        && window.last_flags & side::SIMULTANEOUS != 0
}

/// Moves the connection on with a segment that counts.
#[inline]
fn advance(
    context: &mut Context<'_>,
    entry: &mut Entry,
    window: &mut TcpWindow,
    (kind, step): (Kind, Move),
) -> Judgement {
    window.last_index = kind as u8;
    window.last_direction = context.direction as u8;
    entry.state = step.to;
    if step.from != step.to {
        context.changes.add(Changes::PROTOCOL);
        if step.to == state::FIN_WAIT {
            sides(&mut window.seen, context.direction).0.flags |= side::CLOSE_BEGUN;
        }
    }
    let life = life(context, window, kind, step.to);
    if !entry.has(Status::SEEN_REPLY) {
        return unanswered(context, (kind, step), life);
    }
    if !entry.has(Status::ASSURED)
        && step.to == state::ESTABLISHED
        && matches!(step.from, state::SYN_RECV | state::ESTABLISHED)
    {
        entry.set(Status::ASSURED);
        context.changes.add(Changes::ASSURED);
    }
    Judgement::Refresh(Ticks::from_seconds(life))
}

/// How many seconds the connection lives on.
#[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
#[inline(always)]
fn life(context: &Context<'_>, window: &TcpWindow, kind: Kind, to: u8) -> u32 {
    let retransmitted = window.retransmissions >= context.settings.tcp_max_retrans;
    if retransmitted || window.last_window == 0 || kind == Kind::Reset {
        return capped_life(context, window, kind, to);
    }
    let timeouts = &context.settings.timeouts.tcp;
    // Whatever comes here is a state, and the table of timeouts has a place for more than those.
    let usual = timeouts[usize::from(to)];
    let unacknowledged = timeouts[TcpTimeout::Unacknowledged as usize];
    let cap = if is_unacknowledged(window) { unacknowledged } else { u32::MAX };
    usual.min(cap)
}

/// The same with the caps that are rarely asked for. The first that lowers is the one.
#[cold]
fn capped_life(context: &Context<'_>, window: &TcpWindow, kind: Kind, to: u8) -> u32 {
    let timeouts = &context.settings.timeouts.tcp;
    let usual = timeouts[usize::from(to)];
    let retransmitting = timeouts[TcpTimeout::MaxRetrans as usize];
    let unacknowledged = timeouts[TcpTimeout::Unacknowledged as usize];

    let retransmitted = window.retransmissions >= context.settings.tcp_max_retrans;
    if retransmitted && usual > retransmitting {
        return retransmitting;
    }
    // 6.12.117 alone leaves more to a reset that its receiver may refuse.
    if kind == Kind::Reset && context.profile != Profile::Linux6_12 {
        return timeouts[TcpTimeout::Close as usize];
    }
    let inexact_reset = kind == Kind::Reset && to == state::ESTABLISHED;
    if (inexact_reset || is_unacknowledged(window)) && usual > unacknowledged {
        return unacknowledged;
    }
    if window.last_window == 0 { usual.min(retransmitting) } else { usual }
}

/// Whether either side has data on the way.
#[inline]
const fn is_unacknowledged(window: &TcpWindow) -> bool {
    window.seen[0].has(side::UNACKNOWLEDGED) | window.seen[1].has(side::UNACKNOWLEDGED)
}

/// What a segment does that counts while nothing has come back.
#[cold]
fn unanswered(context: &Context<'_>, (kind, step): (Kind, Move), life: u32) -> Judgement {
    if kind == Kind::Reset {
        return Judgement::End;
    }
    if kind == Kind::Syn && step.from == state::SYN_SENT {
        // Otherwise whoever uses the port again would keep a dead connection alive.
        return Judgement::Ignore;
    }
    let unacknowledged = context.settings.timeouts.tcp[TcpTimeout::Unacknowledged as usize];
    let picked_up = step.to == state::ESTABLISHED;
    let life = if picked_up { life.min(unacknowledged) } else { life };
    Judgement::Refresh(Ticks::from_seconds(life))
}

/// Where both sides have closed but outside the window, record and connection are out of step:
/// the connection is not kept for days then (`nf_tcp_handle_invalid`).
#[cold]
fn lower_deadline(context: &Context<'_>, entry: &mut Entry, window: &mut TcpWindow, kind: Kind) {
    const AT_LEAST: Ticks = Ticks::from_seconds(120);
    let closes = |index| index == Kind::Fin as u8 || index == Kind::Reset as u8;
    if !entry.has(Status::ASSURED) || entry.has(Status::FIXED_TIMEOUT) || !closes(kind as u8) {
        return;
    }
    if window.last_direction == context.direction as u8 || !closes(window.last_index) {
        window.last_index = kind as u8;
        window.last_direction = context.direction as u8;
        return;
    }
    let left = entry.deadline().after(context.now).max(0).cast_unsigned();
    let lowered = context.settings.timeouts.tcp(TcpTimeout::Unacknowledged);
    if left >= AT_LEAST.0 && left > lowered.0 {
        entry.deadline = (context.now + lowered).0;
    }
}
