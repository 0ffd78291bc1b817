//! A transcript gone through again by the engine, and where the two disagree.

use std::collections::{BTreeMap, BTreeSet};

use ctkeeper_engine::helper::Ftp;
use ctkeeper_engine::rules::Rules;
use ctkeeper_engine::{
    Config, Coverage, Engine, Mode, OutOfMemory, Outcome, Packet, Route, Time, Verdict,
};
use ctkeeper_flow::{Expectation, Statistic, Statistics, Tuple};

use crate::addresses::Place;
use crate::compare::{self, Key};
use crate::events::{Ledger, Order};
use crate::foretold;
use crate::ground::{engine_rules, interface};
use crate::transcript::{Event, Sent, Transcript, What};
use crate::wire;

/// Where kernel and engine disagree for the first time about a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Place of the sequence in [`Transcript::played`]; none for what concerns them all.
    pub sequence: Option<u32>,
    /// The step that had been played last.
    pub step: u32,
    /// What each says.
    pub text: String,
}

/// How a replay went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first disagreement about each sequence.
    pub disagreements: Vec<Disagreement>,
    /// Packets that were compared.
    pub packets: u64,
    /// Tables that were compared.
    pub tables: u64,
    /// Entries of all of them.
    pub entries: u64,
    /// What the engine's trackers met.
    pub coverage: Coverage,
}

/// How a replay is done.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// What it is, for reports.
    pub name: &'static str,
    /// The engine's mode.
    pub mode: Mode,
    /// Whether the engine counts what its trackers meet: one that does sends no packet the short
    /// way.
    pub counts: bool,
    /// Whether the engine is put away as an image before each table, and restored.
    pub restores: bool,
    /// How many packets the engine is given at once.
    pub at_once: usize,
}

impl Manner {
    /// The long way, counted.
    pub const COUNTED: Self =
        Self { name: "counted", mode: Mode::Fast, counts: true, restores: false, at_once: 1 };
    /// The way that is meant to be gone.
    pub const FAST: Self = Self { name: "the short way", counts: false, ..Self::COUNTED };
    /// That way, several packets at once.
    pub const BATCHES: Self = Self { name: "batches", at_once: 50, ..Self::FAST };
    /// With the kernel's own order.
    pub const EXACT: Self = Self { name: "exact mode", mode: Mode::Exact, ..Self::FAST };
    /// Put away and restored.
    pub const RESTORED: Self = Self { name: "images", restores: true, ..Self::FAST };
    /// The same in the other mode.
    pub const RESTORED_EXACT: Self =
        Self { name: "exact images", mode: Mode::Exact, ..Self::RESTORED };
}

/// Goes through a transcript with a fresh engine.
///
/// # Errors
/// No memory for the engine.
pub fn replay(transcript: &Transcript, manner: Manner) -> Result<Report, OutOfMemory> {
    let mut replay = Replay::new(transcript, manner)?;
    for events in transcript.events.chunk_by(Event::are_packets) {
        for event in events {
            replay.event(event);
        }
        replay.work_off();
    }
    if let Some(coverage) = replay.engine.coverage() {
        replay.report.coverage = coverage.clone();
    }
    Ok(replay.report)
}

/// What counts packets that went wrong.
const COMPARED: [Statistic; 6] = [
    Statistic::Invalid,
    Statistic::Drop,
    Statistic::InsertFailed,
    Statistic::ClashResolve,
    Statistic::EarlyDrop,
    Statistic::Error,
];

/// The interface that a packet leaves by: where it came out, or would have.
fn leaves_by(sent: &Sent) -> u32 {
    interface(sent.out.first().map_or_else(|| sent.from.other(), |out| out.side))
}

/// The way of a packet. One to an address of the router's own goes on all the same if that address
/// stands for a client's; what did not come out has arrived.
fn route_of(sent: &Sent) -> Route {
    let seen = wire::read(&sent.datagram);
    let arrives = sent.out.is_empty() && seen.is_some_and(|seen| compare::is_routers(&seen));
    if arrives && sent.route == Route::Forward { Route::Input } else { sent.route }
}

fn packet_of(sent: &Sent) -> Packet<'_> {
    let route = route_of(sent);
    Packet {
        bytes: &sent.datagram,
        namespace: 0,
        route,
        input: if route == Route::Output { 0 } else { interface(sent.from) },
        output: if route == Route::Input { 0 } else { leaves_by(sent) },
        mark: 0,
        checksum_verified: false,
    }
}

