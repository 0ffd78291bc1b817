//! The fast mode's index: one place for both directions of a connection.

use std::collections::TryReserveError;

use ctkeeper_flow::Direction;

use super::chains::{Obstacle, Wanted};
use super::eviction::victim;
use super::key::Key;
use super::records::{Records, Stored};
use super::tags::Tags;
use crate::entry::{Entry, flag};
use crate::extension::Extensions;
use crate::hash::Hasher;
use crate::memory::Arena;
use crate::settings::Config;
use crate::time::Ticks;
use crate::tuple::Tuple;

/// The fast mode's index.
///
/// A connection whose reply tuple is its original one turned round, in the same zone, stands in it
/// once: both hash alike. The reply tuples of all others stand in a second index.
#[derive(Debug)]
pub(crate) struct Fast {
    hasher: Hasher,
    forward: Tags,
    /// Made with the first connection that needs it.
    reply: Option<Tags>,
    /// Whether a zone has ever counted in one direction only: then two connections may have a tuple
    /// in common.
    directional: bool,
    entries: u32,
    /// How many chains the kernel would have, which early drop goes by.
    buckets: u32,
}

/// Flags of connections whose two tuples hash differently.
const TWO_PLACES: u8 =
    flag::TRANSLATED | flag::REPLY_ONLY | flag::ZONE_NOT_ORIGINAL | flag::ZONE_NOT_REPLY;

type Record<'a> = Stored<'a, &'a Arena>;

/// Finding.
impl Fast {
    pub(crate) fn new(config: &Config) -> Result<Self, TryReserveError> {
        let entries = config.entries();
        Ok(Self {
            hasher: Hasher::new(config.seed),
            forward: Tags::new(entries)?,
            reply: None,
            directional: false,
            entries,
            buckets: config.buckets,
        })
    }

    /// The hash that a packet is looked up by first.
    #[inline]
    pub(crate) fn hash(&self, tuple: &Tuple, zone: u16, namespace: u16) -> u32 {
        self.hasher.symmetric(tuple, zone, namespace)
    }

    /// As [`Chains::find`](super::chains::Chains::find).
    #[inline]
    pub(crate) fn find(
        &self,
        records: Record<'_>,
        now: Ticks,
        wanted: Wanted<'_>,
        met: &mut Vec<u32>,
    ) -> Option<(u32, Direction)> {
        let [original, reply] = wanted.zones;
        let search = Search::new(records, wanted);
        let found = self.find_in_zone(&search, now, original, met);
        if found.is_none() && original != reply {
            return self.find_in_zone(&search, now, reply, met);
        }
        found
    }

    #[inline]
    fn find_in_zone(
        &self,
        search: &Search<'_>,
        now: Ticks,
        zone: u16,
        met: &mut Vec<u32>,
    ) -> Option<(u32, Direction)> {
        let mut lives = |line, entry: &Entry| {
            if entry.is_expired(now) {
                met.push(line);
            }
            !entry.is_expired(now)
        };
        let hash = self.hash(search.wanted.tuple, zone, search.wanted.namespace);
        if self.directional {
            return self.newest(search, (zone, hash), &mut lives);
        }
        let found = search.among(&self.forward, hash, &mut lives);
        if found.is_some() {
            return found;
        }
        search.among(self.reply.as_ref()?, hash, &mut lives)
    }

    /// Of several connections that have the tuple, the one that came last: the kernel puts it at
    /// the head of its chain. The chain is that of a zone, which the hash is not quite: it is the
    /// same for both directions of a tuple.
    #[cold]
    fn newest(
        &self,
        search: &Search<'_>,
        (zone, hash): (u16, u32),
        lives: &mut impl FnMut(u32, &Entry) -> bool,
    ) -> Option<(u32, Direction)> {
        let in_chain = |line, entry: &Entry| {
            let direction = search.direction(line, entry);
            direction.is_some_and(|direction| entry.zone_in(direction) == zone)
        };
        let mut newest: Option<(u32, u32)> = None;
        let mut remember = |line, entry: &Entry| {
            let is_newer = newest.is_none_or(|(id, _)| entry.id.wrapping_sub(id).cast_signed() > 0);
            if in_chain(line, entry) && lives(line, entry) && is_newer {
                newest = Some((entry.id, line));
            }
            false
        };
        search.among(&self.forward, hash, &mut remember);
        if let Some(reply) = &self.reply {
            search.among(reply, hash, &mut remember);
        }
        let (_, line) = newest?;
        let mut is_it = |candidate, _: &Entry| candidate == line;
        search
            .among(&self.forward, hash, &mut is_it)
            .or_else(|| search.among(self.reply.as_ref()?, hash, &mut is_it))
    }

