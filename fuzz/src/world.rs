//! Hosts that talk: packets as an input has them send, from polite to absurd.

use ctkeeper_engine::packet::flag::{ACK, FIN, PSH, RST, SYN, URG};
use ctkeeper_engine::tuple::protocol;
use ctkeeper_engine::{Handle, Tuple};
use ctkeeper_flow::Family;

use crate::input::Input;
use crate::wire;

/// Conversations at once.
const TALKS: usize = 64;
/// Packets that can be sent again or complained about.
const REMEMBERED: usize = 16;

/// All that was said so far.
pub(crate) struct World {
    talks: Vec<Talk>,
    sent: Vec<(Vec<u8>, Tuple)>,
}

/// One conversation, as its ends know it.
#[derive(Clone, Copy, Default)]
struct Talk {
    /// Next sequence number of client and server.
    next: [u32; 2],
    /// Verification tags that client and server expect.
    tags: [u32; 2],
    handle: Option<Handle>,
}

/// A packet and the conversation it is of.
pub(crate) struct Said {
    pub(crate) bytes: Vec<u8>,
    pub(crate) talk: Option<usize>,
}

impl World {
    pub(crate) fn new() -> Self {
        let talk = Talk { next: [1000, 0xffff_fff0], tags: [0x11, 0x22], handle: None };
        Self { talks: vec![talk; TALKS], sent: Vec::new() }
    }

    /// Which connection a conversation became.
    pub(crate) fn became(&mut self, talk: usize, handle: Option<Handle>) {
        self.talks[talk].handle = handle;
    }

    /// Handles name nothing any more.
    pub(crate) fn forget_handles(&mut self) {
        self.talks.iter_mut().for_each(|talk| talk.handle = None);
    }

    /// A packet of a conversation. `reply` tells what the answers to a connection look like.
    pub(crate) fn say(
        &mut self,
        input: &mut Input<'_>,
        reply: impl Fn(Handle) -> Option<Tuple>,
    ) -> Said {
        let (number, direction) = (input.byte(), input.byte() & 1);
        let number = usize::from(number) % TALKS;
        let original = tuple_of(number, input);
        let answer = || self.talks[number].handle.and_then(&reply).or_else(|| original.inverted());
        let tuple = match direction {
            0 => original,
            _ => answer().filter(|tuple| tuple.protocol == original.protocol).unwrap_or(original),
        };
        let payload = self.layer4(number, usize::from(direction), &tuple, input);
        let bytes = wire::datagram(&tuple, payload);
        self.remember(&bytes, tuple);
        Said { bytes, talk: Some(number) }
    }

    /// The three packets that open a TCP connection, or the words of FTP that announce another on
    /// one that is open.
    pub(crate) fn open(&mut self, input: &mut Input<'_>) -> Vec<Said> {
        let number = (usize::from(input.byte()) % TALKS) & !7;
        let tuple = Tuple { destination_id: input.choose(&[21, 80]), ..tuple_of(number, input) };
        let Some(reply) = tuple.inverted() else { return Vec::new() };
        let talk = &mut self.talks[number];
        let said: [(usize, u8, &[u8]); 4] = [
            (0, SYN, b""),
            (1, SYN | ACK, b""),
            (0, ACK, b""),
            match input.byte() % 4 {
                0 => (0, ACK | PSH, b"PORT 10,0,0,1,4,1\r\n"),
                1 => (1, ACK | PSH, b"227 Entering Passive Mode (10,0,0,9,4,2).\r\n"),
                2 => (0, ACK | PSH, b"EPRT |2|2001:db8::1|1026|\r\n"),
                _ => (1, ACK | PSH, b"229 Entering Extended Passive Mode (|||1026|)\r\n"),
            },
        ];
        let from = if input.rarely(3) { 3 } else { 0 };
        let packets = said[from..].iter().map(|&(sender, flags, data)| {
            let tuple = if sender == 0 { tuple } else { reply };
            let segment = talk.polite(sender, flags, data.len());
            let bytes = wire::datagram(&tuple, segment.build(&tuple, data));
            Said { bytes, talk: (sender == 0).then_some(number) }
        });
        packets.collect()
    }

    /// A packet said before, with some bytes changed.
    pub(crate) fn garble(&self, input: &mut Input<'_>) -> Said {
        let mut bytes = self.earlier(input).map_or_else(Vec::new, |(bytes, _)| bytes.clone());
        for _ in 0..input.byte() % 8 {
            let place = usize::from(input.byte()) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(place) {
                *byte = input.byte();
            }
        }
        if input.rarely(4) {
            bytes.truncate(usize::from(input.byte()));
        }
        Said { bytes, talk: None }
    }

