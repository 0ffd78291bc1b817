use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::packet::Packet;
use crate::settings::Mode;
use crate::time::Time;
use crate::tuple::protocol;

/// One packet or a pause.
#[derive(Clone, Debug)]
enum Step {
    Packet { namespace: u16, protocol: u8, pair: (u8, u8), ports: (u8, u8), flags: u8 },
    Pause { millis: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let protocols = prop::sample::select(vec![protocol::TCP, protocol::UDP, protocol::ICMP, 50]);
    let flags = prop::sample::select(vec![0x02, 0x12, 0x10, 0x11, 0x04, 0x18]);
    let packet = (0u16..2, protocols, (0u8..6, 0u8..6), (0u8..4, 0u8..3), flags).prop_map(
        |(namespace, protocol, pair, ports, flags)| Step::Packet {
            namespace,
            protocol,
            pair,
            ports,
            flags,
        },
    );
    let pause = prop_oneof![0u64..500, 0u64..90_000].prop_map(|millis| Step::Pause { millis });
    prop::collection::vec(prop_oneof![6 => packet, 1 => pause], 0..150)
}

/// An IPv4 packet, its checksums left to be taken on trust.
fn bytes(protocol: u8, (source, destination): (u8, u8), ports: (u8, u8), flags: u8) -> Vec<u8> {
    let mut layer4 = match protocol {
        protocol::ICMP => vec![8, 0, 0, 0, 0, ports.0, 0, ports.1],
        _ => vec![0x10, ports.0, 0x10, ports.1],
    };
    match protocol {
        protocol::TCP => {
            layer4.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        protocol::UDP => layer4.extend([0, 8, 0, 0]),
        _ => {}
    }
    let length = 20 + layer4.len() as u8;
    let mut bytes = vec![0x45, 0, 0, length, 0, 0, 0, 0, 64, protocol, 0, 0];
    bytes.extend([10, 0, 0, source, 10, 0, 0, destination]);
    bytes.extend(layer4);
    bytes
}

fn engine(mode: Mode, seed: u64) -> Engine {
    // Small enough for early drop, refusals, shared chains and the collector's walks.
    let config = Config { mode, seed, limit: 25, buckets: 16, ..Config::default() };
    let mut engine = Engine::new(config).unwrap();
    engine.add_namespace(Settings { accounting: true, ..Settings::default() }).unwrap();
    engine.add_namespace(Settings { timestamps: true, ..Settings::default() }).unwrap();
    engine
}

/// Runs steps from a moment on; what came out of each packet, and the moment after.
fn run(engine: &mut Engine, steps: &[Step], mut now: u64) -> (Vec<String>, u64) {
    let mut outcomes = Vec::new();
    for step in steps {
        match *step {
            Step::Pause { millis } => now += millis * 1_000_000,
            Step::Packet { namespace, protocol, pair, ports, flags } => {
                now += 1_000_000;
                let bytes = bytes(protocol, pair, ports, flags);
                let mut packet = Packet::new(&bytes);
                packet.namespace = namespace;
                packet.checksum_verified = true;
                let outcome = engine.packet(Time(now), &packet, &mut ());
                let id = outcome.connection.map(|handle| handle.id);
                let (verdict, class) = (outcome.verdict, outcome.class);
                let (direction, reason) = (outcome.direction, outcome.reason);
                outcomes.push(format!("{verdict:?} {class:?} {direction:?} {reason:?} {id:?}"));
            }
        }
    }
    (outcomes, now)
}

/// An image with its connections named by their ids, wherever they stand in memory.
fn essence(image: &Image) -> (BTreeMap<u32, Value>, Vec<(u32, u32)>, Image) {
    let id = |number: u32| image.contents.connections[number as usize].id;
    let chains = image.contents.nodes().iter().map(|node| (id(node >> 1), node & 1)).collect();
    let connections = image.contents.connections.iter();
    let by_id = connections.map(|one| (one.id, serde_json::to_value(one).unwrap())).collect();
    (by_id, chains, Image { contents: Contents::default(), ..image.clone() })
}

fn through_text(image: &Image) -> Image {
    serde_json::from_str(&serde_json::to_string(image).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_exact_engine_goes_on_as_the_one_its_image_was_taken_of(
        before in steps(), after in steps(), seed: u64,
    ) {
        let mut one = engine(Mode::Exact, seed);
        let (_, now) = run(&mut one, &before, 0);
        let image = one.image();
        prop_assert_eq!(&through_text(&image), &image);
        let mut other = Engine::restore(&image).unwrap();
        prop_assert_eq!(essence(&other.image()), essence(&image));
        prop_assert_eq!(run(&mut one, &after, now), run(&mut other, &after, now));
        prop_assert_eq!(essence(&other.image()), essence(&one.image()));
    }

    /// In fast mode too, while no limit is met and nothing expires in between.
    #[test]
    fn a_fast_engine_gives_the_same_verdicts(
        before in steps(), after in steps(), seed: u64,
    ) {
        let packets = |steps: Vec<Step>| {
            let is_packet = |step: &Step| matches!(step, Step::Packet { .. });
            steps.into_iter().filter(is_packet).take(12).collect::<Vec<_>>()
        };
        let mut one = engine(Mode::Fast, seed);
        let (_, now) = run(&mut one, &packets(before), 0);
        let mut other = Engine::restore(&through_text(&one.image())).unwrap();
        let after = packets(after);
        prop_assert_eq!(run(&mut one, &after, now), run(&mut other, &after, now));
        prop_assert_eq!(essence(&other.image()).0, essence(&one.image()).0);
    }

    /// Whatever a file says: it is refused, or the engine works.
    #[test]
    fn damaged_images_do_no_harm(
        before in steps(), after in steps(), exact: bool,
        damages in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..4),
    ) {
        let mode = if exact { Mode::Exact } else { Mode::Fast };
        let mut one = engine(mode, 7);
        let (_, now) = run(&mut one, &before, 0);
        let mut value = serde_json::to_value(one.image()).unwrap();
        for (place, damage) in damages {
            let leaves = count(&value);
            let mut place = place.index(leaves);
            inflict(&mut value, &mut place, &damage);
        }
        let Ok(image) = serde_json::from_value::<Image>(value) else { return Ok(()) };
        // What is too large for this machine is the caller's business.
        let Config { capacity, limit, buckets, expectations, .. } = *image.config();
        prop_assume!(capacity.max(limit).max(buckets).max(expectations) < 1 << 20);
        if let Ok(mut engine) = Engine::restore(&image) {
            let (_, now) = run(&mut engine, &after, now);
            engine.collect(Time(now + 400_000_000_000), 1 << 16);
            engine.connections(Time(now)).for_each(drop);
            engine.image();
        }
    }
}

/// What a leaf of a damaged image becomes.
fn damage() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::from),
        (0u64..70_000).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(Value::from("exact")),
    ]
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(count).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// Replaces the value at a place in the order of reading.
fn inflict(value: &mut Value, place: &mut usize, damage: &Value) -> bool {
    if *place == 0 {
        *value = damage.clone();
        return true;
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|one| inflict(one, place, damage)),
        Value::Object(fields) => fields.values_mut().any(|one| inflict(one, place, damage)),
        _ => false,
    }
}

