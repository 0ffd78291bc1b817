//! Interfaces and addresses of a network namespace, and how it is tied to others, through rtnetlink
//! (`include/uapi/linux/rtnetlink.h`, `if_link.h`, `if_addr.h`, `net_namespace.h`, Linux 6.12),
//! which is in every kernel: asking loads nothing.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use crate::error::{Errno, Error, Operation};
use crate::netns::Namespace;
use crate::socket::{DUMP_BUFFER, Socket as Netlink};
use crate::sockets::address;
use crate::wire::{Attribute, Attributes, Builder, Malformed, Message, message};

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name: others' choice.
    pub name: String,
    /// What it is, where the kernel says: `veth`, `bridge`, `macvlan`, `wireguard`. Network cards
    /// and the loopback have none.
    pub kind: Option<String>,
    /// The interface that it hangs on, or a veth's other end: an index, in the namespace that
    /// `peer_namespace` tells.
    pub peer: Option<u32>,
    /// In which namespace `peer` is.
    pub peer_namespace: PeerNamespace,
    /// The bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Whether it is a loopback.
    pub is_loopback: bool,
}

/// In which namespace the other end of an interface is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PeerNamespace {
    /// In that of the interface itself, if there is another end at all.
    #[default]
    Same,
    /// In the one that the interface's namespace knows by this number ([`Links::number_of`]).
    Other(u32),
    /// In another one, which has no number here.
    Unknown,
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

/// Where a namespace would send packets for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The interface that they leave by.
    pub index: u32,
    /// The router that they go to; absent when the destination is on the link itself.
    pub gateway: Option<IpAddr>,
}

/// A socket to one namespace's interfaces.
#[derive(Debug)]
pub struct Links {
    netlink: Netlink,
}

