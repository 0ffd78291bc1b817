//! What a namespace has: interfaces, addresses, and whether packets of others go through it.

use std::net::IpAddr;
use std::path::Path;

use ctkeeper_netlink::Error;
use ctkeeper_netlink::links::{Link, LinkAddress, Links, PeerNamespace};

use crate::read;

/// What one namespace has.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) is_initial: bool,
    /// Whether entries in it can be of others than its own sockets.
    pub(super) passes_on: bool,
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<LinkAddress>,
}

impl Places {
    /// Those of the calling thread's namespace.
    pub(super) fn read(is_initial: bool) -> Result<Self, Error> {
        let mut here = Links::open()?;
        let (links, addresses) = (here.links()?, here.addresses()?);
        let passes_on = has_switch(&links) || forwards(&links);
        Ok(Self { is_initial, passes_on, links, addresses })
    }

    /// Whether it has got an address yet: a container's process is there before its network is.
    pub(super) fn is_furnished(&self) -> bool {
        self.addresses.iter().any(|held| !is_narrow(held.address))
    }

    pub(super) fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }
}

/// Whether bridged packets may be tracked: a bridge with two ports.
fn has_switch(links: &[Link]) -> bool {
    let is_switch = |bridge: &Link| {
        let ports = links.iter().filter(|port| port.master == Some(bridge.index));
        bridge.is("bridge") && ports.take(2).count() == 2
    };
    links.iter().any(is_switch)
}

/// Whether it has two wires, and sends on what comes in by one of them. New namespaces take the
/// setting over from the initial one, so that it alone says little.
fn forwards(links: &[Link]) -> bool {
    let wires: Vec<_> = links.iter().filter(|link| !link.is_loopback).collect();
    let is_on = |family: &str, name: &str| {
        // The kernel allows no slash in an interface's name.
        let file = Path::new("/proc/sys/net").join(family).join("conf").join(name);
        read::number(file.join("forwarding")).is_some_and(|value| value != 0)
    };
    wires.len() > 1
        && wires.iter().any(|wire| is_on("ipv4", &wire.name) || is_on("ipv6", &wire.name))
}

/// What the kinds of interfaces mean.
pub(super) trait Kind {
    fn is(&self, kind: &str) -> bool;
    /// Whether it hangs on another interface, which leads its packets on.
    fn is_child(&self) -> bool;
    /// Whether its ports are one network with it.
    fn is_switch(&self) -> bool;
    /// Whether it leads nowhere but to other interfaces of this host.
    fn stays_inside(&self) -> bool;
    /// Whether its other end is in another namespace.
    fn is_foreign(&self) -> bool;
}

impl Kind for Link {
    fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    fn is_child(&self) -> bool {
        ["macvlan", "macvtap", "ipvlan", "ipvtap", "vlan"].iter().any(|kind| self.is(kind))
    }

    fn is_switch(&self) -> bool {
        ["bridge", "bond", "team", "openvswitch"].iter().any(|kind| self.is(kind))
    }

    fn stays_inside(&self) -> bool {
        self.is_child() || self.is_switch() || self.is("veth") || self.is("dummy")
    }

    fn is_foreign(&self) -> bool {
        self.peer.is_some() && self.peer_namespace != PeerNamespace::Same
    }
}

/// Whether an address means somebody else in each namespace, or on each link.
pub(super) fn is_narrow(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}
