//! Real bytes (Linux 6.18, read with a few lines of Python from a namespace where `conntrack -I`
//! had made the entries), what is left of them when they are cut or changed, and our own writing
//! read back.

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::encode;
use crate::socket::{Answer, answer};
use crate::wire::{Builder, Messages};

/// `-p tcp -s 10.77.1.2 -d 10.77.2.2 --sport 4000 --dport 80 --state ESTABLISHED -t 432000
/// -u ASSURED,SEEN_REPLY -m 7`, with accounting and timestamps on.
const TCP: &str = "380100000001020007000000c6690000020000003400018014000180080001000a4d010208000200\
0a4d02021c0002800500010006000000060002000fa0000006000300005000003400028014000180080001000a4d020208\
0002000a4d01021c00028005000100060000000600020000500000060003000fa00000080003000000000e080008000000\
000708000c00afcd0c0808000b0000000001080007000006977f300004802c000180050001000300000005000200000000\
000500030000000000060004000a000000060005000a0000001c0009800c00010000000000000000000c00020000000000\
000000001c000a800c00010000000000000000000c0002000000000000000000100014800c00010018ea700ae17f7bc71c\
001880080001000000000008000200000000000800030000000000";

/// `-p icmpv6 -s fd77:1::2 -d fd77:2::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 322 -t 30
/// --orig-zone 9`.
const ICMPV6: &str = "500100000001020007000000c66900000a0000005c0001802c00018014000300fd770001000000\
00000000000000000214000400fd77000200000000000000000000000224000280050001003a000000060007000142000005\
0008008000000005000900000000000600030000090000540002802c00018014000300fd77000200000000000000000000\
000214000400fd77000100000000000000000000000224000280050001003a000000060007000142000005000800810000\
0005000900000000000800030000000808080008000000000008000c00bfdc172e08000b000000000108000700000000\
1d1c0009800c00010000000000000000000c00020000000000000000001c000a800c00010000000000000000000c000200\
0000000000000000100014800c00010018ea700ae192eac91c001880080001000000000008000200000000000800030000\
000000";

/// `-p sctp … --state ESTABLISHED --orig-vtag 17 --reply-vtag 18 -t 210 -w 5`.
const SCTP: &str = "3001000000010200070000009f9f0000020000003400018014000180080001000a4d01020800\
02000a4d02021c0002800500010084000000060002001389000006000300177000003400028014000180080001000a4d02\
02080002000a4d01021c000280050001008400000006000200177000000600030013890000060012000005000008000300\
00000008080008000000000008000c005804479908000b000000000108000700000000d1200004801c0003800500010004\
000000080002001100000008000300120000001c0009800c00010000000000000000000c00020000000000000000001c00\
0a800c00010000000000000000000c0002000000000000000000100014800c00010018ea70381dd9973a1c001880080001\
000000000008000200000000000800030000000000";

const GLOBAL: &str = "240000000501020007000000ef6900000000000008000100000000030800020000040000";

const CPU_1: &str = "640000000401020007000000186a0000000000010800020000000000080004000000000008000800\
0000000d080009000000000008000a000000000008000b000000000008000c000000000008000d000000000008000e0000\
00000008000f0000000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.bytes().filter_map(|digit| Some(char::from(digit).to_digit(16)? as u8)).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn decoded(bytes: &[u8]) -> Result<Flow> {
    let message = Messages(bytes).next().ok_or(Malformed::Message)??;
    let mut decoded = Flow::default();
    flow(message.attributes()?, &mut decoded).map(|()| decoded)
}

#[test]
fn tcp() {
    let flow = decoded(&bytes(TCP)).unwrap();
    let (from, to) = ("10.77.1.2".parse().unwrap(), "10.77.2.2".parse().unwrap());
    let original = Tuple::with_ports(Protocol::TCP, (from, 4000), (to, 80));
    let flags = TcpFlags { flags: 0x0a, mask: 0 };
    let none = Some(Counters::default());
    let expected = Flow {
        original,
        reply: original.inverted().unwrap(),
        status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED,
        state: ProtocolState::Tcp(TcpTracking {
            state: TcpState::Established,
            window_scale: Some((0, 0)),
            flags: Some((flags, flags)),
        }),
        timeout: Some(431_999),
        mark: Some(Mark(7)),
        id: Some(0xafcd_0c08),
        use_count: Some(1),
        counters_original: none,
        counters_reply: none,
        timestamps: Some(Timestamps { start: 0x18ea_700a_e17f_7bc7, stop: 0 }),
        synproxy: Some(Box::default()),
        ..Flow::default()
    };
    assert_eq!(flow, expected);
}

