//! A router to send packets through, and the packets.

use std::net::Ipv4Addr;

use ctkeeper_engine::rules::{Match, Rules, SourceAction};
use ctkeeper_engine::{Config, Engine, Outcome, Packet, Route, Settings, Time};
use ctkeeper_flow::{Flow, Statistic};
use etherparse::{IpNumber, PacketBuilder, SlicedPacket, TransportSlice};

pub(crate) const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub(crate) const SERVER: [u8; 4] = [192, 0, 2, 1];
pub(crate) const PUBLIC: [u8; 4] = [203, 0, 113, 1];
pub(crate) const OTHER: [u8; 4] = [192, 0, 2, 9];

pub(crate) type End = ([u8; 4], u16);

pub(crate) fn udp(from: End, to: End) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from.0, to.0, 64).udp(from.1, to.1).write(&mut bytes, b"hello").unwrap();
    bytes
}

#[derive(Clone, Copy)]
pub(crate) enum Segment {
    Syn,
    SynAck,
    Ack,
    Fin,
    Rst,
}

pub(crate) fn tcp(
    from: End,
    to: End,
    segment: Segment,
    sequence: u32,
    acknowledgement: u32,
) -> Vec<u8> {
    tcp_with(from, to, segment, (sequence, acknowledgement), &[])
}

pub(crate) fn tcp_with(
    from: End,
    to: End,
    segment: Segment,
    (sequence, acknowledgement): (u32, u32),
    words: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(from.0, to.0, 64).tcp(from.1, to.1, sequence, 65_000);
    let builder = match segment {
        Segment::Syn => builder.syn(),
        Segment::SynAck => builder.syn().ack(acknowledgement),
        Segment::Ack => builder.ack(acknowledgement),
        Segment::Fin => builder.fin().ack(acknowledgement),
        Segment::Rst => builder.rst().ack(acknowledgement),
    };
    let mut bytes = Vec::new();
    builder.write(&mut bytes, words).unwrap();
    bytes
}

pub(crate) fn echo(from: [u8; 4], to: [u8; 4], id: u16, is_reply: bool) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(from, to, 64);
    let builder = if is_reply {
        builder.icmpv4_echo_reply(id, 1)
    } else {
        builder.icmpv4_echo_request(id, 1)
    };
    let mut bytes = Vec::new();
    builder.write(&mut bytes, b"ping").unwrap();
    bytes
}

pub(crate) fn unreachable(from: [u8; 4], to: [u8; 4], inner: &[u8]) -> Vec<u8> {
    use etherparse::icmpv4::DestUnreachableHeader;
    use etherparse::{Icmpv4Header, Icmpv4Type};
    let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    let message = [&Icmpv4Header::with_checksum(kind, inner).to_bytes()[..], inner].concat();
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from, to, 64).write(&mut bytes, IpNumber::ICMP, &message).unwrap();
    bytes
}

/// A router between 1, where clients are, and 2, which has a public address.
pub(crate) struct Router<R> {
    pub(crate) engine: Engine,
    pub(crate) rules: R,
    pub(crate) now: Time,
}

impl Router<Rules> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self::with(Config { events: true, ..Config::default() }, rules)
    }

    pub(crate) fn with(config: Config, rules: Rules) -> Self {
        let mut engine = Engine::new(config).unwrap();
        engine.add_namespace(Settings::default()).unwrap();
        Self { engine, rules, now: Time::from_seconds(1) }
    }

    pub(crate) fn masquerading() -> Self {
        Self::new(masquerade())
    }

    pub(crate) fn send(&mut self, bytes: &[u8], input: u32, output: u32) -> (Outcome, Vec<u8>) {
        self.send_by(Route::Forward, bytes, input, output)
    }

    pub(crate) fn send_by(
        &mut self,
        route: Route,
        bytes: &[u8],
        input: u32,
        output: u32,
    ) -> (Outcome, Vec<u8>) {
        let packet = Packet { input, output, route, ..Packet::new(bytes) };
        let outcome = self.engine.packet(self.now, &packet, &mut self.rules);
        let mut bytes = bytes.to_vec();
        self.engine.translate(&outcome, &mut bytes).unwrap();
        (outcome, bytes)
    }

    /// Out from the clients.
    pub(crate) fn out(&mut self, bytes: &[u8]) -> (Outcome, Vec<u8>) {
        self.send(bytes, 1, 2)
    }

    /// Back to them.
    pub(crate) fn back(&mut self, bytes: &[u8]) -> (Outcome, Vec<u8>) {
        self.send(bytes, 2, 1)
    }

    pub(crate) fn flows(&self) -> Vec<Flow> {
        self.engine.connections(self.now).map(|(_, flow)| flow).collect()
    }

    pub(crate) fn flow(&self, outcome: &Outcome) -> Flow {
        self.engine.connection(self.now, outcome.connection.unwrap()).unwrap()
    }

    pub(crate) fn statistic(&self, statistic: Statistic) -> u64 {
        self.engine.statistics(0).value(statistic)
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = Time(self.now.0 + Time::from_seconds(seconds).0);
    }
}

pub(crate) fn masquerade() -> Rules {
    Rules::default()
        .with_address(1, Ipv4Addr::new(10, 0, 0, 254).into())
        .with_address(2, Ipv4Addr::from(PUBLIC).into())
        .with_source(Match::all().output(2), SourceAction::masquerade())
}

/// Addresses and ports of a packet, whose checksums are right.
pub(crate) fn ends(bytes: &[u8]) -> (End, End) {
    let packet = SlicedPacket::from_ip(bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { panic!("{packet:?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let payload = ip.payload().payload;
    let (source, destination) = match packet.transport {
        Some(TransportSlice::Udp(slice)) => {
            let udp = slice.to_header();
            assert_eq!(Ok(udp.checksum), udp.calc_checksum_ipv4(&header, &payload[8..]));
            (udp.source_port, udp.destination_port)
        }
        Some(TransportSlice::Tcp(slice)) => {
            let tcp = slice.to_header();
            assert_eq!(Ok(tcp.checksum), tcp.calc_checksum_ipv4(&header, slice.payload()));
            (tcp.source_port, tcp.destination_port)
        }
        Some(TransportSlice::Icmpv4(slice)) => {
            let icmp = slice.header();
            assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(slice.payload()));
            let id = u16::from_be_bytes([payload[4], payload[5]]);
            (id, id)
        }
        other => panic!("{other:?}"),
    };
    ((header.source, source), (header.destination, destination))
}
