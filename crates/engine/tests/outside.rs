//! Connections looked at, changed and ended from outside; memory; shards.

use ctkeeper_engine::{Changes, Class, Config, Engine, Mode, Packet, Settings, Time, Tuple};
use ctkeeper_flow::{Direction, Family, Zone};

fn udp(source: (u32, u16), destination: (u32, u16)) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    bytes.extend(source.0.to_be_bytes());
    bytes.extend(destination.0.to_be_bytes());
    bytes.extend(source.1.to_be_bytes());
    bytes.extend(destination.1.to_be_bytes());
    bytes.extend([0, 8, 0, 0]);
    bytes
}

const SERVER: (u32, u16) = (0x0a00_0002, 53);

fn tuple(port: u16) -> Tuple {
    Tuple {
        source: 0x0a00_0001,
        destination: SERVER.0.into(),
        source_id: port,
        destination_id: SERVER.1,
        protocol: 17,
        family: Family::Ipv4,
    }
}

fn engine(mode: Mode, ports: u16) -> Engine {
    let config = Config { mode, events: true, limit: 100_000, ..Config::default() };
    let mut engine = Engine::new(config).unwrap();
    let settings = Settings { timestamps: true, ..Settings::default() };
    engine.add_namespace(settings).unwrap();
    for port in 0..ports {
        let bytes = udp((0x0a00_0001, port), SERVER);
        engine.packet(Time::from_seconds(5), &Packet::new(&bytes), &mut ());
    }
    engine.events();
    engine
}

#[test]
fn found_marked_and_ended_by_handle() {
    for mode in [Mode::Fast, Mode::Exact] {
        let mut engine = engine(mode, 10);
        let now = Time::from_seconds(6);
        let answer = tuple(7).inverted().unwrap();
        let (handle, direction) = engine.find(now, 0, Zone::DEFAULT, &answer).unwrap();
        assert_eq!(direction, Direction::Reply);
        assert!(engine.find(now, 0, Zone::both(1), &answer).is_none());
        assert!(engine.set_mark(now, handle, 77));
        assert!(engine.end(now, handle));
        assert!(!engine.end(now, handle), "it has ended");
        assert!(!engine.set_mark(now, handle, 1));
        let events = engine.events();
        let changes: Vec<_> = events.iter().map(|event| event.changes).collect();
        assert_eq!(changes, [Changes::MARK, Changes::DESTROY]);
        assert_eq!(events[1].flow.mark.unwrap().0, 77);
        let timestamps = events[1].flow.timestamps.unwrap();
        assert_eq!((timestamps.start, timestamps.stop), (5_000_000_000, 5_000_000_000));
        assert_eq!((engine.count(0), engine.flush(now, 0), engine.count(0)), (9, 9, 0));
    }
}

#[test]
fn an_expired_connection_was_over_when_it_expired() {
    let mut engine = engine(Mode::Fast, 1);
    let mut millis = 6_000;
    while engine.count(0) > 0 {
        millis += 500;
        engine.collect(Time::from_millis(millis), 1 << 20);
    }
    let events = engine.events();
    let stop = events.last().unwrap().flow.timestamps.unwrap().stop;
    assert_eq!(stop, 35_000_000_000, "30 s after its one packet, collected at {millis} ms");
}

#[test]
fn memory_is_known_before() {
    for mode in [Mode::Fast, Mode::Exact] {
        let engine = engine(mode, 60_000);
        let most = Engine::bytes_at(engine.config());
        assert!(engine.bytes() < most, "{mode:?}: {} of {most}", engine.bytes());
        assert!(engine.bytes() > 60_000 * 64, "{mode:?}: {}", engine.bytes());
    }
}

#[test]
fn both_directions_are_of_one_shard_and_shards_are_even() {
    let mut sizes = [0; 4];
    for port in 0..8000 {
        let there = udp((0x0a00_0001, port), SERVER);
        let back = udp(SERVER, (0x0a00_0001, port));
        let shard = Packet::new(&there).shard(9, 4);
        assert_eq!(shard, Packet::new(&back).shard(9, 4));
        sizes[shard as usize] += 1;
    }
    assert!(sizes.iter().all(|size| (1800..2200).contains(size)), "{sizes:?}");
}

#[test]
fn a_leap_of_the_clock_makes_nothing_young_again() {
    const DAY: u64 = 86_400;
    for mode in [Mode::Fast, Mode::Exact] {
        for days in [1, 60, 120, 150, 199, 400, 4000] {
            let mut engine = engine(mode, 3);
            let now = Time::from_seconds(days * DAY);
            let bytes = udp((0x0a00_0001, 2), SERVER);
            let outcome = engine.packet(now, &Packet::new(&bytes), &mut ());
            assert_eq!(outcome.class, Class::New, "{mode:?} after {days} days");
            assert_eq!(engine.connections(now).count(), 1, "{mode:?} after {days} days");
        }
    }
}
