//! The network header, and the tuple behind it.

use ctkeeper_flow::Family;

use super::gre;
use crate::outcome::Reason;
use crate::tuple::{Tuple, protocol};

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;

/// A datagram whose network header has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Layer 3 family.
    pub family: Family,
    /// Source address; IPv4 in the low 32 bits.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// Layer 4 protocol, behind all extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Bytes before the layer 4 header. Beyond [`length`](Self::length) where the last IPv6
    /// extension header claims more than there is, which the kernel lets pass.
    pub header: usize,
    /// Length of the datagram in bytes by its header, which accounting counts. What the caller's
    /// bytes hold beyond it is padding.
    pub length: u32,
    /// From the layer 4 header to the end of the datagram.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Checks the network header of `bytes`.
    ///
    /// The checksum of an IPv4 header is left to
    /// [`network_header_holds`](super::checksum::network_header_holds).
    ///
    /// # Errors
    /// [`Reason::NetworkHeader`] where the IP stack drops the packet before any hook
    /// (`ip_rcv_core`, `net/ipv4/ip_input.c`; `ip6_rcv_core`, `net/ipv6/ip6_input.c`);
    /// [`Reason::Fragment`] and [`Reason::ExtensionHeader`] where the tracker finds no layer 4
    /// header in it (`get_l4proto`, `nf_conntrack_core.c`; `ipv6_skip_exthdr`,
    /// `net/ipv6/exthdrs_core.c`). All of Linux 6.12.
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Reason> {
        match bytes.first() {
            Some(first) if first >> 4 == 4 => Self::parse_ipv4(bytes),
            Some(first) if first >> 4 == 6 => Self::parse_ipv6(bytes),
            _ => Err(Reason::NetworkHeader),
        }
    }

    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    fn parse_ipv4(bytes: &'a [u8]) -> Result<Self, Reason> {
        let fixed = bytes.first_chunk::<IPV4_HEADER>().ok_or(Reason::NetworkHeader)?;
        let header = usize::from(fixed[0] & 0x0f) * 4;
        let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if header < IPV4_HEADER || length < header {
            return Err(Reason::NetworkHeader);
        }
        let payload = bytes.get(header..length).ok_or(Reason::NetworkHeader)?;
        if u16::from_be_bytes([fixed[6], fixed[7]]) & IPV4_OFFSET != 0 {
            return Err(Reason::Fragment);
        }
        Ok(Self {
            family: Family::Ipv4,
            source: ipv4_address([fixed[12], fixed[13], fixed[14], fixed[15]]),
            destination: ipv4_address([fixed[16], fixed[17], fixed[18], fixed[19]]),
            protocol: fixed[9],
            hop_limit: fixed[8],
            header,
            length: length as u32,
            payload,
        })
    }

    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    fn parse_ipv6(bytes: &'a [u8]) -> Result<Self, Reason> {
        let fixed = bytes.first_chunk::<IPV6_HEADER>().ok_or(Reason::NetworkHeader)?;
        let next = fixed[6];
        let length = match u16::from_be_bytes([fixed[4], fixed[5]]) {
            0 if next == extension::HOP_BY_HOP => jumbo_length(bytes)?,
            length => IPV6_HEADER + usize::from(length),
        };
        let bytes = bytes.get(..length).ok_or(Reason::NetworkHeader)?;
        let (protocol, header) = match next {
            protocol::TCP | protocol::UDP => (next, IPV6_HEADER),
            _ => skip_extensions(bytes, IPV6_HEADER, next)?,
        };
        Ok(Self {
            family: Family::Ipv6,
            source: ipv6_address(fixed, 8),
            destination: ipv6_address(fixed, 24),
            protocol,
            hop_limit: fixed[7],
            header,
            length: length as u32,
            payload: bytes.get(header..).unwrap_or_default(),
        })
    }

    /// The tuple in the direction of the packet. Of a PPTP packet (GRE version 1) the source's key
    /// is 0, which the caller replaces by what its keymap says (`gre_keymap_lookup`).
    ///
    /// # Errors
    /// [`Reason::Layer4Short`], [`Reason::Gre`] (`nf_ct_get_tuple`, Linux 6.12).
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    pub fn tuple(&self) -> Result<Tuple, Reason> {
        let (source_id, destination_id) = ids(self.protocol, self.payload)?;
        Ok(Tuple {
            source: self.source,
            destination: self.destination,
            source_id,
            destination_id,
            protocol: self.protocol,
            family: self.family,
        })
    }
}

