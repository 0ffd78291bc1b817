//! `ctkeeper lab nightmare`: its phases in one table.

use std::io::{self, Write};
use std::time::Duration;

use ctkeeper_flow::Statistic;
use ctkeeper_flow::units::{count, percent};
use ctkeeper_lab::load::Report;
use ctkeeper_lab::scenario::{Judgement, PhaseReport, RunReport};

use super::draw::{figure, left, outcome, paragraph, right};
use crate::ui::{Cell, Screen, Table};

/// The namespace whose table it is about.
const BALANCER: &str = "balancer";
/// The load that stays connected, and asks again and again.
const EXISTING: &str = "existing";

const LEGEND: [&str; 2] = [
    "NEW: new connections, from SYN to established. OLD: requests on connections that stand. Times \
     in ms.",
    "DMESG: lines `table full`, at most ten in 5 s. PROXY ERRORS: lines in HAProxy's log (option \
     dontlog-normal).",
];

/// The phases, one a row, and the verdict.
pub(super) fn draw(out: &mut impl Write, screen: Screen, report: &RunReport) -> io::Result<()> {
    let columns = vec![
        left("PHASE"),
        right("ENTRIES"),
        figure("LIMIT"),
        right("NEW FAILED"),
        figure("p50"),
        figure("p99"),
        right("OLD FAILED"),
        figure("p50"),
        figure("p99"),
        right("DROPS"),
        right("DMESG"),
        figure("PROXY ERRORS"),
        left("DOCTOR"),
    ];
    writeln!(out)?;
    let mut table = Table::folding(screen, columns);
    for phase in &report.phases {
        table.row(out, row(phase))?;
    }
    table.finish(out)?;
    writeln!(out)?;
    LEGEND.iter().try_for_each(|line| paragraph(out, screen, 0, line))?;
    outcome(out, screen, report)
}

fn row(phase: &PhaseReport) -> Vec<Cell> {
    let table = phase.namespace(BALANCER);
    let new = NewConnections::of(phase);
    let probes = phase.load(EXISTING).map(|load| &load.probes);
    let drops = table.map_or(0, |figures| figures.moved.value(Statistic::Drop));
    let (old_failed, old_latency) = probes.map_or_else(Default::default, |probes| {
        let failed = probes.timeout + probes.lost;
        (share(failed, failed + probes.ok), (probes.latency.p50, probes.latency.p99))
    });
    vec![
        Cell::styled(phase.title.clone(), Screen::STRONG),
        table.map_or_else(String::new, |figures| count(figures.count)).into(),
        table.map_or_else(String::new, |figures| count(figures.limit)).into(),
        failed(new.failed, new.succeeded),
        milliseconds(new.p50).into(),
        milliseconds(new.p99).into(),
        old_failed.into(),
        milliseconds(old_latency.0).into(),
        milliseconds(old_latency.1).into(),
        count(drops).into(),
        count(phase.kernel_log_lines).into(),
        count(phase.proxy_log_lines).into(),
        phase.judgements.first().map_or_else(Cell::default, verdict),
    ]
}

/// New connections of all loads but the one that stays: the worst of their latencies.
#[derive(Default)]
struct NewConnections {
    succeeded: u64,
    failed: u64,
    p50: Duration,
    p99: Duration,
}

impl NewConnections {
    fn of(phase: &PhaseReport) -> Self {
        let loads = phase.loads.iter().filter(|load| load.name != EXISTING);
        loads.fold(Self::default(), |sum, load| sum.with(&load.report))
    }

    fn with(self, report: &Report) -> Self {
        Self {
            succeeded: self.succeeded + report.succeeded,
            failed: self.failed + report.failed,
            p50: self.p50.max(report.connect.p50),
            p99: self.p99.max(report.connect.p99),
        }
    }
}

fn failed(failed: u64, succeeded: u64) -> Cell {
    let text = share(failed, failed + succeeded);
    let grave = failed > succeeded;
    if grave { Cell::styled(text, Screen::CRITICAL) } else { text.into() }
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { percent(part as f64 / whole as f64) }
}

fn milliseconds(time: Duration) -> String {
    if time.is_zero() { String::new() } else { format!("{:.1}", time.as_secs_f64() * 1e3) }
}

/// The exit code, and the first of the gravest findings.
fn verdict(judgement: &Judgement) -> Cell {
    let (severity, style) = match judgement.exit_code {
        0 => return Cell::styled("0 ok", Screen::GOOD),
        1 => ("warning", Screen::WARNING),
        2 => ("critical", Screen::CRITICAL),
        _ => ("unknown", Screen::WARNING),
    };
    let gravest = judgement.findings.iter().filter(|finding| finding.severity == severity);
    let mut ids: Vec<_> = gravest.map(|finding| &*finding.id).collect();
    ids.dedup();
    let more = if ids.len() > 1 { format!(" +{}", ids.len() - 1) } else { String::new() };
    let first = ids.first().copied().unwrap_or_default();
    Cell::styled(format!("{} {first}{more}", judgement.exit_code), style)
}
