//! Two well-behaved ends and a network that loses, delays and swaps: nothing they send is ever
//! refused.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Rounds that a segment may take to arrive, at most.
const LONGEST_WAY: usize = 4;
/// Rounds after which what is not acknowledged is sent again: nothing of it is on the way then.
const PATIENCE: usize = 2 * LONGEST_WAY + 2;
/// By then even the unluckiest network has brought both ends to their end.
const ROUNDS: usize = 5_000;

/// What a plan gives each end.
#[derive(Clone, Debug)]
struct Plan {
    first: u32,
    /// Bytes to send.
    data: u32,
    /// Bytes in one segment, at most.
    segment: u32,
    /// Bytes it takes before it has read them.
    buffer: u32,
    /// Its window scale, if it offers one.
    scale: Option<u8>,
    selective: bool,
    /// Sends a reset behind so many bytes instead of closing.
    aborts_behind: Option<u32>,
}

/// One end of a connection, as RFC 9293 has it but for congestion.
struct End {
    plan: Plan,
    options: Vec<u8>,
    opened: bool,
    /// The other end's first number, once it is known.
    peer: Option<u32>,
    /// What the other end offers; `None` until it is known.
    peer_scale: Option<u8>,
    peer_selective: bool,
    /// Offsets from the first number: acknowledged, next to be sent, and how far it may send.
    acknowledged: u32,
    next: u32,
    allowed: u32,
    /// Offset of the next expected from the other end, and pieces beyond it.
    expected: u32,
    beyond: BTreeMap<u32, u32>,
    peer_closed_at: Option<u32>,
    waited: usize,
    over: bool,
}

/// A segment on its way.
#[derive(Clone, Debug)]
struct Sent {
    from: Direction,
    numbers: [u32; 2],
    flags: u8,
    window: u16,
    data: u32,
    options: Vec<u8>,
}

impl End {
    fn new(plan: Plan) -> Self {
        let mut options = Vec::new();
        options.extend(plan.scale.into_iter().flat_map(|scale| [1, 3, 3, scale]));
        if plan.selective {
            options.extend([1, 1, 4, 2]);
        }
        Self {
            plan,
            options,
            opened: false,
            peer: None,
            peer_scale: None,
            peer_selective: false,
            acknowledged: 0,
            next: 0,
            allowed: 1,
            expected: 0,
            beyond: BTreeMap::new(),
            peer_closed_at: None,
            waited: 0,
            over: false,
        }
    }

    /// Offset behind its FIN.
    const fn last(&self) -> u32 {
        self.plan.data + 2
    }

    fn is_done(&self) -> bool {
        let heard_all = self.peer_closed_at.is_some_and(|at| self.expected > at);
        self.over || (self.acknowledged == self.last() && heard_all)
    }

    fn scales(&self) -> bool {
        self.plan.scale.is_some() && self.peer_scale.is_some()
    }

    /// What it read frees its buffer at once, and what it holds back counts from the window's
    /// lower edge anyway.
    fn window(&self, flags: u8) -> u16 {
        let scale =
            if self.scales() && flags & SYN == 0 { self.plan.scale.unwrap_or(0) } else { 0 };
        (self.plan.buffer >> scale).min(u32::from(u16::MAX)) as u16
    }

    fn segment(&self, from: Direction, flags: u8, offset: u32, data: u32) -> Sent {
        let flags = if self.peer.is_some() { flags | ACK } else { flags };
        let acknowledgement = self.peer.map_or(0, |first| first.wrapping_add(self.expected));
        Sent {
            from,
            numbers: [self.plan.first.wrapping_add(offset), acknowledgement],
            flags,
            window: self.window(flags),
            data,
            options: if flags & SYN == 0 { self.blocks() } else { self.options.clone() },
        }
    }

    /// The selective acknowledgement of up to three pieces.
    fn blocks(&self) -> Vec<u8> {
        let Some(first) = self.peer.filter(|_| self.plan.selective && self.peer_selective) else {
            return Vec::new();
        };
        let pieces: Vec<_> = self.beyond.iter().rev().take(3).collect();
        if pieces.is_empty() {
            return Vec::new();
        }
        let mut option = vec![1, 1, 5, 2 + 8 * pieces.len() as u8];
        for (&start, &length) in pieces {
            for edge in [start, start + length] {
                option.extend(first.wrapping_add(edge).to_be_bytes());
            }
        }
        option
    }