/// The tuple of the packet that an ICMP error of `family` carries, read as leniently as the kernel
/// reads it: neither its version nor its length is looked at, and the header's length only as far as
/// it says where layer 4 begins (`nf_ct_get_tuplepr`, `nf_conntrack_core.c`, Linux 6.12).
///
/// # Errors
/// [`Reason::IcmpInner`].
pub(super) fn inner_tuple(family: Family, bytes: &[u8]) -> Result<Tuple, Reason> {
    let (source, destination, protocol, header) = match family {
        Family::Ipv4 => inner_ipv4(bytes),
        Family::Ipv6 => inner_ipv6(bytes),
    }
    .ok_or(Reason::IcmpInner)?;
    let payload = bytes.get(header..).unwrap_or_default();
    let (source_id, destination_id) = ids(protocol, payload).map_err(|_| Reason::IcmpInner)?;
    Ok(Tuple { source, destination, source_id, destination_id, protocol, family })
}

fn inner_ipv4(bytes: &[u8]) -> Option<(u128, u128, u8, usize)> {
    let fixed = bytes.first_chunk::<IPV4_HEADER>()?;
    let header = usize::from(fixed[0] & 0x0f) * 4;
    if u16::from_be_bytes([fixed[6], fixed[7]]) & IPV4_OFFSET != 0 || header > bytes.len() {
        return None;
    }
    let source = ipv4_address([fixed[12], fixed[13], fixed[14], fixed[15]]);
    let destination = ipv4_address([fixed[16], fixed[17], fixed[18], fixed[19]]);
    Some((source, destination, fixed[9], header))
}

fn inner_ipv6(bytes: &[u8]) -> Option<(u128, u128, u8, usize)> {
    let fixed = bytes.first_chunk::<IPV6_HEADER>()?;
    let (protocol, header) = skip_extensions(bytes, IPV6_HEADER, fixed[6]).ok()?;
    Some((ipv6_address(fixed, 8), ipv6_address(fixed, 24), protocol, header))
}

/// The layer 4 ids of the direction of a packet of `protocol`.
#[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
#[inline(always)]
fn ids(protocol: u8, payload: &[u8]) -> Result<(u16, u16), Reason> {
    match protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDPLITE => {
            let [a, b, c, d] = *payload.first_chunk().ok_or(Reason::Layer4Short)?;
            Ok((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let [kind, code, _, _, id, low, _, _]: [u8; 8] =
                *payload.first_chunk().ok_or(Reason::Layer4Short)?;
            Ok((u16::from_be_bytes([id, low]), u16::from_be_bytes([kind, code])))
        }
        protocol::GRE => gre::key(payload).map(|key| (0, key)),
        _ => Ok((0, 0)),
    }
}

/// Of the field that also holds the flags (`IP_OFFSET`).
const IPV4_OFFSET: u16 = 0x1fff;

/// IANA numbers of the IPv6 headers that stand before layer 4 (`ipv6_ext_hdr`,
/// `net/ipv6/exthdrs_core.c`, Linux 6.12).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const NO_NEXT: u8 = 59;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const ALL: [u8; 6] =
        [HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, NO_NEXT, DESTINATION];
}

