//! The record of a connection: one cache line, and one or two more where its kind needs them.

use ctkeeper_flow::{Direction, Family, Status, Zone, ZoneDirection};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::time::Ticks;
use crate::tuple::{Tuple, protocol};

/// 64 bytes of table memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u32; 16]);

/// No line.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// First line of every record.
///
/// An IPv4 record of a protocol without much state is this line alone; TCP has [`TcpWindow`] in
/// its last line, IPv6 has [`Addresses`] in its second ([`Shape`]).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct Entry {
    /// IPv4: source and destination of the original direction. IPv6: not used.
    pub(crate) addresses: [u32; 2],
    /// Source and destination id of the original direction.
    pub(crate) ids: [u16; 2],
    pub(crate) protocol: u8,
    /// [`Shape`] as a number.
    pub(crate) shape: u8,
    pub(crate) namespace: u16,
    pub(crate) zone: u16,
    /// The protocol's state by the kernel's number.
    pub(crate) state: u8,
    /// [`flag`] bits.
    pub(crate) flags: u8,
    /// [`Status`] bits.
    pub(crate) status: u32,
    /// When it expires; before it is confirmed, how long it will live from then on.
    pub(crate) deadline: u32,
    pub(crate) mark: u32,
    /// Exact mode: next in the chain of the original, of the reply tuple. A free line: next free.
    pub(crate) links: [u32; 2],
    /// Place of its [`Extension`](crate::extension::Extension), or [`NOWHERE`].
    pub(crate) extension: u32,
    /// Tells this connection from others that had the line before; never 0 while in use.
    pub(crate) id: u32,
    /// The low half of the index's hash of the original tuple.
    pub(crate) hash: u32,
    /// What a tracker without a line of its own keeps.
    pub(crate) small: [u32; 3],
}

const _: () = assert!(size_of::<Entry>() == 64 && size_of::<TcpWindow>() == 64);

/// Bits of [`Entry::flags`].
pub(crate) mod flag {
    /// The zone's id does not count in the original direction.
    pub(crate) const ZONE_NOT_ORIGINAL: u8 = 1;
    /// The zone's id does not count in the reply direction.
    pub(crate) const ZONE_NOT_REPLY: u8 = 1 << 1;
    /// The reply tuple is not the original one inverted: it stands in the extension.
    pub(crate) const TRANSLATED: u8 = 1 << 2;
    /// Stands in the table with its reply tuple only (a settled clash).
    pub(crate) const REPLY_ONLY: u8 = 1 << 3;
    /// In the table.
    pub(crate) const LISTED: u8 = 1 << 4;
    /// Its source is the address of an interface, which the extension names.
    pub(crate) const MASQUERADED: u8 = 1 << 5;
    /// Has a helper, or others are expected on its behalf.
    pub(crate) const HELPED: u8 = 1 << 6;
    /// Changes wait in the extension to be told with the next packet that goes on.
    pub(crate) const CHANGED: u8 = 1 << 7;
}

/// How many lines a record has, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Shape {
    /// [`Entry`].
    Small = 1,
    /// [`Entry`], [`TcpWindow`].
    Tcp = 2,
    /// [`Entry`], [`Addresses`].
    Wide = 3,
    /// [`Entry`], [`Addresses`], [`TcpWindow`].
    WideTcp = 4,
}

impl Shape {
    pub(crate) const fn of(tuple: &Tuple) -> Self {
        match (tuple.family, tuple.protocol == protocol::TCP) {
            (Family::Ipv4, false) => Self::Small,
            (Family::Ipv4, true) => Self::Tcp,
            (Family::Ipv6, false) => Self::Wide,
            (Family::Ipv6, true) => Self::WideTcp,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Small,
            2 => Self::Tcp,
            3 => Self::Wide,
            4 => Self::WideTcp,
            _ => return None,
        })
    }

    pub(crate) const fn lines(self) -> usize {
        match self {
            Self::Small => 1,
            Self::Tcp | Self::Wide => 2,
            Self::WideTcp => 3,
        }
    }

    pub(crate) const fn family(self) -> Family {
        match self {
            Self::Small | Self::Tcp => Family::Ipv4,
            Self::Wide | Self::WideTcp => Family::Ipv6,
        }
    }
}

/// Second line of an IPv6 record: the addresses of the original direction, low word first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct Addresses {
    pub(crate) source: [u64; 2],
    pub(crate) destination: [u64; 2],
    pub(crate) spare: [u64; 4],
}

/// What the TCP tracker keeps (`struct ip_ct_tcp`, `include/linux/netfilter/nf_conntrack_tcp.h`,
/// Linux 6.12, named as there where the field has no other name).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct TcpWindow {
    /// What each side has sent: original, reply.
    pub(crate) seen: [TcpSide; 2],
    /// Direction of the last packet (0 original, 1 reply).
    pub(crate) last_direction: u8,
    /// Index of the last packet's flags in the state table.
    pub(crate) last_index: u8,
    /// Times that the last packet was sent again.
    pub(crate) retransmissions: u8,
    /// Window scale of the last SYN, remembered while it is not known to be valid.
    pub(crate) last_scale: u8,
    pub(crate) last_sequence: u32,
    pub(crate) last_acknowledgement: u32,
    pub(crate) last_end: u32,
    pub(crate) last_window: u16,
    /// Flags of the last SYN, remembered likewise.
    pub(crate) last_flags: u8,
    pub(crate) spare: [u8; 5],
}

/// One side of [`TcpWindow`] (`struct ip_ct_tcp_state`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct TcpSide {
    /// Highest sequence number sent, plus one.
    pub(crate) end: u32,
    /// Highest sequence number the other side lets it send, plus one.
    pub(crate) max_end: u32,
    /// Largest window it has announced.
    pub(crate) max_window: u32,
    /// Highest acknowledgement it has sent.
    pub(crate) max_ack: u32,
    /// Its window scale.
    pub(crate) scale: u8,
    /// `IP_CT_TCP_FLAG_*`.
    pub(crate) flags: u8,
    pub(crate) spare: [u8; 2],
}

impl Entry {
    pub(crate) const fn status(&self) -> Status {
        Status(self.status)
    }

    pub(crate) const fn has(&self, status: Status) -> bool {
        self.status & status.0 == status.0
    }

    pub(crate) const fn set(&mut self, status: Status) {
        self.status |= status.0;
    }

    pub(crate) const fn deadline(&self) -> Ticks {
        Ticks(self.deadline)
    }

    /// Whether it has expired; never before it is confirmed.
    pub(crate) const fn is_expired(&self, now: Ticks) -> bool {
        self.deadline().is_due(now)
    }

    pub(crate) const fn zone(&self) -> Zone {
        let direction = match self.flags & (flag::ZONE_NOT_ORIGINAL | flag::ZONE_NOT_REPLY) {
            flag::ZONE_NOT_ORIGINAL => ZoneDirection::Reply,
            flag::ZONE_NOT_REPLY => ZoneDirection::Original,
            _ => ZoneDirection::Both,
        };
        Zone { id: self.zone, direction }
    }

    /// The zone id that counts in a direction.
    pub(crate) const fn zone_in(&self, direction: Direction) -> u16 {
        let not = match direction {
            Direction::Original => flag::ZONE_NOT_ORIGINAL,
            Direction::Reply => flag::ZONE_NOT_REPLY,
        };
        if self.flags & not == 0 { self.zone } else { 0 }
    }
}