#[test]
fn icmpv6_in_a_zone_of_one_direction() {
    let flow = decoded(&bytes(ICMPV6)).unwrap();
    assert_eq!(flow.original.source, "fd77:1::2".parse::<Ipv6Addr>().unwrap());
    assert_eq!(flow.original.layer4, Layer4::Icmp { kind: 128, code: 0, id: 322 });
    assert_eq!(flow.reply, flow.original.inverted().unwrap());
    assert_eq!(flow.zone, Zone { id: 9, direction: ZoneDirection::Original });
    assert_eq!(flow.state, ProtocolState::None);
    assert_eq!(flow.timeout, Some(29));
}

#[test]
fn sctp_in_a_zone() {
    let flow = decoded(&bytes(SCTP)).unwrap();
    assert_eq!(flow.protocol(), Protocol::SCTP);
    assert_eq!(flow.original.source_port(), Some(5001));
    assert_eq!(flow.zone, Zone::both(5));
    let state = SctpState::Established;
    // conntrack 1.4.7 writes the tags in the host's order; they are read in the network's.
    let verification_tags = Some((0x1100_0000, 0x1200_0000));
    assert_eq!(flow.state, ProtocolState::Sctp(SctpTracking { state, verification_tags }));
}

#[test]
fn statistics_of_the_namespace_and_of_a_cpu() {
    let global = bytes(GLOBAL);
    let message = Messages(&global).next().unwrap().unwrap();
    let numbers = global_statistics(message.attributes().unwrap()).unwrap();
    assert_eq!(numbers, (Some(3), Some(262_144)));

    let cpu = bytes(CPU_1);
    let message = Messages(&cpu).next().unwrap().unwrap();
    assert_eq!(message.netfilter_header().unwrap(), (0, 1));
    let statistics = statistics(message.attributes().unwrap()).unwrap();
    assert_eq!(statistics.get(Statistic::Insert), Some(13));
    assert_eq!(statistics.get(Statistic::Drop), Some(0));
    assert_eq!(statistics.get(Statistic::Searched), None);
}

#[test]
fn a_value_is_reused_without_traces_of_the_one_before() {
    let (first, second) = (bytes(TCP), bytes(ICMPV6));
    let mut reused = Flow::default();
    for bytes in [&first, &second] {
        let message = Messages(bytes).next().unwrap().unwrap();
        flow(message.attributes().unwrap(), &mut reused).unwrap();
    }
    assert_eq!(reused, decoded(&second).unwrap());
}

#[test]
fn a_tuple_is_needed_in_both_directions() {
    let entry = bytes(TCP);
    let message = Messages(&entry).next().unwrap().unwrap();
    let attributes = message.attributes().unwrap();
    // Both tuples are 52 bytes.
    let without_original = Attributes(attributes.0.get(52..).unwrap());
    let result = flow(without_original, &mut Flow::default());
    assert_eq!(result, Err(Malformed::Missing("original tuple")));
    let without_reply = Attributes(attributes.0.get(..52).unwrap());
    let result = flow(without_reply, &mut Flow::default());
    assert_eq!(result, Err(Malformed::Missing("reply tuple")));
}

#[test]
fn every_cut_is_refused_or_read_without_panic() {
    for hex in [TCP, ICMPV6, SCTP] {
        let whole = bytes(hex);
        for end in 0..whole.len() {
            assert!(decoded(&whole[..end]).is_err(), "{end} bytes of {}", whole.len());
            // The same cut under a header that agrees with it.
            let mut cut = whole[..end].to_vec();
            if let Some(length) = cut.first_chunk_mut::<4>() {
                *length = (end as u32).to_ne_bytes();
                let _ = decoded(&cut);
            }
        }
    }
}

