//! What packets a rule is about.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ctkeeper_flow::Family;
use serde::{Deserialize, Serialize};

use crate::outcome::Class;
use crate::rules::{Hook, Visit};
use crate::tuple::address_bits;

/// What packets a rule is about: every part that is given must fit. The default fits all.
///
/// Addresses and ports are those of the packet at the hook where the rule is asked, as
/// `ip saddr`, `th dport` of nftables: behind a translation they are the translated ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// The namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u16>,
    /// Layer 3 family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Number of the layer 4 protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Where the source address lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Prefix>,
    /// Where the destination address lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Prefix>,
    /// First and last source port, of protocols that have ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<(u16, u16)>,
    /// First and last destination port, of protocols that have ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<(u16, u16)>,
    /// The interface it came in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u32>,
    /// The interface it goes out by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u32>,
    /// `ct state`; none for any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<Class>,
    /// The packet's mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// The connection's mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_mark: Option<u32>,
}

/// Building.
impl Match {
    /// Every packet.
    pub fn all() -> Self {
        Self::default()
    }

    /// At a hook.
    #[must_use]
    pub const fn at(mut self, hook: Hook) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Within a namespace.
    #[must_use]
    pub const fn namespace(mut self, namespace: u16) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Of a layer 3 family.
    #[must_use]
    pub const fn family(mut self, family: Family) -> Self {
        self.family = Some(family);
        self
    }

    /// Of a layer 4 protocol.
    #[must_use]
    pub const fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// From these addresses.
    #[must_use]
    pub const fn source(mut self, prefix: Prefix) -> Self {
        self.source = Some(prefix);
        self
    }

    /// To these addresses.
    #[must_use]
    pub const fn destination(mut self, prefix: Prefix) -> Self {
        self.destination = Some(prefix);
        self
    }

    /// From these ports.
    #[must_use]
    pub const fn source_ports(mut self, first: u16, last: u16) -> Self {
        self.source_ports = Some((first, last));
        self
    }

    /// To these ports.
    #[must_use]
    pub const fn destination_ports(mut self, first: u16, last: u16) -> Self {
        self.destination_ports = Some((first, last));
        self
    }

    /// That came in by an interface.
    #[must_use]
    pub const fn input(mut self, interface: u32) -> Self {
        self.input = Some(interface);
        self
    }

    /// That go out by an interface.
    #[must_use]
    pub const fn output(mut self, interface: u32) -> Self {
        self.output = Some(interface);
        self
    }

    /// In one of these states.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = Class>) -> Self {
        self.states.extend(states);
        self
    }

    /// With a mark.
    #[must_use]
    pub const fn mark(mut self, mark: u32) -> Self {
        self.mark = Some(mark);
        self
    }

    /// Of connections with a mark.
    #[must_use]
    pub const fn connection_mark(mut self, mark: u32) -> Self {
        self.connection_mark = Some(mark);
        self
    }
}

/// Matching.
impl Match {
    /// Whether a packet at a hook fits.
    pub fn fits(&self, visit: &Visit<'_>) -> bool {
        let packet = visit.packet;
        is_or_any(self.hook, visit.hook)
            && is_or_any(self.namespace, packet.namespace)
            && is_or_any(self.family, visit.datagram.family)
            && is_or_any(self.protocol, visit.datagram.protocol)
            && is_or_any(self.input, packet.input)
            && is_or_any(self.output, packet.output)
            && is_or_any(self.mark, visit.mark)
            && (self.states.is_empty() || self.states.contains(&visit.class))
            && self.connection_mark.is_none_or(|mark| {
                visit.connection.is_some_and(|connection| connection.mark == mark)
            })
            && self.fits_addresses(visit)
            && self.fits_ports(visit)
    }

    fn fits_addresses(&self, visit: &Visit<'_>) -> bool {
        if self.source.is_none() && self.destination.is_none() {
            return true;
        }
        let datagram = visit.datagram;
        let (source, destination) = match &visit.tuple {
            Some(tuple) => (tuple.source, tuple.destination),
            None => (datagram.source, datagram.destination),
        };
        let lies = |prefix: Option<Prefix>, address| {
            prefix.is_none_or(|prefix| prefix.contains_bits(datagram.family, address))
        };
        lies(self.source, source) && lies(self.destination, destination)
    }

