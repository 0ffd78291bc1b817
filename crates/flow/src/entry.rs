//! The flow: our value of one entry in the table.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Direction, Family, Protocol, ProtocolState, Status, Tuple};

/// The packet mark kept with an entry (`ct mark`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mark(pub u32);

/// For which directions a zone's id counts; in the other one the id is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZoneDirection {
    /// Both directions.
    #[default]
    Both,
    /// The original direction only.
    Original,
    /// The reply direction only.
    Reply,
}

/// A conntrack zone: equal tuples in different zones are different connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Zone {
    /// The id; 0 is the default zone.
    pub id: u16,
    /// For which directions it counts.
    #[serde(default)]
    pub direction: ZoneDirection,
}

impl Zone {
    /// The zone that entries are in unless a rule says otherwise.
    pub const DEFAULT: Self = Self::both(0);

    /// A zone for both directions.
    pub const fn both(id: u16) -> Self {
        Self { id, direction: ZoneDirection::Both }
    }

    /// The id that counts in `direction`.
    pub const fn id_in(self, direction: Direction) -> u16 {
        match (self.direction, direction) {
            (ZoneDirection::Both, _)
            | (ZoneDirection::Original, Direction::Original)
            | (ZoneDirection::Reply, Direction::Reply) => self.id,
            _ => 0,
        }
    }
}

/// Packets and bytes of one direction; kept when `nf_conntrack_acct` is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes, layer 3 header included.
    pub bytes: u64,
}

/// When an entry was made and ended, nanoseconds since the epoch; kept when
/// `nf_conntrack_timestamp` is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timestamps {
    /// Start.
    pub start: u64,
    /// End; 0 while it lives.
    pub stop: u64,
}

/// The 128 connection labels as the kernel sends them: bit *n* is bit `n % 8` of byte `n / 8`
/// within native-endian 32-bit words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Labels(pub [u8; 16]);

impl Labels {
    /// The labels of which these bits are set; bits above 127 do not exist and are left out.
    pub fn from_bits(bits: impl IntoIterator<Item = u8>) -> Self {
        let mut words = [0u32; 4];
        for bit in bits {
            if let Some(word) = words.get_mut(usize::from(bit / 32)) {
                *word |= 1 << (bit % 32);
            }
        }
        let mut labels = Self::default();
        for (bytes, word) in labels.0.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        labels
    }

    /// The bits as one number, bit 0 lowest.
    pub fn to_bits(self) -> u128 {
        let words = self.0.chunks_exact(4).enumerate();
        words.fold(0, |bits, (index, bytes)| {
            let word = <[u8; 4]>::try_from(bytes).map_or(0, u32::from_ne_bytes);
            bits | u128::from(word) << (32 * index)
        })
    }

    /// Whether a bit is set.
    pub fn contains(self, bit: u8) -> bool {
        self.to_bits().checked_shr(bit.into()).is_some_and(|rest| rest & 1 == 1)
    }

    /// The bits that are set, lowest first.
    pub fn bits(self) -> impl Iterator<Item = u8> {
        let mut left = self.to_bits();
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            Some(bit as u8)
        })
    }
}

/// A connection tracking helper attached to an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Helper {
    /// Its name, such as `ftp`.
    pub name: Box<str>,
    /// Private data of a helper in user space; empty else.
    #[serde(default, skip_serializing_if = "<[u8]>::is_empty")]
    pub info: Box<[u8]>,
}

/// Sequence numbers shifted by a helper that changes payload (`CTA_SEQ_ADJ_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SequenceAdjustment {
    /// Sequence number from which `after` counts.
    pub correction: u32,
    /// Shift before that.
    pub before: u32,
    /// Shift after it.
    pub after: u32,
}

/// State of a connection behind SYNPROXY (`CTA_SYNPROXY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SynProxy {
    /// Initial sequence number.
    pub initial_sequence: u32,
    /// Initial timestamp.
    pub initial_timestamp: u32,
    /// Timestamp offset.
    pub timestamp_offset: u32,
}

/// One tracked connection.
///
/// Optional fields are absent where the kernel did not send them: accounting and timestamps that
/// are off, attributes that an event omits. Rare ones are boxed so that the value stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The original direction's tuple.
    pub original: Tuple,
    /// The reply direction's tuple: the original inverted, but for address translation.
    pub reply: Tuple,
    /// The zone.
    pub zone: Zone,
    /// The status bits.
    pub status: Status,
    /// The tracker's state.
    pub state: ProtocolState,
    /// Seconds until it expires; absent in destroy events.
    pub timeout: Option<u32>,
    /// The mark, where the kernel sends one.
    pub mark: Option<Mark>,
    /// The kernel's id of the entry.
    pub id: Option<u32>,
    /// References held on it.
    pub use_count: Option<u32>,
    /// Original direction's counters.
    pub counters_original: Option<Counters>,
    /// Reply direction's counters.
    pub counters_reply: Option<Counters>,
    /// When it began and ended.
    pub timestamps: Option<Timestamps>,
    /// Connection labels.
    pub labels: Option<Labels>,
    /// The helper.
    pub helper: Option<Box<Helper>>,
    /// Security context (`CTA_SECCTX_NAME`).
    pub security_context: Option<Box<str>>,
    /// The tuple of the connection whose expectation made this one.
    pub master: Option<Box<Tuple>>,
    /// Sequence adjustments, original and reply.
    pub sequence_adjustment: Option<Box<(SequenceAdjustment, SequenceAdjustment)>>,
    /// SYNPROXY state.
    pub synproxy: Option<Box<SynProxy>>,
    /// When the event happened, nanoseconds since the epoch (`CTA_TIMESTAMP_EVENT`, Linux 6.14
    /// and later, with timestamps on).
    pub event_time: Option<u64>,
}

impl Flow {
    /// The family of its addresses.
    pub const fn family(&self) -> Family {
        self.original.family()
    }

    /// Its layer 4 protocol.
    pub const fn protocol(&self) -> Protocol {
        self.original.protocol
    }

    /// Whether early drop spares it.
    pub const fn is_assured(&self) -> bool {
        self.status.contains(Status::ASSURED)
    }

    /// Whether an answer has been seen.
    pub const fn is_replied(&self) -> bool {
        self.status.contains(Status::SEEN_REPLY)
    }

    /// Whether its source is translated (SNAT, masquerade).
    pub fn is_source_translated(&self) -> bool {
        self.status.contains(Status::SRC_NAT)
    }

    /// Whether its destination is translated (DNAT, redirect).
    pub fn is_destination_translated(&self) -> bool {
        self.status.contains(Status::DST_NAT)
    }

    /// Packets of both directions, if counted.
    pub fn packets(&self) -> Option<u64> {
        self.sum(|counters| counters.packets)
    }

    /// Bytes of both directions, if counted.
    pub fn bytes(&self) -> Option<u64> {
        self.sum(|counters| counters.bytes)
    }

    fn sum(&self, part: impl Fn(&Counters) -> u64) -> Option<u64> {
        let (original, reply) = (self.counters_original.as_ref(), self.counters_reply.as_ref());
        if original.is_none() && reply.is_none() {
            return None;
        }
        Some(original.map_or(0, &part).saturating_add(reply.map_or(0, &part)))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
