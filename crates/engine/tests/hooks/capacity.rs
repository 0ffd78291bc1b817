//! How many connections one address can take.

use std::net::Ipv4Addr;

use ctkeeper_engine::nat::Range;
use ctkeeper_engine::rules::{Match, Rules, SourceAction};
use ctkeeper_engine::{Config, Profile, Reason};
use ctkeeper_flow::Statistic;

use crate::router::*;

/// One public address, one server: how many connections fit.
fn fits(clients: impl Iterator<Item = ([u8; 4], u16)>) -> (usize, usize) {
    let config = Config { limit: 200_000, ..Config::default() };
    let mut router = Router::with(config, masquerade());
    let (mut accepted, mut refused) = (0, 0);
    for client in clients {
        let (outcome, _) = router.out(&udp(client, (SERVER, 53)));
        match outcome.reason {
            None => accepted += 1,
            Some(Reason::Clash) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(router.flows().len(), accepted);
    assert_eq!(router.statistic(Statistic::InsertFailed), refused as u64);
    (accepted, refused)
}

#[test]
fn all_65536_ports_of_an_address_can_be_used() {
    let first = (0..=u16::MAX).map(|port| (CLIENT, port));
    let second = (0..100).map(|port| ([10, 0, 0, 2], 2000 + port));
    assert_eq!(fits(first.chain(second)), (65_536, 100));
}

#[test]
fn clients_of_high_ports_share_64512() {
    let first = (1024..=u16::MAX).map(|port| (CLIENT, port));
    let second = (0..100).map(|port| ([10, 0, 0, 2], 2000 + port));
    assert_eq!(fits(first.chain(second)), (64_512, 100));
}

#[test]
fn a_newer_syn_takes_the_port_of_a_connection_in_time_wait_since_6_12() {
    for (profile, is_taken_over) in
        [(Profile::Linux6_1, false), (Profile::Linux6_12, true), (Profile::Linux6_18, true)]
    {
        let rules = Rules::default().with_source(
            Match::all(),
            SourceAction::To(Range::to(Ipv4Addr::from(PUBLIC).into()).ports(5000, 5009)),
        );
        let mut router = Router::with(Config { profile, ..Config::default() }, rules);
        let server = (SERVER, 443);
        for last in 1..=10 {
            let client = ([10, 0, 0, last], 40_000);
            let (_, sent) = router.out(&tcp(client, server, Segment::Syn, 1000, 0));
            let (source, _) = ends(&sent);
            router.back(&tcp(server, source, Segment::SynAck, 1, 1001));
            router.out(&tcp(client, server, Segment::Ack, 1001, 2));
            router.out(&tcp(client, server, Segment::Fin, 1001, 2));
            router.back(&tcp(server, source, Segment::Fin, 2, 1002));
            router.out(&tcp(client, server, Segment::Ack, 1002, 3));
        }
        assert_eq!(router.flows().len(), 10);
        for (sequence, is_newer) in [(500, false), (9000, true)] {
            let client = ([10, 0, 1, 1], 40_000);
            let (outcome, _) = router.out(&tcp(client, server, Segment::Syn, sequence, 0));
            assert_eq!(outcome.is_accepted(), is_taken_over && is_newer, "{profile:?}");
            assert_eq!(router.flows().len(), 10);
        }
    }
}

/// As Linux 6.18.44 counted for the same: `found` tells every probe of a search that was in vain.
#[test]
fn a_search_in_vain_takes_248_probes_or_as_many_as_there_are_ports() {
    for (ports, probes) in [(1000, 248), (10, 10)] {
        let range = Range::to(Ipv4Addr::from(PUBLIC).into()).ports(1000, 999 + ports);
        let rules = Rules::default().with_source(Match::all(), SourceAction::To(range));
        let mut router = Router::new(rules);
        let mut client = 3000;
        while router.flows().len() < usize::from(ports) {
            router.out(&udp((CLIENT, client), (SERVER, 53)));
            client += 1;
        }
        let kinds = [Statistic::Found, Statistic::InsertFailed, Statistic::Drop];
        let before = kinds.map(|kind| router.statistic(kind));
        let (outcome, _) = router.out(&udp((CLIENT, client), (SERVER, 53)));
        assert_eq!(outcome.reason, Some(Reason::Clash));
        let after = kinds.map(|kind| router.statistic(kind));
        let counted: Vec<u64> =
            after.iter().zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(counted, [probes, 1, 1]);
    }
}
