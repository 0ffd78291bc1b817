//! ICMPv6 (`nf_conntrack_proto_icmpv6.c`, Linux 6.12; 6.1 tracks the messages of multicast router
//! discovery).

use ctkeeper_flow::{Family, Status};

use super::error::{Kind, about};
use super::gre::KeyMap;
use super::{Context, Judgement};
use crate::entry::Entry;
use crate::outcome::Reason;
use crate::packet::checksum::icmp_holds;
use crate::packet::{Datagram, IcmpMessage};
use crate::settings::Profile;
use crate::time::Ticks;

/// Types from here on are no errors.
const FIRST_INFORMATION: u8 = 128;

const REDIRECT: u8 = 137;

/// Bytes of target and destination, which every redirect has.
const REDIRECT_ADDRESSES: usize = 32;

/// Judges a message of a connection. Its checksum has been looked at by [`kind`].
#[inline]
pub(crate) fn packet(context: &Context<'_>, entry: &Entry, datagram: &Datagram<'_>) -> Judgement {
    let [kind, _] = entry.ids[1].to_be_bytes();
    let begun = entry.has(Status::CONFIRMED) || begins(kind);
    if datagram.family != Family::Ipv6 || !begun {
        return Judgement::Invalid(Reason::Icmpv6New);
    }
    Judgement::Refresh(Ticks::from_seconds(context.settings.timeouts.icmpv6))
}

/// Whether a type may begin a connection: echo request, node information query.
const fn begins(kind: u8) -> bool {
    matches!(kind, 128 | 139)
}

/// Whether a type is kept away from tracking: multicast listeners, neighbour discovery and, not
/// yet in 6.1, multicast router discovery.
const fn is_untracked(kind: u8, profile: Profile) -> bool {
    match kind {
        130..=136 | 143 => true,
        151 | 152 => !matches!(profile, Profile::Linux6_1),
        _ => false,
    }
}

/// What a message is, before any lookup (`nf_conntrack_icmpv6_error`).
pub(super) fn kind(datagram: &Datagram<'_>, profile: Profile, verify: bool, keys: &KeyMap) -> Kind {
    let Ok(message) = IcmpMessage::parse(datagram.payload) else {
        return Kind::Invalid(Reason::Icmpv6Header);
    };
    if verify && !icmp_holds(datagram) {
        return Kind::Invalid(Reason::Icmpv6Checksum);
    }
    match message.kind {
        kind if is_untracked(kind, profile) => Kind::Untracked,
        REDIRECT => redirect(datagram, &message, keys),
        kind if kind >= FIRST_INFORMATION => Kind::Message,
        _ => about(message.inner_tuple(Family::Ipv6), keys),
    }
}

/// What a redirect is about (`nf_conntrack_icmpv6_redirect`): only its first option counts.
fn redirect(datagram: &Datagram<'_>, message: &IcmpMessage<'_>, keys: &KeyMap) -> Kind {
    if message.body.len() < REDIRECT_ADDRESSES {
        return Kind::Invalid(Reason::Icmpv6Header);
    }
    if message.code != 0 {
        return Kind::Message;
    }
    if datagram.hop_limit != 255 || !is_link_local(datagram.source) {
        return Kind::Invalid(Reason::Icmpv6Redirect);
    }
    match message.redirected_tuple() {
        Ok(Some(tuple)) => about(Ok(tuple), keys),
        Ok(None) => Kind::Message,
        Err(reason) => Kind::Invalid(reason),
    }
}

