//! TCP: sessions as stacks lead them, every state met by every kind of segment, and random walks.

use crate::dice::Dice;
use crate::sequence::{Conversation, Packet, Segment, Side, Step, Transport, flag};

const SIDES: [Side; 2] = [Side::Client, Side::Server];
const SYN: u8 = flag::SYN;
const SYN_ACK: u8 = flag::SYN | flag::ACK;
const ACK: u8 = flag::ACK;
const FIN: u8 = flag::FIN | flag::ACK;
const RST: u8 = flag::RST;
const RST_ACK: u8 = flag::RST | flag::ACK;

/// What one end has said so far.
#[derive(Clone, Debug)]
struct End {
    /// Sequence number of what it says next.
    next: u32,
    window: u16,
    scale: u8,
    options: Vec<u8>,
}

/// A conversation in the making.
#[derive(Clone, Debug)]
struct Talk {
    conversation: Conversation,
    ends: [End; 2],
    steps: Vec<Step>,
}

impl Talk {
    fn new(dice: &mut Dice) -> Self {
        let ports = Conversation::ports(
            dice.within(1024..=65_535) as u16,
            dice.choose(&[22, 80, 443, 5432]),
        );
        let ends = [End::new(dice), End::new(dice)];
        Self { conversation: ports, ends, steps: Vec::new() }
    }

    /// The next segment of an end, by the book.
    fn segment(&self, from: Side, flags: u8, payload: u16) -> Segment {
        let (own, other) = (&self.ends[from as usize], &self.ends[from.other() as usize]);
        let acknowledgement = if flags & flag::ACK == 0 { 0 } else { other.next };
        let options = if flags & flag::SYN == 0 { Vec::new() } else { own.options.clone() };
        let (sequence, window) = (own.next, own.window);
        Segment { flags, sequence, acknowledgement, window, options, payload, ..Segment::default() }
    }

    /// Says it, and counts it as said.
    fn say(&mut self, from: Side, flags: u8, payload: u16) {
        let segment = self.segment(from, flags, payload);
        let length = length(&segment);
        self.push(from, segment);
        let end = &mut self.ends[from as usize];
        end.next = end.next.wrapping_add(length);
    }

    /// Says something that does not count.
    fn push(&mut self, from: Side, segment: Segment) {
        self.steps.push(Step::Send(Packet::new(self.conversation, from, Transport::Tcp(segment))));
    }

    fn pause(&mut self, slots: u8) {
        self.steps.push(Step::Pause(slots));
    }

    /// Both ends begin anew, far ahead of or behind what they said before.
    fn restart(&mut self, dice: &mut Dice) {
        for end in &mut self.ends {
            let jump = dice.choose(&[100_000, 1, 0x7000_0000, 0x9000_0000, 0xffff_0000]);
            *end = End { next: end.next.wrapping_add(jump), ..End::new(dice) };
        }
    }
}

impl End {
    fn new(dice: &mut Dice) -> Self {
        let (options, scale) = syn_options(dice);
        // Half of them soon wrap.
        let next =
            if dice.one_in(2) { u32::MAX - dice.within(0..=3000) } else { dice.bits() as u32 };
        let window = dice.choose(&[65_535, 29_200, 8192, 512, 1460]);
        Self { next, window, scale, options }
    }
}

fn length(segment: &Segment) -> u32 {
    u32::from(segment.payload)
        + u32::from(segment.flags & flag::SYN != 0)
        + u32::from(segment.flags & flag::FIN != 0)
}

/// Options of a SYN, and the window scale among them.
fn syn_options(dice: &mut Dice) -> (Vec<u8>, u8) {
    let mut options = vec![2, 4, 5, 180];
    let mut scale = 0;
    if !dice.one_in(3) {
        scale = dice.choose(&[0, 2, 7, 14, 15]);
        options.extend([1, 3, 3, scale]);
    }
    if !dice.one_in(3) {
        options.extend([1, 1, 4, 2]);
    }
    if dice.one_in(3) {
        options.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]);
    }
    if dice.one_in(20) {
        // An option whose length runs beyond the header, or is too small.
        options.extend([254, dice.choose(&[0, 1, 40]), 0, 0]);
    }
    (options, scale.min(14))
}

