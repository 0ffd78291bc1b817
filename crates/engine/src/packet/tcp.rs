//! TCP segments, with their options read only when they are asked for.

use crate::outcome::Reason;

const HEADER: usize = 20;

/// Bits of [`TcpSegment::flags`].
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 1 << 1;
    /// Reset.
    pub const RST: u8 = 1 << 2;
    /// Push.
    pub const PSH: u8 = 1 << 3;
    /// The acknowledgement is valid.
    pub const ACK: u8 = 1 << 4;
    /// The urgent pointer is valid.
    pub const URG: u8 = 1 << 5;
    /// Congestion experienced.
    pub const ECE: u8 = 1 << 6;
    /// Congestion window reduced.
    pub const CWR: u8 = 1 << 7;
}

/// A TCP segment with a whole header.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<'a> {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number, valid or not.
    pub acknowledgement: u32,
    /// The eight [`flag`]s.
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Bytes of data behind the header.
    pub payload: u32,
    options: &'a [u8],
}

/// What the options of a SYN say (`tcp_options`, `nf_conntrack_proto_tcp.c`, Linux 6.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Window scale, at most 14.
    pub scale: Option<u8>,
    /// Selective acknowledgements are welcome.
    pub sack_permitted: bool,
}

impl<'a> TcpSegment<'a> {
    /// Reads the header at the start of a datagram's payload.
    ///
    /// # Errors
    /// [`Reason::TcpHeader`] (`tcp_error`, `nf_conntrack_proto_tcp.c`, Linux 6.12). The flags are
    /// judged by [`flags_make_sense`](Self::flags_make_sense), behind the checksum as there.
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    pub fn parse(payload: &'a [u8]) -> Result<Self, Reason> {
        let fixed = payload.first_chunk::<HEADER>().ok_or(Reason::TcpHeader)?;
        let header = usize::from(fixed[12] >> 4) * 4;
        let options = payload.get(HEADER..header).ok_or(Reason::TcpHeader)?;
        let short = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let long = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        Ok(Self {
            source: short(0),
            destination: short(2),
            sequence: long(4),
            acknowledgement: long(8),
            flags: fixed[13],
            window: short(14),
            payload: (payload.len() - header) as u32,
            options,
        })
    }

    /// Whether all of these flags are set.
    #[inline]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Whether some stack sends this combination of flags; PSH, ECE and CWR go with any
    /// (`tcp_valid_flags`, `nf_conntrack_proto_tcp.c`, Linux 6.12).
    #[inline]
    pub const fn flags_make_sense(&self) -> bool {
        use flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};
        const SENSIBLE: u64 = {
            let sets = [
                SYN,
                SYN | URG,
                SYN | ACK,
                RST,
                RST | ACK,
                FIN | ACK,
                FIN | ACK | URG,
                ACK,
                ACK | URG,
            ];
            let (mut bits, mut at) = (0, 0);
            while at < sets.len() {
                bits |= 1 << sets[at];
                at += 1;
            }
            bits
        };
        SENSIBLE >> (self.flags & !(PSH | ECE | CWR)) & 1 != 0
    }

    /// The sequence number behind the segment, SYN and FIN counted (`segment_seq_plus_len`).
    #[inline]
    pub const fn end(&self) -> u32 {
        let syn = (self.flags >> 1) & 1;
        let fin = self.flags & 1;
        self.sequence.wrapping_add(self.payload).wrapping_add(syn as u32 + fin as u32)
    }

    /// Whether there is room for options; without, a SYN leaves what is known of them as it was.
    #[inline]
    pub const fn has_options(&self) -> bool {
        !self.options.is_empty()
    }

    /// What a SYN's options say; reading stops at the first that is cut short.
    pub fn syn_options(&self) -> SynOptions {
        const SCALE: u8 = 3;
        const SACK_PERMITTED: u8 = 4;
        const MAX_SCALE: u8 = 14;
        let mut read = SynOptions::default();
        for (kind, value) in Options(self.options) {
            match (kind, value) {
                (SCALE, &[scale]) => read.scale = Some(scale.min(MAX_SCALE)),
                (SACK_PERMITTED, []) => read.sack_permitted = true,
                _ => {}
            }
        }
        read
    }

    /// The highest right edge of the first SACK option, or `acknowledgement` where that is higher or
    /// there is none (`tcp_sack`, `nf_conntrack_proto_tcp.c`, Linux 6.12).
    #[inline]
    pub fn highest_sack(&self, acknowledgement: u32) -> u32 {
        // Nearly all segments have no option or timestamps alone.
        if self.options.is_empty() || has_timestamps_alone(self.options) {
            return acknowledgement;
        }
        highest_edge(self.options, acknowledgement)
    }
}

