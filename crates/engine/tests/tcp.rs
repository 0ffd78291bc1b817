//! TCP connections through the engine, from bytes to verdict.

use ctkeeper_engine::packet::flag::{ACK, FIN, SYN};
use ctkeeper_engine::{Class, Config, Engine, Mode, Outcome, Packet, Reason, Settings, Time};
use ctkeeper_flow::{Direction, Status};

const CLIENT: (u32, u16) = (0x0a00_0001, 40_000);
const SERVER: (u32, u16) = (0x0a00_0002, 80);

/// A segment in IPv4 without checksums of its own.
fn segment(from_client: bool, numbers: [u32; 2], flags: u8, data: usize) -> Vec<u8> {
    let (source, destination) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let mut bytes = vec![0x45, 0, 0, 40 + data as u8, 0, 0, 0, 0, 64, 6, 0, 0];
    bytes.extend([source.0, destination.0].iter().flat_map(|address| address.to_be_bytes()));
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend([source.1, destination.1].iter().flat_map(|port| port.to_be_bytes()));
    bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    bytes.extend([5 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn send(engine: &mut Engine, from_client: bool, numbers: [u32; 2], flags: u8) -> Outcome {
    send_data(engine, from_client, numbers, flags, 0)
}

fn send_data(
    engine: &mut Engine,
    from_client: bool,
    numbers: [u32; 2],
    flags: u8,
    data: usize,
) -> Outcome {
    let bytes = segment(from_client, numbers, flags, data);
    engine.packet(Time::from_seconds(1), &Packet::new(&bytes), &mut ())
}

fn established(mode: Mode) -> Engine {
    let config = Config { mode, limit: 1000, buckets: 1024, ..Config::default() };
    let mut engine = Engine::new(config).unwrap();
    engine
        .add_namespace(Settings {
            // So that there is something beside the record that an image tells of.
            accounting: true,
            checksum: false,
            ..Settings::default()
        })
        .unwrap();
    assert_eq!(send(&mut engine, true, [1000, 0], SYN).class, Class::New);
    assert_eq!(send(&mut engine, false, [5000, 1001], SYN | ACK).class, Class::Established);
    let outcome = send(&mut engine, true, [1001, 5001], ACK);
    let flow = engine.connection(Time::from_seconds(1), outcome.connection.unwrap()).unwrap();
    assert_eq!(flow.status, Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED);
    assert_eq!(flow.timeout, Some(432_000));
    engine
}

#[test]
fn a_connection_that_was_closed_is_another_when_it_is_opened_again() {
    for mode in [Mode::Fast, Mode::Exact] {
        let mut engine = established(mode);
        send(&mut engine, true, [1001, 5001], FIN | ACK);
        send(&mut engine, false, [5001, 1002], FIN | ACK);
        let before = send(&mut engine, true, [1002, 5002], ACK);
        let after = send(&mut engine, true, [90_000, 0], SYN);
        assert_eq!((after.class, after.direction), (Class::New, Direction::Original));
        assert_ne!(before.connection, after.connection);
        assert_eq!(engine.connections(Time::from_seconds(1)).count(), 1);
    }
}

#[test]
fn what_acknowledges_data_never_sent_is_invalid() {
    for mode in [Mode::Fast, Mode::Exact] {
        let mut engine = established(mode);
        let outcome = send(&mut engine, false, [5001, 1002], ACK);
        assert_eq!((outcome.class, outcome.reason), (Class::Invalid, Some(Reason::TcpAckAbove)));
        assert_eq!(outcome.connection, None);
    }
}

#[test]
fn shifts_from_an_image_count() {
    for mode in [Mode::Fast, Mode::Exact] {
        let engine = established(mode);
        let mut image = serde_json::to_value(engine.image()).unwrap();
        let adjustments = image.pointer_mut("/contents/connections/0/more/adjustments").unwrap();
        let none = serde_json::json!({ "correction": 0, "before": 0, "after": 0 });
        let longer = serde_json::json!({ "correction": 1000, "before": 0, "after": 7 });
        *adjustments = serde_json::json!([longer, none]);
        let mut engine = Engine::restore(&serde_json::from_value(image).unwrap()).unwrap();

        send_data(&mut engine, true, [1001, 5001], ACK, 50);
        let exact = send(&mut engine, false, [5001, 1058], ACK);
        assert_eq!((exact.class, exact.reason), (Class::Established, None));
        let beyond = send(&mut engine, false, [5001, 1059], ACK);
        assert_eq!(beyond.reason, Some(Reason::TcpAckAbove));
    }
}