fn image_of_some() -> Value {
    let mut one = engine(Mode::Exact, 7);
    let packet = |ports, flags| Step::Packet {
        namespace: 0,
        protocol: protocol::TCP,
        pair: (1, 2),
        ports,
        flags,
    };
    run(&mut one, &[packet((1, 1), 2), packet((1, 2), 2)], 0);
    serde_json::to_value(one.image()).unwrap()
}

fn restored(value: Value) -> Result<Engine, ImageError> {
    Engine::restore(&serde_json::from_value(value).unwrap())
}

/// Each lie is told apart.
#[test]
fn what_cannot_be_is_refused() {
    type Lie = fn(&mut Value);
    let lies: [(Lie, &str); 12] = [
        (|image| image["version"] = 2.into(), "version 2"),
        (|image| image["next_id"] = 0.into(), "collector"),
        (|image| image["collector"]["exact"]["count"] = (-1).into(), "collector"),
        (|image| image["config"]["mode"] = "fast".into(), "collector"),
        (|image| image["namespaces"] = Value::Array(Vec::new()), "namespace does not exist"),
        (|image| image["namespaces"][0]["statistics"] = Value::Array(vec![]), "namespaces"),
        (|image| image["config"]["capacity"] = 0.into(), ""),
        (|image| image["contents"]["connections"][0]["status"] = 0.into(), "status"),
        (|image| image["contents"]["connections"][0]["state"] = 77.into(), "state is unknown"),
        (
            |image| image["contents"]["connections"][1]["window"]["reply"]["scale"] = 15.into(),
            "window",
        ),
        (|image| image["contents"]["chains"][0] = image["contents"]["chains"][1].clone(), "torn"),
        (|image| image["contents"]["by_source"] = vec![9].into(), "names connection 9"),
    ];
    for (lie, expected) in lies {
        let mut image = image_of_some();
        lie(&mut image);
        match restored(image) {
            Ok(_) => assert_eq!(expected, ""),
            Err(error) => {
                assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}");
            }
        }
    }
}

#[test]
fn more_connections_than_there_is_room_for_are_refused() {
    let mut image = image_of_some();
    let one = image["contents"]["connections"][0].clone();
    image["config"]["capacity"] = 1.into();
    image["contents"]["connections"] = vec![one; 5000].into();
    assert!(matches!(restored(image), Err(ImageError::TooMany(5000))));
}
