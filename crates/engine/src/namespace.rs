//! What each namespace has of its own: settings, a count, statistics.

use ctkeeper_flow::{Statistic, Statistics};

use crate::settings::Settings;
use crate::track::gre::KeyMap;

/// One namespace of an engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Namespace {
    pub(crate) settings: Settings,
    /// `nf_conntrack_count`: connections made and not freed, whether in the table or not.
    pub(crate) count: u32,
    /// PPTP calls that control connections have announced.
    pub(crate) calls: KeyMap,
    pub(crate) counters: [u64; Statistic::ALL.len()],
}

impl Namespace {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    #[inline]
    pub(crate) fn add(&mut self, statistic: Statistic, number: u64) {
        let counter = &mut self.counters[statistic as usize];
        *counter = counter.wrapping_add(number);
    }

    #[inline]
    pub(crate) fn increment(&mut self, statistic: Statistic) {
        self.add(statistic, 1);
    }

    /// The counters that current kernels keep; the others are absent as there.
    pub(crate) fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        for statistic in KEPT {
            statistics.set(statistic, self.counters[statistic as usize]);
        }
        statistics
    }
}

/// What `ctnetlink_ct_stat_cpu_fill_info` sends (`nf_conntrack_netlink.c`, Linux 6.12).
const KEPT: [Statistic; 10] = [
    Statistic::Found,
    Statistic::Invalid,
    Statistic::Insert,
    Statistic::InsertFailed,
    Statistic::Drop,
    Statistic::EarlyDrop,
    Statistic::Error,
    Statistic::SearchRestart,
    Statistic::ClashResolve,
    Statistic::ChainTooLong,
];
