//! Interfaces and addresses of the calling thread's network namespace, through rtnetlink
//! (`include/uapi/linux/rtnetlink.h`, `if_link.h`, `if_addr.h`, Linux 6.12), which is in every
//! kernel: asking loads nothing.

use std::net::IpAddr;

use crate::error::{Error, Operation};
use crate::sockets::{address, whole_dump};
use crate::wire::{Attribute, Attributes, Malformed};

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name: others' choice.
    pub name: String,
    /// What it is, where the kernel says: `veth`, `bridge`, `macvlan`, `wireguard`.
    pub kind: Option<String>,
    /// The interface that it hangs on, or a veth's other end: an index, in the namespace that
    /// `peer_namespace` tells.
    pub peer: Option<u32>,
    /// The number by which this namespace knows that of `peer`; absent when it is this one.
    pub peer_namespace: Option<u32>,
    /// The bridge or bond that it is a port of.
    pub master: Option<u32>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkAddress {
    /// The interface's index.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Bits that the addresses of its network share.
    pub prefix: u8,
}

/// The interfaces, without their statistics: a few microseconds each.
pub fn links() -> Result<Vec<Link>, Error> {
    let mut links = Vec::new();
    // `struct ifinfomsg`, zero: every interface; then IFLA_EXT_MASK with SKIP_STATS.
    let mut fixed = [0; LINK + 8];
    fixed[LINK..LINK + 2].copy_from_slice(&8_u16.to_ne_bytes());
    fixed[LINK + 2..LINK + 4].copy_from_slice(&EXTENSIONS.to_ne_bytes());
    fixed[LINK + 4..].copy_from_slice(&SKIP_STATISTICS.to_ne_bytes());
    whole_dump(Operation::ReadLinks, libc::NETLINK_ROUTE, GET_LINK, &fixed, |message| {
        if message.kind == NEW_LINK {
            links.push(link(message.payload)?);
        }
        Ok(false)
    })?;
    Ok(links)
}

/// The addresses of all interfaces, loopback's among them. Addresses that only a route makes local
/// (`ip route add local`) are not.
pub fn addresses() -> Result<Vec<LinkAddress>, Error> {
    let mut addresses = Vec::new();
    let whole = [0; ADDRESS];
    whole_dump(Operation::ReadAddresses, libc::NETLINK_ROUTE, GET_ADDRESS, &whole, |message| {
        if message.kind == NEW_ADDRESS {
            addresses.extend(link_address(message.payload)?);
        }
        Ok(false)
    })?;
    Ok(addresses)
}

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
/// Size of `struct ifinfomsg`.
const LINK: usize = 16;
/// Size of `struct ifaddrmsg`.
const ADDRESS: usize = 8;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
/// `IFLA_EXT_MASK`, and `RTEXT_FILTER_SKIP_STATS`.
const EXTENSIONS: u16 = 29;
const SKIP_STATISTICS: u32 = 1 << 3;
const IFLA_LINK_NETNSID: u16 = 37;
/// `IFA_ADDRESS` and `IFA_LOCAL`: they differ where an interface has a peer.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

fn link(payload: &[u8]) -> Result<Link, Malformed> {
    let fixed = payload.first_chunk::<LINK>().ok_or(Malformed::Message)?;
    let index = u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let mut link = Link { index, ..Link::default() };
    for attribute in Attributes(payload.get(LINK..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.text(),
            IFLA_LINK => link.peer = Some(native(&attribute)?).filter(|peer| *peer != 0),
            IFLA_MASTER => link.master = Some(native(&attribute)?),
            // The namespace itself, or an unknown one, is a negative number.
            IFLA_LINK_NETNSID => {
                link.peer_namespace =
                    Some(native(&attribute)?).filter(|id| i32::try_from(*id).is_ok());
            }
            IFLA_LINKINFO => {
                for inner in attribute.nested() {
                    let inner = inner?;
                    if inner.kind == IFLA_INFO_KIND {
                        link.kind = Some(inner.text());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(link)
}

fn link_address(payload: &[u8]) -> Result<Option<LinkAddress>, Malformed> {
    let fixed = payload.first_chunk::<ADDRESS>().ok_or(Malformed::Message)?;
    let family = i32::from(fixed[0]);
    let (mut own, mut either) = (None, None);
    for attribute in Attributes(payload.get(ADDRESS..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind {
            IFA_LOCAL => own = address(family, attribute.value),
            IFA_ADDRESS => either = address(family, attribute.value),
            _ => {}
        }
    }
    let index = u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    Ok(own.or(either).map(|address| LinkAddress { index, address, prefix: fixed[1] }))
}

fn native(attribute: &Attribute<'_>) -> Result<u32, Malformed> {
    attribute.bytes().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loopback_is_here() {
        let links = links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        let address =
            LinkAddress { index: loopback.index, address: Ipv4Addr::LOCALHOST.into(), prefix: 8 };
        assert!(addresses().unwrap().contains(&address));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            let _ = (link(&bytes), link_address(&bytes));
        }
    }
}
