//! How much still fits, and for how long.

use std::time::Duration;

use ctkeeper_flow::Limit;
use ctkeeper_snapshot::Sample;

use crate::{Estimate, entries};

/// Buckets that early drop looks into (`NF_CT_EVICTION_RANGE`,
/// `net/netfilter/nf_conntrack_core.c`, Linux 6.12).
const EVICTION_BUCKETS: f64 = 8.0;

/// Room in one namespace's table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Headroom {
    /// Limit less count.
    pub free: u64,
    /// Entries that early drop may evict (unassured), as far as it finds them.
    pub evictable: u64,
    /// Entries that hold their place: assured, not closing, not about to expire.
    pub locked: u64,
    /// Chance that a new packet finds somebody to evict, 0 to 1.
    pub eviction_chance: f64,
}

impl Headroom {
    /// The room of a namespace with `count` entries under `limit`, from a sample of them, in a
    /// hash table with `load` entries a bucket. `None` when unlimited or without a sample.
    pub fn of(limit: Limit, count: u64, sample: &Sample, load: f64) -> Option<Self> {
        let free = limit.headroom(count)?;
        let unassured = Estimate::of(sample.size.saturating_sub(sample.assured), sample)?.share;
        let locked = Estimate::of(sample.locked, sample)?.share;
        let total_load = load.max(f64::MIN_POSITIVE);
        Some(Self {
            free,
            evictable: entries(unassured, count),
            locked: entries(locked, count),
            eviction_chance: eviction_chance(total_load * unassured),
        })
    }

    /// What may still come: free places, and evictable ones as likely as they are found.
    pub fn effective(&self) -> u64 {
        self.free.saturating_add(entries(self.eviction_chance, self.evictable))
    }
}

/// Chance that the eight buckets that early drop looks into hold somebody to evict, when this
/// namespace has `evictable_load` evictable entries a bucket. Each entry stands in two chains.
///
/// Early drop is no rescue in a large, thinly filled hash table: it looks into eight buckets only,
/// and finds nobody in most of them.
pub fn eviction_chance(evictable_load: f64) -> f64 {
    // e^-x, good to x²/2,000,000 of itself, as compound interest: `exp` alone would have every
    // command load libm, a twelfth of what is resident.
    const STEPS: i32 = 1 << 20;
    let exponent = 2.0 * EVICTION_BUCKETS * evictable_load.max(0.0);
    1.0 - (1.0 - (exponent / f64::from(STEPS)).min(1.0)).powi(STEPS)
}

/// Time until `count` reaches `limit` at `growth` entries a second; `None` when it is not growing,
/// already there, unlimited, or further than a century away.
pub fn time_until_full(count: u64, limit: Limit, growth: f64) -> Option<Duration> {
    const CENTURY: f64 = 100.0 * 365.25 * 86_400.0;
    let free = limit.headroom(count)?;
    let seconds = free as f64 / growth;
    (free > 0 && growth > 0.0 && seconds < CENTURY).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_open(size: u64) -> Sample {
        Sample { size, exact: true, assured: 0, locked: 0, ..Sample::default() }
    }

    #[test]
    fn half_open_entries_make_room_where_buckets_are_shared() {
        let room = Headroom::of(Limit(1000), 1000, &half_open(1000), 1.0).unwrap();
        assert_eq!((room.free, room.evictable), (0, 1000));
        assert_eq!(room.effective(), 1000);
    }

    #[test]
    fn early_drop_finds_nobody_in_a_thin_hash_table() {
        // 5,000 half-open entries in 262,144 buckets: measured 261 evicted of 1,000 tries.
        let room = Headroom::of(Limit(5000), 5000, &half_open(5000), 5000.0 / 262_144.0).unwrap();
        assert!((0.2..0.35).contains(&room.eviction_chance), "{room:?}");
    }

    #[test]
    fn the_chance_is_poissons() {
        for load in [0.0, 0.001, 0.02, 0.1, 0.5, 1.0, 3.0, 1e9] {
            let exact = 1.0 - (-16.0f64 * load).exp();
            assert!((eviction_chance(load) - exact).abs() < 1e-6, "{load}");
        }
    }

    #[test]
    fn established_entries_leave_only_the_free_places() {
        let sample = Sample { size: 10, exact: true, assured: 10, locked: 10, ..Sample::default() };
        let room = Headroom::of(Limit(100), 90, &sample, 1.0).unwrap();
        assert_eq!((room.effective(), room.locked), (10, 90));
    }

    #[test]
    fn time_until_full_needs_growth() {
        assert_eq!(time_until_full(50, Limit(100), 5.0), Some(Duration::from_secs(10)));
        assert_eq!(time_until_full(50, Limit(100), 0.0), None);
        assert_eq!(time_until_full(50, Limit(100), -3.0), None);
        assert_eq!(time_until_full(100, Limit(100), 5.0), None);
        assert_eq!(time_until_full(50, Limit::UNLIMITED, 5.0), None);
        assert_eq!(time_until_full(0, Limit(u64::MAX), 1e-9), None);
    }
}
