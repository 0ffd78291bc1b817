//! Who holds the entries of a host's tables: the answer of `ctkeeper who`, which faces draw.

use std::fmt;
use std::net::IpAddr;

use ctkeeper_flow::{Limit, Mark, Protocol};
use serde::{Deserialize, Serialize};

use crate::{Gap, Holder, Network, Service, Taken};

/// Name and version of the serialised form.
pub const WHO_SCHEMA: &str = "ctkeeper.who/1";

/// Who holds the entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Who {
    /// [`WHO_SCHEMA`].
    pub schema: String,
    /// When and where it was counted.
    pub taken: Taken,
    /// What a row stands for: one property, or a pair.
    pub by: Vec<Key>,
    /// The tables that were counted, fullest first.
    pub tables: Vec<Table>,
    /// The rows that were asked for, most entries first.
    pub rows: Vec<Row>,
    /// All others together; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Row>,
    /// How many those are, as far as a sample shows.
    pub others: u64,
    /// Milliseconds that growth was measured over; absent where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
    /// Milliseconds between the first and the last request.
    pub elapsed_ms: f64,
    /// What could not be read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// A property that entries are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// Container, pod, unit, process or outside.
    Holder,
    /// The container, a pod's containers each by itself.
    Container,
    /// The pod.
    Pod,
    /// The process whose socket it is.
    Process,
    /// The address and port that the client asked for, where it was translated from: a published
    /// port, a Service.
    Service,
    /// The network namespace.
    Netns,
    /// The client's address.
    Source,
    /// The address that the client asked for.
    Destination,
    /// The port that the client asked for, with its protocol.
    Port,
    /// The protocol.
    Protocol,
    /// The protocol's state.
    State,
    /// The zone.
    Zone,
    /// The mark.
    Mark,
}

/// What a row has of one [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// Of `holder`, `container`, `pod`, `process`.
    Holder(Holder),
    /// Of `service`.
    Service(Service),
    /// Of `netns`: inode and name.
    Netns(u64, String),
    /// Of `source` and `destination`.
    Address(IpAddr),
    /// Of `port`.
    Port(Protocol, u16),
    /// Of `protocol`.
    Protocol(Protocol),
    /// Of `state`, as conntrack writes it.
    State(String),
    /// Of `zone`.
    Zone(u16),
    /// Of `mark`.
    Mark(Mark),
    /// The entry has none: a protocol without ports, a destination that was not translated.
    None,
}

/// A namespace's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Inode of the namespace.
    pub inode: u64,
    /// Its name, or `host`: hostile input.
    pub name: String,
    /// Its entries by the kernel's own count.
    pub count: u64,
    /// The limit that the kernel compares `count` with.
    pub limit: Limit,
    /// How its entries were counted.
    pub counted: Counted,
    /// Packets refused since the look before, a second; absent on a first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_per_second: Option<f64>,
    /// Entries that came less those that went, a second; absent on a first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<f64>,
}

/// How a table's entries were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// One holder has the namespace for itself: its count is the holder's.
    Owned,
    /// Every entry was read.
    Exactly {
        /// How many there were.
        entries: u64,
    },
    /// The first entries of a dump were read: a uniform sample.
    Sampled {
        /// How many.
        entries: u64,
    },
    /// Not at all: it is empty, or could not be read.
    Not,
}

/// Entries that have the row's properties in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Of each key in [`Who::by`], what they have; empty for the rest.
    pub values: Vec<Value>,
    /// How many, in all tables.
    pub entries: Figure,
    /// Where they stand, most first.
    pub parts: Vec<Part>,
    /// Of `entries`, those that stand in a second namespace as well, where Docker tracks them
    /// twice; they are in `entries` twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twice: Option<u64>,
    /// Entries that came less those that went, a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Figure>,
    /// Counted ones by what they are; absent where the namespace was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub make_up: Option<MakeUp>,
}

/// What a row's entries are made of, as shares of those looked at, 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MakeUp {
    /// Entries looked at.
    pub entries: u64,
    /// Assured, not closing, more than a minute to live.
    pub locked: f64,
    /// Not assured: early drop may evict them.
    pub evictable: f64,
    /// Opened by somebody else, through a published port, a Service, or directly.
    pub incoming: f64,
    /// Opened by the holder.
    pub outgoing: f64,
    /// Neither begins nor ends on this host.
    pub forwarded: f64,
    /// Between two ends on this host.
    pub local: f64,
    /// Median seconds since the last packet, of those of which it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_median: Option<u32>,
    /// Whom most of them are with, and how many of those looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_peer: Option<(Peer, u64)>,
    /// Of those looked at, ghosts; absent where they were not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ghosts: Option<u64>,
}

/// The other side of entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// Another holder of this host.
    Holder(Holder),
    /// A client's address.
    Address(IpAddr),
    /// A block of clients' addresses, where no single one of them stands out.
    Network(Network),
    /// An address and port that was asked for.
    Service(Service),
}

/// A row's entries in one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Inode of the namespace.
    pub inode: u64,
    /// How many.
    pub entries: Figure,
    /// As a share of that namespace's limit; absent when there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_limit: Option<f64>,
    /// Half the width of the 95 % interval of `of_limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_limit_margin: Option<f64>,
}

/// A number with its 95 % interval; both ends are the number itself where it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Figure {
    /// A number that was counted.
    pub fn exactly(value: u64) -> Self {
        let value = value as f64;
        Self { value, low: value, high: value }
    }

    /// Whether it was counted.
    pub fn is_exact(&self) -> bool {
        self.low >= self.high
    }
}

/// As it stands in a row; not safe for a terminal.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holder(holder) => holder.fmt(f),
            Self::Service(service) => service.fmt(f),
            Self::Netns(_, name) | Self::State(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
            Self::Port(protocol, port) => write!(f, "{protocol} {port}"),
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::Zone(zone) => zone.fmt(f),
            Self::Mark(mark) => write!(f, "{:#x}", mark.0),
            Self::None => f.write_str("none"),
        }
    }
}

/// As it stands in a row; not safe for a terminal.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holder(holder) => holder.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Service(service) => service.fmt(f),
        }
    }
}

impl Key {
    /// Every key, with the name that people give it.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::Holder, "holder"),
        (Self::Container, "container"),
        (Self::Pod, "pod"),
        (Self::Process, "process"),
        (Self::Service, "service"),
        (Self::Netns, "netns"),
        (Self::Source, "source"),
        (Self::Destination, "destination"),
        (Self::Port, "port"),
        (Self::Protocol, "protocol"),
        (Self::State, "state"),
        (Self::Zone, "zone"),
        (Self::Mark, "mark"),
    ];

    /// The key of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(key, _)| key)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(key, _)| *key == self).map_or("", |(_, name)| name)
    }
}
