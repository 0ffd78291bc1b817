//! What rules do to packets and connections.

use std::net::Ipv4Addr;

use ctkeeper_engine::nat::Range;
use ctkeeper_engine::rules::{
    DestinationAction, FilterAction, Match, RawAction, Rules, SourceAction,
};
use ctkeeper_engine::{Changes, Class, Reason, Verdict};
use ctkeeper_flow::{Labels, Mark, Zone};

use crate::router::*;

#[test]
fn dropped_packets_leave_no_connection() {
    let rules = masquerade()
        .with_filter(Match::all().input(1).protocol(17), FilterAction::Drop)
        .with_filter(Match::all().states([Class::Invalid]), FilterAction::Drop);
    let mut router = Router::new(rules);
    let (outcome, sent) = router.out(&udp((CLIENT, 40_000), (SERVER, 53)));
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Drop, Some(Reason::Rule)));
    assert_eq!((outcome.class, outcome.connection), (Class::New, None));
    assert_eq!(ends(&sent).0, (CLIENT, 40_000));
    assert!(router.flows().is_empty());
    assert_eq!(router.engine.count(0), 0);
    assert!(router.engine.events().is_empty());
    let (outcome, _) = router.back(&tcp((SERVER, 1), (CLIENT, 1), Segment::SynAck, 1, 1));
    assert_eq!((outcome.verdict, outcome.class), (Verdict::Drop, Class::Invalid));
    // What a rule drops of a known connection leaves the connection.
    let (first, _) = router.out(&tcp((CLIENT, 40_000), (SERVER, 53), Segment::Syn, 1, 0));
    assert!(first.is_accepted());
    router.rules = router.rules.clone().with_filter(Match::all(), FilterAction::Drop);
    let answer = tcp((SERVER, 53), (PUBLIC, 40_000), Segment::SynAck, 1, 2);
    let (outcome, _) = router.back(&answer);
    assert_eq!((outcome.verdict, outcome.class), (Verdict::Drop, Class::Established));
    assert_eq!(outcome.connection, first.connection);
    assert!(router.flow(&first).is_replied());
}

#[test]
fn untracked_packets_make_no_connection() {
    let rules = masquerade()
        .with_raw(Match::all().protocol(17), RawAction::Untracked)
        .with_filter(Match::all().states([Class::Untracked]).input(2), FilterAction::Drop);
    let mut router = Router::new(rules);
    let (outcome, sent) = router.out(&udp((CLIENT, 40_000), (SERVER, 53)));
    assert_eq!((outcome.verdict, outcome.class), (Verdict::Accept, Class::Untracked));
    assert_eq!(ends(&sent).0, (CLIENT, 40_000));
    let (outcome, _) = router.back(&udp((SERVER, 53), (CLIENT, 40_000)));
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Drop, Some(Reason::Rule)));
    assert!(router.flows().is_empty());
}

#[test]
fn zones_keep_equal_tuples_apart() {
    let rules = Rules::default()
        .with_raw(Match::all().input(3), RawAction::Zone(Zone::both(3)))
        .with_raw(Match::all().input(4), RawAction::Drop);
    let mut router = Router::new(rules);
    let packet = udp((CLIENT, 40_000), (SERVER, 53));
    let outcomes = [1, 3].map(|input| router.send(&packet, input, 2).0);
    assert_ne!(outcomes[0].connection, outcomes[1].connection);
    let mut zones: Vec<u16> = router.flows().iter().map(|flow| flow.zone.id).collect();
    zones.sort_unstable();
    assert_eq!(zones, [0, 3]);
    let (outcome, _) = router.send(&packet, 4, 2);
    assert_eq!((outcome.verdict, outcome.class), (Verdict::Drop, Class::Untracked));
}

#[test]
fn marks_and_labels_reach_the_connection() {
    let rules = Rules::default()
        .with_tracked(
            Match::all().states([Class::New]).destination_ports(53, 53),
            FilterAction::ConnectionMark(7),
        )
        .with_tracked(Match::all(), FilterAction::RestoreMark)
        .with_filter(Match::all().mark(7), FilterAction::Label(5));
    let mut router = Router::new(rules);
    let (first, _) = router.out(&udp((CLIENT, 40_000), (SERVER, 53)));
    let (other, _) = router.out(&udp((CLIENT, 40_000), (SERVER, 54)));
    let flow = router.flow(&first);
    assert_eq!((flow.mark, flow.labels), (Some(Mark(7)), Some(Labels::from_bits([5]))));
    let flow = router.flow(&other);
    assert_eq!((flow.mark, flow.labels), (Some(Mark(0)), None));
}

#[test]
fn rules_see_translated_addresses_behind_the_translation() {
    let inside = Range::to(Ipv4Addr::from(OTHER).into());
    let rules = Rules::default()
        .with_destination(Match::all(), DestinationAction::To(inside))
        .with_tracked(Match::all().destination("192.0.2.9".parse().unwrap()), FilterAction::Drop)
        .with_filter(Match::all().destination("192.0.2.1".parse().unwrap()), FilterAction::Drop)
        .with_source(
            Match::all().destination("192.0.2.9".parse().unwrap()),
            SourceAction::To(Range::to(Ipv4Addr::from(PUBLIC).into())),
        );
    let mut router = Router::new(rules);
    let (outcome, sent) = router.out(&udp((CLIENT, 40_000), (SERVER, 53)));
    assert!(outcome.is_accepted());
    assert_eq!(ends(&sent), ((PUBLIC, 40_000), (OTHER, 53)));
}

#[test]
fn what_changed_with_a_dropped_packet_is_told_with_the_next() {
    let mut router = Router::new(Rules::default());
    let (client, server) = ((CLIENT, 40_000), (SERVER, 53));
    router.out(&udp(client, server));
    let told = |router: &mut Router<Rules>| -> Vec<Changes> {
        router.engine.events().iter().map(|event| event.changes).collect()
    };
    assert_eq!(told(&mut router), [Changes::NEW]);
    router.rules = Rules::default().with_filter(Match::all(), FilterAction::Drop);
    router.back(&udp(server, client));
    assert_eq!(told(&mut router), []);
    router.rules = Rules::default();
    router.out(&udp(client, server));
    assert_eq!(told(&mut router), [Changes::REPLY]);
    router.back(&udp(server, client));
    assert_eq!(told(&mut router), []);
}

#[test]
fn connections_tell_when_they_began_and_ended() {
    let mut router = Router::new(Rules::default());
    router.engine.settings_mut(0).unwrap().timestamps = true;
    let began = router.now;
    let (client, server) = ((CLIENT, 40_000), (SERVER, 53));
    let (outcome, _) = router.out(&tcp(client, server, Segment::Syn, 1, 0));
    router.wait(3);
    let timestamps = router.flow(&outcome).timestamps.unwrap();
    assert_eq!((timestamps.start, timestamps.stop), (began.0, 0));
    router.engine.events();
    router.back(&tcp(server, client, Segment::Rst, 0, 2));
    let events = router.engine.events();
    let last = events.last().unwrap();
    assert!(last.changes.contains(Changes::DESTROY));
    let timestamps = last.flow.timestamps.unwrap();
    assert_eq!((timestamps.start, timestamps.stop), (began.0, router.now.0));
}
