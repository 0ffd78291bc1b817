//! One network namespace and its share of the table.

use ctkeeper_flow::{Limit, Statistic, Statistics, Timeouts};
use serde::{Deserialize, Serialize};

use crate::{Holder, PortGroup, Unanswered};

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its inode, as in `readlink /proc/PID/ns/net` and in the kernel's log lines.
    pub inode: u64,
    /// Whether it is the host's initial namespace.
    pub initial: bool,
    /// Names it goes by, best first: bind mounts under `/run/netns`, runtimes' sandboxes.
    pub names: Vec<String>,
    /// Some of the processes in it, lowest pid first; at most a handful.
    pub processes: Vec<NamespaceProcess>,
    /// `nf_conntrack_count`: entries, expired ones not yet collected included.
    pub count: u64,
    /// The limit that the kernel compares `count` with.
    pub limit: Limit,
    /// Counters since the namespace was made, summed over CPUs; absent when not readable.
    pub statistics: Option<Statistics>,
    /// The same by CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statistics_per_cpu: Vec<Statistics>,
    /// How count and counters moved; absent on a first look.
    pub rates: Option<Rates>,
    /// What a sample of its entries holds; absent where none was taken.
    pub sample: Option<Sample>,
    /// Its timeouts; absent where not read.
    pub timeouts: Option<Timeouts>,
    /// What turned tracking on in it; absent where not looked for.
    pub tracking: Option<Tracking>,
    /// Connections that its helpers expect; absent where there are none or they were not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expectations: Option<Expectations>,
    /// Whether its entries stand in another namespace as well; absent where not looked for, or
    /// where none was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubles: Option<Doubles>,
    /// Who holds most of its entries, most first; empty where not looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<HolderShare>,
}

/// What a holder has of a namespace's entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HolderShare {
    /// Who.
    pub holder: Holder,
    /// Share of the namespace's entries, 0 to 1.
    pub share: f64,
    /// Half the width of the share's 95 % interval.
    pub margin: f64,
}

impl Namespace {
    /// What to call it: `host`, its best name, its first process, else its inode.
    ///
    /// The name may come from a container and is not safe for a terminal as it stands.
    pub fn label(&self) -> String {
        if self.initial {
            return "host".to_owned();
        }
        match (self.names.first(), self.processes.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(process)) => format!("{} (pid {})", process.command, process.pid),
            (None, None) => format!("netns {}", self.inode),
        }
    }

    /// Its count as a share of the limit; `None` when unlimited.
    pub fn share(&self) -> Option<f64> {
        self.limit.share(self.count)
    }
}

/// Connections that helpers (FTP, SIP) have announced in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectations {
    /// How many there are.
    pub count: u64,
    /// `nf_conntrack_expect_max`, which the kernel compares `count` with: one number for all
    /// namespaces, against each one's own count.
    pub limit: u64,
}

/// Entries of a namespace that another one tracks too. Of two such namespaces the one with fewer
/// entries has this; the initial one never has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubles {
    /// Inode of the other namespace.
    pub other: u64,
    /// Entries of the sample that were looked up there.
    pub asked: u64,
    /// Of them, those that stand there too, translated or not.
    pub found: u64,
}

/// A process in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceProcess {
    /// Its pid.
    pub pid: u32,
    /// Its command name (`comm`): hostile input.
    pub command: String,
    /// Its cgroup path in the unified hierarchy, if readable: hostile input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// How a namespace's numbers moved between two looks within one boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Which earlier look they are held against.
    pub since: EvidenceSource,
    /// Milliseconds between the looks.
    pub window_ms: u64,
    /// Entries more (or fewer) than then.
    pub count_change: i64,
    /// Counters moved since then, each modulo the kernel's 32 bits, summed over CPUs.
    pub statistics: Statistics,
}

impl Rates {
    /// Packets refused for want of a place. `drop` also counts packets whose insertion failed (a
    /// clash, no free port for translation); those stand in `insert_failed` too, beside chains too
    /// long, which `drop` does not count (signatures measured on Linux 6.18).
    pub fn refused_when_full(&self) -> u64 {
        refused_when_full(&self.statistics)
    }