struct Replay<'a> {
    engine: Engine,
    restores: bool,
    /// How many packets the engine is given at once.
    at_once: usize,
    waiting: Vec<(Time, &'a Sent)>,
    ledger: Ledger<'a>,
    /// How events come of packets.
    order: Order,
    rules: Rules,
    places: BTreeMap<Place, u32>,
    /// Steps that each sequence has played.
    steps: Vec<u32>,
    /// Sequences about which there is disagreement; what follows from it is not told.
    lost: BTreeSet<u32>,
    report: Report,
}

impl<'a> Replay<'a> {
    fn new(transcript: &Transcript, manner: Manner) -> Result<Self, OutOfMemory> {
        let config = Config {
            mode: manner.mode,
            profile: transcript.profile,
            // Small: there are many replays, and exact mode has this many chains.
            limit: 32_768,
            buckets: 32_768,
            coverage: manner.counts,
            events: transcript.listens,
            ..Config::default()
        };
        // What was drawn can be foretold of one packet at a time.
        let translates = transcript.treatments.iter().any(|treatment| treatment.translates());
        let pauses = transcript.played.iter().any(|(_, sequence)| sequence.pauses());
        let mut engine = Engine::new(config)?;
        engine.add_helper(Box::new(Ftp::default()));
        engine.add_namespace(transcript.settings.clone());
        let places = transcript.played.iter().map(|(place, _)| *place).zip(0..).collect();
        Ok(Self {
            engine,
            restores: manner.restores,
            at_once: if translates { 1 } else { manner.at_once },
            waiting: Vec::new(),
            ledger: Ledger::default(),
            order: if pauses { Order::EachConnection } else { Order::Whole },
            rules: engine_rules(&transcript.treatments),
            places,
            steps: vec![0; transcript.played.len()],
            lost: BTreeSet::new(),
            report: Report::default(),
        })
    }

    fn event(&mut self, event: &'a Event) {
        let now = Time(event.at);
        match &event.what {
            What::Packet(sent) => {
                self.waiting.push((now, sent));
                if self.waiting.len() >= self.at_once {
                    self.work_off();
                }
            }
            What::Settings(settings) => self.set(settings.as_ref().clone()),
            What::Table(flows) => self.table(now, flows),
            What::Heard(heard) => {
                self.ledger.hear(heard);
                self.engine.end_expired(now);
                self.ledger.tell(self.engine.events());
                self.settle(Order::EachConnection, None);
            }
            What::Expectations(expectations) => self.expectations(now, expectations),
            What::Statistics(statistics) => self.statistics(statistics),
        }
    }

    /// Gives the engine the packets that have gathered.
    fn work_off(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let Some((now, first)) = waiting.first() else { return };
        let packets: Vec<_> = waiting.iter().map(|(_, sent)| packet_of(sent)).collect();
        let mut outcomes = Vec::new();
        match packets.as_slice() {
            [packet] => {
                self.engine.foretell(foretold::offset(first));
                outcomes.push(self.engine.packet(*now, packet, &mut self.rules));
            }
            packets => self.engine.batch(*now, packets, &mut self.rules, &mut outcomes),
        }
        for ((_, sent), outcome) in waiting.iter().zip(&outcomes) {
            self.outcome(sent, outcome);
        }
        self.ledger.hear(waiting.iter().flat_map(|(_, sent)| &sent.heard));
        self.ledger.tell(self.engine.events());
        // Where time passes, the kernel's collector may have come first: with the next table both
        // have ended the same.
        if self.order == Order::Whole {
            self.settle(Order::Whole, Some(first.sequence));
        }
    }

    /// Compares the events that have gathered.
    fn settle(&mut self, order: Order, sequence: Option<u32>) {
        for (flow, text) in self.ledger.settle(order) {
            match flow {
                Some(flow) => self.disagree_about(&flow, text),
                None => self.disagree(sequence, text),
            }
        }
    }

    fn outcome(&mut self, sent: &Sent, outcome: &Outcome) {
        self.report.packets += 1;
        if let Some(step) = self.steps.get_mut(sent.sequence as usize) {
            *step = sent.step;
        }
        let mut goes_on = sent.datagram.clone();
        let whole = self.engine.translate(outcome, &mut goes_on).is_ok();
        let packet = whole.then_some(goes_on.as_slice());
        if let Err(text) = Self::compare(sent, compare::Told { outcome, packet }) {
            self.disagree(Some(sent.sequence), text);
        }
    }

