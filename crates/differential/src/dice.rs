//! Chance that repeats: equal seeds give equal sequences.

use std::ops::RangeInclusive;

/// A generator of pseudo-random numbers (SplitMix64: Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of their own for somebody else.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.bits())
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of a range.
    pub fn within(&mut self, range: RangeInclusive<u32>) -> u32 {
        let width = u64::from(range.end().saturating_sub(*range.start())) + 1;
        range.start() + (self.bits() % width) as u32
    }

    /// True once in so many throws.
    pub fn one_in(&mut self, throws: u32) -> bool {
        self.within(1..=throws) == 1
    }

    /// One of several; `choices` is not empty.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.bits() as usize % choices.len()]
    }
}
