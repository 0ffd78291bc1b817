use std::net::Ipv4Addr;

use ctkeeper_flow::{SctpState, SctpTracking, TcpState, Zone};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::invocation::Output;

fn invocation(command: Command, options: Options, template: Template) -> Invocation {
    Invocation {
        command,
        table: Table::Conntrack,
        family: None,
        options,
        template,
        output: Output::default(),
        events: None,
        buffer_size: None,
        no_command: false,
        warnings: Vec::new(),
    }
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn v6(last: u8) -> IpAddr {
    IpAddr::V6((0xfd00_u128 << 112 | u128::from(last)).into())
}

/// TCP from 10.0.0.1:1000 to 10.0.0.2:80.
fn flow() -> Flow {
    let original = Tuple::with_ports(Protocol::TCP, (v4(1), 1000), (v4(2), 80));
    Flow {
        original,
        reply: original.inverted().unwrap(),
        state: ProtocolState::tcp(TcpState::Established),
        status: Status::CONFIRMED | Status::SEEN_REPLY,
        timeout: Some(100),
        mark: Some(Mark(0)),
        id: Some(7),
        ..Flow::default()
    }
}

fn listed(options: Options, template: &Template, flow: &Flow) -> bool {
    let invocation = invocation(Command::List, options, template.clone());
    Matcher::new(&invocation).unwrap().matches(flow)
}

#[test]
fn nothing_asked_for_is_everything() {
    assert!(listed(Options::default(), &Template::default(), &flow()));
}

#[test]
fn a_mask_needs_its_address() {
    let asked = invocation(Command::List, Options::MASK_SOURCE, Template::default());
    let Err(Failure::Usage(message)) = Matcher::new(&asked) else { panic!("taken") };
    assert_eq!(message, b"Can't use --mask-src without --src");
}

#[test]
fn marks_are_compared_unmasked_with_the_value() {
    let marked = |mark| Flow { mark: Some(Mark(mark)), ..flow() };
    let asked = |value, mask| Template { mark: Some((value, mask)), ..Template::default() };
    assert!(listed(Options::MARK, &asked(0x7, 0xf), &marked(0x17)));
    assert!(!listed(Options::MARK, &asked(0x17, 0xf), &marked(0x17)));
    let unmarked = Flow { mark: None, ..flow() };
    assert!(!listed(Options::MARK, &asked(0, u32::MAX), &unmarked));
}

#[test]
fn status_bits_that_must_be_clear() {
    let asked =
        |status, status_mask| Template { status: Some(status), status_mask, ..Template::default() };
    let (seen, assured) = (Status::SEEN_REPLY, Status::ASSURED);
    let none = Status::default();
    let meets = |command, template: &Template| {
        let invocation = invocation(command, Options::STATUS, template.clone());
        Matcher::new(&invocation).unwrap().matches(&flow())
    };
    assert!(meets(Command::List, &asked(seen, seen)));
    assert!(!meets(Command::List, &asked(assured, assured)));
    assert!(meets(Command::List, &asked(none, assured)));
    assert!(!meets(Command::List, &asked(none, seen)));
    // With -L bits wanted are held against those that must be clear.
    assert!(!meets(Command::List, &asked(seen, assured)));
    assert!(meets(Command::Events, &asked(seen, assured)));
    assert!(meets(Command::Delete, &asked(none, assured)));
    assert!(!meets(Command::Delete, &asked(none, seen)));
}

#[test]
fn an_entry_of_one_direction_is_in_no_zone() {
    let of = |zone, direction| Flow { zone: Zone { id: zone, direction }, ..flow() };
    let zone = |zone| Template { zone: Some(zone), ..Template::default() };
    let both = of(5, ZoneDirection::Both);
    let original = of(5, ZoneDirection::Original);
    assert!(listed(Options::ZONE, &zone(5), &both));
    assert!(!listed(Options::ZONE, &zone(0), &both));
    assert!(listed(Options::ZONE, &zone(0), &original));
    assert!(!listed(Options::ZONE, &zone(5), &original));
    let wanted = Template { zone_original: Some(5), ..Template::default() };
    assert!(listed(Options::ORIGINAL_ZONE, &wanted, &original));
    assert!(!listed(Options::ORIGINAL_ZONE, &wanted, &both));
}

#[test]
fn networks() {
    let asked = |address, mask| Template {
        original: TupleTemplate { source: Some(address), ..TupleTemplate::default() },
        mask: TupleTemplate { source: Some(mask), ..TupleTemplate::default() },
        ..Template::default()
    };
    let options = Options(Options::ORIGINAL_SOURCE.0 | Options::MASK_SOURCE.0);
    let mask = IpAddr::V4(Ipv4Addr::new(255, 255, 0, 255));
    let other = IpAddr::V4(Ipv4Addr::new(10, 0, 9, 1));
    assert!(listed(options, &asked(other, mask), &flow()));
    assert!(!listed(options, &asked(v4(2), mask), &flow()));
    assert!(!listed(options, &asked(v6(1), v6(255)), &flow()));
}

#[test]
fn keys_are_not_compared() {
    let original = Tuple::with_ports(Protocol::GRE, (v4(1), 1), (v4(2), 2));
    let gre = Flow { original, reply: original.inverted().unwrap(), ..flow() };
    let template = Template {
        protocol: Some(Protocol::GRE),
        original: TupleTemplate { source_port: Some(99), ..TupleTemplate::default() },
        ..Template::default()
    };
    assert!(listed(Options::PROTOCOL, &template, &gre));
}

#[test]
fn states_are_of_the_protocol() {
    let wanted = |protocol, state| Template {
        protocol: Some(protocol),
        state: Some(state),
        ..Template::default()
    };
    assert!(listed(Options::PROTOCOL, &wanted(Protocol::TCP, 3), &flow()));
    assert!(!listed(Options::PROTOCOL, &wanted(Protocol::TCP, 1), &flow()));
    assert!(!listed(Options::PROTOCOL, &wanted(Protocol::SCTP, 3), &flow()));
}

/// A timeout is compared only beside something else.
#[test]
fn a_timeout_alone_is_no_condition() {
    let template = Template { timeout: Some(5), ..Template::default() };
    assert!(listed(Options::TIMEOUT, &template, &flow()));
    let template = Template { id: Some(7), ..template };
    assert!(!listed(Options(Options::TIMEOUT.0 | Options::ID.0), &template, &flow()));
}

const fn nat(address: IpAddr, port: Option<u16>) -> NatTemplate {
    NatTemplate { address, port }
}

#[test]
fn translations_to_what() {
    let reply = Tuple::with_ports(Protocol::TCP, (v4(9), 8080), (v4(1), 1000));
    let status = Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
    let flow = Flow { reply, status, ..flow() };
    let to = |nat| Template { destination_nat: Some(nat), ..Template::default() };
    let option = Options::DESTINATION_NAT;
    assert!(listed(option, &Template::default(), &flow));
    assert!(!listed(Options::SOURCE_NAT, &Template::default(), &flow));
    assert!(listed(Options::ANY_NAT, &Template::default(), &flow));
    assert!(listed(option, &to(nat(v4(9), None)), &flow));
    assert!(!listed(option, &to(nat(v4(8), None)), &flow));
    assert!(listed(option, &to(nat(v4(9), Some(8080))), &flow));
    assert!(!listed(option, &to(nat(v4(9), Some(80))), &flow));
    // Of an IPv6 address nothing is compared.
    assert!(listed(option, &to(nat(v6(3), None)), &flow));
    assert!(!listed(option, &to(nat(v6(3), Some(1))), &flow));
    let untold = Flow { status: Status::default(), ..flow };
    assert!(!listed(option, &Template::default(), &untold));
}

/// conntrack takes type and code of an echo for a port that was translated.
#[test]
fn an_echo_behind_translations_counts_as_translated() {
    let layer4 = Layer4::Icmp { kind: 8, code: 0, id: 77 };
    let original = Tuple { layer4, protocol: Protocol::ICMP, ..flow().original };
    let echo = Flow {
        original,
        reply: original.inverted().unwrap(),
        status: Status::SRC_NAT_DONE,
        ..flow()
    };
    assert!(listed(Options::SOURCE_NAT, &Template::default(), &echo));
}

#[test]
fn a_protocol_without_a_family_takes_two_dumps() {
    let template = Template { protocol: Some(Protocol::UDP), ..Template::default() };
    let asked = invocation(Command::List, Options::PROTOCOL, template);
    let filters = Matcher::new(&asked).unwrap().kernel_filters();
    let families: Vec<_> = filters.iter().map(|filter| filter.family).collect();
    assert_eq!(families, [Some(Family::Ipv4), Some(Family::Ipv6)]);
    assert!(filters.iter().all(|filter| filter.protocol == Some(Protocol::UDP)));
    let asked = invocation(Command::List, Options::default(), Template::default());
    assert_eq!(Matcher::new(&asked).unwrap().kernel_filters(), [DumpFilter::ALL]);
}

fn any_tuple() -> impl Strategy<Value = Tuple> {
    let protocol = select(vec![Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol(200)]);
    (any::<bool>(), 0..2u8, 0..2u8, protocol, 0..2u16, 0..2u16).prop_map(
        |(ipv6, source, destination, protocol, from, to)| {
            let address = if ipv6 { v6 } else { v4 };
            let layer4 = match protocol {
                Protocol::ICMP => Layer4::Icmp { kind: 8, code: to as u8, id: from },
                Protocol(200) => Layer4::None,
                _ => Layer4::Ports { source: from, destination: to },
            };
            let (source, destination) = (address(source), address(destination));
            Tuple { source, destination, protocol, layer4 }
        },
    )
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let direction =
        select(vec![ZoneDirection::Both, ZoneDirection::Original, ZoneDirection::Reply]);
    let state = select(vec![
        ProtocolState::None,
        ProtocolState::tcp(TcpState::Established),
        ProtocolState::Sctp(SctpTracking {
            state: SctpState::Established,
            verification_tags: None,
        }),
    ]);
    (any_tuple(), any::<bool>(), any::<u16>(), (0..3u16, direction), weighted(0.8, 0..4u32), state)
        .prop_map(|(original, is_moved, status, (id, direction), mark, state)| {
            let mut reply = original.inverted().unwrap();
            if is_moved {
                reply.source = reply.destination;
            }
            let (status, mark) = (Status(status.into()), mark.map(Mark));
            Flow {
                original,
                reply,
                status,
                mark,
                state,
                zone: Zone { id, direction },
                ..Flow::default()
            }
        })
}

fn any_template() -> impl Strategy<Value = (Options, Template)> {
    let bits = || any::<u16>().prop_map(|bits| Status(u32::from(bits) & 0x36));
    let port = || weighted(0.3, 0..2u16);
    let nats =
        [Options::default(), Options::SOURCE_NAT, Options::DESTINATION_NAT, Options::ANY_NAT];
    (
        (weighted(0.3, any_tuple()), weighted(0.2, any_tuple())),
        (weighted(0.5, Just(())), weighted(0.5, Just(())), any::<bool>()),
        (port(), port()),
        weighted(0.3, (0..4u32, 0..4u32)),
        weighted(0.3, (bits(), bits())),
        (weighted(0.2, 0..3u16), weighted(0.2, 0..3u16), weighted(0.2, 0..3u16)),
        select(nats.to_vec()),
    )
        .prop_map(
            |(tuples, (source, destination, masked), ports, mark, status, zones, nat)| {
                let (tuple, reply) = tuples;
                let mut template = Template {
                    mark,
                    mark_in_kernel: mark,
                    status: status.map(|(value, _)| value),
                    status_mask: status.map(|(_, mask)| mask).unwrap_or_default(),
                    zone: zones.0,
                    zone_original: zones.1,
                    zone_reply: zones.2,
                    ..Template::default()
                };
                // Which options were given only tells here whether anything is compared.
                let mut options = Options(Options::STATUS.0 | nat.0);
                if let Some(reply) = reply {
                    template.reply.source = source.map(|()| reply.source);
                    template.reply.destination = destination.map(|()| reply.destination);
                }
                if let Some(tuple) = tuple {
                    template.protocol = Some(tuple.protocol);
                    template.original.source = source.map(|()| tuple.source);
                    template.original.destination = destination.map(|()| tuple.destination);
                    template.original.source_port = ports.0;
                    template.original.destination_port = ports.1;
                    if masked && source.is_some() {
                        options.insert(Options::ORIGINAL_SOURCE);
                        options.insert(Options::MASK_SOURCE);
                        template.mask.source = Some(match tuple.source {
                            IpAddr::V4(_) => v4(0xfe),
                            IpAddr::V6(_) => v6(0xfe),
                        });
                    }
                }
                (options, template)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// What the kernel is asked for leaves nothing out that is meant, and brings nothing twice.
    #[test]
    fn the_kernel_delivers_what_is_meant(
        flow in any_flow(), asked in any_template(), v6: bool, lists: bool,
    ) {
        let command = if lists { Command::List } else { Command::Delete };
        let (options, template) = asked;
        let Template { original, reply, .. } = &template;
        let addresses = [original.source, original.destination, reply.source, reply.destination];
        let mut families = addresses.into_iter().flatten();
        let address = families.next();
        prop_assume!(families.all(|other| Some(other.is_ipv4()) == address.map(|a| a.is_ipv4())));
        let family = match address {
            Some(IpAddr::V4(_)) => Some(Family::Ipv4),
            Some(IpAddr::V6(_)) => Some(Family::Ipv6),
            None => v6.then_some(Family::Ipv6),
        };
        let asked = Invocation { family, ..invocation(command, options, template) };
        let matcher = Matcher::new(&asked).unwrap();
        let filters = matcher.kernel_filters();
        let delivered = filters.iter().filter(|filter| filter.matches(&flow)).count();
        prop_assert!(delivered <= 1);
        if matcher.matches(&flow) {
            prop_assert_eq!(delivered, 1, "{:?}", filters);
        }
    }
}
