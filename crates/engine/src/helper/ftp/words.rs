//! What FTP says about data connections: PORT and EPRT of the client (RFC 959, RFC 2428), the
//! answers 227 and 229 to PASV and EPSV of the server.

use std::net::Ipv6Addr;

use ctkeeper_flow::{Direction, Family};

use crate::tuple::Tuple;

/// Where the speaker awaits a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) family: Family,
    pub(super) address: u128,
    pub(super) port: u16,
}

impl Endpoint {
    /// The sender of a tuple, which is meant where the words name no address.
    pub(super) const fn of(own: &Tuple) -> Self {
        Self { family: own.family, address: own.source, port: 0 }
    }

    /// With an IPv4 address in its place. In an IPv6 connection that is the first four bytes: such
    /// words make no sense there, and name no host of either side.
    fn with_ipv4(self, address: u32) -> Self {
        let address = match self.family {
            Family::Ipv4 => u128::from(address),
            Family::Ipv6 => u128::from(address) << 96 | self.address & (u128::MAX >> 32),
        };
        Self { address, ..self }
    }
}

/// What was found at the beginning of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// None of the words that matter.
    Nothing,
    /// The beginning of one, or one that says nothing intelligible.
    Part,
    /// An endpoint.
    Whole(Endpoint),
}

/// One of the words: how it begins, the character behind which its numbers begin, and how they are
/// read.
struct Word {
    pattern: &'static [u8],
    skip: Option<u8>,
    read: fn(&[u8], Endpoint) -> Option<Endpoint>,
}

const CLIENT: [Word; 2] = [
    Word { pattern: b"PORT", skip: Some(b' '), read: port },
    Word { pattern: b"EPRT", skip: Some(b' '), read: extended_port },
];
const SERVER: [Word; 2] = [
    Word { pattern: b"227 ", skip: None, read: passive },
    Word { pattern: b"229 ", skip: Some(b'('), read: extended_passive },
];

/// Looks for an endpoint in what one side says. The first word that matches decides.
pub(super) fn find(direction: Direction, said: &[u8], speaker: Endpoint) -> Found {
    let words = match direction {
        Direction::Original => &CLIENT,
        Direction::Reply => &SERVER,
    };
    let mut found = words.iter().map(|word| word.find(said, speaker));
    found.find(|found| *found != Found::Nothing).unwrap_or(Found::Nothing)
}

impl Word {
    fn find(&self, said: &[u8], speaker: Endpoint) -> Found {
        let shared = self.pattern.len().min(said.len());
        if !said[..shared].eq_ignore_ascii_case(&self.pattern[..shared]) {
            return Found::Nothing;
        }
        match self.numbers(said).and_then(|numbers| (self.read)(numbers, speaker)) {
            Some(endpoint) => Found::Whole(endpoint),
            None => Found::Part,
        }
    }

    /// What stands where the numbers should.
    fn numbers<'a>(&self, said: &'a [u8]) -> Option<&'a [u8]> {
        let rest = said.get(self.pattern.len()..)?;
        let Some(skip) = self.skip else { return Some(rest) };
        let before = rest.iter().position(|&byte| byte == skip)?;
        rest.get(before + 1..)
    }
}

/// `192,168,1,1,5,6` and a carriage return.
fn port(said: &[u8], speaker: Endpoint) -> Option<Endpoint> {
    six_numbers(said, Some(b'\r'), speaker)
}

/// As [`port`], behind whatever the server likes to say, and ended by anything.
fn passive(said: &[u8], speaker: Endpoint) -> Option<Endpoint> {
    let start = said.iter().position(u8::is_ascii_digit)?;
    six_numbers(&said[start..], None, speaker)
}

fn six_numbers(said: &[u8], end: Option<u8>, speaker: Endpoint) -> Option<Endpoint> {
    let ([a, b, c, d, high, low], _) = numbers(said, b',', end)?;
    let port = (high << 8 | low) as u16;
    Some(Endpoint { port, ..speaker.with_ipv4(a << 24 | b << 16 | c << 8 | d) })
}

