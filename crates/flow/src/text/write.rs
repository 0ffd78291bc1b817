//! Writing a line.

use super::{STATUS_TAGS, UNREPLIED, event_tag};
use crate::civil::push_padded;
use crate::digits::{nibble, push_address, push_hexadecimal, push_number};
use crate::{
    Counters, EventKind, Expectation, ExpectationFlags, Flow, LabelNames, Labels, Layer4,
    LocalTime, Protocol, Status, Timestamps, Tuple, ZoneDirection,
};

const SECOND: u64 = 1_000_000_000;

/// What a line shows beside the entry itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextOptions<'a> {
    /// The event's tag in front, as `conntrack -E` shows it.
    pub event: Option<EventKind>,
    /// The layer 3 family in front (`ipv4     2 `), as `-o extended`.
    pub extended: bool,
    /// `id=`, as `-o id`.
    pub id: bool,
    /// Seconds since the epoch, from which `delta-time=` counts the age of a living entry.
    pub now: u64,
    /// `[start=…]` and `[stop=…]` in this local time, as `-o ktimestamp`.
    pub kernel_timestamps: Option<LocalTime<'a>>,
    /// `labels=` by these names, as `-o labels`.
    pub labels: Option<&'a LabelNames>,
    /// `netns=` at the end, for lists of several namespaces; ours, conntrack has no such field.
    pub namespace: Option<&'a str>,
}

/// Appends the line of `flow`, without a line end. Allocates only where `out` must grow.
pub fn write(flow: &Flow, options: &TextOptions<'_>, out: &mut Vec<u8>) {
    head(flow, options, out);
    tuple(&flow.original, b"", out);
    directed_zone(flow, ZoneDirection::Original, b"zone-orig=", out);
    counters(flow.counters_original, out);
    if !flow.status.contains(Status::SEEN_REPLY) {
        push(out, UNREPLIED);
        out.push(b' ');
    }
    tuple(&flow.reply, b"", out);
    directed_zone(flow, ZoneDirection::Reply, b"zone-reply=", out);
    counters(flow.counters_reply, out);
    for (bit, tag) in STATUS_TAGS {
        if flow.status.contains(bit) {
            push(out, tag);
            out.push(b' ');
            break;
        }
    }
    tail(flow, options, out);
    // Every field ends in a blank; the last one's goes.
    out.pop();
}

fn head(flow: &Flow, options: &TextOptions<'_>, out: &mut Vec<u8>) {
    if let Some(event) = options.event {
        push(out, event_tag(event));
        out.push(b' ');
    }
    if options.extended {
        padded_name(flow.family().name(), out);
        number(out, b"", flow.family().number());
    }
    match flow.protocol() {
        Protocol::TCP => out.extend_from_slice(b"tcp      6 "),
        Protocol::UDP => out.extend_from_slice(b"udp      17 "),
        protocol => {
            padded_name(protocol.name().unwrap_or("unknown"), out);
            number(out, b"", protocol.0);
        }
    }
    if let Some(timeout) = flow.timeout {
        number(out, b"", timeout);
    }
    if let Some(state) = flow.state.name() {
        push(out, state);
        out.push(b' ');
    }
}

/// Appends `[1795356557.425018]` and a tab, as `conntrack -E -o timestamp` writes them in front of an
/// event, of a moment in seconds and microseconds since the epoch.
pub fn write_stamp(seconds: u64, microseconds: u32, out: &mut Vec<u8>) {
    out.push(b'[');
    push_padded(out, seconds, 8, b'0');
    out.push(b'.');
    push_padded(out, microseconds.into(), 6, b'0');
    out.extend_from_slice(b"]\t");
}

/// The same as it is written in front of an expectation: microseconds left-aligned among blanks,
/// not filled up with zeros.
pub fn write_expectation_stamp(seconds: u64, microseconds: u32, out: &mut Vec<u8>) {
    out.push(b'[');
    left_aligned(seconds, 8, out);
    out.push(b'.');
    left_aligned(microseconds.into(), 6, out);
    out.extend_from_slice(b"]\t");
}

fn left_aligned(number: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    push_number(out, number);
    let length = out.len().max(start + width);
    out.resize(length, b' ');
}

/// Appends the line of an expectation, without a line end, as `conntrack -L expect` prints it; with
/// the tag of an event in front, if it is one's.
pub fn write_expectation(expectation: &Expectation, event: Option<EventKind>, out: &mut Vec<u8>) {
    if let Some(event) = event {
        push(out, event_tag(event));
        out.push(b' ');
    }
    if let Some(timeout) = expectation.timeout {
        number(out, b"", timeout);
    }
    number(out, b"proto=", expectation.expected.protocol.0);
    tuple(&expectation.expected, b"", out);
    tuple(&expectation.mask, b"mask-", out);
    tuple(&expectation.master, b"master-", out);
    if expectation.zone.id != 0 {
        number(out, b"zone=", expectation.zone.id);
    }
    expectation_flags(expectation.flags, out);
    number(out, b"class=", expectation.class);
    if let Some(helper) = &expectation.helper {
        free_text(out, b"helper=", helper);
    }
    out.pop();
}

fn expectation_flags(flags: ExpectationFlags, out: &mut Vec<u8>) {
    let named = [
        (ExpectationFlags::PERMANENT, "PERMANENT,"),
        (ExpectationFlags::INACTIVE, "INACTIVE,"),
        (ExpectationFlags::USERSPACE, "USERSPACE,"),
    ];
    let start = out.len();
    for (_, name) in named.into_iter().filter(|(flag, _)| flags.contains(*flag)) {
        push(out, name);
    }
    match out.get_mut(start..).and_then(<[u8]>::last_mut) {
        Some(comma) => *comma = b' ',
        None if flags != ExpectationFlags::default() => out.push(b' '),
        None => {}
    }
}

