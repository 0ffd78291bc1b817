//! Translation, packet by packet.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ctkeeper_engine::nat::Range;
use ctkeeper_engine::rules::{DestinationAction, Match, Rules};
use ctkeeper_engine::{Class, Config, Packet, Reason, Route, Verdict};
use ctkeeper_flow::{Direction, Statistic, Status};

use crate::router::*;

#[test]
fn masqueraded_connections_look_like_the_router_outside() {
    let mut router = Router::masquerading();
    let (client, server) = ((CLIENT, 40_000), (SERVER, 53));
    let (outcome, sent) = router.out(&udp(client, server));
    assert_eq!((outcome.verdict, outcome.class), (Verdict::Accept, Class::New));
    assert_eq!(ends(&sent), ((PUBLIC, 40_000), server));
    let (outcome, sent) = router.back(&udp(server, (PUBLIC, 40_000)));
    assert_eq!(outcome.class, Class::Established);
    assert_eq!(ends(&sent), (server, client));
    let flow = router.flow(&outcome);
    let nat = Status::SRC_NAT.0 | Status::SRC_NAT_DONE.0 | Status::DST_NAT_DONE.0;
    assert_eq!(flow.status.0 & 0x1b0, nat);
    assert_eq!(flow.reply.destination, Ipv4Addr::from(PUBLIC));
    let (from, to) = router
        .engine
        .translation(outcome.connection.unwrap(), Direction::Original)
        .map(|(from, to)| (from.source_address(), to.source_address()))
        .unwrap();
    assert_eq!((from, to), (Ipv4Addr::from(CLIENT).into(), Ipv4Addr::from(PUBLIC).into()));
}

#[test]
fn two_clients_of_one_port_get_two() {
    let mut router = Router::masquerading();
    let server = (SERVER, 443);
    let mut seen = HashSet::new();
    for last in 1..=50 {
        let client = ([10, 0, 0, last], 40_000);
        let (outcome, sent) = router.out(&tcp(client, server, Segment::Syn, 1, 0));
        assert!(outcome.is_accepted());
        let (source, _) = ends(&sent);
        assert!(seen.insert(source), "{source:?} twice");
        let (outcome, sent) = router.back(&tcp(server, source, Segment::SynAck, 1, 2));
        assert_eq!((outcome.class, ends(&sent).1), (Class::Established, client));
    }
}

#[test]
fn a_client_keeps_its_mapping_for_another_server() {
    let mut router = Router::masquerading();
    // The port is taken by somebody else at the first server, not at the second.
    router.out(&udp(([10, 0, 0, 2], 40_000), (SERVER, 53)));
    let (_, sent) = router.out(&udp((CLIENT, 40_000), (SERVER, 53)));
    let (mapped, _) = ends(&sent);
    assert_ne!(mapped.1, 40_000);
    let (_, sent) = router.out(&udp((CLIENT, 40_000), (OTHER, 53)));
    assert_eq!(ends(&sent).0, mapped);
}

#[test]
fn redirected_packets_answer_from_where_they_were_sent() {
    let rules =
        Rules::default().with_address(1, Ipv4Addr::new(10, 0, 0, 254).into()).with_destination(
            Match::all().protocol(6).destination_ports(80, 80),
            DestinationAction::redirect(3128),
        );
    let mut router = Router::new(rules);
    let (client, server, proxy) = ((CLIENT, 40_000), (SERVER, 80), ([10, 0, 0, 254], 3128));
    let syn = tcp(client, server, Segment::Syn, 1, 0);
    let (outcome, sent) = router.send_by(Route::Input, &syn, 1, 0);
    assert_eq!(ends(&sent), (client, proxy));
    assert!(router.flow(&outcome).status.contains(Status::DST_NAT));
    let answer = tcp(proxy, client, Segment::SynAck, 1, 2);
    let (outcome, sent) = router.send_by(Route::Output, &answer, 0, 1);
    assert_eq!(outcome.class, Class::Established);
    assert_eq!(ends(&sent), (server, client));
}

