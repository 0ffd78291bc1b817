//! Limit, buckets and memory held against each other.

use std::time::Duration;

use ctkeeper_flow::units::{count, duration, mebibytes, percent};
use ctkeeper_snapshot::{EntrySize, Limits, Snapshot, Statistic};

use super::{Explanation, Rule};
use crate::context::Context;
use crate::{Finding, Scope, Severity, Thresholds};

pub(super) const SECOND_WALL: Rule = Rule {
    id: "second-wall",
    title: "the limit is too high for the hash buckets",
    judge: second_wall,
    explanation: Explanation {
        why: "Entries hang in chains off a fixed number of hash buckets, each entry in two. \
              With many entries a bucket every packet walks long chains, and from 16 to 40 \
              entries a bucket on the kernel refuses to insert new flows: a second wall, without \
              a log line and with `drop` at 0. Raising nf_conntrack_max alone builds it.",
        evidence: "nf_conntrack_max over nf_conntrack_buckets (1 is healthy, 2 still fine), the \
                   load that stands now over all namespaces, and the chaintoolong counter.",
        remedies: "ctkeeper fix raises the buckets with the limit: buckets first, one entry a \
                   bucket at the limit (two where memory is short), eight bytes each.",
        traps: "nf_conntrack_buckets in a sysctl file is lost like the limit when the module \
                loads late; the module option hashsize= is not, but it also sets the limit to \
                eight times itself. kube-proxy sets a quarter of the limit.",
    },
};

pub(super) const MEMORY_AT_LIMIT: Rule = Rule {
    id: "memory-at-limit",
    title: "a table at the limit would take too much memory",
    judge: memory_at_limit,
    explanation: Explanation {
        why: "Entries are kernel memory: they cannot be swapped, and belong to no cgroup's \
              limit. A limit that memory cannot carry turns a refused connection into an \
              out-of-memory kill.",
        evidence: "The fullest namespace at the limit and the others at one and a half times \
                   their count, times the bytes of an entry on this kernel, plus the buckets; \
                   held against MemAvailable less what others have a claim on.",
        remedies: "Free entries rather than raise the limit: back-end reuse, shorter timeouts, \
                   notrack for traffic that needs none. Or give the host more memory.",
        traps: "The limit counts for each namespace: the worst case, every namespace at the \
                limit, is far above this figure. Tools that multiply the limit once miss it.",
    },
};

pub(super) const UNLIMITED: Rule = Rule {
    id: "unlimited",
    title: "the limit is 0: unlimited",
    judge: unlimited,
    explanation: Explanation {
        why: "nf_conntrack_max = 0 switches the limit off. Nothing is refused for want of a \
              place; memory and the hash chains are the only bounds left.",
        evidence: "The running limit.",
        remedies: "Set a limit that memory can carry: ctkeeper fix --target N.",
        traps: "Share, headroom and time to full mean nothing without a limit: alerts on the \
                ratio never fire. Kernel developers plan to refuse the value 0.",
    },
};

fn second_wall(context: &Context<'_>) -> Vec<Finding> {
    let Some(limits) = context.limits() else { return Vec::new() };
    let wall = Wall {
        at_limit: limits.load_at_limit().unwrap_or(0.0),
        now: context.load(),
        refused: chain_refusals(context.snapshot),
    };
    let Some(severity) = wall.severity(context.thresholds) else { return Vec::new() };
    vec![
        Finding::new(SECOND_WALL.id, severity, Scope::Host)
            .headline(wall.headline(severity))
            .summary(wall.summary(limits))
            .meaning(
                "Lookups slow down with every entry in a chain; from 16 to 40 entries a bucket \
                 on, new flows are refused silently, long before the limit.",
            )
            .evidence("load", wall.now)
            .evidence("load_at_limit", wall.at_limit)
            .evidence("buckets", limits.buckets)
            .evidence("chaintoolong", wall.refused.insertions)
            .remedy(
                "ctkeeper fix",
                "raise the buckets with the limit: one entry a bucket, two where memory is short",
            ),
    ]
}

/// Entries a bucket, and what came of them.
struct Wall {
    at_limit: f64,
    now: f64,
    refused: Refused,
}

/// Insertions refused since the last look for chains too long, and how long ago that was.
#[derive(Default)]
struct Refused {
    insertions: u64,
    window: Duration,
}

impl Wall {
    fn severity(&self, thresholds: &Thresholds) -> Option<Severity> {
        // An old look's difference says that there was a wall, not that it stands.
        let refusing =
            self.refused.insertions > 0 && self.refused.window.as_secs() <= thresholds.rate_window;
        if refusing || self.now >= thresholds.load_critical {
            Some(Severity::Critical)
        } else if self.refused.insertions > 0
            || self.at_limit > thresholds.load_warning
            || self.now > thresholds.load_warning
        {
            Some(Severity::Warning)
        } else if self.at_limit > thresholds.load_note {
            Some(Severity::Note)
        } else {
            None
        }
    }

