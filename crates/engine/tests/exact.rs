//! The exact mode at its limit, as a caller sees it.

use ctkeeper_engine::{Config, Engine, Image, Mode, Packet, Reason, Settings, Time, Verdict};
use ctkeeper_flow::Statistic;

/// An IPv4 UDP datagram without payload, between two hosts of 10.0.0.0/8.
fn udp((source, source_port): (u32, u16), (destination, destination_port): (u32, u16)) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    bytes.extend((0x0a00_0000 | source).to_be_bytes());
    bytes.extend((0x0a00_0000 | destination).to_be_bytes());
    bytes.extend(source_port.to_be_bytes());
    bytes.extend(destination_port.to_be_bytes());
    bytes.extend([0, 8, 0, 0]);
    bytes
}

const SERVER: (u32, u16) = (0x00ff_0001, 53);

struct Host {
    engine: Engine,
}

impl Host {
    fn new(limit: u32, buckets: u32, seed: u64) -> Self {
        let config = Config { mode: Mode::Exact, limit, buckets, seed, ..Config::default() };
        let mut engine = Engine::new(config).unwrap();
        engine.add_namespace(Settings::default()).unwrap();
        Self { engine }
    }

    fn send(&mut self, millis: u64, bytes: &[u8]) -> (Verdict, Option<Reason>) {
        let outcome = self.engine.packet(Time::from_millis(millis), &Packet::new(bytes), &mut ());
        (outcome.verdict, outcome.reason)
    }

    /// An assured connection of a client, from second 0 on.
    fn stream(&mut self, client: (u32, u16)) {
        let (question, answer) = (udp(client, SERVER), udp(SERVER, client));
        for (millis, bytes) in [(0, &question), (1, &answer), (2100, &question)] {
            assert_eq!(self.send(millis, bytes).0, Verdict::Accept);
        }
    }

    fn statistic(&self, statistic: Statistic) -> u64 {
        self.engine.statistics(0).get(statistic).unwrap_or_default()
    }
}

const REFUSED: (Verdict, Option<Reason>) = (Verdict::Drop, Some(Reason::TableFull));

/// A connection that early drop meets expired makes room, but not for the packet that made it
/// look: that one is dropped, and its retransmission fits. One that stands in the newcomer's own
/// chain is freed by the lookup before, in time.
#[test]
fn with_expired_and_assured_connections_only_a_newcomer_is_dropped_once() {
    let mut host = Host::new(10, 8, 1);
    for port in 0..9 {
        host.stream((1, port));
    }
    host.send(2200, &udp((2, 1), SERVER));
    assert_eq!(host.engine.count(0), 10);
    let image: Image = host.engine.image();
    let (mut at_once, mut at_the_second_try) = (0, 0);
    for port in 0..200 {
        let mut host = Host { engine: Engine::restore(&image).unwrap() };
        // The single datagram has expired, the streams have not, the collector has slept.
        let newcomer = udp((3, port), SERVER);
        assert_eq!(host.engine.count(0), 10);
        match host.send(40_000, &newcomer) {
            (Verdict::Accept, _) => at_once += 1,
            refused => {
                assert_eq!(refused, REFUSED);
                assert_eq!(host.engine.count(0), 9, "the expired one is gone");
                assert_eq!(host.send(40_001, &newcomer), (Verdict::Accept, None));
                at_the_second_try += 1;
            }
        }
        assert_eq!(host.statistic(Statistic::EarlyDrop), 0);
        assert_eq!(host.engine.count(0), 10);
    }
    // It stands in two of eight chains.
    assert!(at_once > 20 && at_the_second_try > 100, "{at_once} {at_the_second_try}");
}

#[test]
fn assured_connections_are_never_evicted() {
    let mut host = Host::new(20, 4, 2);
    for port in 0..20 {
        host.stream((1, port));
    }
    for port in 0..100 {
        assert_eq!(host.send(2200, &udp((2, port), SERVER)), REFUSED);
    }
    assert_eq!(host.engine.count(0), 20);
    assert_eq!(host.statistic(Statistic::Drop), 100);
    assert_eq!(host.engine.connections(Time::from_millis(2200)).count(), 20);
}

/// All unassured connections of one chain go at once, so that the count may sink far below the
/// limit.
#[test]
fn one_eviction_empties_a_chain() {
    let mut host = Host::new(20, 1, 3);
    for port in 0..20 {
        host.send(0, &udp((1, port), SERVER));
    }
    assert_eq!(host.send(1, &udp((2, 1), SERVER)).0, Verdict::Accept);
    assert_eq!(host.engine.count(0), 1);
    assert_eq!(host.statistic(Statistic::EarlyDrop), 20);
}

/// Another namespace's connections are neither counted nor evicted.
#[test]
fn every_namespace_may_hold_as_many() {
    let mut host = Host::new(10, 2, 4);
    host.engine.add_namespace(Settings::default()).unwrap();
    let send = |host: &mut Host, namespace: u16, port: u16| {
        let bytes = udp((1, port), SERVER);
        let packet = Packet { namespace, ..Packet::new(&bytes) };
        host.engine.packet(Time::from_seconds(1), &packet, &mut ()).verdict
    };
    for port in 0..10 {
        assert_eq!(send(&mut host, 0, port), Verdict::Accept);
        assert_eq!(send(&mut host, 1, port), Verdict::Accept);
    }
    assert_eq!((host.engine.count(0), host.engine.count(1)), (10, 10));
    assert_eq!(send(&mut host, 1, 77), Verdict::Accept);
    assert_eq!(host.engine.count(0), 10);
    assert!(host.engine.count(1) < 10);
}

/// Expired connections count until the collector comes to them: its walks are 61.44 s apart, and
/// listings do not show what still counts.
#[test]
fn the_count_lags_behind_the_listing() {
    let mut host = Host::new(1000, 1024, 5);
    for port in 0..500 {
        host.send(5000, &udp((1, port), SERVER));
    }
    let (mut shown, mut counted) = (Vec::new(), Vec::new());
    for second in 6..140 {
        let now = Time::from_seconds(second);
        assert!(host.engine.collect(now, usize::MAX));
        shown.push(host.engine.connections(now).count());
        counted.push(host.engine.count(0));
    }
    let expired = shown.iter().position(|shown| *shown == 0).unwrap() + 6;
    let collected = counted.iter().position(|count| *count == 0).unwrap() + 6;
    assert_eq!(expired, 35);
    assert!((36..=97).contains(&collected), "{collected}");
    let first = counted.iter().position(|count| *count < 500).unwrap();
    assert_eq!(counted[first..].iter().filter(|count| **count > 0).count(), 0, "within a second");
}

/// A listing frees what has expired, so that the count is right behind it.
#[test]
fn whoever_lists_ends_what_has_expired() {
    let mut host = Host::new(1000, 1024, 6);
    for port in 0..100 {
        host.send(if port < 60 { 0 } else { 20_000 }, &udp((1, port), SERVER));
    }
    assert_eq!(host.engine.end_expired(Time::from_seconds(29)), 0);
    assert_eq!(host.engine.count(0), 100);
    assert_eq!(host.engine.end_expired(Time::from_seconds(30)), 60);
    assert_eq!(host.engine.count(0), 40);
}
