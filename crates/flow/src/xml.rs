//! The XML form: one `<flow>` element an entry, as `conntrack -o xml` writes them.
//!
//! ```xml
//! <?xml version="1.0" encoding="utf-8"?>
//! <conntrack>
//! <flow><meta direction="original"><layer3 protonum="2" protoname="ipv4"><src>10.0.0.1</src>…</flow>
//! </conntrack>
//! ```
//!
//! The bytes are those of libnetfilter_conntrack 1.0.9, with these differences: SCTP and DCCP states
//! have their own names (theirs are those of TCP), and free text (`<secctx>`, `<helper>`) is
//! escaped, markup as entities, other bytes that could break a line or a terminal as `\xNN`.

use crate::digits::{push_address, push_hexadecimal, push_number};
use crate::{
    Counters, Direction, EventKind, Expectation, ExpectationFlags, Family, Flow, LabelNames,
    Layer4, LocalTime, Protocol, Status, Timestamps, Tuple, ZoneDirection,
};

/// What stands before the first element.
pub const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n";

const SECOND: u64 = 1_000_000_000;

/// What an element shows beside the entry itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct XmlOptions<'a> {
    /// The event, as the element's `type`.
    pub event: Option<EventKind>,
    /// `<timestamp>`, as `-o ktimestamp`.
    pub kernel_timestamps: bool,
    /// Seconds since the epoch, from which `<deltatime>` counts the age of a living entry.
    pub now: u64,
    /// `<labels>` by these names, as `-o labels`.
    pub labels: Option<&'a LabelNames>,
    /// `<when>`: `now` in this local time, as `-o timestamp` with events.
    pub when: Option<LocalTime<'a>>,
}

/// Appends the element of `flow`, without a line end. Allocates only where `out` must grow.
pub fn write(flow: &Flow, options: &XmlOptions<'_>, out: &mut Vec<u8>) {
    flow_tag(options.event, out);
    side(flow, Direction::Original, out);
    side(flow, Direction::Reply, out);
    push(out, "<meta direction=\"independent\">");
    independent(flow, options, out);
    push(out, "</meta>");
    if let Some(local) = options.when {
        when(options.now, local, out);
    }
    if let Some(helper) = &flow.helper {
        text_element(out, "helper", &helper.name);
    }
    push(out, "</flow>");
}

