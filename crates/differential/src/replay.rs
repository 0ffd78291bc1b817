//! A transcript gone through again by the engine, and where the two disagree.

use std::collections::{BTreeMap, BTreeSet};

use ctkeeper_engine::helper::Ftp;
use ctkeeper_engine::rules::Rules;
use ctkeeper_engine::{Config, Coverage, Engine, Mode, OutOfMemory, Packet, Route, Time, Verdict};
use ctkeeper_flow::{Expectation, Statistic, Statistics, Tuple};

use crate::addresses::Place;
use crate::compare::{self, Key};
use crate::foretold;
use crate::ground::{engine_rules, interface};
use crate::transcript::{Sent, Transcript, What};
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

/// Goes through a transcript with a fresh engine, which counts what its trackers meet or not:
/// one that counts sends no packet the short way.
///
/// # Errors
/// No memory for the engine.
pub fn replay(transcript: &Transcript, mode: Mode, counts: bool) -> Result<Report, OutOfMemory> {
    let mut replay = Replay::new(transcript, mode, counts)?;
    for event in &transcript.events {
        let now = Time(event.at);
        match &event.what {
            What::Packet(sent) => replay.packet(now, sent),
            What::Settings(settings) => replay.set(settings.as_ref().clone()),
            What::Table(flows) => replay.table(now, flows),
            What::Expectations(expectations) => replay.expectations(now, expectations),
            What::Statistics(statistics) => replay.statistics(statistics),
        }
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

struct Replay {
    engine: Engine,
    rules: Rules,
    places: BTreeMap<Place, u32>,
    /// Steps that each sequence has played.
    steps: Vec<u32>,
    /// Sequences about which there is disagreement; what follows from it is not told.
    lost: BTreeSet<u32>,
    report: Report,
}

impl Replay {
    fn new(transcript: &Transcript, mode: Mode, counts: bool) -> Result<Self, OutOfMemory> {
        let config = Config {
            mode,
            profile: transcript.profile,
            // Small: there are many replays, and exact mode has this many chains.
            limit: 32_768,
            buckets: 32_768,
            coverage: counts,
            events: transcript.listens,
            ..Config::default()
        };
        let mut engine = Engine::new(config)?;
        engine.add_helper(Box::new(Ftp::default()));
        engine.add_namespace(transcript.settings.clone());
        let places = transcript.played.iter().map(|(place, _)| *place).zip(0..).collect();
        Ok(Self {
            engine,
            rules: engine_rules(&transcript.treatments),
            places,
            steps: vec![0; transcript.played.len()],
            lost: BTreeSet::new(),
            report: Report::default(),
        })
    }

    fn packet(&mut self, now: Time, sent: &Sent) {
        self.report.packets += 1;
        if let Some(step) = self.steps.get_mut(sent.sequence as usize) {
            *step = sent.step;
        }
        let route = route_of(sent);
        let packet = Packet {
            bytes: &sent.datagram,
            namespace: 0,
            route,
            input: if route == Route::Output { 0 } else { interface(sent.from) },
            output: if route == Route::Input { 0 } else { leaves_by(sent) },
            mark: 0,
            checksum_verified: false,
        };
        self.engine.foretell(foretold::offset(sent));
        let outcome = self.engine.packet(now, &packet, &mut self.rules);
        let mut goes_on = packet.bytes.to_vec();
        let whole = self.engine.translate(&outcome, &mut goes_on).is_ok();
        let packet = whole.then_some(goes_on.as_slice());
        let told = compare::Told { outcome: &outcome, packet };
        if let Err(text) = Self::compare(sent, told) {
            self.disagree(Some(sent.sequence), text);
        }
        if let Err(text) = compare::events(&sent.heard, &self.engine.events()) {
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
