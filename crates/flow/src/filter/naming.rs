//! One connection, named by its tuple in the words of the filter language.

use std::fmt;
use std::net::IpAddr;

use super::keyword::{Keyword, OTHER_PROTOCOLS, meaning};
use super::term::{AddressField, NumberField};
use crate::hostile::escaped;
use crate::{Family, Layer4, Protocol, Tuple, Zone, ZoneDirection};

/// Which entry is meant: a tuple of it, in either direction, and the zone it is in.
///
/// ```
/// # use ctkeeper_flow::filter::Naming;
/// let naming = Naming::parse("tcp 10.0.0.1:4000 10.0.0.2:80")?;
/// assert_eq!(naming, Naming::parse("tcp src 10.0.0.1 sport 4000 dst 10.0.0.2 dport 80")?);
/// # Ok::<(), ctkeeper_flow::filter::NamingError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The tuple.
    pub tuple: Tuple,
    /// The zone; the default one if none is named.
    pub zone: Zone,
}

/// Why some words name no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NamingError {
    /// The word that is wrong, if it is one.
    pub word: Option<String>,
    /// What is wrong with it, or what is missing.
    pub message: String,
}

impl fmt::Display for NamingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.word {
            Some(word) => write!(f, "tuple: `{}` {}", escaped(word), self.message),
            None => write!(f, "tuple: {}", self.message),
        }
    }
}

/// What a whole tuple looks like.
const EXAMPLE: &str = "such as `tcp 10.0.0.1:4000 10.0.0.2:80` or \
                       `icmp src 10.0.0.1 dst 10.0.0.2 icmp-id 77`";

/// ICMP's echo request, what is meant where no type is named.
const ECHO: u8 = 8;
/// ICMPv6's.
const ECHO_V6: u8 = 128;

impl Naming {
    /// Reads words in any order: the protocol, two addresses (the source first, or each behind `src`
    /// and `dst`), with their ports behind a colon or `sport` and `dport` (keys of GRE too), for ICMP
    /// `icmp-type`, `icmp-code` and `icmp-id`, and `zone`, `orig-zone` or `reply-zone`. An arrow
    /// between the ends is passed over, so that a tuple of a message reads back.
    pub fn parse(expression: &str) -> Result<Self, NamingError> {
        let mut draft = Draft::default();
        let mut words = expression.split_whitespace();
        while let Some(word) = words.next() {
            draft.word(word, &mut words)?;
        }
        draft.finish()
    }
}

impl std::str::FromStr for Naming {
    type Err = NamingError;

    fn from_str(expression: &str) -> Result<Self, NamingError> {
        Self::parse(expression)
    }
}

#[derive(Default)]
struct Draft {
    protocol: Option<Protocol>,
    family: Option<Family>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    icmp: (Option<u8>, Option<u8>, Option<u16>),
    zone: Zone,
}

