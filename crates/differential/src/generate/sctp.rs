//! SCTP: associations by the book, every state met by every chunk, and random walks.

use crate::dice::Dice;
use crate::sequence::{Chunk, Conversation, Packet, SctpPacket, Side, Step, Transport};

const SIDES: [Side; 2] = [Side::Client, Side::Server];

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
/// The tag is the sender's own.
const T_BIT: u8 = 1;

/// Every chunk that a tracker may know, and two that none does.
const CHUNKS: [u8; 15] = [
    INIT,
    INIT_ACK,
    ABORT,
    SHUTDOWN,
    SHUTDOWN_ACK,
    ERROR,
    COOKIE_ECHO,
    COOKIE_ACK,
    SHUTDOWN_COMPLETE,
    HEARTBEAT,
    HEARTBEAT_ACK,
    DATA,
    SACK,
    12,
    192,
];

/// An association in the making.
struct Talk {
    conversation: Conversation,
    /// The tags that each end wants to be spoken to with.
    tags: [u32; 2],
    steps: Vec<Step>,
}

impl Talk {
    fn new(dice: &mut Dice) -> Self {
        let port = dice.within(1024..=65_535) as u16;
        let tags = [dice.bits() as u32 | 1, dice.bits() as u32 | 2];
        Self { conversation: Conversation::ports(port, 2905), tags, steps: Vec::new() }
    }

