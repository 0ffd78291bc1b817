//! Early drop in the fast mode: whom to end so that a new connection has room.
//!
//! The kernel looks through eight chains, which hold 16 tuples on average when there are as many
//! connections as chains, and ends all that are not assured of the first chain that has any
//! ([`Chains::victims`](super::chains::Chains::victims) does as it does). Here about as many
//! connections are looked at, in whole buckets of the index here and there, and the first that may
//! go ends: a table of mostly assured connections refuses newcomers about as often as the kernel's.
//! Whole buckets, because the young ones, few of which are assured, stand at the end of each.

use super::chains::is_evictable;
use super::tags::Tags;
use crate::entry::Entry;
use crate::time::Ticks;

/// Chains that the kernel looks through.
const CHAINS: u64 = 8;
/// No more buckets are looked at, were they empty.
const MOST_BUCKETS: u32 = 64;
/// Half of what a bucket of a full index holds.
const HALF_A_BUCKET: usize = 4;

/// The connection that goes for one with this hash, if any of those that are looked at may.
///
/// `buckets` is the number of chains that the kernel would have. Adds those that it meets expired
/// to `met`.
pub(crate) fn victim<'a>(
    tags: &Tags,
    hash: u32,
    buckets: u32,
    entry: impl Fn(u32) -> &'a Entry,
    (now, namespace): (Ticks, u16),
    met: &mut Vec<u32>,
) -> Option<u32> {
    let looks = looks(tags.len(), buckets);
    let (mut looked, mut number) = (0, 0);
    loop {
        let victim = tags.bucket_mates(scattered(hash, number)).find(|&line| {
            looked += 1;
            let entry = entry(line);
            if entry.is_expired(now) {
                note(met, line);
                return false;
            }
            is_evictable(entry, namespace)
        });
        number += 1;
        if victim.is_some() || looked + HALF_A_BUCKET > looks || number > MOST_BUCKETS {
            return victim;
        }
    }
}

/// Adds a line that is not there yet: two places may share a bucket.
fn note(lines: &mut Vec<u32>, line: u32) {
    if !lines.contains(&line) {
        lines.push(line);
    }
}

/// One of many places that belong to a hash.
const fn scattered(hash: u32, number: u32) -> u32 {
    let mixed = (hash ^ number.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0x9e37_79b1);
    (mixed ^ mixed >> 15).wrapping_mul(0xc2b2_ae35)
}

/// Connections that the kernel looks at: of each, two tuples stand in the chains.
fn looks(connections: usize, buckets: u32) -> usize {
    let tuples = 2 * CHAINS * connections as u64;
    tuples.div_ceil(u64::from(buckets.max(1))) as usize
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Status;
    use zerocopy::FromZeros;

    use super::*;
    use crate::random::Random;

    const NOW: Ticks = Ticks(1000);

    /// A full table of which the youngest, so many in a thousand, are not assured.
    fn table(dispensable: u32) -> (Tags, Vec<Entry>) {
        let mut random = Random::new(u64::from(dispensable) + 1);
        let mut tags = Tags::new(20_000).unwrap();
        let entries = (0..20_000).map(|line| {
            tags.insert(random.bits() as u32, line).unwrap();
            let mut entry = Entry::new_zeroed();
            entry.deadline = 2000;
            entry.set(Status::CONFIRMED);
            if line < 20_000 - 20 * dispensable {
                entry.set(Status::ASSURED);
            }
            entry
        });
        let entries = entries.collect();
        (tags, entries)
    }

    fn refusals(dispensable: u32) -> u32 {
        let (tags, entries) = table(dispensable);
        let mut random = Random::new(77);
        let mut refused = 0;
        for _ in 0..10_000 {
            let hash = random.bits() as u32;
            let mut met = Vec::new();
            let entry = |line: u32| &entries[line as usize];
            match victim(&tags, hash, 20_000, entry, (NOW, 0), &mut met) {
                Some(line) => assert!(!entry(line).has(Status::ASSURED)),
                None => refused += 1,
            }
            assert!(met.is_empty());
        }
        refused
    }

    /// 16 looks find none of a share p with (1 - p)^16.
    #[test]
    fn refuses_as_often_as_sixteen_looks_do() {
        assert_eq!(refusals(0), 10_000);
        for dispensable in [20, 100, 300] {
            let expected = 10_000.0 * (1.0 - f64::from(dispensable) / 1000.0).powi(16);
            let refused = f64::from(refusals(dispensable));
            assert!((refused - expected).abs() < 350.0, "{dispensable}: {refused} {expected}");
        }
    }

    #[test]
    fn others_namespaces_are_left_alone_and_expired_ones_are_met() {
        let (tags, mut entries) = table(1000);
        for entry in &mut entries {
            entry.namespace = 1;
        }
        let victim = |entries: &[Entry], met: &mut Vec<u32>| {
            let entry = |line: u32| &entries[line as usize];
            victim(&tags, 5, 20_000, entry, (NOW, 0), met)
        };
        let mut met = Vec::new();
        assert_eq!(victim(&entries, &mut met), None);
        assert!(met.is_empty());
        for entry in &mut entries {
            (entry.namespace, entry.deadline) = (0, 1000);
        }
        assert_eq!(victim(&entries, &mut met), None, "expired ones make no room by themselves");
        assert!((10..24).contains(&met.len()), "{met:?}");
    }
}
