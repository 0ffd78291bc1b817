//! What a phase does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ctkeeper_flow::units::{self, count};

use super::{Hands, caller};
use crate::fill::number;
use crate::load::{Load, Profile};
use crate::scenario::ground::{Clashing, Ground, absent};
use crate::scenario::{
    Action, AnnounceSpec, FillSpec, FixSpec, LoadFigures, LoadSpec, ProbeSpec, RateSpec,
    ReloadSpec, RunSpec, StopSpec,
};
use crate::{
    Filler, Filling, LabError, Process, announce, check_interrupted, ensure_harmless, pause,
};

const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const EXPECTATION_LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_expect_max";

/// Loads that have no end of their own are not waited for.
const LONGEST_FINISH: Duration = Duration::from_secs(120);
/// How long a program may run.
const LONGEST_RUN: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(20);

/// What phases leave to those that follow.
#[derive(Debug, Default)]
pub(super) struct Fillers {
    /// The number of the next entry to make in each namespace.
    next: BTreeMap<String, u64>,
    /// Connections that were announced in each namespace.
    announced: BTreeMap<String, u64>,
    /// Loads that were stopped in this phase.
    pub(super) stopped: Vec<LoadFigures>,
}

/// Does something, and says what, in a sentence.
pub(super) fn act(
    action: &Action,
    ground: &mut Ground,
    fillers: &mut Fillers,
    hands: &mut Hands<'_>,
) -> Result<String, LabError> {
    match action {
        Action::Fill(spec) => fill(spec, ground, fillers),
        Action::Flush(role) => flush(role, ground),
        Action::Load(spec) => load(spec, ground),
        Action::Stop(spec) => stop(spec, ground, fillers),
        Action::Rate(spec) => rate(spec, ground),
        Action::Probe(spec) => probe(spec, ground),
        Action::Clash(spec) => {
            let namespace = ground.namespace(&spec.namespace)?;
            ground.clashes.push(Clashing::start(namespace, spec.pairs));
            let (pairs, rate) = (spec.pairs.pairs.into(), spec.pairs.rate.into());
            Ok(format!("{} pairs of datagrams, {} a second", count(pairs), count(rate)))
        }
        Action::Announce(spec) => announce(spec, ground, fillers),
        Action::Finish(name) => finish(name, ground),
        Action::Wait(time) => {
            pause(*time)?;
            Ok(format!("waited {}", units::duration(*time)))
        }
        Action::Sysctl(spec) => {
            ground.namespace(&spec.namespace)?.sysctl(&spec.name, &spec.value)?;
            Ok(format!("set {} = {} in {}", spec.name, spec.value, spec.namespace))
        }
        Action::Rules(spec) => {
            ground.namespace(&spec.namespace)?.nft(&spec.rules)?;
            Ok(format!("loaded rules in {}", spec.namespace))
        }
        Action::Reload(spec) => reload(spec, ground),
        Action::Run(spec) => run(spec, ground),
        Action::Fix(spec) => fix(*spec, ground, hands),
    }
}

/// What fix changes is the lab's to put back; what others change before or after is not.
fn fix(spec: FixSpec, ground: &Ground, hands: &mut Hands<'_>) -> Result<String, LabError> {
    let host = ground.host.as_ref().ok_or_else(|| absent("hold on", "the host's limit"))?;
    if let Some(target) = spec.target {
        host.ensure_no_lower(target)?;
    }
    host.expect_other_changes()?;
    let said = (hands.fix)(spec).map_err(caller("fix", "the host's limit"))?;
    host.expect_no_other_changes()?;
    Ok(said)
}

fn fill(spec: &FillSpec, ground: &Ground, fillers: &mut Fillers) -> Result<String, LabError> {
    let namespace = ground.namespace(&spec.namespace)?;
    let next = fillers.next.entry(spec.namespace.clone()).or_default();
    let filling = if spec.half_open {
        Filling::HalfOpen
    } else {
        Filling::Established { timeout: spec.timeout }
    };
    let first = *next;
    let mut filler = Filler::new(namespace, filling, first);
    let done = match (spec.entries, spec.leave_free) {
        (Some(entries), _) => filler.add(entries),
        (None, Some(places)) => filler.leave_free(places).map(drop),
        (None, None) => Ok(()),
    };
    *next = filler.next_number();
    let made = *next - first;
    done?;
    let kind = if spec.half_open { "half-open" } else { "idle" };
    let left = spec.leave_free.map(|places| format!(", {} places left", count(places)));
    let left = left.unwrap_or_default();
    Ok(format!("made {} {kind} entries in {}{left}", count(made), spec.namespace))
}