/// SACK blocks, behind two NOPs.
fn sack_option(blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut options = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
    for (left, right) in blocks {
        options.extend(left.to_be_bytes());
        options.extend(right.to_be_bytes());
    }
    options
}

/// States in which a connection can be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    None,
    SynSent,
    SynRecv,
    Established,
    Assured,
    PickedUp,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
}

const STATES: [State; 12] = [
    State::None,
    State::SynSent,
    State::SynRecv,
    State::Established,
    State::Assured,
    State::PickedUp,
    State::FinWait,
    State::CloseWait,
    State::LastAck,
    State::TimeWait,
    State::Close,
    State::SynSent2,
];

/// The shortest way into a state. `closer` is who closes first.
fn reach(talk: &mut Talk, state: State, closer: Side) {
    use State as S;
    let (client, server) = (Side::Client, Side::Server);
    match state {
        S::None => {}
        S::SynSent => talk.say(client, SYN, 0),
        S::SynRecv => {
            talk.say(client, SYN, 0);
            talk.say(server, SYN_ACK, 0);
        }
        S::Established => {
            reach(talk, S::SynRecv, closer);
            talk.say(client, ACK, 0);
        }
        S::Assured => {
            reach(talk, S::Established, closer);
            talk.say(client, ACK | flag::PSH, 100);
            talk.say(server, ACK | flag::PSH, 300);
            talk.say(client, ACK, 0);
        }
        S::PickedUp => {
            talk.say(client, ACK, 10);
            talk.say(server, ACK, 20);
            talk.say(client, ACK, 0);
        }
        S::FinWait => {
            reach(talk, S::Assured, closer);
            talk.say(closer, FIN, 0);
        }
        S::CloseWait => {
            reach(talk, S::FinWait, closer);
            talk.say(closer.other(), ACK, 0);
        }
        S::LastAck => {
            reach(talk, S::CloseWait, closer);
            talk.say(closer.other(), FIN, 0);
        }
        S::TimeWait => {
            reach(talk, S::LastAck, closer);
            talk.say(closer, ACK, 0);
        }
        S::Close => {
            reach(talk, S::Assured, closer);
            talk.say(closer, RST_ACK, 0);
        }
        S::SynSent2 => {
            talk.say(client, SYN, 0);
            talk.say(server, SYN, 0);
        }
    }
}

/// Where a sequence or acknowledgement number of a probe lies.
#[derive(Clone, Copy, Debug)]
enum Number {
    /// So far from what would be right.
    Off(i32),
    /// So far from the upper edge of what the other side lets pass.
    Edge(i32),
    /// So far from the lower edge.
    Floor(i32),
    /// This very number.
    Plain(u32),
}

/// How far behind an acknowledgement may be, at the least (`MAXACKWINCONST`,
/// `nf_conntrack_proto_tcp.c`, Linux 6.12).
const ACK_WINDOW: u32 = 66_000;

const NUMBERS: [Number; 16] = [
    Number::Off(0),
    Number::Off(1),
    Number::Off(-1),
    Number::Off(2),
    Number::Off(-2),
    Number::Off(100),
    Number::Off(-100),
    Number::Off(1_000_000_000),
    Number::Off(-1_000_000_000),
    Number::Edge(0),
    Number::Edge(1),
    Number::Edge(-1),
    Number::Floor(0),
    Number::Floor(1),
    Number::Floor(-1),
    Number::Plain(0),
];

impl Number {
    /// The place of an acknowledgement, which may be further behind than a window.
    fn acknowledged(self, right: u32, width: u32) -> u32 {
        match self {
            Self::Floor(_) => self.place(right, width.max(ACK_WINDOW)),
            _ => self.place(right, width),
        }
    }

