//! How the lab's values are drawn.

use std::collections::BTreeSet;
use std::io::{self, Write};

use ctkeeper_flow::units::{count, counted, duration, percent};
use ctkeeper_lab::Cleaned;
use ctkeeper_lab::load::Latency;
use ctkeeper_lab::scenario::{
    Event, Expectation, Judgement, LoadFigures, NamespaceFigures, PhaseReport, RunReport, Scenario,
};

use crate::ui::{Cell, Column, Screen, Table, printable, wrap};

const INDENT: usize = 4;

/// The scenarios.
pub(super) fn list(out: &mut impl Write, screen: Screen, all: &[Scenario]) -> io::Result<()> {
    let columns = vec![left("NAME"), left("SHOWS"), left("DOCTOR FINDS"), optional("NEEDS")];
    let mut table = Table::folding(screen, columns);
    for scenario in all {
        let finds = match scenario.finds.as_slice() {
            [] => "nothing".to_owned(),
            finds => finds.join(", "),
        };
        let name = Cell::styled(scenario.name.clone(), Screen::STRONG);
        let row = vec![name, scenario.title.clone().into(), finds.into(), scenario.needs().into()];
        table.row(out, row)?;
    }
    table.finish(out)
}

/// What was removed.
pub(super) fn cleaned(out: &mut impl Write, cleaned: &Cleaned) -> io::Result<()> {
    if cleaned.is_nothing() {
        return writeln!(
            out,
            "Nothing to remove: every run of the lab has cleaned up after itself."
        );
    }
    writeln!(out, "{}", cleaned_line(cleaned))
}

fn cleaned_line(cleaned: &Cleaned) -> String {
    let mut parts = Vec::new();
    if !cleaned.namespaces.is_empty() {
        let number = counted(cleaned.namespaces.len() as u64, "namespace", "namespaces");
        let names = printable(&cleaned.namespaces.join(", "));
        parts.push(format!("{number} ({names})"));
    }
    if !cleaned.processes.is_empty() {
        let number = counted(cleaned.processes.len() as u64, "process", "processes");
        let pids: Vec<_> = cleaned.processes.iter().map(u32::to_string).collect();
        parts.push(format!("{number} (pid {})", pids.join(", ")));
    }
    let mut text = String::new();
    if !parts.is_empty() {
        text = format!("Removed {} of a run that was killed.", parts.join(" and "));
    }
    if let Some(values) = cleaned.host_values {
        let (limit, buckets) = (count(values.limit), count(values.buckets));
        text += if text.is_empty() { "" } else { " " };
        text += &format!("Put back the limit {limit} and the buckets {buckets}.");
    }
    for failed in &cleaned.failed {
        text += if text.is_empty() { "" } else { " " };
        text += &format!("Not removed: {}.", printable(failed));
    }
    text
}

/// What happens, as a line of plain text.
pub(super) fn event_line(event: Event<'_>) -> Option<String> {
    Some(match event {
        Event::Cleaned(cleaned) => cleaned_line(cleaned),
        Event::Waiting => {
            "Waiting: another run of the lab has the host's limit to itself.".to_owned()
        }
        Event::Building(scenario) => format!("{}: {}", scenario.name, scenario.title),
        Event::Phase { number, of, phase } => format!("phase {number} of {of}: {}", phase.title),
        Event::Did(what) => what.to_owned(),
        Event::Kept(folder) => format!("statistics, rules and logs: {}", folder.display()),
        Event::Judging(_) | Event::Removing => return None,
        Event::Judged(judgement) => verdict_line(judgement),
        Event::PhaseEnded(report) if report.unmet.is_empty() => return None,
        Event::PhaseEnded(report) => format!("not as expected: {}", report.unmet.join("; ")),
    })
    .map(|line| printable(&line))
}

/// What happens, for a person.
pub(super) fn event(out: &mut impl Write, screen: Screen, event: Event<'_>) -> io::Result<()> {
    let text = |out: &mut _, indent: usize, text: &str| paragraph(out, screen, indent, text);
    match event {
        Event::Building(scenario) => {
            let title = format!("{}: {}", scenario.name, scenario.title);
            writeln!(out, "{}", screen.paint(Screen::STRONG, &printable(&title)))?;
            text(out, 0, &scenario.about)
        }
        Event::Phase { number, of, phase } => {
            let title = format!("{number}/{of} {}", phase.title);
            writeln!(out, "\n{}", screen.paint(Screen::STRONG, &printable(&title)))?;
            text(out, 0, &phase.about)
        }
        Event::Judged(judgement) => judged(out, screen, judgement),
        Event::PhaseEnded(report) => report.unmet.iter().try_for_each(|unmet| {
            let lead = screen.paint(Screen::CRITICAL, "not as expected:");
            writeln!(out, "{:INDENT$}{lead} {}", "", printable(unmet))
        }),
        other => event_line(other).map_or(Ok(()), |line| text(out, INDENT, &line)),
    }
}

