//! What a scenario names must be there, and what it asks for must be bounded.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ctkeeper_flow::Statistic;

use super::{Action, CAUSES, Expectation, FillSpec, LinesExpectation, PhaseSpec, Scenario};
use crate::namespace::is_role;

const MOST_NAMESPACES: usize = 100;
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const LONGEST_WINDOW: Duration = Duration::from_secs(60);
/// Seconds.
const LONGEST_CLASH: u32 = 60;
const MOST_PROCESSES: u32 = 16;
/// Bytes of an interface's name.
const LONGEST_INTERFACE: usize = 15;

/// What is wrong with a scenario, if anything is.
pub(super) fn check(scenario: &Scenario) -> Result<(), String> {
    let names = Names::of(scenario)?;
    let known = |name: &String| names.namespace(name);
    for end in scenario.links.iter().flat_map(|link| &link.ends) {
        known(&end.namespace)?;
        check_interface(&end.interface, &end.addresses)?;
    }
    for bridge in &scenario.bridges {
        known(&bridge.namespace)?;
        check_interface(&bridge.interface, &bridge.addresses)?;
    }
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
    if scenario.phases.iter().all(|phase| phase.judge.is_empty() && phase.expect.is_empty()) {
        return Err("no phase has a `judge` or an `expect`: it would show nothing".to_owned());
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
        Expectation::Load(load) => {
            let failed = [load.failed_at_least, load.failed_at_most, load.probes_failed_at_most];
            failed.into_iter().flatten().try_for_each(share)?;
            is_among("load", &load.name, loads)
        }
        Expectation::Entries(entries) => names.namespace(&entries.namespace),
        Expectation::Counters(counters) => {
            counters.moved.iter().chain(&counters.still).try_for_each(|name| counter(name))?;
            names.namespace(&counters.namespace)
        }
        Expectation::ProxyLog(_) | Expectation::KernelLog(_) => Ok(()),
    })?;
    phase.expect.iter().try_for_each(can_fail)
}

/// What is true whatever happens proves nothing.
fn can_fail(expectation: &Expectation) -> Result<(), String> {
    let (what, bounds) = match expectation {
        Expectation::Load(load) => {
            let shares = [load.failed_at_least, load.failed_at_most, load.probes_failed_at_most];
            let open = usize::from(load.open_at_least.is_some());
            ("load", shares.iter().flatten().count() + open)
        }
        Expectation::Counters(counters) => {
            ("counters", counters.moved.len() + counters.still.len())
        }
        Expectation::Entries(of) => {
            let bounds = [of.at_least, of.at_most, of.free_at_least, of.free_at_most];
            ("entries", bounds.iter().flatten().count())
        }
        Expectation::ProxyLog(lines) => ("proxy_log", bounds_of(lines)),
        Expectation::KernelLog(lines) => ("kernel_log", bounds_of(lines)),
    };
    if bounds > 0 { Ok(()) } else { Err(format!("expect {what}: it says nothing to expect")) }
}

fn bounds_of(lines: &LinesExpectation) -> usize {
    lines.at_least.iter().chain(&lines.at_most).count()
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

/// A name that the kernel takes (`dev_valid_name`, net/core/dev.c, Linux 6.12), and addresses that
/// say how large their network is.
fn check_interface(name: &str, addresses: &[String]) -> Result<(), String> {
    let odd = |letter: char| letter.is_whitespace() || matches!(letter, '/' | ':');
    if name.is_empty()
        || name.len() > LONGEST_INTERFACE
        || matches!(name, "." | "..")
        || name.contains(odd)
    {
        let rule = "without blanks, slashes and colons";
        return Err(format!("interface {name:?}: give 1 to {LONGEST_INTERFACE} bytes, {rule}"));
    }
    addresses.iter().try_for_each(|address| {
        if is_address_in_network(address) {
            return Ok(());
        }
        let form = "write 10.77.1.1/24 or fd77::1/64";
        Err(format!("interface {name}: {address:?} is no address with a prefix length: {form}"))
    })
}

fn is_address_in_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    length.parse::<u8>().is_ok_and(|length| length <= longest)
}

fn share(value: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(format!("a share of {value}: give 0 to 1 (1 is all)"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Result<(), String> {
        check_interface(name, &[address.to_owned()])
    }

    #[test]
    fn an_address_says_how_large_its_network_is() {
        for right in ["10.77.1.1/24", "0.0.0.0/0", "10.77.1.1/32", "fd77::1/64", "::1/128"] {
            interface("eth0", right).unwrap();
        }
        for wrong in ["10.77.1.1", "10.77.1.300/24", "10.77.1.1/33", "fd77::1/129", "a/8", "/", ""]
        {
            let refusal = interface("eth0", wrong).unwrap_err();
            assert!(refusal.contains("write 10.77.1.1/24"), "{wrong}: {refusal}");
        }
    }

    #[test]
    fn an_interface_has_a_name_that_the_kernel_takes() {
        interface("fifteen-letters", "10.0.0.1/8").unwrap();
        for wrong in ["", ".", "..", "sixteen--letters", "a b", "a/b", "a:b"] {
            assert!(interface(wrong, "10.0.0.1/8").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_of_one() {
        share(0.0).unwrap();
        share(1.0).unwrap();
        for wrong in [-0.1, 1.1, 50.0, f64::NAN] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