    /// `width` is the window in which the number moves.
    const fn place(self, right: u32, width: u32) -> u32 {
        match self {
            Self::Off(by) => right.wrapping_add_signed(by),
            Self::Edge(by) => right.wrapping_add(width).wrapping_add_signed(by),
            Self::Floor(by) => right.wrapping_sub(width).wrapping_add_signed(by),
            Self::Plain(number) => number,
        }
    }
}

const KINDS: [u8; 8] = [SYN, SYN_ACK, FIN, ACK, RST, RST_ACK, 0, SYN | flag::URG];
/// What no stack sends, and what the trackers overlook.
const ODD: [u8; 12] = [
    flag::FIN,
    SYN | flag::FIN,
    SYN | RST,
    flag::PSH,
    flag::URG,
    0xff,
    FIN | flag::URG,
    ACK | flag::URG,
    ACK | flag::ECE | flag::CWR,
    SYN | flag::ECE | flag::CWR,
    SYN_ACK | flag::PSH,
    RST | flag::FIN,
];

/// How many probes [`probe`] knows.
pub(super) const PROBES: u64 =
    (STATES.len() * 2 * KINDS.len() * NUMBERS.len() * NUMBERS.len()) as u64;

/// A connection in some state meets a segment of some kind; then its life goes on.
///
/// The lowest [`PROBES`] numbers are all different.
pub(super) fn probe(number: u64, dice: &mut Dice) -> (String, Vec<Step>) {
    let mut rest = number as usize % PROBES as usize;
    let mut take = |choices: usize| {
        let chosen = rest % choices;
        rest /= choices;
        chosen
    };
    let (state, from) = (STATES[take(STATES.len())], SIDES[take(2)]);
    let kind = KINDS[take(KINDS.len())];
    let (sequence, acknowledgement) = (NUMBERS[take(NUMBERS.len())], NUMBERS[take(NUMBERS.len())]);
    let mut talk = Talk::new(dice);
    reach(&mut talk, state, dice.choose(&SIDES));
    let mut segment = talk.segment(from, kind, 0);
    segment.payload = if kind & (SYN | RST) == 0 { dice.choose(&[0, 0, 1, 50]) } else { 0 };
    segment.sequence = sequence.place(segment.sequence, window(&talk, from.other()));
    if kind & flag::ACK != 0 {
        let right = segment.acknowledgement;
        segment.acknowledgement = acknowledgement.acknowledged(right, window(&talk, from));
    }
    talk.push(from, segment);
    live_on(&mut talk, dice);
    let name =
        format!("tcp {state:?} meets {kind:#04x} of {from:?}, {sequence:?}/{acknowledgement:?}");
    (name, talk.steps)
}

fn window(talk: &Talk, side: Side) -> u32 {
    let end = &talk.ends[side as usize];
    u32::from(end.window) << end.scale
}

/// What two stacks may do next.
fn live_on(talk: &mut Talk, dice: &mut Dice) {
    let (client, server) = (Side::Client, Side::Server);
    match dice.within(0..=4) {
        0 => {
            talk.say(server, ACK, 0);
            talk.say(client, ACK, 10);
            talk.say(server, ACK, 0);
        }
        1 => {
            talk.restart(dice);
            reach(talk, State::Assured, client);
        }
        2 => {
            // The challenge ACK that answers a SYN out of the blue.
            talk.say(server, ACK, 0);
            let reset = talk.segment(client, RST, 0);
            talk.push(client, reset);
            reach(talk, State::Established, client);
        }
        3 => {
            talk.say(client, FIN, 0);
            talk.say(server, FIN, 0);
            talk.say(client, ACK, 0);
        }
        _ => {
            talk.say(server, SYN_ACK, 0);
            talk.say(client, ACK, 0);
            talk.say(server, RST_ACK, 0);
        }
    }
}