/// The old 32-bit counters, timestamps of an event, and the extensions that conntrack(8) cannot
/// make.
#[test]
fn rare_attributes() {
    let mut builder = Builder::default();
    builder.begin(256, 0, 1, 2);
    encode::identity(&mut builder, &Tuple::default(), Zone::DEFAULT);
    builder.nest(entry::TUPLE_REPLY, |reply| {
        reply.nest(tuple::IP, |ip| {
            ip.put(ip::V4_SOURCE, &[1, 1, 1, 1]);
            ip.put(ip::V4_DESTINATION, &[2, 2, 2, 2]);
        });
        encode::protocol(reply, Protocol(0), Layer4::None);
    });
    builder.nest(entry::COUNTERS_ORIGINAL, |counters| {
        counters.put_be32(counters::PACKETS_32, 3);
        counters.put_be32(counters::BYTES_32, 180);
    });
    builder.put_be64(entry::TIMESTAMP_EVENT, 99);
    builder.nest(entry::SECURITY_CONTEXT, |context| {
        context.put_text(security::NAME, "system_u:object_r:net_t");
    });
    builder.nest(entry::PROTOINFO, |info| {
        info.nest(protoinfo::DCCP, |dccp| {
            dccp.put_u8(protoinfo::STATE, 4);
            dccp.put_u8(protoinfo::DCCP_ROLE, 1);
            dccp.put_be64(protoinfo::DCCP_HANDSHAKE, 1 << 40);
        });
    });
    builder.put(999, b"of a later kernel");
    assert!(builder.end());
    let flow = decoded(builder.bytes()).unwrap();
    assert_eq!(flow.counters_original, Some(Counters { packets: 3, bytes: 180 }));
    assert_eq!(flow.event_time, Some(99));
    assert_eq!(flow.security_context.as_deref(), Some("system_u:object_r:net_t"));
    let (state, role) = (DccpState::Open, Some(DccpRole::Server));
    let handshake_sequence = Some(1 << 40);
    assert_eq!(flow.state, ProtocolState::Dccp { state, role, handshake_sequence });
}

#[test]
fn an_unknown_state_does_not_cost_the_entry() {
    let mut entry = bytes(TCP);
    let state = entry.windows(8).position(|w| w == [5, 0, 1, 0, 3, 0, 0, 0]).unwrap();
    entry[state + 4] = 77;
    assert_eq!(decoded(&entry).unwrap().state, ProtocolState::None);
}

fn any_tuple() -> impl Strategy<Value = Tuple> {
    let v4 = any::<(u32, u32)>()
        .prop_map(|(a, b)| (IpAddr::V4(Ipv4Addr::from(a)), IpAddr::V4(Ipv4Addr::from(b))));
    let v6 = any::<(u128, u128)>()
        .prop_map(|(a, b)| (IpAddr::V6(Ipv6Addr::from(a)), IpAddr::V6(Ipv6Addr::from(b))));
    let ports =
        any::<(u16, u16)>().prop_map(|(source, destination)| Layer4::Ports { source, destination });
    let icmp = any::<(u8, u8, u16)>().prop_map(|(kind, code, id)| Layer4::Icmp { kind, code, id });
    let upper = prop_oneof![
        ports.prop_map(|layer4| (Protocol::TCP, layer4)),
        icmp.clone().prop_map(|layer4| (Protocol::ICMP, layer4)),
        icmp.prop_map(|layer4| (Protocol::ICMPV6, layer4)),
        Just((Protocol(50), Layer4::None)),
    ];
    (prop_oneof![v4, v6], upper).prop_map(|((source, destination), (protocol, layer4))| Tuple {
        source,
        destination,
        protocol,
        layer4,
    })
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let adjustment = any::<(u32, u32, u32)>()
        .prop_map(|(correction, before, after)| SequenceAdjustment { correction, before, after });
    let zone = prop_oneof![
        Just(Zone::DEFAULT),
        (1..u16::MAX).prop_map(Zone::both),
        (1..u16::MAX).prop_map(|id| Zone { id, direction: ZoneDirection::Original }),
        (1..u16::MAX).prop_map(|id| Zone { id, direction: ZoneDirection::Reply }),
    ];
    let extensions = (
        proptest::option::of(any::<[u8; 16]>().prop_map(Labels)),
        proptest::option::of("[a-z]{1,15}"),
        proptest::option::of(any_tuple()),
        proptest::option::of((adjustment.clone(), adjustment)),
    );
    (any_tuple(), any_tuple(), zone, any::<(u32, Option<u32>)>(), extensions).prop_map(
        |(original, reply, zone, (timeout, mark), (labels, helper, master, adjustments))| Flow {
            original,
            reply,
            zone,
            status: Status::CONFIRMED | Status::ASSURED,
            timeout: Some(timeout),
            mark: mark.map(Mark),
            labels,
            helper: helper.map(|name| Box::new(Helper { name: name.into(), info: Box::new([1]) })),
            master: master.map(Box::new),
            sequence_adjustment: adjustments.map(Box::new),
            ..Flow::default()
        },
    )
}

