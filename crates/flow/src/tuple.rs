//! The tuple: what identifies one direction of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{Family, Protocol};

/// One of the two directions of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The direction of the first packet.
    Original,
    /// The direction of the answers.
    Reply,
}

/// The layer 4 part of a tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer4 {
    /// A protocol without ports or ids.
    #[default]
    None,
    /// Ports of TCP, UDP, UDP-Lite, SCTP and DCCP; for GRE its keys.
    Ports {
        /// Source port or key.
        source: u16,
        /// Destination port or key.
        destination: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// Echo identifier.
        id: u16,
    },
}

/// Addresses, protocol and ports or ids of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family as `source`.
    pub destination: IpAddr,
    /// Layer 4 protocol.
    pub protocol: Protocol,
    /// Ports or ids.
    pub layer4: Layer4,
}

impl Tuple {
    /// A tuple with ports, as of TCP and UDP.
    pub const fn with_ports(
        protocol: Protocol,
        (source, source_port): (IpAddr, u16),
        (destination, destination_port): (IpAddr, u16),
    ) -> Self {
        let layer4 = Layer4::Ports { source: source_port, destination: destination_port };
        Self { source, destination, protocol, layer4 }
    }

    /// The family of its addresses.
    pub const fn family(&self) -> Family {
        match self.source {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    /// Source port (or GRE key), if the protocol has any.
    pub const fn source_port(&self) -> Option<u16> {
        match self.layer4 {
            Layer4::Ports { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Destination port (or GRE key), if the protocol has any.
    pub const fn destination_port(&self) -> Option<u16> {
        match self.layer4 {
            Layer4::Ports { destination, .. } => Some(destination),
            _ => None,
        }
    }

    /// The tuple that an answer without address translation has, or `None` for an ICMP type that
    /// has no answer.
    ///
    /// Source: `net/netfilter/nf_conntrack_proto_icmp.c` and `_icmpv6.c` (Linux 6.12), `invmap`.
    pub const fn inverted(&self) -> Option<Self> {
        let layer4 = match self.layer4 {
            Layer4::None => Layer4::None,
            Layer4::Ports { source, destination } => {
                Layer4::Ports { source: destination, destination: source }
            }
            Layer4::Icmp { kind, code, id } => match answer_type(self.protocol, kind) {
                Some(kind) => Layer4::Icmp { kind, code, id },
                None => return None,
            },
        };
        Some(Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            layer4,
        })
    }
}

/// An all-zero IPv4 tuple of protocol 0: a value to fill in.
impl Default for Tuple {
    fn default() -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self { source: any, destination: any, protocol: Protocol(0), layer4: Layer4::None }
    }
}

/// `10.0.0.1:4000 → 10.0.0.2:80 (tcp)`, for messages; the text forms are elsewhere.
impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer4 {
            Layer4::Ports { source, destination } => {
                endpoint(f, self.source, source)?;
                f.write_str(" → ")?;
                endpoint(f, self.destination, destination)?;
            }
            Layer4::Icmp { kind, code, id } => {
                write!(f, "{} → {}", self.source, self.destination)?;
                write!(f, " type {kind} code {code} id {id}")?;
            }
            Layer4::None => write!(f, "{} → {}", self.source, self.destination)?,
        }
        write!(f, " ({})", self.protocol)
    }
}

fn endpoint(f: &mut fmt::Formatter<'_>, address: IpAddr, port: u16) -> fmt::Result {
    match address {
        IpAddr::V4(v4) => write!(f, "{v4}:{port}"),
        IpAddr::V6(v6) => write!(f, "[{v6}]:{port}"),
    }
}

const fn answer_type(protocol: Protocol, kind: u8) -> Option<u8> {
    Some(match (protocol, kind) {
        (Protocol::ICMP, 8) => 0,
        (Protocol::ICMP, 0) => 8,
        (Protocol::ICMP, 13) => 14,
        (Protocol::ICMP, 14) => 13,
        (Protocol::ICMP, 15) => 16,
        (Protocol::ICMP, 16) => 15,
        (Protocol::ICMP, 17) => 18,
        (Protocol::ICMP, 18) => 17,
        (Protocol::ICMPV6, 128) => 129,
        (Protocol::ICMPV6, 129) => 128,
        (Protocol::ICMPV6, 139) => 140,
        (Protocol::ICMPV6, 140) => 139,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_swap_when_inverted() {
        let tuple = Tuple::with_ports(
            Protocol::TCP,
            ("10.0.0.1".parse().unwrap(), 4000),
            ("10.0.0.2".parse().unwrap(), 80),
        );
        let back = tuple.inverted().unwrap();
        assert_eq!(back.source_port(), Some(80));
        assert_eq!(back.destination.to_string(), "10.0.0.1");
        assert_eq!(back.inverted(), Some(tuple));
    }

    #[test]
    fn icmp_errors_have_no_answer() {
        let layer4 = Layer4::Icmp { kind: 3, code: 1, id: 0 };
        let tuple = Tuple { protocol: Protocol::ICMP, layer4, ..Tuple::default() };
        assert_eq!(tuple.inverted(), None);
    }
}
