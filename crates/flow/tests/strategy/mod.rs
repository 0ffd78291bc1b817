//! Generators of entries as a kernel may send them.

use std::net::IpAddr;

use ctkeeper_flow::{
    Counters, DccpRole, DccpState, Flow, Helper, Labels, Layer4, Mark, Protocol, ProtocolState,
    SctpState, SctpTracking, SequenceAdjustment, Status, SynProxy, TcpFlags, TcpState, TcpTracking,
    Timestamps, Tuple, Zone, ZoneDirection,
};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

/// A free text as a hostile neighbour would choose it.
pub(crate) fn hostile_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_]{1,12}", "\\PC{0,12}", any::<String>()]
}

/// An address of either family; few distinct ones, so that filters and entries meet.
pub(crate) fn address(ipv6: bool) -> BoxedStrategy<IpAddr> {
    if ipv6 {
        prop_oneof![
            any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
            any::<u32>().prop_map(|bits| IpAddr::V6(u128::from(bits).into())),
            (0..4u128).prop_map(|low| IpAddr::V6((0xfd77_u128 << 112 | low).into())),
        ]
        .boxed()
    } else {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            (0..4u32).prop_map(|low| IpAddr::V4((0x0a00_0000 | low).into())),
        ]
        .boxed()
    }
}

