//! What a scenario is built of, as TOML says it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;

/// What a scenario needs of the host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// It shows itself only where there are so few buckets: in a virtual machine.
    pub buckets_at_most: Option<u64>,
    /// The limit must be at least so high.
    pub limit_at_least: Option<u64>,
    /// No other run of the lab may fill its tables meanwhile: what doctor looks at closely, it
    /// chooses among all namespaces of the host, and small ones beside full ones are passed over.
    pub alone: bool,
    /// Buckets are raised to so many times the limit, and put back at the end.
    pub buckets_per_place: Option<u64>,
}

/// A namespace; `/run/netns/ctk-PID-NAME`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceSpec {
    /// Its role: lower-case letters, digits, dashes.
    pub name: String,
    /// Whether a rule looks at every packet's state, which is what turns tracking on.
    #[serde(default)]
    pub track: bool,
    /// Whether it passes packets on.
    #[serde(default)]
    pub forward: bool,
    /// nftables rules.
    #[serde(default)]
    pub rules: Option<String>,
    /// Values below /proc/sys/net.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Routes: `default via 10.77.1.1`.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Networks every address of which is its own, so that load comes from many clients.
    #[serde(default)]
    pub own: Vec<String>,
}

/// A cable.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// Its two ends.
    pub ends: [EndSpec; 2],
}

/// An end of a cable.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndSpec {
    /// In which namespace.
    pub namespace: String,
    /// The interface's name there.
    pub interface: String,
    /// Its addresses with prefix lengths.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// A switch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeSpec {
    /// In which namespace.
    pub namespace: String,
    /// Its name there.
    pub interface: String,
    /// Its addresses with prefix lengths.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Interfaces that are plugged into it.
    #[serde(default)]
    pub ports: Vec<String>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSpec {
    /// In which namespace.
    pub namespace: String,
    /// What it does.
    pub kind: ServerKind,
    /// Its addresses and ports.
    pub listen: Vec<SocketAddr>,
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    /// Answers each HTTP/1.1 request with 200.
    Http,
    /// Takes TCP connections and says nothing.
    TcpHold,
    /// Sends back what comes over TCP.
    TcpEcho,
    /// Sends back each datagram.
    UdpEcho,
    /// Takes datagrams and says nothing.
    UdpSink,
}

/// HAProxy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaProxySpec {
    /// What phases call it.
    pub name: String,
    /// In which namespace.
    pub namespace: String,
    /// How many processes share its ports.
    #[serde(default = "one")]
    pub processes: u32,
    /// Its configuration; `log stdout format raw local0` makes its log visible here.
    pub config: String,
}

const fn one() -> u32 {
    1
}
