//! Interfaces and addresses of namespaces, and which of them hang on which.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ctkeeper_netlink::links::{Link, LinkAddress, Links, PeerNamespace};
use ctkeeper_netlink::{Error, netns};
use ctkeeper_snapshot::{Attached, HolderIndex, Network, Tenant, View};

/// What one namespace has.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) inode: u64,
    pub(super) is_initial: bool,
    links: Vec<Link>,
    addresses: Vec<LinkAddress>,
}

impl Places {
    /// Those of the calling thread's namespace.
    pub(super) fn read(inode: u64) -> Result<Self, Error> {
        let mut here = Links::open()?;
        let (links, addresses) = (here.links()?, here.addresses()?);
        Ok(Self { inode, is_initial: netns::in_initial(), links, addresses })
    }

    /// Whether it looks as if others' packets went through it: it has a bridge, or several wires.
    pub(super) fn passes_on(&self) -> bool {
        let wires = self.links.iter().filter(|link| link.name != "lo" && link.master.is_none());
        self.links.iter().any(Kind::is_bridge) || wires.count() > 1
    }

    /// How things look from its table; `owner` tells who has a namespace, and since when.
    pub(super) fn view(
        &self,
        all: &BTreeMap<u64, Self>,
        owner: impl Fn(u64) -> Option<(HolderIndex, Option<u64>)>,
    ) -> View {
        let local: HashSet<IpAddr> = self.addresses.iter().map(|held| held.address).collect();
        let mut tenants: HashMap<IpAddr, Vec<Tenant>> = HashMap::new();
        for other in all.values().filter(|other| other.inode != self.inode) {
            let Some((holder, since_ms)) = owner(other.inode) else { continue };
            let tenant = Tenant { holder, namespace: other.inode, since_ms };
            for address in other.reached_from(self) {
                tenants.entry(address).or_default().push(tenant);
            }
        }
        View { local, tenants, networks: self.networks(), ..View::default() }
    }

    /// Addresses of interfaces that hang on the other namespace.
    fn reached_from(&self, other: &Self) -> impl Iterator<Item = IpAddr> {
        let hanging: HashSet<u32> =
            self.links.iter().filter(|link| other.carries(link)).map(|link| link.index).collect();
        let held = self.addresses.iter().filter(move |held| hanging.contains(&held.index));
        held.map(|held| held.address).filter(|address| !is_link_local(*address))
    }

    /// Whether an interface of another namespace is a veth whose other end is here, or stands on an
    /// interface here (macvlan, ipvlan).
    fn carries(&self, link: &Link) -> bool {
        let Some(peer) = link.peer.filter(|_| !link.is_at_home()) else { return false };
        let Some(here) = self.links.iter().find(|here| here.index == peer) else { return false };
        match link.kind.as_deref() {
            Some("veth") => here.is_veth() && here.peer == Some(link.index),
            Some("macvlan" | "macvtap" | "ipvlan" | "vlan") => here.is_at_home(),
            _ => false,
        }
    }

    fn networks(&self) -> Vec<Attached> {
        let attached = |held: &LinkAddress| {
            let link = self.links.iter().find(|link| link.index == held.index)?;
            let wide = held.prefix == 0 || is_link_local(held.address);
            let network =
                Network { address: first(held.address, held.prefix), prefix: held.prefix };
            let is_inner = self.is_inner(link);
            (!wide && link.name != "lo").then(|| Attached {
                network,
                interface: link.name.clone(),
                is_inner,
            })
        };
        self.addresses.iter().filter_map(attached).collect()
    }

    /// A veth, or a bridge that no wire is plugged into.
    fn is_inner(&self, link: &Link) -> bool {
        let mut ports = self.links.iter().filter(|port| port.master == Some(link.index));
        match link.kind.as_deref() {
            Some("bridge") => ports.all(Kind::is_virtual),
            _ => link.is_veth(),
        }
    }
}

trait Kind {
    /// Whether its other end is in its own namespace, or it has none.
    fn is_at_home(&self) -> bool;
    fn is_veth(&self) -> bool;
    fn is_bridge(&self) -> bool;
    fn is_virtual(&self) -> bool;
}

impl Kind for Link {
    fn is_at_home(&self) -> bool {
        self.peer_namespace == PeerNamespace::Same
    }

    fn is_veth(&self) -> bool {
        self.kind.as_deref() == Some("veth")
    }

    fn is_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge")
    }

    fn is_virtual(&self) -> bool {
        self.is_veth() || self.kind.as_deref() == Some("tun")
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

/// The first address of a network.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}
