//! Writing an object.

use super::time;
use crate::digits::{nibble, push_address, push_number};
use crate::{
    Counters, DccpRole, EventKind, Expectation, ExpectationFlags, Flow, Layer4, Protocol,
    ProtocolState, SequenceAdjustment, Status, SynProxy, Tuple, Zone, ZoneDirection,
};

/// What stands in front of the entry's own keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonOptions<'a> {
    /// `"event":"new"`.
    pub event: Option<EventKind>,
    /// `"namespace":"…"`, where several namespaces are listed.
    pub namespace: Option<&'a str>,
}

/// Appends the object of `flow`, without a line end. Allocates only where `out` must grow.
pub fn write(flow: &Flow, options: &JsonOptions<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(namespace) = options.namespace {
        string(out, "namespace", namespace);
    }
    if let Some(event) = options.event {
        name(out, "event", event.name());
    }
    name(out, "family", flow.family().name());
    protocol(flow.protocol(), out);
    number_if(out, "timeout", flow.timeout);
    if let Some(state) = flow.state.name() {
        name(out, "state", state);
    }
    side(out, "original", &flow.original, flow.counters_original);
    side(out, "reply", &flow.reply, flow.counters_reply);
    status(flow.status, out);
    number_if(out, "mark", flow.mark.map(|mark| mark.0));
    zone(flow.zone, out);
    number_if(out, "use", flow.use_count);
    number_if(out, "id", flow.id);
    attachments(flow, out);
    tracking(&flow.state, out);
    // Every member ends in a comma; the last one's becomes the brace.
    close(out, b'}');
}

/// Appends the object of an expectation, without a line end.
pub fn write_expectation(expectation: &Expectation, options: &JsonOptions<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(namespace) = options.namespace {
        string(out, "namespace", namespace);
    }
    if let Some(event) = options.event {
        name(out, "event", event.name());
    }
    name(out, "family", expectation.expected.family().name());
    protocol(expectation.expected.protocol, out);
    number_if(out, "timeout", expectation.timeout);
    side(out, "expected", &expectation.expected, None);
    side(out, "mask", &expectation.mask, None);
    tuple_with_protocol(out, "master", &expectation.master);
    zone(expectation.zone, out);
    expectation_flags(expectation.flags, out);
    number(out, "class", expectation.class);
    if let Some(helper) = &expectation.helper {
        string(out, "helper", helper);
    }
    number_if(out, "id", expectation.id);
    close(out, b'}');
}

/// Appends `text` as a JSON string, ASCII whatever it holds.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            ' '..='~' => out.push(character as u8),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        out.push(nibble((*unit >> shift) as u8 & 15));
                    }
                }
            }
        }
    }
    out.push(b'"');
}

fn protocol(protocol: Protocol, out: &mut Vec<u8>) {
    key(out, "protocol");
    out.push(b'"');
    match protocol.name() {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => push_number(out, protocol.0),
    }
    out.extend_from_slice(b"\",");
    number(out, "protocol_number", protocol.0);
}

fn tuple_with_protocol(out: &mut Vec<u8>, label: &str, tuple: &Tuple) {
    key(out, label);
    out.push(b'{');
    protocol(tuple.protocol, out);
    addresses(out, tuple);
    layer4(out, tuple);
    close(out, b'}');
    out.push(b',');
}

fn expectation_flags(flags: ExpectationFlags, out: &mut Vec<u8>) {
    key(out, "flags");
    out.push(b'[');
    for (bit, name) in [
        (ExpectationFlags::PERMANENT, "PERMANENT"),
        (ExpectationFlags::INACTIVE, "INACTIVE"),
        (ExpectationFlags::USERSPACE, "USERSPACE"),
    ] {
        if flags.contains(bit) {
            quoted(out, name);
            out.push(b',');
        }
    }
    close(out, b']');
    out.push(b',');
}

fn side(out: &mut Vec<u8>, label: &str, tuple: &Tuple, counters: Option<Counters>) {
    key(out, label);
    out.push(b'{');
    addresses(out, tuple);
    layer4(out, tuple);
    if let Some(Counters { packets, bytes }) = counters {
        number(out, "packets", packets);
        number(out, "bytes", bytes);
    }
    close(out, b'}');
    out.push(b',');
}

fn layer4(out: &mut Vec<u8>, tuple: &Tuple) {
    match tuple.layer4 {
        Layer4::None => {}
        Layer4::Ports { source, destination } if tuple.protocol == Protocol::GRE => {
            number(out, "source_key", source);
            number(out, "destination_key", destination);
        }
        Layer4::Ports { source, destination } => {
            number(out, "source_port", source);
            number(out, "destination_port", destination);
        }
        Layer4::Icmp { kind, code, id } => {
            number(out, "icmp_type", kind);
            number(out, "icmp_code", code);
            number(out, "icmp_id", id);
        }
    }
}

fn addresses(out: &mut Vec<u8>, tuple: &Tuple) {
    key(out, "source");
    out.push(b'"');
    push_address(out, tuple.source);
    out.extend_from_slice(b"\",");
    key(out, "destination");
    out.push(b'"');
    push_address(out, tuple.destination);
    out.extend_from_slice(b"\",");
}

