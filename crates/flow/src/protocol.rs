//! Layer 3 families and layer 4 protocols.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The layer 3 family of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The kernel's number: `AF_INET` (2) or `AF_INET6` (10), as nfnetlink carries it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }

    /// `ipv4` or `ipv6`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A layer 4 protocol by its IANA number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: Self = Self(1);
    /// Transmission Control Protocol.
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol.
    pub const UDP: Self = Self(17);
    /// Datagram Congestion Control Protocol; not tracked by kernels since 6.16.
    pub const DCCP: Self = Self(33);
    /// Generic Routing Encapsulation.
    pub const GRE: Self = Self(47);
    /// Internet Control Message Protocol for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// Stream Control Transmission Protocol.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite.
    pub const UDPLITE: Self = Self(136);

    /// The name that connection tracking tools print, or `None` for a protocol without a tracker
    /// of its own.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ICMP => "icmp",
            Self::TCP => "tcp",
            Self::UDP => "udp",
            Self::DCCP => "dccp",
            Self::GRE => "gre",
            Self::ICMPV6 => "icmpv6",
            Self::SCTP => "sctp",
            Self::UDPLITE => "udplite",
            _ => return None,
        })
    }

    /// The protocol of a tracker's name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        const NAMED: [Protocol; 8] = [
            Protocol::ICMP,
            Protocol::TCP,
            Protocol::UDP,
            Protocol::DCCP,
            Protocol::GRE,
            Protocol::ICMPV6,
            Protocol::SCTP,
            Protocol::UDPLITE,
        ];
        NAMED.into_iter().find(|p| p.name().is_some_and(|n| n.eq_ignore_ascii_case(name)))
    }

    /// Whether its tuples carry ports (or, for GRE, keys in their place).
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::DCCP | Self::GRE | Self::SCTP | Self::UDPLITE)
    }

    /// Whether its tuples carry an ICMP id, type and code.
    pub const fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }
}

/// The tracker's name, else the number.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}
