//! A campaign: themes of sequences played on the kernel and replayed with the engine. What they
//! disagree about is played again alone, then made as small as it can be.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ctkeeper_differential::campaign::{Theme, themes, themes_with_listeners};
use ctkeeper_differential::dice::Dice;
use ctkeeper_differential::replay::{Manner, Report, replay};
use ctkeeper_differential::sequence::Sequence;
use ctkeeper_differential::shrink::shrink;
use ctkeeper_differential::transcript::Transcript;
use ctkeeper_engine::Coverage;

use super::recorder::Detail;
use super::router::Router;

/// How much is played, and from where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sequences of all themes together.
    pub sequences: u32,
    /// Of equal plans with equal seeds the sequences are equal.
    pub seed: u64,
    /// Only themes whose name contains this.
    pub only: Option<String>,
    /// Number of the first probe of each table of states.
    pub first: u64,
    /// Whether somebody listens to the events of every theme.
    pub listens: bool,
}

/// A disagreement that has shown itself again when its sequence was played alone.
#[derive(Clone, Debug)]
pub struct Found {
    /// Name of its theme.
    pub theme: &'static str,
    /// The smallest sequence that shows it.
    pub sequence: Sequence,
    /// What kernel and engine say.
    pub text: String,
}

/// What a campaign came to.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Linux release and the engine's profile.
    pub release: String,
    /// By theme: its name, sequences, packets, entries compared, time taken.
    pub themes: Vec<(&'static str, u32, u64, u64, Duration)>,
    /// Disagreements.
    pub found: Vec<Found>,
    /// Disagreements that did not show themselves again, nor when all was played again.
    pub passing: Vec<String>,
    /// What the engine's trackers met.
    pub coverage: Coverage,
}

/// Sequences that are played together; where time matters, few enough for a slot to hold them.
const TOGETHER: usize = 400;
/// Disagreements of one theme that are looked into.
const LOOKED_INTO: usize = 8;

impl Plan {
    /// Plays it all.
    pub fn run(&self) -> anyhow::Result<Campaign> {
        let mut campaign = Campaign::default();
        let mut dice = Dice::new(self.seed);
        for theme in self.themes() {
            let mut own = dice.split();
            let wanted = |only: &String| theme.name.contains(only.as_str());
            if self.only.as_ref().is_none_or(wanted) {
                self.play(&theme, &mut own, &mut campaign)?;
            }
        }
        Ok(campaign)
    }

    /// Plays it again and again, other sequences each time, until some time has passed.
    pub fn run_for(&self, time: Duration) -> anyhow::Result<Campaign> {
        let begin = Instant::now();
        let mut whole = Campaign::default();
        let mut plan = self.clone();
        loop {
            whole.add(plan.run()?);
            if begin.elapsed() >= time {
                return Ok(whole);
            }
            plan.seed = plan.seed.wrapping_add(1);
            plan.first += u64::from(plan.sequences);
        }
    }

    fn themes(&self) -> Vec<Theme> {
        if self.listens { themes_with_listeners() } else { themes() }
    }

    /// Plays it and returns what the kernel has made of it, without asking the engine.
    pub fn record(&self) -> anyhow::Result<Vec<Transcript>> {
        let mut dice = Dice::new(self.seed);
        let mut transcripts = Vec::new();
        for theme in self.themes() {
            let count = (self.sequences * theme.share).div_ceil(100);
            let sequences = theme.sequences(count, self.first, &mut dice.split());
            let mut router = Router::create(&theme.ground)?;
            for together in sequences.chunks(TOGETHER) {
                transcripts.push(router.play(together, detail(&theme))?);
            }
        }
        Ok(transcripts)
    }

