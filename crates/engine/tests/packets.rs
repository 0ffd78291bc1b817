//! Packets through the engine, as a caller sees it.

use ctkeeper_engine::{Class, Config, Engine, Mode, Packet, Settings, Time};
use ctkeeper_flow::{Direction, Status};

/// An IPv4 UDP datagram with eight bytes of payload and without a checksum.
fn udp(source: (u32, u16), destination: (u32, u16)) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
    bytes.extend(source.0.to_be_bytes());
    bytes.extend(destination.0.to_be_bytes());
    bytes.extend(source.1.to_be_bytes());
    bytes.extend(destination.1.to_be_bytes());
    bytes.extend([0, 16, 0, 0]);
    bytes.extend([0; 8]);
    let sum: u32 = bytes[..20].chunks(2).map(|b| u32::from(b[0]) << 8 | u32::from(b[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn engine(mode: Mode) -> Engine {
    let config = Config { mode, limit: 1000, buckets: 1024, ..Config::default() };
    let mut engine = Engine::new(config).unwrap();
    engine.add_namespace(Settings::default()).unwrap();
    engine
}

const CLIENT: (u32, u16) = (0x0a00_0001, 4000);
const SERVER: (u32, u16) = (0x0a00_0002, 53);

#[test]
fn a_udp_stream_becomes_assured_after_two_seconds() {
    for mode in [Mode::Fast, Mode::Exact] {
        let mut engine = engine(mode);
        let question = udp(CLIENT, SERVER);
        let answer = udp(SERVER, CLIENT);
        let mut send = |millis, bytes: &[u8]| {
            let outcome = engine.packet(Time::from_millis(millis), &Packet::new(bytes), &mut ());
            (outcome.class, outcome.direction, outcome.connection)
        };
        let (class, _, first) = send(1000, &question);
        assert_eq!(class, Class::New);
        let (class, direction, handle) = send(1010, &answer);
        assert_eq!((class, direction, handle), (Class::Established, Direction::Reply, first));
        send(4000, &question);
        let flow = engine.connection(Time::from_millis(4000), first.unwrap()).unwrap();
        assert_eq!(flow.status, Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED);
        assert_eq!(flow.timeout, Some(120));
        assert_eq!(engine.connections(Time::from_seconds(4)).count(), 1);
        assert_eq!(engine.connections(Time::from_seconds(200)).count(), 0);
    }
}

#[test]
fn beyond_the_limit_the_unassured_make_room() {
    for mode in [Mode::Fast, Mode::Exact] {
        let mut engine = engine(mode);
        let mut dropped = 0;
        for port in 0..3000 {
            let bytes = udp((CLIENT.0, port), SERVER);
            let outcome = engine.packet(Time::from_seconds(1), &Packet::new(&bytes), &mut ());
            dropped += u32::from(!outcome.is_accepted());
        }
        assert!(engine.count(0) <= 1000, "{}", engine.count(0));
        let evicted = engine.statistics(0).value(ctkeeper_flow::Statistic::EarlyDrop);
        assert!(evicted >= 1990, "{mode:?}: {evicted} evicted, {dropped} dropped");
    }
}

#[test]
fn expired_connections_are_collected() {
    for mode in [Mode::Fast, Mode::Exact] {
        let mut engine = engine(mode);
        for port in 0..900 {
            let bytes = udp((CLIENT.0, port), SERVER);
            engine.packet(Time::from_seconds(1), &Packet::new(&bytes), &mut ());
        }
        assert_eq!(engine.count(0), 900);
        for second in 2..200 {
            while !engine.collect(Time::from_seconds(second), 1 << 20) {}
        }
        assert_eq!(engine.count(0), 0, "{mode:?}");
    }
}
