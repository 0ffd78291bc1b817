//! The kernel's statistics.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Names of the statistics in the order of `enum ctattr_stats_cpu`
/// (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`); index 0 is attribute 1.
const NAMES: [&str; 15] = [
    "searched",
    "found",
    "new",
    "invalid",
    "ignore",
    "delete",
    "delete_list",
    "insert",
    "insert_failed",
    "drop",
    "early_drop",
    "error",
    "search_restart",
    "clash_resolve",
    "chaintoolong",
];

/// One of the counters that the kernel keeps per namespace and CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Statistic {
    /// Lookups walked (older kernels only).
    Searched,
    /// Entries found by the search for a free translation.
    Found,
    /// New entries (older kernels only).
    New,
    /// Packets that belong to no connection and cannot start one.
    Invalid,
    /// Packets not tracked (older kernels only).
    Ignore,
    /// Deletions (older kernels only).
    Delete,
    /// Deletions put on a list (older kernels only).
    DeleteList,
    /// Entries made by netlink; ordinary flows are not counted here on current kernels.
    Insert,
    /// Entries that could not be put into the table: clash, chain too long.
    InsertFailed,
    /// Packets dropped because no entry could be made.
    Drop,
    /// Unassured entries evicted to make room.
    EarlyDrop,
    /// ICMP errors that belong to no connection.
    Error,
    /// Lookups begun again because the table changed under them.
    SearchRestart,
    /// Clashes settled by riding on the winner.
    ClashResolve,
    /// Insertions refused because a chain was too long: the second wall.
    ChainTooLong,
}

impl Statistic {
    /// Every statistic in the kernel's order.
    pub const ALL: [Self; 15] = [
        Self::Searched,
        Self::Found,
        Self::New,
        Self::Invalid,
        Self::Ignore,
        Self::Delete,
        Self::DeleteList,
        Self::Insert,
        Self::InsertFailed,
        Self::Drop,
        Self::EarlyDrop,
        Self::Error,
        Self::SearchRestart,
        Self::ClashResolve,
        Self::ChainTooLong,
    ];

    /// The name that tools print.
    pub const fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// The statistic of a netlink attribute (`CTA_STATS_*`, from 1).
    pub fn from_attribute(attribute: u16) -> Option<Self> {
        Self::ALL.get(usize::from(attribute).checked_sub(1)?).copied()
    }

    /// The statistic of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Counters as one kernel sends them: a name that the kernel does not know is absent, not 0.
///
/// The kernel's own counters are 32 bits wide and wrap; sums and differences here are 64 bits.
/// Serialised as a map from name to value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, u64>", into = "BTreeMap<String, u64>")]
pub struct Statistics([Option<u64>; Statistic::ALL.len()]);

impl Statistics {
    /// Stores a value.
    pub fn set(&mut self, statistic: Statistic, value: u64) {
        self.0[statistic as usize] = Some(value);
    }

    /// Adds another CPU's counters.
    pub fn add(&mut self, other: &Self) {
        for (statistic, value) in other.iter() {
            self.set(statistic, self.value(statistic).saturating_add(value));
        }
    }

    /// The value of a statistic, if this kernel sends it.
    pub const fn get(&self, statistic: Statistic) -> Option<u64> {
        self.0[statistic as usize]
    }

    /// The value of a statistic, 0 if this kernel does not send it.
    pub fn value(&self, statistic: Statistic) -> u64 {
        self.get(statistic).unwrap_or(0)
    }

    /// Whether the kernel sent nothing.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The statistics present, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = (Statistic, u64)> {
        Statistic::ALL.into_iter().filter_map(|s| Some((s, self.get(s)?)))
    }

    /// One CPU's counters since `earlier`, each difference taken modulo 2^32 as the kernel's
    /// counters wrap.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = Self::default();
        for (statistic, now) in self.iter() {
            let before = earlier.value(statistic);
            difference.set(statistic, u64::from((now as u32).wrapping_sub(before as u32)));
        }
        difference
    }
}

/// Names that are not known here are left out.
impl From<BTreeMap<String, u64>> for Statistics {
    fn from(map: BTreeMap<String, u64>) -> Self {
        let mut statistics = Self::default();
        for (name, value) in map {
            if let Some(statistic) = Statistic::from_name(&name) {
                statistics.set(statistic, value);
            }
        }
        statistics
    }
}

impl From<Statistics> for BTreeMap<String, u64> {
    fn from(statistics: Statistics) -> Self {
        statistics.iter().map(|(s, value)| (s.name().to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_survive_a_wrap() {
        let (mut before, mut after) = (Statistics::default(), Statistics::default());
        before.set(Statistic::Drop, u64::from(u32::MAX) - 1);
        after.set(Statistic::Drop, 3);
        assert_eq!(after.since(&before).value(Statistic::Drop), 5);
    }

    #[test]
    fn absent_is_not_zero() {
        let mut statistics = Statistics::default();
        statistics.set(Statistic::Drop, 0);
        assert_eq!(statistics.get(Statistic::Drop), Some(0));
        assert_eq!(statistics.get(Statistic::ChainTooLong), None);
    }

    #[test]
    fn attributes_count_from_one() {
        assert_eq!(Statistic::from_attribute(1), Some(Statistic::Searched));
        assert_eq!(Statistic::from_attribute(10), Some(Statistic::Drop));
        assert_eq!(Statistic::from_attribute(15), Some(Statistic::ChainTooLong));
        assert_eq!(Statistic::from_attribute(0), None);
        assert_eq!(Statistic::from_attribute(99), None);
    }
}
