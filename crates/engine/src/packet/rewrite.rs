//! Translation of a packet's bytes, with the checksums that cover what changes
//! (`nf_nat_proto.c`, Linux 6.12 and 6.1).

use ctkeeper_flow::Family;

use super::checksum::{self, Sum, icmp_holds, updated, updated_address};
use super::datagram::{Datagram, IPV4_HEADER, IPV6_HEADER, skip_extensions};
use super::gre;
use crate::nat::End;
use crate::outcome::Reason;
use crate::tuple::{Tuple, protocol};

/// Gives one end of a packet the address, and the port, id or key, that `target` has there.
///
/// Its checksums are changed by what changes, so that a wrong one stays wrong; only SCTP's is made
/// anew. A UDP checksum of 0 stays 0.
///
/// # Errors
/// [`Reason::Untranslatable`] where the layer 4 header is cut short, or GRE of an unknown version;
/// what [`Datagram::parse`] says of a bad network header. The bytes then are as they were.
pub fn translate(bytes: &mut [u8], end: End, target: &Tuple) -> Result<(), Reason> {
    let place = Place::of(bytes)?;
    let packet = bytes.get_mut(..place.length).ok_or(Reason::NetworkHeader)?;
    place.change(packet, end, target).ok_or(Reason::Untranslatable)
}

/// Whether [`translate`] can change the layer 4 header of a packet at one end. The kernel drops it
/// where it cannot, and if it is the first one, its connection comes not into the table
/// (`nf_nat_manip_pkt`).
pub(crate) fn can_translate(datagram: &Datagram<'_>, end: End) -> bool {
    let mut head = [0; 64];
    let length = datagram.payload.len().min(head.len());
    head[..length].copy_from_slice(&datagram.payload[..length]);
    let change = Change { end, old: 0, new: 0, id: 0, icmp_id: 0 };
    change.layer4(datagram.protocol, &mut head[..length]).is_some()
}

/// Whether an ICMP error about a known connection passes where packets are translated: it must have
/// room for a packet inside, and a right checksum, unless the caller has `verified` that
/// (`nf_nat_icmp_reply_translation`, `nf_nat_icmpv6_reply_translation`).
pub fn error_can_pass(datagram: &Datagram<'_>, verified: bool) -> bool {
    let inside = match datagram.family {
        Family::Ipv4 => IPV4_HEADER,
        Family::Ipv6 => IPV6_HEADER,
    };
    datagram.payload.len() >= ICMP_HEADER + inside && (verified || icmp_holds(datagram))
}

/// Translates an ICMP error at one end, and at the other end the packet inside.
///
/// `opposite` is the connection's tuple of the direction that the error does not go in: as the packet
/// inside looked where it was sent. Ids are translated inside only.
///
/// # Errors
/// As for [`translate`], for the packet inside as well; but that may be translated already.
pub fn translate_error(bytes: &mut [u8], end: End, opposite: &Tuple) -> Result<(), Reason> {
    let outer = Place::of(bytes)?;
    let packet = bytes.get_mut(..outer.length).ok_or(Reason::NetworkHeader)?;
    let message = packet.get_mut(outer.header..).ok_or(Reason::Untranslatable)?;
    let inside = message.get_mut(ICMP_HEADER..).ok_or(Reason::Untranslatable)?;
    let inner = Place::inside(outer.family, inside).ok_or(Reason::Untranslatable)?;
    inner.change(inside, end.other(), opposite).ok_or(Reason::Untranslatable)?;
    outer.renew_icmp_checksum(packet);
    let Tuple { source, destination, .. } = *opposite;
    let target = Tuple { source: destination, destination: source, ..*opposite };
    outer.change(packet, end, &target).ok_or(Reason::Untranslatable)
}

const ICMP_HEADER: usize = 8;

/// Where things are in a packet.
struct Place {
    family: Family,
    length: usize,
    /// Where layer 4 begins.
    header: usize,
    /// `None` where there is nothing of it that could be changed.
    protocol: Option<u8>,
}

impl Place {
    fn of(bytes: &[u8]) -> Result<Self, Reason> {
        let Datagram { family, length, header, protocol, .. } = Datagram::parse(bytes)?;
        Ok(Self { family, length: length as usize, header, protocol: Some(protocol) })
    }

    /// In the packet inside an ICMP error, which may end anywhere.
    fn inside(family: Family, bytes: &[u8]) -> Option<Self> {
        let length = bytes.len();
        let (header, protocol) = match family {
            Family::Ipv4 => {
                let fixed = bytes.first_chunk::<IPV4_HEADER>()?;
                (usize::from(fixed[0] & 0x0f) * 4, Some(fixed[9]))
            }
            Family::Ipv6 => {
                let fixed = bytes.first_chunk::<IPV6_HEADER>()?;
                match skip_extensions(bytes, IPV6_HEADER, fixed[6]) {
                    Ok((protocol, header)) => (header, Some(protocol)),
                    Err(_) => (length, None),
                }
            }
        };
        Some(Self { family, length, header, protocol })
    }