    /// An ICMP error about a packet said before.
    pub(crate) fn complain(&self, input: &mut Input<'_>) -> Said {
        let Some((about, tuple)) = self.earlier(input) else { return Said::nothing() };
        let (protocol, kind, source) = match tuple.family {
            Family::Ipv4 => {
                let kind = input.choose(&[3, 11, 12, 4, 5, 19]);
                (protocol::ICMP, kind, 0x0a00_00fe)
            }
            Family::Ipv6 => {
                let kind = input.choose(&[1, 2, 3, 4, 137, 127]);
                (protocol::ICMPV6, kind, 0xfe80_u128 << 112 | 1)
            }
        };
        let source = if input.rarely(2) { tuple.destination } else { source };
        let destination = if input.rarely(4) { tuple.destination } else { tuple.source };
        let outer = Tuple { source, destination, source_id: 0, protocol, ..*tuple };
        let keep = usize::from(input.choose(&[255_u8, 28, 48, 24, 20, 8]));
        Said { bytes: wire::error(about, &outer, kind, keep), talk: None }
    }

    fn earlier(&self, input: &mut Input<'_>) -> Option<&(Vec<u8>, Tuple)> {
        let back = usize::from(input.byte()) % self.sent.len().max(1);
        self.sent.iter().rev().nth(back)
    }

    fn remember(&mut self, bytes: &[u8], tuple: Tuple) {
        if self.sent.len() == REMEMBERED {
            self.sent.remove(0);
        }
        self.sent.push((bytes.to_vec(), tuple));
    }

    fn layer4(
        &mut self,
        talk: usize,
        sender: usize,
        tuple: &Tuple,
        input: &mut Input<'_>,
    ) -> Vec<u8> {
        let talk = &mut self.talks[talk];
        match tuple.protocol {
            protocol::TCP => talk.tcp(sender, tuple, input),
            protocol::SCTP => talk.sctp(sender, tuple, input),
            protocol::UDP | protocol::UDPLITE => {
                let odd = input.byte();
                let length = (odd & 3 == 3).then(|| u16::from(input.byte()));
                wire::udp(tuple, length, odd & 4 != 0, &[0; 4])
            }
            protocol::ICMP | protocol::ICMPV6 => {
                let [kind, code] = tuple.destination_id.to_be_bytes();
                let [high, low] = tuple.source_id.to_be_bytes();
                vec![kind, code, 0, 0, high, low, 0, 1]
            }
            protocol::GRE => {
                let (flags, carries) = (input.choose(&[0x81, 0, 1, 2]), input.choose(&[0x0b, 0]));
                let [high, low] = tuple.destination_id.to_be_bytes();
                vec![0x30, flags, 0x88, carries, 0, 0, high, low]
            }
            _ => input.bytes(4).to_vec(),
        }
    }
}

impl Said {
    const fn nothing() -> Self {
        Self { bytes: Vec::new(), talk: None }
    }
}

/// The tuple of a conversation's first packet: few hosts, so that translations meet.
fn tuple_of(number: usize, input: &mut Input<'_>) -> Tuple {
    const PROTOCOLS: [u8; 8] = [
        protocol::TCP,
        protocol::UDP,
        protocol::TCP,
        protocol::SCTP,
        protocol::ICMP,
        protocol::GRE,
        protocol::UDPLITE,
        50,
    ];
    let wide = number & 8 != 0;
    let number_of_protocol = match (PROTOCOLS[number & 7], wide) {
        (protocol::ICMP, true) => protocol::ICMPV6,
        (protocol, _) => protocol,
    };
    let (client, server) = (1 + (number as u128 >> 4 & 3), 9);
    let (prefix, family) =
        if wide { (0x2001_0db8_u128 << 96, Family::Ipv6) } else { (0x0a00_0000, Family::Ipv4) };
    let (source_id, destination_id) = match number_of_protocol {
        protocol::ICMP => (7, u16::from(input.choose(&[8_u8, 0, 13, 14, 15, 17, 18, 3])) << 8),
        protocol::ICMPV6 => {
            (7, u16::from(input.choose(&[128_u8, 129, 139, 135, 133, 151, 1])) << 8)
        }
        protocol::TCP if number & 7 == 2 => {
            (input.choose(&[1000, 20]), input.choose(&[1026, 1025]))
        }
        protocol::TCP => (1000, input.choose(&[80, 25, 21])),
        protocol::UDP | protocol::SCTP | protocol::UDPLITE => (1000, 53),
        protocol::GRE => (0, 5),
        _ => (0, 0),
    };
    // What FTP announced comes from the server where the client listens.
    let (client, server) = if source_id == 20 { (server, client) } else { (client, server) };
    Tuple {
        source: prefix | client,
        destination: prefix | server,
        source_id,
        destination_id,
        protocol: number_of_protocol,
        family,
    }
}