/// Appends the element of an expectation, without a line end; `when` is the moment (seconds since
/// the epoch) for `<when>`.
pub fn write_expectation(
    expectation: &Expectation,
    event: Option<EventKind>,
    moment: Option<(u64, LocalTime<'_>)>,
    out: &mut Vec<u8>,
) {
    flow_tag(event, out);
    let tuples = [
        ("expected", &expectation.expected),
        ("mask", &expectation.mask),
        ("master", &expectation.master),
    ];
    layer3_tag(expectation.expected.family(), out);
    for (name, tuple) in tuples {
        element(out, name, |out| addresses(tuple, out));
    }
    push(out, "</layer3>");
    layer4_tag(expectation.expected.protocol, out);
    for (name, tuple) in tuples {
        element(out, name, |out| ports(tuple, out));
    }
    push(out, "</layer4>");
    element(out, "meta", |out| expectation_meta(expectation, moment, out));
    push(out, "</flow>");
}

fn expectation_meta(
    expectation: &Expectation,
    moment: Option<(u64, LocalTime<'_>)>,
    out: &mut Vec<u8>,
) {
    if let Some(helper) = &expectation.helper {
        text_element(out, "helper-name", helper);
    }
    if let Some(timeout) = expectation.timeout {
        number(out, "timeout", timeout);
    }
    number(out, "class", expectation.class);
    if expectation.zone.id != 0 {
        number(out, "zone", expectation.zone.id);
    }
    if let Some((now, local)) = moment {
        when(now, local, out);
    }
    for (flag, tag) in [
        (ExpectationFlags::PERMANENT, "<permanent/>"),
        (ExpectationFlags::INACTIVE, "<inactive/>"),
        (ExpectationFlags::USERSPACE, "<userspace/>"),
    ] {
        if expectation.flags.contains(flag) {
            push(out, tag);
        }
    }
}

fn flow_tag(event: Option<EventKind>, out: &mut Vec<u8>) {
    match event {
        None => push(out, "<flow>"),
        Some(event) => {
            push(out, "<flow type=\"");
            push(out, event.name());
            push(out, "\">");
        }
    }
}

/// What concerns one direction.
fn side(flow: &Flow, direction: Direction, out: &mut Vec<u8>) {
    let (tag, tuple, zone, counted) = match direction {
        Direction::Original => (
            "<meta direction=\"original\">",
            &flow.original,
            ZoneDirection::Original,
            flow.counters_original,
        ),
        Direction::Reply => {
            ("<meta direction=\"reply\">", &flow.reply, ZoneDirection::Reply, flow.counters_reply)
        }
    };
    push(out, tag);
    layer3_tag(tuple.family(), out);
    addresses(tuple, out);
    push(out, "</layer3>");
    layer4_tag(tuple.protocol, out);
    ports(tuple, out);
    push(out, "</layer4>");
    directed_zone(flow, zone, out);
    // Their library asks for the original direction's counters in both.
    if flow.counters_original.is_some() {
        let Counters { packets, bytes } = counted.unwrap_or_default();
        element(out, "counters", |out| {
            number(out, "packets", packets);
            number(out, "bytes", bytes);
        });
    }
    push(out, "</meta>");
}

fn layer3_tag(family: Family, out: &mut Vec<u8>) {
    push(
        out,
        match family {
            Family::Ipv4 => "<layer3 protonum=\"2\" protoname=\"ipv4\">",
            Family::Ipv6 => "<layer3 protonum=\"10\" protoname=\"ipv6\">",
        },
    );
}

fn layer4_tag(protocol: Protocol, out: &mut Vec<u8>) {
    push(out, "<layer4 protonum=\"");
    push_number(out, protocol.0);
    push(out, "\" protoname=\"");
    push(out, protocol.name().unwrap_or("unknown"));
    push(out, "\">");
}

fn addresses(tuple: &Tuple, out: &mut Vec<u8>) {
    push(out, "<src>");
    push_address(out, tuple.source);
    push(out, "</src><dst>");
    push_address(out, tuple.destination);
    push(out, "</dst>");
}

/// ICMP's fields are not shown in this form.
fn ports(tuple: &Tuple, out: &mut Vec<u8>) {
    let (source, destination) = match tuple.layer4 {
        Layer4::Ports { source, destination } => (source, destination),
        _ => (0, 0),
    };
    if tuple.protocol == Protocol::GRE {
        push(out, "<srckey>0x");
        push_hexadecimal(out, source.into());
        push(out, "</srckey><dstkey>0x");
        push_hexadecimal(out, destination.into());
        push(out, "</dstkey>");
    } else if tuple.protocol.has_ports() {
        number(out, "sport", source);
        number(out, "dport", destination);
    }
}

/// What concerns the entry as a whole.
fn independent(flow: &Flow, options: &XmlOptions<'_>, out: &mut Vec<u8>) {
    if let Some(state) = flow.state.name() {
        element(out, "state", |out| push(out, state));
    }
    if let Some(timeout) = flow.timeout {
        number(out, "timeout", timeout);
    }
    if let Some(mark) = flow.mark {
        number(out, "mark", mark.0);
    }
    if let (Some(names), Some(set)) = (options.labels, flow.labels) {
        element(out, "labels", |out| {
            names.names(set).for_each(|name| text_element(out, "label", name));
        });
    }
    if let Some(context) = &flow.security_context {
        text_element(out, "secctx", context);
    }
    directed_zone(flow, ZoneDirection::Both, out);
    if let Some(uses) = flow.use_count {
        number(out, "use", uses);
    }
    if let Some(id) = flow.id {
        number(out, "id", id);
    }
    if flow.is_assured() {
        push(out, "<assured/>");
    }
    if !flow.status.contains(Status::SEEN_REPLY) {
        push(out, "<unreplied/>");
    }
    if let Some(timestamps) = flow.timestamps {
        times(timestamps, options, out);
    }
}

/// A whole life is measured to the nanosecond and cut; the age of what lives counts from its full
/// second.
fn times(timestamps: Timestamps, options: &XmlOptions<'_>, out: &mut Vec<u8>) {
    let Timestamps { start, stop } = timestamps;
    if options.kernel_timestamps {
        element(out, "timestamp", |out| {
            number(out, "start", start);
            if stop != 0 {
                number(out, "stop", stop);
            }
        });
    }
    let seconds = match stop {
        0 => options.now.saturating_sub(start / SECOND),
        stop => stop.saturating_sub(start) / SECOND,
    };
    number(out, "deltatime", seconds);
}

fn when(now: u64, local: LocalTime<'_>, out: &mut Vec<u8>) {
    let civil = local.civil(now);
    element(out, "when", |out| {
        number(out, "hour", civil.hour);
        padded(out, "min", civil.minute);
        padded(out, "sec", civil.second);
        number(out, "wday", civil.weekday + 1);
        number(out, "day", civil.day);
        number(out, "month", civil.month);
        number(out, "year", civil.year);
    });
}

fn directed_zone(flow: &Flow, direction: ZoneDirection, out: &mut Vec<u8>) {
    if flow.zone.id != 0 && flow.zone.direction == direction {
        number(out, "zone", flow.zone.id);
    }
}

#[inline]
fn element(out: &mut Vec<u8>, name: &str, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'<');
    push(out, name);
    out.push(b'>');
    content(out);
    push(out, "</");
    push(out, name);
    out.push(b'>');
}

#[inline]
fn number(out: &mut Vec<u8>, name: &str, number: impl Into<u64>) {
    element(out, name, |out| push_number(out, number));
}

fn padded(out: &mut Vec<u8>, name: &str, number: u64) {
    element(out, name, |out| crate::civil::push_padded(out, number, 2, b'0'));
}

fn text_element(out: &mut Vec<u8>, name: &str, text: &str) {
    element(out, name, |out| {
        for byte in text.bytes() {
            match byte {
                b'<' => push(out, "&lt;"),
                b'>' => push(out, "&gt;"),
                b'&' => push(out, "&amp;"),
                _ => crate::text::free_byte(out, byte),
            }
        }
    });
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}
