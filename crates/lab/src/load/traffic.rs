//! What an arrival does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::LoadError;
use super::profile::{MAX_DURATION, MAX_PAYLOAD, span_within, within};
use super::time;

/// What an arrival does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Traffic {
    /// Opens a TCP connection and keeps it.
    TcpHeld(Held),
    /// Opens a TCP connection, has at most one exchange, and closes it.
    TcpShort(Short),
    /// One HTTP/1.1 request.
    Http(Http),
    /// Sends datagrams from a socket of its own and awaits their answers.
    Udp(Udp),
    /// Sends a datagram, made by hand, and awaits nothing.
    UdpOneWay(UdpOneWay),
    /// Sends a SYN, made by hand, and awaits nothing: with sources that are nobody's, the target is
    /// left with half-open connections.
    SynFlood(SynFlood),
    /// Sends a TCP packet, made by hand, and awaits nothing.
    TcpPackets(TcpPackets),
}

/// Connections that stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Held {
    /// What a probe says and what it expects; without it there are no probes.
    pub exchange: Option<Exchange>,
    /// Whether each connection has one exchange at its beginning. (A proxy that reads requests
    /// opens its back connection only then.)
    pub greet: bool,
    /// How often each held connection is probed; without it, only when told to.
    #[serde(with = "time::optional")]
    pub probe_every: Option<Duration>,
    /// How long a connection stays before it closes itself: 10 minutes unless told otherwise.
    #[serde(with = "time")]
    pub stay: Duration,
}

impl Default for Held {
    fn default() -> Self {
        let stay = Duration::from_secs(600);
        Self { exchange: None, greet: false, probe_every: None, stay }
    }
}

/// Connections that come and go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Short {
    /// What is said after the connect; without it the connection closes at once.
    pub exchange: Option<Exchange>,
    /// Whether it is closed by a RST rather than a FIN (which leaves no TIME_WAIT).
    pub reset: bool,
}

/// HTTP/1.1 requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The path asked for.
    pub path: String,
    /// The `Host` header; the target's address if there is none.
    pub host: Option<String>,
    /// How many connections are kept alive and share the requests; an arrival that finds none free
    /// waits for one, and its latency counts from when it was due. Without it every request has a
    /// connection of its own.
    pub connections: Option<u32>,
}

impl Default for Http {
    fn default() -> Self {
        Self { path: "/".to_owned(), host: None, connections: None }
    }
}

/// Datagrams that are answered; each arrival is a flow of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Udp {
    /// Bytes of a datagram, up to [`MAX_PAYLOAD`].
    pub bytes: u32,
    /// How many datagrams are sent at once, from the same port; as many must come back. (A resolver
    /// asks for two records so.)
    pub burst: u32,
}

impl Default for Udp {
    fn default() -> Self {
        Self { bytes: 32, burst: 1 }
    }
}

/// Datagrams that nobody answers. Their sources need not be anybody's; source ports are taken from
/// the profile's [`Sources::ports`](super::Sources::ports), or else from all above 1,023.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UdpOneWay {
    /// Bytes of a datagram, up to 1,400.
    pub bytes: u32,
}

impl Default for UdpOneWay {
    fn default() -> Self {
        Self { bytes: 32 }
    }
}

/// SYNs that nothing follows. Sources as for [`UdpOneWay`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SynFlood {}

/// TCP packets of any sort. Sources as for [`UdpOneWay`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TcpPackets {
    /// The flags that are set: `["syn", "ack"]`.
    pub flags: Vec<TcpFlag>,
    /// The sequence number; without it, one that the seed chooses for each packet (which for a
    /// connection that exists is almost certainly out of its window).
    pub sequence: Option<u32>,
    /// The acknowledged number; without it, one that the seed chooses where ACK is set.
    pub acknowledgement: Option<u32>,
    /// The window.
    pub window: u16,
    /// Bytes of payload, up to 1,400.
    pub bytes: u32,
    /// Whether the TCP checksum is wrong.
    pub wrong_checksum: bool,
}

