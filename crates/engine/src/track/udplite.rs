//! UDP-Lite (`nf_conntrack_proto_udp.c`, Linux 6.12; 6.1 decides alike).

use ctkeeper_flow::Status;

use super::udp::assure;
use super::{Context, Judgement};
use crate::entry::Entry;
use crate::outcome::Reason;
use crate::packet::checksum::udplite_holds;
use crate::packet::{Datagram, UdpliteDatagram};
use crate::time::Ticks;

/// Judges a packet of a UDP-Lite connection, which is a stream as soon as it is answered.
pub(crate) fn packet(
    context: &mut Context<'_>,
    entry: &mut Entry,
    datagram: &Datagram<'_>,
) -> Judgement {
    if let Some(reason) = fault(context, datagram) {
        return Judgement::Invalid(reason);
    }
    let timeouts = &context.settings.timeouts;
    if !entry.has(Status::SEEN_REPLY) {
        return Judgement::Refresh(Ticks::from_seconds(timeouts.udp));
    }
    let stream = Ticks::from_seconds(timeouts.udp_stream);
    assure(context, entry);
    Judgement::Refresh(stream)
}

fn fault(context: &Context<'_>, datagram: &Datagram<'_>) -> Option<Reason> {
    let coverage = match UdpliteDatagram::parse(datagram.payload) {
        Ok(header) => header.coverage,
        Err(reason) => return Some(reason),
    };
    let wrong = context.verify && !udplite_holds(datagram, coverage);
    wrong.then_some(Reason::UdpliteChecksum)
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Direction::{Original, Reply};
    use proptest::prelude::*;

    use super::super::testing::{Track, with_checksum};
    use super::*;
    use crate::tuple::protocol;

    fn track() -> Track {
        Track::new(protocol::UDPLITE, packet)
    }

    fn message(coverage: u16, checksum: u16) -> Vec<u8> {
        let mut bytes = vec![0x10, 0x00, 0x00, 0x35];
        bytes.extend(coverage.to_be_bytes());
        bytes.extend(checksum.to_be_bytes());
        bytes.extend(*b"payload!");
        bytes
    }

    fn seconds(seconds: u32) -> Judgement {
        Judgement::Refresh(Ticks::from_seconds(seconds))
    }

    #[test]
    fn is_assured_by_the_first_packet_after_the_reply() {
        let mut track = track();
        let bytes = message(0, 1);
        assert_eq!(track.packet(Original, &bytes), seconds(30));
        assert_eq!(track.packet(Reply, &bytes), seconds(30));
        assert!(!track.entry.has(Status::ASSURED));
        assert_eq!(track.packet(Original, &bytes), seconds(120));
        assert!(track.entry.has(Status::ASSURED));
    }

    #[test]
    fn coverage_and_checksum_are_required() {
        let mut track = track();
        for (bytes, reason) in [
            (message(0, 1)[..7].to_vec(), Reason::UdpliteHeader),
            (message(7, 1), Reason::UdpliteCoverage),
            (message(17, 1), Reason::UdpliteCoverage),
            (message(0, 0), Reason::UdpliteChecksumMissing),
        ] {
            assert_eq!(track.packet(Original, &bytes), Judgement::Invalid(reason));
        }
    }

    #[test]
    fn checksum_covers_what_coverage_says() {
        let mut track = track();
        track.verify = true;
        for coverage in [0, 8, 12, 16] {
            let covered = if coverage == 0 { 16 } else { usize::from(coverage) };
            let good = with_checksum(protocol::UDP, &message(coverage, 0), 6, covered);
            assert_eq!(track.packet(Original, &good), seconds(30));
            let mut bad = good.clone();
            bad[0] ^= 1;
            let wrong = Judgement::Invalid(Reason::UdpliteChecksum);
            assert_eq!(track.packet(Original, &bad), wrong);
            let mut outside = good;
            outside[15] ^= 1;
            assert_eq!(track.packet(Original, &outside) == wrong, covered == 16);
        }
    }

    proptest! {
        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64), verify: bool) {
            let mut track = track();
            track.verify = verify;
            let short = bytes.len() < 8;
            let judgement = track.packet(Original, &bytes);
            prop_assert_eq!(judgement == Judgement::Invalid(Reason::UdpliteHeader), short);
        }
    }
}
