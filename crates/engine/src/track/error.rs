//! ICMP errors: which connection a message tells of.
//!
//! What the engine does with an ICMP or ICMPv6 datagram, before it looks for the datagram's own
//! tuple (`nf_conntrack_in`, `nf_conntrack_inet_error`, Linux 6.12):
//!
//! 1. [`kind`] judges the message. [`Kind::Message`] goes the way of every packet: tuple, lookup,
//!    tracker. [`Kind::Untracked`] is let through with that class. [`Kind::Invalid`] is let
//!    through as invalid; the statistics count it as `error`, not as `invalid`.
//! 2. [`Kind::About`] has the tuple to look up, in the zone of the original direction, then, if
//!    the reply direction has another, in that. No entry: invalid,
//!    [`Reason::IcmpInnerUnknown`]. It counts as `error` likewise, as all that follows.
//! 3. The tuple that was found, in the direction in which it was found, must go where the message
//!    goes: [`outer_destination_matches`], else [`Reason::IcmpOuterDestination`].
//! 4. The message is related to that connection, in the direction found. The tracker does not see
//!    it; neither deadline nor counters nor `SEEN_REPLY` change. It is translated as the
//!    connection is, the packet inside it too.

use ctkeeper_flow::Family;

use super::gre::KeyMap;
use super::{icmp, icmpv6};
use crate::outcome::Reason;
use crate::packet::Datagram;
use crate::settings::Profile;
use crate::tuple::{Tuple, protocol};

/// What a datagram is with regard to ICMP errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No error: a packet with a tuple of its own.
    Message,
    /// Kept away from tracking.
    Untracked,
    /// Not to be taken for anything.
    Invalid(Reason),
    /// An error about a packet; this is the tuple of the answers to that packet.
    About(Tuple),
}

/// Judges a datagram; any that is not ICMP of its own family is a [`Kind::Message`].
#[inline]
pub(crate) fn kind(datagram: &Datagram<'_>, profile: Profile, verify: bool, keys: &KeyMap) -> Kind {
    match (datagram.family, datagram.protocol) {
        (Family::Ipv4, protocol::ICMP) => icmp::kind(datagram, verify, keys),
        (Family::Ipv6, protocol::ICMPV6) => icmpv6::kind(datagram, profile, verify, keys),
        _ => Kind::Message,
    }
}

/// What an error is about that has the packet of this tuple inside. It may be a packet of PPTP, whose
/// tuple only the key map completes.
pub(super) fn about(inner: Result<Tuple, Reason>, keys: &KeyMap) -> Kind {
    let completed = inner.map(|mut tuple| {
        if tuple.protocol == protocol::GRE {
            keys.complete(&mut tuple);
        }
        tuple.inverted()
    });
    match completed {
        Ok(Some(answer)) => Kind::About(answer),
        Ok(None) | Err(_) => Kind::Invalid(Reason::IcmpInner),
    }
}

/// Whether an error goes to the destination of the tuple that was found for it. One that does not
/// was sent by somebody who has no part in the connection.
pub(crate) const fn outer_destination_matches(datagram: &Datagram<'_>, found: &Tuple) -> bool {
    datagram.destination == found.destination
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Direction;

    use super::super::testing::{datagram, inner_udp, tuple};
    use super::*;
    use crate::outcome::Handle;

    fn about_inside(inside: &[u8], keys: &KeyMap) -> Kind {
        let bytes = [&[3, 1, 0, 0, 0, 0, 0, 0][..], inside].concat();
        kind(&datagram(protocol::ICMP, &bytes), Profile::default(), false, keys)
    }

    fn ipv4_of(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = inner_udp(Family::Ipv4);
        bytes[9] = protocol;
        bytes.truncate(20);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn the_tuple_is_that_of_the_answers() {
        let Kind::About(answer) = about_inside(&inner_udp(Family::Ipv4), &KeyMap::default()) else {
            panic!("not about a packet")
        };
        assert_eq!((answer.source, answer.destination), (0x0a00_0002, 0x0a00_0001));
        assert_eq!((answer.source_id, answer.destination_id), (53, 4096));
    }

    #[test]
    fn a_packet_inside_that_nobody_answers_makes_the_error_invalid() {
        let keys = KeyMap::default();
        let echo = about_inside(&ipv4_of(1, &[8, 0, 0, 0, 0, 7, 0, 1]), &keys);
        assert!(matches!(echo, Kind::About(_)));
        let unreachable = about_inside(&ipv4_of(1, &[3, 0, 0, 0, 0, 7, 0, 1]), &keys);
        assert_eq!(unreachable, Kind::Invalid(Reason::IcmpInner));
        let fragment = about_inside(
            &{
                let mut bytes = inner_udp(Family::Ipv4);
                bytes[7] = 1;
                bytes
            },
            &keys,
        );
        assert_eq!(fragment, Kind::Invalid(Reason::IcmpInner));
    }

    #[test]
    fn a_call_inside_is_completed_from_the_key_map() {
        let call = ipv4_of(protocol::GRE, &[0x20, 0x81, 0x88, 0x0b, 0, 0, 0, 5]);
        let mut keys = KeyMap::default();
        let Kind::About(unknown) = about_inside(&call, &keys) else { panic!("no tuple") };
        assert_eq!((unknown.source_id, unknown.destination_id), (5, 0));
        let known = Tuple { destination_id: 9, ..unknown };
        let of_the_call = known.inverted().unwrap();
        keys.add(Handle { line: 0, id: 1 }, Direction::Original, of_the_call).unwrap();
        assert_eq!(about_inside(&call, &keys), Kind::About(known));
        let other = ipv4_of(protocol::GRE, &[0x20, 0x81, 8, 0, 0, 0, 0, 5]);
        assert_eq!(about_inside(&other, &keys), Kind::Invalid(Reason::IcmpInner));
    }

    #[test]
    fn only_its_own_family_is_icmp() {
        let keys = KeyMap::default();
        let bytes = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &inner_udp(Family::Ipv4)].concat();
        let own = datagram(protocol::ICMP, &bytes);
        assert!(matches!(kind(&own, Profile::default(), false, &keys), Kind::About(_)));
        let foreign = Datagram { family: Family::Ipv6, ..own };
        assert_eq!(kind(&foreign, Profile::default(), false, &keys), Kind::Message);
        let other = Datagram { protocol: protocol::UDP, ..own };
        assert_eq!(kind(&other, Profile::default(), false, &keys), Kind::Message);
    }

    #[test]
    fn an_error_must_reach_the_destination_of_what_was_found() {
        let found = tuple(protocol::UDP);
        let error = Datagram { destination: found.destination, ..datagram(protocol::ICMP, &[]) };
        assert!(outer_destination_matches(&error, &found));
        let astray = Datagram { destination: found.destination + 1, ..error };
        assert!(!outer_destination_matches(&astray, &found));
    }
}
