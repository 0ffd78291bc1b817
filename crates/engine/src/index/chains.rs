//! The exact mode's index: hash chains in the kernel's order.
//!
//! A connection stands in two chains, that of its original and that of its reply tuple, or in one
//! of them twice. What is new comes to the head, the reply tuple before the original one
//! (`__nf_conntrack_hash_insert`, `net/netfilter/nf_conntrack_core.c`, Linux 6.1 and 6.12). Which
//! tuples share a chain is not the kernel's: its hash has a key that nobody sees.

use ctkeeper_flow::{Direction, Status};

use crate::entry::{Entry, NOWHERE};
use crate::hash::Hasher;
use crate::index::key::Key;
use crate::index::records::{Links, Records};
use crate::memory::{Arena, prefetch};
use crate::random::Random;
use crate::time::Ticks;
use crate::tuple::Tuple;

/// Chains that early drop looks through (`NF_CT_EVICTION_RANGE`).
const EVICTION_RANGE: usize = 8;

/// Shortest limit of a chain's length, and how many above it may be drawn (`MIN_CHAINLEN`,
/// `MAX_CHAINLEN`).
const CHAIN_LIMIT: (u32, u32) = (50, 30);

/// One tuple of one record: its line and direction, or the end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node(u32);

impl Node {
    const fn new(line: u32, direction: Direction) -> Self {
        Self(line << 1 | direction as u32)
    }

    /// Line and direction, unless this is the end.
    const fn place(self) -> Option<(u32, Direction)> {
        if self.0 == NOWHERE {
            return None;
        }
        let direction = if self.0 & 1 == 0 { Direction::Original } else { Direction::Reply };
        Some((self.0 >> 1, direction))
    }
}

/// The tuple that is looked for, with the ids of its zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) tuple: &'a Tuple,
    pub(crate) namespace: u16,
    /// The zone's id in the original and in the reply direction.
    pub(crate) zones: [u16; 2],
}

/// Why a connection may not enter the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// One of its chains is too long.
    ChainTooLong,
    /// Another connection has one of its tuples.
    Clash {
        /// The line of that connection.
        winner: u32,
        /// Which tuple of the newcomer it has.
        tuple: Direction,
    },
}

/// The chains of all buckets.
#[derive(Debug)]
pub(crate) struct Chains {
    heads: Vec<u32>,
    hasher: Hasher,
}

/// Finding.
impl Chains {
    /// Empty chains.
    pub(crate) fn new(buckets: u32, hasher: Hasher) -> Self {
        Self { heads: vec![NOWHERE; buckets.max(1) as usize], hasher }
    }

    /// The connection that has a tuple in one of its directions, in that direction's zone.
    ///
    /// Adds to `met` the expired ones that stood before it, which the kernel frees on its way;
    /// one that stands there with both tuples is added once (`nf_conntrack_find_get`,
    /// `____nf_conntrack_find`).
    #[inline]
    pub(crate) fn find(
        &self,
        records: &impl Records,
        now: Ticks,
        wanted: Wanted<'_>,
        met: &mut Vec<u32>,
    ) -> Option<(u32, Direction)> {
        let [original, reply] = wanted.zones;
        let mut find = |zone| {
            let bucket = self.bucket(wanted.tuple, zone, wanted.namespace);
            self.find_in(bucket, records, now, wanted, met)
        };
        let found = find(original);
        if found.is_none() && original != reply { find(reply) } else { found }
    }

    #[inline]
    fn find_in(
        &self,
        bucket: usize,
        records: &impl Records,
        now: Ticks,
        wanted: Wanted<'_>,
        met: &mut Vec<u32>,
    ) -> Option<(u32, Direction)> {
        for (line, direction) in self.chain(bucket, records) {
            let entry = records.entry(line);
            if entry.is_expired(now) {
                note(met, line);
            } else if wanted.matches(records, line, direction) {
                return Some((line, direction));
            }
        }
        None
    }

    /// A connection other than `but` that has a tuple, were it expired or not.
    ///
    /// In the chain of the zone's id in `direction` alone: the look that is taken before a
    /// connection enters the table.
    pub(crate) fn owner(
        &self,
        records: &impl Records,
        wanted: Wanted<'_>,
        direction: Direction,
        but: u32,
    ) -> Option<u32> {
        let zone = wanted.zones[direction as usize];
        let bucket = self.bucket(wanted.tuple, zone, wanted.namespace);
        self.chain(bucket, records)
            .find(|&(line, at)| line != but && wanted.matches(records, line, at))
            .map(|(line, _)| line)
    }

