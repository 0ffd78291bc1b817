//! What could not be seen, or is not there to be seen.

use ctkeeper_snapshot::{EarlyLoad, Gap, GapKind, ModuleState};

use super::{Explanation, Rule};
use crate::context::Context;
use crate::{Finding, Scope, Severity};

pub(super) const PRIVILEGE_MISSING: Rule = Rule {
    id: "privilege-missing",
    title: "a privilege is missing to see everything",
    judge: privilege_missing,
    explanation: Explanation {
        why: "Counts and counters of a namespace need CAP_NET_ADMIN there, entering other \
              namespaces CAP_SYS_ADMIN, the kernel log CAP_SYSLOG. What is not seen cannot be \
              judged: doctor says so with exit code 3 instead of a green that it did not earn.",
        evidence: "Every read that was denied, with the operation and the object.",
        remedies: "Run as root, or grant CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE and \
                   CAP_SYSLOG. In a container: run it on the host.",
        traps: "conntrack -C without privilege prints a number from /proc and fails after it.",
    },
};

pub(super) const NOTHING_SEEN: Rule = Rule {
    id: "nothing-seen",
    title: "no namespace could be looked into",
    judge: nothing_seen,
    explanation: Explanation {
        why: "A host whose tables nobody has looked into may be in any state. Silence is no green.",
        evidence: "Connection tracking is there, or cannot be told, and not one namespace's count \
                   could be read: /proc is masked, or a privilege is missing.",
        remedies: "Run as root on the host, with /proc and /sys mounted.",
        traps: "In a container /proc may be another one's or partly masked, and tools that read \
                only what is left report nothing at all.",
    },
};

pub(super) const MODULE_ABSENT: Rule = Rule {
    id: "module-absent",
    title: "connection tracking is not loaded",
    judge: module_absent,
    explanation: Explanation {
        why: "Without the module nothing is tracked and nothing can be full. It comes with the \
              first rule that needs it: a firewall, Docker, kube-proxy.",
        evidence: "/proc/sys/net/netfilter, /proc/modules and the kernel's list of built-ins. \
                   Nothing is loaded to find out.",
        remedies: "None needed. ctkeeper fix --persist --target N prepares files for the day \
                   when it is loaded.",
        traps: "Many tools load the module by looking: conntrack -L and nft list do.",
    },
};

pub(super) const UNFINISHED_CHANGE: Rule = Rule {
    id: "unfinished-change",
    title: "a change by ctkeeper fix was interrupted",
    judge: unfinished_change,
    explanation: Explanation {
        why: "A fix was killed, or the host went down, between its first and its last step. Its \
              journal holds what is needed to finish or to take it back.",
        evidence: "The journal under /var/lib/ctkeeper.",
        remedies: "ctkeeper fix --undo takes it back; any other ctkeeper fix recovers it first.",
        traps: "Files edited by hand in between are not overwritten without being asked.",
    },
};

pub(super) const BROKEN_FILE: Rule = Rule {
    id: "broken-file",
    title: "a settings file cannot be read or understood",
    judge: broken_file,
    explanation: Explanation {
        why: "What a file was meant to set is not known, so what is said about the next boot may \
              be wrong.",
        evidence: "The file, the line and what is wrong with it.",
        remedies: "Mend the file; `systemd-analyze cat-config sysctl.d` shows what systemd reads.",
        traps: "systemd-sysctl skips a broken line and goes on.",
    },
};

pub(super) const INCOMPLETE_VIEW: Rule = Rule {
    id: "incomplete-view",
    title: "the kernel or a mount hides something",
    judge: incomplete_view,
    explanation: Explanation {
        why: "Something that other hosts offer is not there: a masked /proc, a kernel without \
              statistics. The rest of the answer stands without it.",
        evidence: "Every read that was not possible, with the cause.",
        remedies: "As each line says.",
        traps: "In containers /proc and /sys are often masked: look from the host.",
    },
};

fn privilege_missing(context: &Context<'_>) -> Vec<Finding> {
    from_gaps(context, GapKind::Privilege, |finding| {
        finding
            .headline("not everything could be seen")
            .meaning("What is not seen cannot be judged: this is not a clean bill of health.")
            .remedy("sudo ctkeeper doctor", "look as root, on the host")
    })
}

