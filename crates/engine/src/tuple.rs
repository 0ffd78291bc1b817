//! The tuple in the engine's form: fixed width, cheap to hash and compare.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ctkeeper_flow::{Family, Layer4, Protocol};

/// Addresses, protocol and layer 4 ids of one direction.
///
/// The same facts as [`ctkeeper_flow::Tuple`], laid out for the packet path; conversions go both
/// ways. An IPv4 address stands in the low 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// Source port, ICMP id, or GRE key of the source.
    pub source_id: u16,
    /// Destination port, ICMP type (high byte) and code (low byte), or GRE key (call id).
    pub destination_id: u16,
    /// IANA number of the layer 4 protocol.
    pub protocol: u8,
    /// Layer 3 family.
    pub family: Family,
}

/// IANA numbers of the protocols that have a tracker.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;
}

impl Tuple {
    /// The tuple of packets in the other direction; `None` for an ICMP message that has no answer
    /// (`nf_ct_invert_tuple`, Linux 6.12).
    #[inline]
    pub const fn inverted(&self) -> Option<Self> {
        let Some([source_id, destination_id]) = self.inverted_ids() else { return None };
        Some(Self {
            source: self.destination,
            destination: self.source,
            source_id,
            destination_id,
            protocol: self.protocol,
            family: self.family,
        })
    }

    /// Source and destination id of the inverted tuple.
    #[inline]
    pub(crate) const fn inverted_ids(&self) -> Option<[u16; 2]> {
        match self.protocol {
            protocol::ICMP | protocol::ICMPV6 => {
                let [kind, code] = self.destination_id.to_be_bytes();
                match answer(self.protocol, kind) {
                    Some(kind) => Some([self.source_id, u16::from_be_bytes([kind, code])]),
                    None => None,
                }
            }
            _ => Some([self.destination_id, self.source_id]),
        }
    }

    /// ICMP type and code, whatever the protocol.
    pub const fn icmp_kind_and_code(&self) -> (u8, u8) {
        let [kind, code] = self.destination_id.to_be_bytes();
        (kind, code)
    }

    /// Source address as the standard library's.
    pub const fn source_address(&self) -> IpAddr {
        address(self.family, self.source)
    }

    /// Destination address as the standard library's.
    pub const fn destination_address(&self) -> IpAddr {
        address(self.family, self.destination)
    }
}

/// The type that answers an ICMP type (`invmap` of `nf_conntrack_proto_icmp.c` and
/// `nf_conntrack_proto_icmpv6.c`, Linux 6.12).
pub(crate) const fn answer(protocol: u8, kind: u8) -> Option<u8> {
    Some(match (protocol, kind) {
        (protocol::ICMP, 8) => 0,
        (protocol::ICMP, 0) => 8,
        (protocol::ICMP, 13) => 14,
        (protocol::ICMP, 14) => 13,
        (protocol::ICMP, 15) => 16,
        (protocol::ICMP, 16) => 15,
        (protocol::ICMP, 17) => 18,
        (protocol::ICMP, 18) => 17,
        (protocol::ICMPV6, 128) => 129,
        (protocol::ICMPV6, 129) => 128,
        (protocol::ICMPV6, 139) => 140,
        (protocol::ICMPV6, 140) => 139,
        _ => return None,
    })
}

const fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

/// An address as the engine keeps it.
pub const fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits() as u128,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl From<ctkeeper_flow::Tuple> for Tuple {
    fn from(tuple: ctkeeper_flow::Tuple) -> Self {
        let (source_id, destination_id) = match tuple.layer4 {
            Layer4::None => (0, 0),
            Layer4::Ports { source, destination } => (source, destination),
            Layer4::Icmp { kind, code, id } => (id, u16::from_be_bytes([kind, code])),
        };
        Self {
            source: address_bits(tuple.source),
            destination: address_bits(tuple.destination),
            source_id,
            destination_id,
            protocol: tuple.protocol.0,
            family: tuple.family(),
        }
    }
}

impl From<Tuple> for ctkeeper_flow::Tuple {
    fn from(tuple: Tuple) -> Self {
        let layer4 = match tuple.protocol {
            protocol::ICMP | protocol::ICMPV6 => {
                let (kind, code) = tuple.icmp_kind_and_code();
                Layer4::Icmp { kind, code, id: tuple.source_id }
            }
            protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP | protocol::GRE => {
                Layer4::Ports { source: tuple.source_id, destination: tuple.destination_id }
            }
            _ => Layer4::None,
        };
        Self {
            source: tuple.source_address(),
            destination: tuple.destination_address(),
            protocol: Protocol(tuple.protocol),
            layer4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverting_twice_gives_the_tuple_back() {
        let echo = Tuple {
            source: 0x0a00_0001,
            destination: 0x0a00_0002,
            source_id: 77,
            destination_id: u16::from_be_bytes([8, 0]),
            protocol: protocol::ICMP,
            family: Family::Ipv4,
        };
        let answer = echo.inverted().unwrap();
        assert_eq!(answer.icmp_kind_and_code(), (0, 0));
        assert_eq!(answer.inverted(), Some(echo));
    }

    #[test]
    fn goes_through_the_vocabulary_and_back() {
        let tcp = Tuple {
            source: 0xfe80_0000_0000_0000_0000_0000_0000_0001,
            destination: 0xfe80_0000_0000_0000_0000_0000_0000_0002,
            source_id: 40_000,
            destination_id: 443,
            protocol: protocol::TCP,
            family: Family::Ipv6,
        };
        assert_eq!(Tuple::from(ctkeeper_flow::Tuple::from(tcp)), tcp);
    }
}
