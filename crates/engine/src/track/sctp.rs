//! SCTP (`nf_conntrack_proto_sctp.c`, Linux 6.12; 6.1.192 decides alike).

mod cells;

use ctkeeper_flow::{Direction, SctpState, Status};

use super::{Context, Judgement};
use crate::entry::Entry;
use crate::event::Changes;
use crate::outcome::Reason;
use crate::packet::checksum::sctp_holds;
use crate::packet::{Chunk, Datagram, SctpPacket};
use crate::time::Ticks;

/// Types of chunks (`enum sctp_cid`, `include/linux/sctp.h`).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const INIT: u8 = 1;
    pub(super) const INIT_ACK: u8 = 2;
    pub(super) const HEARTBEAT: u8 = 4;
    pub(super) const HEARTBEAT_ACK: u8 = 5;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const SHUTDOWN_ACK: u8 = 8;
    pub(super) const ERROR: u8 = 9;
    pub(super) const COOKIE_ECHO: u8 = 10;
    pub(super) const COOKIE_ACK: u8 = 11;
    pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Place in [`Entry::small`] of [`bit`]s; before it the verification tags by the direction of the
/// packets that carry them, 0 while not known.
const BITS: usize = 2;

/// What is remembered of an association beside its state and tags.
mod bit {
    /// An INIT was seen in original direction; shifted by one, in reply direction.
    pub(super) const INIT: u32 = 1;
    /// A HEARTBEAT had another tag than expected, and the next may be a new path's.
    pub(super) const HEARTBEAT_FAILED: u32 = 1 << 2;
    /// That HEARTBEAT went in reply direction.
    pub(super) const FAILED_REPLY: u32 = 1 << 3;
}

/// Judges a packet of an SCTP association.
pub(crate) fn packet(
    context: &mut Context<'_>,
    entry: &mut Entry,
    datagram: &Datagram<'_>,
) -> Judgement {
    judge(context, entry, datagram).unwrap_or_else(Judgement::Invalid)
}

fn judge(
    context: &mut Context<'_>,
    entry: &mut Entry,
    datagram: &Datagram<'_>,
) -> Result<Judgement, Reason> {
    let packet = SctpPacket::parse(datagram.payload)?;
    if context.verify && !sctp_holds(datagram.payload) {
        return Err(Reason::SctpChecksum);
    }
    let kinds = Kinds::of(&packet)?;
    if !entry.has(Status::CONFIRMED) {
        begin(entry, &packet, kinds)?;
    }
    let own = entry.small[context.direction as usize];
    if !kinds.have_any(TAG_RULES) && packet.verification_tag != own {
        return Err(Reason::SctpVerificationTag);
    }
    let mut refreshes = true;
    for chunk in packet.chunks() {
        refreshes &= chunk_moves(context, entry, &packet, kinds, &chunk, refreshes)?;
    }
    if !refreshes {
        return Ok(Judgement::Ignore);
    }
    Ok(Judgement::Refresh(timeout(context, entry.state)))
}

/// How long an association lives in a state; in none it cannot be behind a chunk.
fn timeout(context: &Context<'_>, state: u8) -> Ticks {
    let timeouts = &context.settings.timeouts.sctp;
    Ticks::from_seconds(timeouts.get(usize::from(state)).copied().unwrap_or_default())
}

/// The kinds of chunks of a packet, as far as anything depends on them.
#[derive(Clone, Copy)]
struct Kinds(u32);

/// Kinds whose verification tag is judged chunk by chunk (RFC 9260, 8.5.1) or not at all.
const TAG_RULES: &[u8] = &[
    kind::INIT,
    kind::SHUTDOWN_COMPLETE,
    kind::COOKIE_ECHO,
    kind::ABORT,
    kind::SHUTDOWN_ACK,
    kind::HEARTBEAT,
    kind::HEARTBEAT_ACK,
];

/// Kinds that nobody sends without an association (RFC 9260, 8.4).
const NEVER_FIRST: &[u8] = &[kind::ABORT, kind::SHUTDOWN_COMPLETE, kind::COOKIE_ACK];

