//! What the table's memory alone costs: hash, index and record, without packets and protocols.
//!
//! For the benches, which print it beside what the engine costs; nothing else should use it.

use std::collections::TryReserveError;

use crate::entry::Shape;
use crate::hash::Hasher;
use crate::index::tags::Tags;
use crate::memory::Arena;
use crate::tuple::Tuple;

/// Tuples handled at once.
pub const BATCH: usize = 32;

/// The memory of a fast table with nothing around it.
#[derive(Debug)]
pub struct Bound {
    hasher: Hasher,
    tags: Tags,
    arena: Arena,
    next_id: u32,
}

impl Bound {
    /// Room for so many connections.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn new(entries: u32) -> Result<Self, TryReserveError> {
        let (tags, arena) = (Tags::new(entries)?, Arena::new(entries)?);
        Ok(Self { hasher: Hasher::new(1), tags, arena, next_id: 1 })
    }

    /// Adds a record; whether there was room.
    pub fn insert(&mut self, tuple: &Tuple) -> bool {
        let Some(line) = self.arena.record(tuple) else { return false };
        self.arena.entry_mut(line).id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.tags.insert(self.hasher.symmetric(tuple, 0, 0), line).is_ok()
    }

    /// Removes a record; whether it was there.
    pub fn remove(&mut self, tuple: &Tuple) -> bool {
        let hash = self.hasher.symmetric(tuple, 0, 0);
        let Some(line) = self.find(hash, tuple) else { return false };
        self.arena.free(line);
        self.tags.remove(hash, line)
    }

    /// Finds a record and writes to each of its lines; whether it was there.
    pub fn touch(&mut self, tuple: &Tuple, tick: u32) -> bool {
        self.touch_hashed(self.hasher.symmetric(tuple, 0, 0), tuple, tick)
    }

    /// [`Self::touch`] of a batch, of which all lines are asked for before the first is used; how
    /// many were there.
    pub fn touch_batch(&mut self, tuples: &[Tuple; BATCH], tick: u32) -> usize {
        let hashes = self.prefetched(tuples);
        let both = tuples.iter().zip(hashes);
        both.filter(|(tuple, hash)| self.touch_hashed(*hash, tuple, tick)).count()
    }

    /// Removes some records and adds others, all lines asked for before; how many of each were done.
    pub fn churn_batch(
        &mut self,
        leaving: &[Tuple; BATCH],
        coming: &[Tuple; BATCH],
    ) -> (usize, usize) {
        self.prefetched(leaving);
        for tuple in coming {
            self.tags.prefetch(self.hasher.symmetric(tuple, 0, 0));
        }
        let left = leaving.iter().filter(|tuple| self.remove(tuple)).count();
        (left, coming.iter().filter(|tuple| self.insert(tuple)).count())
    }

    /// Bytes of memory in use.
    pub fn bytes(&self) -> usize {
        self.arena.bytes() + self.tags.bytes()
    }

    fn prefetched(&self, tuples: &[Tuple; BATCH]) -> [u32; BATCH] {
        let hashes = tuples.each_ref().map(|tuple| {
            let hash = self.hasher.symmetric(tuple, 0, 0);
            self.tags.prefetch(hash);
            hash
        });
        for (tuple, hash) in tuples.iter().zip(hashes) {
            for line in self.tags.candidates(hash) {
                self.arena.prefetch(line, Shape::of(tuple).lines());
            }
        }
        hashes
    }

    fn find(&self, hash: u32, tuple: &Tuple) -> Option<u32> {
        self.tags.find(hash, |line| (self.arena.original(line) == *tuple).then_some(line))
    }

    fn touch_hashed(&mut self, hash: u32, tuple: &Tuple, tick: u32) -> bool {
        let Some(line) = self.find(hash, tuple) else { return false };
        if let Some((_, window)) = self.arena.tcp_mut(line) {
            window.last_end = tick;
        }
        self.arena.entry_mut(line).deadline = tick;
        true
    }
}
