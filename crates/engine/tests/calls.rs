//! Calls of PPTP, whose GRE packets name their receiver only.

use ctkeeper_engine::helper::CallExists;
use ctkeeper_engine::{Class, Config, Engine, Handle, Outcome, Packet, Settings, Time, Tuple};
use ctkeeper_flow::{Direction, Family};
use etherparse::{IpNumber, PacketBuilder};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [192, 0, 2, 1];
const CLIENT_CALL: u16 = 7;
const SERVER_CALL: u16 = 9;
const NOW: Time = Time::from_seconds(1);

fn engine() -> Engine {
    let mut engine = Engine::new(Config::default()).unwrap();
    engine.add_namespace(Settings { checksum: false, ..Settings::default() }).unwrap();
    engine
}

fn send(engine: &mut Engine, now: Time, bytes: &[u8]) -> Outcome {
    engine.packet(now, &Packet::new(bytes), &mut ())
}

/// GRE of version 1, with PPP in it, to a call.
fn to_call(from: [u8; 4], to: [u8; 4], call: u16) -> Vec<u8> {
    let [high, low] = call.to_be_bytes();
    let mut bytes = Vec::new();
    let header = [0x20, 0x81, 0x88, 0x0b, 0, 0, high, low];
    PacketBuilder::ipv4(from, to, 64).write(&mut bytes, IpNumber::GRE, &header).unwrap();
    bytes
}

fn begin_control(engine: &mut Engine) -> Handle {
    let mut bytes = Vec::new();
    let syn = PacketBuilder::ipv4(CLIENT, SERVER, 64).tcp(40_000, 1723, 1, 60_000).syn();
    syn.write(&mut bytes, &[]).unwrap();
    send(engine, NOW, &bytes).connection.unwrap()
}

fn call() -> Tuple {
    Tuple {
        source: u32::from_be_bytes(CLIENT).into(),
        destination: u32::from_be_bytes(SERVER).into(),
        source_id: CLIENT_CALL,
        destination_id: SERVER_CALL,
        protocol: 47,
        family: Family::Ipv4,
    }
}

fn note_both(engine: &mut Engine, control: Handle) {
    let answer = call().inverted().unwrap();
    assert_eq!(engine.note_call(control, Direction::Original, call()), Ok(true));
    assert_eq!(engine.note_call(control, Direction::Reply, answer), Ok(true));
    let second = Tuple { destination_id: 99, ..call() };
    assert_eq!(engine.note_call(control, Direction::Original, second), Err(CallExists));
}

#[test]
fn both_directions_of_a_noted_call_are_one_connection() {
    let mut engine = engine();
    let control = begin_control(&mut engine);
    note_both(&mut engine, control);
    let there = send(&mut engine, NOW, &to_call(CLIENT, SERVER, SERVER_CALL));
    let back = send(&mut engine, NOW, &to_call(SERVER, CLIENT, CLIENT_CALL));
    assert_eq!((there.class, back.class), (Class::New, Class::Established));
    assert_eq!(there.connection, back.connection);
}

#[test]
fn directions_of_an_unknown_call_are_two() {
    let mut engine = engine();
    let there = send(&mut engine, NOW, &to_call(CLIENT, SERVER, SERVER_CALL));
    let back = send(&mut engine, NOW, &to_call(SERVER, CLIENT, CLIENT_CALL));
    assert_eq!((there.class, back.class), (Class::New, Class::New));
}

#[test]
fn calls_end_with_their_control_connection() {
    let mut engine = engine();
    let control = begin_control(&mut engine);
    note_both(&mut engine, control);
    let later = Time::from_seconds(10_000);
    while !engine.collect(later, 1_000_000) {}
    assert_eq!(engine.count(0), 0);
    assert_eq!(engine.note_call(control, Direction::Original, call()), Ok(false));
    let there = send(&mut engine, later, &to_call(CLIENT, SERVER, SERVER_CALL));
    let back = send(&mut engine, later, &to_call(SERVER, CLIENT, CLIENT_CALL));
    assert_eq!((there.class, back.class), (Class::New, Class::New));
}
