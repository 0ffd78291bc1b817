//! The short way of nearly all packets.
//!
//! A packet of an assured connection in the default zone, neither translated nor helped, that no
//! rule asks for changes its deadline and its windows and nothing else. It is found, judged and done
//! with here; whatever is unusual about a packet sends it, untouched, the way of all others
//! ([`hooks`](crate::hooks)), which comes to the same for those that stay here, only later.

use ctkeeper_flow::{Direction, Status};

use crate::engine::{Engine, verifies};
use crate::entry::{Entry, NOWHERE, flag};
use crate::event::Changes;
use crate::index::key::Key;
use crate::outcome::{Class, Handle, Outcome, Verdict};
use crate::packet::{Datagram, Packet, TcpSegment};
use crate::rules::{Ruleset, Stage};
use crate::time::{Ticks, Time};
use crate::track::{Context, tcp, udp};
use crate::tuple::protocol;

/// What a packet is looked up by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance<'a> {
    datagram: Datagram<'a>,
    /// Where its record probably is; [`NOWHERE`] if that is not known yet.
    pub(crate) line: u32,
    pub(crate) hash: u32,
    pub(crate) key: Key,
}

/// Status bits of a connection whose packets may take the short way, and those that may be set
/// beside them without making a difference.
const STEADY: u32 = Status::CONFIRMED.0 | Status::SEEN_REPLY.0 | Status::ASSURED.0;
const IGNORED: u32 = Status::EXPECTED.0 | Status::SRC_NAT_DONE.0 | Status::DST_NAT_DONE.0;

impl Engine {
    /// Whether packets may take the short way under these rules.
    #[inline]
    pub(crate) fn has_short_way<R: Ruleset + ?Sized>(&self, rules: &R) -> bool {
        let stages = [Stage::Raw, Stage::Tracked, Stage::Filter];
        self.coverage.is_none() && !stages.into_iter().any(|stage| rules.asks(stage))
    }

    /// What to look a packet up by, if it has a tuple.
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    pub(crate) fn glance<'a>(&self, packet: &Packet<'a>) -> Option<Glance<'a>> {
        let datagram = Datagram::parse(packet.bytes).ok()?;
        let tuple = datagram.tuple().ok()?;
        let hash = self.table.index.hash(&tuple, packet.namespace);
        let key = Key::new(&tuple, packet.namespace);
        Some(Glance { datagram, line: NOWHERE, hash, key })
    }

    /// Takes a packet the short way; `None`, with nothing changed, if it must go the long one.
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    pub(crate) fn short_way(
        &mut self,
        now: Time,
        packet: &Packet<'_>,
        glance: Option<&Glance<'_>>,
    ) -> Option<Outcome> {
        let glance = glance?;
        if self.collector.is_due(now) {
            return None;
        }
        let now = Ticks::at(now);
        let datagram = &glance.datagram;
        let table = &mut self.table;
        let (line, direction) =
            table.index.glimpse(&table.arena, glance.line, glance.hash, &glance.key, now)?;
        let settings = &table.namespaces.get(usize::from(packet.namespace))?.settings;
        let mut changes = Changes::default();
        let context = Context {
            now,
            settings,
            profile: self.profile,
            direction,
            verify: verifies(settings, packet),
            changes: &mut changes,
            coverage: None,
        };
        let entry = if datagram.protocol == protocol::TCP {
            let (entry, window) = table.arena.tcp_mut(line)?;
            let segment = TcpSegment::parse(datagram.payload).ok()?;
            if !is_steady(entry, now) {
                return None;
            }
            if context.verify && tcp::is_corrupt(datagram) {
                return None;
            }
            let life = tcp::steady(&context, entry, window, segment, 0)?;
            entry.deadline = (life + now).0;
            entry
        } else if datagram.protocol == protocol::UDP {
            let entry = table.arena.entry_mut(line);
            if !is_steady(entry, now) {
                return None;
            }
            let life = udp::steady(&context, entry, datagram)?;
            entry.deadline = (life + now).0;
            entry
        } else {
            return None;
        };
        if entry.extension != NOWHERE {
            table.extensions.count(entry, direction, datagram.length);
        }
        Some(established(Handle { line, id: entry.id }, direction))
    }
}

#[inline]
fn is_steady(entry: &Entry, now: Ticks) -> bool {
    entry.flags == flag::LISTED
        && entry.zone == 0
        && entry.status & !IGNORED == STEADY
        && !entry.is_expired(now)
}

#[inline]
const fn established(handle: Handle, direction: Direction) -> Outcome {
    Outcome {
        verdict: Verdict::Accept,
        class: Class::Established,
        direction,
        reason: None,
        connection: Some(handle),
    }
}
