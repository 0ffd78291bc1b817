//! The window: whether a segment's numbers fit what both sides have sent and announced.
//!
//! The checks and what is kept for them are `tcp_in_window`, `tcp_init_sender` and `tcp_new` of
//! `nf_conntrack_proto_tcp.c` (Linux 6.12; the same in 6.1). All numbers are modulo 2^32.

use ctkeeper_flow::Direction;

use super::cells::{Kind, state};
use crate::entry::{TcpSide, TcpWindow};
use crate::outcome::Reason;
use crate::packet::{TcpSegment, flag};
use crate::track::Context;

/// Bits of [`TcpSide::flags`] and of [`TcpWindow::last_flags`] (`IP_CT_TCP_FLAG_*` and the like,
/// `include/uapi/linux/netfilter/nf_conntrack_tcp.h`, Linux 6.12).
pub(crate) mod side {
    /// It offered a window scale.
    pub(crate) const WINDOW_SCALE: u8 = 1;
    /// It permits selective acknowledgements.
    pub(crate) const SACK_PERMITTED: u8 = 1 << 1;
    /// It sent the first FIN.
    pub(crate) const CLOSE_BEGUN: u8 = 1 << 2;
    /// Its numbers are not checked.
    pub(crate) const LIBERAL: u8 = 1 << 3;
    /// It has data on the way that nobody has acknowledged.
    pub(crate) const UNACKNOWLEDGED: u8 = 1 << 4;
    /// [`TcpSide::max_ack`](crate::entry::TcpSide) holds a number.
    pub(crate) const ACK_KNOWN: u8 = 1 << 5;
    /// Of the last SYN: its answer may be a challenge (RFC 5961).
    pub(crate) const CHALLENGE: u8 = 1 << 6;
    /// Of the connection, kept with the last SYN: both sides sent one.
    pub(crate) const SIMULTANEOUS: u8 = 1 << 7;
}

/// How far behind an acknowledgement may be, at the least.
const ACK_WINDOW: u32 = 66_000;

/// Whether a sequence number comes before another, modulo 2^32.
#[inline]
pub(super) const fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

/// Whether a sequence number comes after another, modulo 2^32.
#[inline]
const fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// How a segment stands to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Inside,
    /// Below it: an old one, which decides nothing.
    Ignored,
    Outside(Reason),
}

/// A segment's numbers as they count for the checks.
#[derive(Clone, Copy)]
struct Numbers {
    sequence: u32,
    end: u32,
    acknowledgement: u32,
    /// The highest number that is acknowledged, be it selectively.
    selective: u32,
}

/// Keeps what a connection's first segment tells; its state is not yet any.
pub(super) fn begin(window: &mut TcpWindow, segment: TcpSegment<'_>) {
    *window = TcpWindow { last_index: Kind::None as u8, ..TcpWindow::default() };
    let [original, reply] = &mut window.seen;
    original.end = segment.end();
    original.max_end = segment.end();
    original.max_window = u32::from(segment.window).max(1);
    if segment.has(flag::SYN) {
        original.take_offer(segment);
    } else {
        // In the middle the scales are unknown, so nothing can be said of windows.
        original.max_end = segment.end().wrapping_add(original.max_window);
        original.flags = side::SACK_PERMITTED | side::LIBERAL;
        reply.flags = original.flags;
    }
}

/// Judges a segment of a connection in `at`, and keeps what it tells if it is inside.
///
/// `shift` is how much the sequence numbers that it acknowledges were changed under way.
#[inline]
pub(super) fn check(
    context: &Context<'_>,
    window: &mut TcpWindow,
    (kind, at): (Kind, u8),
    segment: TcpSegment<'_>,
    shift: i32,
) -> Fit {
    let (sender, receiver) = sides(&mut window.seen, context.direction);
    let mut numbers = Numbers::of(segment, receiver, shift);
    if sender.max_window == 0 || segment.has(flag::SYN) {
        let place = (context.direction, at);
        if begin_side(sender, receiver, place, segment, numbers.selective) == Begun::Settled {
            return Fit::Inside;
        }
    }
    if segment.flags & (flag::ACK | flag::RST) != flag::ACK {
        numbers = numbers.filled_in(segment, sender, receiver, at);
    }
    let fit = numbers.fit(sender, receiver);
    if fit != Fit::Inside {
        return turn_away(sender, receiver, numbers, fit, context.settings.tcp_be_liberal);
    }
    numbers.keep(segment, sender, receiver);
    if kind == Kind::Ack {
        numbers.count_retransmission(segment, window, context.direction);
    }
    Fit::Inside
}

/// Keeps what an ACK tells whose only flag that matters is that, if it is inside; otherwise
/// nothing changes, and [`check`] is to judge.
#[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
#[inline(always)]
pub(super) fn keep_steady(
    context: &Context<'_>,
    window: &mut TcpWindow,
    mut segment: TcpSegment<'_>,
    shift: i32,
) -> bool {
    segment.flags = flag::ACK;
    let (sender, receiver) = sides(&mut window.seen, context.direction);
    let numbers = Numbers::of(segment, receiver, shift);
    if sender.max_window == 0 || numbers.fit(sender, receiver) != Fit::Inside {
        return false;
    }
    numbers.keep(segment, sender, receiver);
    numbers.count_retransmission(segment, window, context.direction);
    true
}

