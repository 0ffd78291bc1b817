//! What every rule is given.

use ctkeeper_flow::Limits;
use ctkeeper_snapshot::{Namespace, Rates, Snapshot, Statistic};

use crate::Thresholds;

/// A snapshot with the thresholds to judge it by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) thresholds: &'a Thresholds,
}

impl Context<'_> {
    /// Entries of all namespaces a bucket, 0 when not known.
    pub(crate) fn load(&self) -> f64 {
        self.snapshot.load().unwrap_or(0.0)
    }

    /// Entries of one namespace a bucket, 0 when not known: early drop evicts only its own.
    pub(crate) fn own_load(&self, namespace: &Namespace) -> f64 {
        let buckets = self.snapshot.limits.map_or(u64::MAX, |limits| limits.buckets.max(1));
        namespace.count as f64 / buckets as f64
    }

    /// The running limit and buckets, where the namespace that looks may speak for the host.
    pub(crate) fn limits(&self) -> Option<Limits> {
        self.snapshot.limits
    }
}

/// Packets that a namespace refused for want of a place since the last look.
pub(crate) fn refused(namespace: &Namespace) -> u64 {
    namespace.rates.as_ref().map_or(0, refused_when_full)
}

/// `drop` also counts packets whose insertion failed (a clash,
/// no free port for translation); those stand in `insert_failed` too, beside chains too long, which
/// `drop` does not count (signatures measured on Linux 6.18).
fn refused_when_full(rates: &Rates) -> u64 {
    let moved = |statistic| rates.statistics.value(statistic);
    let failed = moved(Statistic::InsertFailed).saturating_sub(moved(Statistic::ChainTooLong));
    moved(Statistic::Drop).saturating_sub(failed)
}
