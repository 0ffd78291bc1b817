//! The index: from a tuple to its connection.

pub(crate) mod chains;
pub(crate) mod eviction;
pub(crate) mod fast;
pub(crate) mod key;
pub(crate) mod records;
pub(crate) mod tags;

use std::collections::TryReserveError;

use ctkeeper_flow::Direction;

use crate::entry::NOWHERE;
use crate::extension::Extensions;
use crate::hash::Hasher;
use crate::index::chains::{Chains, Obstacle, Wanted};
use crate::index::fast::Fast;
use crate::index::key::Key;
use crate::index::records::Stored;
use crate::memory::Arena;
use crate::random::Random;
use crate::settings::{Config, Mode};
use crate::time::Ticks;
use crate::tuple::Tuple;

/// How tuples are found.
#[derive(Debug)]
pub(crate) enum Index {
    /// Hash chains in the kernel's order.
    Exact(Chains),
    /// Tags in cache lines.
    Fast(Fast),
}

/// Finding.
impl Index {
    pub(crate) fn new(config: &Config) -> Result<Self, TryReserveError> {
        Ok(match config.mode {
            Mode::Exact => Self::Exact(Chains::new(config.buckets, Hasher::new(config.seed))),
            Mode::Fast => Self::Fast(Fast::new(config)?),
        })
    }

    /// The connection that has a tuple in one of its directions, and which; expired ones that
    /// were met are added to `met`.
    #[inline]
    pub(crate) fn find(
        &self,
        records: Stored<'_, &Arena>,
        now: Ticks,
        wanted: Wanted<'_>,
        met: &mut Vec<u32>,
    ) -> Option<(u32, Direction)> {
        match self {
            Self::Fast(fast) => fast.find(records, now, wanted, met),
            Self::Exact(chains) => chains.find(&records, now, wanted, met),
        }
    }

    /// A connection other than `but` that has a tuple, were it expired or not.
    pub(crate) fn owner(
        &self,
        records: Stored<'_, &Arena>,
        wanted: Wanted<'_>,
        direction: Direction,
        but: u32,
    ) -> Option<u32> {
        match self {
            Self::Fast(fast) => fast.owner(records, wanted, direction, but),
            Self::Exact(chains) => chains.owner(&records, wanted, direction, but),
        }
    }

    /// The connections that early drop ends for one with a tuple, and those that it meets expired.
    pub(crate) fn victims(
        &self,
        records: Stored<'_, &Arena>,
        now: Ticks,
        wanted: Wanted<'_>,
        met: &mut Vec<u32>,
        victims: &mut Vec<u32>,
    ) {
        match self {
            Self::Fast(fast) => fast.victims(records.arena, now, wanted, met, victims),
            Self::Exact(chains) => chains.victims(&records, now, wanted, met, victims),
        }
    }
}

/// Fetching beforehand.
impl Index {
    /// Where the record of a key probably is, without looking far: it may have expired, be in
    /// another zone, translated or out of the table, and there may be one although none is seen.
    /// `hint` is a line to try first.
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    pub(crate) fn glimpse(
        &self,
        arena: &Arena,
        hint: u32,
        hash: u32,
        key: &Key,
        now: Ticks,
    ) -> Option<(u32, Direction)> {
        match self {
            Self::Fast(fast) => {
                if hint != NOWHERE
                    && let Some(direction) = key.direction(arena, hint)
                {
                    return Some((hint, direction));
                }
                fast.candidates(hash).find_map(|line| Some((line, key.direction(arena, line)?)))
            }
            Self::Exact(chains) => chains.glimpse(arena, hash, key, now),
        }
    }

    /// The hash that a tuple is looked up by in the default zone.
    #[inline]
    pub(crate) fn hash(&self, tuple: &Tuple, namespace: u16) -> u32 {
        match self {
            Self::Fast(fast) => fast.hash(tuple, 0, namespace),
            Self::Exact(chains) => chains.hash(tuple, namespace),
        }
    }

    /// Asks the processor for the place of a hash.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u32) {
        match self {
            Self::Fast(fast) => fast.prefetch(hash),
            Self::Exact(chains) => chains.prefetch(hash),
        }
    }

    /// Asks the processor for the records that a search would look at first. Returns a line to try
    /// first, or where the chain begins ([`Chains::fetch_next`]).
    #[inline]
    pub(crate) fn fetch(&self, arena: &Arena, hash: u32, key: &Key) -> u32 {
        match self {
            Self::Fast(fast) => {
                let mut last = NOWHERE;
                for line in fast.candidates(hash) {
                    arena.prefetch(line, key.lines());
                    last = line;
                }
                last
            }
            Self::Exact(chains) => {
                let first = chains.first(hash);
                Chains::fetch(arena, key, first);
                first
            }
        }
    }
}

/// Changing.
impl Index {
    /// Puts a connection into the table, if nothing stands in its way.
    pub(crate) fn enter(
        &mut self,
        arena: &mut Arena,
        extensions: &Extensions,
        line: u32,
        random: &mut Random,
    ) -> Result<(), Obstacle> {
        match self {
            Self::Fast(fast) => {
                fast.check(Stored { arena: &*arena, extensions }, line)?;
                fast.insert(arena, extensions, line)
            }
            Self::Exact(chains) => {
                let vacancy = chains.check(&Stored { arena: &*arena, extensions }, line, random)?;
                chains.insert(&mut Stored { arena, extensions }, vacancy);
                Ok(())
            }
        }
    }

    /// Puts a connection that has [`flag::REPLY_ONLY`](crate::entry::flag) into its one place.
    pub(crate) fn enter_by_reply(
        &mut self,
        arena: &mut Arena,
        extensions: &Extensions,
        line: u32,
    ) -> Result<(), Obstacle> {
        match self {
            Self::Fast(fast) => fast.insert(arena, extensions, line),
            Self::Exact(chains) => {
                chains.insert_reply(&mut Stored { arena, extensions }, line);
                Ok(())
            }
        }
    }

    /// Takes a connection out of the table.
    pub(crate) fn remove(&mut self, arena: &mut Arena, extensions: &Extensions, line: u32) {
        match self {
            Self::Fast(fast) => fast.remove(arena, extensions, line),
            Self::Exact(chains) => chains.remove(&mut Stored { arena, extensions }, line),
        }
    }

    /// Bytes that an index takes at most, with or without translated connections.
    pub(crate) const fn bytes_at(config: &Config, translated: bool) -> usize {
        match config.mode {
            Mode::Exact => config.buckets as usize * size_of::<u32>(),
            Mode::Fast => Fast::bytes_at(config.entries() as usize, translated),
        }
    }

    /// Bytes taken.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Fast(fast) => fast.bytes(),
            Self::Exact(chains) => chains.buckets() as usize * size_of::<u32>(),
        }
    }
}
