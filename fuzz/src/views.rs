//! Bytes that need not be a packet, looked at and translated in every way.

use ctkeeper_engine::nat::End;
use ctkeeper_engine::packet::{
    Datagram, IcmpMessage, SctpPacket, TcpSegment, UdpDatagram, UdpliteDatagram, checksum, rewrite,
};
use ctkeeper_engine::{Reason, Tuple};
use ctkeeper_flow::Family;

/// Reads bytes through all views, with what must hold of any packet.
pub(crate) fn look(bytes: &[u8]) {
    let _ = checksum::network_header_holds(bytes);
    let Ok(datagram) = Datagram::parse(bytes) else { return };
    let length = datagram.length as usize;
    assert!(length <= bytes.len() && datagram.payload.len() <= length);
    let payload = datagram.payload;
    let _ = (UdpDatagram::parse(payload), UdpliteDatagram::parse(payload));
    let _ = checksum::layer4_holds(&datagram, datagram.protocol, length / 2);
    if let Ok(tcp) = TcpSegment::parse(payload) {
        assert!(tcp.payload as usize + 20 <= payload.len());
        assert!(tcp.syn_options().scale.is_none_or(|scale| scale <= 14));
        let highest = tcp.highest_sack(tcp.acknowledgement);
        assert!(highest.wrapping_sub(tcp.acknowledgement).cast_signed() >= 0 || tcp.has_options());
    }
    if let Ok(sctp) = SctpPacket::parse(payload) {
        assert!(sctp.chunks().count() <= payload.len() / 4);
        let _ = checksum::sctp_holds(payload);
    }
    if let Ok(icmp) = IcmpMessage::parse(payload) {
        let _ = (icmp.inner_tuple(Family::Ipv4), icmp.inner_tuple(Family::Ipv6));
        let _ = (icmp.redirected_tuple(), rewrite::error_can_pass(&datagram, false));
    }
    if let Ok(tuple) = datagram.tuple() {
        let expected = (datagram.source, datagram.destination, datagram.protocol);
        assert_eq!((tuple.source, tuple.destination, tuple.protocol), expected);
        translate(bytes, &datagram, &tuple);
    }
}

/// Translates a packet to an address of its own mirror, and back.
fn translate(bytes: &[u8], datagram: &Datagram<'_>, tuple: &Tuple) {
    let mirrored = Tuple { source: tuple.destination, source_id: !tuple.source_id, ..*tuple };
    let mut copy = bytes.to_vec();
    if let Err(reason) = rewrite::translate(&mut copy, End::Source, &mirrored) {
        assert_eq!(reason, Reason::Untranslatable);
        assert_eq!(copy, bytes);
    } else {
        let there = Datagram::parse(&copy).expect("a translated packet is one still");
        assert_eq!((there.source, there.length), (mirrored.source, datagram.length));
        let held = checksum::network_header_holds(bytes);
        assert_eq!(checksum::network_header_holds(&copy), held);
    }
    let _ = rewrite::translate_error(&mut copy, End::Destination, tuple);
    assert_eq!(copy.len(), bytes.len());
}