    /// What it sends of itself in one round.
    fn speak(&mut self, from: Direction) -> Vec<Sent> {
        if self.over || !self.opened {
            return Vec::new();
        }
        self.waited += 1;
        if self.waited > PATIENCE && self.next > self.acknowledged {
            self.next = self.acknowledged;
            self.waited = 0;
        }
        let mut sent = Vec::new();
        if self.next == 0 {
            sent.push(self.segment(from, SYN, 0, 0));
            self.next = 1;
        }
        while self.acknowledged > 0 && self.peer.is_some() && self.next < self.last() {
            if self.plan.aborts_behind.is_some_and(|behind| self.next > behind) {
                sent.push(self.segment(from, RST, self.next, 0));
                self.over = true;
                return sent;
            }
            let room = self.allowed.saturating_sub(self.next);
            let left = self.last() - 1 - self.next;
            if left == 0 {
                sent.push(self.segment(from, FIN, self.next, 0));
                self.next += 1;
            } else if room == 0 {
                break;
            } else {
                let length = room.min(left).min(self.plan.segment);
                sent.push(self.segment(from, 0, self.next, length));
                self.next += length;
            }
        }
        sent
    }

    /// Takes a segment, and perhaps answers it at once.
    fn hear(&mut self, me: Direction, sent: &Sent) -> Option<Sent> {
        if self.over {
            return None;
        }
        if sent.flags & RST != 0 {
            self.over = self.peer.is_some();
            return None;
        }
        if sent.flags & SYN != 0 && self.peer.is_none() {
            self.peer = Some(sent.numbers[0]);
            self.expected = 1;
            self.opened = true;
            self.peer_scale = sent.options.windows(3).find(|at| at[..2] == [3, 3]).map(|at| at[2]);
            self.peer_selective = sent.options.ends_with(&[4, 2]);
        }
        let first = self.peer?;
        self.take_acknowledgement(sent);
        let start = sent.numbers[0].wrapping_sub(first);
        let length =
            sent.data + u32::from(sent.flags & SYN != 0) + u32::from(sent.flags & FIN != 0);
        if sent.flags & FIN != 0 {
            self.peer_closed_at = Some(start + sent.data);
        }
        self.take(start, length);
        let opening = self.next == 0;
        (length > 0 && !opening).then(|| self.segment(me, 0, self.next, 0))
    }

    fn take_acknowledgement(&mut self, sent: &Sent) {
        if sent.flags & ACK == 0 {
            return;
        }
        let acknowledged = sent.numbers[1].wrapping_sub(self.plan.first);
        let scale = if self.scales() && sent.flags & SYN == 0 { self.peer_scale } else { None };
        let window = u32::from(sent.window) << scale.unwrap_or(0);
        self.allowed = self.allowed.max(acknowledged + window);
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            self.next = self.next.max(acknowledged);
            self.waited = 0;
        }
    }

    fn take(&mut self, start: u32, length: u32) {
        if length > 0 && start + length > self.expected {
            let longest = self.beyond.get(&start).copied().unwrap_or(0).max(length);
            self.beyond.insert(start, longest);
        }
        while let Some((&start, &length)) = self.beyond.first_key_value() {
            if start > self.expected {
                break;
            }
            self.beyond.pop_first();
            self.expected = self.expected.max(start + length);
        }
    }
}

/// What the network does to a segment: rounds before the tracker, rounds behind it; `None` where
/// it is lost.
type Fate = [Option<usize>; 2];

/// Both ends, the tracker between them, and what is on the way.
struct Network {
    ends: [End; 2],
    scene: Scene,
    /// Segments before and behind the tracker by the round of their arrival.
    before: Vec<(usize, Sent)>,
    behind: Vec<(usize, Sent)>,
    fates: Vec<Fate>,
    sent: usize,
}