#[test]
fn both_ends_can_be_translated() {
    let inside = Range::to(Ipv4Addr::from(OTHER).into()).ports(8080, 8080);
    let rules = masquerade().with_destination(
        Match::all().destination(format!("{}", Ipv4Addr::from(SERVER)).parse().unwrap()),
        DestinationAction::To(inside),
    );
    let mut router = Router::new(rules);
    let (client, server) = ((CLIENT, 40_000), (SERVER, 80));
    let (_, sent) = router.out(&udp(client, server));
    assert_eq!(ends(&sent), ((PUBLIC, 40_000), (OTHER, 8080)));
    let (_, sent) = router.back(&udp((OTHER, 8080), (PUBLIC, 40_000)));
    assert_eq!(ends(&sent), (server, client));
}

#[test]
fn pings_of_one_id_get_two() {
    let mut router = Router::masquerading();
    let mut seen = HashSet::new();
    for last in 1..=20 {
        let client = [10, 0, 0, last];
        let (_, sent) = router.out(&echo(client, SERVER, 7, false));
        let (source, _) = ends(&sent);
        assert!(source.0 == PUBLIC && seen.insert(source.1), "{source:?}");
        let (outcome, sent) = router.back(&echo(SERVER, PUBLIC, source.1, true));
        assert_eq!(outcome.class, Class::Established);
        assert_eq!(ends(&sent), ((SERVER, 7), (client, 7)));
    }
}

#[test]
fn icmp_errors_are_translated_within_and_without() {
    let mut router = Router::masquerading();
    let (client, server) = ((CLIENT, 40_000), (SERVER, 53));
    let first = udp(client, server);
    let (_, sent) = router.out(&first);
    let (outcome, error) = router.back(&unreachable(SERVER, PUBLIC, &sent));
    assert_eq!((outcome.class, outcome.verdict), (Class::Related, Verdict::Accept));
    let (source, destination) = ends(&error);
    assert_eq!((source.0, destination.0), (SERVER, CLIENT));
    assert_eq!(ends(&error[28..]), (client, server));
    assert_eq!(&error[28..], &first[..]);
    // One whose checksum is wrong is not translated, but dropped.
    let mut wrong = unreachable(SERVER, PUBLIC, &sent);
    wrong[22] ^= 1;
    let (outcome, _) = router.back(&wrong);
    assert_eq!(outcome.class, Class::Invalid);
    router.engine.settings_mut(0).unwrap().checksum = false;
    let (outcome, _) = router.back(&wrong);
    assert_eq!((outcome.class, outcome.reason), (Class::Related, Some(Reason::Untranslatable)));
}

#[test]
fn the_last_packet_of_a_connection_is_translated_too() {
    let mut router = Router::masquerading();
    let (client, server) = ((CLIENT, 40_000), (SERVER, 443));
    router.out(&tcp(client, server, Segment::Syn, 1, 0));
    let (outcome, sent) = router.back(&tcp(server, (PUBLIC, 40_000), Segment::Rst, 0, 2));
    assert!(outcome.is_accepted());
    assert_eq!(ends(&sent), (server, client));
    assert!(router.flows().is_empty());
    assert_eq!(router.engine.count(0), 0);
    assert_eq!(router.engine.connection(router.now, outcome.connection.unwrap()), None);
}

#[test]
fn a_namespace_with_nat_chains_moves_a_colliding_port() {
    for uses_nat in [false, true] {
        let mut router = Router::masquerading();
        let server = (SERVER, 443);
        router.out(&tcp((CLIENT, 40_000), server, Segment::Syn, 1, 0));
        // Now the router itself, from the port that the client was mapped to.
        router.rules = if uses_nat { Rules::default().with_nat(0) } else { Rules::default() };
        let own = tcp((PUBLIC, 40_000), server, Segment::Syn, 1, 0);
        let (outcome, sent) = router.send_by(Route::Output, &own, 0, 2);
        if uses_nat {
            let (source, destination) = ends(&sent);
            assert_eq!((source.0, destination), (PUBLIC, server));
            assert_ne!(source.1, 40_000);
            assert!(router.flow(&outcome).status.contains(Status::SRC_NAT));
            assert!(router.statistic(Statistic::Found) > 0);
        } else {
            assert_eq!(outcome.reason, Some(Reason::Clash));
            assert_eq!(router.statistic(Statistic::InsertFailed), 1);
            assert_eq!(router.statistic(Statistic::Drop), 1);
            assert_eq!(router.engine.count(0), 1);
        }
    }
}

