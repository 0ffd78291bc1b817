//! Translation of addresses: which tuple a connection gets.

pub(crate) mod bind;
pub(crate) mod by_source;
pub(crate) mod translation;
mod unique;

pub(crate) use translation::packet_at;

pub use unique::End;

use std::net::IpAddr;

use ctkeeper_flow::Family;
use serde::{Deserialize, Serialize};

use crate::tuple::address_bits;

/// What an address of a connection may become (`struct nf_nat_range2`,
/// `include/uapi/linux/netfilter/nf_nat.h`, Linux 6.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Range {
    /// First and last address, as [`Tuple`](crate::Tuple) keeps addresses; `None` to keep the
    /// connection's. Those of IPv6 say nothing about a connection of IPv4.
    pub addresses: Option<(u128, u128)>,
    /// First and last port (ICMP: id; GRE: key); `None` to keep the connection's as long as it
    /// is free.
    pub ports: Option<(u16, u16)>,
    /// Ports are shifted: the port of the packet less this one counts from the first of `ports`.
    pub base_port: Option<u16>,
    /// `random` and `fully-random`, which have the same effect in the kernels modelled here: the
    /// port is drawn, not kept.
    pub random: bool,
    /// `persistent`: a client gets the same address for every destination.
    pub persistent: bool,
    /// Masquerading: the interface whose address this is. The connection ends when that address
    /// goes and when its packets leave by another interface.
    pub masquerade: Option<u32>,
}

impl Range {
    /// No address and no port: everything stays as it is.
    pub const KEEP: Self = Self {
        addresses: None,
        ports: None,
        base_port: None,
        random: false,
        persistent: false,
        masquerade: None,
    };

    /// One address.
    pub const fn to(address: IpAddr) -> Self {
        Self::KEEP.at(address)
    }

    /// Several addresses, of one family, from the first to the last.
    pub const fn between(first: IpAddr, last: IpAddr) -> Self {
        let addresses = Some((address_bits(first), address_bits(last)));
        Self { addresses, ..Self::KEEP }
    }

    /// The address of the interface that packets leave by.
    pub const fn masquerade(address: IpAddr, interface: u32) -> Self {
        Self { masquerade: Some(interface), ..Self::to(address) }
    }

    /// With one address, whatever it had.
    #[must_use]
    pub const fn at(mut self, address: IpAddr) -> Self {
        self.addresses = Some((address_bits(address), address_bits(address)));
        self
    }

    /// Whether its addresses can be those of a family's packets.
    pub(crate) const fn suits(&self, family: Family) -> bool {
        match (family, self.addresses) {
            (Family::Ipv4, Some((first, last))) => (first | last) >> 32 == 0,
            _ => true,
        }
    }

    /// With ports from the first to the last.
    #[must_use]
    pub const fn ports(mut self, first: u16, last: u16) -> Self {
        self.ports = Some((first, last));
        self
    }

    /// With ports drawn at random.
    #[must_use]
    pub const fn random(mut self) -> Self {
        self.random = true;
        self
    }

    /// With the same address for a client whatever its destination.
    #[must_use]
    pub const fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }
}
