use ctkeeper_flow::{Direction, Status};

use super::*;
use crate::outcome::{Class, Handle};
use crate::packet::{Datagram, Packet};
use crate::rules::Connection;
use crate::tuple::{Tuple, address_bits, protocol};

fn tuple(source: &str, destination: &str, protocol: u8) -> Tuple {
    let bits = |text: &str| address_bits(text.parse().unwrap());
    let family = if source.contains(':') { Family::Ipv6 } else { Family::Ipv4 };
    Tuple {
        source: bits(source),
        destination: bits(destination),
        source_id: 40_000,
        destination_id: 443,
        protocol,
        family,
    }
}

fn datagram(tuple: &Tuple) -> Datagram<'static> {
    Datagram {
        family: tuple.family,
        source: tuple.source,
        destination: tuple.destination,
        protocol: tuple.protocol,
        hop_limit: 64,
        header: 20,
        length: 60,
        payload: &[],
    }
}

/// Asks about a new TCP packet from 10.0.0.1 in by 1 out by 2.
fn with_visit<T>(change: impl FnOnce(&mut Visit<'_>), ask: impl FnOnce(&Visit<'_>) -> T) -> T {
    let tuple = tuple("10.0.0.1", "192.0.2.1", protocol::TCP);
    let datagram = datagram(&tuple);
    let packet = Packet { input: 1, output: 2, ..Packet::new(&[]) };
    let mut visit = Visit {
        hook: Hook::Forward,
        packet: &packet,
        datagram: &datagram,
        tuple: Some(tuple),
        mark: 5,
        class: Class::New,
        connection: Some(Connection {
            handle: Handle { line: 0, id: 1 },
            direction: Direction::Original,
            original: tuple,
            reply: tuple.inverted().unwrap(),
            status: Status(0),
            zone: Zone::DEFAULT,
            mark: 9,
            labels: Labels::default(),
        }),
    };
    change(&mut visit);
    ask(&visit)
}

fn fits(when: &Match) -> bool {
    with_visit(|_| {}, |visit| when.fits(visit))
}

#[test]
fn each_part_of_a_match_counts() {
    let prefix = |text: &str| text.parse().unwrap();
    for (yes, no) in [
        (Match::all().at(Hook::Forward), Match::all().at(Hook::Input)),
        (Match::all().namespace(0), Match::all().namespace(1)),
        (Match::all().family(Family::Ipv4), Match::all().family(Family::Ipv6)),
        (Match::all().protocol(6), Match::all().protocol(17)),
        (Match::all().source(prefix("10.0.0.0/8")), Match::all().source(prefix("11.0.0.0/8"))),
        (
            Match::all().destination(prefix("192.0.2.1")),
            Match::all().destination(prefix("10.0.0.1")),
        ),
        (Match::all().source_ports(40_000, 40_000), Match::all().source_ports(443, 443)),
        (Match::all().destination_ports(1, 443), Match::all().destination_ports(444, 65_535)),
        (Match::all().input(1), Match::all().input(2)),
        (Match::all().output(2), Match::all().output(1)),
        (
            Match::all().states([Class::Invalid, Class::New]),
            Match::all().states([Class::Established]),
        ),
        (Match::all().mark(5), Match::all().mark(9)),
        (Match::all().connection_mark(9), Match::all().connection_mark(5)),
    ] {
        assert!(fits(&yes), "{yes:?}");
        assert!(!fits(&no), "{no:?}");
        assert!(!fits(&Match { source: Some(prefix("::/0")), ..yes }));
    }
}

#[test]
fn ports_are_matched_where_there_are_any() {
    let when = Match::all().source_ports(0, 65_535);
    let icmp = tuple("10.0.0.1", "192.0.2.1", protocol::ICMP);
    assert!(!with_visit(|visit| visit.tuple = Some(icmp), |visit| when.fits(visit)));
    assert!(!with_visit(|visit| visit.tuple = None, |visit| when.fits(visit)));
    // Addresses are there without a layer 4 header too.
    let when = Match::all().source("10.0.0.1".parse().unwrap());
    assert!(with_visit(|visit| visit.tuple = None, |visit| when.fits(visit)));
}

#[test]
fn translated_addresses_count_as_they_are_now() {
    let now = tuple("10.0.0.1", "10.9.9.9", protocol::TCP);
    let when = Match::all().destination("10.9.9.9".parse().unwrap());
    assert!(with_visit(|visit| visit.tuple = Some(now), |visit| when.fits(visit)));
}

fn filtered(rules: Rules) -> Decision {
    let mut rules = rules;
    with_visit(|_| {}, |visit| rules.filter(visit))
}

#[test]
fn the_first_verdict_counts() {
    let all = Match::all;
    let rules = Rules::default()
        .with_filter(all().mark(77), FilterAction::Drop)
        .with_filter(all(), FilterAction::Accept)
        .with_filter(all(), FilterAction::Drop);
    assert_eq!(filtered(rules), Decision::ACCEPT);
    let rules = Rules::default()
        .with_filter(all(), FilterAction::Drop)
        .with_filter(all(), FilterAction::Mark(1));
    assert_eq!(filtered(rules), Decision::DROP);
}