/// `|1|192.168.1.1|1286|` or `|2|2001:db8::1|1286|`, with any delimiter.
fn extended_port(said: &[u8], speaker: Endpoint) -> Option<Endpoint> {
    let (&[delimiter, version, again], rest) = said.split_first_chunk()?;
    let expected = match speaker.family {
        Family::Ipv4 => b'1',
        Family::Ipv6 => b'2',
    };
    if !is_delimiter(delimiter) || again != delimiter || version != expected {
        return None;
    }
    let (speaker, length) = match speaker.family {
        Family::Ipv4 => {
            let ([a, b, c, d], length) = numbers(rest, b'.', Some(delimiter))?;
            (speaker.with_ipv4(a << 24 | b << 16 | c << 8 | d), length)
        }
        Family::Ipv6 => {
            let (address, length) = ipv6_address(rest, delimiter)?;
            (Endpoint { address, ..speaker }, length)
        }
    };
    let port = port_number(rest.get(length + 1..)?, delimiter)?;
    Some(Endpoint { port, ..speaker })
}

/// `|||1286|`, with any delimiter.
fn extended_passive(said: &[u8], speaker: Endpoint) -> Option<Endpoint> {
    let (&[delimiter, second, third], rest) = said.split_first_chunk()?;
    if !is_delimiter(delimiter) || second != delimiter || third != delimiter {
        return None;
    }
    Some(Endpoint { port: port_number(rest, delimiter)?, ..speaker })
}

const fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_graphic() && !byte.is_ascii_digit()
}

/// So many numbers, separated, and how many bytes they take. Only the last may be followed by
/// something else: by `end`, or by anything where that is not given. Numbers wrap, and what is
/// beyond a byte spills into its neighbours, as in the kernel.
fn numbers<const COUNT: usize>(
    said: &[u8],
    separator: u8,
    end: Option<u8>,
) -> Option<([u32; COUNT], usize)> {
    let mut numbers = [0_u32; COUNT];
    let mut at = 0;
    for (length, &byte) in said.iter().enumerate() {
        let number = numbers.get_mut(at)?;
        if byte.is_ascii_digit() {
            *number = number.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'));
        } else if byte == separator {
            at += 1;
        } else {
            let ends = at == COUNT - 1 && end.is_none_or(|end| byte == end);
            return ends.then_some((numbers, length));
        }
    }
    None
}

/// An address up to the delimiter, and its length as text.
fn ipv6_address(said: &[u8], delimiter: u8) -> Option<(u128, usize)> {
    let length = said.iter().position(|&byte| byte == delimiter)?;
    let text = str::from_utf8(&said[..length]).ok()?;
    Some((text.parse::<Ipv6Addr>().ok()?.to_bits(), length))
}

