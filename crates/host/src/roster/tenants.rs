//! How things look from one namespace's table: its own addresses, and who has those around it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ctkeeper_netlink::links::{LinkAddress, Route};
use ctkeeper_snapshot::{Attached, HolderIndex, Network, Tenant, View};

use super::places::{Kind, Places, is_narrow};
use super::wiring::Wiring;

/// Wires that are followed from a namespace on.
const DISTANCE: usize = 4;

/// Addresses whose route is asked for, at most: some microseconds each.
const ROUTES: usize = 1024;

/// Where a namespace would send packets for an address.
pub(super) type Router<'a> = &'a mut dyn FnMut(IpAddr) -> Option<Route>;

/// What is around a namespace.
pub(super) struct Surroundings<'a> {
    pub(super) all: &'a BTreeMap<u64, Places>,
    pub(super) wiring: &'a Wiring,
    /// Who has a namespace, and since when, `CLOCK_BOOTTIME` milliseconds.
    pub(super) holders: &'a HashMap<u64, (HolderIndex, Option<u64>)>,
}

/// A namespace that has an address, and the namespace next to the table's by which it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Having {
    inode: u64,
    by: u64,
}

impl Surroundings<'_> {
    /// The view from a namespace's table, without sockets.
    pub(super) fn view(&self, inode: u64, route: Router<'_>) -> View {
        let Some(places) = self.all.get(&inode) else { return View::default() };
        let mut view = self.own(inode);
        let wires = self.wires(inode, places);
        let mut near = self.near(inode, &wires);
        near.retain(|address, _| !view.local.contains(address));
        let mut left = ROUTES;
        let mut leads = |address: IpAddr, having: &[Having]| {
            if left == 0 {
                return Vec::new();
            }
            left -= 1;
            let leading = route(address).map(|route| self.leading(inode, &near, route));
            let is_on_way = |one: &Having| leading.as_ref().is_some_and(|by| by.contains(&one.by));
            having.iter().copied().filter(is_on_way).collect::<Vec<_>>()
        };
        for (address, having) in self.far(inode, &near, &wires) {
            let having =
                if view.local.contains(&address) { Vec::new() } else { leads(address, &having) };
            self.settle(&mut view, address, &having);
        }
        for (address, having) in &near {
            let reached = if having.len() > 1 { leads(*address, having) } else { Vec::new() };
            self.settle(&mut view, *address, if reached.is_empty() { having } else { &reached });
        }
        view
    }

    /// A namespace's own addresses and networks.
    pub(super) fn own(&self, inode: u64) -> View {
        let Some(places) = self.all.get(&inode) else { return View::default() };
        let local = places.addresses.iter().map(|held| held.address).collect();
        let attached =
            places.addresses.iter().filter_map(|held| self.attached(inode, places, held));
        View { local, networks: attached.collect(), ..View::default() }
    }

    fn settle(&self, view: &mut View, address: IpAddr, having: &[Having]) {
        let tenant = |one: &Having| {
            let (holder, since_ms) = *self.holders.get(&one.inode)?;
            Some(Tenant { holder, namespace: one.inode, since_ms })
        };
        let mut tenants: Vec<Tenant> = Vec::new();
        for tenant in having.iter().filter_map(tenant) {
            if !tenants.contains(&tenant) {
                tenants.push(tenant);
            }
        }
        if !tenants.is_empty() {
            view.tenants.insert(address, tenants);
        }
    }

    fn wires(&self, inode: u64, places: &Places) -> HashSet<usize> {
        places.links.iter().filter_map(|link| self.wiring.wire((inode, link.index))).collect()
    }

    /// Addresses on the namespace's own wires.
    fn near(&self, inode: u64, wires: &HashSet<usize>) -> HashMap<IpAddr, Vec<Having>> {
        let mut near: HashMap<IpAddr, Vec<Having>> = HashMap::new();
        let ends = wires.iter().flat_map(|wire| self.wiring.ends(*wire));
        for (other, index) in ends.filter(|(other, _)| *other != inode) {
            for address in self.addresses(*other).filter(|held| held.index == *index) {
                let having = near.entry(address.address).or_default();
                let one = Having { inode: *other, by: *other };
                if !having.contains(&one) {
                    having.push(one);
                }
            }
        }
        near
    }

    /// Addresses behind the namespaces on those wires, which are reached only if the route to them
    /// goes there.
    fn far(
        &self,
        inode: u64,
        near: &HashMap<IpAddr, Vec<Having>>,
        wires: &HashSet<usize>,
    ) -> HashMap<IpAddr, Vec<Having>> {
        let ends = wires.iter().flat_map(|wire| self.wiring.ends(*wire));
        let neighbours: HashSet<u64> =
            ends.map(|(other, _)| *other).filter(|other| *other != inode).collect();
        let mut far: HashMap<IpAddr, Vec<Having>> = HashMap::new();
        for by in neighbours {
            for behind in self.behind(by, inode, wires) {
                for held in self.addresses(behind).filter(|held| !near.contains_key(&held.address))
                {
                    let one = Having { inode: behind, by };
                    let having = far.entry(held.address).or_default();
                    if !having.contains(&one) {
                        having.push(one);
                    }
                }
            }
        }
        far
    }

    /// A namespace and those behind it, as seen from another one on these wires.
    fn behind(&self, first: u64, seen_from: u64, wires: &HashSet<usize>) -> HashSet<u64> {
        let mut seen = HashSet::from([first]);
        let mut edge = vec![first];
        for _ in 1..DISTANCE {
            let mut next = Vec::new();
            for inode in std::mem::take(&mut edge) {
                let Some(places) = self.all.get(&inode) else { continue };
                let onward = self.wires(inode, places).into_iter().filter(|w| !wires.contains(w));
                for (other, _) in onward.flat_map(|wire| self.wiring.ends(wire)) {
                    if *other != seen_from && seen.insert(*other) {
                        next.push(*other);
                    }
                }
            }
            edge = next;
        }
        seen
    }

    /// The neighbours that a route leads to: the gateway's, or all on the wire.
    fn leading(
        &self,
        inode: u64,
        near: &HashMap<IpAddr, Vec<Having>>,
        route: Route,
    ) -> HashSet<u64> {
        let wire = self.wiring.wire((inode, route.index));
        let ends = wire.map_or(&[][..], |wire| self.wiring.ends(wire)).iter();
        let on_wire: HashSet<u64> =
            ends.map(|(other, _)| *other).filter(|other| *other != inode).collect();
        match route.gateway {
            None => on_wire,
            // Link-local gateways mean somebody else on each wire.
            Some(gateway) if is_narrow(gateway) => on_wire,
            Some(gateway) => {
                let having = near.get(&gateway).into_iter().flatten();
                having.map(|one| one.inode).filter(|one| on_wire.contains(one)).collect()
            }
        }
    }

    fn addresses(&self, inode: u64) -> impl Iterator<Item = &LinkAddress> {
        let held = self.all.get(&inode).into_iter().flat_map(|places| &places.addresses);
        held.filter(|held| !is_narrow(held.address))
    }

    fn attached(&self, inode: u64, places: &Places, held: &LinkAddress) -> Option<Attached> {
        let link = places.link(held.index)?;
        if held.prefix == 0 || is_narrow(held.address) || link.is_loopback {
            return None;
        }
        let wire = self.wiring.wire((inode, link.index));
        let has_others = |wire: &usize| self.wiring.ends(*wire).iter().any(|end| end.0 != inode);
        // A bridge without ports is one whose containers have gone.
        let is_inner = wire
            .filter(|wire| self.wiring.is_closed(*wire))
            .is_some_and(|wire| link.is("bridge") || has_others(&wire));
        let network = Network { address: first(held.address, held.prefix), prefix: held.prefix };
        Some(Attached { network, interface: link.name.clone(), is_inner })
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
