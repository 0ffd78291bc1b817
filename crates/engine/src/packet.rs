//! Packets: what the caller hands over, and checked views of it.

use ctkeeper_flow::Family;
use serde::{Deserialize, Serialize};

use crate::outcome::Reason;
use crate::tuple::Tuple;

/// One packet and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The bytes from the network header on: whole datagrams, as the hooks see them behind
    /// defragmentation.
    pub bytes: &'a [u8],
    /// The namespace it travels through ([`Engine::add_namespace`](crate::Engine)).
    pub namespace: u16,
    /// The way it takes through that namespace.
    pub route: Route,
    /// The interface it came in by; 0 for none. Any numbering of the caller's.
    pub input: u32,
    /// The interface it goes out by; 0 for none.
    pub output: u32,
    /// Its mark before any rule.
    pub mark: u32,
    /// Whether the caller vouches for its layer 4 checksum (a network card did verify it).
    pub checksum_verified: bool,
}

/// The way of a packet through a namespace, which decides the hooks it meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// From outside to a local socket: prerouting, input.
    Input,
    /// Through: prerouting, forward, postrouting.
    #[default]
    Forward,
    /// From a local socket: output, postrouting.
    Output,
}

impl<'a> Packet<'a> {
    /// A packet that is forwarded through the first namespace.
    pub const fn new(bytes: &'a [u8]) -> Self {
        let (namespace, input, output, mark) = (0, 0, 0, 0);
        let (route, checksum_verified) = (Route::Forward, false);
        Self { bytes, namespace, route, input, output, mark, checksum_verified }
    }
}

/// A datagram whose network header has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Layer 3 family.
    pub family: Family,
    /// Source address; IPv4 in the low 32 bits.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// Layer 4 protocol, behind all extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Bytes before the layer 4 header.
    pub header: usize,
    /// Length of the datagram in bytes by its header, which accounting counts.
    pub length: u32,
    /// From the layer 4 header to the end of the datagram.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Checks the network header of `bytes`.
    ///
    /// # Errors
    /// [`Reason::NetworkHeader`] and [`Reason::Fragment`], as `nf_conntrack_in` finds no layer 4
    /// header then (`get_l4proto`, `nf_conntrack_core.c`, Linux 6.12).
    pub fn parse(_bytes: &'a [u8]) -> Result<Self, Reason> {
        Err(Reason::NetworkHeader)
    }

    /// The tuple in the direction of the packet.
    ///
    /// # Errors
    /// [`Reason::Layer4Short`], [`Reason::Gre`] (`nf_ct_get_tuple`, Linux 6.12).
    pub fn tuple(&self) -> Result<Tuple, Reason> {
        Err(Reason::Layer4Short)
    }
}