    /// Whether a connection may enter: nobody has one of its tuples, expired or not.
    ///
    /// One that is as it was begun was looked up a moment ago in both directions at once, unless
    /// others are translated.
    pub(crate) fn check(&self, records: Record<'_>, line: u32) -> Result<(), Obstacle> {
        let entry = records.entry(line);
        if self.reply.is_none() && entry.flags & TWO_PLACES == 0 {
            return Ok(());
        }
        let zones = [Direction::Original, Direction::Reply].map(|way| entry.zone_in(way));
        for direction in [Direction::Original, Direction::Reply] {
            let tuple = records.tuple(line, direction);
            let wanted = Wanted { tuple: &tuple, namespace: entry.namespace, zones };
            if let Some(winner) = self.owner(records, wanted, direction, line) {
                return Err(Obstacle::Clash { winner, tuple: direction });
            }
        }
        Ok(())
    }

    /// As [`Chains::owner`](super::chains::Chains::owner).
    pub(crate) fn owner(
        &self,
        records: Record<'_>,
        wanted: Wanted<'_>,
        direction: Direction,
        but: u32,
    ) -> Option<u32> {
        let search = Search::new(records, wanted);
        let zone = wanted.zones[direction as usize];
        let hash = self.hash(wanted.tuple, zone, wanted.namespace);
        let mut other = |line, _: &Entry| line != but;
        let found = search.among(&self.forward, hash, &mut other).or_else(|| {
            let reply = self.reply.as_ref()?;
            search.among(reply, hash, &mut other)
        });
        found.map(|(line, _)| line)
    }

    /// As [`Chains::victims`](super::chains::Chains::victims), but for which and how many.
    pub(crate) fn victims(
        &self,
        arena: &Arena,
        now: Ticks,
        wanted: Wanted<'_>,
        met: &mut Vec<u32>,
        victims: &mut Vec<u32>,
    ) {
        let hash = self.hash(wanted.tuple, wanted.zones[0], wanted.namespace);
        let entry = |line| arena.entry(line);
        let near = (now, wanted.namespace);
        victims.extend(victim(&self.forward, hash, self.buckets, entry, near, met));
    }
}

/// Changing.
impl Fast {
    /// Puts a connection into its places.
    pub(crate) fn insert(
        &mut self,
        arena: &mut Arena,
        extensions: &Extensions,
        line: u32,
    ) -> Result<(), Obstacle> {
        let [original, reply] = self.places(Stored { arena: &*arena, extensions }, line);
        let directional = flag::ZONE_NOT_ORIGINAL | flag::ZONE_NOT_REPLY;
        self.directional |= arena.entry(line).flags & directional != 0;
        if let Some(hash) = original {
            self.forward.insert(hash, line).map_err(|_| Obstacle::ChainTooLong)?;
            arena.entry_mut(line).hash = hash;
        }
        let Some(hash) = reply else { return Ok(()) };
        if self.insert_reply(hash, line).is_some() {
            return Ok(());
        }
        if let Some(hash) = original {
            self.forward.remove(hash, line);
        }
        Err(Obstacle::ChainTooLong)
    }

    fn insert_reply(&mut self, hash: u32, line: u32) -> Option<()> {
        if self.reply.is_none() {
            self.reply = Some(Tags::new(self.entries).ok()?);
        }
        self.reply.as_mut()?.insert(hash, line).ok()
    }

