//! What a kernel made of sequences, so that it can be compared with the engine without a kernel.

use ctkeeper_engine::{Profile, Route, Settings};
use ctkeeper_flow::{Expectation, Flow, Statistics};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::addresses::Place;
use crate::sequence::{Sequence, Side, Treatment};

/// A recorded run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transcript {
    /// The kernel's release.
    pub release: String,
    /// Whose behaviour the engine is to follow.
    pub profile: Profile,
    /// The namespace's sysctls at the beginning.
    pub settings: Settings,
    /// The networks that its rules treat.
    pub treatments: Vec<Treatment>,
    /// Whether events were listened to.
    #[serde(default)]
    pub listens: bool,
    /// What was played, and where.
    pub played: Vec<(Place, Sequence)>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds of the recorder's clock.
    pub at: u64,
    /// What.
    pub what: What,
}

impl Event {
    /// Whether two are packets, that nothing came between.
    pub(crate) const fn are_packets(&self, other: &Self) -> bool {
        matches!((&self.what, &other.what), (What::Packet(_), What::Packet(_)))
    }
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum What {
    /// A packet was sent.
    Packet(Sent),
    /// The sysctls were changed.
    Settings(Box<Settings>),
    /// This is the table, whole.
    Table(Vec<Flow>),
    /// The table was listed, which takes the expired out of it, and these are the events since the
    /// packet before.
    Heard(Vec<Heard>),
    /// These are the expectations, all of them.
    Expectations(Vec<Expectation>),
    /// These are the statistics since the beginning.
    Statistics(Statistics),
}

/// A packet, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Place of its sequence in [`Transcript::played`].
    pub sequence: u32,
    /// Place of its step there.
    pub step: u32,
    /// The side that it was sent from.
    pub from: Side,
    /// The way it takes.
    pub route: Route,
    /// The datagram, whole.
    #[serde(with = "hex")]
    pub datagram: Bytes,
    /// The packets that came out, as they came out.
    pub out: Vec<Out>,
    /// The events that came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heard: Vec<Heard>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// What happened.
    pub kind: HeardKind,
    /// The entry, as far as the event tells of it.
    pub flow: Flow,
}

/// What an event says has happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeardKind {
    /// It entered the table.
    New,
    /// It changed.
    Update,
    /// It left the table.
    Destroy,
}

/// A packet that came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// The side where it came out.
    pub side: Side,
    /// The packet.
    #[serde(with = "hex")]
    pub bytes: Bytes,
}

/// Bytes; hexadecimal digits when written.
pub type Bytes = Vec<u8>;

mod hex {
    use super::{Bytes, Deserialize, Deserializer, Error, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        let text: String = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect();
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        let pair = |place| text.get(place..place + 2).and_then(|p| u8::from_str_radix(p, 16).ok());
        let bytes: Option<Bytes> = (0..text.len()).step_by(2).map(pair).collect();
        bytes.ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}
