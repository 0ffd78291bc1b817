//! The index of the fast mode: buckets of one cache line that hold tags and line numbers.

use std::collections::TryReserveError;

use crate::memory::{equal_bytes, prefetch, want_huge_pages};

/// Connections a bucket holds.
const SLOTS: usize = 12;
/// Buckets that are looked through for one hash. So many in a row are full by chance once in more
/// than 10^20 insertions at the promised load (the sum of 32 Poisson loads of 7.2 has its 384 slots
/// ten standard deviations away); with eight it happened after two million.
const REACH: usize = 32;
/// Of so many slots, [`FULL_OF`] are in use when the index is as full as promised.
const FULL_IN: usize = 10;
const FULL_OF: usize = 6;
/// 32-bit words of a bucket.
const WORDS: usize = 16;
/// In the fourth word of a bucket: connections that belong here or before and stand behind.
const PASSED: usize = 3;

/// From hashes to the line numbers of records.
///
/// A bucket is 64 bytes: twelve tags of one byte (0: the slot is free), a count, twelve line
/// numbers. A hash names its first bucket by its high bits and its tag by its low ones. What finds
/// its bucket full goes into the next with room; each bucket that is passed over counts it, so that
/// a search ends where the count is 0, and removal leaves nothing behind. At most [`REACH`]
/// buckets are looked through.
#[derive(Debug)]
pub(crate) struct Tags {
    /// Buckets from `begin` on: so they begin at cache lines. Zero pages stay untouched until used.
    words: Vec<u32>,
    begin: usize,
    buckets: usize,
    len: usize,
}

type Bucket = [u32; WORDS];

/// The buckets within reach of a hash are full, or its passing count is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Tags {
    /// An index for so many connections.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub(crate) fn new(entries: u32) -> Result<Self, TryReserveError> {
        let buckets = Self::buckets_at(entries as usize);
        let length = (buckets + 1) * WORDS;
        // The vector below aborts where this reports; memory untouched is given back at once.
        Vec::<u32>::new().try_reserve_exact(length)?;
        let mut words = vec![0; length];
        want_huge_pages(&mut words);
        let begin = words.as_ptr().align_offset(64).min(WORDS);
        Ok(Self { words, begin, buckets, len: 0 })
    }

    /// What `take` makes of the first line under a hash of which it makes anything.
    ///
    /// `take` is moved into the search behind the first bucket, which is rare: what it captures can
    /// stay in registers before.
    #[expect(clippy::inline_always, reason = "the packet path: without, keys go through memory")]
    #[inline(always)]
    pub(crate) fn find<T>(&self, hash: u32, mut take: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let bucket = self.bucket(self.home(hash));
        for slot in matches(bucket, tag(hash)) {
            if let Some(found) = take(bucket[slot + 4]) {
                return Some(found);
            }
        }
        if bucket[PASSED] == 0 { None } else { self.find_behind(hash, take) }
    }

    #[cold]
    #[inline(never)]
    fn find_behind<T>(&self, hash: u32, mut take: impl FnMut(u32) -> Option<T>) -> Option<T> {
        for at in self.reach(self.home(hash)).skip(1) {
            let bucket = self.bucket(at);
            let found = matches(bucket, tag(hash)).find_map(|slot| take(bucket[slot + 4]));
            if found.is_some() || bucket[PASSED] == 0 {
                return found;
            }
        }
        None
    }

    /// Adds a line under a hash. Whether it is there already is not asked.
    pub(crate) fn insert(&mut self, hash: u32, line: u32) -> Result<(), TooLong> {
        let first = self.home(hash);
        let (distance, at, slot) = self
            .reach(first)
            .enumerate()
            .find_map(|(distance, at)| Some((distance, at, matches(self.bucket(at), 0).next()?)))
            .ok_or(TooLong)?;
        let bucket = self.bucket_mut(at);
        set_tag(bucket, slot, tag(hash));
        bucket[slot + 4] = line;
        for at in self.reach(first).take(distance) {
            self.bucket_mut(at)[PASSED] += 1;
        }
        self.len += 1;
        Ok(())
    }

    /// Takes a line away from under a hash; whether it was there.
    pub(crate) fn remove(&mut self, hash: u32, line: u32) -> bool {
        let first = self.home(hash);
        let found = self.reach(first).enumerate().find_map(|(distance, at)| {
            let bucket = self.bucket(at);
            let slot = matches(bucket, tag(hash)).find(|slot| bucket[slot + 4] == line)?;
            Some((distance, at, slot))
        });
        let Some((distance, at, slot)) = found else { return false };
        set_tag(self.bucket_mut(at), slot, 0);
        for at in self.reach(first).take(distance) {
            self.bucket_mut(at)[PASSED] -= 1;
        }
        self.len -= 1;
        true
    }

    /// Asks the processor for the bucket of a hash.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u32) {
        prefetch(self.bucket(self.home(hash)));
    }

    /// Lines that a search for a hash would look at in its first bucket, which holds nearly all.
    #[inline]
    pub(crate) fn candidates(&self, hash: u32) -> impl Iterator<Item = u32> {
        let bucket = self.bucket(self.home(hash));
        matches(bucket, tag(hash)).map(move |slot| bucket[slot + 4])
    }

    /// Lines in the first bucket of a hash, whatever their hashes.
    pub(crate) fn bucket_mates(&self, hash: u32) -> impl Iterator<Item = u32> {
        let bucket = self.bucket(self.home(hash));
        let free = matches(bucket, 0).fold(0_u32, |free, slot| free | 1 << slot);
        (0..SLOTS).filter(move |slot| free >> slot & 1 == 0).map(|slot| bucket[slot + 4])
    }

    /// Lines in the index.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes that an index for so many connections takes.
    pub(crate) const fn bytes_at(entries: usize) -> usize {
        (Self::buckets_at(entries) + 1) * WORDS * size_of::<u32>()
    }

    /// Bytes that this one takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    const fn buckets_at(entries: usize) -> usize {
        entries * FULL_IN / (SLOTS * FULL_OF) + 1
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.buckets as u64) >> 32) as usize
    }

    /// The buckets that may hold what belongs into the first.
    fn reach(&self, first: usize) -> impl Iterator<Item = usize> + use<> {
        let buckets = self.buckets;
        (first..first + REACH.min(buckets))
            .map(move |at| if at < buckets { at } else { at - buckets })
    }

    #[inline]
    fn bucket(&self, at: usize) -> &Bucket {
        &self.words[self.begin..].as_chunks().0[at]
    }

    #[inline]
    fn bucket_mut(&mut self, at: usize) -> &mut Bucket {
        &mut self.words[self.begin..].as_chunks_mut().0[at]
    }
}