/// The protocol behind the extension headers, and where its header begins: possibly beyond the end
/// of `bytes`, as only the first two bytes of each extension header must be there.
pub(super) fn skip_extensions(bytes: &[u8], start: usize, next: u8) -> Result<(u8, usize), Reason> {
    let (mut next, mut at) = (next, start);
    while extension::ALL.contains(&next) {
        if next == extension::NO_NEXT {
            return Err(Reason::ExtensionHeader);
        }
        let header = bytes.get(at..).ok_or(Reason::ExtensionHeader)?;
        let [following, units] = *header.first_chunk().ok_or(Reason::ExtensionHeader)?;
        at += match next {
            extension::FRAGMENT => fragment_length(header)?,
            extension::AUTHENTICATION => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        next = following;
    }
    Ok((next, at))
}

/// The length of a fragment header, if the fragment is the first.
fn fragment_length(header: &[u8]) -> Result<usize, Reason> {
    let [_, _, high, low] = *header.first_chunk().ok_or(Reason::ExtensionHeader)?;
    if u16::from_be_bytes([high, low]) & !7 != 0 { Err(Reason::Fragment) } else { Ok(8) }
}

/// The length of a datagram that gives none in its fixed header but has a hop-by-hop header, which
/// may hold a jumbo payload option (RFC 2675). Without that option it is all there is
/// (`ip6_rcv_core`; `ipv6_hop_jumbo`, `net/ipv6/exthdrs.c`, Linux 6.12).
fn jumbo_length(bytes: &[u8]) -> Result<usize, Reason> {
    const PAD1: u8 = 0;
    const JUMBO: u8 = 0xc2;
    let end = bytes.get(IPV6_HEADER + 1).ok_or(Reason::NetworkHeader)?;
    let end = IPV6_HEADER + (usize::from(*end) + 1) * 8;
    let header = bytes.get(..end).ok_or(Reason::NetworkHeader)?;
    let mut length = bytes.len();
    let mut at = IPV6_HEADER + 2;
    while let Some(&kind) = header.get(at) {
        if kind == PAD1 {
            at += 1;
            continue;
        }
        let size = header.get(at + 1).ok_or(Reason::NetworkHeader)?;
        let next = at + 2 + usize::from(*size);
        let value = header.get(at + 2..next).ok_or(Reason::NetworkHeader)?;
        if kind == JUMBO {
            length = jumbo_option(at, value, bytes.len())?;
        }
        at = next;
    }
    Ok(length)
}

/// The datagram's length by a jumbo payload option that stands at `at`.
fn jumbo_option(at: usize, value: &[u8], available: usize) -> Result<usize, Reason> {
    const IPV6_LARGEST: usize = 0xffff;
    let value: [u8; 4] = value.try_into().map_err(|_| Reason::NetworkHeader)?;
    let payload = u32::from_be_bytes(value) as usize;
    let fits = payload <= available.saturating_sub(IPV6_HEADER);
    if at % 4 != 2 || payload <= IPV6_LARGEST || !fits {
        return Err(Reason::NetworkHeader);
    }
    Ok(IPV6_HEADER + payload)
}

#[inline]
fn ipv4_address(bytes: [u8; 4]) -> u128 {
    u128::from(u32::from_be_bytes(bytes))
}

/// The address at `at`, which is 8 or 24.
#[inline]
fn ipv6_address(fixed: &[u8; IPV6_HEADER], at: usize) -> u128 {
    fixed[at..].first_chunk().copied().map_or(0, u128::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(options: usize, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header = IPV4_HEADER + options;
        let [high, low] = ((header + payload.len()) as u16).to_be_bytes();
        let mut bytes = vec![0x40 | (header / 4) as u8, 0, high, low, 0, 0, 0x40, 0, 64, protocol];
        bytes.extend([0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.resize(header, 1);
        bytes.extend(payload);
        bytes
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let [high, low] = (payload.len() as u16).to_be_bytes();
        let mut bytes = vec![0x60, 0, 0, 0, high, low, next, 64];
        bytes.extend([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend(payload);
        bytes
    }

    const PORTS: [u8; 8] = [0x9c, 0x40, 0, 53, 0, 8, 0, 0];

    #[test]
    fn reads_an_ipv4_header_with_options_and_drops_the_padding() {
        let mut bytes = ipv4(8, protocol::UDP, &PORTS);
        bytes.extend([0; 10]);
        let datagram = Datagram::parse(&bytes).unwrap();
        assert_eq!((datagram.header, datagram.length, datagram.payload), (28, 36, &PORTS[..]));
        let tuple = datagram.tuple().unwrap();
        assert_eq!((tuple.source, tuple.destination), (0x0a00_0001, 0x0a00_0002));
        assert_eq!((tuple.source_id, tuple.destination_id), (40_000, 53));
    }

    #[test]
    fn what_the_ip_stack_drops_is_a_bad_network_header() {
        let good = ipv4(0, protocol::UDP, &PORTS);
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Datagram::parse(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(changed(0, 0x44), Reason::NetworkHeader);
        assert_eq!(changed(0, 0x55), Reason::NetworkHeader);
        assert_eq!(changed(3, 29), Reason::NetworkHeader);
        assert_eq!(changed(3, 19), Reason::NetworkHeader);
        assert_eq!(changed(7, 1), Reason::Fragment);
        assert_eq!(Datagram::parse(&good[..19]).unwrap_err(), Reason::NetworkHeader);
        assert_eq!(Datagram::parse(&[]).unwrap_err(), Reason::NetworkHeader);
    }

    #[test]
    fn the_first_fragment_has_a_tuple() {
        let mut bytes = ipv4(0, protocol::UDP, &PORTS);
        bytes[6] = 0x20;
        assert!(Datagram::parse(&bytes).unwrap().tuple().is_ok());
    }

    #[test]
    fn walks_over_extension_headers() {
        let mut payload = vec![extension::AUTHENTICATION, 0, 1, 4, 0, 0, 0, 0];
        payload.extend([extension::FRAGMENT, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        payload.extend([protocol::UDP, 0, 0, 1, 0, 0, 0, 9]);
        payload.extend(PORTS);
        let bytes = ipv6(extension::DESTINATION, &payload);
        let datagram = Datagram::parse(&bytes).unwrap();
        assert_eq!((datagram.protocol, datagram.header), (protocol::UDP, 68));
        assert_eq!(datagram.payload, PORTS);
    }

    #[test]
    fn a_chain_without_a_protocol_is_refused() {
        let parse = |next, payload: &[u8]| Datagram::parse(&ipv6(next, payload)).map(|_| ());
        assert_eq!(parse(extension::NO_NEXT, &[]), Err(Reason::ExtensionHeader));
        assert_eq!(parse(extension::ROUTING, &[17]), Err(Reason::ExtensionHeader));
        let later = [17, 0, 0, 8, 0, 0, 0, 9];
        assert_eq!(parse(extension::FRAGMENT, &later), Err(Reason::Fragment));
        assert_eq!(parse(extension::FRAGMENT, &later[..3]), Err(Reason::ExtensionHeader));
    }

    #[test]
    fn an_extension_header_may_claim_more_than_there_is() {
        let bytes = ipv6(extension::ROUTING, &[50, 9, 0, 0]);
        let datagram = Datagram::parse(&bytes).unwrap();
        assert_eq!((datagram.header, datagram.length), (120, 44));
        assert!(datagram.payload.is_empty() && datagram.tuple().is_ok());
    }

    #[test]
    fn a_jumbo_payload_is_as_long_as_its_option_says() {
        let mut payload = vec![protocol::UDP, 0, 0xc2, 4, 0, 1, 0, 0];
        payload.resize(65_536, 0);
        let mut bytes = ipv6(extension::HOP_BY_HOP, &payload);
        bytes.extend([0; 7]);
        assert_eq!(bytes[4..6], [0, 0]);
        assert_eq!(Datagram::parse(&bytes).unwrap().length, 65_576);
        bytes[46] = 1;
        assert_eq!(Datagram::parse(&bytes).unwrap_err(), Reason::NetworkHeader);
    }

    #[test]
    fn ids_of_protocols_without_ports() {
        let tuple = |protocol, payload: &[u8]| {
            let bytes = ipv4(0, protocol, payload);
            let tuple = Datagram::parse(&bytes).unwrap().tuple();
            tuple.map(|tuple| (tuple.source_id, tuple.destination_id))
        };
        assert_eq!(tuple(protocol::ICMP, &[8, 1, 0, 0, 0x12, 0x34, 0, 1]), Ok((0x1234, 0x0801)));
        assert_eq!(tuple(protocol::ICMP, &[8, 0, 0, 0, 0x12, 0x34, 0]), Err(Reason::Layer4Short));
        assert_eq!(tuple(protocol::TCP, &[0, 1, 0]), Err(Reason::Layer4Short));
        assert_eq!(tuple(50, &[]), Ok((0, 0)));
    }

    #[test]
    fn the_packet_inside_an_error_may_be_cut_anywhere_behind_its_ids() {
        let mut whole = ipv4(0, protocol::TCP, &[0; 20]);
        whole[20..24].copy_from_slice(&[0, 1, 0, 2]);
        let inner = |bytes: &[u8]| inner_tuple(Family::Ipv4, bytes);
        let tuple = inner(&whole).unwrap();
        assert_eq!((tuple.source_id, tuple.destination_id), (1, 2));
        assert_eq!(inner(&whole[..24]), Ok(tuple));
        assert_eq!(inner(&whole[..23]), Err(Reason::IcmpInner));
        whole[7] = 1;
        assert_eq!(inner(&whole), Err(Reason::IcmpInner));
    }
}
