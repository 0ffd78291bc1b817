//! A connection under test: what the engine does around a tracker, and packets to feed it.

use ctkeeper_flow::{Direction, Family, Status};
use zerocopy::FromZeros;

use super::{Context, Judgement};
use crate::coverage::Coverage;
use crate::entry::Entry;
use crate::event::Changes;
use crate::packet::Datagram;
use crate::settings::{Profile, Settings};
use crate::time::Ticks;
use crate::tuple::{Tuple, protocol};

pub(super) const CLIENT: u128 = 0x0a00_0001;
pub(super) const SERVER: u128 = 0x0a00_0002;

type Tracker = fn(&mut Context<'_>, &mut Entry, &Datagram<'_>) -> Judgement;

/// A connection, followed by one tracker.
pub(super) struct Track {
    pub(super) entry: Entry,
    pub(super) settings: Settings,
    pub(super) verify: bool,
    pub(super) changes: Changes,
    pub(super) coverage: Coverage,
    now: Ticks,
    tracker: Tracker,
}

impl Track {
    pub(super) fn new(protocol: u8, tracker: Tracker) -> Self {
        let mut entry = Entry::new_zeroed();
        entry.protocol = protocol;
        Self {
            entry,
            settings: Settings::default(),
            verify: false,
            changes: Changes::default(),
            coverage: Coverage::default(),
            now: Ticks(u32::MAX - 100),
            tracker,
        }
    }

    pub(super) fn wait(&mut self, ticks: u32) {
        self.now = self.now + Ticks(ticks);
    }

    /// Has the tracker judge a packet; then, unless it is turned away, marks the connection as
    /// confirmed, and as answered by a packet in reply direction.
    pub(super) fn packet(&mut self, direction: Direction, payload: &[u8]) -> Judgement {
        let datagram = datagram(self.entry.protocol, payload);
        let mut context = Context {
            now: self.now,
            settings: &self.settings,
            profile: Profile::default(),
            direction,
            verify: self.verify,
            changes: &mut self.changes,
            coverage: Some(&mut self.coverage),
        };
        let judgement = (self.tracker)(&mut context, &mut self.entry, &datagram);
        if !matches!(judgement, Judgement::Invalid(_)) {
            self.entry.set(Status::CONFIRMED);
            if direction == Direction::Reply {
                self.entry.set(Status::SEEN_REPLY);
            }
        }
        judgement
    }
}

/// A datagram from client to server, of IPv6 where the protocol is ICMPv6.
pub(super) fn datagram(protocol: u8, payload: &[u8]) -> Datagram<'_> {
    let family = family_of(protocol);
    let header = if family == Family::Ipv4 { 20 } else { 40 };
    Datagram {
        family,
        source: CLIENT,
        destination: SERVER,
        protocol,
        hop_limit: 64,
        header,
        length: (header + payload.len()) as u32,
        payload,
    }
}

/// The tuple of such a datagram without ids.
pub(super) fn tuple(protocol: u8) -> Tuple {
    let (source, destination) = (CLIENT, SERVER);
    let family = family_of(protocol);
    Tuple { source, destination, source_id: 0, destination_id: 0, protocol, family }
}

const fn family_of(protocol: u8) -> Family {
    match protocol {
        protocol::ICMPV6 => Family::Ipv6,
        _ => Family::Ipv4,
    }
}

/// The payload with the checksum of its first bytes and of a pseudo header at `place`.
pub(super) fn with_checksum(protocol: u8, payload: &[u8], place: usize, covered: usize) -> Vec<u8> {
    let pseudo = [
        &CLIENT.to_be_bytes()[..],
        &SERVER.to_be_bytes(),
        &(payload.len() as u32).to_be_bytes(),
        &[0, 0, 0, protocol],
    ]
    .concat();
    put_checksum(payload, place, words(&pseudo) + words(&payload[..covered]))
}

/// The payload with its own checksum at `place`.
pub(super) fn with_plain_checksum(payload: &[u8], place: usize) -> Vec<u8> {
    put_checksum(payload, place, words(payload))
}

fn put_checksum(payload: &[u8], place: usize, mut sum: u32) -> Vec<u8> {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let mut bytes = payload.to_vec();
    bytes[place..place + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes
}

fn words(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

/// A UDP packet from port 4096 to 53 with its network header.
pub(super) fn inner_udp(family: Family) -> Vec<u8> {
    let mut bytes = match family {
        Family::Ipv4 => {
            let mut header = vec![0; 12];
            (header[0], header[3], header[8], header[9]) = (0x45, 28, 64, protocol::UDP);
            header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            header
        }
        Family::Ipv6 => {
            let mut header = vec![0; 8];
            (header[0], header[5], header[6], header[7]) = (0x60, 8, protocol::UDP, 64);
            header.extend((0x2001_u128 << 112 | 1).to_be_bytes());
            header.extend((0x2001_u128 << 112 | 2).to_be_bytes());
            header
        }
    };
    bytes.extend([0x10, 0x00, 0x00, 0x35, 0, 8, 0, 0]);
    bytes
}