/// The kernel's bytes have the layout that is looked for.
#[test]
fn a_glance_is_enough_for_the_kernels_tcp() {
    let bytes = bytes(TCP);
    let message = Messages(&bytes).next().unwrap().unwrap();
    let values: Vec<_> =
        message.attributes().unwrap().map(|attribute| attribute.unwrap().value).collect();
    let tuples = values.iter().filter(|value| layout::tuple(value, &mut Tuple::default()));
    assert_eq!(tuples.count(), 2);
    assert_eq!(values.iter().filter_map(|value| layout::tcp(value)).count(), 1);
}

proptest! {
    #[test]
    fn what_is_written_for_a_new_entry_reads_back(written in any_flow()) {
        let mut builder = Builder::default();
        builder.begin(256, 0, 1, written.family().number());
        encode::creation(&mut builder, &written);
        prop_assert!(builder.end());
        prop_assert_eq!(decoded(builder.bytes()), Ok(written));
    }

    /// What is read at one glance is what a walk finds, however the bytes were changed.
    #[test]
    fn a_glance_sees_what_a_walk_finds(
        written in any_flow(),
        change in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut builder = Builder::default();
        builder.begin(256, 0, 1, written.family().number());
        encode::creation(&mut builder, &written);
        prop_assert!(builder.end());
        let mut bytes = builder.bytes().to_vec();
        if let Some((place, value)) = change {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let message = Messages(&bytes).next().and_then(std::result::Result::ok);
        let attributes = message.and_then(|message| message.attributes().ok());
        for attribute in attributes.into_iter().flatten().map_while(std::result::Result::ok) {
            let mut seen = Tuple::default();
            if layout::tuple(attribute.value, &mut seen) {
                let (mut found, mut zone) = (Tuple::default(), Zone::default());
                let direction = ZoneDirection::Original;
                prop_assert_eq!(walk_tuple(&attribute, &mut found, &mut zone, direction), Ok(()));
                prop_assert_eq!((seen, zone), (found, Zone::default()));
            }
            if let Some(seen) = layout::tcp(attribute.value) {
                prop_assert_eq!(walk_state(&attribute), Ok(ProtocolState::Tcp(seen)));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for message in Messages(&bytes).map_while(std::result::Result::ok) {
            let _ = answer(message);
            let _ = message.attributes().map(statistics);
            let _ = message.attributes().map(global_statistics);
        }
        let _ = flow(Attributes(&bytes), &mut Flow::default());
        let _ = decoded(&bytes);
    }

    #[test]
    fn changed_messages_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        which in 0..3_usize,
    ) {
        let mut entry = bytes([TCP, ICMPV6, SCTP][which]);
        for (place, value) in &changes {
            let place = place.index(entry.len());
            entry[place] = *value;
        }
        let _ = decoded(&entry);
        entry.truncate(cut.index(entry.len()));
        if let Some(Ok(message)) = Messages(&entry).next() {
            let _ = answer(message).map(|answer| matches!(answer, Answer::Done));
        }
        let _ = decoded(&entry);
    }
}
