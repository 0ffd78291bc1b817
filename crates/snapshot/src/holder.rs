//! Holders: what entries belong to, and how an address or a socket leads to one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ctkeeper_flow::Protocol;
use serde::{Deserialize, Serialize};

use crate::Network;

/// What an entry belongs to. Every name in it is somebody else's choice: hostile input, not safe
/// for a terminal as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Holder {
    /// A container that is no pod's.
    Container(Container),
    /// A container of a pod, or the pod as a whole where its containers share a network namespace
    /// and cannot be told apart.
    Pod(Pod),
    /// A systemd unit, by its control group: `haproxy.service`.
    Unit {
        /// The unit's name.
        name: String,
    },
    /// A process that is in neither.
    Process {
        /// Its command name (`comm`).
        name: String,
        /// The lowest pid of those that go by the name and share the sockets.
        pid: u32,
    },
    /// A network namespace of which no more is known than its name.
    Namespace {
        /// Its inode.
        inode: u64,
        /// What it goes by.
        name: String,
    },
    /// Somebody on another machine: traffic that is forwarded, neither from nor to this host's.
    Outside,
    /// Nobody known.
    Unattributed(Unattributed),
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Container {
    /// Its whole id.
    pub id: String,
    /// Its name; absent when no runtime told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its image, as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Who runs it: `docker`, `podman`, `containerd`, `cri-o`; absent when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
}

/// A pod, or one of its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pod {
    /// Its Kubernetes namespace; absent when no runtime told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name; absent when no runtime told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its UID, from the runtime or the control group.
    pub uid: String,
    /// Which container of it; absent for the pod as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// Why nobody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Unattributed {
    /// The address is of a network of this host's, and nobody there has it now: who had it has gone,
    /// or whoever has it now came after the entry's last packet.
    Gone {
        /// The address.
        address: IpAddr,
    },
    /// An address of the namespace itself, and no socket there that the entry could be for: it is
    /// left over, or the kernel's own.
    NoSocket,
    /// A socket is there, and whose it is cannot be seen: no privilege.
    Hidden,
    /// Several have the address, and the entry does not tell which of them it is for.
    Ambiguous {
        /// The address.
        address: IpAddr,
    },
}

/// Index of a holder in [`Roster::holders`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HolderIndex(pub u32);

/// Everybody who can hold entries, and what leads to them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Roster {
    /// They: containers, pods, units, processes, named namespaces.
    pub holders: Vec<Holder>,
    /// By a namespace's inode: how things look from its table.
    pub views: BTreeMap<u64, View>,
}

/// How addresses and sockets look from one namespace's table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Who owns the namespace alone: every process in it is this holder's. Then each entry is this
    /// holder's, and its count need not be taken apart.
    pub owner: Option<HolderIndex>,
    /// The namespace's own addresses.
    pub local: HashSet<IpAddr>,
    /// Addresses that namespaces behind this one's interfaces have.
    pub tenants: HashMap<IpAddr, Vec<Tenant>>,
    /// Networks of its interfaces, to tell who has gone from who is outside; default routes are
    /// none.
    pub networks: Vec<Attached>,
    /// Sockets connected in it.
    #[serde(skip)]
    pub connected: HashMap<Connection, SocketHolder>,
    /// Sockets that wait in it for connections or datagrams: protocol, own end (an unspecified
    /// address means any).
    #[serde(skip)]
    pub listening: HashMap<(Protocol, SocketAddr), SocketHolder>,
    /// Whether the sockets are all there are, so that an entry without one has none.
    pub sockets_complete: bool,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// The holder.
    pub holder: HolderIndex,
    /// Inode of the namespace that has the address.
    pub namespace: u64,
    /// Since when at the earliest, `CLOCK_BOOTTIME` milliseconds: the start of its first process.
    pub since_ms: Option<u64>,
}

/// A network that an interface is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The network.
    pub network: Network,
    /// The interface: a name that others chose.
    pub interface: String,
    /// Whether namespaces of this host hang on it (a bridge with veths, a veth), so that an address
    /// in it that nobody has is one of somebody who has gone.
    pub is_inner: bool,
}

/// Both ends of a connected socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// TCP, UDP or another protocol with ports.
    pub protocol: Protocol,
    /// The socket's own end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketHolder {
    /// This holder's.
    Of(HolderIndex),
    /// Somebody's who could not be seen.
    Hidden,
}

/// Characters of a container's id that are shown, as the runtimes' own tools do.
const SHORT_ID: usize = 12;

/// `container web`, `pod shop/cart-7d9 (cart)`, `unit haproxy.service`, `process nginx (812)`,
/// `outside`. Not safe for a terminal as it stands.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(container) => write!(f, "container {container}"),
            Self::Pod(pod) => write!(f, "pod {pod}"),
            Self::Unit { name } => write!(f, "unit {name}"),
            Self::Process { name, pid } => write!(f, "process {name} ({pid})"),
            Self::Namespace { name, .. } => write!(f, "netns {name}"),
            Self::Outside => f.write_str("outside"),
            Self::Unattributed(why) => write!(f, "unattributed: {why}"),
        }
    }
}

/// Its name, else the beginning of its id.
impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.id.get(..SHORT_ID).unwrap_or(&self.id);
        f.write_str(self.name.as_deref().unwrap_or(short))
    }
}

/// `shop/cart-7d9 (cart)`, else its UID.
impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, "{namespace}/{name}")?,
            (None, Some(name)) => f.write_str(name)?,
            (_, None) => f.write_str(&self.uid)?,
        }
        match &self.container {
            Some(container) => write!(f, " ({container})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Unattributed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { address } => write!(f, "{address} has gone"),
            Self::NoSocket => f.write_str("no socket"),
            Self::Hidden => f.write_str("hidden"),
            Self::Ambiguous { address } => write!(f, "several have {address}"),
        }
    }
}
