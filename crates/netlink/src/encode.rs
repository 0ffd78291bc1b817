//! A [`Flow`] written as attributes: to find, create and change entries.

use std::net::IpAddr;

use ctkeeper_flow::{
    DccpRole, Flow, Labels, Layer4, Mark, Protocol, ProtocolState, SequenceAdjustment, Status,
    TcpFlags, TcpTracking, Tuple, Zone, ZoneDirection,
};

use crate::attribute::{
    entry, help, ip, nat, proto, protoinfo, sequence, synproxy, tuple as tuple_part,
};
use crate::wire::Builder;

/// Bits that the kernel lets nobody set (`IPS_UNCHANGEABLE_MASK`, Linux 6.12) or sets itself, and
/// `EXPECTED`, which comes with the master.
const KERNELS_OWN: Status = Status(
    Status::EXPECTED.0
        | Status::SRC_NAT.0
        | Status::DST_NAT.0
        | Status::SRC_NAT_DONE.0
        | Status::DST_NAT_DONE.0
        | Status::SEQ_ADJUST.0
        | Status::DYING.0
        | Status::TEMPLATE.0
        | Status::NAT_CLASH.0
        | Status::HELPER.0
        | Status::OFFLOAD.0
        | Status::HW_OFFLOAD.0,
);

/// Mask of every TCP tracker flag that may be written.
const ALL_TCP_FLAGS: u8 = u8::MAX;

/// The original tuple and the zone: what identifies an entry.
pub(crate) fn identity(builder: &mut Builder, tuple: &Tuple, zone: Zone) {
    directed(builder, entry::TUPLE_ORIGINAL, tuple, zone, ZoneDirection::Original);
    whole_zone(builder, zone);
}

/// What a deletion names: without a tuple the kernel would delete everything.
pub(crate) fn deletion(builder: &mut Builder, flow: &Flow) {
    identity(builder, &flow.original, flow.zone);
    if let Some(id) = flow.id {
        builder.put_be32(entry::ID, id);
    }
}

/// Everything that makes a new entry like `flow`.
///
/// Not written, because the kernel keeps it itself: id, use count, counters, timestamps, security
/// context and event time.
pub(crate) fn creation(builder: &mut Builder, flow: &Flow) {
    directed(builder, entry::TUPLE_ORIGINAL, &flow.original, flow.zone, ZoneDirection::Original);
    directed(builder, entry::TUPLE_REPLY, &reply(flow), flow.zone, ZoneDirection::Reply);
    whole_zone(builder, flow.zone);
    // Without a timeout the kernel refuses; 0 would expire at once.
    builder.put_be32(entry::TIMEOUT, flow.timeout.unwrap_or(DEFAULT_TIMEOUT));
    let status = (flow.status & !KERNELS_OWN) | Status::CONFIRMED;
    builder.put_be32(entry::STATUS, status.0);
    protocol_state(builder, &flow.state);
    if let Some(mark) = flow.mark {
        builder.put_be32(entry::MARK, mark.0);
    }
    translations(builder, flow);
    if let Some(labels) = flow.labels {
        builder.put(entry::LABELS, &labels.0);
    }
    if let Some(helper) = &flow.helper {
        helper_of(builder, &helper.name, &helper.info);
    }
    if let Some(master) = &flow.master {
        builder.nest(entry::TUPLE_MASTER, |builder| tuple(builder, master, None));
    }
    adjustments(builder, flow);
}

/// Seconds that an entry without a timeout of its own gets: as long as the kernel gives an
/// unreplied UDP flow.
const DEFAULT_TIMEOUT: u32 = 30;

/// The settable parts of a change to an entry that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// A new timeout, seconds; refused for entries with `FIXED_TIMEOUT`.
    pub timeout: Option<u32>,
    /// A new mark: the bits of the mask are cleared, then the value is XORed in, as the kernel does
    /// it. A mask of `u32::MAX` sets the mark.
    pub mark: Option<(Mark, u32)>,
    /// Status bits to add. `SEEN_REPLY`, `ASSURED` and `FIXED_TIMEOUT` can be; none can be removed.
    pub add_status: Status,
    /// A new state of the protocol's tracker.
    pub state: Option<ProtocolState>,
    /// New labels under a mask. They stick only where a rule of the namespace uses labels.
    pub labels: Option<(Labels, Labels)>,
}