/// The side that sends in a direction, and the one that receives.
#[inline]
pub(super) fn sides(seen: &mut [TcpSide; 2], direction: Direction) -> (&mut TcpSide, &mut TcpSide) {
    let [original, reply] = seen;
    match direction {
        Direction::Original => (original, reply),
        Direction::Reply => (reply, original),
    }
}

impl TcpSide {
    #[inline]
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Keeps what the options of a SYN offer. Without any options nothing changes.
    fn take_offer(&mut self, segment: TcpSegment<'_>) {
        if !segment.has_options() {
            return;
        }
        let offer = segment.syn_options();
        self.flags &= side::LIBERAL;
        self.scale = offer.scale.unwrap_or(0);
        if offer.scale.is_some() {
            self.flags |= side::WINDOW_SCALE;
        }
        if offer.sack_permitted {
            self.flags |= side::SACK_PERMITTED;
        }
    }

    /// Forgets all but that it is not checked (`nf_ct_tcp_state_reset`).
    pub(super) fn forget(&mut self) {
        *self = Self { flags: self.flags & side::LIBERAL, ..Self::default() };
    }
}

/// Whether the checks still follow.
#[derive(PartialEq, Eq)]
enum Begun {
    Open,
    Settled,
}

/// Begins a side with its first segment, or anew with a SYN beyond what it has sent.
#[cold]
fn begin_side(
    sender: &mut TcpSide,
    receiver: &mut TcpSide,
    (direction, at): (Direction, u8),
    segment: TcpSegment<'_>,
    selective: u32,
) -> Begun {
    let first = sender.max_window == 0;
    let opening = matches!(at, state::SYN_SENT | state::SYN_RECV);
    if !segment.has(flag::SYN) {
        begin_midway(sender, receiver, segment, selective);
    } else if first || (after(segment.end(), sender.end) && opening) {
        begin_with_syn(sender, receiver, direction, segment);
        if !segment.has(flag::ACK) && (first || direction == Direction::Reply) {
            return Begun::Settled;
        }
    }
    Begun::Open
}

fn begin_with_syn(
    sender: &mut TcpSide,
    receiver: &mut TcpSide,
    direction: Direction,
    segment: TcpSegment<'_>,
) {
    sender.end = segment.end();
    sender.max_end = segment.end();
    sender.max_window = u32::from(segment.window).max(1);
    sender.take_offer(segment);
    let both_scale = sender.has(side::WINDOW_SCALE) && receiver.has(side::WINDOW_SCALE);
    if direction == Direction::Reply && !both_scale {
        sender.scale = 0;
        receiver.scale = 0;
    }
}

/// A side of which nothing was seen: its first segment is taken for true.
fn begin_midway(
    sender: &mut TcpSide,
    receiver: &mut TcpSide,
    segment: TcpSegment<'_>,
    selective: u32,
) {
    sender.end = segment.end();
    sender.max_window = scaled(segment, sender).max(1);
    sender.max_end = segment.end().wrapping_add(sender.max_window);
    if receiver.max_window == 0 {
        receiver.end = selective;
        receiver.max_end = selective;
    } else if selective == receiver.end.wrapping_add(1) {
        // The answer to a keepalive, which repeats the number before the next.
        receiver.end = selective;
    }
}

/// The window that a segment announces.
#[inline]
fn scaled(segment: TcpSegment<'_>, sender: &TcpSide) -> u32 {
    let window = u32::from(segment.window);
    if segment.has(flag::SYN) { window } else { window.wrapping_shl(u32::from(sender.scale)) }
}

/// What becomes of a segment that does not fit.
#[cold]
fn turn_away(
    sender: &mut TcpSide,
    receiver: &TcpSide,
    numbers: Numbers,
    fit: Fit,
    liberal: bool,
) -> Fit {
    let mut fit = fit;
    if fit == Fit::Outside(Reason::TcpSequenceAbove) && numbers.overshoots(sender, receiver) {
        // Some stacks send beyond the window. The segment may pass and its acknowledgement follow.
        sender.end = numbers.end;
        sender.flags |= side::UNACKNOWLEDGED;
        fit = Fit::Ignored;
    }
    if liberal || sender.has(side::LIBERAL) { Fit::Inside } else { fit }
}

impl Numbers {
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    fn of(segment: TcpSegment<'_>, receiver: &TcpSide, shift: i32) -> Self {
        let acknowledgement = segment.acknowledgement;
        let selective = if receiver.has(side::SACK_PERMITTED) {
            segment.highest_sack(acknowledgement)
        } else {
            acknowledgement
        };
        Self {
            sequence: segment.sequence,
            end: segment.end(),
            acknowledgement: acknowledgement.wrapping_sub(shift.cast_unsigned()),
            selective: selective.wrapping_sub(shift.cast_unsigned()),
        }
    }