#[test]
fn marks_and_labels_are_seen_by_the_rules_behind() {
    let all = Match::all;
    let rules = Rules::default()
        .with_filter(all(), FilterAction::RestoreMark)
        .with_filter(all().mark(9), FilterAction::Mark(30))
        .with_filter(all(), FilterAction::SaveMark)
        .with_filter(all().connection_mark(30), FilterAction::Label(7))
        .with_filter(all(), FilterAction::Label(127));
    let decision = filtered(rules);
    assert_eq!(decision.mark, Some(30));
    assert_eq!(decision.connection_mark, Some(30));
    assert_eq!(decision.labels, Some(Labels::from_bits([7, 127])));
    assert_eq!(decision.verdict, Verdict::Accept);
}

#[test]
fn packets_without_connection_have_no_connection_to_mark() {
    let mut rules = Rules::default()
        .with_filter(Match::all(), FilterAction::SaveMark)
        .with_filter(Match::all(), FilterAction::RestoreMark);
    let decision = with_visit(|visit| visit.connection = None, |visit| rules.filter(visit));
    assert_eq!(decision, Decision::ACCEPT);
}

#[test]
fn raw_rules_choose_zone_and_tracking() {
    let all = Match::all;
    let raw = |rules: Rules| {
        let mut rules = rules;
        with_visit(|_| {}, |visit| Ruleset::raw(&mut rules, visit))
    };
    let zone = Zone::both(7);
    assert_eq!(raw(Rules::default()), Raw::TRACK);
    let marked = Rules::default().with_raw(all(), RawAction::Mark(3));
    assert_eq!(
        raw(marked.clone().with_raw(all().mark(3), RawAction::Zone(zone))),
        Raw { tracking: Tracking::In(zone), mark: Some(3) }
    );
    for (action, tracking) in
        [(RawAction::Untracked, Tracking::Untracked), (RawAction::Drop, Tracking::Drop)]
    {
        let outcome = Raw { tracking, mark: Some(3) };
        assert_eq!(raw(marked.clone().with_raw(all(), action)), outcome);
        let accepted = marked.clone().with_raw(all(), RawAction::Accept).with_raw(all(), action);
        assert_eq!(raw(accepted), Raw { tracking: Tracking::In(Zone::DEFAULT), mark: Some(3) });
    }
}

#[test]
fn masquerading_takes_the_address_of_the_way_out() {
    let mut rules = Rules::default()
        .with_address(2, "2001:db8::1".parse().unwrap())
        .with_address(2, "203.0.113.1".parse().unwrap())
        .with_source(Match::all(), SourceAction::Masquerade(Range::KEEP.ports(1, 9)));
    let address = address_bits("203.0.113.1".parse().unwrap());
    let range = Range {
        addresses: Some((address, address)),
        masquerade: Some(2),
        ..Range::KEEP.ports(1, 9)
    };
    let asked = with_visit(|visit| visit.hook = Hook::Postrouting, |visit| rules.source(visit));
    assert_eq!(asked, Binding::To(range));
    let asked = with_visit(|visit| visit.hook = Hook::Input, |visit| rules.source(visit));
    assert_eq!(asked, Binding::Keep);
    let nowhere = Packet { output: 3, ..Packet::new(&[]) };
    let mut ask = |packet: &Packet<'_>| {
        let visit = tuple("10.0.0.1", "192.0.2.1", protocol::TCP);
        let datagram = datagram(&visit);
        let visit = Visit {
            hook: Hook::Postrouting,
            packet,
            datagram: &datagram,
            tuple: Some(visit),
            mark: 0,
            class: Class::New,
            connection: None,
        };
        rules.source(&visit)
    };
    assert_eq!(ask(&nowhere), Binding::Drop);
}

#[test]
fn redirection_goes_to_this_host() {
    let mut rules = Rules::default()
        .with_address(1, "10.0.0.254".parse().unwrap())
        .with_destination(Match::all(), DestinationAction::redirect(3128))
        .with_destination(Match::all().at(Hook::Output), DestinationAction::redirect(3128));
    let mut to = |hook| match with_visit(|visit| visit.hook = hook, |v| rules.destination(v)) {
        Binding::To(range) => (range.addresses.map(|(first, _)| first), range.ports),
        other => panic!("{other:?}"),
    };
    let ports = Some((3128, 3128));
    assert_eq!(to(Hook::Prerouting), (Some(0x0a00_00fe), ports));
    assert_eq!(to(Hook::Output), (Some(0x7f00_0001), ports));
    rules.addresses.clear();
    let asked = with_visit(|v| v.hook = Hook::Prerouting, |visit| rules.destination(visit));
    assert_eq!(asked, Binding::Drop);
}

#[test]
fn namespaces_with_nat_rules_use_nat() {
    let snat = SourceAction::To(Range::to("203.0.113.1".parse().unwrap()));
    let rules = Rules::default()
        .with_nat(3)
        .with_source(Match::all().namespace(1).source("10.0.0.0/8".parse().unwrap()), snat)
        .with_destination(Match::all().namespace(2), DestinationAction::redirect(1));
    let uses = |namespace, family| rules.uses_nat(namespace, family);
    assert!(!uses(0, Family::Ipv4));
    assert!(uses(1, Family::Ipv4) && !uses(1, Family::Ipv6));
    assert!(uses(2, Family::Ipv4) && uses(2, Family::Ipv6));
    assert!(uses(3, Family::Ipv6));
}

#[test]
fn stages_without_rules_are_not_asked() {
    let rules = Rules::default().with_filter(Match::all(), FilterAction::Accept);
    assert!(rules.asks(Stage::Filter));
    assert!(!rules.asks(Stage::Raw) && !rules.asks(Stage::Source));
}
