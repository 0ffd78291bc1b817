//! SCTP packets and their chunks.

use crate::outcome::Reason;

const HEADER: usize = 12;
const CHUNK_HEADER: usize = 4;

/// An SCTP packet with a whole common header.
#[derive(Clone, Copy, Debug)]
pub struct SctpPacket<'a> {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Verification tag.
    pub verification_tag: u32,
    chunks: &'a [u8],
}

/// One chunk of an SCTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Type.
    pub kind: u8,
    /// Flags; bit 0 is T.
    pub flags: u8,
    /// Length by its header, which may be 0 or beyond the packet.
    pub length: u16,
    /// All that follows its header to the end of the packet: what a chunk's length claims is not
    /// held against it, as the kernel does not.
    pub rest: &'a [u8],
}

impl<'a> SctpPacket<'a> {
    /// Reads the common header at the start of a datagram's payload.
    ///
    /// # Errors
    /// [`Reason::SctpHeader`] (`sctp_error`, `nf_conntrack_proto_sctp.c`, Linux 6.12).
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Self, Reason> {
        let (header, chunks) = payload.split_first_chunk::<HEADER>().ok_or(Reason::SctpHeader)?;
        let source = u16::from_be_bytes([header[0], header[1]]);
        let destination = u16::from_be_bytes([header[2], header[3]]);
        let verification_tag = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        Ok(Self { source, destination, verification_tag, chunks })
    }

    /// Its chunks as far as their headers are there (`for_each_sctp_chunk`). A chunk of length 0 is
    /// the last.
    #[inline]
    pub const fn chunks(&self) -> Chunks<'a> {
        Chunks(self.chunks)
    }
}

/// The chunks of an SCTP packet.
#[derive(Clone, Debug)]
pub struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    #[inline]
    fn next(&mut self) -> Option<Chunk<'a>> {
        let (&[kind, flags, high, low], rest) = self.0.split_first_chunk::<CHUNK_HEADER>()?;
        let length = u16::from_be_bytes([high, low]);
        let step = usize::from(length).next_multiple_of(4);
        self.0 = if step == 0 { &[] } else { self.0.get(step..).unwrap_or_default() };
        Some(Chunk { kind, flags, length, rest })
    }
}

impl Chunk<'_> {
    /// The tag that an INIT or INIT ACK announces; `None` where its 16 bytes of header are cut short
    /// (`sctp_new`, `nf_conntrack_proto_sctp.c`, Linux 6.12).
    pub fn initiate_tag(&self) -> Option<u32> {
        let [a, b, c, d, ..] = *self.rest.first_chunk::<16>()?;
        Some(u32::from_be_bytes([a, b, c, d]))
    }

    /// Whether the T bit is set: the tag is the peer's, reflected.
    pub const fn is_tag_reflected(&self) -> bool {
        self.flags & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(chunks: &[u8]) -> Vec<(u8, u16)> {
        let mut bytes = vec![0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0];
        bytes.extend(chunks);
        let sctp = SctpPacket::parse(&bytes).unwrap();
        assert_eq!((sctp.source, sctp.destination, sctp.verification_tag), (1, 2, 9));
        sctp.chunks().map(|chunk| (chunk.kind, chunk.length)).collect()
    }

    #[test]
    fn walks_over_padding_and_stops_at_length_0() {
        assert_eq!(kinds(&[3, 0, 0, 5, 1, 0, 0, 0, 4, 0, 0, 4]), [(3, 5), (4, 4)]);
        assert_eq!(kinds(&[3, 0, 0, 0, 4, 0, 0, 4]), [(3, 0)]);
        assert_eq!(kinds(&[3, 0, 255, 255]), [(3, 65_535)]);
        assert_eq!(kinds(&[3, 0, 0]), []);
        assert_eq!(kinds(&[3, 0, 0, 1, 4, 0, 0, 3]), [(3, 1), (4, 3)]);
    }

    #[test]
    fn an_initiation_needs_all_of_its_header() {
        let mut rest = [0; 16];
        rest[3] = 7;
        let init = Chunk { kind: 1, flags: 0, length: 20, rest: &rest };
        assert_eq!(init.initiate_tag(), Some(7));
        assert_eq!(Chunk { rest: &rest[..15], ..init }.initiate_tag(), None);
    }
}
