//! Tuples with ports and TCP's state, read at one glance.
//!
//! Whoever sends them puts the same attributes into the same places: Linux always has
//! (`ctnetlink_dump_tuples`, `net/netfilter/nf_conntrack_netlink.c`; `tcp_to_nlattr`,
//! `nf_conntrack_proto_tcp.c`). They are most of what a dump consists of, and walking through them
//! took most of the time that it takes to read one. What has another layout is walked through.

use std::net::IpAddr;

use ctkeeper_flow::{Layer4, Protocol, TcpFlags, TcpState, TcpTracking, Tuple};

use crate::attribute::{ip, proto, protoinfo, tuple as part_of};

/// `NLA_F_NESTED`, which senders set or leave out.
const NESTED: u16 = 1 << 15;
/// Bytes of the part with the protocol, its header included: a number and two ports.
const PROTOCOL_PART: usize = 28;

/// Reads what the TCP tracker tells of a living entry; `None` if it has another layout.
#[inline]
pub(super) fn tcp(bytes: &[u8]) -> Option<TcpTracking> {
    let bytes: &[u8; 44] = bytes.try_into().ok()?;
    let fits = word(bytes, 0)? & !header(0, NESTED) == header(44, protoinfo::TCP)
        && word(bytes, 4)? == header(5, protoinfo::STATE)
        && word(bytes, 12)? == header(5, protoinfo::TCP_SCALE_ORIGINAL)
        && word(bytes, 20)? == header(5, protoinfo::TCP_SCALE_REPLY)
        && word(bytes, 28)? == header(6, protoinfo::TCP_FLAGS_ORIGINAL)
        && word(bytes, 36)? == header(6, protoinfo::TCP_FLAGS_REPLY);
    if !fits {
        return None;
    }
    let flags = |at: usize| TcpFlags { flags: bytes[at], mask: bytes[at + 1] };
    Some(TcpTracking {
        state: TcpState::from_number(bytes[8])?,
        window_scale: Some((bytes[16], bytes[24])),
        flags: Some((flags(32), flags(40))),
    })
}

/// Reads a tuple that has exactly this layout; false, and nothing read, if it has another.
#[inline]
pub(super) fn tuple(bytes: &[u8], value: &mut Tuple) -> bool {
    let ipv4 = || with_ports::<4>(bytes, ip::V4_SOURCE, ip::V4_DESTINATION);
    let ipv6 = || with_ports::<16>(bytes, ip::V6_SOURCE, ip::V6_DESTINATION);
    let read = match bytes.len() {
        48 => ipv4().map(|parts| (IpAddr::from(parts.0), IpAddr::from(parts.1), parts.2)),
        72 => ipv6().map(|parts| (IpAddr::from(parts.0), IpAddr::from(parts.1), parts.2)),
        _ => None,
    };
    let Some((source, destination, (protocol, layer4))) = read else { return false };
    value.source = source;
    value.destination = destination;
    value.protocol = protocol;
    value.layer4 = layer4;
    true
}

type Parts<const ADDRESS: usize> = ([u8; ADDRESS], [u8; ADDRESS], (Protocol, Layer4));

#[inline]
fn with_ports<const ADDRESS: usize>(
    bytes: &[u8],
    source_kind: u16,
    destination_kind: u16,
) -> Option<Parts<ADDRESS>> {
    let address = 4 + ADDRESS;
    let destination = 4 + address;
    let protocol = destination + address;
    let fits = word(bytes, 0)? & !header(0, NESTED) == header(protocol, part_of::IP)
        && word(bytes, 4)? == header(address, source_kind)
        && word(bytes, destination)? == header(address, destination_kind)
        && word(bytes, protocol)? & !header(0, NESTED) == header(PROTOCOL_PART, part_of::PROTO)
        && word(bytes, protocol + 4)? == header(5, proto::NUMBER)
        && word(bytes, protocol + 12)? == header(6, proto::SOURCE_PORT)
        && word(bytes, protocol + 20)? == header(6, proto::DESTINATION_PORT);
    if !fits {
        return None;
    }
    let [number] = part(bytes, protocol + 8)?;
    let layer4 = Layer4::Ports {
        source: u16::from_be_bytes(part(bytes, protocol + 16)?),
        destination: u16::from_be_bytes(part(bytes, protocol + 24)?),
    };
    Some((part(bytes, 8)?, part(bytes, destination + 4)?, (Protocol(number), layer4)))
}

/// An attribute's header as one number.
#[inline]
fn header(length: usize, kind: u16) -> u32 {
    let ([a, b], [c, d]) = ((length as u16).to_ne_bytes(), kind.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    part(bytes, at).map(u32::from_ne_bytes)
}

#[inline]
fn part<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..)?.first_chunk().copied()
}