    fn play(&self, theme: &Theme, dice: &mut Dice, all: &mut Campaign) -> anyhow::Result<()> {
        let begin = Instant::now();
        let count = (self.sequences * theme.share).div_ceil(100);
        let sequences = theme.sequences(count, self.first, dice);
        let mut router = Router::create(&theme.ground)?;
        let (mut packets, mut entries, mut looked_into) = (0, 0, 0);
        for (number, together) in sequences.chunks(TOGETHER).enumerate() {
            let transcript = router.play(together, detail(theme))?;
            let turn = IN_TURN[(number + self.seed as usize) % IN_TURN.len()];
            let report = compare(&transcript, &[ALWAYS.as_slice(), &[turn]].concat())?;
            if !report.disagreements.is_empty() {
                keep(&transcript)?;
            }
            packets += report.packets;
            entries += report.entries;
            all.coverage.add(&report.coverage);
            all.release.clone_from(&transcript.release);
            for (sequence, text) in disagreements(&transcript, &report) {
                if looked_into < LOOKED_INTO {
                    looked_into += 1;
                    let sequence = match sequence {
                        None if !theme.timed => culprit(&mut router, together)?,
                        known => known,
                    };
                    all.look_into(&mut router, theme, sequence, text)?;
                }
            }
        }
        all.themes.push((theme.name, count, packets, entries, begin.elapsed()));
        Ok(())
    }
}

/// The manners of the engine that every sequence is held against.
const ALWAYS: [Manner; 2] = [Manner::BATCHES, Manner::EXACT];
/// And those that take turns.
const IN_TURN: [Manner; 3] = [Manner::FAST, Manner::RESTORED, Manner::RESTORED_EXACT];

/// Manners of the engine against the kernel; what the later ones alone disagree about is told too.
fn compare(transcript: &Transcript, others: &[Manner]) -> anyhow::Result<Report> {
    let mut all = replay(transcript, Manner::COUNTED)?;
    for &manner in others {
        for mut one in replay(transcript, manner)?.disagreements {
            if !all.disagreements.iter().any(|known| known.sequence == one.sequence) {
                one.text += &format!(" ({} only)", manner.name);
                all.disagreements.push(one);
            }
        }
    }
    Ok(all)
}

fn detail(theme: &Theme) -> Detail {
    if theme.timed { Detail::Pauses } else { Detail::Packets }
}

/// Each with its sequence, if it is about one.
fn disagreements<'a>(
    transcript: &'a Transcript,
    report: &Report,
) -> Vec<(Option<&'a Sequence>, String)> {
    let told = report.disagreements.iter().map(|one| {
        let played = one.sequence.and_then(|number| transcript.played.get(number as usize));
        (played.map(|(_, sequence)| sequence), format!("step {}: {}", one.step, one.text))
    });
    told.collect()
}

impl Campaign {
    /// Plays a sequence alone: what was a matter of chance or of a late clock shows itself not.
    fn look_into(
        &mut self,
        router: &mut Router,
        theme: &Theme,
        sequence: Option<&Sequence>,
        text: String,
    ) -> anyhow::Result<()> {
        let Some(sequence) = sequence else {
            let theme = theme.name;
            self.found.push(Found { theme, sequence: nothing(), text });
            return Ok(());
        };
        let mut broken = None;
        let mut again = |candidate: &Sequence| match alone(router, candidate) {
            Ok(text) => text,
            Err(error) => {
                broken = Some(error);
                None
            }
        };
        let Some(_) = again(sequence).or_else(|| again(sequence)) else {
            self.passing.push(format!("{}: {}: {text}", theme.name, sequence.name));
            return broken.map_or(Ok(()), Err);
        };
        let attempts = if sequence.pauses() { 12 } else { 300 };
        let small = shrink(sequence, attempts, |candidate| again(candidate).is_some());
        let text = again(&small).unwrap_or(text);
        self.found.push(Found { theme: theme.name, sequence: small, text });
        broken.map_or(Ok(()), Err)
    }
}

/// What disagrees is kept in the folder of `CTKEEPER_TRANSCRIPTS`, for `engine-replay`.
fn keep(transcript: &Transcript) -> anyhow::Result<()> {
    let Some(folder) = std::env::var_os("CTKEEPER_TRANSCRIPTS") else { return Ok(()) };
    let first = transcript.events.first().map_or(0, |event| event.at);
    let file = Path::new(&folder).join(format!("{}-{first}", std::process::id()));
    Ok(std::fs::write(file, serde_json::to_vec(transcript)?)?)
}

/// Which of several sequences it is, when kernel and engine disagree about them all.
fn culprit<'a>(
    router: &mut Router,
    together: &'a [Sequence],
) -> anyhow::Result<Option<&'a Sequence>> {
    for sequence in together {
        if alone(router, sequence)?.is_some() {
            return Ok(Some(sequence));
        }
    }
    Ok(None)
}

