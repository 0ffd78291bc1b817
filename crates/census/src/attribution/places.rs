//! Whose an address is, as a namespace's table sees it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ctkeeper_snapshot::{HolderIndex, View};

use crate::hashing::FastMap;

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The namespace's own.
    Local,
    /// One holder's, since `CLOCK_BOOTTIME` milliseconds if known.
    Tenant(HolderIndex, Option<u64>),
    /// That of several tenants.
    Shared,
    /// Of a network of this host's, where nobody has it.
    Vacant,
    /// A group's, or everybody's on a link.
    Group,
    /// Another machine's.
    Outside,
}

/// Looks addresses up.
#[derive(Debug, Default)]
pub(crate) struct Places {
    known: FastMap<IpAddr, Place>,
    /// Networks by length of their prefix, longest first, and whether they are inner ones.
    networks: Vec<(u8, FastMap<IpAddr, bool>)>,
}

impl Places {
    pub(crate) fn of(view: &View) -> Self {
        let mut known = FastMap::default();
        for (address, tenants) in &view.tenants {
            let holders: HashSet<_> = tenants.iter().map(|tenant| tenant.holder).collect();
            let place = match tenants.as_slice() {
                [] => continue,
                // One holder's address, be it in several of its namespaces: the oldest counts.
                [first, ..] if holders.len() == 1 => {
                    let since = tenants.iter().map(|tenant| tenant.since_ms).min().flatten();
                    Place::Tenant(first.holder, since)
                }
                _ => Place::Shared,
            };
            known.insert(*address, place);
        }
        known.extend(view.local.iter().map(|address| (*address, Place::Local)));
        Self { known, networks: networks(view) }
    }

    #[inline]
    pub(crate) fn of_address(&self, address: IpAddr) -> Place {
        match self.known.get(&address) {
            Some(place) => *place,
            None => self.of_unknown(address),
        }
    }

    fn of_unknown(&self, address: IpAddr) -> Place {
        if address.is_loopback() || address.is_unspecified() {
            return Place::Local;
        }
        if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Place::Group;
        }
        for (prefix, networks) in &self.networks {
            let Some(first) = first_address(address, *prefix) else { continue };
            match networks.get(&first) {
                Some(true) if is_broadcast(address, *prefix) => return Place::Group,
                Some(true) => return Place::Vacant,
                Some(false) => return Place::Outside,
                None => {}
            }
        }
        Place::Outside
    }
}

fn networks(view: &View) -> Vec<(u8, FastMap<IpAddr, bool>)> {
    let mut by_prefix: Vec<(u8, FastMap<IpAddr, bool>)> = Vec::new();
    for attached in &view.networks {
        let prefix = attached.network.prefix;
        // Everything is in a default route.
        let Some(first) = first_address(attached.network.address, prefix) else { continue };
        let at = by_prefix.iter().position(|(length, _)| *length == prefix).unwrap_or_else(|| {
            by_prefix.push((prefix, FastMap::default()));
            by_prefix.len() - 1
        });
        *by_prefix[at].1.entry(first).or_default() |= attached.is_inner;
    }
    by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(*prefix));
    by_prefix
}

/// The first address of the block of this length around one; `None` where that is no block: longer
/// than the address, or everything.
fn first_address(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    if prefix == 0 {
        return None;
    }
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix)?)?;
            Some(IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask)))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix)?)?;
            Some(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)))
        }
    }
}

/// Whether it is the last address of its IPv4 network, which is everybody's there.
fn is_broadcast(address: IpAddr, prefix: u8) -> bool {
    let IpAddr::V4(v4) = address else { return false };
    prefix < 31 && v4.to_bits() | (u32::MAX >> prefix) == v4.to_bits()
}

#[cfg(test)]
mod tests {
    use ctkeeper_snapshot::{Attached, Network, Tenant};

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn attached(first: &str, prefix: u8, is_inner: bool) -> Attached {
        let network = Network { address: address(first), prefix };
        Attached { network, interface: "if0".to_owned(), is_inner }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let networks = vec![
            attached("10.0.0.0", 8, false),
            attached("10.88.0.1", 16, true),
            attached("10.88.7.0", 24, false),
            attached("fd00::", 64, true),
            attached("0.0.0.0", 0, true),
            attached("10.0.0.0", 33, true),
        ];
        let places = Places::of(&View { networks, ..View::default() });
        let place = |text| places.of_address(address(text));
        assert_eq!(place("10.88.1.2"), Place::Vacant);
        assert_eq!(place("10.88.7.2"), Place::Outside);
        assert_eq!(place("10.89.1.2"), Place::Outside);
        assert_eq!(place("192.0.2.1"), Place::Outside);
        assert_eq!(place("fd00::77"), Place::Vacant);
        assert_eq!(place("fd00:0:0:1::77"), Place::Outside);
    }

    #[test]
    fn some_addresses_are_nobodys_alone() {
        let networks = vec![attached("172.17.0.0", 16, true)];
        let places = Places::of(&View { networks, ..View::default() });
        for group in ["172.17.255.255", "224.0.0.251", "255.255.255.255", "ff02::fb"] {
            assert_eq!(places.of_address(address(group)), Place::Group, "{group}");
        }
        for local in ["127.0.0.53", "::1", "0.0.0.0"] {
            assert_eq!(places.of_address(address(local)), Place::Local, "{local}");
        }
    }

    #[test]
    fn an_address_of_one_holder_twice_is_not_shared() {
        let tenant =
            |holder, since_ms| Tenant { holder: HolderIndex(holder), namespace: 1, since_ms };
        let tenants = [
            (address("10.0.0.1"), vec![tenant(1, Some(9)), tenant(1, Some(5))]),
            (address("10.0.0.2"), vec![tenant(1, None), tenant(2, None)]),
            (address("10.0.0.3"), vec![]),
        ];
        let view = View { tenants: tenants.into(), ..View::default() };
        let places = Places::of(&view);
        let place = |text| places.of_address(address(text));
        assert_eq!(place("10.0.0.1"), Place::Tenant(HolderIndex(1), Some(5)));
        assert_eq!(place("10.0.0.2"), Place::Shared);
        assert_eq!(place("10.0.0.3"), Place::Outside);
    }
}