    /// Takes a connection out of its places.
    pub(crate) fn remove(&mut self, arena: &Arena, extensions: &Extensions, line: u32) {
        let entry = arena.entry(line);
        if entry.flags & TWO_PLACES == 0 {
            self.forward.remove(entry.hash, line);
            return;
        }
        let [original, reply] = self.places(Stored { arena, extensions }, line);
        if let Some(hash) = original {
            self.forward.remove(hash, line);
        }
        if let (Some(hash), Some(index)) = (reply, &mut self.reply) {
            index.remove(hash, line);
        }
    }

    /// The hashes under which a connection stands in the first and in the second index.
    fn places(&self, records: Record<'_>, line: u32) -> [Option<u32>; 2] {
        let entry = records.entry(line);
        let hash = |direction| {
            let tuple = records.tuple(line, direction);
            self.hash(&tuple, entry.zone_in(direction), entry.namespace)
        };
        let is_forward = entry.flags & flag::REPLY_ONLY == 0;
        let is_twice = entry.flags & TWO_PLACES != 0;
        [is_forward.then(|| hash(Direction::Original)), is_twice.then(|| hash(Direction::Reply))]
    }
}

/// Memory.
impl Fast {
    /// Asks the processor for the place of a hash.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u32) {
        self.forward.prefetch(hash);
    }

    /// Lines that a search for a hash would look at first.
    #[inline]
    pub(crate) fn candidates(&self, hash: u32) -> impl Iterator<Item = u32> {
        self.forward.candidates(hash)
    }

    /// Bytes taken.
    pub(crate) fn bytes(&self) -> usize {
        self.forward.bytes() + self.reply.as_ref().map_or(0, Tags::bytes)
    }

    /// Bytes for so many connections, of which some are translated or none.
    pub(crate) const fn bytes_at(entries: usize, translated: bool) -> usize {
        Tags::bytes_at(entries) * (if translated { 2 } else { 1 })
    }
}

/// One lookup.
#[derive(Clone, Copy)]
struct Search<'a> {
    records: Record<'a>,
    wanted: Wanted<'a>,
    key: Key,
}

impl<'a> Search<'a> {
    #[inline]
    fn new(records: Record<'a>, wanted: Wanted<'a>) -> Self {
        Self { records, wanted, key: Key::new(wanted.tuple, wanted.namespace) }
    }

    #[inline]
    fn among(
        &self,
        tags: &Tags,
        hash: u32,
        suits: &mut impl FnMut(u32, &Entry) -> bool,
    ) -> Option<(u32, Direction)> {
        let search = *self;
        tags.find(hash, move |line| {
            let entry = search.records.entry(line);
            let direction = search.direction(line, entry)?;
            suits(line, entry).then_some((line, direction))
        })
    }

    /// In which direction of a connection the tuple stands.
    ///
    /// The reply first: of a tuple that is its own inverse the kernel finds that one, which it put
    /// into the chain last (`__nf_conntrack_hash_insert`).
    #[inline]
    fn direction(&self, line: u32, entry: &Entry) -> Option<Direction> {
        if entry.flags & (flag::TRANSLATED | flag::REPLY_ONLY) != 0 {
            return self.direction_of_special(line, entry);
        }
        let direction = self.key.direction(self.records.arena, line)?;
        if self.in_zone(entry, direction) {
            return Some(direction);
        }
        let is_also = self.key.is_own_inverse() && self.in_zone(entry, Direction::Original);
        is_also.then_some(Direction::Original)
    }

    /// Of a connection whose reply tuple stands in its extension, or which is found by that alone.
    #[cold]
    fn direction_of_special(&self, line: u32, entry: &Entry) -> Option<Direction> {
        let wanted = &self.wanted;
        if entry.namespace != wanted.namespace {
            return None;
        }
        let has = |direction| {
            self.records.tuple(line, direction) == *wanted.tuple && self.in_zone(entry, direction)
        };
        if has(Direction::Reply) {
            return Some(Direction::Reply);
        }
        let is_original = entry.flags & flag::REPLY_ONLY == 0 && has(Direction::Original);
        is_original.then_some(Direction::Original)
    }

    #[inline]
    fn in_zone(&self, entry: &Entry, direction: Direction) -> bool {
        entry.zone_in(direction) == self.wanted.zones[direction as usize]
    }
}