    /// The connections that early drop ends to make room for one with a tuple, and those that it
    /// meets expired.
    ///
    /// All eligible ones of the first chain that has any, of eight from the tuple's own on
    /// (`early_drop`).
    pub(crate) fn victims(
        &self,
        records: &impl Records,
        now: Ticks,
        wanted: Wanted<'_>,
        met: &mut Vec<u32>,
        victims: &mut Vec<u32>,
    ) {
        let first = self.bucket(wanted.tuple, wanted.zones[0], wanted.namespace);
        for offset in 0..EVICTION_RANGE {
            let bucket = (first + offset) % self.heads.len();
            for (line, _) in self.chain(bucket, records) {
                let entry = records.entry(line);
                if entry.is_expired(now) {
                    note(met, line);
                } else if is_evictable(entry, wanted.namespace) {
                    note(victims, line);
                }
            }
            if !victims.is_empty() {
                return;
            }
        }
    }

    /// The first record of a hash's chain that has a key, as long as none before it has expired.
    #[inline]
    pub(crate) fn glimpse(
        &self,
        arena: &Arena,
        hash: u32,
        key: &Key,
        now: Ticks,
    ) -> Option<(u32, Direction)> {
        let mut node = Node(*self.heads.get(self.bucket_of(hash))?);
        while let Some((line, direction)) = node.place() {
            if key.is_at(arena, line, direction) {
                return Some((line, direction));
            }
            let entry = arena.entry(line);
            if entry.is_expired(now) {
                return None;
            }
            node = Node(entry.links[direction as usize]);
        }
        None
    }

    /// Number of chains.
    pub(crate) fn buckets(&self) -> u32 {
        self.heads.len() as u32
    }

    /// The records of a chain with the direction that stands there, from the head on; an empty
    /// chain for a bucket that is none.
    #[inline]
    pub(crate) fn chain<'a, R: Records>(
        &self,
        bucket: usize,
        records: &'a R,
    ) -> impl Iterator<Item = (u32, Direction)> + use<'a, R> {
        let mut node = Node(self.heads.get(bucket).copied().unwrap_or(NOWHERE));
        std::iter::from_fn(move || {
            let (line, direction) = node.place()?;
            node = Node(records.entry(line).links[direction as usize]);
            Some((line, direction))
        })
    }

    /// Every connection that stands in a chain with this tuple, chain by chain: the order of the
    /// kernel's dumps for the original one.
    pub(crate) fn listed<R: Records>(
        &self,
        records: &R,
        direction: Direction,
    ) -> impl Iterator<Item = u32> {
        (0..self.heads.len())
            .flat_map(|bucket| self.chain(bucket, records))
            .filter_map(move |(line, at)| (at == direction).then_some(line))
    }

    #[inline]
    fn bucket(&self, tuple: &Tuple, zone: u16, namespace: u16) -> usize {
        self.bucket_of(self.hasher.directional(tuple, zone, namespace))
    }

    #[inline]
    fn bucket_of(&self, hash: u32) -> usize {
        (hash as usize * self.heads.len()) >> 32
    }

    /// The hash of a tuple in the default zone.
    #[inline]
    pub(crate) fn hash(&self, tuple: &Tuple, namespace: u16) -> u32 {
        self.hasher.directional(tuple, 0, namespace)
    }

    /// Asks the processor for the head of a hash's chain.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u32) {
        self.heads.get(self.bucket_of(hash)).into_iter().for_each(prefetch);
    }

    /// The first node of a hash's chain.
    #[inline]
    pub(crate) fn first(&self, hash: u32) -> u32 {
        self.heads.get(self.bucket_of(hash)).copied().unwrap_or(NOWHERE)
    }

    /// Goes on from a node whose record has not the key, and asks the processor for the next one's.
    #[inline]
    pub(crate) fn fetch_next(arena: &Arena, key: &Key, node: &mut u32) {
        if let Some((line, direction)) = Node(*node).place() {
            let has_key = key.is_at(arena, line, direction);
            *node = if has_key { NOWHERE } else { arena.entry(line).links[direction as usize] };
            Self::fetch(arena, key, *node);
        }
    }

    /// Asks the processor for the record of a node.
    #[inline]
    pub(crate) fn fetch(arena: &Arena, key: &Key, node: u32) {
        if let Some((line, _)) = Node(node).place() {
            arena.prefetch(line, key.lines());
        }
    }

    /// The chains of both tuples of a record.
    fn buckets_of(&self, records: &impl Records, line: u32) -> [usize; 2] {
        let entry = records.entry(line);
        [Direction::Original, Direction::Reply].map(|direction| {
            let tuple = records.tuple(line, direction);
            self.bucket(&tuple, entry.zone_in(direction), entry.namespace)
        })
    }
}

