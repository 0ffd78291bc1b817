//! What a reboot will do to limit and buckets.

use ctkeeper_flow::units::count;
use ctkeeper_snapshot::{
    Assignment, Forecast, ForecastSource, ForecastValue, Limits, Origin, Reader, SettingKey,
};

use super::{Explanation, Rule};
use crate::context::Context;
use crate::{Finding, Scope, Severity};

const PERSIST: (&str, &str) =
    ("ctkeeper fix --persist", "write files that hold the running values at every boot");

pub(super) const LOST_AT_BOOT: Rule = Rule {
    id: "lost-at-boot",
    title: "a sysctl line is read before the module is there",
    judge: lost_at_boot,
    explanation: Explanation {
        why: "systemd-sysctl runs early. Where nothing has loaded nf_conntrack by then, its \
              sysctls do not exist yet: the line is skipped with a message that nobody reads, \
              and the unit stays active. Later a firewall loads the module with the kernel's own \
              default, and the host runs with that.",
        evidence: "The sysctl lines in the order in which systemd reads them; modules-load.d and \
                   udev rules; whether tracking is compiled in or a module.",
        remedies: "ctkeeper fix --persist writes modules-load.d (the module is there first), \
                   sysctl.d and the module option hashsize.",
        traps: "`sysctl -p` by hand works afterwards and proves nothing about the next boot. \
                A modules-load.d line alone keeps the limit and leaves the buckets at their \
                default: the second wall.",
    },
};

pub(super) const NOT_PERSISTED: Rule = Rule {
    id: "not-persisted",
    title: "a running value stands in no file",
    judge: not_persisted,
    explanation: Explanation {
        why: "The running value was set by hand or by a program. After a reboot the kernel's own \
              default is back, usually on the night when everything restarts at once.",
        evidence: "The running limit and buckets against what the files give after a reboot.",
        remedies: "ctkeeper fix --persist keeps the running values. Where a program sets them \
                   (kube-proxy, tuned), configure that program: ctkeeper fix --emit kube-proxy.",
        traps: "kube-proxy writes its own value at every start, also a smaller one: a file does \
                not help against it.",
    },
};

pub(super) const DIFFERS_FROM_PERSISTED: Rule = Rule {
    id: "differs-from-persisted",
    title: "a running value differs from the one in the files",
    judge: differs,
    explanation: Explanation {
        why: "The files promise one value, the kernel runs with another. One of them is wrong, \
              and a reboot decides which.",
        evidence: "The line that wins for systemd-sysctl, or the module option, against the \
                   running value.",
        remedies: "Decide which is right: sysctl --system applies the files, ctkeeper fix \
                   --persist writes the running values into them.",
        traps: "Several files may set the value: the last one read wins, and /etc/sysctl.conf is \
                last for procps but 99-sysctl.conf for systemd.",
    },
};

pub(super) const READERS_DISAGREE: Rule = Rule {
    id: "readers-disagree",
    title: "systemd-sysctl and sysctl --system would set different values",
    judge: readers_disagree,
    explanation: Explanation {
        why: "systemd reads /etc/sysctl.conf only where a link in sysctl.d names it, in the \
              order of the link's name; procps reads it last. The value after a boot and the \
              value after `sysctl --system` differ.",
        evidence: "The winning line of each reader.",
        remedies: "ctkeeper fix --persist writes one value that wins for both and comments out \
                   the lines that contradict it.",
        traps: "A test by `sysctl --system` shows what procps does, not what the boot does.",
    },
};

/// One of the two settings: what runs, and what each reader gives after a reboot.
struct Fate<'a> {
    key: SettingKey,
    running: Option<u64>,
    systemd: &'a ForecastValue,
    procps: Option<&'a ForecastValue>,
    origin: &'a Origin,
}

impl Fate<'_> {
    /// What runs now and will not after the reboot, given a known future.
    fn change(&self) -> Option<(u64, u64)> {
        let (running, later) = (self.running?, self.systemd.value?);
        (running != later).then_some((running, later))
    }
}

/// Both settings, where this namespace's files speak for the host.
fn fates<'a>(context: &Context<'a>) -> Vec<Fate<'a>> {
    let settings = &context.snapshot.settings;
    let Some(systemd) = settings.forecast(Reader::Systemd) else { return Vec::new() };
    if !context.snapshot.taken.in_initial_namespace {
        return Vec::new();
    }
    let procps = settings.forecast(Reader::Procps);
    let running = |part: fn(Limits) -> u64| context.limits().map(part);
    let fate = |key, running, part: fn(&Forecast) -> &ForecastValue, origin| Fate {
        key,
        running,
        systemd: part(systemd),
        procps: procps.map(part),
        origin,
    };
    vec![
        fate(SettingKey::Limit, running(|l| l.limit.0), |f| &f.limit, &settings.limit_origin),
        fate(SettingKey::Buckets, running(|l| l.buckets), |f| &f.buckets, &settings.buckets_origin),
    ]
}

fn lost_at_boot(context: &Context<'_>) -> Vec<Finding> {
    let lost = |fate: &Fate<'_>| {
        let line = fate.systemd.lost.as_ref()?;
        if line.value == fate.systemd.value {
            return None;
        }
        let after = after_reboot(fate.systemd);
        Some(
            Finding::new(LOST_AT_BOOT.id, Severity::Warning, Scope::Host)
                .headline("a setting is lost at the next boot")
                .summary(format!(
                    "{} = {} in {} is read before the module is there: {after} after a reboot.",
                    fate.key,
                    line.text,
                    place(line),
                ))
                .meaning("systemd-sysctl skips the line without failing, and the default stays.")
                .evidence("line", place(line))
                .evidence("value_after_reboot", after)
                .remedy(PERSIST.0, "load the module before the sysctls are read, at every boot"),
        )
    };
    fates(context).iter().filter_map(lost).collect()
}

