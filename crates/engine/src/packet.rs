//! Packets: what the caller hands over, and checked views of it.
//!
//! A view borrows the packet's bytes, is made by a `parse` that checks what the kernel checks before
//! it reads on, and reads its fields without further doubt. What it refuses it names by a
//! [`Reason`](crate::Reason).

pub mod checksum;
mod datagram;
mod gre;
mod icmp;
pub mod rewrite;
mod sctp;
mod tcp;
mod udp;

pub use datagram::Datagram;
pub use icmp::IcmpMessage;
pub use sctp::{Chunk, Chunks, SctpPacket};
pub use tcp::{SynOptions, TcpSegment, flag};
pub use udp::{UdpDatagram, UdpliteDatagram};

use serde::{Deserialize, Serialize};

/// One packet and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The bytes from the network header on: whole datagrams, as the hooks see them behind
    /// defragmentation. What the IP stack drops before any hook is the caller's to leave out: a
    /// wrong checksum of the IPv4 header is not looked at here.
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