impl Network {
    fn new(plans: [Plan; 2], fates: Vec<Fate>) -> Self {
        let mut ends = plans.map(End::new);
        ends[0].opened = true;
        let (before, behind) = (Vec::new(), Vec::new());
        Self { ends, scene: Scene::default(), before, behind, fates, sent: 0 }
    }

    /// Runs until both ends are done; whether they came that far.
    fn run(&mut self) -> Result<bool, String> {
        for round in 0..ROUNDS {
            for from in [Original, Reply] {
                let sent = self.ends[from as usize].speak(from);
                for sent in sent {
                    self.send(round, sent);
                }
            }
            for sent in arrived(&mut self.before, round) {
                self.pass(round, sent)?;
            }
            for sent in arrived(&mut self.behind, round) {
                let to = if sent.from == Original { Reply } else { Original };
                let answer = self.ends[to as usize].hear(to, &sent);
                if let Some(answer) = answer {
                    self.send(round, answer);
                }
            }
            let on_the_way = !(self.before.is_empty() && self.behind.is_empty());
            if self.ends.iter().all(End::is_done) && !on_the_way {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fate(&self, half: usize) -> Option<usize> {
        self.fates[self.sent % self.fates.len()][half]
    }

    fn send(&mut self, round: usize, sent: Sent) {
        self.sent += 1;
        if let Some(rounds) = self.fate(0) {
            self.before.push((round + rounds, sent));
        }
    }

    /// The tracker sees a segment.
    fn pass(&mut self, round: usize, sent: Sent) -> Result<(), String> {
        let Sent { from, numbers, flags, window, data, ref options } = sent;
        let judgement = self.scene.send(from, Segment { numbers, flags, window, data, options });
        if let Judgement::Invalid(_) = judgement {
            return Err(format!("{judgement:?} of {sent:?} with {:#?}", self.scene.window));
        }
        if let Some(rounds) = self.fate(1) {
            self.behind.push((round + rounds, sent));
        }
        Ok(())
    }
}

fn arrived(way: &mut Vec<(usize, Sent)>, round: usize) -> Vec<Sent> {
    way.extract_if(.., |(at, _)| *at <= round).map(|(_, sent)| sent).collect()
}

fn arbitrary_plan() -> impl Strategy<Value = Plan> {
    let sizes = (0..60_000_u32, 1..3_000_u32, 1..200_000_u32);
    let offers = (prop::option::of(0..=14_u8), any::<bool>());
    let aborts = prop::option::weighted(0.2, 0..60_000_u32);
    (any::<u32>(), sizes, offers, aborts).prop_map(
        |(first, (data, segment, buffer), (scale, selective), aborts_behind)| {
            let segment = segment.max(data / 60).max(1);
            let buffer = buffer.max(segment);
            Plan { first, data, segment, buffer, scale, selective, aborts_behind }
        },
    )
}

fn arbitrary_fates() -> impl Strategy<Value = Vec<Fate>> {
    let half = prop::option::weighted(0.85, 0..LONGEST_WAY);
    prop::collection::vec([half.clone(), half], 20..200).prop_map(|mut fates| {
        fates.push([Some(0); 2]);
        fates
    })
}

proptest! {
    #[test]
    fn nothing_that_well_behaved_ends_send_is_refused(
        plans in [arbitrary_plan(), arbitrary_plan()],
        fates in arbitrary_fates(),
    ) {
        let mut network = Network::new(plans, fates);
        let finished = network.run();
        prop_assert!(finished.is_ok(), "{}", finished.unwrap_err());
    }
}

#[test]
fn the_ends_do_come_to_their_end() {
    let plan = |first, data| Plan {
        first,
        data,
        segment: 1000,
        buffer: 10_000,
        scale: Some(2),
        selective: true,
        aborts_behind: None,
    };
    let steady = vec![[Some(1), Some(1)]];
    let lossy = vec![[Some(0), Some(3)], [None, Some(0)], [Some(2), None], [Some(1), Some(0)]];
    for fates in [steady, lossy] {
        let mut network = Network::new([plan(u32::MAX - 5000, 50_000), plan(7, 20_000)], fates);
        assert_eq!(network.run(), Ok(true));
        assert_eq!(network.scene.state(), TcpState::TimeWait);
        assert!(network.scene.is_assured());
    }
}