/// The attributes of a change; `status` is what the entry has now with the added bits.
pub(crate) fn change(builder: &mut Builder, change: &Change, status: Option<Status>) {
    if let Some(timeout) = change.timeout {
        builder.put_be32(entry::TIMEOUT, timeout);
    }
    if let Some(status) = status {
        builder.put_be32(entry::STATUS, status.0);
    }
    if let Some(state) = &change.state {
        protocol_state(builder, state);
    }
    if let Some((mark, mask)) = change.mark {
        builder.put_be32(entry::MARK, mark.0);
        builder.put_be32(entry::MARK_MASK, mask);
    }
    if let Some((labels, mask)) = change.labels {
        builder.put(entry::LABELS, &labels.0);
        builder.put(entry::LABELS_MASK, &mask.0);
    }
}

/// The protocol part of a tuple.
pub(crate) fn protocol(builder: &mut Builder, protocol: Protocol, layer4: Layer4) {
    builder.nest(tuple_part::PROTO, |builder| {
        builder.put_u8(proto::NUMBER, protocol.0);
        match layer4 {
            Layer4::None => {}
            Layer4::Ports { source, destination } => {
                builder.put_be16(proto::SOURCE_PORT, source);
                builder.put_be16(proto::DESTINATION_PORT, destination);
            }
            Layer4::Icmp { kind, code, id } if protocol == Protocol::ICMPV6 => {
                builder.put_be16(proto::ICMPV6_ID, id);
                builder.put_u8(proto::ICMPV6_TYPE, kind);
                builder.put_u8(proto::ICMPV6_CODE, code);
            }
            Layer4::Icmp { kind, code, id } => {
                builder.put_be16(proto::ICMP_ID, id);
                builder.put_u8(proto::ICMP_TYPE, kind);
                builder.put_u8(proto::ICMP_CODE, code);
            }
        }
    });
}

fn directed(builder: &mut Builder, kind: u16, value: &Tuple, zone: Zone, side: ZoneDirection) {
    let zone = (zone.direction == side && zone.id != 0).then_some(zone.id);
    builder.nest(kind, |builder| tuple(builder, value, zone));
}

fn whole_zone(builder: &mut Builder, zone: Zone) {
    if zone.direction == ZoneDirection::Both && zone.id != 0 {
        builder.put_be16(entry::ZONE, zone.id);
    }
}

/// A tuple as an attribute of another kind.
pub(crate) fn tuple_as(builder: &mut Builder, kind: u16, value: &Tuple) {
    builder.nest(kind, |builder| tuple(builder, value, None));
}

pub(crate) fn tuple(builder: &mut Builder, value: &Tuple, zone: Option<u16>) {
    builder.nest(tuple_part::IP, |builder| {
        address(builder, value.source, ip::V4_SOURCE, ip::V6_SOURCE);
        address(builder, value.destination, ip::V4_DESTINATION, ip::V6_DESTINATION);
    });
    protocol(builder, value.protocol, value.layer4);
    if let Some(zone) = zone {
        builder.put_be16(tuple_part::ZONE, zone);
    }
}

pub(crate) fn address(builder: &mut Builder, address: IpAddr, v4: u16, v6: u16) {
    match address {
        IpAddr::V4(address) => builder.put(v4, &address.octets()),
        IpAddr::V6(address) => builder.put(v6, &address.octets()),
    }
}

fn protocol_state(builder: &mut Builder, state: &ProtocolState) {
    if *state == ProtocolState::None {
        return;
    }
    builder.nest(entry::PROTOINFO, |builder| match state {
        ProtocolState::None => {}
        ProtocolState::Tcp(tracking) => tcp(builder, tracking),
        ProtocolState::Sctp(tracking) => builder.nest(protoinfo::SCTP, |builder| {
            // The kernel demands both tags with the state.
            let (original, reply) = tracking.verification_tags.unwrap_or_default();
            builder.put_u8(protoinfo::STATE, tracking.state.number());
            builder.put_be32(protoinfo::SCTP_TAG_ORIGINAL, original);
            builder.put_be32(protoinfo::SCTP_TAG_REPLY, reply);
        }),
        ProtocolState::Dccp { state, role, handshake_sequence } => {
            builder.nest(protoinfo::DCCP, |builder| {
                builder.put_u8(protoinfo::STATE, state.number());
                builder.put_u8(protoinfo::DCCP_ROLE, role_number(*role));
                builder.put_be64(protoinfo::DCCP_HANDSHAKE, handshake_sequence.unwrap_or(0));
            });
        }
    });
}