fn broken_file(context: &Context<'_>) -> Vec<Finding> {
    from_gaps(context, GapKind::BrokenFile, |finding| {
        finding
            .headline("a settings file cannot be understood")
            .meaning("What is said about the next boot may be wrong.")
    })
}

fn incomplete_view(context: &Context<'_>) -> Vec<Finding> {
    from_gaps(context, GapKind::Unavailable, |finding| {
        finding
            .headline("some facts are not to be had here")
            .meaning("The rest of the answer stands without it.")
    })
}

/// Gaps that a finding names; more are counted.
const NAMED: usize = 3;

/// One finding for all gaps of a kind: the first ones in words, each as evidence.
fn from_gaps(
    context: &Context<'_>,
    kind: GapKind,
    fill: impl Fn(Finding) -> Finding,
) -> Vec<Finding> {
    let gaps: Vec<_> = context.snapshot.gaps.iter().filter(|gap| gap.kind == kind).collect();
    if gaps.is_empty() {
        return Vec::new();
    }
    let (id, severity) = match kind {
        GapKind::Privilege => (PRIVILEGE_MISSING.id, Severity::Unknown),
        GapKind::BrokenFile => (BROKEN_FILE.id, Severity::Warning),
        GapKind::Unavailable | GapKind::Vanished => (INCOMPLETE_VIEW.id, Severity::Note),
    };
    let mut named: Vec<_> = gaps.iter().take(NAMED).map(|gap| advise(gap)).collect();
    if gaps.len() > NAMED {
        named.push(format!("and {} more", gaps.len() - NAMED));
    }
    let finding = fill(Finding::new(id, severity, Scope::Host))
        .summary(format!("could not read {}.", named.join("; ")));
    vec![gaps.iter().fold(finding, |finding, gap| finding.evidence("gap", describe(gap)))]
}

/// What, why, and what to do about it.
fn advise(gap: &Gap) -> String {
    if gap.remedy.is_empty() {
        describe(gap)
    } else {
        format!("{} ({})", describe(gap), gap.remedy)
    }
}

fn describe(gap: &Gap) -> String {
    format!("{}: {}", gap.what, gap.cause)
}

fn nothing_seen(context: &Context<'_>) -> Vec<Finding> {
    let absent = context.snapshot.module == ModuleState::Absent;
    if absent || !context.snapshot.namespaces.is_empty() {
        return Vec::new();
    }
    vec![
        Finding::new(NOTHING_SEEN.id, Severity::Unknown, Scope::Host)
            .headline("no namespace could be looked into")
            .summary("not one namespace's count could be read.")
            .meaning("Nothing can be said about this host.")
            .remedy(
                "sudo ctkeeper doctor",
                "look as root on the host, with /proc and /sys mounted",
            ),
    ]
}

fn module_absent(context: &Context<'_>) -> Vec<Finding> {
    if context.snapshot.module != ModuleState::Absent {
        return Vec::new();
    }
    let early = match &context.snapshot.settings.early_load {
        EarlyLoad::ModulesLoad { file, line, .. } => {
            format!(" {}:{line} loads it at the next boot.", file.display())
        }
        _ => String::new(),
    };
    vec![
        Finding::new(MODULE_ABSENT.id, Severity::Note, Scope::Host)
            .headline("connection tracking is not loaded")
            .summary(format!("nf_conntrack is not loaded: nothing is tracked.{early}"))
            .meaning("There is no table that could be full. Nothing was loaded to find out."),
    ]
}

fn unfinished_change(context: &Context<'_>) -> Vec<Finding> {
    let Some(change) = &context.snapshot.unfinished_change else { return Vec::new() };
    vec![
        Finding::new(UNFINISHED_CHANGE.id, Severity::Warning, Scope::Host)
            .headline("a change was interrupted")
            .summary(format!("ctkeeper fix was interrupted: {change}."))
            .meaning("Running values and files may be half old, half new.")
            .evidence("change", change.clone())
            .remedy("ctkeeper fix --undo", "take the interrupted change back"),
    ]
}
