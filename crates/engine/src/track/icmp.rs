//! ICMP (`nf_conntrack_proto_icmp.c`, Linux 6.12; 6.1 decides alike).

use ctkeeper_flow::Family;

use super::error::{Kind, about};
use super::gre::KeyMap;
use super::{Context, Judgement};
use crate::entry::Entry;
use crate::outcome::Reason;
use crate::packet::checksum::icmp_holds;
use crate::packet::{Datagram, IcmpMessage};
use crate::time::Ticks;

/// The highest type that the kernel knows (`NR_ICMP_TYPES`).
const LAST_TYPE: u8 = 18;

/// Judges a message of a connection. Its checksum and its type have been looked at by
/// [`kind`].
#[inline]
pub(crate) fn packet(context: &Context<'_>, entry: &Entry, datagram: &Datagram<'_>) -> Judgement {
    let [kind, _] = entry.ids[1].to_be_bytes();
    if datagram.family != Family::Ipv4 || !begins(kind) {
        return Judgement::Invalid(Reason::IcmpNew);
    }
    Judgement::Refresh(Ticks::from_seconds(context.settings.timeouts.icmp))
}

/// Whether a type may begin a connection: echo, timestamp, information and address mask requests.
const fn begins(kind: u8) -> bool {
    matches!(kind, 8 | 13 | 15 | 17)
}

/// Whether a type tells of another packet: unreachable, quench, redirect, time exceeded,
/// parameter problem (`icmp_is_err`).
const fn is_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// What a message is, before any lookup (`nf_conntrack_icmpv4_error`).
pub(super) fn kind(datagram: &Datagram<'_>, verify: bool, keys: &KeyMap) -> Kind {
    let message = match IcmpMessage::parse(datagram.payload) {
        Ok(message) => message,
        Err(reason) => return Kind::Invalid(reason),
    };
    if verify && !icmp_holds(datagram) {
        return Kind::Invalid(Reason::IcmpChecksum);
    }
    match message.kind {
        kind if kind > LAST_TYPE => Kind::Invalid(Reason::IcmpType),
        kind if is_error(kind) => about(message.inner_tuple(Family::Ipv4), keys),
        _ => Kind::Message,
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Direction::{Original, Reply};
    use ctkeeper_flow::Status;
    use proptest::prelude::*;

    use super::super::testing::{Track, datagram, with_plain_checksum};
    use super::*;
    use crate::tuple::protocol;

    fn track(kind: u8) -> Track {
        let mut track = Track::new(protocol::ICMP, |c, e, d| packet(c, e, d));
        track.entry.ids = [7, u16::from_be_bytes([kind, 0])];
        track
    }

    #[test]
    fn requests_begin_connections_and_every_message_refreshes_them() {
        for kind in 0..=18 {
            let mut track = track(kind);
            let judgement = track.packet(Original, &[kind, 0, 0, 0, 0, 7, 0, 1]);
            let begins = [8, 13, 15, 17].contains(&kind);
            let expected = if begins {
                Judgement::Refresh(Ticks::from_seconds(30))
            } else {
                Judgement::Invalid(Reason::IcmpNew)
            };
            assert_eq!(judgement, expected, "type {kind}");
        }
    }

    #[test]
    fn never_assured() {
        let mut track = track(8);
        for direction in [Original, Reply, Original, Reply] {
            track.wait(1000);
            track.packet(direction, &[8, 0, 0, 0, 0, 7, 0, 1]);
        }
        assert!(!track.entry.has(Status::ASSURED));
    }

    #[test]
    fn header_checksum_and_type_are_looked_at_in_this_order() {
        let keys = KeyMap::default();
        let look = |bytes: &[u8], verify| kind(&datagram(protocol::ICMP, bytes), verify, &keys);
        let echo = with_plain_checksum(&[8, 0, 0, 0, 0, 7, 0, 1], 2);
        assert_eq!(look(&echo, true), Kind::Message);
        assert_eq!(look(&echo[..7], true), Kind::Invalid(Reason::IcmpHeader));
        let mut unknown = vec![19, 0, 0, 0, 0, 7, 0, 1];
        assert_eq!(look(&unknown, true), Kind::Invalid(Reason::IcmpChecksum));
        assert_eq!(look(&unknown, false), Kind::Invalid(Reason::IcmpType));
        unknown[0] = 18;
        assert_eq!(look(&unknown, false), Kind::Message);
    }

    #[test]
    fn errors_are_these_types_and_no_others() {
        let keys = KeyMap::default();
        for number in 0..=18 {
            let bytes = [number, 0, 0, 0, 0, 0, 0, 0];
            let judged = kind(&datagram(protocol::ICMP, &bytes), false, &keys);
            let error = [3, 4, 5, 11, 12].contains(&number);
            assert_eq!(judged == Kind::Invalid(Reason::IcmpInner), error, "type {number}");
        }
    }

    proptest! {
        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80), verify: bool) {
            let datagram = datagram(protocol::ICMP, &bytes);
            let judged = kind(&datagram, verify, &KeyMap::default());
            prop_assert!(bytes.len() >= 8 || judged == Kind::Invalid(Reason::IcmpHeader));
        }
    }
}