#[test]
fn a_masqueraded_connection_ends_when_its_way_changes() {
    let mut router = Router::masquerading();
    let packet = udp((CLIENT, 40_000), (SERVER, 53));
    router.out(&packet);
    let (outcome, _) = router.send(&packet, 1, 3);
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Drop, Some(Reason::Dying)));
    assert!(router.flows().is_empty());
    assert_eq!(router.engine.count(0), 0);
}

#[test]
fn an_address_that_goes_takes_its_masqueraded_connections_along() {
    let mut router = Router::masquerading();
    for port in 0..100 {
        router.out(&udp((CLIENT, 40_000 + port), (SERVER, 53)));
    }
    router.rules = Rules::default();
    router.out(&udp((CLIENT, 1), (SERVER, 53)));
    let public = Ipv4Addr::from(PUBLIC).into();
    assert_eq!(router.engine.address_gone(router.now, 0, 3, Some(public)), 0);
    assert_eq!(router.engine.address_gone(router.now, 0, 2, Some(Ipv4Addr::from(OTHER).into())), 0);
    assert_eq!(router.engine.address_gone(router.now, 0, 2, Some(public)), 100);
    assert_eq!(router.flows().len(), 1);
    assert_eq!(router.engine.count(0), 1);
}

#[test]
fn a_masquerade_without_address_drops() {
    let mut router = Router::masquerading();
    router.rules.addresses.clear();
    let (outcome, _) = router.out(&udp((CLIENT, 40_000), (SERVER, 53)));
    assert_eq!(outcome.reason, Some(Reason::Rule));
    assert_eq!(router.engine.count(0), 0);
}

#[test]
fn every_packet_of_a_batch_can_be_translated_behind_it() {
    let mut router = Router::masquerading();
    let server = (SERVER, 443);
    let ports = 40_000..40_100;
    for port in ports.clone() {
        router.out(&tcp((CLIENT, port), server, Segment::Syn, 1, 0));
    }
    // Each of these ends its connection.
    let refusals: Vec<Vec<u8>> =
        ports.clone().map(|port| tcp(server, (PUBLIC, port), Segment::Rst, 0, 2)).collect();
    let packets: Vec<Packet<'_>> =
        refusals.iter().map(|bytes| Packet { input: 2, output: 1, ..Packet::new(bytes) }).collect();
    let mut outcomes = Vec::new();
    router.engine.batch(router.now, &packets, &mut router.rules, &mut outcomes);
    assert!(router.flows().is_empty());
    for ((outcome, bytes), port) in outcomes.iter().zip(&refusals).zip(ports) {
        let mut bytes = bytes.clone();
        assert_eq!(router.engine.translate(outcome, &mut bytes), Ok(true));
        assert_eq!(ends(&bytes), (server, (CLIENT, port)));
    }
}

#[test]
fn a_port_that_somebody_has_called_is_taken_too() {
    let mut router = Router::masquerading();
    let server = (SERVER, 53);
    router.send_by(Route::Input, &udp(server, (PUBLIC, 40_000)), 2, 0);
    let (outcome, sent) = router.out(&udp((CLIENT, 40_000), server));
    assert!(outcome.is_accepted());
    assert_ne!(ends(&sent).0, (PUBLIC, 40_000));
}

#[test]
fn a_mapping_is_that_of_one_port() {
    for seed in 0..16 {
        // So few that clients share chains.
        let config = Config { capacity: 3, seed, ..Config::default() };
        let mut router = Router::with(config, masquerade());
        router.out(&udp(([10, 0, 0, 2], 40_000), (SERVER, 53)));
        let (_, sent) = router.out(&udp((CLIENT, 40_000), (SERVER, 53)));
        assert_ne!(ends(&sent).0, (PUBLIC, 40_000));
        let (_, sent) = router.out(&udp((CLIENT, 50_000), (OTHER, 53)));
        assert_eq!(ends(&sent).0, (PUBLIC, 50_000));
    }
}