/// A session as stacks lead it, with what networks do to it.
pub(super) fn session(dice: &mut Dice, timed: bool) -> Vec<Step> {
    let mut talk = Talk::new(dice);
    let (client, server) = (Side::Client, Side::Server);
    if timed && dice.one_in(3) {
        // Nobody answers for a while.
        for slots in [1, 1] {
            let syn = talk.segment(client, SYN, 0);
            talk.push(client, syn);
            talk.pause(slots);
        }
    }
    open(&mut talk, dice);
    for _ in 0..dice.within(0..=8) {
        if timed && dice.one_in(3) {
            talk.pause(dice.choose(&[1, 1, 2, 3]));
        }
        transfer(&mut talk, dice);
    }
    if timed && dice.one_in(3) {
        talk.pause(1);
    }
    close(&mut talk, dice);
    if timed && dice.one_in(2) {
        talk.pause(dice.choose(&[1, 2, 4]));
    }
    if dice.one_in(3) {
        talk.restart(dice);
        open(&mut talk, dice);
        talk.say(client, ACK | flag::PSH, 20);
        talk.say(server, ACK, 0);
    }
    talk.steps
}

fn open(talk: &mut Talk, dice: &mut Dice) {
    let (client, server) = (Side::Client, Side::Server);
    match dice.within(0..=9) {
        0 => {
            // Simultaneous.
            talk.say(client, SYN, 0);
            talk.say(server, SYN, 0);
            for side in SIDES {
                let mut both = talk.segment(side, SYN_ACK, 0);
                both.sequence = both.sequence.wrapping_sub(1);
                talk.push(side, both);
            }
        }
        1 => reach(talk, State::PickedUp, client),
        2 => {
            // The SYN is repeated, the answer too.
            let syn = talk.segment(client, SYN, 0);
            talk.push(client, syn.clone());
            talk.push(client, syn);
            talk.say(client, SYN, 0);
            let answer = talk.segment(server, SYN_ACK, 0);
            talk.push(server, answer);
            talk.say(server, SYN_ACK, 0);
            talk.say(client, ACK, 0);
        }
        3 => {
            // Fast open.
            talk.say(client, SYN, 30);
            talk.say(server, SYN_ACK, 0);
            talk.say(client, ACK, 0);
        }
        4 => {
            // Refused.
            talk.say(client, SYN, 0);
            talk.say(server, RST_ACK, 0);
        }
        5 => {
            // The first answer acknowledges something else; the reset that follows, then anew.
            talk.say(client, SYN, 0);
            let mut stray = talk.segment(server, ACK, 0);
            stray.acknowledgement = stray.acknowledgement.wrapping_sub(5000);
            stray.sequence = dice.bits() as u32;
            let back =
                Segment { flags: RST, sequence: stray.acknowledgement, ..Segment::default() };
            talk.push(server, stray);
            talk.push(client, back);
            talk.ends[0].next = talk.ends[0].next.wrapping_sub(1);
            reach(talk, State::Established, client);
        }
        _ => reach(talk, State::Established, client),
    }
}