    /// A chunk as it should be.
    fn chunk(&self, from: Side, kind: u8) -> Chunk {
        let body = match kind {
            INIT | INIT_ACK => {
                let mut body = self.tags[from as usize].to_be_bytes().to_vec();
                body.extend([0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
                body
            }
            DATA => vec![0; 16],
            SACK => vec![0; 12],
            SHUTDOWN => vec![0; 4],
            HEARTBEAT | HEARTBEAT_ACK => vec![0, 1, 0, 8, 1, 2, 3, 4],
            COOKIE_ECHO => vec![7; 21],
            ERROR => vec![0, 1, 0, 4],
            _ => Vec::new(),
        };
        Chunk { kind, flags: 0, body, length: None }
    }

    fn tag(&self, from: Side, kind: u8) -> u32 {
        if kind == INIT { 0 } else { self.tags[from.other() as usize] }
    }

    fn say(&mut self, from: Side, kind: u8) {
        let packet = SctpPacket { tag: self.tag(from, kind), chunks: vec![self.chunk(from, kind)] };
        self.push(from, packet);
    }

    fn push(&mut self, from: Side, packet: SctpPacket) {
        self.steps.push(Step::Send(Packet::new(self.conversation, from, Transport::Sctp(packet))));
    }
}

/// States in which an association can be met.
const STATES: u64 = 11;

fn reach(talk: &mut Talk, state: u64) {
    let (client, server) = (Side::Client, Side::Server);
    let script: &[(Side, u8)] = match state {
        0 => &[],
        1 => &[(client, INIT)],
        2 => &[(client, INIT), (server, INIT_ACK)],
        3 => &[(client, INIT), (server, INIT_ACK), (client, COOKIE_ECHO)],
        4 => &ESTABLISHED,
        5 => return by(talk, &[(client, SHUTDOWN)]),
        6 => return by(talk, &[(server, SHUTDOWN)]),
        7 => return by(talk, &[(client, SHUTDOWN), (server, SHUTDOWN_ACK)]),
        8 => return by(talk, &[(client, ABORT)]),
        9 => &[(client, HEARTBEAT)],
        _ => &[(client, HEARTBEAT), (server, HEARTBEAT_ACK)],
    };
    for &(from, kind) in script {
        talk.say(from, kind);
    }
}

const ESTABLISHED: [(Side, u8); 4] = [
    (Side::Client, INIT),
    (Side::Server, INIT_ACK),
    (Side::Client, COOKIE_ECHO),
    (Side::Server, COOKIE_ACK),
];

/// On from an association that stands.
fn by(talk: &mut Talk, script: &[(Side, u8)]) {
    for &(from, kind) in ESTABLISHED.iter().chain(script) {
        talk.say(from, kind);
    }
}

/// Tags that a probe may carry.
const TAGS: u64 = 5;

/// How many probes [`probe`] knows.
pub(super) const PROBES: u64 = STATES * CHUNKS.len() as u64 * 2 * TAGS * 2;

/// An association in some state meets a chunk of some kind; then its life goes on.
///
/// The lowest [`PROBES`] numbers are all different.
pub(super) fn probe(number: u64, dice: &mut Dice) -> (String, Vec<Step>) {
    let mut rest = number % PROBES;
    let mut take = |choices: u64| {
        let chosen = rest % choices;
        rest /= choices;
        chosen
    };
    let (state, kind) = (take(STATES), CHUNKS[take(CHUNKS.len() as u64) as usize]);
    let (from, tag, flags) = (SIDES[take(2) as usize], take(TAGS), take(2) as u8 * T_BIT);
    let mut talk = Talk::new(dice);
    reach(&mut talk, state);
    let tag = tag_of(&talk, from, kind, tag);
    let chunk = Chunk { flags, ..talk.chunk(from, kind) };
    talk.push(from, SctpPacket { tag, chunks: vec![chunk] });
    live_on(&mut talk, dice);
    (format!("sctp state {state} meets chunk {kind} of {from:?}, tag {tag:#x}"), talk.steps)
}

fn tag_of(talk: &Talk, from: Side, kind: u8, choice: u64) -> u32 {
    match choice {
        0 => talk.tag(from, kind),
        1 => talk.tags[from as usize],
        2 => 0,
        3 => 0x0bad_cafe,
        _ => talk.tags[from.other() as usize],
    }
}

fn live_on(talk: &mut Talk, dice: &mut Dice) {
    let (client, server) = (Side::Client, Side::Server);
    match dice.within(0..=4) {
        0 => by(talk, &[(client, DATA), (server, SACK)]),
        1 => {
            talk.say(server, HEARTBEAT);
            talk.say(client, HEARTBEAT_ACK);
            talk.say(client, DATA);
        }
        2 => {
            talk.tags = [dice.bits() as u32 | 1, dice.bits() as u32 | 2];
            by(talk, &[(server, SHUTDOWN), (client, SHUTDOWN_ACK), (server, SHUTDOWN_COMPLETE)]);
        }
        3 => {
            talk.say(server, INIT_ACK);
            talk.say(client, COOKIE_ECHO);
            talk.say(server, COOKIE_ACK);
            talk.say(client, DATA);
        }
        _ => {
            talk.say(client, SHUTDOWN);
            talk.say(server, SHUTDOWN_ACK);
            talk.say(client, SHUTDOWN_COMPLETE);
            talk.say(client, INIT);
        }
    }
}

/// From some state on, anything.
pub(super) fn walk(dice: &mut Dice, timed: bool) -> Vec<Step> {
    let mut talk = Talk::new(dice);
    reach(&mut talk, dice.bits() % STATES);
    for _ in 0..dice.within(2..=12) {
        if timed && dice.one_in(4) {
            talk.steps.push(Step::Pause(dice.choose(&[1, 1, 2, 3])));
        }
        stumble(&mut talk, dice);
    }
    talk.steps
}

fn stumble(talk: &mut Talk, dice: &mut Dice) {
    let (from, kind) = (dice.choose(&SIDES), dice.choose(&CHUNKS));
    if dice.one_in(12) {
        talk.tags[from as usize] = dice.bits() as u32 | 1;
    }
    if dice.one_in(2) {
        talk.say(from, kind);
        return;
    }
    let choice = if dice.one_in(2) { 0 } else { dice.bits() % TAGS };
    let tag = tag_of(talk, from, kind, choice);
    let mut chunks = vec![talk.chunk(from, kind)];
    if dice.one_in(3) {
        chunks.push(talk.chunk(from, dice.choose(&CHUNKS)));
    }
    if dice.one_in(4) {
        chunks[0].flags = T_BIT;
    }
    if dice.one_in(12) {
        chunks[0].length = Some(dice.choose(&[0, 3, 4, 5, 200]));
    }
    if dice.one_in(25) {
        chunks.clear();
    }
    talk.push(from, SctpPacket { tag, chunks });
}
