//! The packet inside an ICMP error.

use ctkeeper_flow::Family;

use super::error::Kind;
use super::gre::{KeyMap, is_call_header};
use super::wire::{u16_at, u32_at, u128_at};
use crate::outcome::Reason;
use crate::tuple::{Tuple, protocol};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// Bits of the fragment field that tell the offset, in IPv4 and IPv6.
const IPV4_OFFSET: u16 = 0x1fff;
const IPV6_OFFSET: u16 = !0b111;

/// What an error with this packet inside is about.
///
/// The packet is read as leniently as the kernel reads it: no more of it need be there than what
/// makes its tuple, its lengths and checksums are not looked at (`nf_ct_get_tuplepr`,
/// `nf_conntrack_core.c`, Linux 6.12).
pub(super) fn about(family: Family, inside: &[u8], keys: &KeyMap) -> Kind {
    let tuple = match family {
        Family::Ipv4 => ipv4(inside, keys),
        Family::Ipv6 => ipv6(inside, keys),
    };
    match tuple.and_then(|tuple| tuple.inverted()) {
        Some(answer) => Kind::About(answer),
        None => Kind::Invalid(Reason::IcmpInner),
    }
}

fn ipv4(inside: &[u8], keys: &KeyMap) -> Option<Tuple> {
    let header: &[u8; IPV4_HEADER] = inside.first_chunk()?;
    if u16_at(header, 6)? & IPV4_OFFSET != 0 {
        return None;
    }
    let length = usize::from(header[0] & 0x0f) * 4;
    let source = u128::from(u32_at(header, 12)?);
    let destination = u128::from(u32_at(header, 16)?);
    let empty = Tuple {
        source,
        destination,
        source_id: 0,
        destination_id: 0,
        protocol: header[9],
        family: Family::Ipv4,
    };
    with_ids(empty, inside.get(length..)?, keys)
}

fn ipv6(inside: &[u8], keys: &KeyMap) -> Option<Tuple> {
    let header: &[u8; IPV6_HEADER] = inside.first_chunk()?;
    let (protocol, payload) = behind_extensions(header[6], &inside[IPV6_HEADER..])?;
    let source = u128_at(header, 8)?;
    let destination = u128_at(header, 24)?;
    let empty = Tuple {
        source,
        destination,
        source_id: 0,
        destination_id: 0,
        protocol,
        family: Family::Ipv6,
    };
    with_ids(empty, payload, keys)
}

/// Steps over extension headers; `None` where there is no upper layer or only a later fragment of
/// it (`ipv6_skip_exthdr`). The last header may reach beyond what is there.
fn behind_extensions(mut next: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const NOTHING: u8 = 59;
    const DESTINATION: u8 = 60;
    loop {
        let length = match next {
            NOTHING => return None,
            FRAGMENT if u16_at(rest, 2)? & IPV6_OFFSET != 0 => return None,
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(*rest.get(1)?) + 2) * 4,
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(*rest.get(1)?) + 1) * 8,
            _ => return Some((next, rest)),
        };
        next = *rest.first()?;
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// The tuple with the ids of its protocol (`nf_ct_get_tuple`).
fn with_ids(mut tuple: Tuple, payload: &[u8], keys: &KeyMap) -> Option<Tuple> {
    match tuple.protocol {
        protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP => {
            tuple.source_id = u16_at(payload, 0)?;
            tuple.destination_id = u16_at(payload, 2)?;
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let header: &[u8; 8] = payload.first_chunk()?;
            tuple.source_id = u16_at(header, 4)?;
            tuple.destination_id = u16_at(header, 0)?;
        }
        protocol::GRE if is_call_header(payload) => {
            if u16_at(payload, 2)? != PPP {
                return None;
            }
            tuple.destination_id = u16_at(payload, 6)?;
            keys.complete(&mut tuple);
        }
        _ => {}
    }
    Some(tuple)
}

