//! The memory proof.

use ctkeeper_snapshot::{EntrySize, Limits, Snapshot};
use serde::{Deserialize, Serialize};

/// What limit and buckets need, and what there is; in bytes unless said otherwise.
///
/// Needed: the fullest namespace at the limit, the others at one and a half times what they hold
/// now, and the buckets. There is: `MemAvailable` less reservations, of which connection tracking
/// may take a share. The worst case, every namespace at the limit, is told and refuses nothing.
///
/// A limit rises only where this holds. Buckets for the limit that runs may rise where it does not,
/// if they fit by themselves: 8 bytes each, against connections refused below the limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryProof {
    /// One entry.
    pub entry_bytes: u64,
    /// Whether that was read from this kernel.
    pub entry_measured: bool,
    /// Entries of the other namespaces that are reckoned with (1.5 times what they hold).
    pub other_entries: u64,
    /// Namespaces, the fullest included.
    pub namespaces: u64,
    /// Buckets.
    pub bucket_bytes: u64,
    /// What one namespace at the limit and the buckets take.
    pub at_limit: u64,
    /// What is needed.
    pub needed: u64,
    /// `MemAvailable`.
    pub available: u64,
    /// What others have a claim on.
    pub reserved: u64,
    /// The share that may be taken, 0 to 1.
    pub share: f64,
    /// What may be taken: the share of what is available and not reserved.
    pub budget: u64,
    /// Every namespace at the limit.
    pub worst_case: u64,
}

impl MemoryProof {
    /// Whether it fits.
    pub fn holds(&self) -> bool {
        self.needed <= self.budget
    }

    /// What is available and not reserved.
    pub fn free(&self) -> u64 {
        self.available.saturating_sub(self.reserved)
    }

    /// What is needed as a share of what is free.
    pub fn share_needed(&self) -> f64 {
        self.needed as f64 / self.free().max(1) as f64
    }
}

/// What the proof is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory<'a> {
    snapshot: &'a Snapshot,
    share: f64,
}

impl<'a> Memory<'a> {
    pub(super) const fn new(snapshot: &'a Snapshot, share: f64) -> Self {
        Self { snapshot, share }
    }

    /// The proof for these limits. An unlimited table is reckoned as what it holds.
    pub(super) fn proof(&self, limits: Limits) -> MemoryProof {
        let memory = &self.snapshot.memory;
        let fullest = self.snapshot.fullest().map_or(0, |namespace| namespace.count);
        let at_limit = limits.limit.entries().unwrap_or(fullest);
        let others = self.snapshot.total_entries().saturating_sub(fullest);
        let other_entries = others.saturating_add(others.div_ceil(2));
        let entry_bytes = memory.entry.bytes();
        let bucket_bytes = limits.buckets.saturating_mul(EntrySize::BUCKET);
        let namespaces = self.snapshot.namespaces.len().max(1) as u64;
        let bytes = |entries: u64| entries.saturating_mul(entry_bytes).saturating_add(bucket_bytes);
        let free = memory.free_to_plan();
        MemoryProof {
            entry_bytes,
            entry_measured: memory.entry.measured,
            other_entries,
            namespaces,
            bucket_bytes,
            at_limit: bytes(at_limit),
            needed: bytes(at_limit.saturating_add(other_entries)),
            available: memory.available,
            reserved: memory.available - free,
            share: self.share,
            budget: (free as f64 * self.share) as u64,
            worst_case: bytes(at_limit.saturating_mul(namespaces)),
        }
    }

    /// The highest limit that holds with `buckets(limit)`, which must not fall as the limit rises.
    pub(super) fn highest(&self, up_to: u64, buckets: impl Fn(u64) -> u64) -> u64 {
        let holds = |limit: u64| {
            let limits = Limits { limit: ctkeeper_snapshot::Limit(limit), buckets: buckets(limit) };
            self.proof(limits).holds()
        };
        let (mut fits, mut too_many) = (0, up_to.saturating_add(1));
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if holds(middle) {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        fits
    }
}