    /// Packets dropped because their entry could not be put into the table though there was room:
    /// another entry had its tuple (a clash, or no free port for translation). What netlink failed
    /// to insert is not among them, as no packet was dropped.
    pub fn refused_by_clash(&self) -> u64 {
        self.moved(Statistic::Drop).min(failed_insertions(&self.statistics))
    }

    /// How far a counter moved within the window.
    pub fn moved(&self, statistic: Statistic) -> u64 {
        self.statistics.value(statistic)
    }

    /// `amount` within the window, a second.
    pub fn per_second(&self, amount: f64) -> f64 {
        amount * 1000.0 / self.window_ms.max(1) as f64
    }
}

/// [`Rates::refused_when_full`] of other counters, such as those since the namespace was made.
pub(crate) fn refused_when_full(statistics: &Statistics) -> u64 {
    statistics.value(Statistic::Drop).saturating_sub(failed_insertions(statistics))
}

fn failed_insertions(statistics: &Statistics) -> u64 {
    let chains = statistics.value(Statistic::ChainTooLong);
    statistics.value(Statistic::InsertFailed).saturating_sub(chains)
}

/// Where an earlier look came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceSource {
    /// Two looks of the same run (`--window`, `--watch`).
    Window,
    /// The note that the last run left.
    LastRun,
}

/// What a sample of a namespace's entries holds. The sample is a prefix of the dump, which is in
/// keyed-hash order: each entry has the same chance to be in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Entries looked at.
    pub size: u64,
    /// Whether that was every entry.
    pub exact: bool,
    /// Of them, assured ones.
    pub assured: u64,
    /// Of them, locked ones: assured, not closing, and with more than a minute to live.
    pub locked: u64,
    /// Of them, TCP in `ESTABLISHED`.
    pub established: u64,
    /// Of the established ones, those without a packet for at least an hour (known from what
    /// remains of their timeout).
    pub established_idle: u64,
    /// Median idle time of the established ones, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established_idle_median: Option<u32>,
    /// Of all, those in a closing state.
    pub closing: u64,
    /// Of all, those that have seen no answer.
    pub unreplied: u64,
    /// Who sends those.
    #[serde(default)]
    pub unanswered: Unanswered,
    /// Translated sources by what they compete for, the largest groups: at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_groups: Vec<PortGroup>,
    /// Processes that hold entries on both sides, most entries of their own first; at most a
    /// handful.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<Proxy>,
}

/// A process that accepts connections and opens others: several processes count as one when they
/// accept at the same addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// Its command name (`comm`): hostile input.
    pub command: String,
    /// The lowest of its pids.
    pub pid: u32,
    /// How many processes it is.
    pub processes: u64,
    /// The ports it accepts at, lowest first.
    pub ports: Vec<u16>,
    /// Entries of the sample that lead to it: those of its clients.
    pub front: u64,
    /// Entries of the sample that it opened itself, to ends that its sockets were seen connected
    /// to.
    pub back: u64,
    /// Different ends (address and port) of those.
    pub back_ends: u64,
}

/// What turned tracking on in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracking {
    /// Every cause found.
    pub trackers: Vec<Tracker>,
    /// Whether every place where a cause could stand was read.
    pub complete: bool,
}

impl Tracking {
    /// Whether anything found acts on what tracking knows. `None` when not all causes are known.
    pub fn needed(&self) -> Option<bool> {
        if self.trackers.iter().any(|tracker| tracker.needed) {
            Some(true)
        } else if self.complete {
            Some(false)
        } else {
            None
        }
    }
}

/// One cause of tracking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracker {
    /// Where it stands: `nftables ip nat POSTROUTING handle 7`, `iptables-legacy nat`,
    /// `module parameter enable_hooks`. Contains names that others chose: hostile input.
    pub place: String,
    /// What it does there: `masquerade`, `ct state`, `DNAT`.
    pub what: String,
    /// Whether something acts on it: translation, or a filter that drops.
    pub needed: bool,
    /// Whether it drops packets itself, by their state: `ct state invalid drop`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drops: bool,
}
