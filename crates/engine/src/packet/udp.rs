//! UDP and UDP-Lite headers.

use crate::outcome::Reason;

const HEADER: usize = 8;

/// A UDP datagram whose length is in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpDatagram {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Length by the header, which may be less than what the network layer carries.
    pub length: u16,
    /// Checksum; 0 for none, which the tracker lets pass for IPv6 as well.
    pub checksum: u16,
}

impl UdpDatagram {
    /// Reads the header at the start of a datagram's payload.
    ///
    /// # Errors
    /// [`Reason::UdpHeader`], [`Reason::UdpLength`] (`udp_error`, `nf_conntrack_proto_udp.c`,
    /// Linux 6.12). A length of 0, as IPv6 jumbograms have it, is out of range too.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, Reason> {
        let header = Self::read(payload).ok_or(Reason::UdpHeader)?;
        let length = usize::from(header.length);
        if length > payload.len() || length < HEADER {
            return Err(Reason::UdpLength);
        }
        Ok(header)
    }

    #[inline]
    fn read(payload: &[u8]) -> Option<Self> {
        let header = payload.first_chunk::<HEADER>()?;
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (source, destination, length, checksum) = (field(0), field(2), field(4), field(6));
        Some(Self { source, destination, length, checksum })
    }
}

/// A UDP-Lite datagram whose coverage is in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpliteDatagram {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// How many bytes the checksum covers, from the header on.
    pub coverage: usize,
    /// Checksum; never 0.
    pub checksum: u16,
}

impl UdpliteDatagram {
    /// Reads the header at the start of a datagram's payload.
    ///
    /// # Errors
    /// [`Reason::UdpliteHeader`], [`Reason::UdpliteCoverage`], [`Reason::UdpliteChecksumMissing`]
    /// (`udplite_error`, `nf_conntrack_proto_udp.c`, Linux 6.12).
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, Reason> {
        let header = UdpDatagram::read(payload).ok_or(Reason::UdpliteHeader)?;
        let coverage = match usize::from(header.length) {
            0 => payload.len(),
            coverage if (HEADER..=payload.len()).contains(&coverage) => coverage,
            _ => return Err(Reason::UdpliteCoverage),
        };
        if header.checksum == 0 {
            return Err(Reason::UdpliteChecksumMissing);
        }
        let UdpDatagram { source, destination, checksum, .. } = header;
        Ok(Self { source, destination, coverage, checksum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn header(length: u8, checksum: u8) -> [u8; 12] {
        [0, 53, 0x9c, 0x40, 0, length, 0, checksum, 1, 2, 3, 4]
    }

    #[test]
    fn the_length_lies_between_the_header_and_the_packet() {
        assert_eq!(UdpDatagram::parse(&header(12, 0)[..7]), Err(Reason::UdpHeader));
        for (length, fits) in [(0, false), (7, false), (8, true), (12, true), (13, false)] {
            let parsed = UdpDatagram::parse(&header(length, 0)).map(|udp| udp.length);
            let expected = if fits { Ok(u16::from(length)) } else { Err(Reason::UdpLength) };
            assert_eq!(parsed, expected);
        }
    }

    #[test]
    fn no_coverage_is_all_of_it() {
        let coverage = |length| UdpliteDatagram::parse(&header(length, 1)).map(|udp| udp.coverage);
        assert_eq!(coverage(0), Ok(12));
        assert_eq!(coverage(8), Ok(8));
        assert_eq!(coverage(7), Err(Reason::UdpliteCoverage));
        assert_eq!(coverage(13), Err(Reason::UdpliteCoverage));
        let missing = UdpliteDatagram::parse(&header(8, 0));
        assert_eq!(missing, Err(Reason::UdpliteChecksumMissing));
        assert_eq!(UdpliteDatagram::parse(&[0; 7]), Err(Reason::UdpliteHeader));
    }
}