/// Changing.
impl Chains {
    /// Whether a connection may enter, and if so the place for it.
    ///
    /// Draws the limit that its chains are held to; expired connections still have their tuples
    /// (`__nf_conntrack_confirm`).
    pub(crate) fn check(
        &self,
        records: &impl Records,
        line: u32,
        random: &mut Random,
    ) -> Result<Vacancy, Obstacle> {
        self.check_within(records, line, CHAIN_LIMIT.0 + random.below(CHAIN_LIMIT.1))
    }

    fn check_within(
        &self,
        records: &impl Records,
        line: u32,
        limit: u32,
    ) -> Result<Vacancy, Obstacle> {
        let buckets = self.buckets_of(records, line);
        let entry = records.entry(line);
        let zones = [Direction::Original, Direction::Reply].map(|way| entry.zone_in(way));
        for (direction, bucket) in [Direction::Original, Direction::Reply].into_iter().zip(buckets)
        {
            let tuple = records.tuple(line, direction);
            let wanted = Wanted { tuple: &tuple, namespace: entry.namespace, zones };
            for (passed, (other, at)) in (0..).zip(self.chain(bucket, records)) {
                if wanted.matches(records, other, at) {
                    return Err(Obstacle::Clash { winner: other, tuple: direction });
                }
                if passed > limit {
                    return Err(Obstacle::ChainTooLong);
                }
            }
        }
        Ok(Vacancy { line, buckets })
    }

    /// Puts a connection into its place.
    pub(crate) fn insert(&mut self, links: &mut impl Links, vacancy: Vacancy) {
        let Vacancy { line, buckets: [original, reply] } = vacancy;
        self.link(links, line, Direction::Original, original);
        self.link(links, line, Direction::Reply, reply);
    }

    /// Puts a connection into the chain of its reply tuple only (`nf_ct_resolve_clash_harder`).
    pub(crate) fn insert_reply(&mut self, records: &mut impl Links, line: u32) {
        let [_, reply] = self.buckets_of(records, line);
        self.link(records, line, Direction::Reply, reply);
    }

    /// Puts one tuple of a connection at the head of its chain, as an image had it.
    pub(crate) fn push(&mut self, records: &mut impl Links, line: u32, direction: Direction) {
        let bucket = self.buckets_of(records, line)[direction as usize];
        self.link(records, line, direction, bucket);
    }

    fn link(&mut self, links: &mut impl Links, line: u32, direction: Direction, bucket: usize) {
        links.links(line)[direction as usize] = self.heads[bucket];
        self.heads[bucket] = Node::new(line, direction).0;
    }

    /// Takes a connection out of both of its chains.
    pub(crate) fn remove(&mut self, records: &mut impl Links, line: u32) {
        let [original, reply] = self.buckets_of(records, line);
        self.unlink(records, Node::new(line, Direction::Original), original);
        self.unlink(records, Node::new(line, Direction::Reply), reply);
    }

    /// Takes one node out of its chain, if it stands there.
    fn unlink(&mut self, records: &mut impl Links, node: Node, bucket: usize) {
        let Some((line, direction)) = node.place() else { return };
        let next = records.entry(line).links[direction as usize];
        if self.heads[bucket] == node.0 {
            self.heads[bucket] = next;
            return;
        }
        let before = self
            .chain(bucket, records)
            .find(|&(line, at)| records.entry(line).links[at as usize] == node.0);
        if let Some((line, at)) = before {
            records.links(line)[at as usize] = next;
        }
    }
}

/// A place for a connection that may enter: to be taken before anything else changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vacancy {
    line: u32,
    buckets: [usize; 2],
}

impl Wanted<'_> {
    /// Whether a record has the tuple in a direction (`nf_ct_key_equal`).
    #[inline]
    fn matches(&self, records: &impl Records, line: u32, direction: Direction) -> bool {
        let entry = records.entry(line);
        entry.protocol == self.tuple.protocol
            && entry.namespace == self.namespace
            && records.tuple(line, direction) == *self.tuple
            && entry.zone_in(direction) == self.zones[direction as usize]
            && entry.has(Status::CONFIRMED)
    }
}

/// Whether early drop may end a connection (`early_drop_list`).
pub(crate) const fn is_evictable(entry: &Entry, namespace: u16) -> bool {
    let kept = Status(Status::ASSURED.0 | Status::DYING.0);
    !entry.status().intersects(kept) && entry.namespace == namespace
}

/// Adds a line once: a record's two nodes in one chain are neighbours.
fn note(lines: &mut Vec<u32>, line: u32) {
    if lines.last() != Some(&line) {
        lines.push(line);
    }
}

#[cfg(test)]
mod tests;
