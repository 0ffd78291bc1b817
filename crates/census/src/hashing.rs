//! A fast keyed hash for small keys of the table's own: addresses, ports, rows.
//!
//! Keys come from the network, so the hash has a secret: who does not know it cannot choose keys
//! that meet. The standard library's takes several times as long, and there are two or three hashes
//! for each entry.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

/// A map with the fast hash.
pub(crate) type FastMap<K, V> = HashMap<K, V, Secret>;
/// A set with the fast hash.
pub(crate) type FastSet<K> = HashSet<K, Secret>;

/// The secret of a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secret {
    start: u64,
    factor: u64,
}

impl Default for Secret {
    fn default() -> Self {
        let random = RandomState::new();
        Self { start: random.hash_one(1), factor: random.hash_one(2) | 1 }
    }
}

impl BuildHasher for Secret {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding { state: self.start, factor: self.factor }
    }
}

/// Multiplies and folds the halves of the product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folding {
    state: u64,
    factor: u64,
}

impl Folding {
    #[inline]
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        // The sum keeps a state of 0, which would forget what came before, from lasting.
        self.state = (product as u64 ^ (product >> 64) as u64).wrapping_add(self.factor);
    }
}

impl Hasher for Folding {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.fold(word.try_into().map_or(0, u64::from_ne_bytes));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.fold(u64::from_ne_bytes(word));
        }
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.fold(number.into());
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.fold(number.into());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.fold(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.fold(number);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.fold(number as u64);
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.fold(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        let mut last = *self;
        last.fold(0x9e37_79b9_7f4a_7c15);
        last.state
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    /// Neighbouring addresses, as tables have them, spread over buckets like random ones.
    #[test]
    fn neighbours_are_far_apart() {
        let secret = Secret::default();
        let mut buckets = [0_u32; 1024];
        for number in 0..102_400_u32 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number));
            buckets[(secret.hash_one((address, 80_u16)) >> 54) as usize] += 1;
        }
        let fullest = buckets.iter().max().unwrap();
        assert!(*fullest < 100 + 60, "{fullest} of 100 expected");
    }

    #[test]
    fn every_byte_counts() {
        let secret = Secret::default();
        let hash = |bytes: &[u8]| {
            let mut hasher = secret.build_hasher();
            hasher.write(bytes);
            hasher.finish()
        };
        let base = [7_u8; 19];
        for place in 0..base.len() {
            let mut other = base;
            other[place] ^= 1;
            assert_ne!(hash(&base), hash(&other), "{place}");
        }
    }
}
