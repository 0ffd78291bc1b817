//! UDP (`nf_conntrack_proto_udp.c`, Linux 6.12; 6.1 decides alike).

use ctkeeper_flow::Status;

use super::{Context, Judgement};
use crate::entry::Entry;
use crate::event::Changes;
use crate::outcome::Reason;
use crate::packet::checksum::layer4_holds;
use crate::packet::{Datagram, UdpDatagram};
use crate::time::Ticks;
use crate::tuple::protocol;

/// How long a connection must have lasted to be a stream.
const STREAM_AFTER: Ticks = Ticks::from_seconds(2);

/// Places in [`Entry::small`]: when the connection may become a stream, and whether that moment
/// has passed. The moment alone would not do: ticks wrap after 99 days.
const STREAM_FROM: usize = 0;
const STREAM: usize = 1;

/// Judges a packet of a UDP connection.
#[inline]
pub(crate) fn packet(
    context: &mut Context<'_>,
    entry: &mut Entry,
    datagram: &Datagram<'_>,
) -> Judgement {
    if let Some(reason) = fault(context, datagram) {
        return Judgement::Invalid(reason);
    }
    let timeouts = &context.settings.timeouts;
    let short = Ticks::from_seconds(timeouts.udp);
    if !entry.has(Status::CONFIRMED) {
        entry.small[STREAM_FROM] = (context.now + STREAM_AFTER).0;
        entry.small[STREAM] = 0;
    }
    if entry.small[STREAM] == 0 && context.now.after(Ticks(entry.small[STREAM_FROM])) > 0 {
        entry.small[STREAM] = 1;
    }
    if entry.small[STREAM] == 0 || !entry.has(Status::SEEN_REPLY) {
        return Judgement::Refresh(short);
    }
    let long = Ticks::from_seconds(timeouts.udp_stream);
    assure(context, entry);
    Judgement::Refresh(long)
}

/// How long an assured connection that is a stream lives from now on; `None` where [`packet`] is to
/// judge.
#[inline]
pub(crate) fn steady(
    context: &Context<'_>,
    entry: &Entry,
    datagram: &Datagram<'_>,
) -> Option<Ticks> {
    if entry.small[STREAM] == 0 || fault(context, datagram).is_some() {
        return None;
    }
    Some(Ticks::from_seconds(context.settings.timeouts.udp_stream))
}

/// Makes the connection an assured one, unless it lost a clash and lives a second only.
#[inline]
pub(super) fn assure(context: &mut Context<'_>, entry: &mut Entry) {
    if entry.status & (Status::ASSURED.0 | Status::NAT_CLASH.0) == 0 {
        entry.set(Status::ASSURED);
        context.changes.add(Changes::ASSURED);
    }
}