    fn headline(&self, severity: Severity) -> String {
        match (severity, self.refused.insertions) {
            (Severity::Critical, 1..) => "new flows are being refused: hash chains are too long",
            (Severity::Critical, 0) => "hash chains are too long",
            (_, 1..) => "new flows were refused: hash chains were too long",
            _ => "the limit is too high for the hash buckets",
        }
        .to_owned()
    }

    fn summary(&self, limits: Limits) -> String {
        let mut text = format!("{} buckets", count(limits.buckets));
        if let Some(limit) = limits.limit.entries() {
            let at_limit = self.at_limit;
            text +=
                &format!(" for a limit of {}: {at_limit:.1} entries a bucket there", count(limit));
        }
        text += &format!("; {:.1} now", self.now);
        if self.refused.insertions > 0 {
            let (refused, window) = (count(self.refused.insertions), duration(self.refused.window));
            text += &format!("; {refused} insertions refused (chaintoolong) in the last {window}");
        }
        text + "."
    }
}

fn chain_refusals(snapshot: &Snapshot) -> Refused {
    let rates = snapshot.namespaces.iter().filter_map(|namespace| namespace.rates.as_ref());
    rates.fold(Refused::default(), |total, rates| {
        match rates.statistics.value(Statistic::ChainTooLong) {
            0 => total,
            moved => Refused {
                insertions: total.insertions.saturating_add(moved),
                window: total.window.max(Duration::from_millis(rates.window_ms)),
            },
        }
    })
}

fn memory_at_limit(context: &Context<'_>) -> Vec<Finding> {
    let snapshot = context.snapshot;
    let Some(need) = snapshot.limits.and_then(|limits| Need::of(snapshot, limits)) else {
        return Vec::new();
    };
    if snapshot.memory.total == 0 {
        // Not read: its gap speaks.
        return Vec::new();
    }
    let free = snapshot.memory.free_to_plan();
    let share = need.beyond_now as f64 / free.max(1) as f64;
    let thresholds = context.thresholds;
    let severity = match share {
        share if share >= thresholds.memory_critical => Severity::Critical,
        share if share >= thresholds.memory_warning => Severity::Warning,
        share if share >= thresholds.memory_note => Severity::Note,
        _ => return Vec::new(),
    };
    vec![
        Finding::new(MEMORY_AT_LIMIT.id, severity, Scope::Host)
            .headline(format!("the table at its limit takes {} of free memory", percent(share)))
            .summary(format!(
                "at the limit the table needs {} more than now, {} of the {} free to plan with; \
                 worst case, every namespace at the limit: {}.",
                mebibytes(need.beyond_now),
                percent(share),
                mebibytes(free),
                mebibytes(need.worst),
            ))
            .meaning("Entries are kernel memory: what they take is taken from every process.")
            .evidence("bytes_at_limit", need.at_limit)
            .evidence("bytes_beyond_now", need.beyond_now)
            .evidence("bytes_worst_case", need.worst)
            .evidence("bytes_free_to_plan", free)
            .remedy("ctkeeper explain memory-at-limit", "ways to need fewer entries"),
    ]
}

/// Memory of the table in bytes.
struct Need {
    at_limit: u64,
    beyond_now: u64,
    worst: u64,
}

impl Need {
    fn of(snapshot: &Snapshot, limits: Limits) -> Option<Self> {
        let limit = limits.limit.entries()?;
        let bytes = snapshot.memory.entry.bytes();
        let buckets = limits.buckets.saturating_mul(EntrySize::BUCKET);
        let fullest = snapshot.fullest().map_or(0, |namespace| namespace.count);
        let total = snapshot.total_entries();
        let others = total.saturating_sub(fullest).saturating_mul(3) / 2;
        let entries = limit.max(fullest).saturating_add(others);
        let namespaces = snapshot.namespaces.len().max(1) as u64;
        Some(Self {
            at_limit: entries.saturating_mul(bytes).saturating_add(buckets),
            beyond_now: entries.saturating_sub(total).saturating_mul(bytes),
            worst: limit.saturating_mul(namespaces).saturating_mul(bytes).saturating_add(buckets),
        })
    }
}

fn unlimited(context: &Context<'_>) -> Vec<Finding> {
    let running_zero = |limits: &Limits| limits.limit.entries().is_none();
    if !context.limits().as_ref().is_some_and(running_zero) {
        return Vec::new();
    }
    vec![
        Finding::new(UNLIMITED.id, Severity::Note, Scope::Host)
            .headline("the limit is switched off")
            .summary("nf_conntrack_max is 0: the table has no limit.")
            .meaning("Memory and hash chains are the only bounds; ratios and forecasts are void.")
            .evidence("limit", 0_u64)
            .remedy("ctkeeper fix --target N", "set a limit that memory can carry"),
    ]
}