fn protocol(ipv6: bool) -> impl Strategy<Value = Protocol> {
    let icmp = if ipv6 { Protocol::ICMPV6 } else { Protocol::ICMP };
    prop_oneof![
        6 => select(vec![Protocol::TCP, Protocol::UDP]),
        3 => select(vec![Protocol::SCTP, Protocol::DCCP, Protocol::GRE, Protocol::UDPLITE, icmp]),
        1 => any::<u8>().prop_filter("no icmp of the other family", |number| {
            !Protocol(*number).is_icmp()
        }).prop_map(Protocol),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![any::<u16>(), select(vec![53, 80, 443, 8000, 8001])]
}

fn layer4(protocol: Protocol) -> BoxedStrategy<Layer4> {
    if protocol.has_ports() {
        (port(), port())
            .prop_map(|(source, destination)| Layer4::Ports { source, destination })
            .boxed()
    } else if protocol.is_icmp() {
        (any::<u8>(), any::<u8>(), any::<u16>())
            .prop_map(|(kind, code, id)| Layer4::Icmp { kind, code, id })
            .boxed()
    } else {
        Just(Layer4::None).boxed()
    }
}

fn tuple(ipv6: bool, protocol: Protocol) -> impl Strategy<Value = Tuple> {
    (address(ipv6), address(ipv6), layer4(protocol)).prop_map(
        move |(source, destination, layer4)| Tuple { source, destination, protocol, layer4 },
    )
}

/// An original tuple and a reply that often, but not always, is its answer.
fn tuples() -> impl Strategy<Value = (Tuple, Tuple)> {
    any::<bool>()
        .prop_flat_map(|ipv6| protocol(ipv6).prop_map(move |protocol| (ipv6, protocol)))
        .prop_flat_map(|(ipv6, protocol)| {
            (tuple(ipv6, protocol), weighted(0.3, tuple(ipv6, protocol)))
        })
        .prop_map(|(original, other)| {
            let reply = other.or_else(|| original.inverted()).unwrap_or(original);
            (original, reply)
        })
}

fn tcp() -> impl Strategy<Value = ProtocolState> {
    let flags = || (any::<u8>(), any::<u8>()).prop_map(|(flags, mask)| TcpFlags { flags, mask });
    (select(TcpState::ALL), weighted(0.5, any::<(u8, u8)>()), weighted(0.5, (flags(), flags())))
        .prop_map(|(state, window_scale, flags)| {
            ProtocolState::Tcp(TcpTracking { state, window_scale, flags })
        })
}

fn state(protocol: Protocol) -> BoxedStrategy<ProtocolState> {
    match protocol {
        Protocol::TCP => prop_oneof![9 => tcp(), 1 => Just(ProtocolState::None)].boxed(),
        Protocol::SCTP => (select(SctpState::ALL), any::<Option<(u32, u32)>>())
            .prop_map(|(state, verification_tags)| {
                ProtocolState::Sctp(SctpTracking { state, verification_tags })
            })
            .boxed(),
        Protocol::DCCP => (
            select(DccpState::ALL),
            proptest::option::of(select(vec![DccpRole::Client, DccpRole::Server])),
            any::<Option<u64>>(),
        )
            .prop_map(|(state, role, handshake_sequence)| ProtocolState::Dccp {
                state,
                role,
                handshake_sequence,
            })
            .boxed(),
        _ => Just(ProtocolState::None).boxed(),
    }
}

fn zone() -> impl Strategy<Value = Zone> {
    let direction =
        select(vec![ZoneDirection::Both, ZoneDirection::Original, ZoneDirection::Reply]);
    prop_oneof![
        3 => Just(Zone::DEFAULT),
        1 => (1..=u16::MAX, direction).prop_map(|(id, direction)| Zone { id, direction }),
        1 => (1..4u16).prop_map(Zone::both),
    ]
}

fn counters() -> impl Strategy<Value = Option<Counters>> {
    let counters = (any::<u64>(), any::<u64>())
        .prop_map(|(packets, bytes)| Counters { packets: packets >> 20, bytes: bytes >> 12 });
    weighted(0.5, counters)
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![any::<u16>().prop_map(|bits| Status(bits.into())), any::<u32>().prop_map(Status)]
}

/// The fields that entries may have beside their tuples.
fn extras(flow: Flow) -> impl Strategy<Value = Flow> {
    let adjustment = || {
        any::<(u32, u32, u32)>().prop_map(|(correction, before, after)| SequenceAdjustment {
            correction,
            before,
            after,
        })
    };
    let helper = (hostile_text(), any::<Vec<u8>>())
        .prop_map(|(name, info)| Box::new(Helper { name: name.into(), info: info.into() }));
    let proxy =
        (1..u32::MAX, any::<u32>(), any::<u32>()).prop_map(|(sequence, timestamp, offset)| {
            Box::new(SynProxy {
                initial_sequence: sequence,
                initial_timestamp: timestamp,
                timestamp_offset: offset,
            })
        });
    let stamps = any::<(u64, u64)>().prop_map(|(start, stop)| Timestamps { start, stop });
    let master = tuples().prop_map(|(original, _)| Box::new(original));
    (
        weighted(0.3, stamps),
        weighted(0.2, any::<[u8; 16]>().prop_map(Labels)),
        weighted(0.2, helper),
        weighted(0.2, hostile_text().prop_map(Box::from)),
        weighted(0.1, master),
        weighted(0.1, (adjustment(), adjustment()).prop_map(Box::new)),
        weighted(0.1, proxy),
        weighted(0.1, any::<u64>()),
    )
        .prop_map(move |(timestamps, labels, helper, context, master, adjust, proxy, time)| {
            Flow {
                timestamps,
                labels,
                helper,
                security_context: context,
                master,
                sequence_adjustment: adjust,
                synproxy: proxy,
                event_time: time,
                ..flow.clone()
            }
        })
}

/// Any entry.
pub(crate) fn flow() -> impl Strategy<Value = Flow> {
    tuples()
        .prop_flat_map(|(original, reply)| {
            (Just((original, reply)), state(original.protocol), status(), zone(), counters())
        })
        .prop_flat_map(|((original, reply), state, status, zone, counters_original)| {
            let numbers = (
                weighted(0.9, any::<u32>()),
                weighted(0.8, prop_oneof![any::<u32>(), 0..20u32].prop_map(Mark)),
                weighted(0.9, any::<u32>()),
                weighted(0.9, any::<u32>()),
                counters(),
            );
            numbers.prop_map(move |(timeout, mark, id, use_count, counters_reply)| Flow {
                original,
                reply,
                zone,
                status,
                state,
                timeout,
                mark,
                id,
                use_count,
                counters_original,
                counters_reply,
                ..Flow::default()
            })
        })
        .prop_flat_map(extras)
}