impl Default for TcpPackets {
    /// A stray ACK.
    fn default() -> Self {
        Self {
            flags: vec![TcpFlag::Ack],
            sequence: None,
            acknowledgement: None,
            window: 64_240,
            bytes: 0,
            wrong_checksum: false,
        }
    }
}

impl TcpPackets {
    pub(super) fn syn() -> Self {
        Self { flags: vec![TcpFlag::Syn], ..Self::default() }
    }
}

/// A flag of a TCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "their names in RFC 9293")]
pub enum TcpFlag {
    Syn,
    Ack,
    Fin,
    Rst,
    Psh,
    Urg,
}

/// One question on a connection and what counts as its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Exchange {
    /// So many bytes; the answer is as many bytes (an echo).
    Echo {
        /// Bytes, 1 to [`MAX_PAYLOAD`].
        bytes: u32,
    },
    /// `GET path`; the answer is a whole HTTP/1.1 response.
    Http {
        /// The path asked for.
        path: String,
    },
}

/// What a packet made by hand may carry: no more than fits without fragments.
const MAX_PACKET_PAYLOAD: u32 = 1400;
/// The most datagrams of one arrival.
const MAX_BURST: u32 = 64;

impl Traffic {
    /// Whether it is packets made by hand, whose sources may be anybody's.
    pub fn is_packets(&self) -> bool {
        matches!(self, Self::UdpOneWay(_) | Self::SynFlood(_) | Self::TcpPackets(_))
    }

    pub(super) fn check(&self) -> Result<(), LoadError> {
        match self {
            Self::TcpHeld(held) => {
                if held.exchange.is_none() && (held.greet || held.probe_every.is_some()) {
                    let advice = "give one: greet and probe_every have nothing to say without";
                    return Err(LoadError::profile("traffic.exchange", "missing", advice));
                }
                if let Some(every) = held.probe_every {
                    span_within("traffic.probe_every", every, MAX_DURATION)?;
                }
                span_within("traffic.stay", held.stay, MAX_DURATION)?;
                held.exchange.iter().try_for_each(Exchange::check)
            }
            Self::TcpShort(short) => short.exchange.iter().try_for_each(Exchange::check),
            Self::Http(http) => {
                within("traffic.connections", http.connections.unwrap_or(1).into(), 1, 1 << 20)?;
                check_header("traffic.host", http.host.as_deref().unwrap_or("lab"))?;
                check_header("traffic.path", &http.path)
            }
            Self::Udp(udp) => {
                within("traffic.bytes", udp.bytes.into(), 0, MAX_PAYLOAD.into())?;
                within("traffic.burst", udp.burst.into(), 1, MAX_BURST.into())
            }
            Self::UdpOneWay(one_way) => packet_payload(one_way.bytes),
            Self::SynFlood(_) => Ok(()),
            Self::TcpPackets(packets) => packet_payload(packets.bytes),
        }
    }
}

fn packet_payload(bytes: u32) -> Result<(), LoadError> {
    within("traffic.bytes", bytes.into(), 0, MAX_PACKET_PAYLOAD.into())
}

impl Exchange {
    fn check(&self) -> Result<(), LoadError> {
        match self {
            Self::Echo { bytes } => {
                within("exchange.echo.bytes", u64::from(*bytes), 1, u64::from(MAX_PAYLOAD))
            }
            Self::Http { path } => check_header("exchange.http.path", path),
        }
    }
}

/// What goes into a request's head must not end a line of it.
fn check_header(field: &'static str, value: &str) -> Result<(), LoadError> {
    let is_fine =
        !value.is_empty() && value.len() <= 2048 && value.bytes().all(|b| b.is_ascii_graphic());
    if is_fine {
        return Ok(());
    }
    Err(LoadError::profile(
        field,
        format!("{value:?}"),
        "give up to 2,048 visible ASCII characters",
    ))
}