fn status(status: Status, out: &mut Vec<u8>) {
    key(out, "status");
    out.push(b'[');
    let mut unnamed = status;
    for (bit, name) in Status::NAMES {
        if status.contains(bit) {
            unnamed = unnamed & !bit;
            quoted(out, name);
            out.push(b',');
        }
    }
    close(out, b']');
    out.push(b',');
    if unnamed != Status::default() {
        number(out, "status_unnamed", unnamed.0);
    }
    key(out, "assured");
    let assured: &[u8] = if status.contains(Status::ASSURED) { b"true," } else { b"false," };
    out.extend_from_slice(assured);
}

fn zone(zone: Zone, out: &mut Vec<u8>) {
    number(out, "zone", zone.id);
    match zone.direction {
        ZoneDirection::Both => {}
        ZoneDirection::Original => name(out, "zone_direction", "original"),
        ZoneDirection::Reply => name(out, "zone_direction", "reply"),
    }
}

/// What most entries do not have.
fn attachments(flow: &Flow, out: &mut Vec<u8>) {
    if let Some(timestamps) = flow.timestamps {
        moment(out, "start", timestamps.start);
        if timestamps.stop != 0 {
            moment(out, "stop", timestamps.stop);
        }
    }
    if let Some(time) = flow.event_time {
        moment(out, "event_time", time);
    }
    if let Some(labels) = flow.labels {
        list(out, "labels", labels.bits());
    }
    if let Some(helper) = &flow.helper {
        string(out, "helper", &helper.name);
        if !helper.info.is_empty() {
            list(out, "helper_info", helper.info.iter().copied());
        }
    }
    if let Some(context) = &flow.security_context {
        string(out, "security_context", context);
    }
    if let Some(master) = &flow.master {
        tuple_with_protocol(out, "master", master);
    }
    if let Some(both) = &flow.sequence_adjustment {
        key(out, "sequence_adjustment");
        out.push(b'{');
        adjustment(out, "original", both.0);
        adjustment(out, "reply", both.1);
        close(out, b'}');
        out.push(b',');
    }
    // The kernel sends one of zeros for every entry whose extension has room for it.
    if let Some(proxy) = flow.synproxy.as_ref().filter(|proxy| ***proxy != SynProxy::default()) {
        key(out, "synproxy");
        out.push(b'{');
        number(out, "initial_sequence", proxy.initial_sequence);
        number(out, "initial_timestamp", proxy.initial_timestamp);
        number(out, "timestamp_offset", proxy.timestamp_offset);
        close(out, b'}');
        out.push(b',');
    }
}

fn adjustment(out: &mut Vec<u8>, label: &str, adjustment: SequenceAdjustment) {
    key(out, label);
    out.push(b'{');
    number(out, "correction", adjustment.correction);
    number(out, "before", adjustment.before);
    number(out, "after", adjustment.after);
    close(out, b'}');
    out.push(b',');
}

/// What the protocol's tracker tells beside the state. Pairs are original, reply.
fn tracking(state: &ProtocolState, out: &mut Vec<u8>) {
    match state {
        ProtocolState::None => {}
        ProtocolState::Tcp(tcp) => {
            if let Some((original, reply)) = tcp.window_scale {
                list(out, "tcp_window_scale", [original, reply].into_iter());
            }
            if let Some((original, reply)) = tcp.flags {
                list(out, "tcp_flags", [original.flags, reply.flags].into_iter());
                if original.mask != 0 || reply.mask != 0 {
                    list(out, "tcp_flags_mask", [original.mask, reply.mask].into_iter());
                }
            }
        }
        ProtocolState::Sctp(sctp) => {
            if let Some((original, reply)) = sctp.verification_tags {
                list(out, "sctp_verification_tags", [original, reply].into_iter());
            }
        }
        ProtocolState::Dccp { role, handshake_sequence, .. } => {
            match role {
                Some(DccpRole::Client) => name(out, "dccp_role", "client"),
                Some(DccpRole::Server) => name(out, "dccp_role", "server"),
                None => {}
            }
            number_if(out, "dccp_handshake_sequence", *handshake_sequence);
        }
    }
}

fn moment(out: &mut Vec<u8>, label: &str, nanoseconds: u64) {
    key(out, label);
    out.push(b'"');
    time::push(out, nanoseconds);
    out.extend_from_slice(b"\",");
}

fn list(out: &mut Vec<u8>, label: &str, numbers: impl Iterator<Item = impl Into<u64>>) {
    key(out, label);
    out.push(b'[');
    for number in numbers {
        push_number(out, number);
        out.push(b',');
    }
    close(out, b']');
    out.push(b',');
}

fn number(out: &mut Vec<u8>, label: &str, number: impl Into<u64>) {
    key(out, label);
    push_number(out, number);
    out.push(b',');
}

fn number_if(out: &mut Vec<u8>, label: &str, value: Option<impl Into<u64>>) {
    if let Some(value) = value {
        number(out, label, value);
    }
}

/// A string that needs no escapes.
fn name(out: &mut Vec<u8>, label: &str, text: &str) {
    key(out, label);
    quoted(out, text);
    out.push(b',');
}

fn string(out: &mut Vec<u8>, label: &str, text: &str) {
    key(out, label);
    write_string(text, out);
    out.push(b',');
}

fn key(out: &mut Vec<u8>, label: &str) {
    quoted(out, label);
    out.push(b':');
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Ends an object or a list, over its last member's comma if it has members.
fn close(out: &mut Vec<u8>, end: u8) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(end);
}