fn tcp(builder: &mut Builder, tracking: &TcpTracking) {
    builder.nest(protoinfo::TCP, |builder| {
        builder.put_u8(protoinfo::STATE, tracking.state.number());
        if let Some((original, reply)) = tracking.window_scale {
            builder.put_u8(protoinfo::TCP_SCALE_ORIGINAL, original);
            builder.put_u8(protoinfo::TCP_SCALE_REPLY, reply);
        }
        if let Some((original, reply)) = tracking.flags {
            builder.put(protoinfo::TCP_FLAGS_ORIGINAL, &written(original));
            builder.put(protoinfo::TCP_FLAGS_REPLY, &written(reply));
        }
    });
}

/// The kernel sends flags with an empty mask but writes only those under the mask: an entry that
/// was read and is written again means all of them.
fn written(flags: TcpFlags) -> [u8; 2] {
    [flags.flags, if flags.mask == 0 { ALL_TCP_FLAGS } else { flags.mask }]
}

fn role_number(role: Option<DccpRole>) -> u8 {
    match role {
        None | Some(DccpRole::Client) => 0,
        Some(DccpRole::Server) => 1,
    }
}

/// The reply tuple to send. Where addresses are translated the kernel derives it from the original
/// and the translations, and sets the status bits only if it did so itself.
fn reply(flow: &Flow) -> Tuple {
    match flow.original.inverted() {
        Some(plain) if is_translated(flow) => plain,
        _ => flow.reply,
    }
}

fn is_translated(flow: &Flow) -> bool {
    flow.status.intersects(Status::SRC_NAT | Status::DST_NAT)
}

/// `CTA_NAT_SRC` and `CTA_NAT_DST`, so that the reply tuple comes out as `flow` has it.
fn translations(builder: &mut Builder, flow: &Flow) {
    if flow.status.contains(Status::DST_NAT) {
        let port = flow.reply.source_port();
        translation(builder, entry::NAT_DESTINATION, flow.reply.source, port);
    }
    if flow.status.contains(Status::SRC_NAT) {
        let port = flow.reply.destination_port();
        translation(builder, entry::NAT_SOURCE, flow.reply.destination, port);
    }
}

fn translation(builder: &mut Builder, kind: u16, to: IpAddr, port: Option<u16>) {
    builder.nest(kind, |builder| {
        address(builder, to, nat::V4_MINIMUM, nat::V6_MINIMUM);
        address(builder, to, nat::V4_MAXIMUM, nat::V6_MAXIMUM);
        if let Some(port) = port {
            builder.nest(nat::PROTO, |builder| {
                builder.put_be16(nat::PORT_MINIMUM, port);
                builder.put_be16(nat::PORT_MAXIMUM, port);
            });
        }
    });
}

pub(crate) fn helper_of(builder: &mut Builder, name: &str, info: &[u8]) {
    builder.nest(entry::HELP, |builder| {
        builder.put_text(help::NAME, name);
        if !info.is_empty() {
            builder.put(help::INFO, info);
        }
    });
}

fn adjustments(builder: &mut Builder, flow: &Flow) {
    if let Some(pair) = &flow.sequence_adjustment {
        adjustment(builder, entry::SEQUENCE_ORIGINAL, pair.0);
        adjustment(builder, entry::SEQUENCE_REPLY, pair.1);
    }
    if let Some(proxied) = &flow.synproxy {
        builder.nest(entry::SYNPROXY, |builder| {
            builder.put_be32(synproxy::INITIAL_SEQUENCE, proxied.initial_sequence);
            builder.put_be32(synproxy::INITIAL_TIMESTAMP, proxied.initial_timestamp);
            builder.put_be32(synproxy::TIMESTAMP_OFFSET, proxied.timestamp_offset);
        });
    }
}

fn adjustment(builder: &mut Builder, kind: u16, value: SequenceAdjustment) {
    builder.nest(kind, |builder| {
        builder.put_be32(sequence::CORRECTION, value.correction);
        builder.put_be32(sequence::BEFORE, value.before);
        builder.put_be32(sequence::AFTER, value.after);
    });
}
