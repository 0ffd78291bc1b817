//! Protocols without many states: UDP, UDP-Lite, ICMP, GRE and whatever else there is.

use ctkeeper_flow::Family;

use crate::dice::Dice;
use crate::sequence::{
    Conversation, Datagram, Gre, Host, IcmpError, Message, Packet, Segment, Side, Step, Transport,
    flag,
};

const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// Datagrams to and fro; with pauses they become a stream.
pub(super) fn datagrams(dice: &mut Dice, timed: bool, lite: bool) -> Vec<Step> {
    let conversation = Conversation::ports(dice.within(1..=65_535) as u16, 53);
    let mut steps = Vec::new();
    for number in 0..dice.within(1..=8) {
        if number > 0 && timed && dice.one_in(2) {
            steps.push(Step::Pause(dice.choose(&[1, 1, 2, 3])));
        }
        let from = if number == 0 { Side::Client } else { dice.choose(&SIDES) };
        let datagram = datagram(dice, lite);
        let transport = if lite { Transport::Udplite(datagram) } else { Transport::Udp(datagram) };
        steps.push(Step::Send(Packet::new(conversation, from, transport)));
    }
    steps
}

fn datagram(dice: &mut Dice, lite: bool) -> Datagram {
    let payload = dice.choose(&[0, 1, 8, 40, 500]);
    let odd: &[u16] = if lite { &[8, 9, 20, 7, 1, 600] } else { &[0, 7, 8, 9, 600] };
    let length = dice.one_in(6).then(|| dice.choose(odd));
    let as_udp = lite && !dice.one_in(5);
    Datagram { payload, length, without_checksum: dice.one_in(8), as_udp }
}

/// Questions and answers by ICMP or ICMPv6, of every type.
pub(super) fn messages(dice: &mut Dice, timed: bool, family: Family) -> Vec<Step> {
    let conversation = Conversation::ports(dice.within(1..=65_535) as u16, 0);
    let pairs: &[[u8; 2]] = match family {
        Family::Ipv4 => &[[8, 0], [8, 0], [13, 14], [15, 16], [17, 18]],
        Family::Ipv6 => &[[128, 129], [128, 129], [139, 140]],
    };
    let pair = dice.choose(pairs);
    let code = u8::from(dice.one_in(6));
    let mut steps = Vec::new();
    for number in 0..dice.within(1..=7) {
        if number > 0 && timed && dice.one_in(2) {
            steps.push(Step::Pause(dice.choose(&[1, 2, 3])));
        }
        let from = if number == 0 { Side::Client } else { dice.choose(&SIDES) };
        let mut kind = pair[usize::from(from == Side::Server)];
        if dice.one_in(4) {
            kind = any_kind(dice, family);
        }
        let message = Message { kind, code, payload: dice.choose(&[0, 8, 40, 56]) };
        steps.push(Step::Send(Packet::new(conversation, from, Transport::Icmp(message))));
    }
    steps
}

/// Not those that the router itself would answer or act upon.
fn any_kind(dice: &mut Dice, family: Family) -> u8 {
    match family {
        Family::Ipv4 => {
            dice.choose(&[0, 1, 2, 6, 7, 8, 9, 10, 13, 14, 15, 16, 17, 18, 19, 40, 255])
        }
        Family::Ipv6 => dice.choose(&[
            0, 100, 127, 128, 129, 130, 131, 132, 133, 134, 137, 137, 138, 139, 140, 143, 151, 152,
            153, 200,
        ]),
    }
}

/// A conversation and errors about it, from whoever stands on the way.
pub(super) fn errors(dice: &mut Dice, family: Family) -> Vec<Step> {
    let port = dice.within(1024..=65_535) as u16;
    let echo = dice.one_in(4);
    let conversation = Conversation::ports(port, if echo { 0 } else { 443 });
    let say = |dice: &mut Dice, from: Side| {
        Packet::new(conversation, from, carried(dice, echo, from, family))
    };
    let mut steps = Vec::new();
    let (first, second) = (say(dice, Side::Client), say(dice, Side::Server));
    if !dice.one_in(6) {
        steps.push(Step::Send(first.clone()));
        if dice.one_in(2) && !matches!(first.transport, Transport::Other { .. }) {
            steps.push(Step::Send(answer_to(&first, family)));
        }
    }
    for _ in 0..dice.within(1..=4) {
        let about = if dice.one_in(3) { answer_to(&first, family) } else { first.clone() };
        let about = if dice.one_in(8) { second.clone() } else { about };
        steps.push(Step::Send(error(dice, family, about)));
    }
    steps.push(Step::Send(first));
    steps
}

