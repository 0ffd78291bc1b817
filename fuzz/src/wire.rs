//! Packets built from their parts, with checksums that hold.

use ctkeeper_engine::Tuple;
use ctkeeper_engine::packet::checksum::{self, Sum};
use ctkeeper_engine::tuple::protocol;
use ctkeeper_flow::Family;

/// A datagram around layer 4, whose checksum is put in.
pub(crate) fn datagram(tuple: &Tuple, mut payload: Vec<u8>) -> Vec<u8> {
    put_checksum(tuple, &mut payload);
    let mut bytes = match tuple.family {
        Family::Ipv4 => ipv4_header(tuple, payload.len()),
        Family::Ipv6 => ipv6_header(tuple, payload.len()),
    };
    bytes.extend(payload);
    bytes
}

fn ipv4_header(tuple: &Tuple, payload: usize) -> Vec<u8> {
    let [high, low] = (20 + payload as u16).to_be_bytes();
    let mut bytes = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, tuple.protocol, 0, 0];
    bytes.extend((tuple.source as u32).to_be_bytes());
    bytes.extend((tuple.destination as u32).to_be_bytes());
    let sum = Sum::default().bytes(&bytes).checksum();
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn ipv6_header(tuple: &Tuple, payload: usize) -> Vec<u8> {
    let [high, low] = (payload as u16).to_be_bytes();
    let mut bytes = vec![0x60, 0, 0, 0, high, low, tuple.protocol, 255];
    bytes.extend(tuple.source.to_be_bytes());
    bytes.extend(tuple.destination.to_be_bytes());
    bytes
}

/// UDP without a checksum keeps none.
fn put_checksum(tuple: &Tuple, payload: &mut [u8]) {
    let place = match tuple.protocol {
        protocol::TCP => 16,
        protocol::UDP | protocol::UDPLITE => 6,
        protocol::ICMP | protocol::ICMPV6 => 2,
        protocol::SCTP => {
            if let (Some(crc), Some(field)) = (checksum::sctp(payload), payload.get_mut(8..12)) {
                field.copy_from_slice(&crc.to_be_bytes());
            }
            return;
        }
        _ => return,
    };
    let Some(field) = payload.get_mut(place..place + 2) else { return };
    if tuple.protocol == protocol::UDP && field == [0, 0] {
        return;
    }
    field.fill(0);
    let Tuple { source, destination, .. } = *tuple;
    // The kernel takes UDP-Lite's pseudo header for one of UDP.
    let number = if tuple.protocol == protocol::UDPLITE { protocol::UDP } else { tuple.protocol };
    let pseudo = match tuple.protocol {
        protocol::ICMP => Sum::default(),
        _ => Sum::pseudo_header(source, destination, number, payload.len()),
    };
    let sum = match pseudo.bytes(payload).checksum() {
        0 => 0xffff,
        sum => sum,
    };
    payload[place..place + 2].copy_from_slice(&sum.to_be_bytes());
}

/// An ICMP error about a packet, of which so many bytes are kept.
pub(crate) fn error(about: &[u8], tuple: &Tuple, kind: u8, keep: usize) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    if tuple.protocol == protocol::ICMPV6 && kind == 137 {
        message.extend([0; 32]);
        message.extend([4, 1, 0, 0, 0, 0, 0, 0]);
    }
    message.extend(&about[..keep.min(about.len())]);
    datagram(tuple, message)
}

pub(crate) struct Tcp<'a> {
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// Whole words.
    pub(crate) options: &'a [u8],
}

impl Tcp<'_> {
    pub(crate) fn build(&self, tuple: &Tuple, data: &[u8]) -> Vec<u8> {
        let mut bytes = ports(tuple);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([(5 + self.options.len() / 4) as u8 * 16, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.options);
        bytes.extend(data);
        bytes
    }
}

pub(crate) fn udp(tuple: &Tuple, length: Option<u16>, bare: bool, data: &[u8]) -> Vec<u8> {
    let mut bytes = ports(tuple);
    let whole = match tuple.protocol {
        protocol::UDPLITE => 0,
        _ => 8 + data.len() as u16,
    };
    bytes.extend(length.unwrap_or(whole).to_be_bytes());
    bytes.extend([0, u8::from(!bare)]);
    bytes.extend(data);
    bytes
}

pub(crate) fn sctp(tuple: &Tuple, tag: u32) -> Vec<u8> {
    let mut bytes = ports(tuple);
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn ports(tuple: &Tuple) -> Vec<u8> {
    [tuple.source_id.to_be_bytes(), tuple.destination_id.to_be_bytes()].concat()
}
