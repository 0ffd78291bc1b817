//! Checksums: the internet's (RFC 1071), its pseudo headers, and SCTP's CRC32c.

use ctkeeper_flow::Family;

use super::Datagram;
use crate::tuple::protocol;

/// A running internet checksum: the one's complement sum of 16-bit words in network order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of an IPv4 or IPv6 pseudo header; `length` is that of layer 4 in bytes.
    #[inline]
    pub const fn pseudo_header(
        source: u128,
        destination: u128,
        protocol: u8,
        length: usize,
    ) -> Self {
        // An IPv4 address in the low bits adds what it adds in a header of its own.
        let words = words_of(source) + words_of(destination);
        Self(words + protocol as u64 + (length as u64 & 0xffff) + (length as u64 >> 16))
    }

    /// With bytes that begin at an even place.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        // One's complement sums do not care for the order of bytes until the end.
        let sum: u64 = words.iter().map(|&word| u64::from(u32::from_ne_bytes(word))).sum();
        Self(self.0 + u64::from(fold(sum + u64::from(u32::from_ne_bytes(last))).to_be()))
    }

    /// The checksum that makes the sum hold.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !fold(self.0)
    }

    /// Whether the bytes summed, their checksum among them, agree with it.
    #[inline]
    pub const fn holds(self) -> bool {
        fold(self.0) == 0xffff
    }
}

/// Whether the checksum over the first `covered` bytes of layer 4 and the pseudo header of
/// `protocol` holds. The pseudo header's length is the datagram's own, whatever layer 4 says
/// (`nf_checksum`, `net/netfilter/utils.c`, Linux 6.12).
#[inline]
pub fn layer4_holds(datagram: &Datagram<'_>, protocol: u8, covered: usize) -> bool {
    let Datagram { source, destination, payload, .. } = *datagram;
    let pseudo = Sum::pseudo_header(source, destination, protocol, payload.len());
    pseudo.bytes(payload.get(..covered).unwrap_or(payload)).holds()
}

/// Whether the checksum of a UDP-Lite message holds as the kernel reckons: with a pseudo header of
/// UDP, in which IPv4 has only the lowest byte of the length, since length and protocol have
/// changed places on the way to `csum_tcpudp_nofold` (`nf_ip_checksum_partial`,
/// `net/netfilter/utils.c`, Linux 6.12; seen on 6.18.44).
pub fn udplite_holds(datagram: &Datagram<'_>, covered: usize) -> bool {
    let Datagram { source, destination, payload, .. } = *datagram;
    let length = match datagram.family {
        Family::Ipv4 => payload.len() & 0xff,
        Family::Ipv6 => payload.len(),
    };
    let pseudo = Sum::pseudo_header(source, destination, protocol::UDP, length);
    pseudo.bytes(payload.get(..covered).unwrap_or(payload)).holds()
}

/// Whether the checksum of an ICMP message holds, which has a pseudo header in IPv6 only.
#[inline]
pub fn icmp_holds(datagram: &Datagram<'_>) -> bool {
    match datagram.family {
        Family::Ipv4 => Sum::default().bytes(datagram.payload).holds(),
        Family::Ipv6 => layer4_holds(datagram, datagram.protocol, datagram.payload.len()),
    }
}

/// Whether the header of an IPv4 packet that [`Datagram::parse`] takes agrees with its checksum;
/// always so for IPv6. The IP stack drops a packet from outside where it does not, before any hook
/// (`ip_rcv_core`, `net/ipv4/ip_input.c`, Linux 6.12).
#[inline]
pub fn network_header_holds(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(first) if first >> 4 == 4 => {
            let header = bytes.get(..usize::from(first & 0x0f) * 4);
            header.is_some_and(|header| Sum::default().bytes(header).holds())
        }
        _ => true,
    }
}

/// CRC32c of an SCTP packet as it stands in the packet's third word, read in network order, whatever
/// stands there now; `None` without a whole common header (RFC 9260, appendix A).
pub fn sctp(packet: &[u8]) -> Option<u32> {
    let (header, rest) = packet.split_at_checked(12)?;
    let crc = crc32c::crc32c(&header[..8]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    Some(crc32c::crc32c_append(crc, rest).swap_bytes())
}

/// Whether the CRC32c of an SCTP packet holds.
pub fn sctp_holds(packet: &[u8]) -> bool {
    let stored = packet.get(8..12).and_then(<[u8]>::first_chunk).copied();
    sctp(packet).is_some_and(|crc| stored == Some(crc.to_be_bytes()))
}

/// A checksum after `old` became `new` in what it covers, without a look at the rest (RFC 1624).
#[inline]
pub const fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    updated_by(checksum, !old as u64 + new as u64)
}

/// A checksum after an address became another: in the IPv4 header, or in a pseudo header.
#[inline]
pub const fn updated_address(checksum: u16, old: u128, new: u128) -> u16 {
    updated_by(checksum, words_of(!old) + words_of(new))
}

const fn updated_by(checksum: u16, difference: u64) -> u16 {
    // The upper half adds nothing, but keeps the sum from being 0, which has two representations.
    !fold((!(checksum as u32)) as u64 + difference)
}

/// The sum of the words of an address.
const fn words_of(address: u128) -> u64 {
    let (high, low) = ((address >> 64) as u64, address as u64);
    (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
}

/// A sum of any number of 16-bit words at once, with the carries added in again.
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 1071 tells it: word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn sums_as_rfc_1071_does() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).checksum(), !0xddf2);
    }

    /// The samples of RFC 3720, appendix B.4, and the usual nine digits.
    #[test]
    fn crc_of_known_bytes() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let mut packet = [0; 32];
        packet[8..12].copy_from_slice(&0xaa36_918a_u32.to_be_bytes());
        assert!(sctp_holds(&packet));
        packet[31] = 1;
        assert!(!sctp_holds(&packet));
        assert!(!sctp_holds(&packet[..11]));
    }

    proptest! {
        #[test]
        fn fast_and_plain_sums_agree(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(Sum::default().bytes(&bytes).checksum(), plain(&bytes));
        }

        #[test]
        fn a_pseudo_header_sums_as_it_would_in_bytes(
            source: u128, destination: u128, protocol: u8, length in 0_u32..200_000,
        ) {
            let mut bytes = source.to_be_bytes().to_vec();
            bytes.extend(destination.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
            let sum = Sum::pseudo_header(source, destination, protocol, length as usize);
            prop_assert_eq!(sum.checksum(), plain(&bytes));
        }

        #[test]
        fn an_update_is_a_new_sum(mut bytes: [u8; 40], new: u16, address: u128) {
            bytes[..2].copy_from_slice(&[0, 0]);
            let before = plain(&bytes);
            let old = u16::from_be_bytes([bytes[2], bytes[3]]);
            bytes[2..4].copy_from_slice(&new.to_be_bytes());
            let between = updated(before, old, new);
            let old: [u8; 16] = *bytes[4..].first_chunk().unwrap();
            bytes[4..20].copy_from_slice(&address.to_be_bytes());
            let after = updated_address(between, u128::from_be_bytes(old), address);
            bytes[..2].copy_from_slice(&after.to_be_bytes());
            prop_assert!(Sum::default().bytes(&bytes).holds());
            // Bytes that are not all zero never have the checksum 0xffff.
            prop_assert!(after != 0xffff);
        }
    }
}
