//! What the kernel draws at random, drawn from a seed.

use serde::{Deserialize, Serialize};

/// A generator whose every draw follows from its seed: xoshiro256++ (Blackman and Vigna, 2019),
/// seeded through SplitMix64.
///
/// It decides chain limits and ports, nothing secret: what must not be guessed is the hash's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[u64; 4]", into = "[u64; 4]")]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        let mut mix = SplitMix(seed);
        Self { state: [mix.next(), mix.next(), mix.next(), mix.next()] }
    }

    /// 64 random bits.
    pub(crate) const fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number below `bound`, each equally likely; 0 when there is none
    /// (`get_random_u32_below`).
    pub(crate) const fn below(&mut self, bound: u32) -> u32 {
        // Of the 2^32 values the lowest 2^32 mod bound would make some numbers likelier.
        let uneven = if bound == 0 { 0 } else { bound.wrapping_neg() % bound };
        loop {
            let product = (self.bits() >> 32) * bound as u64;
            if product as u32 >= uneven {
                return (product >> 32) as u32;
            }
        }
    }

    /// 16 random bits (`get_random_u16`).
    pub(crate) const fn bits16(&mut self) -> u16 {
        (self.bits() >> 48) as u16
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): spreads a seed over a larger state.
struct SplitMix(u64);

impl SplitMix {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A state that draws nothing but zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of a random generator is all zeros")]
pub(crate) struct StuckState;

impl TryFrom<[u64; 4]> for Random {
    type Error = StuckState;

    fn try_from(state: [u64; 4]) -> Result<Self, StuckState> {
        if state == [0; 4] { Err(StuckState) } else { Ok(Self { state }) }
    }
}

impl From<Random> for [u64; 4] {
    fn from(random: Random) -> Self {
        random.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First outputs of the authors' reference implementations for these states.
    #[test]
    fn draws_what_the_published_algorithms_draw() {
        let mut mix = SplitMix(1_234_567);
        assert_eq!(mix.next(), 6_457_827_717_110_365_317);
        assert_eq!(mix.next(), 3_203_168_211_198_807_973);
        let mut random = Random::try_from([1, 2, 3, 4]).unwrap();
        let first = [random.bits(), random.bits(), random.bits(), random.bits()];
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn equal_seeds_draw_equally_and_others_differ() {
        let draws = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn numbers_below_a_bound_are_equally_likely() {
        let mut random = Random::new(1);
        let mut counts = [0u32; 30];
        for _ in 0..300_000 {
            counts[random.below(30) as usize] += 1;
        }
        // 10,000 expected each with a standard deviation of 98.
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(random.below(1), 0);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn a_stuck_state_is_refused() {
        assert_eq!(Random::try_from([0; 4]), Err(StuckState));
    }
}
