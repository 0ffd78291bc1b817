//! The Snapshot: one plain value with everything that ctkeeper knows about a host's connection
//! tracking at one moment.
//!
//! `observe` fills it from a live host, `capacity` from a replay; `diagnosis` judges it, `remedy`
//! plans from it, faces draw it. It is serialisable and versioned ([`SCHEMA`]), so that a saved one
//! is judged like a live one. Nothing here does I/O; what could not be read is named in
//! [`Snapshot::gaps`] instead of being guessed.

mod details;
mod groups;
mod holder;
mod kernel_log;
mod memory;
mod namespace;
mod settings;
mod who;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use ctkeeper_flow::{Limit, Limits, Statistic, Statistics, Timeouts};
pub use details::{LogExcerpt, LogLine, SettingsFile, SettingsLine, System};
pub use groups::{Largest, Network, PortGroup, Service, Unanswered};
pub use holder::{
    Attached, Connection, Container, Holder, HolderIndex, Pod, Roster, SocketHolder, Tenant,
    Unattributed, View,
};
pub use kernel_log::{FullReports, KernelLog};
pub use memory::{EntrySize, Memory, Reservation};
pub use namespace::{
    Doubles, EvidenceSource, Expectations, HolderShare, Namespace, NamespaceProcess, Proxy, Rates,
    Sample, Tracker, Tracking,
};
pub use settings::{
    Assignment, EarlyLoad, Forecast, ForecastSource, ForecastValue, ModuleState, Origin, Reader,
    SettingKey, Settings,
};
pub use who::{Counted, Figure, Key, MakeUp, Part, Peer, Row, Table, Value, WHO_SCHEMA, Who};

/// Name and version of the serialised form. A reader refuses any other major version.
pub const SCHEMA: &str = "ctkeeper.snapshot/1";

/// Everything known at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: String,
    /// When and where it was taken.
    pub taken: Taken,
    /// Whether connection tracking is in this kernel.
    pub module: ModuleState,
    /// Limit and buckets as they run; absent when the module is.
    pub limits: Option<Limits>,
    /// Memory of the host and of an entry.
    pub memory: Memory,
    /// Every namespace found, the initial one (or the only visible one) first.
    pub namespaces: Vec<Namespace>,
    /// Files that set limit and buckets, and what they give after a reboot.
    pub settings: Settings,
    /// What the kernel log says.
    pub log: KernelLog,
    /// A change by `ctkeeper fix` that was begun and neither finished nor undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished_change: Option<String>,
    /// What could not be read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// When and where a snapshot was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Wall clock, milliseconds since the epoch; for people.
    pub unix_ms: u64,
    /// `CLOCK_BOOTTIME`, milliseconds; for differences.
    pub boottime_ms: u64,
    /// `/proc/sys/kernel/random/boot_id`; differences hold only within one boot.
    pub boot_id: String,
    /// Host name.
    pub hostname: String,
    /// `uname -r`.
    pub kernel: String,
    /// CPUs online.
    pub cpus: u32,
    /// Version of ctkeeper that took it.
    pub ctkeeper: String,
    /// Whether the reader stood in the host's initial network namespace: only there can limit and
    /// buckets be changed.
    pub in_initial_namespace: bool,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gap {
    /// What kind of obstacle it is.
    pub kind: GapKind,
    /// What is missing from the snapshot: `the statistics of namespace 4026532465`.
    pub what: String,
    /// Why: `opening /proc/12/ns/net: permission denied`.
    pub cause: String,
    /// What to do about it: `run as root`.
    pub remedy: String,
}

/// Kinds of obstacles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapKind {
    /// The caller lacks a privilege.
    Privilege,
    /// The kernel or a mount does not offer it: `/proc` masked, no statistics.
    Unavailable,
    /// A file is there and cannot be read or understood.
    BrokenFile,
    /// It went away while being read.
    Vanished,
}

impl Snapshot {
    /// The snapshot of its JSON form.
    pub fn from_json(json: &str) -> Result<Self, SnapshotError> {
        let probe: SchemaProbe = serde_json::from_str(json).map_err(SnapshotError::NotASnapshot)?;
        if probe.schema != SCHEMA {
            return Err(SnapshotError::OtherSchema { found: probe.schema });
        }
        serde_json::from_str(json).map_err(SnapshotError::Malformed)
    }

    /// Its JSON form, indented.
    pub fn to_json(&self) -> Result<String, SnapshotError> {
        serde_json::to_string_pretty(self).map_err(SnapshotError::Malformed)
    }

    /// Entries of all namespaces together: what memory and hash table carry.
    pub fn total_entries(&self) -> u64 {
        self.namespaces.iter().fold(0, |total, namespace| total.saturating_add(namespace.count))
    }

    /// Entries of all namespaces a bucket; chains hold twice that, as each entry stands in two.
    pub fn load(&self) -> Option<f64> {
        self.limits.map(|limits| self.total_entries() as f64 / limits.buckets.max(1) as f64)
    }

    /// The namespace that a line of the kernel log means by `inode`. The kernel gives the number of
    /// a namespace that has gone to a new one: one that has never refused a packet for want of a
    /// place is not meant.
    pub fn logged_namespace(&self, inode: u64) -> Option<&Namespace> {
        let was_full = |namespace: &&Namespace| {
            let statistics = namespace.statistics.as_ref();
            let known = statistics.filter(|s| s.get(Statistic::Drop).is_some());
            known.is_none_or(|statistics| namespace::refused_when_full(statistics) > 0)
        };
        self.namespaces.iter().find(|namespace| namespace.inode == inode).filter(was_full)
    }

    /// The namespace with the most entries.
    pub fn fullest(&self) -> Option<&Namespace> {
        self.namespaces.iter().max_by_key(|namespace| namespace.count)
    }
}

#[derive(Deserialize)]
struct SchemaProbe {
    schema: String,
}

/// Why a file is no snapshot.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not JSON, or JSON without a `schema`.
    #[error("not a ctkeeper snapshot (`ctkeeper doctor --save FILE` makes one)")]
    NotASnapshot(#[source] serde_json::Error),
    /// Written by another version of ctkeeper.
    #[error(
        "the snapshot has schema {found:?}, this ctkeeper reads {SCHEMA:?}; \
         judge it with the ctkeeper that saved it, or save it again"
    )]
    OtherSchema {
        /// The schema it names.
        found: String,
    },
    /// The right schema, but a field is missing or of the wrong kind.
    #[error("the snapshot is damaged (`ctkeeper doctor --save FILE` makes a new one)")]
    Malformed(#[source] serde_json::Error),
}