/// The mark and everything after it.
fn tail(flow: &Flow, options: &TextOptions<'_>, out: &mut Vec<u8>) {
    if let Some(mark) = flow.mark {
        number(out, b"mark=", mark.0);
    }
    if let Some(context) = &flow.security_context {
        free_text(out, b"secctx=", context);
    }
    directed_zone(flow, ZoneDirection::Both, b"zone=", out);
    if let Some(timestamps) = flow.timestamps {
        number(out, b"delta-time=", age(timestamps, options.now));
        if let Some(local) = options.kernel_timestamps {
            kernel_timestamps(timestamps, local, out);
        }
    }
    if let Some(helper) = &flow.helper {
        free_text(out, b"helper=", &helper.name);
    }
    if let Some(uses) = flow.use_count {
        number(out, b"use=", uses);
    }
    if let (true, Some(id)) = (options.id, flow.id) {
        number(out, b"id=", id);
    }
    if let (Some(names), Some(set)) = (options.labels, flow.labels) {
        labels(names, set, out);
    }
    if let Some(namespace) = options.namespace {
        free_text(out, b"netns=", namespace);
    }
}

fn kernel_timestamps(timestamps: Timestamps, local: LocalTime<'_>, out: &mut Vec<u8>) {
    let mut moment = |label: &[u8], nanoseconds: u64| {
        out.extend_from_slice(label);
        local.civil(nanoseconds / SECOND).push_ctime(out);
        out.extend_from_slice(b"] ");
    };
    moment(b"[start=", timestamps.start);
    if timestamps.stop != 0 {
        moment(b"[stop=", timestamps.stop);
    }
}

/// Labels of which none has a name leave the word without its equals sign, as in
/// libnetfilter_conntrack.
fn labels(names: &LabelNames, set: Labels, out: &mut Vec<u8>) {
    out.extend_from_slice(b"labels=");
    for name in names.names(set) {
        push(out, name);
        out.push(b',');
    }
    out.pop();
    out.push(b' ');
}

#[inline]
fn tuple(tuple: &Tuple, prefix: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(b"src=");
    push_address(out, tuple.source);
    out.push(b' ');
    out.extend_from_slice(prefix);
    out.extend_from_slice(b"dst=");
    push_address(out, tuple.destination);
    out.push(b' ');
    // A protocol with ports shows them even where the kernel sends none (DCCP since Linux 6.16).
    match (tuple.protocol, tuple.layer4) {
        (Protocol::ICMP | Protocol::ICMPV6, Layer4::Icmp { kind, code, id }) => {
            number(out, b"type=", kind);
            number(out, b"code=", code);
            number(out, b"id=", id);
        }
        (Protocol::ICMP | Protocol::ICMPV6, _) => out.extend_from_slice(b"type=0 code=0 id=0 "),
        (Protocol::GRE, _) => {
            key(out, b"srckey=0x", tuple.source_port());
            key(out, b"dstkey=0x", tuple.destination_port());
        }
        (protocol, _) if protocol.has_ports() => {
            number(out, b"sport=", tuple.source_port().unwrap_or(0));
            number(out, b"dport=", tuple.destination_port().unwrap_or(0));
        }
        _ => {}
    }
}

fn counters(counters: Option<Counters>, out: &mut Vec<u8>) {
    if let Some(Counters { packets, bytes }) = counters {
        number(out, b"packets=", packets);
        number(out, b"bytes=", bytes);
    }
}

fn directed_zone(flow: &Flow, direction: ZoneDirection, label: &[u8], out: &mut Vec<u8>) {
    if flow.zone.id != 0 && flow.zone.direction == direction {
        number(out, label, flow.zone.id);
    }
}

/// Whole seconds lived, as libnetfilter_conntrack reckons them: from each end's full second.
fn age(timestamps: Timestamps, now: u64) -> u64 {
    let end = if timestamps.stop == 0 { now } else { timestamps.stop / SECOND };
    end.saturating_sub(timestamps.start / SECOND)
}

fn number(out: &mut Vec<u8>, label: &[u8], number: impl Into<u64>) {
    out.extend_from_slice(label);
    push_number(out, number);
    out.push(b' ');
}

fn key(out: &mut Vec<u8>, label: &[u8], key: Option<u16>) {
    out.extend_from_slice(label);
    push_hexadecimal(out, u32::from(key.unwrap_or(0)));
    out.push(b' ');
}

fn padded_name(name: &str, out: &mut Vec<u8>) {
    push(out, name);
    let padding = 9usize.saturating_sub(name.len()).max(1);
    out.extend_from_slice(&b"         "[..padding]);
}

fn free_text(out: &mut Vec<u8>, label: &[u8], text: &str) {
    out.extend_from_slice(label);
    for byte in text.bytes() {
        free_byte(out, byte);
    }
    out.push(b' ');
}

/// A byte of a text that others chose.
pub(crate) fn free_byte(out: &mut Vec<u8>, byte: u8) {
    if byte.is_ascii_graphic() && byte != b'\\' {
        out.push(byte);
    } else {
        out.extend_from_slice(&[b'\\', b'x', nibble(byte >> 4), nibble(byte & 15)]);
    }
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}
