//! Groups of a sample's entries: who sends, where to, and what they compete for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ctkeeper_flow::Protocol;
use serde::{Deserialize, Serialize};

/// The largest group of a sample's entries by one property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Largest<T> {
    /// What they have in common.
    pub what: T,
    /// How many of the sample they are.
    pub entries: u64,
}

/// An address block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Bits that its addresses share.
    pub prefix: u8,
}

impl Network {
    /// The block that is usually one owner's: /24 of IPv4, /64 of IPv6.
    pub fn around(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let first = (v4.to_bits() & !0xff).into();
                Self { address: IpAddr::V4(first), prefix: 24 }
            }
            IpAddr::V6(v6) => {
                let first = (v6.to_bits() & !u128::from(u64::MAX)).into();
                Self { address: IpAddr::V6(first), prefix: 64 }
            }
        }
    }
}

/// `203.0.113.0/24`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Where packets go: address, protocol and, if it has any, port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Service {
    /// The address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// `tcp 203.0.113.7:443`, `icmp 203.0.113.7`.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{} {}", self.protocol, SocketAddr::new(self.address, port)),
            None => write!(f, "{} {}", self.protocol, self.address),
        }
    }
}

/// Who sends the flows of a sample that have seen no answer, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// The source with most of them.
    pub source: Option<Largest<IpAddr>>,
    /// The block of sources with most of them.
    pub network: Option<Largest<Network>>,
    /// The destination with most of them, as the senders see it.
    pub destination: Option<Largest<Service>>,
}

/// Flows whose source is translated to one address on their way to one destination: each needs a
/// port of that address for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGroup {
    /// The address that sources are translated to.
    pub translated_to: IpAddr,
    /// The destination, as it is after its own translation.
    pub destination: Service,
    /// How many of the sample they are.
    pub entries: u64,
    /// Different ports among them.
    pub ports: u64,
    /// The lowest of these ports.
    pub lowest: u16,
    /// The highest.
    pub highest: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_begin_at_their_first_address() {
        let around = |text: &str| Network::around(text.parse().unwrap()).to_string();
        assert_eq!(around("203.0.113.77"), "203.0.113.0/24");
        assert_eq!(around("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    }

    #[test]
    fn services_read_as_tools_write_them() {
        let service = |text: &str, port| Service {
            address: text.parse().unwrap(),
            protocol: Protocol::TCP,
            port,
        };
        assert_eq!(service("203.0.113.7", Some(443)).to_string(), "tcp 203.0.113.7:443");
        assert_eq!(service("2001:db8::1", Some(53)).to_string(), "tcp [2001:db8::1]:53");
        assert_eq!(service("203.0.113.7", None).to_string(), "tcp 203.0.113.7");
    }
}