    /// Puts numbers that pass in the place of those that a segment without ACK and some resets
    /// do not have.
    #[cold]
    fn filled_in(
        mut self,
        segment: TcpSegment<'_>,
        sender: &TcpSide,
        receiver: &TcpSide,
        at: u8,
    ) -> Self {
        if !segment.has(flag::ACK) || self.acknowledgement == 0 {
            self.acknowledgement = receiver.end;
            self.selective = receiver.end;
        }
        if segment.has(flag::RST) && self.sequence == 0 && at == state::SYN_SENT {
            self.sequence = sender.end;
            self.end = sender.end;
        }
        self
    }

    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    fn fit(self, sender: &TcpSide, receiver: &TcpSide) -> Fit {
        if !before(self.sequence, sender.max_end.wrapping_add(1)) {
            return Fit::Outside(Reason::TcpSequenceAbove);
        }
        if !self.acknowledges_seen(receiver) {
            return Fit::Outside(Reason::TcpAckAbove);
        }
        let reaches_window = receiver.max_window == 0 || self.reaches_window(sender, receiver);
        if reaches_window && self.acknowledges_lately(sender, receiver) {
            Fit::Inside
        } else {
            Fit::Ignored
        }
    }

    fn overshoots(self, sender: &TcpSide, receiver: &TcpSide) -> bool {
        let beyond = self.end.wrapping_sub(sender.max_end).wrapping_add(1);
        receiver.max_window != 0
            && self.reaches_window(sender, receiver)
            && self.acknowledges_lately(sender, receiver)
            && beyond <= receiver.max_window
            && self.acknowledges_seen(receiver)
    }

    #[inline]
    const fn acknowledges_seen(self, receiver: &TcpSide) -> bool {
        before(self.selective, receiver.end.wrapping_add(1))
    }

    #[inline]
    const fn reaches_window(self, sender: &TcpSide, receiver: &TcpSide) -> bool {
        after(self.end, sender.end.wrapping_sub(receiver.max_window).wrapping_sub(1))
    }

    #[inline]
    fn acknowledges_lately(self, sender: &TcpSide, receiver: &TcpSide) -> bool {
        let window = sender.max_window.max(ACK_WINDOW);
        after(self.selective, receiver.end.wrapping_sub(window).wrapping_sub(1))
    }

    /// Keeps what a segment inside tells. What differs from segment to segment at random is put in
    /// terms of values, not of branches, for those could not be predicted.
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    fn keep(self, segment: TcpSegment<'_>, sender: &mut TcpSide, receiver: &mut TcpSide) {
        let announced = scaled(segment, sender);
        let gap = self.selective.wrapping_sub(self.acknowledgement);
        sender.max_window = sender.max_window.max(announced.wrapping_add(gap));

        let is_more = after(self.end, sender.end);
        sender.end = if is_more { self.end } else { sender.end };
        sender.flags |= u8::from(is_more) * side::UNACKNOWLEDGED;
        if segment.has(flag::ACK) {
            let later = !sender.has(side::ACK_KNOWN) | after(self.acknowledgement, sender.max_ack);
            sender.max_ack = if later { self.acknowledgement } else { sender.max_ack };
            sender.flags |= side::ACK_KNOWN;
        }

        if receiver.max_window != 0 && after(self.end, sender.max_end) {
            let grown = self.end.wrapping_sub(sender.max_end);
            receiver.max_window = receiver.max_window.wrapping_add(grown);
        }
        let edge = self.selective.wrapping_add(announced);
        let is_further = after(edge, receiver.max_end.wrapping_sub(1));
        // One byte may probe a window that is closed.
        let edge = edge.wrapping_add(u32::from(announced == 0));
        receiver.max_end = if is_further { edge } else { receiver.max_end };
        let is_all = self.acknowledgement == receiver.end;
        receiver.flags &= !(u8::from(is_all) * side::UNACKNOWLEDGED);
    }

    /// Counts a segment that is sent again, or keeps its numbers to know it by.
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    fn count_retransmission(
        self,
        segment: TcpSegment<'_>,
        window: &mut TcpWindow,
        direction: Direction,
    ) {
        // In one word, for each difference alone comes at random.
        let difference = u32::from(window.last_direction ^ direction as u8)
            | (window.last_sequence ^ self.sequence)
            | (window.last_acknowledgement ^ self.acknowledgement)
            | (window.last_end ^ self.end)
            | u32::from(window.last_window ^ segment.window);
        if difference == 0 {
            count_one_more(window);
            return;
        }
        window.last_direction = direction as u8;
        window.last_sequence = self.sequence;
        window.last_acknowledgement = self.acknowledgement;
        window.last_end = self.end;
        window.last_window = segment.window;
        window.retransmissions = 0;
    }
}

#[cold]
fn count_one_more(window: &mut TcpWindow) {
    window.retransmissions = window.retransmissions.wrapping_add(1);
}