fn carried(dice: &mut Dice, echo: bool, from: Side, family: Family) -> Transport {
    if echo {
        let kinds = if family == Family::Ipv4 { [8, 0] } else { [128, 129] };
        let kind = kinds[usize::from(from == Side::Server)];
        return Transport::Icmp(Message { kind, code: 0, payload: 8 });
    }
    match dice.within(0..=4) {
        0 => Transport::Tcp(Segment {
            flags: flag::SYN,
            sequence: 5000,
            window: 1000,
            ..Segment::default()
        }),
        1 => Transport::Udplite(Datagram { payload: 30, as_udp: true, ..Datagram::default() }),
        2 => Transport::Other { protocol: 50, payload: vec![1; 40] },
        _ => Transport::Udp(Datagram { payload: 30, ..Datagram::default() }),
    }
}

fn answer_to(packet: &Packet, family: Family) -> Packet {
    let transport = match &packet.transport {
        Transport::Tcp(_) => Transport::Tcp(Segment {
            flags: flag::SYN | flag::ACK,
            sequence: 90_000,
            acknowledgement: 5001,
            window: 1000,
            ..Segment::default()
        }),
        Transport::Icmp(message) => {
            let kind = if family == Family::Ipv4 { 0 } else { 129 };
            Transport::Icmp(Message { kind, ..message.clone() })
        }
        same => same.clone(),
    };
    Packet::new(packet.conversation, packet.from.other(), transport)
}

/// An error about a packet comes from where the packet was going, as a rule.
fn error(dice: &mut Dice, family: Family, about: Packet) -> Packet {
    let kinds: &[u8] = match family {
        Family::Ipv4 => &[3, 3, 3, 4, 5, 11, 12, 8, 30],
        Family::Ipv6 => &[1, 2, 3, 4, 0, 100, 127],
    };
    let from = if dice.one_in(8) { about.from } else { about.from.other() };
    let network = if family == Family::Ipv4 { 20 } else { 40 };
    let error = IcmpError {
        source: dice.choose(&[Host::Router, Host::Router, Host::Server, Host::Client]),
        destination: dice.one_in(6).then(|| dice.choose(&[Host::OtherClient, Host::OtherServer])),
        kind: dice.choose(kinds),
        code: dice.choose(&[0, 1, 3, 4]),
        about: Box::new(about),
        bytes: network + dice.choose(&[8, 8, 20, 64, 4, 7, 0]),
        inner_fragment: dice.one_in(12),
    };
    let conversation = Conversation::ports(0, 0);
    let mut packet = Packet::new(conversation, from, Transport::Error(error));
    packet.defects.checksum = dice.one_in(15);
    packet
}

/// GRE of both versions.
pub(super) fn tunnels(dice: &mut Dice, timed: bool) -> Vec<Step> {
    let conversation = Conversation::ports(0, 0);
    let mut steps = Vec::new();
    for number in 0..dice.within(1..=6) {
        if number > 0 && timed && dice.one_in(2) {
            steps.push(Step::Pause(dice.choose(&[1, 2, 3])));
        }
        let from = if number == 0 { Side::Client } else { dice.choose(&SIDES) };
        let gre = match dice.within(0..=5) {
            0 => Gre { flags: 0x2001, protocol: 0x880b, call: dice.choose(&[1, 2]), payload: 20 },
            1 => Gre { flags: 0x3001, protocol: 0x880b, call: 77, payload: 20 },
            2 => Gre { flags: 0x2001, protocol: 0x0800, call: 1, payload: 20 },
            3 => Gre { flags: 2, protocol: 0x0800, call: 0, payload: 20 },
            _ => Gre { flags: 0x2000, protocol: 0x0800, call: 0, payload: 40 },
        };
        steps.push(Step::Send(Packet::new(conversation, from, Transport::Gre(gre))));
    }
    steps
}

/// Protocols that have no tracker; DCCP (33) has one before Linux 6.16, which the engine has not.
pub(super) fn others(dice: &mut Dice, timed: bool) -> Vec<Step> {
    let conversation = Conversation::ports(0, 0);
    let protocol = dice.choose(&[50, 51, 4, 41, 89, 112, 94, 253]);
    // Extension headers of IPv6 are no layer 4.
    let protocol = if protocol == 51 { 254 } else { protocol };
    let mut steps = Vec::new();
    for number in 0..dice.within(1..=6) {
        if number > 0 && timed && dice.one_in(2) {
            steps.push(Step::Pause(dice.choose(&[1, 2, 3])));
        }
        let from = if number == 0 { Side::Client } else { dice.choose(&SIDES) };
        let payload = vec![7; dice.choose(&[0, 3, 4, 30])];
        let transport = Transport::Other { protocol, payload };
        steps.push(Step::Send(Packet::new(conversation, from, transport)));
    }
    steps
}