impl Links {
    /// Opens one in the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        Netlink::open_protocol(Operation::ReadLinks, libc::NETLINK_ROUTE, 0)
            .map(|netlink| Self { netlink })
    }

    /// Opens one in a namespace.
    pub fn open_in(namespace: &Namespace) -> Result<Self, Error> {
        if namespace.is_current() {
            return Self::open();
        }
        crate::netns::enter(namespace, |_| Self::open())?
    }

    /// The interfaces, without their statistics: a few microseconds each.
    ///
    /// The kernel numbers the namespaces that other ends are in, for itself and for whoever asks, if
    /// it had not yet done so.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let mut request = Builder::default();
        // `struct ifinfomsg`, zero: every interface.
        let flags = message::REQUEST | message::DUMP;
        request.begin_with(GET_LINK, flags, self.netlink.next_sequences(1), &[0; LINK]);
        request.put(EXTENSIONS, &SKIP_STATISTICS.to_ne_bytes());
        self.dump(Operation::ReadLinks, request, |message| match message.kind {
            NEW_LINK => link(message.payload).map(Some),
            _ => Ok(None),
        })
    }

    /// The addresses of all interfaces, loopback's among them. Addresses that only a route makes
    /// local (`ip route add local`) are not.
    pub fn addresses(&mut self) -> Result<Vec<LinkAddress>, Error> {
        let mut request = Builder::default();
        // `struct ifaddrmsg`, zero: every family and interface.
        let flags = message::REQUEST | message::DUMP;
        request.begin_with(GET_ADDRESS, flags, self.netlink.next_sequences(1), &[0; ADDRESS]);
        self.dump(Operation::ReadAddresses, request, |message| match message.kind {
            NEW_ADDRESS => link_address(message.payload),
            _ => Ok(None),
        })
    }

    /// The number by which this namespace knows another one; `None` when it has none for it, as for
    /// itself.
    pub fn number_of(&mut self, other: &Namespace) -> Result<Option<u32>, Error> {
        let mut request = Builder::default();
        let sequence = self.netlink.next_sequences(1);
        // `struct rtgenmsg`, padded.
        request.begin_with(GET_NUMBER, message::REQUEST, sequence, &[0; NUMBER]);
        request.put(NETNSA_FD, &other.as_fd().as_raw_fd().to_ne_bytes());
        let object = || other.to_string();
        self.ask(Operation::ReadNamespaceNumber, &object, request, |message| {
            find(message.payload, NUMBER, NETNSA_NSID)
        })
        .map(|number| number.filter(|number| i32::try_from(*number).is_ok()))
    }

    /// Where packets for an address would go now; `None` when nowhere, or to the namespace itself.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Option<Route>, Error> {
        let mut fixed = [0; ROUTE];
        let mut request = Builder::default();
        let sequence = self.netlink.next_sequences(1);
        let put = |request: &mut Builder, fixed: &[u8; ROUTE], octets: &[u8]| {
            request.begin_with(GET_ROUTE, message::REQUEST, sequence, fixed);
            request.put(RTA_DST, octets);
        };
        match destination {
            IpAddr::V4(address) => {
                (fixed[0], fixed[1]) = (libc::AF_INET as u8, 32);
                put(&mut request, &fixed, &address.octets());
            }
            IpAddr::V6(address) => {
                (fixed[0], fixed[1]) = (libc::AF_INET6 as u8, 128);
                put(&mut request, &fixed, &address.octets());
            }
        }
        let object = || destination.to_string();
        let asked = self.ask(Operation::ReadRoute, &object, request, |message| {
            route(message.payload).map(Some)
        });
        match asked {
            Ok(route) => Ok(route.flatten()),
            Err(error) if error.errno().is_some_and(is_no_route) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for one thing, which the first message of the answer tells.
    fn ask<T>(
        &self,
        operation: Operation,
        object: &dyn Fn() -> String,
        mut request: Builder,
        mut take: impl FnMut(Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Option<T>, Error> {
        if !request.end() {
            return Err(Error::TooLong { operation, object: object() });
        }
        let mut told = None;
        self.netlink.exchange(operation, object, &request.into_bytes(), |message| {
            told = take(message)?;
            Ok(true)
        })?;
        Ok(told)
    }

    /// All of a list, read again when it changed underneath.
    fn dump<T>(
        &self,
        operation: Operation,
        mut request: Builder,
        take: impl Fn(Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, Error> {
        if !request.end() {
            return Err(Error::TooLong { operation, object: String::new() });
        }
        let request = request.into_bytes();
        let mut buffer = vec![0; DUMP_BUFFER];
        for _ in 0..ATTEMPTS {
            let mut list = Vec::new();
            let gather = |message: Message<'_>| {
                list.extend(take(message)?);
                Ok(false)
            };
            let nothing = String::new;
            if !self.netlink.exchange_with(&mut buffer, operation, &nothing, &request, gather)? {
                return Ok(list);
            }
        }
        Err(Error::Interrupted { operation, attempts: ATTEMPTS })
    }
}

/// The addresses of the calling thread's namespace, as [`Links::addresses`] tells them.
pub fn addresses() -> Result<Vec<LinkAddress>, Error> {
    Links::open()?.addresses()
}

/// How often a list that changes meanwhile is read.
const ATTEMPTS: u32 = 5;

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
/// `RTM_GETNSID`.
const GET_NUMBER: u16 = 90;
/// Size of `struct ifinfomsg`.
const LINK: usize = 16;
/// Size of `struct ifaddrmsg`.
const ADDRESS: usize = 8;
/// Size of `struct rtmsg`.
const ROUTE: usize = 12;
/// Size of `struct rtgenmsg`, padded.
const NUMBER: usize = 4;

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
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
/// `RTA_VIA`: family, then a gateway of another family than the route's.
const RTA_VIA: u16 = 18;
/// `RTN_UNICAST`: to one host, by a router or directly.
const UNICAST: u8 = 1;

fn link(payload: &[u8]) -> Result<Link, Malformed> {
    let fixed = payload.first_chunk::<LINK>().ok_or(Malformed::Message)?;
    let index = u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let flags = u32::from_ne_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
    let is_loopback = flags & libc::IFF_LOOPBACK as u32 != 0;
    let mut link = Link { index, is_loopback, ..Link::default() };
    for attribute in Attributes(payload.get(LINK..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.text(),
            IFLA_LINK => link.peer = Some(native(&attribute)?).filter(|peer| *peer != 0),
            IFLA_MASTER => link.master = Some(native(&attribute)?),
            IFLA_LINK_NETNSID => link.peer_namespace = peer_namespace(native(&attribute)?),
            IFLA_LINKINFO => link.kind = kind(&attribute)?,
            _ => {}
        }
    }
    Ok(link)
}

/// `NETNSA_NSID_NOT_ASSIGNED` is -1.
fn peer_namespace(number: u32) -> PeerNamespace {
    match i32::try_from(number) {
        Ok(_) => PeerNamespace::Other(number),
        Err(_) => PeerNamespace::Unknown,
    }
}

fn kind(information: &Attribute<'_>) -> Result<Option<String>, Malformed> {
    for attribute in information.nested() {
        let attribute = attribute?;
        if attribute.kind == IFLA_INFO_KIND {
            return Ok(Some(attribute.text()));
        }
    }
    Ok(None)
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

/// A `struct rtmsg`; `None` for a route that leads to no other host.
fn route(payload: &[u8]) -> Result<Option<Route>, Malformed> {
    let fixed = payload.first_chunk::<ROUTE>().ok_or(Malformed::Message)?;
    let (family, kind) = (i32::from(fixed[0]), fixed[7]);
    let (mut index, mut gateway) = (None, None);
    for attribute in Attributes(payload.get(ROUTE..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind {
            RTA_OIF => index = Some(native(&attribute)?),
            RTA_GATEWAY => gateway = address(family, attribute.value),
            RTA_VIA => {
                let [low, high] = attribute.bytes()?;
                let family = i32::from(u16::from_ne_bytes([low, high]));
                gateway = address(family, attribute.value.get(2..).unwrap_or_default());
            }
            _ => {}
        }
    }
    let index = index.filter(|_| kind == UNICAST);
    Ok(index.map(|index| Route { index, gateway }))
}

/// The first attribute of a kind behind a message's fixed part.
fn find(payload: &[u8], fixed: usize, kind: u16) -> Result<Option<u32>, Malformed> {
    for attribute in Attributes(payload.get(fixed..).unwrap_or_default()) {
        let attribute = attribute?;
        if attribute.kind == kind {
            return native(&attribute).map(Some);
        }
    }
    Ok(None)
}

fn native(attribute: &Attribute<'_>) -> Result<u32, Malformed> {
    attribute.bytes().map(u32::from_ne_bytes)
}

/// No route, or one that refuses (`unreachable`, `prohibit`, `blackhole`), or no such protocol.
const fn is_no_route(errno: Errno) -> bool {
    matches!(
        errno.0,
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::EOPNOTSUPP
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loopback_is_here() {
        let mut here = Links::open().unwrap();
        let links = here.links().unwrap();
        let loopback = links.iter().find(|link| link.is_loopback).unwrap();
        assert_eq!(loopback.name, "lo");
        assert_eq!(loopback.peer_namespace, PeerNamespace::Same);
        let address =
            LinkAddress { index: loopback.index, address: Ipv4Addr::LOCALHOST.into(), prefix: 8 };
        assert!(here.addresses().unwrap().contains(&address));
        assert_eq!(here.route_to(Ipv4Addr::LOCALHOST.into()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            let _ = (link(&bytes), link_address(&bytes), route(&bytes), find(&bytes, 4, 1));
        }
    }
}