/// A port other than 0 up to the delimiter; it wraps.
fn port_number(said: &[u8], delimiter: u8) -> Option<u16> {
    let length = said.iter().position(|&byte| byte == delimiter)?;
    let digits = &said[..length];
    let port = digits.iter().try_fold(0_u16, |port, &byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        Some(port.wrapping_mul(10).wrapping_add(digit))
    })?;
    (port != 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SPEAKER: Endpoint = Endpoint { family: Family::Ipv4, address: 0x0a00_0001, port: 0 };
    const SPEAKER_IPV6: Endpoint =
        Endpoint { family: Family::Ipv6, address: 0x2001_0db8 << 96 | 1, port: 0 };

    fn client(said: &str) -> Found {
        find(Direction::Original, said.as_bytes(), SPEAKER)
    }

    fn server(said: &str) -> Found {
        find(Direction::Reply, said.as_bytes(), SPEAKER)
    }

    fn at(address: u128, port: u16) -> Found {
        Found::Whole(Endpoint { address, port, ..SPEAKER })
    }

    #[test]
    fn port() {
        assert_eq!(client("PORT 10,0,0,1,5,6\r\n"), at(0x0a00_0001, 1286));
        assert_eq!(client("port  10,0,0,1,5,6\r\n"), Found::Part, "one blank only");
        assert_eq!(client("PORTAL 10,0,0,9,0,20\r\n"), at(0x0a00_0009, 20));
        for cut in ["P", "PORT", "PORT ", "PORT 10,0,0,1,5,6", "PORT 10,0,0,1,5\r", "PORT 1,\n"] {
            assert_eq!(client(cut), Found::Part, "{cut:?}");
        }
        for other in ["USER me\r\n", "227 (10,0,0,1,5,6)\r\n", "XPORT 10,0,0,1,5,6\r\n"] {
            assert_eq!(client(other), Found::Nothing);
        }
    }

    #[test]
    fn what_is_no_byte_spills_over() {
        assert_eq!(client("PORT 10,0,0,257,1,256\r\n"), at(0x0a00_0101, 256));
        assert_eq!(client("PORT 10,0,0,1,256,7\r\n"), at(0x0a00_0001, 7));
    }

    #[test]
    fn passive() {
        let expected = at(0x0a00_0002, 1286);
        assert_eq!(server("227 Entering Passive Mode (10,0,0,2,5,6).\r\n"), expected);
        assert_eq!(server("227 =10,0,0,2,5,6\r\n"), expected);
        assert_eq!(server("227 10,0,0,2,5,6"), Found::Part, "the last number may go on");
        assert_eq!(server("227 no number\r\n"), Found::Part);
        assert_eq!(server("227"), Found::Part);
        assert_eq!(server("2"), Found::Part);
        assert_eq!(server("220 ready\r\n"), Found::Nothing);
    }

    #[test]
    fn extended_port() {
        assert_eq!(client("EPRT |1|10.0.0.1|1286|\r\n"), at(0x0a00_0001, 1286));
        assert_eq!(client("EPRT !1!10.0.0.1!1286!\r\n"), at(0x0a00_0001, 1286));
        for part in [
            "EPRT |2|2001:db8::1|1286|\r\n",
            "EPRT |1|10.0.0.1|0|\r\n",
            "EPRT |1|10.0.0|1286|\r\n",
            "EPRT |1|10.0.0.1|1286",
            "EPRT |1|10.0.0.1|12x6|\r\n",
            "EPRT 11110.0.0.1112861\r\n",
            "EPRT |1!10.0.0.1|1286|\r\n",
            "EPRT |1|",
        ] {
            assert_eq!(client(part), Found::Part, "{part:?}");
        }
    }

    #[test]
    fn extended_port_of_ipv6() {
        let find = |said: &str| find(Direction::Original, said.as_bytes(), SPEAKER_IPV6);
        let address = 0x2001_0db8 << 96 | 2;
        let expected = Found::Whole(Endpoint { address, port: 1286, ..SPEAKER_IPV6 });
        assert_eq!(find("EPRT |2|2001:db8::2|1286|\r\n"), expected);
        assert_eq!(find("EPRT |1|10.0.0.1|1286|\r\n"), Found::Part);
        assert_eq!(find("EPRT |2|2001:db8::x|1286|\r\n"), Found::Part);
        let Found::Whole(mixed) = find("PORT 10,0,0,1,5,6\r\n") else { panic!("not read") };
        assert!(mixed.address != SPEAKER_IPV6.address && mixed.address != 0x0a00_0001);
    }

    #[test]
    fn extended_passive() {
        assert_eq!(server("229 Extended (|||6446|)\r\n"), at(SPEAKER.address, 6446));
        assert_eq!(server("229 Extended (|||6446|"), at(SPEAKER.address, 6446));
        for part in ["229 Extended |||6446|\r\n", "229 (||6446|)", "229 (|||6446)", "229 (|||"] {
            assert_eq!(server(part), Found::Part, "{part:?}");
        }
    }

    proptest! {
        #[test]
        fn takes_any_words(tail in vec(any::<u8>(), 0..60), word in 0..4_usize, reply: bool) {
            let head = [&b"PORT "[..], b"EPRT |1|", b"227 ", b"229 (|||"][word];
            let said = [head, &tail].concat();
            let direction = if reply { Direction::Reply } else { Direction::Original };
            for speaker in [SPEAKER, SPEAKER_IPV6] {
                let found = find(direction, &said, speaker);
                prop_assert_eq!(found == Found::Nothing, reply != (word > 1));
            }
        }

        #[test]
        fn reads_what_a_client_writes(a: u8, b: u8, c: u8, d: u8, port in 1..=u16::MAX) {
            let [high, low] = port.to_be_bytes();
            let expected = at(u32::from_be_bytes([a, b, c, d]).into(), port);
            prop_assert_eq!(client(&format!("PORT {a},{b},{c},{d},{high},{low}\r\n")), expected);
            prop_assert_eq!(client(&format!("EPRT |1|{a}.{b}.{c}.{d}|{port}|\r\n")), expected);
        }
    }
}
