//! Reading an object.

use std::net::IpAddr;

use serde::Deserialize;
use thiserror::Error;

use super::time;
use crate::{
    Counters, DccpRole, DccpState, EventKind, Family, Flow, Helper, Labels, Layer4, Mark, Protocol,
    ProtocolState, SctpState, SctpTracking, SequenceAdjustment, Status, SynProxy, TcpFlags,
    TcpState, TcpTracking, Timestamps, Tuple, Zone, ZoneDirection,
};

/// Why a line is not an entry.
#[derive(Debug, Error)]
pub enum JsonError {
    /// It is not a JSON object of the schema; the column is serde_json's.
    #[error("not an entry in JSON: {0} (see docs/json.md for the schema)")]
    Syntax(#[from] serde_json::Error),
    /// A value that its key cannot have.
    #[error("`{key}`: `{value}` is not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value, escaped and shortened.
        value: String,
        /// What should stand there.
        expected: &'static str,
    },
}

/// A line with what stands in front of the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonLine {
    /// The namespace, in lists of several.
    pub namespace: Option<String>,
    /// The event, in what `watch` printed.
    pub event: Option<EventKind>,
    /// The entry.
    pub flow: Flow,
}

/// Reads the entry of a line; keys that are not known are passed over.
pub fn parse(line: &str) -> Result<Flow, JsonError> {
    parse_line(line).map(|line| line.flow)
}

/// Reads a line with its namespace and event.
pub fn parse_line(line: &str) -> Result<JsonLine, JsonError> {
    let object: Object = serde_json::from_str(line)?;
    let event = object.event.as_deref().map(|name| {
        EventKind::from_name(name).ok_or_else(|| wrong("event", name, "new, update or destroy"))
    });
    let (namespace, event) = (object.namespace.clone(), event.transpose()?);
    Ok(JsonLine { namespace, event, flow: object.flow()? })
}

#[derive(Deserialize)]
struct Object {
    namespace: Option<String>,
    event: Option<String>,
    family: Family,
    protocol_number: u8,
    timeout: Option<u32>,
    state: Option<String>,
    original: Side,
    reply: Side,
    #[serde(default)]
    status: Vec<String>,
    #[serde(default)]
    status_unnamed: u32,
    mark: Option<u32>,
    #[serde(default)]
    zone: u16,
    #[serde(default)]
    zone_direction: ZoneDirection,
    #[serde(rename = "use")]
    use_count: Option<u32>,
    id: Option<u32>,
    start: Option<String>,
    stop: Option<String>,
    event_time: Option<String>,
    labels: Option<Vec<u8>>,
    helper: Option<String>,
    #[serde(default)]
    helper_info: Vec<u8>,
    security_context: Option<String>,
    master: Option<Side>,
    sequence_adjustment: Option<Adjustments>,
    synproxy: Option<SynProxy>,
    tcp_window_scale: Option<(u8, u8)>,
    tcp_flags: Option<(u8, u8)>,
    #[serde(default)]
    tcp_flags_mask: (u8, u8),
    sctp_verification_tags: Option<(u32, u32)>,
    dccp_role: Option<DccpRole>,
    dccp_handshake_sequence: Option<u64>,
}

#[derive(Deserialize)]
struct Adjustments {
    original: SequenceAdjustment,
    reply: SequenceAdjustment,
}

/// A tuple with its counters.
#[derive(Deserialize)]
struct Side {
    /// In `master` only.
    protocol_number: Option<u8>,
    source: IpAddr,
    destination: IpAddr,
    #[serde(alias = "source_key")]
    source_port: Option<u16>,
    #[serde(alias = "destination_key")]
    destination_port: Option<u16>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    icmp_id: Option<u16>,
    packets: Option<u64>,
    bytes: Option<u64>,
}

impl Object {
    fn flow(self) -> Result<Flow, JsonError> {
        let protocol = Protocol(self.protocol_number);
        let original = self.original.tuple(protocol, "original")?;
        let reply = self.reply.tuple(protocol, "reply")?;
        for tuple in [&original, &reply] {
            if tuple.family() != self.family {
                let address = tuple.source.to_string();
                return Err(wrong("source", &address, "an address of the entry's family"));
            }
        }
        Ok(Flow {
            original,
            reply,
            zone: Zone { id: self.zone, direction: self.zone_direction },
            status: status(&self.status)? | Status(self.status_unnamed),
            state: self.protocol_state(protocol)?,
            timeout: self.timeout,
            mark: self.mark.map(Mark),
            id: self.id,
            use_count: self.use_count,
            counters_original: self.original.counters(),
            counters_reply: self.reply.counters(),
            timestamps: timestamps(self.start.as_deref(), self.stop.as_deref())?,
            labels: self.labels.map(Labels::from_bits),
            helper: self
                .helper
                .map(|name| Box::new(Helper { name: name.into(), info: self.helper_info.into() })),
            security_context: self.security_context.map(Into::into),
            master: self.master.map(|side| side.own_tuple("master")).transpose()?.map(Box::new),
            sequence_adjustment: self
                .sequence_adjustment
                .map(|both| Box::new((both.original, both.reply))),
            synproxy: self.synproxy.map(Box::new),
            event_time: self.event_time.map(|text| moment("event_time", &text)).transpose()?,
        })
    }