impl Draft {
    fn word<'a>(
        &mut self,
        word: &'a str,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), NamingError> {
        match meaning(word) {
            Some(Keyword::Protocol(protocol)) => self.protocol = Some(protocol),
            Some(Keyword::Family(family)) => self.family = Some(family),
            Some(keyword @ (Keyword::Address(_) | Keyword::Number(_) | Keyword::ProtocolField)) => {
                let value = rest.next().ok_or_else(|| wrong(word, "wants a value"))?;
                self.field(keyword, word, value)?;
            }
            Some(_) => return Err(wrong(word, "belongs to a filter: it is no part of a tuple")),
            None if matches!(word, "→" | "->" | "⇄") => {}
            None => self.end(word)?,
        }
        Ok(())
    }

    fn field(&mut self, field: Keyword, word: &str, value: &str) -> Result<(), NamingError> {
        match field {
            Keyword::ProtocolField => self.protocol = Some(protocol(value)?),
            Keyword::Address(AddressField::OriginalSource) => self.source = Some(address(value)?),
            Keyword::Address(AddressField::OriginalDestination) => {
                self.destination = Some(address(value)?);
            }
            Keyword::Number(NumberField::OriginalSourcePort) => {
                self.source_port = Some(number(value)?);
            }
            Keyword::Number(NumberField::OriginalDestinationPort) => {
                self.destination_port = Some(number(value)?);
            }
            Keyword::Number(NumberField::IcmpType) => self.icmp.0 = Some(number(value)?),
            Keyword::Number(NumberField::IcmpCode) => self.icmp.1 = Some(number(value)?),
            Keyword::Number(NumberField::IcmpId) => self.icmp.2 = Some(number(value)?),
            Keyword::Number(NumberField::Zone) => self.zone = zone(value, ZoneDirection::Both)?,
            Keyword::Number(NumberField::OriginalZone) => {
                self.zone = zone(value, ZoneDirection::Original)?;
            }
            Keyword::Number(NumberField::ReplyZone) => {
                self.zone = zone(value, ZoneDirection::Reply)?;
            }
            _ => return Err(wrong(word, "belongs to a filter: it is no part of a tuple")),
        }
        Ok(())
    }

    /// An address of its own: the source, then the destination.
    fn end(&mut self, word: &str) -> Result<(), NamingError> {
        let (address, port) = endpoint(word).ok_or_else(|| {
            wrong(word, "is neither an address, with a port or not, nor a word of tuples")
        })?;
        if self.source.is_none() {
            (self.source, self.source_port) = (Some(address), port.or(self.source_port));
        } else if self.destination.is_none() {
            self.destination = Some(address);
            self.destination_port = port.or(self.destination_port);
        } else {
            return Err(wrong(word, "is a third address"));
        }
        Ok(())
    }

    fn finish(self) -> Result<Naming, NamingError> {
        let protocol = self.protocol.ok_or_else(|| missing("the protocol is missing"))?;
        let source = self.source.ok_or_else(|| missing("the source address is missing"))?;
        let destination =
            self.destination.ok_or_else(|| missing("the destination address is missing"))?;
        let layer4 = self.layer4(protocol)?;
        let tuple = Tuple { source, destination, protocol, layer4 };
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(missing("the addresses are of different families"));
        }
        if self.family.is_some_and(|family| family != tuple.family()) {
            return Err(missing("the addresses are not of the family that is named"));
        }
        Ok(Naming { tuple, zone: self.zone })
    }

    fn layer4(&self, protocol: Protocol) -> Result<Layer4, NamingError> {
        let (kind, code, id) = self.icmp;
        match (self.source_port, self.destination_port) {
            (None, None) if protocol.is_icmp() => {
                let echo = if protocol == Protocol::ICMPV6 { ECHO_V6 } else { ECHO };
                let id = id.ok_or_else(|| missing("the id is missing: icmp-id"))?;
                Ok(Layer4::Icmp { kind: kind.unwrap_or(echo), code: code.unwrap_or(0), id })
            }
            _ if self.icmp != (None, None, None) => {
                Err(missing("types, codes and ids of ICMP beside another protocol"))
            }
            (None, None) if !protocol.has_ports() => Ok(Layer4::None),
            (Some(source), Some(destination)) if protocol.has_ports() => {
                Ok(Layer4::Ports { source, destination })
            }
            _ if protocol.has_ports() => Err(missing("both ports are needed")),
            _ => Err(missing("ports beside a protocol that has none")),
        }
    }
}

fn wrong(word: &str, message: &str) -> NamingError {
    let word = word.chars().take(40).collect();
    NamingError { word: Some(word), message: message.to_owned() }
}

fn missing(what: &str) -> NamingError {
    NamingError { word: None, message: format!("{what}; write it {EXAMPLE}") }
}

fn address(text: &str) -> Result<IpAddr, NamingError> {
    text.parse().map_err(|_| {
        let is_network = text.contains('/');
        wrong(text, if is_network { NETWORK } else { "is no address" })
    })
}

const NETWORK: &str = "is a network: a tuple has single addresses (`list` takes networks)";

fn number<T: TryFrom<u64>>(text: &str) -> Result<T, NamingError> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let fits = number.and_then(|number| T::try_from(number).ok());
    let largest = (1u64 << (8 * size_of::<T>())) - 1;
    fits.ok_or_else(|| wrong(text, &format!("is no number from 0 to {largest}")))
}