fn judged(out: &mut impl Write, screen: Screen, judgement: &Judgement) -> io::Result<()> {
    paragraph(out, screen, INDENT, &verdict_line(judgement))?;
    let causes = judgement.causes();
    for finding in &judgement.findings {
        if causes.contains(&&*finding.id) {
            let text = format!("{}: {}", finding.id, finding.summary);
            paragraph(out, screen, 2 * INDENT, &text)?;
        }
    }
    Ok(())
}

fn verdict_line(judgement: &Judgement) -> String {
    let causes = judgement.causes();
    let found = if causes.is_empty() { no_cause(judgement) } else { causes.join(", ") };
    format!("doctor in {} (exit {}): {found}", judgement.namespace, judgement.exit_code)
}

/// An exit code other than 0 has its reason: what doctor finds on the host itself, most often.
fn no_cause(judgement: &Judgement) -> String {
    let grave = judgement.findings.iter().filter(|finding| finding.severity != "note");
    let mut ids: Vec<_> = grave.map(|finding| &*finding.id).collect();
    ids.dedup();
    if ids.is_empty() { "no cause".to_owned() } else { format!("no cause, but {}", ids.join(", ")) }
}

/// Text, folded to the screen.
pub(super) fn paragraph(
    out: &mut impl Write,
    screen: Screen,
    indent: usize,
    text: &str,
) -> io::Result<()> {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in wrap(&printable(&one_line), screen.width().saturating_sub(indent)) {
        writeln!(out, "{:indent$}{line}", "")?;
    }
    Ok(())
}

/// The phases' tables and the verdict.
pub(super) fn report(
    out: &mut impl Write,
    screen: Screen,
    scenario: &Scenario,
    report: &RunReport,
) -> io::Result<()> {
    writeln!(out)?;
    namespaces(out, screen, scenario, report)?;
    if report.phases.iter().any(|phase| !phase.loads.is_empty()) {
        writeln!(out)?;
        loads(out, screen, report)?;
    }
    clashes(out, report)?;
    outcome(out, screen, report)
}

/// Whether all came as expected, and where to look if not.
pub(super) fn outcome(out: &mut impl Write, screen: Screen, report: &RunReport) -> io::Result<()> {
    writeln!(out)?;
    let took = duration(report.took);
    let unmet: usize = report.phases.iter().map(|phase| phase.unmet.len()).sum();
    let verdict = if unmet == 0 {
        format!("{}  everything came as expected", screen.paint(Screen::GOOD, "OK"))
    } else {
        let number = counted(unmet as u64, "expectation was", "expectations were");
        format!("{}  {number} not met", screen.paint(Screen::CRITICAL, "FAILED"))
    };
    if report.left.is_empty() {
        writeln!(out, "{verdict}; {took}, everything is removed and put back")?;
    } else {
        let left = printable(&report.left.join(", "));
        writeln!(out, "{verdict}; {took}. Left behind: {left}. Try: ctkeeper lab clean")?;
    }
    if let Some(folder) = &report.artefacts {
        let folder = folder.display().to_string();
        writeln!(out, "Statistics, rules and logs: {}", printable(&folder))?;
    }
    Ok(())
}

fn namespaces(
    out: &mut impl Write,
    screen: Screen,
    scenario: &Scenario,
    report: &RunReport,
) -> io::Result<()> {
    let shown = watched(scenario);
    let columns = vec![
        left("PHASE"),
        left("NAMESPACE"),
        right("ENTRIES"),
        figure("LIMIT"),
        optional("COUNTERS MOVED"),
        left("DOCTOR"),
        left("FINDS"),
    ];
    let mut table = Table::folding(screen, columns);
    for (number, phase) in report.phases.iter().enumerate() {
        for figures in phase.namespaces.iter().filter(|f| shown.contains(&*f.namespace)) {
            table.row(out, namespace_row(number + 1, phase, figures))?;
        }
    }
    table.finish(out)
}

