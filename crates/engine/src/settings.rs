//! What an engine is built with, and what each namespace may set.

use serde::{Deserialize, Serialize};

use crate::time::Ticks;

/// Which kernel's behaviour is followed where kernels differ.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Profile {
    /// Linux 6.1 (Debian 12; 6.1.192 was read).
    #[serde(rename = "6.1")]
    Linux6_1,
    /// Linux 6.12 (Debian 13; 6.12.117 was read).
    #[serde(rename = "6.12")]
    Linux6_12,
    /// Linux 6.18 (6.18.44 was measured).
    #[default]
    #[serde(rename = "6.18")]
    Linux6_18,
}

/// How the table is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As the kernel keeps it: hash chains in the kernel's order, early drop by buckets, the
    /// collector's walk and schedule, expired entries that count until they are met.
    Exact,
    /// Laid out for speed: the same verdicts and states as long as no namespace is at its limit;
    /// expired entries go within [`Config::sweep`](crate::Config).
    #[default]
    Fast,
}

/// What an engine is built with. Limits are global to all its namespaces, as in the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// How the table is kept.
    pub mode: Mode,
    /// Whose behaviour is followed.
    pub profile: Profile,
    /// `nf_conntrack_max`: entries each namespace may hold; 0 for no limit but `capacity`.
    pub limit: u32,
    /// `nf_conntrack_buckets`: hash chains of [`Mode::Exact`]; the other mode has its own index.
    pub buckets: u32,
    /// Entries of all namespaces that memory is set aside for. A connection beyond it is refused
    /// as the kernel refuses one for want of memory; memory comes in chunks, so that a few more
    /// than said may find room. 0 means `limit`, or 262,144 without limit.
    pub capacity: u32,
    /// `nf_conntrack_expect_max`: expectations each namespace may hold; 0 means the kernel's
    /// default, 4 × (`buckets` / 256).
    pub expectations: u32,
    /// Seed of everything that the kernel draws at random: equal seeds give equal runs. Take an
    /// unpredictable one where tuples come from outside: it keys the hash.
    pub seed: u64,
    /// [`Mode::Fast`]: how long an expired entry may still take its place.
    pub sweep: Ticks,
    /// Whether events are collected ([`Engine::events`](crate::Engine)).
    pub events: bool,
    /// Whether the cells of the state tables and reasons that were met are counted.
    pub coverage: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            profile: Profile::default(),
            limit: 262_144,
            buckets: 262_144,
            capacity: 0,
            expectations: 0,
            seed: 0,
            sweep: Ticks::from_seconds(10),
            events: false,
            coverage: false,
        }
    }
}

impl Config {
    /// [`Self::capacity`] with its default put in.
    pub const fn entries(&self) -> u32 {
        match (self.capacity, self.limit) {
            (0, 0) => 262_144,
            (0, limit) => limit,
            (capacity, _) => capacity,
        }
    }

    /// [`Self::expectations`] with its default put in (`nf_conntrack_expect_init`, Linux 6.12).
    pub const fn expectation_limit(&self) -> u32 {
        match self.expectations {
            0 => {
                let by_buckets = self.buckets / 256;
                4 * (if by_buckets == 0 { 1 } else { by_buckets })
            }
            limit => limit,
        }
    }
}

/// The sysctls of one namespace, `net.netfilter.nf_conntrack_*`, with the kernel's defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// All timeouts.
    pub timeouts: Timeouts,
    /// `tcp_loose`: connections are picked up in the middle.
    pub tcp_loose: bool,
    /// `tcp_be_liberal`: packets out of the window are not invalid.
    pub tcp_be_liberal: bool,
    /// `tcp_ignore_invalid_rst`: a reset outside the window is not invalid.
    pub tcp_ignore_invalid_rst: bool,
    /// `tcp_max_retrans`: retransmissions after which `tcp_max_retrans` of the timeouts counts.
    pub tcp_max_retrans: u8,
    /// `checksum`: checksums are verified where packets enter.
    pub checksum: bool,
    /// `acct`: packets and bytes are counted.
    pub accounting: bool,
    /// `timestamp`: start and end of connections are kept.
    pub timestamps: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            tcp_loose: true,
            tcp_be_liberal: false,
            tcp_ignore_invalid_rst: false,
            tcp_max_retrans: 3,
            checksum: true,
            accounting: false,
            timestamps: false,
        }
    }
}

/// Every timeout of a namespace in seconds, by its sysctl's name
/// (`nf_conntrack_proto_*.c`, Linux 6.12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// `tcp_timeout_*` by [`TcpTimeout`].
    pub tcp: [u32; 12],
    /// `udp_timeout`: answered or not, before it is a stream.
    pub udp: u32,
    /// `udp_timeout_stream`.
    pub udp_stream: u32,
    /// `icmp_timeout`.
    pub icmp: u32,
    /// `icmpv6_timeout`.
    pub icmpv6: u32,
    /// `generic_timeout`: every protocol without a tracker.
    pub generic: u32,
    /// `gre_timeout`: not answered.
    pub gre: u32,
    /// `gre_timeout_stream`: answered.
    pub gre_stream: u32,
    /// `sctp_timeout_*` by the number of [`ctkeeper_flow::SctpState`].
    pub sctp: [u32; 9],
}

/// Places in [`Timeouts::tcp`]: the states by their numbers, then the two caps. Place 0 is not
/// used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpTimeout {
    /// `tcp_timeout_syn_sent`.
    SynSent = 1,
    /// `tcp_timeout_syn_recv`.
    SynRecv = 2,
    /// `tcp_timeout_established`.
    Established = 3,
    /// `tcp_timeout_fin_wait`.
    FinWait = 4,
    /// `tcp_timeout_close_wait`.
    CloseWait = 5,
    /// `tcp_timeout_last_ack`.
    LastAck = 6,
    /// `tcp_timeout_time_wait`.
    TimeWait = 7,
    /// `tcp_timeout_close`.
    Close = 8,
    /// Both sides sent SYN; no sysctl, 120 s.
    SynSent2 = 9,
    /// `tcp_timeout_max_retrans`.
    MaxRetrans = 10,
    /// `tcp_timeout_unacknowledged`.
    Unacknowledged = 11,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: [0, 120, 60, 432_000, 120, 60, 30, 120, 10, 120, 300, 300],
            udp: 30,
            udp_stream: 120,
            icmp: 30,
            icmpv6: 30,
            generic: 600,
            gre: 30,
            gre_stream: 180,
            sctp: [0, 10, 3, 3, 210, 3, 3, 3, 30],
        }
    }
}

impl Timeouts {
    /// One of TCP's timeouts as ticks.
    pub const fn tcp(&self, which: TcpTimeout) -> Ticks {
        Ticks::from_seconds(self.tcp[which as usize])
    }
}