fn flush(role: &str, ground: &Ground) -> Result<String, LabError> {
    let namespace = ground.namespace(role)?;
    namespace.conntrack()?.flush().map_err(|error| namespace.netlink(error))?;
    Ok(format!("deleted every entry of {role}"))
}

fn load(spec: &LoadSpec, ground: &mut Ground) -> Result<String, LabError> {
    if !ground.is_for_few_buckets {
        ensure_harmless(most_entries(&spec.profile)?)?;
    }
    let handle = ground.namespace(&spec.namespace)?.open()?;
    let started = Load::start(&handle, &spec.profile)?;
    ground.loads.insert(spec.name.clone(), started);
    let rate = count(spec.profile.rate.round() as u64);
    Ok(format!("load {}: {rate} a second from {}", spec.name, spec.namespace))
}

/// A load fills a table too: an entry for each arrival at most, up to the limit.
fn most_entries(profile: &Profile) -> Result<u64, LabError> {
    let in_time = (profile.rate * profile.span().as_secs_f64()).ceil() as u64;
    let arrivals = profile.count.map_or(in_time, |count| count.min(in_time));
    let limit = number(LIMIT)?;
    Ok(if limit == 0 { arrivals } else { arrivals.min(limit) })
}

fn stop(spec: &StopSpec, ground: &mut Ground, fillers: &mut Fillers) -> Result<String, LabError> {
    let load = ground.loads.remove(&spec.load).ok_or_else(|| absent("running load", &spec.load))?;
    // What it saw until now belongs to this phase; what fails because it is stopped, to none.
    fillers.stopped.push(LoadFigures { name: spec.load.clone(), report: load.mark() });
    load.stop(spec.end);
    Ok(format!("ended load {}", spec.load))
}

fn rate(spec: &RateSpec, ground: &Ground) -> Result<String, LabError> {
    ground.load(&spec.load)?.set_rate(spec.rate)?;
    let rate = count(spec.rate.round() as u64);
    Ok(format!("load {}: {rate} a second from now on", spec.load))
}

fn probe(spec: &ProbeSpec, ground: &Ground) -> Result<String, LabError> {
    ground.load(&spec.load)?.probe(spec.most);
    Ok(format!("probing connections of {}", spec.load))
}

fn announce(
    spec: &AnnounceSpec,
    ground: &Ground,
    fillers: &mut Fillers,
) -> Result<String, LabError> {
    let limit = number(EXPECTATION_LIMIT)?;
    let sessions = (spec.share * limit as f64).ceil() as u64;
    if sessions > announce::MOST {
        let needs = format!(
            "nf_conntrack_expect_max is {}, and the lab announces {} connections at most",
            count(limit),
            count(announce::MOST)
        );
        return Err(LabError::Unsuitable { name: "announce".to_owned(), needs });
    }
    let done = fillers.announced.entry(spec.namespace.clone()).or_default();
    let numbers = *done..*done + sessions;
    *done = numbers.end;
    ground.namespace(&spec.namespace)?.enter(|| announce::announce(spec.target, numbers))??;
    let share = units::percent(spec.share);
    Ok(format!("announced {} connections, {share} of nf_conntrack_expect_max", count(sessions)))
}

fn finish(name: &str, ground: &Ground) -> Result<String, LabError> {
    let load = ground.load(name)?;
    let end = Instant::now() + LONGEST_FINISH;
    while !load.wait_settled(STEP) {
        check_interrupted()?;
        if Instant::now() >= end {
            let what = format!("load {name} to finish");
            let detail = load.report().to_string();
            return Err(LabError::Timeout { what, seconds: LONGEST_FINISH.as_secs(), detail });
        }
    }
    Ok(format!("load {name} is over"))
}

fn reload(spec: &ReloadSpec, ground: &mut Ground) -> Result<String, LabError> {
    let missing = || absent("haproxy", &spec.haproxy);
    let (role, proxy) = ground.proxies.get_mut(&spec.haproxy).ok_or_else(missing)?;
    let found = ground.namespaces.iter().find(|(name, _)| name == role).ok_or_else(missing)?;
    proxy.reload(&found.1, &spec.config)?;
    Ok(format!("{} goes over to another configuration", spec.haproxy))
}

fn run(spec: &RunSpec, ground: &Ground) -> Result<String, LabError> {
    let arguments: Vec<_> = spec.arguments.iter().map(String::as_str).collect();
    Process::start(ground.namespace(&spec.namespace)?, &spec.program, &arguments)?
        .finish(LONGEST_RUN)?;
    Ok(format!("{} {} in {}", spec.program, arguments.join(" "), spec.namespace))
}