fn not_persisted(context: &Context<'_>) -> Vec<Finding> {
    let fates = fates(context);
    let unheld: Vec<_> = fates.iter().filter(|fate| is_unheld(fate)).collect();
    let changes: Vec<_> = unheld.iter().filter_map(|fate| describe_change(fate)).collect();
    if changes.is_empty() {
        return Vec::new();
    }
    let writers = &context.snapshot.settings.other_writers;
    let author = match writers.as_slice() {
        [] => "set by hand or by a program".to_owned(),
        known => format!("perhaps set by {}", known.join(", ")),
    };
    let mut finding = Finding::new(NOT_PERSISTED.id, Severity::Warning, Scope::Host)
        .headline("running values are lost at the next boot")
        .summary(format!("{} (no file holds it; {author}).", changes.join("; ")))
        .meaning("The next reboot brings the kernel's own value back.");
    for fate in unheld {
        finding = with_fate(finding, fate);
    }
    vec![finding.remedy(PERSIST.0, PERSIST.1)]
}

/// Nothing was meant to hold the running value: no line won, none was lost.
fn is_unheld(fate: &Fate<'_>) -> bool {
    let by_itself = match fate.systemd.source {
        ForecastSource::KernelDefault => true,
        // hashsize= names buckets; the limit that follows from it was nobody's intention.
        ForecastSource::ModuleOption { .. } => fate.key == SettingKey::Limit,
        _ => false,
    };
    by_itself && fate.systemd.lost.is_none()
}

fn differs(context: &Context<'_>) -> Vec<Finding> {
    let fates = fates(context);
    let contradicted: Vec<_> = fates
        .iter()
        .filter(|fate| !is_unheld(fate) && fate.systemd.lost.is_none())
        .filter_map(|fate| Some((fate, describe_change(fate)?)))
        .collect();
    if contradicted.is_empty() {
        return Vec::new();
    }
    let text: Vec<_> = contradicted.iter().map(|(_, change)| change.as_str()).collect();
    let mut finding = Finding::new(DIFFERS_FROM_PERSISTED.id, Severity::Warning, Scope::Host)
        .headline("the files promise other values than those that run")
        .summary(format!("{}.", text.join("; ")))
        .meaning("A reboot, or `sysctl --system`, changes the running value.");
    for (fate, _) in &contradicted {
        finding = with_fate(finding, fate);
    }
    vec![
        finding
            .remedy("sysctl --system", "apply what the files say, if they are right")
            .remedy(PERSIST.0, "or write the running values into the files"),
    ]
}

fn readers_disagree(context: &Context<'_>) -> Vec<Finding> {
    let disagreement = |fate: &Fate<'_>| {
        let procps = fate.procps?;
        if fate.systemd.lost.is_some() || fate.systemd.value == procps.value {
            return None;
        }
        Some(
            Finding::new(READERS_DISAGREE.id, Severity::Warning, Scope::Host)
                .headline("the boot and `sysctl --system` set different values")
                .summary(format!(
                    "{}: {} by systemd-sysctl at boot, {} by sysctl --system.",
                    fate.key,
                    after_reboot(fate.systemd),
                    after_reboot(procps),
                ))
                .meaning("Which value runs depends on who read the files last.")
                .evidence("systemd", after_reboot(fate.systemd))
                .evidence("procps", after_reboot(procps))
                .remedy(PERSIST.0, "write one value that wins for both readers"),
        )
    };
    fates(context).iter().filter_map(disagreement).collect()
}

/// `net.netfilter.nf_conntrack_max runs at 600,000 and is 262,144 (kernel default) after a reboot`.
fn describe_change(fate: &Fate<'_>) -> Option<String> {
    let (running, _) = fate.change()?;
    let later = after_reboot(fate.systemd);
    Some(format!("{} runs at {} and is {later} after a reboot", fate.key, value_text(running)))
}

fn with_fate(finding: Finding, fate: &Fate<'_>) -> Finding {
    let (running, later) = (fate.running.unwrap_or(0), fate.systemd.value.unwrap_or(0));
    let names = match fate.key {
        SettingKey::Limit => ["limit", "limit_after_reboot", "limit_origin"],
        SettingKey::Buckets => ["buckets", "buckets_after_reboot", "buckets_origin"],
    };
    finding
        .evidence(names[0], running)
        .evidence(names[1], later)
        .evidence(names[2], origin_text(fate.origin))
}

/// `8,192 (kernel default)`, `600,000 (/etc/sysctl.conf:3)`.
fn after_reboot(value: &ForecastValue) -> String {
    let number = value.value.map_or_else(|| "an unknown value".to_owned(), value_text);
    let source = match &value.source {
        ForecastSource::KernelDefault => "kernel default".to_owned(),
        ForecastSource::Sysctl { assignment } | ForecastSource::ModuleOption { assignment } => {
            place(assignment)
        }
        ForecastSource::Refused { assignment } => {
            format!("the kernel refuses {:?} in {}", assignment.text, place(assignment))
        }
    };
    format!("{number} ({source})")
}

fn value_text(value: u64) -> String {
    if value == 0 { "0 (unlimited)".to_owned() } else { count(value) }
}

fn place(assignment: &Assignment) -> String {
    format!("{}:{}", assignment.file.display(), assignment.line)
}

fn origin_text(origin: &Origin) -> String {
    match origin {
        Origin::KernelDefault => "kernel default".to_owned(),
        Origin::File { assignment } => place(assignment),
        Origin::SomebodyElse => "set by hand or by a program".to_owned(),
        Origin::Unknown => "unknown".to_owned(),
    }
}