#[inline]
fn fault(context: &Context<'_>, datagram: &Datagram<'_>) -> Option<Reason> {
    match UdpDatagram::parse(datagram.payload) {
        Err(reason) => Some(reason),
        Ok(UdpDatagram { checksum: 0, .. }) => None,
        Ok(_) => {
            let wrong =
                context.verify && !layer4_holds(datagram, protocol::UDP, datagram.payload.len());
            wrong.then_some(Reason::UdpChecksum)
        }
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Direction::{Original, Reply};
    use proptest::prelude::*;

    use super::super::testing::{Track, with_checksum};
    use super::*;

    const SECOND: u32 = crate::TICKS_PER_SECOND;

    fn track() -> Track {
        Track::new(protocol::UDP, packet)
    }

    fn header(length: u16, checksum: u16) -> Vec<u8> {
        let mut bytes = vec![0x10, 0x00, 0x00, 0x35];
        bytes.extend(length.to_be_bytes());
        bytes.extend(checksum.to_be_bytes());
        bytes
    }

    fn seconds(seconds: u32) -> Judgement {
        Judgement::Refresh(Ticks::from_seconds(seconds))
    }

    #[test]
    fn lives_30_seconds_while_one_side_speaks() {
        let mut track = track();
        let bytes = header(8, 0);
        assert_eq!(track.packet(Original, &bytes), seconds(30));
        track.wait(10 * SECOND);
        assert_eq!(track.packet(Original, &bytes), seconds(30));
        assert!(!track.entry.has(Status::ASSURED));
    }

    #[test]
    fn is_a_stream_after_a_reply_and_more_than_two_seconds() {
        let mut track = track();
        let bytes = header(8, 0);
        track.packet(Original, &bytes);
        assert_eq!(track.packet(Reply, &bytes), seconds(30));
        track.wait(2 * SECOND);
        assert_eq!(track.packet(Original, &bytes), seconds(30), "two seconds are not yet enough");
        track.wait(1);
        assert_eq!(track.packet(Original, &bytes), seconds(120));
        assert!(track.entry.has(Status::ASSURED) && track.changes.contains(Changes::ASSURED));
        track.changes = Changes::default();
        assert_eq!(track.packet(Reply, &bytes), seconds(120));
        assert!(track.changes.is_empty(), "assured once only");
    }

    #[test]
    fn the_first_reply_makes_no_stream_however_late() {
        let mut track = track();
        let bytes = header(8, 0);
        track.packet(Original, &bytes);
        track.wait(20 * SECOND);
        assert_eq!(track.packet(Reply, &bytes), seconds(30));
        assert!(!track.entry.has(Status::ASSURED));
        assert_eq!(track.packet(Reply, &bytes), seconds(120));
    }

    #[test]
    fn stays_a_stream_when_ticks_wrap() {
        let mut track = track();
        let bytes = header(8, 0);
        track.packet(Original, &bytes);
        track.packet(Reply, &bytes);
        for _ in 0..5 {
            track.wait(1 << 30);
            assert_eq!(track.packet(Original, &bytes), seconds(120));
        }
    }

    #[test]
    fn loser_of_a_clash_is_never_assured() {
        let mut track = track();
        let bytes = header(8, 0);
        track.packet(Original, &bytes);
        track.entry.set(Status::NAT_CLASH);
        track.packet(Reply, &bytes);
        track.wait(3 * SECOND);
        assert_eq!(track.packet(Original, &bytes), seconds(120));
        assert!(!track.entry.has(Status::ASSURED));
    }

    #[test]
    fn length_field_must_fit() {
        let mut track = track();
        let long = [header(9, 0), vec![0; 2]].concat();
        assert_eq!(track.packet(Original, &long), seconds(30), "bytes behind it are not looked at");
        for (bytes, reason) in [
            (header(8, 0)[..7].to_vec(), Reason::UdpHeader),
            (header(7, 0), Reason::UdpLength),
            (header(0, 0), Reason::UdpLength),
            (header(9, 0), Reason::UdpLength),
        ] {
            assert_eq!(track.packet(Original, &bytes), Judgement::Invalid(reason));
        }
    }

    #[test]
    fn checksum_counts_where_it_is_verified_and_not_zero() {
        let mut track = track();
        track.verify = true;
        let good = with_checksum(protocol::UDP, &header(8, 0), 6, 8);
        let bad = header(8, 0x1234);
        assert_eq!(track.packet(Original, &good), seconds(30));
        assert_eq!(track.packet(Original, &header(8, 0)), seconds(30));
        assert_eq!(track.packet(Original, &bad), Judgement::Invalid(Reason::UdpChecksum));
        track.verify = false;
        assert_eq!(track.packet(Original, &bad), seconds(30));
    }

    proptest! {
        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64), verify: bool) {
            let mut track = track();
            track.verify = verify;
            let judgement = track.packet(Original, &bytes);
            prop_assert_eq!(judgement == Judgement::Invalid(Reason::UdpHeader), bytes.len() < 8);
        }
    }
}