impl Talk {
    /// A segment with the right numbers.
    fn polite(&mut self, sender: usize, flags: u8, data: usize) -> wire::Tcp<'static> {
        let sequence = self.next[sender];
        let acknowledgement = if flags & ACK == 0 { 0 } else { self.next[1 - sender] };
        let ends = u32::from(flags & (SYN | FIN) != 0);
        self.next[sender] = sequence.wrapping_add(data as u32).wrapping_add(ends);
        wire::Tcp { sequence, acknowledgement, flags, window: 0xfaf0, options: &[] }
    }

    fn tcp(&mut self, sender: usize, tuple: &Tuple, input: &mut Input<'_>) -> Vec<u8> {
        const FLAGS: [u8; 14] = [
            SYN,
            SYN | ACK,
            ACK,
            ACK | PSH,
            FIN | ACK,
            RST,
            RST | ACK,
            SYN | URG,
            FIN | ACK | URG,
            ACK | URG,
            FIN,
            0,
            SYN | FIN,
            SYN | RST,
        ];
        /// How far a number is from the right one.
        const AWAY: [u32; 12] = [
            0,
            0,
            0,
            1,
            u32::MAX,
            1000,
            66_001,
            u32::MAX - 66_001,
            1 << 31,
            u32::MAX - 999,
            64_240,
            5,
        ];
        const OPTIONS: [&[u8]; 7] = [
            &[],
            &[3, 3, 7, 4, 2, 1, 1, 1],
            &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            &[4, 2, 0, 0],
            &[3, 3, 15, 0],
            &[2, 4, 5, 0xb4, 3, 0, 0, 0],
            &[5, 9, 1, 1],
        ];
        const WORDS: [&[u8]; 6] = [
            b"",
            b"x",
            &[0; 1400],
            b"PORT 10,0,0,1,4,1\r\n",
            b"227 Entering Passive Mode (10,0,0,9,4,2).\r\n",
            b"EPRT |2|2001:db8::1|1026|\r\n",
        ];
        let flags = input.choose(&FLAGS);
        let sequence = self.next[sender].wrapping_add(input.choose(&AWAY));
        let acknowledgement = match flags & ACK {
            0 => 0,
            _ => self.next[1 - sender].wrapping_add(input.choose(&AWAY)),
        };
        let window = input.choose(&[0xfaf0, 0, 1, 0xffff, 512]);
        let edge = acknowledgement.wrapping_add(100).to_be_bytes();
        let sack = [&[1, 1, 5, 10, 0, 0, 0, 1][..], &edge].concat();
        let choice = usize::from(input.byte()) % (OPTIONS.len() + 1);
        let options = OPTIONS.get(choice).copied().unwrap_or(&sack);
        let data = input.choose(&WORDS);
        if input.byte() & 1 == 0 {
            let ends = u32::from(flags & (SYN | FIN) != 0);
            self.next[sender] = sequence.wrapping_add(data.len() as u32).wrapping_add(ends);
        }
        let segment = wire::Tcp { sequence, acknowledgement, flags, window, options };
        segment.build(tuple, data)
    }

    fn sctp(&mut self, sender: usize, tuple: &Tuple, input: &mut Input<'_>) -> Vec<u8> {
        let tag = match input.byte() % 8 {
            0..4 => self.tags[1 - sender],
            4 | 5 => 0,
            6 => self.tags[sender],
            _ => input.long(),
        };
        let mut bytes = wire::sctp(tuple, tag);
        for _ in 0..=input.byte() % 4 {
            let kind = input.byte() % 16;
            let flags = input.byte() & 3;
            let length: u8 = match kind {
                1 | 2 => 20,
                _ => 4 + input.byte() % 8,
            };
            let claimed = if flags & 2 == 0 { length } else { input.choose(&[0, 1, 255]) };
            bytes.extend([kind, flags & 1, 0, claimed]);
            let start = bytes.len();
            if matches!(kind, 1 | 2) {
                bytes.extend(self.tags[sender].to_be_bytes());
            }
            bytes.resize(start + usize::from(length - 4).next_multiple_of(4), 0);
        }
        bytes
    }
}
