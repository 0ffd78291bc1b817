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
}