fn nothing() -> Sequence {
    Sequence {
        name: "all together".to_owned(),
        family: ctkeeper_flow::Family::Ipv4,
        treatment: ctkeeper_differential::sequence::Treatment::Plain,
        steps: Vec::new(),
    }
}

/// What kernel and engine disagree about when nothing else is played.
pub fn alone(router: &mut Router, sequence: &Sequence) -> anyhow::Result<Option<String>> {
    let transcript = router.play(std::slice::from_ref(sequence), Detail::Packets)?;
    let report = compare(&transcript, &[ALWAYS.as_slice(), &IN_TURN].concat())?;
    Ok(disagreements(&transcript, &report).into_iter().map(|(_, text)| text).next())
}

impl Campaign {
    /// An error that says what was disagreed about: short, for it comes last, and the end of a
    /// failed test's output is what is kept of it. The steps stand in what the campaign prints.
    pub fn verdict(&self) -> anyhow::Result<()> {
        let told = self.found.iter().take(TOLD).map(Found::brief).collect::<Vec<_>>();
        let (count, release) = (self.found.len(), &self.release);
        ensure!(told.is_empty(), "{count} disagreements on {release}:\n{}", told.join("\n"));
        Ok(())
    }
}

/// Disagreements that an error tells.
const TOLD: usize = 4;
/// How many characters of each it tells at most.
const BRIEF: usize = 1200;

impl Found {
    /// The disagreement and its case, in two lines.
    fn brief(&self) -> String {
        let cut = |text: &str| text.chars().take(BRIEF).collect::<String>();
        let Sequence { name, family, treatment, steps } = &self.sequence;
        let case = serde_json::to_string(&self.sequence).unwrap_or_default();
        let (theme, text, count) = (self.theme, cut(&self.text), steps.len());
        format!(
            "{theme}: {name} ({family}, {treatment:?}, {count} steps): {text}\n  {}",
            cut(&case)
        )
    }
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sequence { name, family, treatment, steps } = &self.sequence;
        writeln!(formatter, "{}: {name} ({family}, {treatment:?}): {}", self.theme, self.text)?;
        for (number, step) in steps.iter().enumerate() {
            writeln!(formatter, "    {number}: {step:?}")?;
        }
        let case = serde_json::to_string(&self.sequence).map_err(|_| fmt::Error)?;
        writeln!(formatter, "    as a case: {case}")
    }
}

impl Campaign {
    /// Takes another one in, theme by theme.
    pub fn add(&mut self, other: Self) {
        self.release = other.release;
        self.found.extend(other.found);
        self.passing.extend(other.passing);
        self.coverage.add(&other.coverage);
        for (name, sequences, packets, entries, taken) in other.themes {
            match self.themes.iter_mut().find(|theme| theme.0 == name) {
                None => self.themes.push((name, sequences, packets, entries, taken)),
                Some(theme) => {
                    theme.1 += sequences;
                    theme.2 += packets;
                    theme.3 += entries;
                    theme.4 += taken;
                }
            }
        }
    }

    /// All sequences, packets and entries.
    pub fn totals(&self) -> (u64, u64, u64) {
        self.themes.iter().fold((0, 0, 0), |(s, p, e), (_, sequences, packets, entries, _)| {
            (s + u64::from(*sequences), p + packets, e + entries)
        })
    }
}

impl fmt::Display for Campaign {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "Linux {}", self.release)?;
        writeln!(
            formatter,
            "  {:22} {:>9} {:>9} {:>11} {:>7}",
            "theme", "sequences", "packets", "entries", "s"
        )?;
        for (name, sequences, packets, entries, taken) in &self.themes {
            let seconds = taken.as_secs_f64();
            writeln!(
                formatter,
                "  {name:22} {sequences:9} {packets:9} {entries:11} {seconds:7.1}"
            )?;
        }
        let (sequences, packets, entries) = self.totals();
        writeln!(formatter, "  {:22} {sequences:9} {packets:9} {entries:11}", "all")?;
        writeln!(formatter, "disagreements: {}", self.found.len())?;
        for found in &self.found {
            write!(formatter, "  {found}")?;
        }
        if !self.passing.is_empty() {
            writeln!(formatter, "seen once, not again when played alone: {}", self.passing.len())?;
            for passing in &self.passing {
                writeln!(formatter, "  {passing}")?;
            }
        }
        Ok(())
    }
}
