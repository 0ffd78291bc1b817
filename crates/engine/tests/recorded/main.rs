//! Packets that were sent through a namespace of Linux 6.18.44, and what it made of each: the
//! engine must make the same of them.
//!
//! They are what is left of some 20,000 random packets without disagreement: enough of them to
//! have every kind of chunk, message and word in every state that they reached.

use ctkeeper_engine::helper::Ftp;
use ctkeeper_engine::rules::{FilterAction, Match, Rules};
use ctkeeper_engine::{Class, Config, Engine, Packet, Settings, Time, Verdict};
use ctkeeper_flow::{Family, Flow, ProtocolState, Status};
use etherparse::{IpNumber, PacketBuilder};

const CLIENT: [u8; 4] = [10, 8, 0, 1];
const SERVER: [u8; 4] = [10, 7, 0, 1];

/// Both with `nf_conntrack_checksum=0`, as when they were recorded.
fn engine(coverage: bool) -> Engine {
    let mut engine = Engine::new(Config { coverage, ..Config::default() }).unwrap();
    let settings = Settings { checksum: false, tcp_be_liberal: true, ..Settings::default() };
    engine.add_namespace(settings).unwrap();
    engine
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = (0..hex.len()).step_by(2);
    digits.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn name(class: Class) -> &'static str {
    match class {
        Class::New => "new",
        Class::Established => "established",
        Class::Related => "related",
        Class::Invalid => "invalid",
        Class::Untracked => "untracked",
    }
}

/// Lines: association, direction, packet, class, state behind it. The state has a plus where the
/// association is assured, and is not recorded where it was begun from the server's port.
#[test]
fn sctp() {
    let mut engine = engine(true);
    let (mut association, mut now) = ("", Time::from_seconds(1));
    for line in include_str!("sctp-6.18.44.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [number, direction, packet, class, state] = words[..] else { panic!("{line}") };
        if number != association {
            // What the one before has left behind has expired by now.
            now = Time(now.0 + Time::from_seconds(1000).0);
            association = number;
        }
        let mut bytes = Vec::new();
        let (from, to) = if direction == ">" { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let ip = PacketBuilder::ipv4(from, to, 64);
        ip.write(&mut bytes, IpNumber::SCTP, &bytes_of(packet)).unwrap();
        let outcome = engine.packet(now, &Packet::new(&bytes), &mut ());
        assert_eq!(name(outcome.class), class, "{line}");
        if state != "-" {
            let live: Vec<Flow> = engine.connections(now).map(|(_, flow)| flow).collect();
            let [flow] = &live[..] else { panic!("{line}: {live:?}") };
            assert_eq!(state_of(flow), state, "{line}");
        }
    }
    let met = engine.coverage().unwrap().sctp_cells().count();
    assert!(met > 160, "cells of the table: {met}");
}

fn state_of(flow: &Flow) -> String {
    let ProtocolState::Sctp(tracking) = flow.state else { panic!("{flow:?}") };
    let assured = if flow.status.contains(Status::ASSURED) { "+" } else { "" };
    format!("{}{assured}", tracking.state)
}

/// Lines: packet, class. The first two begin the connections that the errors may be about.
#[test]
fn icmp() {
    let mut engine = engine(false);
    let now = Time::from_seconds(1);
    for line in include_str!("icmp-6.18.44.txt").lines() {
        let (packet, class) = line.split_once(' ').unwrap();
        let bytes = bytes_of(packet);
        let outcome = engine.packet(now, &Packet::new(&bytes), &mut ());
        assert_eq!(name(outcome.class), class, "{line}");
    }
}

/// Lines: connection, version of IP, direction, sequence number, verdict, what the connection
/// expects then, and the words.
#[test]
fn ftp() {
    let mut engine = engine(false);
    let number = engine.add_helper(Box::new(Ftp::default())).unwrap();
    let control = Match::all().protocol(6).destination_ports(21, 21);
    let mut rules = Rules::default().with_tracked(control, FilterAction::Helper(number));
    let now = Time::from_seconds(1);
    let mut connection = "";
    for line in include_str!("ftp-6.18.44.txt").lines() {
        let words: Vec<&str> = line.splitn(7, ' ').collect();
        let [number, version, direction, sequence, verdict, expected, said] = words[..] else {
            panic!("{line}")
        };
        let talk = Talk { ipv6: version == "6", port: 30_000 + number.parse::<u16>().unwrap() };
        let mut send = |bytes: Vec<u8>| engine.packet(now, &Packet::new(&bytes), &mut rules);
        if number != connection {
            connection = number;
            for (client, sequence, syn) in
                [(true, 1000, true), (false, 2000, true), (true, 1001, false)]
            {
                send(talk.packet(client, sequence, syn, b""));
            }
        }
        let said = said.replace("\\r", "\r").replace("\\n", "\n");
        let sequence = sequence.parse().unwrap();
        let outcome = send(talk.packet(direction == ">", sequence, false, said.as_bytes()));
        let accepted = if outcome.verdict == Verdict::Accept { "accept" } else { "drop" };
        assert_eq!(
            (accepted, talk.expectation(&engine, now).as_str()),
            (verdict, expected),
            "{line}"
        );
    }
}

/// A control connection.
struct Talk {
    ipv6: bool,
    port: u16,
}

impl Talk {
    fn packet(&self, is_client: bool, sequence: u32, syn: bool, said: &[u8]) -> Vec<u8> {
        let (mut client, mut server) = ([0; 16], [0; 16]);
        (client[0], client[1], client[15]) = (0xfd, 8, 1);
        (server[0], server[1], server[15]) = (0xfd, 7, 1);
        let ip = match (self.ipv6, is_client) {
            (false, true) => PacketBuilder::ipv4(CLIENT, SERVER, 64),
            (false, false) => PacketBuilder::ipv4(SERVER, CLIENT, 64),
            (true, true) => PacketBuilder::ipv6(client, server, 64),
            (true, false) => PacketBuilder::ipv6(server, client, 64),
        };
        let (from, to) = if is_client { (self.port, 21) } else { (21, self.port) };
        let tcp = ip.tcp(from, to, sequence, 60_000);
        let tcp = if syn { tcp.syn() } else { tcp };
        let begins = syn && is_client;
        let tcp = if begins { tcp } else { tcp.ack(if is_client { 2001 } else { 1001 }) };
        let mut bytes = Vec::new();
        tcp.write(&mut bytes, said).unwrap();
        bytes
    }

    /// What the connection expects: source, destination and port.
    fn expectation(&self, engine: &Engine, now: Time) -> String {
        let family = if self.ipv6 { Family::Ipv6 } else { Family::Ipv4 };
        let own = engine.expectations(now, 0).find(|one| {
            one.master.family() == family && one.master.source_port() == Some(self.port)
        });
        let Some(one) = own else { return "-".into() };
        let port = one.expected.destination_port().unwrap();
        format!("{}>{}:{port}", one.expected.source, one.expected.destination)
    }
}
