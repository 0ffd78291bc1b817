//! Running a scenario: phase by phase, as values.

mod act;
mod expect;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ctkeeper_flow::Statistics;

use super::figures::SCHEMA;
use super::ground::{Clashing, Ground, ensure_suitable};
use super::{
    FixSpec, JudgeSpec, Judgement, LoadFigures, NamespaceFigures, PhaseReport, PhaseSpec,
    RunReport, Scenario,
};
use crate::artefacts::{self, KernelLogMark};
use crate::namespace;
use crate::{Cleaned, HostValues, LabError, Namespace, check_interrupted, clean, pause};

/// Any error of the caller's.
pub type CallerError = Box<dyn std::error::Error + Send + Sync>;

/// What a run needs of its caller, who knows what the lab does not: doctor, fix, a screen.
pub struct Hands<'a> {
    /// Judges a namespace as `ctkeeper doctor --netns NAME --window TIME` does, or without `--netns`
    /// where the whole host is to be looked at.
    pub judge: &'a mut dyn FnMut(&Namespace, &JudgeSpec) -> Result<Judgement, CallerError>,
    /// Raises the host's limit as `ctkeeper fix --yes --no-persist` does, leaving no journal, and
    /// says what it did.
    pub fix: &'a mut dyn FnMut(FixSpec) -> Result<String, CallerError>,
    /// Hears what happens, while it happens.
    pub event: &'a mut dyn FnMut(Event<'_>),
    /// Where statistics, rules and logs are kept of a run that fails.
    pub artefacts: PathBuf,
}

impl std::fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").field("artefacts", &self.artefacts).finish_non_exhaustive()
    }
}

