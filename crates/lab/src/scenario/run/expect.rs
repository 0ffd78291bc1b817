//! What must be true at a phase's end.

use std::collections::BTreeSet;

use ctkeeper_flow::units::{count, percent};
use ctkeeper_flow::{Statistic, Statistics};

use crate::scenario::{
    CounterExpectation, EntriesExpectation, Expectation, JudgeSpec, Judgement, LinesExpectation,
    LoadExpectation, PhaseReport, PhaseSpec,
};

/// Each expectation that was not met, in a sentence.
pub(super) fn unmet(phase: &PhaseSpec, report: &PhaseReport) -> Vec<String> {
    let mut unmet = Unmet::default();
    for (spec, judgement) in phase.judge.iter().zip(&report.judgements) {
        unmet.judgement(spec, judgement);
    }
    for expectation in &phase.expect {
        match expectation {
            Expectation::Load(load) => unmet.load(load, report),
            Expectation::Counters(counters) => unmet.counters(counters, report),
            Expectation::Entries(entries) => unmet.entries(entries, report),
            Expectation::ProxyLog(lines) => {
                unmet.lines("HAProxy's log", lines, report.proxy_log_lines);
            }
            Expectation::KernelLog(lines) => {
                unmet.lines("the kernel's log on full tables", lines, report.kernel_log_lines);
            }
        }
    }
    unmet.0
}

#[derive(Default)]
struct Unmet(Vec<String>);

impl Unmet {
    fn judgement(&mut self, spec: &JudgeSpec, judgement: &Judgement) {
        let wanted: BTreeSet<_> = judgement.expected.iter().map(String::as_str).collect();
        let found: BTreeSet<_> = judgement.causes().into_iter().collect();
        if wanted != found {
            let (wanted, found) = (listed(&wanted), listed(&found));
            self.0.push(format!("doctor in {} finds {found}, not {wanted}", spec.namespace));
        }
        if let Some(exit) = spec.exit.filter(|&exit| exit != judgement.exit_code) {
            let code = judgement.exit_code;
            self.0.push(format!("doctor in {} exits with {code}, not {exit}", spec.namespace));
        }
    }

    fn load(&mut self, wanted: &LoadExpectation, report: &PhaseReport) {
        let Some(seen) = report.load(&wanted.name) else {
            return self.0.push(format!("load {} did not run in this phase", wanted.name));
        };
        let ended = seen.succeeded + seen.failed;
        let wants_share = wanted.failed_at_least.or(wanted.failed_at_most).is_some();
        if wants_share && ended == 0 {
            // A share of nothing proves nothing.
            return self.0.push(format!("no arrival of {} has ended in this phase", wanted.name));
        }
        let failed = format!("{}: the share of arrivals that failed", wanted.name);
        self.share(&failed, seen.failed_share(), wanted.failed_at_least, wanted.failed_at_most);
        if wanted.probes_failed_at_most.is_some() {
            let probes = &seen.probes;
            let ended = probes.ok + probes.timeout + probes.lost;
            if ended == 0 {
                return self.0.push(format!("no probe of {} has ended in this phase", wanted.name));
            }
            let share = (probes.timeout + probes.lost) as f64 / ended as f64;
            let what = format!("{}: the share of probes that failed", wanted.name);
            self.share(&what, share, None, wanted.probes_failed_at_most);
        }
        let what = format!("{}: open connections", wanted.name);
        self.number(&what, seen.open, wanted.open_at_least, None);
    }

    fn counters(&mut self, wanted: &CounterExpectation, report: &PhaseReport) {
        let Some(figures) = report.namespace(&wanted.namespace) else { return };
        let grown = |name: &String| grown(&figures.moved, name);
        for name in wanted.moved.iter().filter(|name| grown(name) == 0) {
            self.0.push(format!("counter {name} of {} did not move", wanted.namespace));
        }
        for name in wanted.still.iter().filter(|name| grown(name) != 0) {
            let by = count(grown(name));
            self.0.push(format!("counter {name} of {} grew by {by}", wanted.namespace));
        }
    }

    fn entries(&mut self, wanted: &EntriesExpectation, report: &PhaseReport) {
        let Some(figures) = report.namespace(&wanted.namespace) else { return };
        let entries = format!("{}: entries", wanted.namespace);
        self.number(&entries, figures.count, wanted.at_least, wanted.at_most);
        let free = figures.limit.saturating_sub(figures.count);
        let places = format!("{}: free places", wanted.namespace);
        self.number(&places, free, wanted.free_at_least, wanted.free_at_most);
    }

    fn lines(&mut self, what: &str, wanted: &LinesExpectation, lines: u64) {
        self.number(&format!("lines in {what}"), lines, wanted.at_least, wanted.at_most);
    }

    fn number(&mut self, what: &str, is: u64, least: Option<u64>, most: Option<u64>) {
        if let Some(least) = least.filter(|&least| is < least) {
            self.0.push(format!("{what}: {}, expected {} or more", count(is), count(least)));
        }
        if let Some(most) = most.filter(|&most| is > most) {
            self.0.push(format!("{what}: {}, expected {} or fewer", count(is), count(most)));
        }
    }

    fn share(&mut self, what: &str, is: f64, least: Option<f64>, most: Option<f64>) {
        let shown = percent(is);
        if let Some(least) = least.filter(|&least| is < least) {
            self.0.push(format!("{what} is {shown}, expected {} or more", percent(least)));
        }
        if let Some(most) = most.filter(|&most| is > most) {
            self.0.push(format!("{what} is {shown}, expected {} or less", percent(most)));
        }
    }
}

fn grown(moved: &Statistics, name: &str) -> u64 {
    Statistic::from_name(name).map_or(0, |statistic| moved.value(statistic))
}

fn listed(ids: &BTreeSet<&str>) -> String {
    if ids.is_empty() {
        return "no cause".to_owned();
    }
    ids.iter().copied().collect::<Vec<_>>().join(" and ")
}
