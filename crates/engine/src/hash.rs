//! The keyed hash of tuples.
//!
//! Two folded multiplications (64 × 64 → 128 bits, halves added without carry) over words that
//! carry every bit of an IPv4 tuple, its zone and its namespace; an IPv6 address is folded into
//! one word before. Without the key nobody can tell which tuples collide; with a key drawn from
//! [`Config::seed`](crate::Config) equal seeds give equal tables.

use ctkeeper_flow::Family;

use crate::tuple::{Tuple, answer, protocol};

/// Hashes tuples under one key.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    key: [u64; 6],
}

impl Hasher {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self { key: std::array::from_fn(|_| split_mix(&mut state)) }
    }

    /// The same for a tuple and for its inversion.
    ///
    /// `zone` is the id that counts in the direction of the tuple.
    #[inline]
    pub(crate) fn symmetric(&self, tuple: &Tuple, zone: u16, namespace: u16) -> u32 {
        let rest = rest(tuple, zone, namespace);
        if matches!(tuple.protocol, protocol::ICMP | protocol::ICMPV6) {
            return self.symmetric_icmp(tuple, rest);
        }
        let source = self.end(tuple.family, tuple.source, tuple.source_id);
        let destination = self.end(tuple.family, tuple.destination, tuple.destination_id);
        self.fold(source.min(destination), source.max(destination), rest)
    }

    /// Different for the two directions.
    #[inline]
    pub(crate) fn directional(&self, tuple: &Tuple, zone: u16, namespace: u16) -> u32 {
        let source = self.end(tuple.family, tuple.source, tuple.source_id);
        let destination = self.end(tuple.family, tuple.destination, tuple.destination_id);
        self.fold(source, destination, rest(tuple, zone, namespace))
    }

    /// An answer has the question's id and code and another type: the lower of the two counts.
    fn symmetric_icmp(&self, tuple: &Tuple, rest: u64) -> u32 {
        let (kind, code) = tuple.icmp_kind_and_code();
        let kind = answer(tuple.protocol, kind).map_or(kind, |answer| answer.min(kind));
        let source = self.end(tuple.family, tuple.source, tuple.source_id);
        let destination = self.end(tuple.family, tuple.destination, tuple.source_id);
        let what = u64::from(u16::from_be_bytes([kind, code])) << 40;
        self.fold(source.min(destination), source.max(destination), rest | what)
    }

    /// Address and id as one word.
    #[inline]
    fn end(&self, family: Family, address: u128, id: u16) -> u64 {
        match family {
            Family::Ipv4 => (address as u64) << 16 | u64::from(id),
            Family::Ipv6 => {
                let (high, low) = ((address >> 64) as u64, address as u64);
                // Added under the key: bits of a chosen address cannot make up for those of the id.
                folded(high ^ self.key[3], low ^ self.key[4])
                    .wrapping_add(u64::from(id).wrapping_mul(self.key[5] | 1))
            }
        }
    }

    #[inline]
    fn fold(&self, one: u64, other: u64, rest: u64) -> u32 {
        let ends = folded(one ^ self.key[0], other ^ self.key[1]);
        folded(ends ^ rest, self.key[2] | 1) as u32
    }
}

/// What both directions share, below bit 40.
#[inline]
fn rest(tuple: &Tuple, zone: u16, namespace: u16) -> u64 {
    // IPv4 and IPv6 words may be equal by accident only, which the records' comparison tells.
    u64::from(tuple.protocol) | u64::from(zone) << 8 | u64::from(namespace) << 24
}