/// Something that happens during a run.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// What a killed run had left is gone.
    Cleaned(&'a Cleaned),
    /// Another run of the lab has the host's limit to itself; this one waits for its end.
    Waiting,
    /// Namespaces, links and programs are being made.
    Building(&'a Scenario),
    /// A phase begins; the first is 1.
    Phase {
        /// Its number.
        number: usize,
        /// How many there are.
        of: usize,
        /// What it is.
        phase: &'a PhaseSpec,
    },
    /// Something was done, in a sentence.
    Did(&'a str),
    /// doctor looks into a namespace.
    Judging(&'a JudgeSpec),
    /// doctor has spoken.
    Judged(&'a Judgement),
    /// A phase is over.
    PhaseEnded(&'a PhaseReport),
    /// The run has failed; statistics, rules and logs are in this folder. (Of a run that came to its
    /// end the report says so.)
    Kept(&'a Path),
    /// Everything is being removed and put back.
    Removing,
}

/// Runs a scenario. First it removes what killed runs left; at the end, however that comes,
/// everything it made is gone and the host's values are as they were. Expectations that are not met
/// are in the report, and do not end the run.
pub fn run(scenario: &Scenario, hands: &mut Hands<'_>) -> Result<RunReport, LabError> {
    ensure_suitable(scenario)?;
    let cleaned = clean()?;
    if !cleaned.is_nothing() {
        (hands.event)(Event::Cleaned(&cleaned));
    }
    let host = if scenario.needs_host_values() { Some(host_values(hands)?) } else { None };
    let began = Instant::now();
    let log = KernelLogMark::now();
    (hands.event)(Event::Building(scenario));
    let mut ground = Ground::build(scenario, host)?;
    let played = play(scenario, &mut ground, hands);
    let failed = played.as_ref().map_or_else(is_failure, |phases| !are_met(phases));
    let artefacts = if failed { keep(scenario, &ground, hands, log) } else { None };
    if let (Err(_), Some(folder)) = (&played, &artefacts) {
        (hands.event)(Event::Kept(folder));
    }
    (hands.event)(Event::Removing);
    let took = began.elapsed();
    let left = remove(ground);
    let phases = played?;
    Ok(RunReport {
        schema: SCHEMA,
        scenario: scenario.name.clone(),
        title: scenario.title.clone(),
        met: are_met(&phases) && left.is_empty(),
        phases,
        artefacts,
        left,
        took,
    })
}

/// Takes everything away, the host's values last; says what could not be.
fn remove(mut ground: Ground) -> Vec<String> {
    let host = ground.host.take();
    let names: Vec<_> =
        ground.namespaces.iter().map(|(_, namespace)| namespace.name().to_owned()).collect();
    drop(ground);
    let mut left: Vec<_> = namespace::names().filter(|name| names.contains(name)).collect();
    if let Some(Err(error)) = host.map(HostValues::put_back) {
        left.push(format!("the host's limit and buckets ({error})"));
    }
    left
}

fn are_met(phases: &[PhaseReport]) -> bool {
    phases.iter().all(|phase| phase.unmet.is_empty())
}

/// Who stops a run asks for no post-mortem.
fn is_failure(error: &LabError) -> bool {
    !matches!(error, LabError::Interrupted)
}

fn host_values(hands: &mut Hands<'_>) -> Result<HostValues, LabError> {
    let mut told = false;
    loop {
        if let Some(values) = HostValues::try_lock()? {
            return Ok(values);
        }
        if !std::mem::replace(&mut told, true) {
            (hands.event)(Event::Waiting);
        }
        pause(Duration::from_millis(50))?;
    }
}

/// A run is not worse for artefacts that could not be kept.
fn keep(
    scenario: &Scenario,
    ground: &Ground,
    hands: &mut Hands<'_>,
    log: KernelLogMark,
) -> Option<PathBuf> {
    let folder = artefacts::folder(&hands.artefacts, &scenario.name);
    let namespaces = ground.namespaces.iter().map(|(_, namespace)| namespace);
    let proxies = ground.proxies.values().map(|(_, proxy)| proxy);
    match artefacts::keep(&folder, namespaces, proxies, log) {
        Ok(()) => Some(folder),
        Err(error) => {
            (hands.event)(Event::Did(&format!("statistics, rules and logs are not kept: {error}")));
            None
        }
    }
}

fn play(
    scenario: &Scenario,
    ground: &mut Ground,
    hands: &mut Hands<'_>,
) -> Result<Vec<PhaseReport>, LabError> {
    let mut fillers = act::Fillers::default();
    let mut phases = Vec::new();
    for (number, phase) in scenario.phases.iter().enumerate() {
        let of = scenario.phases.len();
        (hands.event)(Event::Phase { number: number + 1, of, phase });
        let before = Before::see(ground)?;
        for action in &phase.actions {
            check_interrupted()?;
            let did = act::act(action, ground, &mut fillers, hands)?;
            (hands.event)(Event::Did(&did));
        }
        let judgements = judge(scenario, phase, ground, hands)?;
        let clashes = std::mem::take(&mut ground.clashes).into_iter().map(Clashing::finish);
        let clashes = clashes.collect::<Result<Vec<_>, _>>()?;
        let mut report = before.report(phase, ground, judgements)?;
        report.clashes = clashes;
        report.loads.append(&mut fillers.stopped);
        report.unmet = expect::unmet(phase, &report);
        (hands.event)(Event::PhaseEnded(&report));
        phases.push(report);
    }
    Ok(phases)
}

fn judge(
    scenario: &Scenario,
    phase: &PhaseSpec,
    ground: &Ground,
    hands: &mut Hands<'_>,
) -> Result<Vec<Judgement>, LabError> {
    let mut judgements = Vec::new();
    for spec in &phase.judge {
        check_interrupted()?;
        (hands.event)(Event::Judging(spec));
        let judged = (hands.judge)(ground.namespace(&spec.namespace)?, spec);
        let mut judgement = judged.map_err(caller("judge", &spec.namespace))?;
        judgement.namespace.clone_from(&spec.namespace);
        judgement.expected.clone_from(spec.finds.as_ref().unwrap_or(&scenario.finds));
        (hands.event)(Event::Judged(&judgement));
        judgements.push(judgement);
    }
    Ok(judgements)
}

fn caller(operation: &'static str, object: &str) -> impl FnOnce(CallerError) -> LabError {
    let object = object.to_owned();
    move |source| LabError::Caller { operation, object, source }
}

/// How things stood when a phase began.
struct Before {
    at: Instant,
    log: KernelLogMark,
    proxy_lines: u64,
    statistics: Vec<Vec<Statistics>>,
}

impl Before {
    fn see(ground: &Ground) -> Result<Self, LabError> {
        let statistics = ground.namespaces.iter().map(|(_, namespace)| statistics(namespace));
        for load in ground.loads.values() {
            load.mark();
        }
        Ok(Self {
            at: Instant::now(),
            log: KernelLogMark::now(),
            proxy_lines: proxy_lines(ground),
            statistics: statistics.collect::<Result<_, _>>()?,
        })
    }

    fn report(
        &self,
        phase: &PhaseSpec,
        ground: &Ground,
        judgements: Vec<Judgement>,
    ) -> Result<PhaseReport, LabError> {
        let figures = ground.namespaces.iter().zip(&self.statistics);
        let loads = ground.loads.iter();
        Ok(PhaseReport {
            title: phase.title.clone(),
            took: self.at.elapsed(),
            namespaces: figures
                .map(|((role, namespace), before)| figure(role, namespace, before))
                .collect::<Result<_, _>>()?,
            loads: loads
                .map(|(name, load)| LoadFigures { name: name.clone(), report: load.mark() })
                .collect(),
            clashes: Vec::new(),
            judgements,
            kernel_log_lines: full_lines(self.log, ground),
            proxy_log_lines: proxy_lines(ground).saturating_sub(self.proxy_lines),
            unmet: Vec::new(),
        })
    }
}

fn figure(
    role: &str,
    namespace: &Namespace,
    before: &[Statistics],
) -> Result<NamespaceFigures, LabError> {
    let (count, limit) = namespace.count_and_limit()?;
    let mut moved = Statistics::default();
    for (now, then) in statistics(namespace)?.iter().zip(before) {
        moved.add(&now.since(then));
    }
    Ok(NamespaceFigures { namespace: role.to_owned(), count, limit, moved })
}

/// A namespace's counters, of each CPU: they wrap one by one.
fn statistics(namespace: &Namespace) -> Result<Vec<Statistics>, LabError> {
    namespace.conntrack()?.statistics().map_err(|error| namespace.netlink(error))
}

fn proxy_lines(ground: &Ground) -> u64 {
    let lines = |proxy: &crate::HaProxy| proxy.log().lines().count() as u64;
    ground.proxies.values().map(|(_, proxy)| lines(proxy)).sum()
}

fn full_lines(since: KernelLogMark, ground: &Ground) -> u64 {
    let inodes = ground.namespaces.iter().filter_map(|(_, namespace)| namespace.inode().ok());
    let ours: Vec<_> = inodes.map(|inode| format!("in netns {inode},")).collect();
    let is_ours = |line: &String| {
        // Before Linux 6.18 the line names no namespace.
        let nameless = !line.contains("in netns");
        line.contains("table full") && (nameless || ours.iter().any(|name| line.contains(name)))
    };
    since.lines().iter().filter(|line| is_ours(line)).count() as u64
}