impl Kinds {
    /// Collects them, and checks who stands beside whom (`do_basic_checks`): COOKIE ECHO and
    /// COOKIE ACK come first, INIT, INIT ACK and SHUTDOWN COMPLETE alone.
    fn of(packet: &SctpPacket<'_>) -> Result<Self, Reason> {
        const ALONE: &[u8] = &[kind::INIT, kind::INIT_ACK, kind::SHUTDOWN_COMPLETE];
        const FIRST: &[u8] = &[kind::COOKIE_ECHO, kind::COOKIE_ACK];
        let mut kinds = Self(0);
        let mut empty = true;
        for chunk in packet.chunks() {
            kinds.0 |= 1_u32.checked_shl(chunk.kind.into()).unwrap_or(0);
            let company = kinds.have_any(ALONE) || FIRST.contains(&chunk.kind);
            if chunk.length == 0 || (company && !empty) {
                return Err(Reason::SctpChunks);
            }
            empty = false;
        }
        if empty { Err(Reason::SctpChunks) } else { Ok(kinds) }
    }

    fn have_any(self, kinds: &[u8]) -> bool {
        kinds.iter().any(|kind| self.0 & (1 << kind) != 0)
    }
}

/// Whether a packet may begin an association, and the tags it tells (`sctp_new`).
fn begin(entry: &mut Entry, packet: &SctpPacket<'_>, kinds: Kinds) -> Result<(), Reason> {
    const ORIGINAL: usize = Direction::Original as usize;
    const REPLY: usize = Direction::Reply as usize;
    entry.state = SctpState::None.number();
    entry.small = [0; 3];
    if kinds.have_any(NEVER_FIRST) {
        return Err(Reason::SctpNew);
    }
    for chunk in packet.chunks() {
        if cells::row(chunk.kind).is_none() {
            return Err(Reason::SctpNew);
        }
        match chunk.kind {
            kind::INIT if packet.verification_tag != 0 => return Err(Reason::SctpNew),
            kind::INIT => entry.small[REPLY] = chunk.initiate_tag().ok_or(Reason::SctpNew)?,
            kind::HEARTBEAT => entry.small[ORIGINAL] = packet.verification_tag,
            kind::SHUTDOWN_ACK => entry.small[REPLY] = packet.verification_tag,
            _ => {}
        }
    }
    Ok(())
}

/// Lets one chunk work on the association; `false` where it must not keep it alive.
///
/// What chunks before it have changed stays changed when one is found to be wrong, as in the
/// kernel.
fn chunk_moves(
    context: &mut Context<'_>,
    entry: &mut Entry,
    packet: &SctpPacket<'_>,
    kinds: Kinds,
    chunk: &Chunk<'_>,
    refreshes: bool,
) -> Result<bool, Reason> {
    let sides = Sides::of(context.direction);
    if !sides.tag_fits(entry, packet.verification_tag, kinds, chunk, refreshes)? {
        return Ok(false);
    }
    let from = entry.state;
    let next = match cells::row(chunk.kind) {
        None => from,
        Some(row) => {
            if let Some(coverage) = context.coverage.as_deref_mut() {
                coverage.sctp(context.direction, row, from);
            }
            cells::next(context.direction, row, from).ok_or(Reason::SctpState)?
        }
    };
    match chunk.kind {
        kind::INIT => sides.initiates(entry, chunk, from)?,
        kind::INIT_ACK => sides.answers_initiation(entry, chunk)?,
        _ => {}
    }
    arrive(context, entry, next);
    let closed = SctpState::Closed.number();
    let again = chunk.kind == kind::INIT && (from, next) == (closed, closed);
    Ok(!(again && entry.has(Status::CONFIRMED)))
}

fn arrive(context: &mut Context<'_>, entry: &mut Entry, next: u8) {
    if entry.state == next {
        return;
    }
    entry.state = next;
    context.changes.add(Changes::PROTOCOL);
    if next == SctpState::Established.number() && !entry.has(Status::ASSURED) {
        entry.set(Status::ASSURED);
        context.changes.add(Changes::ASSURED);
    }
}

/// The sender's and the receiver's place among the tags, by the direction of a packet.
#[derive(Clone, Copy)]
struct Sides {
    own: usize,
    peer: usize,
}

impl Sides {
    const fn of(direction: Direction) -> Self {
        let own = direction as usize;
        Self { own, peer: 1 - own }
    }