    fn fits_ports(&self, visit: &Visit<'_>) -> bool {
        if self.source_ports.is_none() && self.destination_ports.is_none() {
            return true;
        }
        let Some(tuple) = visit.tuple.filter(|tuple| has_ports(tuple.protocol)) else {
            return false;
        };
        let lies = |ports: Option<(u16, u16)>, port| {
            ports.is_none_or(|(first, last)| (first..=last).contains(&port))
        };
        lies(self.source_ports, tuple.source_id)
            && lies(self.destination_ports, tuple.destination_id)
    }

    /// Whether it may fit packets of a family in a namespace.
    pub(super) fn concerns(&self, namespace: u16, family: Family) -> bool {
        is_or_any(self.namespace, namespace)
            && is_or_any(self.family, family)
            && [self.source, self.destination]
                .iter()
                .flatten()
                .all(|prefix| prefix.family() == family)
    }
}

fn is_or_any<T: PartialEq + Copy>(wanted: Option<T>, is: T) -> bool {
    wanted.is_none_or(|wanted| wanted == is)
}

const fn has_ports(protocol: u8) -> bool {
    use crate::tuple::protocol::{SCTP, TCP, UDP, UDPLITE};
    matches!(protocol, TCP | UDP | UDPLITE | SCTP)
}

/// A set of addresses that begin alike, `192.0.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
    bits: u128,
    mask: u128,
}

/// What is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The part before the slash is no address.
    #[error("`{0}` is no address: write 192.0.2.0/24 or 2001:db8::/32")]
    Address(String),
    /// The part behind the slash is no number of bits that the address has.
    #[error("/{length} is too long for an address of {bits} bits")]
    Length {
        /// What was given.
        length: String,
        /// What would be the most.
        bits: u8,
    },
}

impl Prefix {
    /// Addresses of which the first `length` bits are those of `address`.
    ///
    /// # Errors
    /// [`PrefixError::Length`] when the address has fewer bits.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let width = width(address);
        if length > width {
            return Err(PrefixError::Length { length: length.to_string(), bits: width });
        }
        let all = u128::MAX >> (128 - u32::from(width));
        let below = all.checked_shr(u32::from(length)).unwrap_or(0);
        let mask = all ^ below;
        Ok(Self { address, length, bits: address_bits(address) & mask, mask })
    }

    /// One address.
    pub const fn host(address: IpAddr) -> Self {
        let (length, bits) = (width(address), address_bits(address));
        Self { address, length, bits, mask: u128::MAX >> (128 - length as u32) }
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.contains_bits(family(address), address_bits(address))
    }

    fn contains_bits(&self, family: Family, address: u128) -> bool {
        self.family() == family && address & self.mask == self.bits
    }

    /// Family of its addresses.
    pub const fn family(&self) -> Family {
        family(self.address)
    }
}

const fn family(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// An address, or an address, a slash and a number of bits.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| PrefixError::Address(address.to_owned()))?;
        let Some(length) = length else { return Ok(Self::host(address)) };
        let bits = width(address);
        let length =
            length.parse().map_err(|_| PrefixError::Length { length: length.to_owned(), bits })?;
        Self::new(address, length)
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_hold_what_begins_alike() {
        for (prefix, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.77/24", "192.0.2.1", "192.0.1.255"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "0.0.0.0"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("2001:db8::1/128", "2001:db8::1", "2001:db8::"),
        ] {
            let prefix: Prefix = prefix.parse().unwrap();
            assert!(prefix.contains(address(inside)), "{prefix} {inside}");
            assert!(!prefix.contains(address(outside)), "{prefix} {outside}");
            assert_eq!(prefix.to_string().parse(), Ok(prefix));
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        assert_eq!("here/3".parse::<Prefix>(), Err(PrefixError::Address("here".to_owned())));
        for text in ["192.0.2.0/33", "::/129", "::/", "::/-1", "::/256"] {
            let error = text.parse::<Prefix>().unwrap_err();
            assert!(matches!(error, PrefixError::Length { .. }), "{text}: {error}");
        }
    }
}
