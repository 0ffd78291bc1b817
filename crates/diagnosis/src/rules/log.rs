//! What the kernel log has to say.

use std::time::Duration;

use ctkeeper_flow::units::{count, duration};
use ctkeeper_snapshot::{FullReports, Namespace};

use super::{Explanation, Rule};
use crate::context::Context;
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
                hide a full namespace entirely. Suppressed counts name no namespace. Tools that \
                look for the old wording miss the new one.",
    },
};

fn kernel_log(context: &Context<'_>) -> Vec<Finding> {
    let reports = &context.snapshot.log.full;
    reports.iter().map(|report| full_lines(context, report)).collect()
}

fn full_lines(context: &Context<'_>, report: &FullReports) -> Finding {
    let now = context.snapshot.taken.boottime_ms;
    let age = report.last_ms.map(|last| Duration::from_millis(now.saturating_sub(last)));
    let recent = age.is_none_or(|age| age.as_secs() < context.thresholds.log_recent);
    let severity = if recent { Severity::Warning } else { Severity::Note };
    let namespace = report.namespace.and_then(|inode| find(context, inode));
    let when = age.map_or_else(String::new, |age| format!(", the last {} ago", duration(age)));
    Finding::new(KERNEL_LOG.id, severity, namespace.map_or(Scope::Host, Scope::from))
        .headline("the kernel has logged a full table")
        .summary(format!(
            "{} lines `table full` for {}{when}{}.",
            count(report.lines),
            whose(report, namespace),
            suppressed(context),
        ))
        .meaning(
            "New connections were refused. Lines are no count: at most ten appear in five \
             seconds, for the whole host.",
        )
        .evidence("lines", report.lines)
        .evidence("suppressed", context.snapshot.log.suppressed)
        .remedy("ctkeeper doctor --window 2s", "see whether packets are refused just now")
}

fn find<'a>(context: &Context<'a>, inode: u64) -> Option<&'a Namespace> {
    context.snapshot.namespaces.iter().find(|namespace| namespace.inode == inode)
}

fn whose(report: &FullReports, namespace: Option<&Namespace>) -> String {
    match (report.namespace, namespace) {
        (_, Some(namespace)) => format!("namespace {}", namespace.label()),
        (Some(inode), None) => format!("namespace {inode}, which is gone or hidden"),
        (None, None) => "a namespace that this kernel does not name".to_owned(),
    }
}

fn suppressed(context: &Context<'_>) -> String {
    match context.snapshot.log.suppressed {
        0 => String::new(),
        held_back => format!("; {} network messages held back by rate limit", count(held_back)),
    }
}