fn transfer(talk: &mut Talk, dice: &mut Dice) {
    let from = dice.choose(&SIDES);
    let other = from.other();
    let payload = dice.choose(&[1, 10, 536, 1460]);
    match dice.within(0..=11) {
        0 => {
            // Retransmitted, whole and in part.
            let segment = talk.segment(from, ACK, payload);
            talk.say(from, ACK, payload);
            talk.push(from, segment.clone());
            talk.push(from, Segment { payload: payload / 2, ..segment.clone() });
            talk.push(from, Segment { payload: payload + 7, ..segment });
            let end = &mut talk.ends[from as usize];
            end.next = end.next.wrapping_add(7);
        }
        1 => {
            // One is lost; what follows is acknowledged selectively.
            let lost = talk.segment(from, ACK, payload);
            let end = &mut talk.ends[from as usize];
            end.next = end.next.wrapping_add(payload.into());
            let left = end.next;
            talk.say(from, ACK, payload);
            let right = talk.ends[from as usize].next;
            let mut partial = talk.segment(other, ACK, 0);
            partial.acknowledgement = lost.sequence;
            partial.options = sack_option(&[(left, right)]);
            talk.push(other, partial);
            talk.push(from, lost);
        }
        2 => {
            // The same acknowledgement again and again, as after a loss.
            for _ in 0..dice.within(2..=5) {
                let same = talk.segment(from, ACK, 0);
                talk.push(from, same);
            }
        }
        3 => {
            // No room, then room again.
            let window = std::mem::replace(&mut talk.ends[other as usize].window, 0);
            talk.say(other, ACK, 0);
            let mut keep = talk.segment(from, ACK, 1);
            keep.sequence = keep.sequence.wrapping_sub(1);
            talk.push(from, keep);
            talk.say(other, ACK, 0);
            talk.ends[other as usize].window = window;
        }
        4 => {
            // Beyond what the other side has room for.
            let mut far = talk.segment(from, ACK, payload);
            let edge = dice.choose(&[-2, -1, 0, 1, 2, 70_000]);
            far.sequence = Number::Edge(edge).place(far.sequence, window(talk, other));
            talk.push(from, far);
        }
        5 => {
            // Long since acknowledged.
            let mut old = talk.segment(from, ACK, payload);
            old.sequence = old.sequence.wrapping_sub(dice.choose(&[70_000, 66_001, 1, 140_000]));
            talk.push(from, old);
        }
        6 => {
            // Acknowledges what was never said, or hardly anything.
            let mut wrong = talk.segment(from, ACK, payload);
            let by = dice.choose(&[1, 2, 1000, -66_000, -66_001, -65_999, -140_000]);
            wrong.acknowledgement = wrong.acknowledgement.wrapping_add_signed(by);
            talk.push(from, wrong);
        }
        7 => {
            // A SYN out of the blue, and the challenge to it.
            let mut syn = talk.segment(from, SYN, 0);
            syn.sequence = dice.choose(&[syn.sequence, dice.clone().bits() as u32]);
            talk.push(from, syn);
            talk.say(other, ACK, 0);
        }
        8 => {
            talk.say(from, ACK, payload);
            talk.say(from, ACK | flag::PSH | flag::URG, payload);
        }
        _ => {
            talk.say(from, ACK | flag::PSH, payload);
            talk.say(other, ACK, 0);
        }
    }
}

fn close(talk: &mut Talk, dice: &mut Dice) {
    let closer = dice.choose(&SIDES);
    let other = closer.other();
    match dice.within(0..=7) {
        7 => {
            // The last FIN is not acknowledged; the client begins anew and is challenged.
            talk.say(closer, FIN, 0);
            talk.say(other, FIN, 0);
            let mut syn = talk.segment(Side::Client, SYN, 0);
            syn.sequence = syn.sequence.wrapping_add(dice.within(1..=100_000));
            talk.push(Side::Client, syn.clone());
            talk.say(Side::Server, ACK, 0);
            let mut reset = talk.segment(Side::Client, RST, 0);
            reset.sequence = talk.ends[0].next;
            talk.push(Side::Client, reset);
            talk.push(Side::Client, syn);
        }
        0 => {
            // Half of it stays open for a while.
            talk.say(closer, FIN, 0);
            talk.say(other, ACK, 100);
            talk.say(closer, ACK, 0);
            talk.say(other, FIN, 10);
            talk.say(closer, ACK, 0);
        }
        1 => {
            // Both at once.
            let mut fin = talk.segment(other, FIN, 0);
            talk.say(closer, FIN, 0);
            fin.acknowledgement = fin.acknowledgement.wrapping_sub(0);
            talk.push(other, fin);
            talk.ends[other as usize].next = talk.ends[other as usize].next.wrapping_add(1);
            talk.say(closer, ACK, 0);
            talk.say(other, ACK, 0);
        }
        2 | 3 => reset(talk, dice, closer),
        _ => {
            talk.say(closer, FIN, 0);
            talk.say(other, ACK, 0);
            talk.say(other, FIN, 0);
            if dice.one_in(3) {
                let again = talk.segment(closer, FIN, 0);
                let sequence = again.sequence.wrapping_sub(1);
                talk.push(closer, Segment { sequence, ..again });
            }
            talk.say(closer, ACK, 0);
        }
    }
}