/// The protocol that GRE of PPTP carries.
const PPP: u16 = 0x880b;

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Direction;
    use proptest::prelude::*;

    use super::super::testing::inner_udp;
    use super::*;
    use crate::outcome::Handle;

    fn tuple_of(family: Family, inside: &[u8]) -> Option<Tuple> {
        match about(family, inside, &KeyMap::default()) {
            Kind::About(tuple) => Some(tuple),
            _ => None,
        }
    }

    fn ipv4_of(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = inner_udp(Family::Ipv4);
        bytes[9] = protocol;
        bytes.truncate(IPV4_HEADER);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn the_tuple_is_that_of_the_answers() {
        let answer = tuple_of(Family::Ipv4, &inner_udp(Family::Ipv4)).unwrap();
        assert_eq!((answer.source, answer.destination), (0x0a00_0002, 0x0a00_0001));
        assert_eq!((answer.source_id, answer.destination_id), (53, 4096));
        let answer = tuple_of(Family::Ipv6, &inner_udp(Family::Ipv6)).unwrap();
        assert_eq!((answer.source_id, answer.destination_id), (53, 4096));
        assert_eq!(answer.family, Family::Ipv6);
    }

    #[test]
    fn four_bytes_of_ports_are_enough() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let bytes = inner_udp(family);
            let ports = bytes.len() - 4;
            assert!(tuple_of(family, &bytes[..ports]).is_some());
            assert_eq!(tuple_of(family, &bytes[..ports - 1]), None);
        }
    }

    #[test]
    fn later_fragments_have_no_tuple() {
        let mut bytes = inner_udp(Family::Ipv4);
        bytes[6] = 0x20;
        assert!(tuple_of(Family::Ipv4, &bytes).is_some(), "first of several");
        bytes[7] = 1;
        assert_eq!(tuple_of(Family::Ipv4, &bytes), None);
    }

    #[test]
    fn extension_headers_are_stepped_over() {
        let plain = inner_udp(Family::Ipv6);
        let with = |extension: &[u8], kind: u8| {
            let mut bytes = plain[..IPV6_HEADER].to_vec();
            bytes[6] = kind;
            bytes.extend(extension);
            bytes.extend(&plain[IPV6_HEADER..]);
            tuple_of(Family::Ipv6, &bytes)
        };
        let expected = tuple_of(Family::Ipv6, &plain);
        assert_eq!(with(&[17, 0, 0, 0, 0, 0, 0, 0], 0), expected);
        assert_eq!(with(&[[17, 1, 0, 0, 0, 0, 0, 0], [0; 8]].concat(), 60), expected);
        assert_eq!(with(&[17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 51), expected);
        assert_eq!(with(&[17, 0, 0, 1, 0, 0, 0, 0], 44), expected, "first of several");
        assert_eq!(with(&[17, 0, 0, 8, 0, 0, 0, 0], 44), None, "a later one");
        assert_eq!(with(&[], 59), None, "nothing above");
    }

    #[test]
    fn messages_that_nobody_answers_have_no_tuple() {
        assert!(tuple_of(Family::Ipv4, &ipv4_of(1, &[8, 0, 0, 0, 0, 7, 0, 1])).is_some());
        assert_eq!(tuple_of(Family::Ipv4, &ipv4_of(1, &[3, 0, 0, 0, 0, 7, 0, 1])), None);
        assert_eq!(tuple_of(Family::Ipv4, &ipv4_of(1, &[8, 0, 0, 0, 0, 7, 0])), None);
    }

    #[test]
    fn gre_has_call_ids_with_pptp_only() {
        let call = ipv4_of(47, &[0x20, 0x81, 0x88, 0x0b, 0, 0, 0, 5]);
        let Some(unknown) = tuple_of(Family::Ipv4, &call) else { panic!("no tuple") };
        assert_eq!((unknown.source_id, unknown.destination_id), (5, 0));
        let mut keys = KeyMap::default();
        let known = Tuple { destination_id: 9, ..unknown }.inverted().unwrap();
        keys.add(Handle { line: 0, id: 1 }, Direction::Original, known).unwrap();
        let expected = Kind::About(Tuple { destination_id: 9, ..unknown });
        assert_eq!(about(Family::Ipv4, &call, &keys), expected);
        assert_eq!(tuple_of(Family::Ipv4, &ipv4_of(47, &[0x20, 0x81, 8, 0, 0, 0, 0, 5])), None);
        let plain = tuple_of(Family::Ipv4, &ipv4_of(47, &[0, 0, 8, 0])).unwrap();
        assert_eq!((plain.source_id, plain.destination_id), (0, 0));
    }

    proptest! {
        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), next: u8) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.get_mut(6) {
                *byte = next % 64;
            }
            for (family, least) in [(Family::Ipv4, IPV4_HEADER), (Family::Ipv6, IPV6_HEADER)] {
                let found = tuple_of(family, &bytes).is_some();
                prop_assert!(!found || bytes.len() >= least);
            }
        }
    }
}