    fn protocol_state(&self, protocol: Protocol) -> Result<ProtocolState, JsonError> {
        let Some(name) = self.state.as_deref() else {
            return Ok(ProtocolState::None);
        };
        let state = match protocol {
            Protocol::TCP => TcpState::from_name(name).map(|state| self.tcp(state)),
            Protocol::SCTP => SctpState::from_name(name).map(|state| {
                let verification_tags = self.sctp_verification_tags;
                ProtocolState::Sctp(SctpTracking { state, verification_tags })
            }),
            Protocol::DCCP => DccpState::from_name(name).map(|state| ProtocolState::Dccp {
                state,
                role: self.dccp_role,
                handshake_sequence: self.dccp_handshake_sequence,
            }),
            _ => None,
        };
        state.ok_or_else(|| wrong("state", name, "a state of the entry's protocol"))
    }

    fn tcp(&self, state: TcpState) -> ProtocolState {
        let flags = self.tcp_flags.map(|(original, reply)| {
            (
                TcpFlags { flags: original, mask: self.tcp_flags_mask.0 },
                TcpFlags { flags: reply, mask: self.tcp_flags_mask.1 },
            )
        });
        ProtocolState::Tcp(TcpTracking { state, window_scale: self.tcp_window_scale, flags })
    }
}

impl Side {
    fn own_tuple(&self, key: &'static str) -> Result<Tuple, JsonError> {
        let number = self.protocol_number;
        let number = number.ok_or_else(|| wrong(key, "", "an object with a protocol_number"))?;
        self.tuple(Protocol(number), key)
    }

    fn tuple(&self, protocol: Protocol, key: &'static str) -> Result<Tuple, JsonError> {
        if self.source.is_ipv4() != self.destination.is_ipv4() {
            let expected = "an address of the source's family";
            return Err(wrong("destination", &self.destination.to_string(), expected));
        }
        let layer4 = match (self.source_port, self.destination_port) {
            (Some(source), Some(destination)) => Layer4::Ports { source, destination },
            (None, None) => self.icmp(key)?,
            _ => return Err(wrong(key, "", "complete: it has one port and lacks the other")),
        };
        let (source, destination) = (self.source, self.destination);
        Ok(Tuple { source, destination, protocol, layer4 })
    }

    fn icmp(&self, key: &'static str) -> Result<Layer4, JsonError> {
        match (self.icmp_type, self.icmp_code, self.icmp_id) {
            (Some(kind), Some(code), Some(id)) => Ok(Layer4::Icmp { kind, code, id }),
            (None, None, None) => Ok(Layer4::None),
            _ => Err(wrong(key, "", "complete: ICMP needs icmp_type, icmp_code and icmp_id")),
        }
    }

    fn counters(&self) -> Option<Counters> {
        Some(Counters { packets: self.packets?, bytes: self.bytes? })
    }
}

fn status(names: &[String]) -> Result<Status, JsonError> {
    let mut status = Status::default();
    for name in names {
        status |= Status::from_name(name)
            .ok_or_else(|| wrong("status", name, "the name of a status bit"))?;
    }
    Ok(status)
}

fn timestamps(start: Option<&str>, stop: Option<&str>) -> Result<Option<Timestamps>, JsonError> {
    let Some(start) = start else {
        return Ok(None);
    };
    let start = moment("start", start)?;
    let stop = stop.map(|text| moment("stop", text)).transpose()?.unwrap_or(0);
    Ok(Some(Timestamps { start, stop }))
}

fn moment(key: &'static str, text: &str) -> Result<u64, JsonError> {
    time::parse(text).ok_or_else(|| wrong(key, text, "a time such as 2026-11-22T14:10:02.5Z"))
}

fn wrong(key: &'static str, value: &str, expected: &'static str) -> JsonError {
    let value = value.chars().take(40).flat_map(char::escape_debug).collect();
    JsonError::Value { key, value, expected }
}