/// Two paddings and a timestamp option.
#[inline]
fn has_timestamps_alone(options: &[u8]) -> bool {
    options.len() == 12 && options.starts_with(&[1, 1, 8, 10])
}

#[inline(never)]
fn highest_edge(options: &[u8], acknowledgement: u32) -> u32 {
    const SACK: u8 = 5;
    let blocks = Options(options)
        .find(|(kind, value)| *kind == SACK && !value.is_empty() && value.len() % 8 == 0)
        .map_or(&[][..], |(_, value)| value);
    let (blocks, _) = blocks.as_chunks::<8>();
    let edges = blocks.iter().map(|&[_, _, _, _, a, b, c, d]| u32::from_be_bytes([a, b, c, d]));
    edges.fold(acknowledgement, |highest, edge| {
        if highest.wrapping_sub(edge).cast_signed() < 0 { edge } else { highest }
    })
}

/// Kind and value of each option up to the end marker or the first that does not fit.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const END: u8 = 0;
        const PADDING: u8 = 1;
        loop {
            match *self.0 {
                [] | [END, ..] => return None,
                [PADDING, ref rest @ ..] => self.0 = rest,
                [kind, length, ..] => {
                    let (option, rest) = self.0.split_at_checked(usize::from(length))?;
                    self.0 = rest;
                    return Some((kind, option.get(2..)?));
                }
                [_] => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
        assert_eq!(options.len() % 4, 0);
        let offset = (HEADER + options.len()) as u8 / 4;
        let mut bytes = vec![0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2];
        bytes.extend([offset << 4, flags, 0x10, 0, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn reads_a_segment() {
        let bytes = segment(flag::FIN | flag::ACK, &[], b"data");
        let tcp = TcpSegment::parse(&bytes).unwrap();
        assert_eq!((tcp.source, tcp.destination), (40_000, 443));
        assert_eq!((tcp.sequence, tcp.acknowledgement, tcp.window), (1, 2, 0x1000));
        assert_eq!((tcp.payload, tcp.end()), (4, 6));
        assert!(tcp.has(flag::FIN) && !tcp.has(flag::SYN) && !tcp.has_options());
    }

    #[test]
    fn a_header_longer_than_the_packet_or_shorter_than_its_fields_is_refused() {
        let mut bytes = segment(flag::SYN, &[1; 4], &[]);
        assert!(TcpSegment::parse(&bytes[..23]).is_err());
        bytes[12] = 4 << 4;
        assert_eq!(TcpSegment::parse(&bytes).unwrap_err(), Reason::TcpHeader);
    }

    #[test]
    fn nine_combinations_of_flags_make_sense() {
        let sensible = (0..=255).filter(|&flags| {
            let bytes = segment(flags, &[], &[]);
            TcpSegment::parse(&bytes).unwrap().flags_make_sense()
        });
        assert_eq!(sensible.count(), 9 * 8);
    }

    #[test]
    fn options_are_read_up_to_the_first_that_does_not_fit() {
        let read = |options: &[u8]| {
            let bytes = segment(flag::SYN, options, &[]);
            TcpSegment::parse(&bytes).unwrap().syn_options()
        };
        let (scale, sack_permitted) = (Some(7), true);
        assert_eq!(read(&[4, 2, 1, 3, 3, 7, 0, 0]), SynOptions { scale, sack_permitted });
        assert_eq!(read(&[3, 3, 200, 0]).scale, Some(14));
        assert_eq!(read(&[0, 4, 2, 1]), SynOptions::default());
        assert_eq!(read(&[9, 1, 4, 2]), SynOptions::default());
        assert_eq!(read(&[9, 0, 4, 2]), SynOptions::default());
        assert_eq!(read(&[1, 1, 1, 3]), SynOptions::default());
        assert_eq!(read(&[1, 3, 4, 7]), SynOptions::default());
        assert_eq!(read(&[1, 4, 3, 7]), SynOptions::default());
    }

    #[test]
    fn the_highest_edge_counts_whatever_the_order() {
        let sack = |options: &[u8], acknowledgement| {
            let bytes = segment(flag::ACK, options, &[]);
            TcpSegment::parse(&bytes).unwrap().highest_sack(acknowledgement)
        };
        let two = [1, 1, 5, 18, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0, 0, 5];
        assert_eq!(sack(&two, 2), 9);
        assert_eq!(sack(&two, 10), 10);
        assert_eq!(sack(&two, u32::MAX - 5), 9);
        assert_eq!(sack(&[1, 1, 8, 10, 5, 10, 0, 0, 0, 0, 0, 9], 2), 2);
        assert_eq!(sack(&[5, 2, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9], 2), 9);
        assert_eq!(sack(&[5, 6, 0, 0, 0, 9, 0, 0], 2), 2);
        assert_eq!(sack(&[], 2), 2);
    }
}
