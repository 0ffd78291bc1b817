//! The table: records, the index that finds them, and the counts that bound them.

use std::collections::TryReserveError;

use ctkeeper_flow::{Direction, Statistic, Status, Zone, ZoneDirection};

use crate::clash::{self, Settlement};
use crate::entry::{Entry, NOWHERE, flag};
use crate::event::{Changes, Event};
use crate::extension::Extensions;
use crate::index::Index;
use crate::index::chains::{Obstacle, Wanted};
use crate::index::records::Stored;
use crate::memory::Arena;
use crate::namespace::Namespace;
use crate::outcome::{Handle, Reason};
use crate::random::Random;
use crate::related::Related;
use crate::settings::{Config, Profile, Settings};
use crate::time::{TICKS_PER_SECOND, Ticks, Time};
use crate::tuple::Tuple;

/// Connections of all namespaces, found by the tuple of either direction.
pub(crate) struct Table {
    pub(crate) arena: Arena,
    pub(crate) extensions: Extensions,
    pub(crate) index: Index,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) related: Related,
    pub(crate) random: Random,
    /// The next offset in a range of ports, where it is known already ([`crate::Engine::foretell`]).
    pub(crate) foretold: Option<u16>,
    /// The moment of the latest call, for timestamps.
    pub(crate) clock: Time,
    pub(crate) limit: u32,
    profile: Profile,
    pub(crate) next_id: u32,
    events: Option<Vec<Event>>,
    /// Expired records that a lookup met and that wait to be freed.
    met: Vec<u32>,
    /// Those that early drop is about to end.
    victims: Vec<u32>,
    /// How long the last to go of all expired connections had been expired.
    pub(crate) latest: u32,
}

const NANOSECONDS_PER_TICK: u64 = 1_000_000_000 / TICKS_PER_SECOND as u64;

/// What a lookup needs beside the tuple.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: u16,
    pub(crate) zone: Zone,
}

impl Place {
    #[inline]
    const fn wanted(self, tuple: &Tuple) -> Wanted<'_> {
        let zones = [self.zone.id_in(Direction::Original), self.zone.id_in(Direction::Reply)];
        Wanted { tuple, namespace: self.namespace, zones }
    }
}

/// What became of a connection that was to enter the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// It is in.
    Yes,
    /// It is in by its reply tuple only, and no event tells that it is new.
    ByReply,
    /// Another is there for its packet; this one is free.
    Another(u32),
    /// It is not and its packet is to be dropped; it is free.
    No(Reason),
}

impl Table {
    pub(crate) fn new(config: &Config) -> Result<Self, TryReserveError> {
        Ok(Self {
            arena: Arena::new(config.entries())?,
            extensions: Extensions::new(config.entries(), config.seed),
            index: Index::new(config)?,
            namespaces: Vec::new(),
            related: Related::new(config.expectation_limit()),
            // Apart from the hash's key, which is drawn from the same seed.
            random: Random::new(config.seed.rotate_left(32) ^ 1),
            foretold: None,
            clock: Time::default(),
            limit: config.limit,
            profile: config.profile,
            next_id: 1,
            events: config.events.then(Vec::new),
            met: Vec::new(),
            victims: Vec::new(),
            latest: 0,
        })
    }

    /// Adds a namespace; its number.
    pub(crate) fn add_namespace(&mut self, settings: Settings) -> Option<u16> {
        let number = u16::try_from(self.namespaces.len()).ok()?;
        self.namespaces.push(Namespace::new(settings));
        Some(number)
    }

    /// The record of a handle whose connection still lives.
    pub(crate) fn resolve(&self, handle: Handle) -> Option<u32> {
        let alive = self.arena.get(handle.line).is_some_and(|entry| entry.id == handle.id);
        alive.then_some(handle.line)
    }

    pub(crate) fn handle(&self, line: u32) -> Handle {
        Handle { line, id: self.arena.entry(line).id }
    }

    pub(crate) const fn records(&self) -> Stored<'_, &Arena> {
        Stored { arena: &self.arena, extensions: &self.extensions }
    }
}

/// Finding.
impl Table {
    /// The connection that has a tuple in one of its directions, and which direction that is.
    ///
    /// Expired connections are not found, and those that are met end
    /// (`nf_conntrack_find_get`, `nf_conntrack_core.c`, Linux 6.12).
    #[inline]
    pub(crate) fn lookup(
        &mut self,
        now: Ticks,
        place: Place,
        tuple: &Tuple,
    ) -> Option<(u32, Direction)> {
        let records = Stored { arena: &self.arena, extensions: &self.extensions };
        let found = self.index.find(records, now, place.wanted(tuple), &mut self.met);
        if !self.met.is_empty() {
            self.end_met(now);
        }
        found
    }

