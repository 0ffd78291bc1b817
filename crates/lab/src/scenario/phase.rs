//! What happens in a scenario's phases and what must be seen, as TOML says it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::Clash;
use crate::load::{self, Profile, time};

/// A phase: things done one after the other, then doctor's verdicts, then what must be true.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSpec {
    /// Its heading.
    pub title: String,
    /// What happens in it, in a sentence or two.
    #[serde(default)]
    pub about: String,
    /// What is done.
    #[serde(default, rename = "do")]
    pub actions: Vec<Action>,
    /// The namespaces that doctor looks into at the end, while the loads go on.
    #[serde(default)]
    pub judge: Vec<JudgeSpec>,
    /// What must be true at the end.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// Something done.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Makes entries by netlink.
    Fill(FillSpec),
    /// Deletes every entry of a namespace.
    Flush(String),
    /// Starts a load, which goes on until it ends, is stopped, or the scenario ends.
    Load(LoadSpec),
    /// Ends a load and its connections.
    Stop(StopSpec),
    /// From now on so many arrivals of a load a second; 0 pauses.
    Rate(RateSpec),
    /// Probes connections that a load holds.
    Probe(ProbeSpec),
    /// Datagrams in pairs, each pair at one moment; they go on until the phase's end, which waits
    /// for them.
    Clash(ClashSpec),
    /// Opens connections, one after the other, that each announce a second one, as FTP clients do.
    Announce(AnnounceSpec),
    /// Waits until a load's arrivals have all come and ended.
    Finish(String),
    /// Waits.
    #[serde(with = "time")]
    Wait(Duration),
    /// Sets a value below /proc/sys/net of a namespace.
    Sysctl(SysctlSpec),
    /// Loads nftables rules.
    Rules(RulesSpec),
    /// Goes over to another configuration of HAProxy.
    Reload(ReloadSpec),
    /// Runs a program inside to its end, two minutes at most.
    Run(RunSpec),
    /// Raises the host's limit with `ctkeeper fix`; the lab puts it back at the end.
    Fix(FixSpec),
}

/// Entries to make: so many, or until so many places are left.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FillSpec {
    /// In which namespace.
    pub namespace: String,
    /// How many.
    #[serde(default)]
    pub entries: Option<u64>,
    /// How many places stay free below the limit.
    #[serde(default)]
    pub leave_free: Option<u64>,
    /// Half-open entries, which the kernel may evict, instead of established ones.
    #[serde(default)]
    pub half_open: bool,
    /// Seconds that established entries have to live.
    #[serde(default = "four_days")]
    pub timeout: u32,
}

/// An established connection that has been idle for a day.
const fn four_days() -> u32 {
    345_600
}

/// A load with a name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadSpec {
    /// What other actions and expectations call it.
    pub name: String,
    /// Where it comes from.
    pub namespace: String,
    /// What it is.
    pub profile: Profile,
}

/// Datagrams in pairs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClashSpec {
    /// Where the rivals are.
    pub namespace: String,
    /// Who sends what, and how much of it.
    pub pairs: Clash,
}

/// Announcements for a helper of kind `ftp` to read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnounceSpec {
    /// Where the clients are.
    pub namespace: String,
    /// A server that takes what they say.
    pub target: SocketAddr,
    /// How many, as a share of nf_conntrack_expect_max.
    pub share: f64,
}

/// A load to end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopSpec {
    /// Its name.
    pub load: String,
    /// How its connections end: `close` (FIN), `reset` (RST), `vanish` (without a packet).
    #[serde(default)]
    pub end: load::Closing,
}

/// Another rate.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// The load's name.
    pub load: String,
    /// Arrivals a second.
    pub rate: f64,
}

/// Connections to probe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// The load's name.
    pub load: String,
    /// How many, evenly chosen; all without it.
    #[serde(default)]
    pub most: Option<u64>,
}

/// A value below /proc/sys/net.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysctlSpec {
    /// In which namespace.
    pub namespace: String,
    /// Its name: `netfilter/nf_conntrack_tcp_timeout_established`.
    pub name: String,
    /// Its new value.
    pub value: String,
}

/// nftables rules to load.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesSpec {
    /// In which namespace.
    pub namespace: String,
    /// The rules.
    pub rules: String,
}

/// Another configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadSpec {
    /// The name of the proxy.
    pub haproxy: String,
    /// The configuration.
    pub config: String,
}

/// A program to run inside; it must succeed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// In which namespace.
    pub namespace: String,
    /// The program.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// How the host's limit is raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FixSpec {
    /// The limit wanted; chosen by `ctkeeper fix` if absent.
    pub target: Option<u64>,
}

/// A verdict wanted of doctor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSpec {
    /// The namespace that is judged.
    pub namespace: String,
    /// How long doctor watches what moves.
    #[serde(default = "one_second", with = "time")]
    pub window: Duration,
    /// Whether doctor looks at every namespace of the host, as it does without `--netns`: what holds
    /// two namespaces against each other is seen only so. What it says of others is passed over.
    #[serde(default)]
    pub whole_host: bool,
    /// The causes it must name, and no other; the scenario's if absent.
    #[serde(default)]
    pub finds: Option<Vec<String>>,
    /// Its exit code, if that matters.
    #[serde(default)]
    pub exit: Option<u8>,
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

/// Something that must be true at a phase's end.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expectation {
    /// Of a load, in this phase.
    Load(LoadExpectation),
    /// Of a namespace's counters, in this phase.
    Counters(CounterExpectation),
    /// Of a namespace's entries, now.
    Entries(EntriesExpectation),
    /// Of HAProxy's log, in this phase.
    ProxyLog(LinesExpectation),
    /// Of the kernel's log: lines about full tables, in this phase.
    KernelLog(LinesExpectation),
}

/// Shares are 0 to 1.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadExpectation {
    /// The load.
    pub name: String,
    /// Least share of its arrivals that failed.
    #[serde(default)]
    pub failed_at_least: Option<f64>,
    /// Greatest share of its arrivals that failed.
    #[serde(default)]
    pub failed_at_most: Option<f64>,
    /// Greatest share of its probes that went unanswered.
    #[serde(default)]
    pub probes_failed_at_most: Option<f64>,
    /// Connections or flows that are open.
    #[serde(default)]
    pub open_at_least: Option<u64>,
}

/// Counters by the kernel's names: `drop`, `insert_failed`, `chaintoolong`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterExpectation {
    /// In which namespace.
    pub namespace: String,
    /// Those that must have grown.
    #[serde(default)]
    pub moved: Vec<String>,
    /// Those that must stand where they stood.
    #[serde(default)]
    pub still: Vec<String>,
}

/// Bounds, both included.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntriesExpectation {
    /// In which namespace.
    pub namespace: String,
    /// Least number.
    #[serde(default)]
    pub at_least: Option<u64>,
    /// Greatest number.
    #[serde(default)]
    pub at_most: Option<u64>,
    /// Fewest free places.
    #[serde(default)]
    pub free_at_least: Option<u64>,
    /// Most free places.
    #[serde(default)]
    pub free_at_most: Option<u64>,
}

/// Bounds, both included.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinesExpectation {
    /// Fewest lines.
    #[serde(default)]
    pub at_least: Option<u64>,
    /// Most lines.
    #[serde(default)]
    pub at_most: Option<u64>,
}
