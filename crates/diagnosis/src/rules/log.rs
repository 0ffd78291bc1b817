//! What the kernel log has to say.

use std::time::Duration;

use ctkeeper_flow::units::{count, counted, duration};
use ctkeeper_snapshot::{FullReports, Namespace};

use super::{Explanation, Rule};
use crate::context::{Context, refused};
use crate::{Finding, Scope, Severity};

pub(super) const KERNEL_LOG: Rule = Rule {
    id: "kernel-log",
    title: "the kernel has logged a full table",
    judge: kernel_log,
    explanation: Explanation {
        why: "`nf_conntrack: table full, dropping packet` is the kernel's only word on it. Newer \
              kernels name the namespace (`table full in netns 4026532465`), older ones do not.",
        evidence: "The lines in /dev/kmsg by namespace, with the time of the last one, and the \
                   `callbacks suppressed` lines of the kernel's rate limit.",
        remedies: "See table-full. When the last line is old, look at who was full then: \
                   ctkeeper doctor --netns all.",
        traps: "Lines are no count of drops: the kernel prints at most ten in five seconds for \
                the whole host and for all network messages together, so a noisy neighbour can \
                hide a full namespace entirely. Suppressed counts name no namespace. The number of \
                a namespace that has gone is given to a new one: old lines may mean another. \
                Tools that look for the old wording miss the new one.",
    },
};

fn kernel_log(context: &Context<'_>) -> Vec<Finding> {
    let reports = &context.snapshot.log.full;
    let (gone, present): (Vec<_>, Vec<_>) = reports.iter().partition(|r| is_gone(context, r));
    let mut findings: Vec<_> = present.iter().map(|report| full_lines(context, report)).collect();
    findings.extend(of_the_gone(context, &gone));
    findings.extend(of_expectations(context));
    findings
}

/// Whether the lines name a namespace that is not there any more. A look into one namespace alone
/// knows nothing of the others.
fn is_gone(context: &Context<'_>, report: &FullReports) -> bool {
    report.namespace.is_some_and(|inode| context.snapshot.logged_namespace(inode).is_none())
}

fn full_lines(context: &Context<'_>, report: &FullReports) -> Finding {
    let age = age(context, report);
    let namespace = report.namespace.and_then(|inode| context.snapshot.logged_namespace(inode));
    // A table that refuses packets speaks for itself.
    let known = namespace.is_some_and(|namespace| refused(namespace) > 0);
    let severity =
        if is_recent(context, age) && !known { Severity::Warning } else { Severity::Note };
    let whose = namespace.map_or_else(
        || "a namespace that this kernel does not name".to_owned(),
        |namespace| format!("namespace {}", namespace.label()),
    );
    let finding = Finding::new(KERNEL_LOG.id, severity, namespace.map_or(Scope::Host, Scope::from))
        .headline("the kernel has logged a full table")
        .summary(format!(
            "{} `table full` for {whose}{}{}.",
            counted(report.lines, "line", "lines"),
            last(age),
            suppressed(context),
        ))
        .meaning(
            "New connections were refused. Lines are no count: at most ten appear in five \
             seconds, for the whole host.",
        )
        .evidence("lines", report.lines)
        .evidence("suppressed", context.snapshot.log.suppressed);
    if known {
        return finding;
    }
    finding.remedy("ctkeeper doctor --window 2s", "see whether packets are refused just now")
}

/// One note for all namespaces that have gone (or are not looked into), while it is fresh.
fn of_the_gone(context: &Context<'_>, reports: &[&FullReports]) -> Option<Finding> {
    let total = reports.iter().fold(0_u64, |total, report| total.saturating_add(report.lines));
    let youngest = reports.iter().filter_map(|report| age(context, report)).min();
    if !is_recent(context, youngest) {
        return None;
    }
    let whose = match reports {
        [] => return None,
        [report] => format!("namespace {}, which is", report.namespace.unwrap_or(0)),
        several => format!("{} namespaces which are", several.len()),
    };
    Some(
        Finding::new(KERNEL_LOG.id, Severity::Note, Scope::Host)
            .headline("the kernel has logged a full table")
            .summary(format!(
                "{} `table full` for {whose} gone, hidden or not looked into{}{}.",
                counted(total, "line", "lines"),
                last(youngest),
                suppressed(context),
            ))
            .meaning("New connections were refused there.")
            .evidence("lines", total)
            .evidence("suppressed", context.snapshot.log.suppressed),
    )
}

/// One finding for all lines about expectations: they name no namespace, as far as is known.
fn of_expectations(context: &Context<'_>) -> Option<Finding> {
    let reports = &context.snapshot.log.expectations_full;
    let total = reports.iter().fold(0_u64, |total, report| total.saturating_add(report.lines));
    if total == 0 {
        return None;
    }
    let youngest = reports.iter().filter_map(|report| age(context, report)).min();
    // A table of expectations that is full speaks for itself.
    let known = |namespace: &Namespace| {
        namespace.expectations.is_some_and(|expected| expected.count >= expected.limit)
    };
    let is_known = context.snapshot.namespaces.iter().any(known);
    let is_new = is_recent(context, youngest) && !is_known;
    let severity = if is_new { Severity::Warning } else { Severity::Note };
    Some(
        Finding::new(KERNEL_LOG.id, severity, Scope::Host)
            .headline("the kernel has logged a full table of expectations")
            .summary(format!(
                "{} `expectation table full` for a namespace that this kernel does not name{}{}.",
                counted(total, "line", "lines"),
                last(youngest),
                suppressed(context),
            ))
            .meaning("Helpers (FTP, SIP) could not announce further connections; others were fine.")
            .evidence("expectation_lines", total)
            .evidence("suppressed", context.snapshot.log.suppressed)
            .remedy("ctkeeper explain expectations-full", "what it means and what to do"),
    )
}

fn age(context: &Context<'_>, report: &FullReports) -> Option<Duration> {
    let now = context.snapshot.taken.boottime_ms;
    report.last_ms.map(|last| Duration::from_millis(now.saturating_sub(last)))
}

fn is_recent(context: &Context<'_>, age: Option<Duration>) -> bool {
    age.is_none_or(|age| age.as_secs() < context.thresholds.log_recent)
}

fn last(age: Option<Duration>) -> String {
    age.map_or_else(String::new, |age| format!(", the last {} ago", duration(age)))
}

fn suppressed(context: &Context<'_>) -> String {
    match context.snapshot.log.suppressed {
        0 => String::new(),
        held_back => format!("; {} network messages held back by rate limit", count(held_back)),
    }
}