    fn change(&self, packet: &mut [u8], end: End, target: &Tuple) -> Option<()> {
        let (new, id) = match end {
            End::Source => (target.source, target.source_id),
            End::Destination => (target.destination, target.destination_id),
        };
        let (at, size) = match (self.family, end) {
            (Family::Ipv4, End::Source) => (12, 4),
            (Family::Ipv4, End::Destination) => (16, 4),
            (Family::Ipv6, End::Source) => (8, 16),
            (Family::Ipv6, End::Destination) => (24, 16),
        };
        let new = if self.family == Family::Ipv4 { new & 0xffff_ffff } else { new };
        let old = address_at(packet.get(at..at + size)?);
        if let Some(protocol) = self.protocol {
            let layer4 = packet.get_mut(self.header..).unwrap_or_default();
            Change { end, old, new, id, icmp_id: target.source_id }.layer4(protocol, layer4)?;
        }
        if self.family == Family::Ipv4 {
            update(packet, 10, |sum| updated_address(sum, old, new))?;
        }
        packet.get_mut(at..at + size)?.copy_from_slice(&new.to_be_bytes()[16 - size..]);
        Some(())
    }

    fn renew_icmp_checksum(&self, packet: &mut [u8]) {
        let length = packet.len().saturating_sub(self.header);
        let pseudo = match self.family {
            Family::Ipv4 => Sum::default(),
            Family::Ipv6 => {
                let source = address_at(packet.get(8..24).unwrap_or_default());
                let destination = address_at(packet.get(24..40).unwrap_or_default());
                Sum::pseudo_header(source, destination, protocol::ICMPV6, length)
            }
        };
        let message = packet.get_mut(self.header..).unwrap_or_default();
        put(message, 2, 0);
        let checksum = pseudo.bytes(message).checksum();
        put(message, 2, checksum);
    }
}

/// What is to change in layer 4.
struct Change {
    end: End,
    old: u128,
    new: u128,
    /// Port or key at the end.
    id: u16,
    /// Id of an ICMP query, which both directions share.
    icmp_id: u16,
}

impl Change {
    fn layer4(&self, protocol: u8, layer4: &mut [u8]) -> Option<()> {
        match protocol {
            protocol::TCP => self.tcp(layer4),
            protocol::UDP if at(layer4, 6)? == 0 => self.port(layer4).map(|_| ()),
            protocol::UDP | protocol::UDPLITE => self.udp(layer4),
            protocol::SCTP => self.sctp(layer4),
            protocol::ICMP => self.icmp(layer4),
            protocol::ICMPV6 => self.icmpv6(layer4),
            protocol::GRE => self.gre(layer4),
            _ => Some(()),
        }
    }

    /// Writes the port; the one that was there. Eight bytes must be there, all that a packet inside
    /// an error is sure to have.
    fn port(&self, layer4: &mut [u8]) -> Option<u16> {
        let header = layer4.first_chunk_mut::<8>()?;
        let at = match self.end {
            End::Source => 0,
            End::Destination => 2,
        };
        let old = u16::from_be_bytes([header[at], header[at + 1]]);
        put(header, at, self.id);
        Some(old)
    }

    fn tcp(&self, layer4: &mut [u8]) -> Option<()> {
        const CHECKSUM: usize = 16;
        let old = self.port(layer4)?;
        if layer4.len() < 20 {
            return Some(());
        }
        update(layer4, CHECKSUM, |sum| updated(self.readdressed(sum), old, self.id))
    }

    fn udp(&self, layer4: &mut [u8]) -> Option<()> {
        let old = self.port(layer4)?;
        update(layer4, 6, |sum| match updated(self.readdressed(sum), old, self.id) {
            0 => 0xffff,
            sum => sum,
        })
    }

    fn sctp(&self, layer4: &mut [u8]) -> Option<()> {
        self.port(layer4)?;
        if let Some(crc) = checksum::sctp(layer4) {
            layer4.get_mut(8..12)?.copy_from_slice(&crc.to_be_bytes());
        }
        Some(())
    }

    fn icmp(&self, layer4: &mut [u8]) -> Option<()> {
        match *layer4.first_chunk::<8>()? {
            [0 | 8 | 13..=18, ..] => self.icmp_id(layer4),
            _ => Some(()),
        }
    }

    fn icmpv6(&self, layer4: &mut [u8]) -> Option<()> {
        let [kind, ..] = *layer4.first_chunk::<8>()?;
        update(layer4, 2, |sum| self.readdressed(sum))?;
        match kind {
            128 | 129 => self.icmp_id(layer4),
            _ => Some(()),
        }
    }

    fn icmp_id(&self, layer4: &mut [u8]) -> Option<()> {
        let old = at(layer4, 4)?;
        put(layer4, 4, self.icmp_id);
        update(layer4, 2, |sum| updated(sum, old, self.icmp_id))
    }

    /// The packet carries the key of its destination only.
    fn gre(&self, layer4: &mut [u8]) -> Option<()> {
        let [_, flags, ..] = *layer4.first_chunk::<8>()?;
        match (self.end, flags & gre::VERSION) {
            (End::Source, _) | (End::Destination, 0) => {}
            (End::Destination, gre::VERSION_1) => put(layer4, 6, self.id),
            _ => return None,
        }
        Some(())
    }

    /// A checksum over a pseudo header, with the new address in it.
    fn readdressed(&self, checksum: u16) -> u16 {
        updated_address(checksum, self.old, self.new)
    }
}

fn at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|&two| u16::from_be_bytes(two))
}

/// Writes two bytes, if there is room.
fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(two) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *two = value.to_be_bytes();
    }
}

fn update(bytes: &mut [u8], place: usize, change: impl FnOnce(u16) -> u16) -> Option<()> {
    let value = at(bytes, place)?;
    put(bytes, place, change(value));
    Some(())
}

/// An address of four or sixteen bytes.
fn address_at(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |address, &byte| address << 8 | u128::from(byte))
}