#[inline]
const fn tag(hash: u32) -> u8 {
    let tag = hash as u8;
    if tag == 0 { 1 } else { tag }
}

#[inline]
fn set_tag(bucket: &mut Bucket, slot: usize, tag: u8) {
    let shift = slot % 4 * 8;
    let word = &mut bucket[slot / 4];
    *word = *word & !(0xff << shift) | u32::from(tag) << shift;
}

/// The slots of a bucket with a tag.
#[inline]
fn matches(bucket: &Bucket, tag: u8) -> Slots {
    let [a, b, c, ..] = *bucket;
    Slots(equal_bytes([a, b, c], tag))
}

/// Slots as bits.
struct Slots(u32);

impl Iterator for Slots {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        // Twelve bits are set at most, which the compiler cannot see.
        let slot = self.0.trailing_zeros() as usize % WORDS;
        self.0 &= self.0 - 1;
        Some(slot.min(SLOTS - 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Keys are line numbers; a weak hash makes them collide in buckets, tags and both.
        #[test]
        fn holds_what_a_map_would(
            entries in 1u32..400,
            spread in prop::sample::select(vec![0u32, 0x0100_0000, 0x1000_0001, 0x9e37_79b9]),
            steps in prop::collection::vec((any::<u16>(), 0u8..8), 1..3000),
        ) {
            let mut index = Tags::new(entries).unwrap();
            let mut model: HashMap<u32, u32> = HashMap::new();
            for (key, step) in steps {
                let key = u32::from(key) % (entries * 2);
                let hash = key.wrapping_mul(spread);
                match step {
                    0..4 if !model.contains_key(&key) => if index.insert(hash, key).is_ok() {
                        model.insert(key, hash);
                    } else {
                        let room = index.reach(index.home(hash))
                            .any(|at| matches(index.bucket(at), 0).next().is_some());
                        prop_assert!(!room);
                    },
                    4..6 => prop_assert_eq!(index.remove(hash, key), model.remove(&key).is_some()),
                    _ => {
                        let expected = model.contains_key(&key).then_some(key);
                        prop_assert_eq!(index.find(hash, |line| (line == key).then_some(line)), expected);
                    }
                }
            }
            prop_assert_eq!(index.len(), model.len());
            for (&key, &hash) in &model {
                prop_assert_eq!(index.find(hash, |line| (line == key).then_some(line)), Some(key));
                prop_assert!(index.remove(hash, key));
            }
            prop_assert!((0..index.buckets).all(|at| index.bucket(at)[PASSED] == 0));
            prop_assert_eq!(index.len(), 0);
        }
    }

    #[test]
    fn all_of_one_hash_are_held_until_its_reach_is_full() {
        let mut index = Tags::new(1000).unwrap();
        let room = (SLOTS * REACH) as u32;
        for line in 0..room {
            assert_eq!(index.insert(u32::MAX, line), Ok(()));
        }
        assert_eq!(index.insert(u32::MAX, room), Err(TooLong));
        assert_eq!(index.find(u32::MAX, |line| (line == room - 1).then_some(line)), Some(room - 1));
        assert!(index.remove(u32::MAX, 0));
        assert_eq!(index.insert(u32::MAX, room), Ok(()));
        assert_eq!(index.find(u32::MAX, |line| (line == 0).then_some(())), None);
    }

    #[test]
    fn takes_a_promised_load_and_few_searches_leave_the_first_bucket() {
        let entries = 200_000;
        let mut index = Tags::new(entries).unwrap();
        let hash =
            |line: u32| (u64::from(line + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u32;
        for line in 0..entries {
            assert_eq!(index.insert(hash(line), line), Ok(()));
        }
        let at_home = |&line: &u32| index.candidates(hash(line)).any(|found| found == line);
        let home = (0..entries).filter(at_home).count();
        assert!(home as f64 > f64::from(entries) * 0.97, "{home}");
        let strangers = |line: u32| index.candidates(hash(line + entries)).count();
        let looks = (0..entries).map(strangers).sum::<usize>();
        assert!((looks as f64) < f64::from(entries) * 0.05, "{looks}");
    }

    #[test]
    fn buckets_begin_at_cache_lines_and_take_what_is_said() {
        let index = Tags::new(1_000_000).unwrap();
        assert_eq!(index.bucket(0).as_ptr().addr() % 64, 0);
        assert_eq!(index.bytes(), Tags::bytes_at(1_000_000));
        assert!(index.bytes() < 9_000_000);
        assert_eq!(index.find(u32::MAX, Some), None);
        assert_eq!(index.find(0, Some), None);
    }
}
