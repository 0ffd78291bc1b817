//! Packets of many connections, made while nobody measures.

use ctkeeper_engine::tuple::protocol;
use ctkeeper_engine::{Packet, Tuple};
use ctkeeper_flow::Family;

/// Packets that are made before the engine sees the first of them: as many as fit into a core's
/// second level cache, where a network card's bytes would be by the time they are parsed.
pub const CHUNK: usize = 2048;

/// What the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// IPv6 instead of IPv4.
    pub wide: bool,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// The checksum is for the engine to verify.
    pub unverified: bool,
}

impl Kind {
    /// TCP over IPv4, checksums verified by the network card.
    pub const TCP: Self = Self { wide: false, tcp: true, unverified: false };
    /// UDP over IPv4, likewise.
    pub const UDP: Self = Self { tcp: false, ..Self::TCP };
}

/// One packet of each connection of a row: the same step of each one's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Sent by the side that was called.
    pub reply: bool,
    /// TCP flags.
    pub flags: u8,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP acknowledgement number.
    pub acknowledgement: u32,
    /// Bytes behind the headers.
    pub payload: usize,
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const PUSH: u8 = 8;
/// Bytes that a data packet carries.
const PAYLOAD: usize = 12;
const FIRST: u32 = 1000;

impl Step {
    /// First packet of a connection.
    pub const OPEN: Self =
        Self { reply: false, flags: SYN, sequence: FIRST - 1, acknowledgement: 0, payload: 0 };
    /// Packets that make it an established one, in this order.
    pub const OPENING: [Self; 3] = [
        Self::OPEN,
        Self { reply: true, flags: SYN | ACK, acknowledgement: FIRST, ..Self::OPEN },
        Self { flags: ACK, sequence: FIRST, acknowledgement: FIRST, ..Self::OPEN },
    ];

    /// The packet of an established connection that comes after `number` others: each side sends
    /// data and acknowledges the other's in turn.
    pub const fn data(number: u32) -> Self {
        let (mine, other) = (number / 2, number.div_ceil(2));
        Self {
            reply: number % 2 == 1,
            flags: ACK | PUSH,
            sequence: FIRST.wrapping_add(mine.wrapping_mul(PAYLOAD as u32)),
            acknowledgement: FIRST.wrapping_add(other.wrapping_mul(PAYLOAD as u32)),
            payload: PAYLOAD,
        }
    }
}

/// Room for one packet: whole cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Slot([u8; 128]);

/// A chunk of packets.
#[derive(Debug)]
pub struct Traffic {
    kind: Kind,
    slots: Vec<Slot>,
}

impl Traffic {
    /// No packets yet.
    pub fn new(kind: Kind) -> Self {
        Self { kind, slots: vec![Slot([0; 128]); CHUNK] }
    }

    /// Makes at most [`CHUNK`] packets, each of a connection, which is a number; different ones
    /// differ in address and in port.
    pub fn make(&mut self, packets: impl Iterator<Item = (Step, u32)>) -> Vec<Packet<'_>> {
        let kind = self.kind;
        let mut template = (Step::OPEN, kind.template(Step::OPEN));
        let mut lengths = Vec::with_capacity(CHUNK);
        for (slot, (step, connection)) in self.slots.iter_mut().zip(packets) {
            if template.0 != step {
                template = (step, kind.template(step));
            }
            let packet = &mut slot.0[..template.1.len()];
            packet.copy_from_slice(&template.1);
            kind.address(packet, step, connection);
            lengths.push(packet.len());
        }
        let packets = self.slots.iter().zip(lengths).map(|(slot, length)| Packet {
            checksum_verified: !kind.unverified,
            ..Packet::new(&slot.0[..length])
        });
        packets.collect()
    }
}

impl Kind {
    /// The packet without addresses, ports and checksum.
    fn template(self, step: Step) -> Vec<u8> {
        let layer4 = if self.tcp { tcp(step) } else { udp(step) };
        let length = layer4.len() as u16;
        let number = if self.tcp { 6 } else { 17 };
        let mut packet = if self.wide {
            let [high, low] = length.to_be_bytes();
            let mut header = vec![0; 40];
            header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, number, 64]);
            header
        } else {
            let [high, low] = (length + 20).to_be_bytes();
            let mut header = vec![0; 20];
            header[..10].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, 64, number]);
            header
        };
        packet.extend(layer4);
        packet
    }

    /// The tuple of a connection's original direction.
    pub fn tuple(self, connection: u32) -> Tuple {
        let prefix = if self.wide { 0x2001_0db8_u128 << 96 } else { 0 };
        Tuple {
            source: prefix | u128::from(0x0a00_0000 + (connection >> 4)),
            destination: prefix | u128::from(0xc0a8_0000 + (connection & 0xff)),
            source_id: 1024 + (connection % 60_000) as u16,
            destination_id: 443,
            protocol: if self.tcp { protocol::TCP } else { protocol::UDP },
            family: if self.wide { Family::Ipv6 } else { Family::Ipv4 },
        }
    }

    /// Writes the addresses and ports of a connection, and the checksum.
    fn address(self, packet: &mut [u8], step: Step, connection: u32) {
        let tuple = self.tuple(connection);
        let mut addresses = [tuple.source, tuple.destination];
        let mut ports = [tuple.source_id, tuple.destination_id];
        if step.reply {
            addresses.reverse();
            ports.reverse();
        }
        let (first, width, layer4) = if self.wide { (8, 16, 40) } else { (12, 4, 20) };
        for (at, address) in addresses.into_iter().enumerate() {
            packet[first + at * width..][..width]
                .copy_from_slice(&address.to_be_bytes()[16 - width..]);
        }
        for (at, port) in ports.into_iter().enumerate() {
            packet[layer4 + at * 2..][..2].copy_from_slice(&port.to_be_bytes());
        }
        let place = layer4 + if self.tcp { 16 } else { 6 };
        let pseudo = (packet.len() - layer4) as u32 + if self.tcp { 6 } else { 17 };
        let sum = checksum(&packet[first..], pseudo);
        packet[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The Internet checksum of addresses and layer 4 (RFC 1071); `first` is the rest of the pseudo
/// header.
fn checksum(bytes: &[u8], first: u32) -> u16 {
    let mut sum = u64::from(first);
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// A header with the options that common stacks send: timestamps always, the rest with SYN.
fn tcp(step: Step) -> Vec<u8> {
    const TIMESTAMPS: [u8; 10] = [8, 10, 0, 1, 2, 3, 0, 4, 5, 6];
    let mut options = Vec::new();
    if step.flags & SYN == 0 {
        options.extend([1, 1]);
        options.extend(TIMESTAMPS);
    } else {
        options.extend([2, 4, 0x05, 0xb4, 4, 2]);
        options.extend(TIMESTAMPS);
        options.extend([1, 3, 3, 7]);
    }
    let mut header = vec![0; 4];
    header.extend(step.sequence.to_be_bytes());
    header.extend(step.acknowledgement.to_be_bytes());
    header.extend([(((20 + options.len()) / 4) << 4) as u8, step.flags, 0xff, 0xff, 0, 0, 0, 0]);
    header.extend(options);
    header.resize(header.len() + step.payload, 0x5a);
    header
}

fn udp(step: Step) -> Vec<u8> {
    let [high, low] = (8 + step.payload as u16).to_be_bytes();
    let mut header = vec![0, 0, 0, 0, high, low, 0, 0];
    header.resize(8 + step.payload, 0x5a);
    header
}