/// The namespaces that the scenario looks at.
fn watched(scenario: &Scenario) -> BTreeSet<&str> {
    let mut watched = BTreeSet::new();
    for phase in &scenario.phases {
        watched.extend(phase.judge.iter().map(|judge| &*judge.namespace));
        watched.extend(phase.expect.iter().filter_map(|expectation| match expectation {
            Expectation::Counters(counters) => Some(&*counters.namespace),
            Expectation::Entries(entries) => Some(&*entries.namespace),
            _ => None,
        }));
    }
    watched
}

fn namespace_row(number: usize, phase: &PhaseReport, figures: &NamespaceFigures) -> Vec<Cell> {
    let judgement =
        phase.judgements.iter().find(|judgement| judgement.namespace == figures.namespace);
    let moved: Vec<_> = figures
        .moved
        .iter()
        .filter(|(_, value)| *value > 0)
        .map(|(statistic, value)| format!("{statistic} {}", count(value)))
        .collect();
    let exit =
        judgement.map_or_else(String::new, |judgement| format!("exit {}", judgement.exit_code));
    let causes = judgement.map_or_else(String::new, |judgement| judgement.causes().join(", "));
    vec![
        printable(&format!("{number} {}", phase.title)).into(),
        figures.namespace.clone().into(),
        count(figures.count).into(),
        if figures.limit == 0 { "none".into() } else { count(figures.limit).into() },
        moved.join(", ").into(),
        exit.into(),
        causes.into(),
    ]
}

fn loads(out: &mut impl Write, screen: Screen, report: &RunReport) -> io::Result<()> {
    let columns = vec![
        left("PHASE"),
        left("LOAD"),
        right("ARRIVALS"),
        right("FAILED"),
        figure("CONNECT p50"),
        figure("p99"),
        figure("OPEN"),
        figure("PROBES"),
        figure("FAILED"),
        figure("p50"),
        figure("p99"),
    ];
    let mut table = Table::folding(screen, columns);
    for (number, phase) in report.phases.iter().enumerate() {
        for figures in &phase.loads {
            table.row(out, load_row(number + 1, phase, figures))?;
        }
    }
    table.finish(out)
}

fn clashes(out: &mut impl Write, report: &RunReport) -> io::Result<()> {
    for (number, phase) in (1..).zip(&report.phases) {
        for clash in &phase.clashes {
            let pairs = counted(clash.pairs.into(), "pair of datagrams", "pairs of datagrams");
            let refused = count(clash.refused.into());
            let title = printable(&phase.title);
            writeln!(out, "\n{number} {title}: {pairs} sent, {refused} datagrams refused")?;
        }
    }
    Ok(())
}

fn load_row(number: usize, phase: &PhaseReport, figures: &LoadFigures) -> Vec<Cell> {
    let report = &figures.report;
    let ended = report.succeeded + report.failed;
    let failed = if ended == 0 { String::new() } else { percent(report.failed_share()) };
    let probes = &report.probes;
    let answered = probes.ok + probes.timeout + probes.lost;
    let lost = (probes.timeout + probes.lost) as f64 / answered.max(1) as f64;
    let shown = |number: u64| if number == 0 { String::new() } else { count(number) };
    vec![
        printable(&format!("{number} {}", phase.title)).into(),
        printable(&figures.name).into(),
        count(report.started).into(),
        failed.into(),
        latency(&report.connect, report.connect.p50).into(),
        latency(&report.connect, report.connect.p99).into(),
        shown(report.open).into(),
        shown(answered).into(),
        if answered == 0 { String::new() } else { percent(lost) }.into(),
        latency(&probes.latency, probes.latency.p50).into(),
        latency(&probes.latency, probes.latency.p99).into(),
    ]
}

fn latency(of: &Latency, time: std::time::Duration) -> String {
    if of.count == 0 { String::new() } else { format!("{:.1} ms", time.as_secs_f64() * 1e3) }
}

pub(super) fn left(heading: &'static str) -> Column {
    Column { heading: heading.into(), right: false, least: 0, optional: false }
}

pub(super) fn optional(heading: &'static str) -> Column {
    Column { optional: true, ..left(heading) }
}

/// A number that goes on a narrow screen.
pub(super) fn figure(heading: &'static str) -> Column {
    Column { optional: true, ..right(heading) }
}

pub(super) fn right(heading: &'static str) -> Column {
    Column { right: true, ..left(heading) }
}
