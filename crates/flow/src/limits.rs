//! Limits and timeouts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// `nf_conntrack_max`: how many entries each namespace may hold; 0 means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limit(pub u64);

impl Limit {
    /// No limit.
    pub const UNLIMITED: Self = Self(0);

    /// The number, or `None` when unlimited.
    pub const fn entries(self) -> Option<u64> {
        if self.0 == 0 { None } else { Some(self.0) }
    }

    /// How many entries still fit beside `count`; `None` when unlimited.
    pub const fn headroom(self, count: u64) -> Option<u64> {
        match self.entries() {
            Some(limit) => Some(limit.saturating_sub(count)),
            None => None,
        }
    }

    /// `count` as a share of the limit, 0 to 1 (a little above for a moment); `None` when
    /// unlimited.
    pub fn share(self, count: u64) -> Option<f64> {
        self.entries().map(|limit| count as f64 / limit as f64)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entries() {
            Some(limit) => fmt::Display::fmt(&limit, f),
            None => f.pad("unlimited"),
        }
    }
}

/// The two numbers that size connection tracking. Both are global to the host; the limit is
/// compared with each namespace's own count, the buckets are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// `nf_conntrack_max`.
    pub limit: Limit,
    /// `nf_conntrack_buckets`.
    pub buckets: u64,
}

impl Limits {
    /// Entries a bucket when one namespace stands at the limit; `None` when unlimited.
    pub fn load_at_limit(&self) -> Option<f64> {
        self.limit.entries().map(|limit| limit as f64 / self.buckets.max(1) as f64)
    }
}

/// A namespace's timeouts in seconds, by the kernel's names without the `nf_conntrack_` prefix
/// (`tcp_timeout_established`, `udp_timeout_stream`, `generic_timeout`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeouts(pub BTreeMap<String, u32>);

impl Timeouts {
    /// `tcp_timeout_established` of an untouched kernel: five days.
    pub const DEFAULT_ESTABLISHED: u32 = 432_000;

    /// The timeout of one name, seconds.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    /// `tcp_timeout_established`, seconds.
    pub fn established(&self) -> Option<u32> {
        self.get("tcp_timeout_established")
    }
}
