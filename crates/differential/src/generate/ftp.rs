//! FTP: control connections that announce data connections, and those.

use ctkeeper_flow::Family;

use crate::dice::Dice;
use crate::ground::FTP;
use crate::sequence::{Conversation, Packet, Segment, Side, Step, Transport, flag};

const DATA: u16 = 20;
/// What every line is filled up to.
const LINE: u16 = 80;

/// What the two ends have said so far.
struct Talk {
    conversation: Conversation,
    next: [u32; 2],
    steps: Vec<Step>,
}

impl Talk {
    fn new(dice: &mut Dice, conversation: Conversation) -> Self {
        let next = [dice.bits() as u32, dice.bits() as u32];
        Self { conversation, next, steps: Vec::new() }
    }

    fn say(&mut self, from: Side, flags: u8, text: &str) {
        let payload = if text.is_empty() { 0 } else { LINE };
        let acknowledgement =
            if flags & flag::ACK == 0 { 0 } else { self.next[from.other() as usize] };
        let segment = Segment {
            flags,
            sequence: self.next[from as usize],
            acknowledgement,
            window: 60_000,
            payload,
            text: text.to_owned(),
            ..Segment::default()
        };
        let length = u32::from(payload) + u32::from(flags & (flag::SYN | flag::FIN) != 0);
        let next = &mut self.next[from as usize];
        *next = next.wrapping_add(length);
        self.steps.push(Step::Send(Packet::new(self.conversation, from, Transport::Tcp(segment))));
    }

    fn open(&mut self, from: Side) {
        self.say(from, flag::SYN, "");
        self.say(from.other(), flag::SYN | flag::ACK, "");
        self.say(from, flag::ACK, "");
    }
}

/// A control connection with a few announcements, of which some come true.
pub(super) fn session(dice: &mut Dice, timed: bool, family: Family) -> Vec<Step> {
    let client_port = dice.within(1024..=65_535) as u16;
    let mut talk = Talk::new(dice, Conversation::ports(client_port, FTP));
    if !dice.one_in(12) {
        talk.open(Side::Client);
    }
    talk.say(Side::Server, flag::ACK, "220 ready\r\n");
    for _ in 0..dice.within(1..=4) {
        if timed && dice.one_in(3) {
            talk.steps.push(Step::Pause(dice.choose(&[1, 2])));
        }
        announce(&mut talk, dice, family);
    }
    if dice.one_in(3) {
        talk.say(Side::Client, flag::ACK | flag::FIN, "");
        talk.say(Side::Server, flag::ACK | flag::RST, "");
    }
    talk.steps
}

fn announce(talk: &mut Talk, dice: &mut Dice, family: Family) {
    let port = dice.within(1024..=65_535) as u16;
    let [high, low] = port.to_be_bytes();
    let number = if family == Family::Ipv4 { 1 } else { 2 };
    let passive = dice.one_in(2);
    let line = match (passive, dice.within(0..=9)) {
        (false, 0..=3) => format!("PORT {{host}},{high},{low}\r\n"),
        (false, 4..=6) => format!("EPRT |{number}|{{address}}|{port}|\r\n"),
        (false, 7) => format!("PORT 10,9,8,7,{high},{low}\r\n"),
        (false, 8) => format!("PORT {{host}},{high}\r\n"),
        (false, _) => format!("  port {{host}},{high},{low}\r\n"),
        (true, 0..=3) => format!("227 Entering Passive Mode ({{host}},{high},{low}).\r\n"),
        (true, 4..=7) => format!("229 Entering Extended Passive Mode (|||{port}|)\r\n"),
        (true, 8) => format!("227 Entering Passive Mode ({{host}},{high},300)\r\n"),
        (true, _) => "227 nothing\r\n".to_owned(),
    };
    let speaker = if passive { Side::Server } else { Side::Client };
    talk.say(speaker, flag::ACK | flag::PSH, &line);
    if dice.one_in(4) {
        talk.say(speaker.other(), flag::ACK, "");
    }
    if dice.one_in(5) {
        return;
    }
    let (from, conversation) = if passive {
        let own = dice.within(1024..=65_535) as u16;
        (Side::Client, Conversation::ports(own, port))
    } else {
        (Side::Server, Conversation::ports(port, DATA))
    };
    let mut data = Talk::new(dice, conversation);
    data.open(from);
    data.say(from.other(), flag::ACK, "data");
    let steps = dice.within(1..=4) as usize;
    talk.steps.extend(data.steps.into_iter().take(steps));
}
