//! Packets as bytes: what a sequence says, made with the addresses of the day, and what comes back
//! read again.

use std::net::IpAddr;

use ctkeeper_flow::{Family, Protocol};

use crate::sequence::{Chunk, Datagram, Defects, Gre, Message, SctpPacket, Segment, Transport};

/// An address and a port, or an id where there are no ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Port, or ICMP id.
    pub port: u16,
}

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ends {
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
}

impl Ends {
    /// The way back.
    #[must_use]
    pub const fn turned(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

const HOPS: u8 = 64;
const FRAGMENT_HEADER: u8 = 44;
/// The longest header that the kernel wants whole in the first fragment of IPv6 is TCP's
/// (`ipv6frag_thdr_truncated`, `net/ipv6/reassembly.c`, Linux 6.12), in units of eight bytes.
const HEADERS: usize = 24;
/// What payloads are made of.
const FILLER: u8 = b'.';

/// A whole datagram. `inner` is what an ICMP error carries.
pub fn datagram(ends: Ends, transport: &Transport, defects: &Defects, inner: &[u8]) -> Vec<u8> {
    let family = family_of(ends.source.address);
    let protocol = transport.protocol(family).0;
    let mut layer4 = layer4(ends, transport, inner);
    let is_right =
        !matches!(transport, Transport::Udp(d) | Transport::Udplite(d) if d.without_checksum);
    if is_right {
        set_checksum(ends, transport, &mut layer4);
    }
    if defects.checksum {
        spoil_checksum(transport, &mut layer4);
    }
    if let Some(cut) = defects.cut {
        layer4.truncate(usize::from(cut));
    }
    match family {
        Family::Ipv4 => ipv4(ends, protocol, defects.extensions, &layer4),
        Family::Ipv6 => ipv6(ends, protocol, defects.extensions, &layer4),
    }
}

const fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    }
}

fn layer4(ends: Ends, transport: &Transport, inner: &[u8]) -> Vec<u8> {
    let ports = [ends.source.port.to_be_bytes(), ends.destination.port.to_be_bytes()].concat();
    match transport {
        Transport::Tcp(segment) => tcp(ports, segment, ends.source.address),
        Transport::Udp(datagram) => udp(ports, datagram, true),
        Transport::Udplite(datagram) => udp(ports, datagram, false),
        Transport::Icmp(message) => icmp(ends, message),
        Transport::Error(error) => {
            [[error.kind, error.code, 0, 0].as_slice(), &[0; 4], inner].concat()
        }
        Transport::Sctp(packet) => sctp(ports, packet),
        Transport::Gre(packet) => gre(packet),
        Transport::Other { payload, .. } => payload.clone(),
    }
}

fn tcp(mut bytes: Vec<u8>, segment: &Segment, sender: IpAddr) -> Vec<u8> {
    let mut options = segment.options.clone();
    options.truncate(40);
    options.resize(options.len().next_multiple_of(4), 0);
    let words = segment.data_offset.unwrap_or(5 + (options.len() / 4) as u8);
    bytes.extend(segment.sequence.to_be_bytes());
    bytes.extend(segment.acknowledgement.to_be_bytes());
    bytes.extend([words << 4, segment.flags]);
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(options);
    if segment.text.is_empty() {
        bytes.extend(filler(segment.payload));
    } else {
        let end = bytes.len() + usize::from(segment.payload);
        bytes.extend(spoken(&segment.text, sender).bytes());
        bytes.resize(end, b'\n');
    }
    bytes
}

fn spoken(text: &str, sender: IpAddr) -> String {
    let address = sender.to_string();
    text.replace("{host}", &address.replace('.', ",")).replace("{address}", &address)
}