#[inline]
const fn folded(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The next of a sequence of numbers without visible order (SplitMix64; Steele, Lea, Flood 2014).
const fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ipv4(source: u32, source_id: u16, destination: u32, destination_id: u16) -> Tuple {
        let (source, destination) = (source.into(), destination.into());
        let (protocol, family) = (protocol::UDP, Family::Ipv4);
        Tuple { source, destination, source_id, destination_id, protocol, family }
    }

    fn any_tuple() -> impl Strategy<Value = Tuple> {
        let protocols = prop::sample::select(vec![
            protocol::ICMP,
            protocol::ICMPV6,
            protocol::TCP,
            protocol::UDP,
            protocol::GRE,
            200,
        ]);
        let kinds = prop::sample::select(vec![0u8, 8, 13, 14, 17, 18, 128, 129, 139, 140, 3]);
        (any::<[u128; 2]>(), any::<[u16; 2]>(), any::<bool>(), protocols, kinds).prop_map(
            |([source, destination], [source_id, id], wide, protocol, kind)| {
                let family = if wide { Family::Ipv6 } else { Family::Ipv4 };
                let mask = if wide { u128::MAX } else { u32::MAX.into() };
                let icmp = matches!(protocol, protocol::ICMP | protocol::ICMPV6);
                let destination_id = if icmp { u16::from_be_bytes([kind, id as u8]) } else { id };
                let (source, destination) = (source & mask, destination & mask);
                Tuple { source, destination, source_id, destination_id, protocol, family }
            },
        )
    }

    proptest! {
        #[test]
        fn a_tuple_and_its_inversion_hash_alike(
            tuple in any_tuple(), seed: u64, zone: u16, namespace: u16,
        ) {
            let hasher = Hasher::new(seed);
            if let Some(inverted) = tuple.inverted() {
                prop_assert_eq!(
                    hasher.symmetric(&tuple, zone, namespace),
                    hasher.symmetric(&inverted, zone, namespace),
                );
            }
        }

        #[test]
        fn every_part_counts(tuple in any_tuple(), seed: u64, zone: u16, bit in 0u32..16) {
            let hasher = Hasher::new(seed);
            let both = |tuple: &Tuple, zone, namespace| {
                let symmetric = hasher.symmetric(tuple, zone, namespace);
                u64::from(symmetric) << 32 | u64::from(hasher.directional(tuple, zone, namespace))
            };
            let whole = both(&tuple, zone, 0);
            prop_assert_ne!(whole, both(&tuple, zone ^ 1 << bit, 0));
            prop_assert_ne!(whole, both(&tuple, zone, 1 << bit));
            let changed = [
                Tuple { source: tuple.source ^ 1 << bit, ..tuple },
                Tuple { destination: tuple.destination ^ 1 << bit, ..tuple },
                Tuple { source_id: tuple.source_id ^ 1 << bit, ..tuple },
                Tuple { destination_id: tuple.destination_id ^ 1 << bit, ..tuple },
                Tuple { protocol: tuple.protocol ^ 1 << (bit % 8), ..tuple },
            ];
            for changed in changed {
                prop_assert_ne!(whole, both(&changed, zone, 0));
            }
        }
    }

    /// How far the loads of buckets are from those of balls thrown at random: variance over mean,
    /// which is 1 for those.
    fn spread(hashes: impl Iterator<Item = u32>, buckets: usize) -> f64 {
        let mut loads = vec![0u32; buckets];
        for hash in hashes {
            loads[((u64::from(hash) * buckets as u64) >> 32) as usize] += 1;
        }
        let mean = f64::from(loads.iter().sum::<u32>()) / buckets as f64;
        let square = |&load: &u32| (f64::from(load) - mean).powi(2);
        loads.iter().map(square).sum::<f64>() / buckets as f64 / mean
    }

    #[test]
    fn tuples_in_sequence_fill_buckets_as_random_ones_would() {
        const TUPLES: u32 = 200_000;
        const BUCKETS: usize = 30_000;
        let sequences: [fn(u32) -> Tuple; 6] = [
            |n| ipv4(0x0a00_0001, n as u16, 0x0a00_0002 + (n >> 16), 53),
            |n| ipv4(0x0a00_0000 + n, 40_000, 0xc0a8_0001, 443),
            |n| ipv4(0x0a00_0000 + (n & 511), 1024 + (n >> 9) as u16, 0xc0a8_0001, 443),
            |n| ipv4(0x0a00_0000 + n, n as u16, 0x0a00_0000 + n, n as u16 ^ 1),
            |n| ipv4(n << 12, 7, n.reverse_bits(), 8),
            |n| {
                let prefix = 0x2001_0db8_u128 << 96;
                let ends = ipv4(0, 1000 + (n & 1023) as u16, 0, 443);
                let source = prefix | u128::from(n >> 10) << 64;
                Tuple { source, destination: prefix | 1, family: Family::Ipv6, ..ends }
            },
        ];
        for seed in [0, 1, 0xdead_beef] {
            let hasher = Hasher::new(seed);
            for (number, tuple) in sequences.iter().enumerate() {
                let tuples = || (0..TUPLES).map(tuple);
                let symmetric = tuples().map(|tuple| hasher.symmetric(&tuple, 0, 0));
                let directional = tuples().map(|tuple| hasher.directional(&tuple, 0, 0));
                for spread in [spread(symmetric, BUCKETS), spread(directional, BUCKETS)] {
                    // The standard error at 30,000 buckets is 0.008.
                    assert!((0.95..1.05).contains(&spread), "{seed} {number}: {spread}");
                }
            }
        }
    }

    #[test]
    fn seeds_give_different_hashes() {
        let tuple = ipv4(1, 2, 3, 4);
        let hashes: std::collections::BTreeSet<_> =
            (0..1000).map(|seed| Hasher::new(seed).symmetric(&tuple, 0, 0)).collect();
        assert!(hashes.len() >= 999);
    }
}