    /// The rules on tags of single kinds (RFC 9260, 8.5.1); `false` where the chunk is to be
    /// passed over.
    fn tag_fits(
        self,
        entry: &mut Entry,
        tag: u32,
        kinds: Kinds,
        chunk: &Chunk<'_>,
        refreshes: bool,
    ) -> Result<bool, Reason> {
        let required = match chunk.kind {
            kind::INIT => 0,
            kind::ABORT | kind::SHUTDOWN_COMPLETE if chunk.is_tag_reflected() => {
                entry.small[self.peer]
            }
            kind::ABORT | kind::SHUTDOWN_COMPLETE | kind::COOKIE_ECHO => entry.small[self.own],
            kind::COOKIE_ACK => {
                entry.small[BITS] &= !(bit::INIT | bit::INIT << 1);
                return Ok(true);
            }
            kind::HEARTBEAT | kind::HEARTBEAT_ACK => {
                let lone = refreshes && !kinds.have_any(&[kind::DATA]);
                return self.heartbeat_fits(entry, tag, chunk.kind, lone);
            }
            _ => return Ok(true),
        };
        if tag == required { Ok(true) } else { Err(Reason::SctpVerificationTag) }
    }

    /// A HEARTBEAT or its answer may bring the tag of a path that is not known yet. One with
    /// another tag than the known one is passed over at first (`lone`: only without DATA and once
    /// a packet); if it is answered, the peer has restarted, and the answer's tag counts.
    fn heartbeat_fits(
        self,
        entry: &mut Entry,
        tag: u32,
        kind: u8,
        lone: bool,
    ) -> Result<bool, Reason> {
        if entry.small[self.own] == 0 {
            entry.small[self.own] = tag;
            return Ok(true);
        }
        let from_reply = if self.own == 1 { bit::FAILED_REPLY } else { 0 };
        let bits = entry.small[BITS];
        if tag == entry.small[self.own] {
            entry.small[BITS] = bits & !bit::HEARTBEAT_FAILED;
            return Ok(true);
        }
        if !lone {
            return Err(Reason::SctpVerificationTag);
        }
        if kind == kind::HEARTBEAT {
            entry.small[BITS] = bits & !bit::FAILED_REPLY | bit::HEARTBEAT_FAILED | from_reply;
            return Ok(false);
        }
        if bits & bit::HEARTBEAT_FAILED == 0 || bits & bit::FAILED_REPLY == from_reply {
            return Err(Reason::SctpVerificationTag);
        }
        entry.small[BITS] = bits & !bit::HEARTBEAT_FAILED;
        entry.small[self.own] = tag;
        entry.small[self.peer] = 0;
        Ok(true)
    }

    /// An INIT tells the tag that the other side is to use. Both sides may send one (5.2.1); one
    /// that tells the tag already known is an old one.
    fn initiates(self, entry: &mut Entry, chunk: &Chunk<'_>, from: u8) -> Result<(), Reason> {
        let tag = chunk.initiate_tag().ok_or(Reason::SctpHeader)?;
        if from == SctpState::None.number() || entry.small[self.peer] != tag {
            if both_initiated(entry) {
                entry.small[BITS] &= !(bit::INIT << self.peer);
            }
            entry.small[BITS] |= bit::INIT << self.own;
        }
        entry.small[self.peer] = tag;
        Ok(())
    }

    /// An INIT ACK tells the tag of the side that sends it, which is another than its INIT told
    /// only if it did not send one itself.
    fn answers_initiation(self, entry: &mut Entry, chunk: &Chunk<'_>) -> Result<(), Reason> {
        let tag = chunk.initiate_tag().ok_or(Reason::SctpHeader)?;
        let known = entry.small[self.peer];
        let asked = entry.small[BITS] & (bit::INIT << self.peer) != 0;
        let unasked = !asked && known != 0;
        if tag != known && (unasked || both_initiated(entry)) {
            return Err(Reason::SctpVerificationTag);
        }
        entry.small[self.peer] = tag;
        Ok(())
    }
}

/// Whether an INIT has been seen from either side.
const fn both_initiated(entry: &Entry) -> bool {
    let both = bit::INIT | bit::INIT << 1;
    entry.small[BITS] & both == both
}

#[cfg(test)]
mod tests;