/// UDP's length, or UDP-Lite's coverage, which 0 extends over everything.
fn udp(mut bytes: Vec<u8>, datagram: &Datagram, is_length: bool) -> Vec<u8> {
    let whole = if is_length { datagram.payload.saturating_add(8) } else { 0 };
    bytes.extend(datagram.length.unwrap_or(whole).to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(filler(datagram.payload));
    bytes
}

/// The id is the port of the end that has one.
fn icmp(ends: Ends, message: &Message) -> Vec<u8> {
    let id = ends.source.port.max(ends.destination.port);
    let mut bytes = vec![message.kind, message.code, 0, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(filler(message.payload));
    bytes
}

fn sctp(mut bytes: Vec<u8>, packet: &SctpPacket) -> Vec<u8> {
    bytes.extend(packet.tag.to_be_bytes());
    bytes.extend([0; 4]);
    for Chunk { kind, flags, body, length } in &packet.chunks {
        let length = length.unwrap_or(4 + body.len() as u16);
        bytes.extend([*kind, *flags]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn gre(packet: &Gre) -> Vec<u8> {
    let mut bytes = packet.flags.to_be_bytes().to_vec();
    bytes.extend(packet.protocol.to_be_bytes());
    if packet.flags & 7 == 1 {
        bytes.extend(packet.payload.to_be_bytes());
        bytes.extend(packet.call.to_be_bytes());
    }
    bytes.extend(filler(packet.payload));
    bytes
}

fn filler(bytes: u16) -> impl Iterator<Item = u8> {
    std::iter::repeat_n(FILLER, usize::from(bytes))
}

/// Where the checksum stands in layer 4, and how it is made.
enum Sum {
    Ones { place: usize, pseudo: bool },
    Crc32c,
    None,
}

const fn sum_of(transport: &Transport, family: Family) -> Sum {
    match (transport, family) {
        (Transport::Tcp(_), _) => Sum::Ones { place: 16, pseudo: true },
        (Transport::Udp(_) | Transport::Udplite(_), _) => Sum::Ones { place: 6, pseudo: true },
        (Transport::Icmp(_) | Transport::Error(_), Family::Ipv4) => {
            Sum::Ones { place: 2, pseudo: false }
        }
        (Transport::Icmp(_) | Transport::Error(_), Family::Ipv6) => {
            Sum::Ones { place: 2, pseudo: true }
        }
        (Transport::Sctp(_), _) => Sum::Crc32c,
        _ => Sum::None,
    }
}

fn set_checksum(ends: Ends, transport: &Transport, layer4: &mut [u8]) {
    let family = family_of(ends.source.address);
    match sum_of(transport, family) {
        Sum::Ones { place, pseudo } => {
            let covered = covered(transport, layer4.len());
            let mut sum = ones(&layer4[..covered]);
            if pseudo {
                sum += pseudo_header(ends, summed_as(transport, family), layer4.len());
            }
            let folded = !fold(sum);
            let is_udp = matches!(transport, Transport::Udp(_) | Transport::Udplite(_));
            let value = if folded == 0 && is_udp { 0xffff } else { folded };
            put(layer4, place, value.to_be_bytes());
        }
        Sum::Crc32c => {
            let crc = crc32c(layer4).to_le_bytes();
            if let Some(field) = layer4.get_mut(8..12) {
                field.copy_from_slice(&crc);
            }
        }
        Sum::None => {}
    }
}

const fn summed_as(transport: &Transport, family: Family) -> Protocol {
    match transport {
        Transport::Udplite(Datagram { as_udp: true, .. }) => Protocol::UDP,
        _ => transport.protocol(family),
    }
}

/// UDP-Lite's checksum covers what its header says.
fn covered(transport: &Transport, whole: usize) -> usize {
    match transport {
        Transport::Udplite(Datagram { length: Some(coverage), .. }) if *coverage >= 8 => {
            whole.min(usize::from(*coverage))
        }
        _ => whole,
    }
}

fn spoil_checksum(transport: &Transport, layer4: &mut [u8]) {
    let place = match transport {
        Transport::Tcp(_) => 17,
        Transport::Udp(_) | Transport::Udplite(_) => 7,
        Transport::Icmp(_) | Transport::Error(_) => 3,
        Transport::Sctp(_) => 9,
        _ => return,
    };
    if let Some(byte) = layer4.get_mut(place) {
        *byte ^= 0x5a;
    }
}

fn put(bytes: &mut [u8], place: usize, value: [u8; 2]) {
    if let Some(field) = bytes.get_mut(place..place + 2) {
        field.copy_from_slice(&value);
    }
}

fn pseudo_header(ends: Ends, protocol: Protocol, length: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(v4) => ones(&v4.octets()),
        IpAddr::V6(v6) => ones(&v6.octets()),
    };
    address(ends.source.address)
        + address(ends.destination.address)
        + u64::from(protocol.0)
        + length as u64
}

fn ones(bytes: &[u8]) -> u64 {
    let pair = |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    bytes.chunks(2).map(pair).sum()
}

const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The Castagnoli polynomial, bit by bit: packets are small.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

fn ipv4(ends: Ends, protocol: u8, options: u8, layer4: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) =
        (ends.source.address, ends.destination.address)
    else {
        return Vec::new();
    };
    let options = usize::from(options.min(10)) * 4;
    let header = 20 + options;
    let mut bytes = vec![0x40 | (header / 4) as u8, 0];
    bytes.extend(((header + layer4.len()) as u16).to_be_bytes());
    bytes.extend([0x12, 0x34, 0, 0, HOPS, protocol, 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(std::iter::repeat_n(1, options));
    seal_ipv4(&mut bytes);
    bytes.extend(layer4);
    bytes
}

/// Puts the checksum of an IPv4 header, which is all there is, in place.
fn seal_ipv4(header: &mut [u8]) {
    put(header, 10, [0; 2]);
    let sum = !fold(ones(header));
    put(header, 10, sum.to_be_bytes());
}

const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;

/// One extension is destination options; two are hop-by-hop options before them.
fn ipv6(ends: Ends, protocol: u8, extensions: u8, layer4: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) =
        (ends.source.address, ends.destination.address)
    else {
        return Vec::new();
    };
    let chain: &[u8] = match extensions {
        0 => &[],
        1 => &[DESTINATION_OPTIONS],
        _ => &[HOP_BY_HOP, DESTINATION_OPTIONS],
    };
    let next = |place: usize| chain.get(place).copied().unwrap_or(protocol);
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(((chain.len() * 8 + layer4.len()) as u16).to_be_bytes());
    bytes.extend([next(0), HOPS]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    for place in 0..chain.len() {
        // A PadN option of six bytes.
        bytes.extend([next(place + 1), 0, 1, 4, 0, 0, 0, 0]);
    }
    bytes.extend(layer4);
    bytes
}

/// Marks the packet inside an ICMP error as a later fragment, if it is IPv4.
pub fn mark_as_fragment(packet: &mut [u8]) {
    if packet.len() >= 20 && packet[0] >> 4 == 4 {
        put(packet, 6, [0, 40]);
        let header = usize::from(packet[0] & 15) * 4;
        if let Some(header) = packet.get_mut(..header) {
            seal_ipv4(header);
        }
    }
}

/// A datagram in `parts` fragments; as it is if that is not possible.
pub fn fragments(datagram: &[u8], parts: u8, id: u16) -> Vec<Vec<u8>> {
    let (header, payload) = match datagram.first().map(|first| first >> 4) {
        Some(4) if datagram.len() >= 20 => datagram.split_at(usize::from(datagram[0] & 15) * 4),
        Some(6) if datagram.len() >= 40 && datagram[6] != HOP_BY_HOP => datagram.split_at(40),
        _ => return vec![datagram.to_vec()],
    };
    let size = payload.len().div_ceil(usize::from(parts.max(1))).next_multiple_of(8);
    // IPv6 does not put together what begins with less than a whole header.
    let size = if header.len() == 40 { size.max(HEADERS) } else { size };
    if size == 0 || size >= payload.len() {
        return vec![datagram.to_vec()];
    }
    let last = payload.chunks(size).count() - 1;
    let part =
        |(place, part): (usize, &[u8])| fragment(header, part, place * size / 8, place < last, id);
    payload.chunks(size).enumerate().map(part).collect()
}

fn fragment(header: &[u8], part: &[u8], offset: usize, more: bool, id: u16) -> Vec<u8> {
    let mut bytes = header.to_vec();
    if header.len() == 40 && header[0] >> 4 == 6 {
        put(&mut bytes, 4, ((part.len() + 8) as u16).to_be_bytes());
        let next = std::mem::replace(&mut bytes[6], FRAGMENT_HEADER);
        bytes.extend([next, 0]);
        bytes.extend(((offset << 3) as u16 | u16::from(more)).to_be_bytes());
        bytes.extend(u32::from(id).to_be_bytes());
    } else {
        put(&mut bytes, 2, ((header.len() + part.len()) as u16).to_be_bytes());
        put(&mut bytes, 4, id.to_be_bytes());
        put(&mut bytes, 6, (offset as u16 | u16::from(more) << 13).to_be_bytes());
        seal_ipv4(&mut bytes);
    }
    bytes.extend(part);
    bytes
}

/// What is read of a packet that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it comes from and goes to; ports are 0 where there are none.
    pub ends: Ends,
    /// Layer 4.
    pub protocol: Protocol,
    /// The upper six bits of the traffic class.
    pub code: u8,
    /// Whether it is a later fragment.
    pub is_later_fragment: bool,
    /// Where layer 4 begins.
    pub header: usize,
}

/// Reads a packet; `None` where it is none of ours.
pub fn read(bytes: &[u8]) -> Option<Seen> {
    match bytes.first()? >> 4 {
        4 => read_ipv4(bytes),
        6 => read_ipv6(bytes),
        _ => None,
    }
}

fn read_ipv4(bytes: &[u8]) -> Option<Seen> {
    let header = usize::from(bytes[0] & 15) * 4;
    let address = |place: usize| {
        let octets: [u8; 4] = bytes.get(place..place + 4)?.try_into().ok()?;
        Some(IpAddr::from(octets))
    };
    let offset = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x1fff;
    let protocol = Protocol(*bytes.get(9)?);
    let place = if offset == 0 { header } else { bytes.len() };
    let ends = ends(address(12)?, address(16)?, protocol, bytes.get(place..)?);
    let (code, is_later_fragment) = (bytes[1] >> 2, offset != 0);
    Some(Seen { ends, protocol, code, is_later_fragment, header })
}

fn read_ipv6(bytes: &[u8]) -> Option<Seen> {
    let address = |place: usize| {
        let octets: [u8; 16] = bytes.get(place..place + 16)?.try_into().ok()?;
        Some(IpAddr::from(octets))
    };
    let (mut next, mut place) = (*bytes.get(6)?, 40);
    let mut is_later_fragment = false;
    while [HOP_BY_HOP, DESTINATION_OPTIONS, FRAGMENT_HEADER].contains(&next) {
        let extension = bytes.get(place..place + 8)?;
        if next == FRAGMENT_HEADER {
            is_later_fragment |= u16::from_be_bytes([extension[2], extension[3]]) >> 3 != 0;
        }
        next = extension[0];
        place += 8;
    }
    let protocol = Protocol(next);
    let layer4 = if is_later_fragment { &[] } else { bytes.get(place..)? };
    let ends = ends(address(8)?, address(24)?, protocol, layer4);
    let code = (bytes[0] & 15) << 2 | bytes[1] >> 6;
    Some(Seen { ends, protocol, code, is_later_fragment, header: place })
}

fn ends(source: IpAddr, destination: IpAddr, protocol: Protocol, layer4: &[u8]) -> Ends {
    let at = |place: usize| match layer4.get(place..place + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    let (from, to) = match protocol {
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => (at(0), at(2)),
        // Which end the id belongs to is the reader's to know.
        Protocol::ICMP | Protocol::ICMPV6 => (at(4), at(4)),
        _ => (0, 0),
    };
    Ends {
        source: Endpoint { address: source, port: from },
        destination: Endpoint { address: destination, port: to },
    }
}

/// Layer 4 of a packet that came out whole or in fragments, in any order.
pub fn layer4_of<'a>(packets: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut parts: Vec<(u16, &[u8])> = packets.filter_map(part).collect();
    parts.sort_unstable_by_key(|(offset, _)| *offset);
    parts.into_iter().flat_map(|(_, bytes)| bytes).copied().collect()
}

/// The offset, in eights of bytes, and the payload of a fragment or a whole packet.
fn part(packet: &[u8]) -> Option<(u16, &[u8])> {
    let seen = read(packet)?;
    let offset = match packet.first()? >> 4 {
        4 => u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff,
        _ if seen.is_later_fragment => {
            let field = packet.get(seen.header - 6..seen.header - 4)?;
            u16::from_be_bytes([field[0], field[1]]) >> 3
        }
        _ => 0,
    };
    Some((offset, packet.get(seen.header..)?))
}
