//! Addresses, prefixes, and addresses with a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::numbers;

/// Bytes of an address text that conntrack looks at (`INET6_ADDRSTRLEN` without its end).
const LOOKED_AT: usize = 45;

/// The bits behind a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// No slash.
    None,
    /// This many bits, no more than the address has.
    Bits(u8),
    /// No number of bits for this address.
    Invalid,
}

/// An address with the prefix behind it. An empty prefix is one of 0 bits. `None` where the address
/// is none.
pub(super) fn with_prefix(text: &[u8]) -> Option<(IpAddr, Prefix)> {
    let text = &text[..text.len().min(LOOKED_AT)];
    let (address, bits) = match text.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&text[..slash], Some(&text[slash + 1..])),
        None => (text, None),
    };
    let address = parse(address)?;
    let prefix =
        bits.map_or(Prefix::None, |bits| prefix(bits, if address.is_ipv4() { 32 } else { 128 }));
    Some((address, prefix))
}

/// The netmask of a prefix, of the family of `address`.
pub(super) fn netmask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(_) => {
            IpAddr::V4(u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0).into())
        }
        IpAddr::V6(_) => {
            IpAddr::V6(u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0).into())
        }
    }
}

/// `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`, taken apart but not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint<'a> {
    /// The address, or what stands in its place.
    pub(super) address: &'a [u8],
    /// The port.
    pub(super) port: Option<u16>,
}

/// Takes an address and a port apart; the error is conntrack's message.
pub(super) fn endpoint(text: &[u8]) -> Result<Endpoint<'_>, Vec<u8>> {
    let at = |haystack: &[u8], byte: u8| haystack.iter().position(|&other| other == byte);
    let (address, port) = if let Some(open) = at(text, b'[') {
        let inner = &text[open + 1..];
        let close = match at(inner, b']') {
            Some(0) => return Err(b"No IPv6 address specified".to_vec()),
            None => return Err(b"No closing ']' around IPv6 address".to_vec()),
            Some(close) => close,
        };
        (&inner[..close], at(&inner[close..], b':').map(|colon| &inner[close + colon + 1..]))
    } else {
        match at(text, b':') {
            Some(colon) if !text[colon + 1..].contains(&b':') => {
                (&text[..colon], Some(&text[colon + 1..]))
            }
            _ => (text, None),
        }
    };
    match port {
        None => Ok(Endpoint { address: text, port: None }),
        Some(port) => Ok(Endpoint { address, port: Some(parse_port(port)?) }),
    }
}

fn parse_port(text: &[u8]) -> Result<u16, Vec<u8>> {
    if text.is_empty() {
        return Err(b"No port specified after `:'".to_vec());
    }
    let number = text.iter().all(u8::is_ascii_digit).then(|| numbers::long(text));
    number
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| [b"Invalid port `", text, b"'"].concat())
}

fn parse(text: &[u8]) -> Option<IpAddr> {
    parse_v4(text).map(IpAddr::V4).or_else(|| {
        let text = std::str::from_utf8(text).ok()?;
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    })
}

/// An IPv4 address as `inet_aton` reads it: one to four numbers in C's notations, the last of which
/// fills what is left; anything may follow after white space.
fn parse_v4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut address, mut rest) = (0u32, text);
    for place in 0..4u32 {
        if !rest.first()?.is_ascii_digit() {
            return None;
        }
        let (number, behind) = numbers::unsigned(rest, 0);
        let number = u32::try_from(number).ok()?;
        if let [b'.', next @ ..] = behind {
            if place == 3 || number > 0xff {
                return None;
            }
            address |= number << (24 - 8 * place);
            rest = next;
            continue;
        }
        let ends = behind.first().is_none_or(|&byte| numbers::is_space(byte));
        let fits = number <= u32::MAX >> (8 * place);
        return (ends && fits).then(|| Ipv4Addr::from(address | number));
    }
    None
}

fn prefix(text: &[u8], width: u8) -> Prefix {
    let (bits, rest) = numbers::signed(text);
    // What does not fit an int loses its upper half, which may leave a prefix.
    match u8::try_from(bits as i32) {
        Ok(bits) if rest.is_empty() && bits <= width => Prefix::Bits(bits),
        _ => Prefix::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<String> {
        with_prefix(text.as_bytes()).map(|(address, _)| address.to_string())
    }

    #[test]
    fn v4_in_every_notation_of_inet_aton() {
        for (text, expected) in [
            ("10.5.1", "10.5.0.1"),
            ("0x0a.010.1.1", "10.8.1.1"),
            ("167772161", "10.0.0.1"),
            ("10.0xffffff", "10.255.255.255"),
            ("1.2.3.4 and more", "1.2.3.4"),
        ] {
            assert_eq!(address(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "1.2.3.4x",
            "1.2.3.256",
            "256.1",
            "1.2.3.4.5",
            "1.",
            "08.1.1.1",
            " 1.1.1.1",
            "0x.1",
            "4294967296",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn prefixes_with_their_quirks() {
        let prefix = |text: &str| with_prefix(text.as_bytes()).map(|(_, prefix)| prefix);
        assert_eq!(prefix("10.0.0.0/"), Some(Prefix::Bits(0)));
        assert_eq!(prefix("10.0.0.0/ +24"), Some(Prefix::Bits(24)));
        assert_eq!(prefix("10.0.0.0/4294967304"), Some(Prefix::Bits(8)));
        assert_eq!(prefix("10.0.0.0/33"), Some(Prefix::Invalid));
        assert_eq!(prefix("10.0.0.0/255.0.0.0"), Some(Prefix::Invalid));
        assert_eq!(prefix("fd00::/128"), Some(Prefix::Bits(128)));
        assert_eq!(prefix("fd00::/-1"), Some(Prefix::Invalid));
        assert_eq!(prefix("fd00::"), Some(Prefix::None));
    }

    #[test]
    fn endpoints() {
        let port = |text: &str| {
            endpoint(text.as_bytes())
                .map(|found| (String::from_utf8_lossy(found.address).into_owned(), found.port))
                .map_err(|message| String::from_utf8_lossy(&message).into_owned())
        };
        assert_eq!(port("1.2.3.4:80"), Ok(("1.2.3.4".to_owned(), Some(80))));
        assert_eq!(port("[fd00::1]:80"), Ok(("fd00::1".to_owned(), Some(80))));
        assert_eq!(port("[fd00::1]"), Ok(("[fd00::1]".to_owned(), None)));
        assert_eq!(port("fd00::1"), Ok(("fd00::1".to_owned(), None)));
        assert_eq!(port("1.2.3.4:"), Err("No port specified after `:'".to_owned()));
        assert_eq!(port("1.2.3.4:+1"), Err("Invalid port `+1'".to_owned()));
        assert_eq!(port("1.2.3.4:65536"), Err("Invalid port `65536'".to_owned()));
        assert_eq!(port("[]:1"), Err("No IPv6 address specified".to_owned()));
        assert_eq!(port("[::1"), Err("No closing ']' around IPv6 address".to_owned()));
    }

    #[test]
    fn netmasks() {
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        assert_eq!(netmask(v4, 0).to_string(), "0.0.0.0");
        assert_eq!(netmask(v4, 9).to_string(), "255.128.0.0");
        assert_eq!(netmask(v6, 33).to_string(), "ffff:ffff:8000::");
        assert_eq!(netmask(v6, 0).to_string(), "::");
    }
}