fn zone(text: &str, direction: ZoneDirection) -> Result<Zone, NamingError> {
    let id = number(text)?;
    Ok(if id == 0 { Zone::DEFAULT } else { Zone { id, direction } })
}

fn protocol(text: &str) -> Result<Protocol, NamingError> {
    let other = || OTHER_PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    Protocol::from_name(text)
        .or_else(|| other().map(|(_, number)| Protocol(*number)))
        .or_else(|| number(text).ok().map(Protocol))
        .ok_or_else(|| wrong(text, "is no protocol"))
}

/// `10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]:80`.
fn endpoint(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let text = text.strip_suffix(',').unwrap_or(text);
    if let Ok(address) = text.trim_matches(['[', ']']).parse() {
        return Some((address, None));
    }
    let (address, port) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[') {
        Some(v6) => IpAddr::V6(v6.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    Some((address, Some(port.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tuple(expression: &str) -> String {
        Naming::parse(expression).unwrap().tuple.to_string()
    }

    #[test]
    fn ends_are_written_in_several_ways() {
        let plain = Naming::parse("tcp 10.0.0.1:4000 10.0.0.2:80").unwrap();
        for same in [
            "10.0.0.1:4000 → 10.0.0.2:80 tcp",
            "proto 6 src 10.0.0.1 dst 10.0.0.2 sport 4000 dport 80",
            "TCP dport 80 10.0.0.1 10.0.0.2 sport 0xfa0 ipv4",
        ] {
            assert_eq!(Naming::parse(same).unwrap(), plain, "{same}");
        }
        assert_eq!(tuple("udp [fd00::1]:1 [fd00::2]:2"), "[fd00::1]:1 → [fd00::2]:2 (udp)");
    }

    #[test]
    fn protocols_have_their_own_parts() {
        let echo = Naming::parse("icmp 10.0.0.1 10.0.0.2 icmp-id 77").unwrap();
        assert_eq!(echo.tuple.layer4, Layer4::Icmp { kind: 8, code: 0, id: 77 });
        let echo = Naming::parse("icmpv6 ::1 ::2 icmp-id 77").unwrap();
        assert_eq!(echo.tuple.layer4, Layer4::Icmp { kind: 128, code: 0, id: 77 });
        let esp = Naming::parse("proto esp ::1 ::2 zone 5").unwrap();
        assert_eq!((esp.tuple.protocol, esp.zone), (Protocol(50), Zone::both(5)));
        let reply = Naming::parse("udp 1.1.1.1:1 1.1.1.2:2 reply-zone 9").unwrap();
        assert_eq!(reply.zone, Zone { id: 9, direction: ZoneDirection::Reply });
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        for (expression, message) in [
            ("", "protocol is missing"),
            ("tcp", "source address is missing"),
            ("tcp 10.0.0.1", "destination address is missing"),
            ("tcp 10.0.0.1:1 10.0.0.2", "both ports are needed"),
            ("tcp 10.0.0.1:99999 10.0.0.2:1", "`10.0.0.1:99999` is neither"),
            ("tcp ::1 10.0.0.2 sport 1 dport 2", "different families"),
            ("ipv6 tcp 10.0.0.1:1 10.0.0.2:2", "family that is named"),
            ("tcp src 10.0.0.0/8", "is a network"),
            ("udp 1.1.1.1:1 1.1.1.1:2 1.1.1.1:3", "third address"),
            ("esp", "is neither an address"),
            ("proto 300", "is no protocol"),
            ("tcp state ESTABLISHED", "belongs to a filter"),
            ("tcp sport", "wants a value"),
            ("icmp ::1 ::2", "the id is missing"),
            ("tcp icmp-type 8 ::1 ::2", "another protocol"),
            ("proto 50 1.1.1.1:1 1.1.1.2:2", "has none"),
            ("zone 70000", "from 0 to 65535"),
        ] {
            let error = Naming::parse(expression).unwrap_err().to_string();
            assert!(error.contains(message), "{expression}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_words_do_harm(words in "([a-z-]{1,9} |[0-9a-f:.\\[\\]]{0,12} |\\PC){0,20}") {
            let _ = Naming::parse(&words);
        }
    }
}