/// fe80::/10; a multicast source does not get as far as this.
const fn is_link_local(address: u128) -> bool {
    address >> 118 == 0xfe80 >> 6
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Direction::Original;
    use proptest::prelude::*;

    use super::super::testing::{Track, datagram, inner_udp, with_checksum};
    use super::*;
    use crate::tuple::protocol;

    const LINK_LOCAL: u128 = 0xfe80 << 112 | 1;

    fn look(bytes: &[u8], profile: Profile, verify: bool) -> Kind {
        kind(&datagram(protocol::ICMPV6, bytes), profile, verify, &KeyMap::default())
    }

    fn redirect_with(options: &[u8]) -> Vec<u8> {
        [&[137, 0, 0, 0, 0, 0, 0, 0][..], &[0; 32], options].concat()
    }

    fn look_at_redirect(bytes: &[u8], hop_limit: u8, source: u128) -> Kind {
        let datagram = Datagram { source, hop_limit, ..datagram(protocol::ICMPV6, bytes) };
        kind(&datagram, Profile::default(), false, &KeyMap::default())
    }

    #[test]
    fn echo_request_and_node_query_begin_connections() {
        for kind in 0..=255 {
            let mut track = Track::new(protocol::ICMPV6, |c, e, d| packet(c, e, d));
            track.entry.ids = [7, u16::from_be_bytes([kind, 0])];
            let judgement = track.packet(Original, &[kind, 0, 0, 0, 0, 7, 0, 1]);
            let begins = [128, 139].contains(&kind);
            let refresh = Judgement::Refresh(Ticks::from_seconds(30));
            assert_eq!(judgement == refresh, begins, "type {kind}");
        }
    }

    #[test]
    fn discovery_is_not_tracked() {
        for number in 128..=255 {
            let bytes = [number, 0, 0, 0, 0, 0, 0, 0];
            let old = [130, 131, 132, 133, 134, 135, 136, 143].contains(&number);
            let untracked = old || [151, 152].contains(&number);
            let judged = |profile| look(&bytes, profile, false) == Kind::Untracked;
            assert_eq!(judged(Profile::Linux6_1), old, "type {number}");
            assert_eq!(judged(Profile::Linux6_12), untracked, "type {number}");
            assert_eq!(judged(Profile::Linux6_18), untracked, "type {number}");
        }
    }

    #[test]
    fn all_types_below_128_are_errors() {
        let inside = inner_udp(Family::Ipv6);
        for number in 0..128 {
            let bytes = [&[number, 0, 0, 0, 0, 0, 0, 0][..], &inside].concat();
            assert!(matches!(look(&bytes, Profile::default(), false), Kind::About(_)));
            let cut = look(&bytes[..8], Profile::default(), false);
            assert_eq!(cut, Kind::Invalid(Reason::IcmpInner));
        }
    }

    #[test]
    fn checksum_comes_before_the_type() {
        let solicitation = [135, 0, 0, 0, 0, 0, 0, 0];
        let wrong = Kind::Invalid(Reason::Icmpv6Checksum);
        assert_eq!(look(&solicitation, Profile::default(), true), wrong);
        let good = with_checksum(protocol::ICMPV6, &solicitation, 2, 8);
        assert_eq!(look(&good, Profile::default(), true), Kind::Untracked);
    }

    #[test]
    fn a_redirect_needs_its_neighbour_and_its_first_option() {
        let option = [&[4, 6, 0, 0, 0, 0, 0, 0][..], &inner_udp(Family::Ipv6)].concat();
        let good = redirect_with(&option);
        assert!(matches!(look_at_redirect(&good, 255, LINK_LOCAL), Kind::About(_)));
        let forbidden = Kind::Invalid(Reason::Icmpv6Redirect);
        assert_eq!(look_at_redirect(&good, 254, LINK_LOCAL), forbidden);
        assert_eq!(look_at_redirect(&good, 255, 0x2001 << 112), forbidden);
        assert_eq!(look_at_redirect(&redirect_with(&[]), 255, LINK_LOCAL), forbidden);
        assert_eq!(look_at_redirect(&redirect_with(&[4, 0]), 255, LINK_LOCAL), forbidden);
        let other_first = redirect_with(&[2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(look_at_redirect(&other_first, 255, LINK_LOCAL), Kind::Message);
        let short = Kind::Invalid(Reason::Icmpv6Header);
        assert_eq!(look_at_redirect(&good[..39], 255, LINK_LOCAL), short);
        let mut coded = good;
        coded[1] = 1;
        assert_eq!(look_at_redirect(&coded, 1, 0), Kind::Message);
    }

    proptest! {
        #[test]
        fn takes_any_bytes(
            number: u8,
            rest in prop::collection::vec(any::<u8>(), 0..120),
            hop_limit: u8,
        ) {
            let bytes = [&[number][..], &rest].concat();
            let judged = look_at_redirect(&bytes, hop_limit, LINK_LOCAL);
            prop_assert!(bytes.len() >= 8 || judged == Kind::Invalid(Reason::Icmpv6Header));
        }
    }
}
