//! A doctor's report for people.

use std::io::{self, Write};

use anstyle::Style;
use ctkeeper_diagnosis::{Finding, Overview, Remedy, Report, Severity, Verdict};
use ctkeeper_flow::units::{count, counted, percent};

use super::{Screen, printable, wrap};

/// Width of the verdict's column.
const VERDICT: usize = 10;
/// Where a finding's text begins.
const INDENT: usize = 20;
/// Findings of one rule that are shown in full; more are counted.
const SAME_RULE: usize = 3;

/// Draws a report.
pub(crate) fn draw(out: &mut impl Write, screen: &Screen, report: &Report) -> io::Result<()> {
    headline(out, screen, report)?;
    if !report.findings.is_empty() {
        writeln!(out)?;
    }
    for (finding, repeated) in numbered(&report.findings) {
        if repeated < SAME_RULE {
            draw_finding(out, screen, finding)?;
        } else if repeated == SAME_RULE {
            let more = report.findings.iter().filter(|f| f.id == finding.id).count() - SAME_RULE;
            writeln!(out, "{:INDENT$}… and {more} more `{}`: --json lists all", "", finding.id)?;
        }
    }
    overview(out, screen, report)
}

/// Each finding with how many of the same rule came before it.
fn numbered(findings: &[Finding]) -> impl Iterator<Item = (&Finding, usize)> {
    findings.iter().enumerate().map(|(index, finding)| {
        (finding, findings[..index].iter().filter(|earlier| earlier.id == finding.id).count())
    })
}

fn headline(out: &mut impl Write, screen: &Screen, report: &Report) -> io::Result<()> {
    let verdict = screen.paint(verdict_style(report.verdict), &report.verdict.to_string());
    let padding = VERDICT.saturating_sub(report.verdict.to_string().len());
    let headline = match report.findings.first() {
        Some(finding) if report.verdict != Verdict::Ok => finding.headline.as_str(),
        Some(_) => "nothing wants attention; worth knowing:",
        None => "nothing wants attention",
    };
    let text = printable(&format!("{}: {headline}", report.taken.hostname));
    let mut lead = format!("{verdict}{:padding$}", "");
    for line in wrap(&text, screen.width().saturating_sub(VERDICT)) {
        writeln!(out, "{lead}{line}")?;
        lead = " ".repeat(VERDICT);
    }
    Ok(())
}

fn draw_finding(out: &mut impl Write, screen: &Screen, finding: &Finding) -> io::Result<()> {
    let width = screen.width().saturating_sub(INDENT).max(20);
    let id = screen.paint(severity_style(finding.severity), finding.id);
    let mut lead = format!("  {id}{:1$}", "", INDENT.saturating_sub(2 + finding.id.len()));
    if finding.id.len() + 3 > INDENT {
        writeln!(out, "{lead}")?;
        lead = " ".repeat(INDENT);
    }
    for line in wrap(&printable(&finding.summary), width) {
        writeln!(out, "{lead}{line}")?;
        lead = " ".repeat(INDENT);
    }
    if finding.severity > Severity::Note {
        for line in wrap(&finding.meaning, width) {
            writeln!(out, "{:INDENT$}{}", "", screen.paint(Screen::FAINT, &line))?;
        }
    }
    finding.remedies.iter().try_for_each(|remedy| draw_remedy(out, screen, remedy, width))
}

fn draw_remedy(
    out: &mut impl Write,
    screen: &Screen,
    remedy: &Remedy,
    width: usize,
) -> io::Result<()> {
    const COMMAND: usize = 28;
    let command = printable(&remedy.command);
    let length = command.chars().count();
    let painted = screen.paint(Screen::STRONG, &command);
    if length > COMMAND || width < COMMAND + 30 || remedy.effect.is_empty() {
        writeln!(out, "{:INDENT$}→ {painted}", "")?;
        let folded = wrap(&remedy.effect, width.saturating_sub(4));
        return folded.iter().try_for_each(|line| writeln!(out, "{:INDENT$}    {line}", ""));
    }
    let mut lead = format!("{:INDENT$}→ {painted}{:2$}", "", "", COMMAND - length + 2);
    for line in wrap(&remedy.effect, width - COMMAND - 4) {
        writeln!(out, "{lead}{line}")?;
        lead = " ".repeat(INDENT + COMMAND + 4);
    }
    Ok(())
}

/// The line that stands below, whatever was found.
fn overview(out: &mut impl Write, screen: &Screen, report: &Report) -> io::Result<()> {
    let label = screen.paint(Screen::FAINT, "SEEN");
    writeln!(out)?;
    let mut lead = format!("{label}{:1$}", "", VERDICT - "SEEN".len());
    for line in wrap(&overview_text(&report.overview), screen.width().saturating_sub(VERDICT)) {
        writeln!(out, "{lead}{line}")?;
        lead = " ".repeat(VERDICT);
    }
    Ok(())
}

fn overview_text(overview: &Overview) -> String {
    if overview.namespaces == 0 {
        return "no namespace could be looked into.".to_owned();
    }
    let namespaces = counted(overview.namespaces, "namespace", "namespaces");
    let mut text = format!("{namespaces}, {}", counted(overview.entries, "entry", "entries"));
    if let (Some(fullest), Some(share)) = (&overview.fullest, overview.fullest_share) {
        text += &format!("; fullest: {} at {}", printable(fullest), percent(share));
    }
    if let Some(limit) = overview.limit {
        let limit = if limit == 0 { "none".to_owned() } else { count(limit) };
        text += &format!(". Limit {limit}");
    }
    if let (Some(buckets), Some(load)) = (overview.buckets, overview.load) {
        text += &format!(", buckets {}, load {load:.1}", count(buckets));
    }
    text + "."
}

const fn verdict_style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Ok => Screen::GOOD,
        Verdict::Warning => Screen::WARNING,
        Verdict::Critical => Screen::CRITICAL,
        Verdict::Unknown => Screen::UNKNOWN,
    }
}

const fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Note => Screen::NOTE,
        Severity::Warning => Screen::WARNING,
        Severity::Unknown => Screen::UNKNOWN,
        Severity::Critical => Screen::CRITICAL,
    }
}
