//! What a scenario names must be there, and what it asks for must be bounded.

use std::collections::BTreeSet;
use std::time::Duration;

use ctkeeper_flow::Statistic;

use super::{Action, CAUSES, Expectation, FillSpec, PhaseSpec, Scenario};
use crate::namespace::is_role;

const MOST_NAMESPACES: usize = 100;
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const LONGEST_WINDOW: Duration = Duration::from_secs(60);
/// Seconds.
const LONGEST_CLASH: u32 = 60;
const MOST_PROCESSES: u32 = 16;

/// What is wrong with a scenario, if anything is.
pub(super) fn check(scenario: &Scenario) -> Result<(), String> {
    let names = Names::of(scenario)?;
    let known = |name: &String| names.namespace(name);
    for link in &scenario.links {
        link.ends.iter().try_for_each(|end| known(&end.namespace))?;
    }
    scenario.bridges.iter().try_for_each(|bridge| known(&bridge.namespace))?;
    scenario.servers.iter().try_for_each(|server| known(&server.namespace))?;
    scenario.proxies.iter().try_for_each(|proxy| {
        bounded("processes", proxy.processes, 1, MOST_PROCESSES)?;
        known(&proxy.namespace)
    })?;
    causes(&scenario.finds)?;
    if scenario.phases.is_empty() {
        return Err("it has no [[phase]]".to_owned());
    }
    let mut loads = BTreeSet::new();
    for (number, phase) in scenario.phases.iter().enumerate() {
        check_phase(phase, &names, &mut loads)
            .map_err(|reason| format!("phase {} ({}): {reason}", number + 1, phase.title))?;
    }
    Ok(())
}

struct Names<'a> {
    namespaces: BTreeSet<&'a str>,
    proxies: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(scenario: &'a Scenario) -> Result<Self, String> {
        let mut namespaces = BTreeSet::new();
        for namespace in &scenario.namespaces {
            if !is_role(&namespace.name) {
                let rule = "up to 24 lower-case letters, digits and dashes, a letter first";
                return Err(format!("namespace name {:?}: give {rule}", namespace.name));
            }
            if !namespaces.insert(&*namespace.name) {
                return Err(format!("two namespaces are called {}", namespace.name));
            }
        }
        if namespaces.is_empty() || namespaces.len() > MOST_NAMESPACES {
            return Err(format!("give 1 to {MOST_NAMESPACES} [[namespace]]"));
        }
        let proxies = scenario.proxies.iter().map(|proxy| &*proxy.name).collect();
        Ok(Self { namespaces, proxies })
    }

    fn namespace(&self, name: &str) -> Result<(), String> {
        is_among("namespace", name, &self.namespaces)
    }
}

fn is_among(what: &str, name: &str, known: &BTreeSet<&str>) -> Result<(), String> {
    if known.contains(name) {
        return Ok(());
    }
    let listed = known.iter().copied().collect::<Vec<_>>().join(", ");
    let listed = if listed.is_empty() { "none".to_owned() } else { listed };
    Err(format!("there is no {what} {name:?}; there is: {listed}"))
}

fn check_phase<'a>(
    phase: &'a PhaseSpec,
    names: &Names<'_>,
    loads: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    for action in &phase.actions {
        check_action(action, names, loads)?;
    }
    for judge in &phase.judge {
        names.namespace(&judge.namespace)?;
        bounded_time("window", judge.window, LONGEST_WINDOW)?;
        causes(judge.finds.as_deref().unwrap_or_default())?;
    }
    phase.expect.iter().try_for_each(|expectation| match expectation {
        Expectation::Load(load) => is_among("load", &load.name, loads),
        Expectation::Entries(entries) => names.namespace(&entries.namespace),
        Expectation::Counters(counters) => {
            counters.moved.iter().chain(&counters.still).try_for_each(|name| counter(name))?;
            names.namespace(&counters.namespace)
        }
        Expectation::ProxyLog(_) | Expectation::KernelLog(_) => Ok(()),
    })
}

fn check_action<'a>(
    action: &'a Action,
    names: &Names<'_>,
    loads: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    match action {
        Action::Fill(fill) => check_fill(fill, names),
        Action::Flush(namespace) => names.namespace(namespace),
        Action::Load(load) => {
            names.namespace(&load.namespace)?;
            load.profile.check().map_err(|error| format!("load {}: {error}", load.name))?;
            if loads.insert(&load.name) {
                return Ok(());
            }
            Err(format!("two loads are called {}", load.name))
        }
        Action::Finish(load) => is_among("load", load, loads),
        Action::Stop(stop) => is_among("load", &stop.load, loads),
        Action::Rate(rate) => is_among("load", &rate.load, loads),
        Action::Probe(probe) => is_among("load", &probe.load, loads),
        Action::Clash(clash) => {
            bounded("rate", clash.pairs.rate, 1, 10_000)?;
            bounded("pairs", clash.pairs.pairs, 1, clash.pairs.rate.saturating_mul(LONGEST_CLASH))?;
            names.namespace(&clash.namespace)
        }
        Action::Announce(announce) => {
            if !(0.0..=2.0).contains(&announce.share) {
                return Err("announce: give a share of 0 to 2".to_owned());
            }
            names.namespace(&announce.namespace)
        }
        Action::Wait(time) => bounded_time("wait", *time, LONGEST_WAIT),
        Action::Sysctl(sysctl) => names.namespace(&sysctl.namespace),
        Action::Rules(rules) => names.namespace(&rules.namespace),
        Action::Reload(reload) => is_among("haproxy", &reload.haproxy, &names.proxies),
        Action::Run(run) => names.namespace(&run.namespace),
        Action::Fix(_) => Ok(()),
    }
}

fn check_fill(fill: &FillSpec, names: &Names<'_>) -> Result<(), String> {
    names.namespace(&fill.namespace)?;
    if fill.entries.is_some() == fill.leave_free.is_some() {
        return Err("fill: give either entries or leave_free".to_owned());
    }
    Ok(())
}

fn causes(ids: &[String]) -> Result<(), String> {
    let known = CAUSES.into_iter().collect();
    ids.iter().try_for_each(|id| is_among("finding that names a cause", id, &known))
}

fn counter(name: &str) -> Result<(), String> {
    if Statistic::from_name(name).is_some() {
        return Ok(());
    }
    let known = Statistic::ALL.into_iter().map(Statistic::name).collect();
    is_among("counter", name, &known)
}

fn bounded(what: &str, value: u32, least: u32, most: u32) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{what} = {value}: give {least} to {most}"))
}

fn bounded_time(what: &str, time: Duration, most: Duration) -> Result<(), String> {
    if time <= most {
        return Ok(());
    }
    Err(format!("{what}: give up to {} s", most.as_secs()))
}