    /// A connection other than `but` that has a tuple in a direction's zone, were it expired or
    /// not.
    pub(crate) fn owner(
        &self,
        place: Place,
        tuple: &Tuple,
        direction: Direction,
        but: u32,
    ) -> Option<u32> {
        self.index.owner(self.records(), place.wanted(tuple), direction, but)
    }

    #[cold]
    fn end_met(&mut self, now: Ticks) {
        let mut met = std::mem::take(&mut self.met);
        for line in met.drain(..) {
            // A record may be met through both of its tuples.
            if self.arena.entry(line).flags & flag::LISTED != 0 {
                self.end(now, line);
            }
        }
        self.met = met;
    }
}

/// The life of a connection.
impl Table {
    /// A new connection outside the table, counted from now on.
    ///
    /// # Errors
    /// [`Reason::TableFull`] where the namespace is at its limit and nothing could be evicted,
    /// [`Reason::NoMemory`] where no record is left (`__nf_conntrack_alloc`, Linux 6.12).
    pub(crate) fn allocate(
        &mut self,
        now: Ticks,
        place: Place,
        tuple: &Tuple,
    ) -> Result<u32, Reason> {
        let namespace = usize::from(place.namespace);
        let count = self.namespaces[namespace].count + 1;
        if self.limit != 0 && count > self.limit && !self.early_drop(now, place, tuple) {
            return Err(Reason::TableFull);
        }
        let line = self.arena.record(tuple).ok_or(Reason::NoMemory)?;
        self.namespaces[namespace].count += 1;
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let entry = self.arena.entry_mut(line);
        entry.namespace = place.namespace;
        entry.zone = place.zone.id;
        entry.flags = zone_flags(place.zone);
        entry.id = id;
        Ok(line)
    }

    /// Evicts connections that are not assured to make room near the place where a tuple would
    /// go; whether there were any (`early_drop`, Linux 6.12).
    #[cold]
    fn early_drop(&mut self, now: Ticks, place: Place, tuple: &Tuple) -> bool {
        let mut victims = std::mem::take(&mut self.victims);
        let records = Stored { arena: &self.arena, extensions: &self.extensions };
        let wanted = place.wanted(tuple);
        self.index.victims(records, now, wanted, &mut self.met, &mut victims);
        self.end_met(now);
        let mut ended = 0;
        for line in victims.drain(..) {
            if self.arena.entry(line).flags & flag::LISTED != 0 {
                self.end(now, line);
                ended += 1;
            }
        }
        self.victims = victims;
        self.namespaces[usize::from(place.namespace)].add(Statistic::EarlyDrop, ended);
        ended > 0
    }

    /// Puts a connection into the table; its timeout counts from now.
    ///
    /// As `__nf_conntrack_confirm`, with the statistics it keeps.
    #[inline]
    pub(crate) fn list(&mut self, now: Ticks, line: u32) -> Entered {
        let entered = self.index.enter(&mut self.arena, &self.extensions, line, &mut self.random);
        match entered {
            Ok(()) => {
                let entry = self.arena.entry_mut(line);
                entry.deadline = (Ticks(entry.deadline) + now).0;
                entry.flags |= flag::LISTED;
                entry.set(Status::CONFIRMED);
                Entered::Yes
            }
            Err(obstacle) => self.meet(now, line, obstacle),
        }
    }

    #[cold]
    fn meet(&mut self, now: Ticks, line: u32, obstacle: Obstacle) -> Entered {
        let namespace = usize::from(self.arena.entry(line).namespace);
        let (reason, statistic) = match obstacle {
            Obstacle::ChainTooLong => (Reason::ChainTooLong, Statistic::ChainTooLong),
            Obstacle::Clash { winner, .. } => match self.settle(now, winner, line) {
                Some(entered) => {
                    self.namespaces[namespace].increment(Statistic::ClashResolve);
                    return entered;
                }
                None => (Reason::Clash, Statistic::Drop),
            },
        };
        self.namespaces[namespace].increment(statistic);
        self.namespaces[namespace].increment(Statistic::InsertFailed);
        self.release(line);
        Entered::No(reason)
    }

