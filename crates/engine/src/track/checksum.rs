//! Checksums of layer 4.

use ctkeeper_flow::Family;

use crate::packet::Datagram;

/// Whether the internet checksum over the first `covered` bytes of layer 4 and the pseudo header
/// of `protocol` holds. The pseudo header's length is the datagram's own, whatever layer 4 says
/// (`nf_checksum`, `nf_checksum_partial`, `net/netfilter/utils.c`, Linux 6.12).
pub(super) fn holds(datagram: &Datagram<'_>, protocol: u8, covered: usize) -> bool {
    let pseudo = sum_of_words(datagram.source)
        + sum_of_words(datagram.destination)
        + datagram.payload.len() as u64
        + u64::from(protocol);
    let covered = datagram.payload.get(..covered).unwrap_or(datagram.payload);
    fold(pseudo + sum(covered)) == 0xffff
}

/// Whether the internet checksum over layer 4 holds without a pseudo header (ICMP of IPv4).
pub(super) fn holds_plain(datagram: &Datagram<'_>) -> bool {
    fold(sum(datagram.payload)) == 0xffff
}

/// Whether the checksum of ICMP holds, which has a pseudo header in IPv6 only.
pub(super) fn holds_icmp(datagram: &Datagram<'_>) -> bool {
    match datagram.family {
        Family::Ipv4 => holds_plain(datagram),
        Family::Ipv6 => holds(datagram, datagram.protocol, datagram.payload.len()),
    }
}

/// Whether the CRC32c of an SCTP packet holds: over all of it, its own field taken as 0, and that
/// field little-endian (RFC 9260, appendix A).
pub(super) fn holds_crc32c(payload: &[u8]) -> bool {
    let Some((header, chunks)) = payload.split_first_chunk::<12>() else { return false };
    let [head @ .., a, b, c, d] = *header;
    let crc = crc32c(crc32c(crc32c(!0, &head), &[0; 4]), chunks);
    !crc == u32::from_le_bytes([a, b, c, d])
}

/// Takes bytes into a CRC32c that is still inverted.
pub(super) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| (crc >> 8) ^ CRC32C[usize::from(crc as u8 ^ byte)])
}

/// What each byte adds; of the polynomial 0x1edc6f41, reflected.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x82f6_3b78 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn sum(bytes: &[u8]) -> u64 {
    let (fours, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    fours.iter().chain([&last]).map(|&four| u64::from(u32::from_be_bytes(four))).sum()
}

fn sum_of_words(address: u128) -> u64 {
    sum(&address.to_be_bytes())
}

/// The sum in one's complement, down to 16 bits.
const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_as_rfc_1071_does() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)), 0xddf2);
        assert_eq!(
            fold(sum(&bytes[..7])),
            fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0]))
        );
    }

    #[test]
    fn crc32c_of_the_vectors_of_rfc_3720() {
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(!0, &[0xff; 32]), 0x62a8_ab43);
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }
}