/// Resets of every kind: right, within the window, old, of sequence 0, with and without ACK.
fn reset(talk: &mut Talk, dice: &mut Dice, from: Side) {
    let flags = dice.choose(&[RST, RST_ACK]);
    let mut segment = talk.segment(from, flags, 0);
    match dice.within(0..=6) {
        0 => segment.sequence = segment.sequence.wrapping_add(dice.within(1..=400)),
        1 => segment.sequence = segment.sequence.wrapping_sub(dice.within(1..=2000)),
        2 => segment.sequence = 0,
        3 => segment.acknowledgement = 0,
        4 => {
            let step = dice.choose(&[-1, 0, 1]);
            segment.sequence =
                Number::Edge(step).place(segment.sequence, window(talk, from.other()));
        }
        _ => {}
    }
    talk.push(from, segment);
    // The other side goes on for a while, or answers the reset with a challenge.
    if dice.one_in(2) {
        talk.say(from.other(), ACK, 0);
        let exact = talk.segment(from, RST, 0);
        talk.push(from, exact);
    }
}

/// From some state on, anything.
pub(super) fn walk(dice: &mut Dice, timed: bool) -> Vec<Step> {
    let mut talk = Talk::new(dice);
    let (state, closer) = (dice.choose(&STATES), dice.choose(&SIDES));
    reach(&mut talk, state, closer);
    for _ in 0..dice.within(2..=14) {
        if timed && dice.one_in(4) {
            talk.pause(dice.choose(&[1, 1, 2, 3]));
        }
        stumble(&mut talk, dice);
    }
    talk.steps
}

fn stumble(talk: &mut Talk, dice: &mut Dice) {
    let from = dice.choose(&SIDES);
    let flags = match dice.within(0..=9) {
        0 => dice.choose(&ODD),
        1..=3 => ACK,
        _ => dice.choose(&KINDS),
    };
    let payload = if dice.one_in(2) { 0 } else { dice.choose(&[1, 50, 1400]) };
    if dice.one_in(2) {
        talk.say(from, flags, payload);
        return;
    }
    let mut segment = talk.segment(from, flags, payload);
    let (sequence, acknowledgement) = (near(dice), near(dice));
    segment.sequence = sequence.place(segment.sequence, window(talk, from.other()));
    let right = talk.ends[from.other() as usize].next;
    segment.acknowledgement = acknowledgement.acknowledged(right, window(talk, from));
    segment.window = dice.choose(&[segment.window, segment.window, 0, 1, 65_535]);
    if flags & SYN == 0 && dice.one_in(4) {
        let edge = segment.acknowledgement.wrapping_add(dice.within(0..=300));
        segment.options = sack_option(&[(edge, edge.wrapping_add(dice.within(0..=100)))]);
    }
    if dice.one_in(3) {
        // From now on it says what it has said now.
        talk.ends[from as usize].next = segment.sequence.wrapping_add(length(&segment));
    }
    talk.push(from, segment);
}

fn near(dice: &mut Dice) -> Number {
    if dice.one_in(2) {
        return Number::Off(0);
    }
    match dice.within(0..=2) {
        0 => dice.choose(&NUMBERS),
        1 => Number::Off(dice.within(0..=400).cast_signed() - 200),
        _ => Number::Edge(dice.within(0..=6).cast_signed() - 3),
    }
}