    /// Settles a clash, if it can be.
    fn settle(&mut self, now: Ticks, winner: u32, newcomer: u32) -> Option<Entered> {
        let entry = self.arena.entry(newcomer);
        let place = Place { namespace: entry.namespace, zone: entry.zone() };
        let reply = self.tuple(newcomer, Direction::Reply);
        let reply_owner = || self.owner(place, &reply, Direction::Reply, newcomer);
        match clash::settle(self.profile, &self.records(), winner, newcomer, reply_owner) {
            Settlement::Ride(winner) => {
                self.release(newcomer);
                Some(Entered::Another(winner))
            }
            Settlement::EnterByReply => {
                let entry = self.arena.entry_mut(newcomer);
                clash::enter_by_reply(entry, now);
                entry.flags |= flag::LISTED;
                let entered =
                    self.index.enter_by_reply(&mut self.arena, &self.extensions, newcomer);
                entered.ok().map(|()| Entered::ByReply)
            }
            Settlement::Drop => None,
        }
    }

    /// Ends a connection: it leaves the table, its record is free.
    pub(crate) fn end(&mut self, now: Ticks, line: u32) {
        self.unlist(now, line);
        self.release(line);
    }

    /// Takes a connection out of the table; its record stays until it is released.
    pub(crate) fn unlist(&mut self, now: Ticks, line: u32) {
        if self.arena.entry(line).flags & flag::LISTED == 0 {
            return;
        }
        self.index.remove(&mut self.arena, &self.extensions, line);
        let entry = self.arena.entry_mut(line);
        entry.flags &= !flag::LISTED;
        entry.set(Status::DYING);
        if entry.flags & flag::HELPED != 0 {
            self.forget_related(line);
        }
        self.tell(now, line, Changes::DESTROY);
    }

    /// Frees a record that is not in the table.
    pub(crate) fn release(&mut self, line: u32) {
        let Entry { namespace, extension, flags, .. } = *self.arena.entry(line);
        if flags & flag::HELPED != 0 {
            self.forget_related(line);
        }
        if extension != NOWHERE {
            self.extensions.free(extension);
        }
        self.namespaces[usize::from(namespace)].count -= 1;
        self.arena.free(line);
    }
}

const fn zone_flags(zone: Zone) -> u8 {
    match zone.direction {
        ZoneDirection::Both => 0,
        ZoneDirection::Original => flag::ZONE_NOT_REPLY,
        ZoneDirection::Reply => flag::ZONE_NOT_ORIGINAL,
    }
}

/// Events.
impl Table {
    /// Notes an event if anybody listens.
    #[inline]
    pub(crate) fn tell(&mut self, now: Ticks, line: u32, changes: Changes) {
        if self.events.is_some() {
            self.tell_listener(now, line, changes);
        }
    }

    #[cold]
    fn tell_listener(&mut self, now: Ticks, line: u32, changes: Changes) {
        let changes = self.with_deferred(line, changes);
        if changes.is_empty() {
            return;
        }
        let namespace = self.arena.entry(line).namespace;
        let mut flow = self.flow(now, line);
        if changes.contains(Changes::DESTROY)
            && let Some(timestamps) = &mut flow.timestamps
        {
            timestamps.stop = self.ended_at(now, line);
        }
        if let Some(events) = &mut self.events {
            events.push(Event { namespace, changes, flow });
        }
    }

    /// Keeps changes that came with a packet that did not go on: they are told with the next one
    /// that does (`nf_conntrack_event_cache`, `nf_ct_deliver_cached_events`, Linux 6.12).
    #[cold]
    pub(crate) fn defer(&mut self, line: u32, changes: Changes) {
        if self.events.is_some() && !changes.is_empty() {
            let entry = self.arena.entry_mut(line);
            entry.flags |= flag::CHANGED;
            self.extensions.ensure(line, entry).defer(changes);
        }
    }

    /// What is to be told with these changes, which waits no longer then.
    fn with_deferred(&mut self, line: u32, mut changes: Changes) -> Changes {
        let entry = self.arena.entry_mut(line);
        if entry.flags & flag::CHANGED != 0 && !changes.contains(Changes::DESTROY) {
            entry.flags &= !flag::CHANGED;
            changes.add(self.extensions.ensure(line, entry).take_deferred());
        }
        changes
    }

    /// When a connection that is ended now was over: when it expired, if it did
    /// (`nf_ct_delete`, Linux 6.12).
    fn ended_at(&self, now: Ticks, line: u32) -> u64 {
        let overdue = now.after(self.arena.entry(line).deadline()).max(0);
        let overdue = u64::from(overdue.cast_unsigned()) * NANOSECONDS_PER_TICK;
        self.clock.0.saturating_sub(overdue)
    }

    /// The events since the last call, oldest first.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