    fn compare(sent: &Sent, told: compare::Told<'_>) -> Result<(), String> {
        if sent.out.is_empty() && told.stays_here() {
            return Ok(());
        }
        compare::class(sent, told)?;
        if told.outcome.verdict == Verdict::Accept {
            compare::packet(sent, told)?;
        }
        Ok(())
    }

    fn set(&mut self, settings: ctkeeper_engine::Settings) {
        if let Some(current) = self.engine.settings_mut(0) {
            *current = settings;
        }
    }

    fn table(&mut self, now: Time, kernel: &[ctkeeper_flow::Flow]) {
        self.report.tables += 1;
        if self.restores {
            self.restore();
        }
        self.report.entries += kernel.len() as u64;
        let mut ours: BTreeMap<Key, _> = BTreeMap::new();
        let mut doubled = Vec::new();
        for (_, flow) in self.engine.connections(now) {
            if let Some(double) = ours.insert(Key::of(&flow), flow) {
                doubled.push(double);
            }
        }
        for flow in doubled {
            self.disagree_about(&flow, "the engine has it twice".to_owned());
        }
        for theirs in kernel {
            match ours.remove(&Key::of(theirs)) {
                None if theirs.timeout == Some(0) => {}
                None => {
                    let text = format!("the kernel alone has {}", compare::brief(theirs));
                    self.disagree_about(theirs, text);
                }
                Some(ours) => {
                    if let Err(text) = compare::flows(theirs, &ours) {
                        self.disagree_about(theirs, text);
                    }
                }
            }
        }
        for flow in ours.into_values().filter(|flow| flow.timeout != Some(0)) {
            let text = format!("the engine alone has {}", compare::brief(&flow));
            self.disagree_about(&flow, text);
        }
    }

    fn restore(&mut self) {
        match Engine::restore(&self.engine.image()) {
            Ok(mut engine) => {
                engine.add_helper(Box::new(Ftp::default()));
                self.engine = engine;
            }
            Err(error) => self.disagree(None, format!("an image that cannot be restored: {error}")),
        }
    }

    fn expectations(&mut self, now: Time, kernel: &[Expectation]) {
        let ours: Vec<_> = self.engine.expectations(now, 0).collect();
        for (these, others, who) in
            [(kernel, ours.as_slice(), "kernel"), (ours.as_slice(), kernel, "engine")]
        {
            for one in these.iter().filter(|one| one.timeout != Some(0)) {
                let text = compare::expectation(one);
                let other = others.iter().find(|other| compare::expectation(other) == text);
                let far = |other: &Expectation| {
                    one.timeout.unwrap_or(0).abs_diff(other.timeout.unwrap_or(0)) > 1
                };
                if other.is_none_or(far) {
                    let timeout = one.timeout;
                    let text = format!("the {who} alone expects {text}, {timeout:?} s");
                    self.disagree_on(&one.master, text);
                }
            }
        }
    }

    fn statistics(&mut self, kernel: &Statistics) {
        if !self.lost.is_empty() {
            return;
        }
        let ours = self.engine.statistics(0);
        for statistic in COMPARED {
            // The error counter was taken out of newer kernels.
            let Some(theirs) = kernel.get(statistic) else { continue };
            let ours = ours.value(statistic);
            if theirs != ours {
                let name = statistic.name();
                self.disagree(None, format!("statistic {name}: kernel {theirs}, engine {ours}"));
            }
        }
    }

    fn disagree_on(&mut self, tuple: &Tuple, text: String) {
        let place = Place::of_tuple(tuple);
        let sequence = place.and_then(|place| self.places.get(&place).copied());
        self.disagree(sequence, text);
    }

    fn disagree_about(&mut self, flow: &ctkeeper_flow::Flow, text: String) {
        let place = Place::of_tuple(&flow.original).or_else(|| Place::of_tuple(&flow.reply));
        let sequence = place.and_then(|place| self.places.get(&place).copied());
        self.disagree(sequence, text);
    }

    fn disagree(&mut self, sequence: Option<u32>, text: String) {
        if sequence.is_some_and(|sequence| !self.lost.insert(sequence)) {
            return;
        }
        let step = sequence.and_then(|s| self.steps.get(s as usize)).copied().unwrap_or(0);
        self.report.disagreements.push(Disagreement { sequence, step, text });
    }
}
