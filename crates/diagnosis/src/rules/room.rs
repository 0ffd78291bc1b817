//! Locked or soft: whether eviction can make room.

use ctkeeper_census::{Estimate, Headroom};
use ctkeeper_flow::units::{count, percent};
use ctkeeper_snapshot::{Namespace, Sample};

use super::traffic::lives_on_evictions;
use super::{Explanation, Rule};
use crate::context::{Context, list, refused};
use crate::{Finding, Severity};

pub(super) const LOCKED: Rule = Rule {
    id: "locked",
    title: "most entries cannot be evicted: the limit is a cliff",
    judge: locked,
    explanation: Explanation {
        why: "Early drop takes only unassured entries: half-open connections, one-way UDP. A \
              table of established connections gives nothing back; the limit is a cliff.",
        evidence: "A sample of the entries (a prefix of the dump, which is in keyed-hash order, \
                   so each entry has the same chance to be in it): assured, not closing, more \
                   than a minute to live. The share is given with its 95 % interval.",
        remedies: "ctkeeper fix, before the table is full. Reuse back-end connections; let idle \
                   ones end sooner (see idle-established).",
        traps: "A ratio alone misleads: 90 % of locked entries is worse than 100 % of half-open \
                ones.",
    },
};

pub(super) const SOFT: Rule = Rule {
    id: "soft",
    title: "most entries are evictable: a flood of half-open or one-way flows",
    judge: soft,
    explanation: Explanation {
        why: "Most entries have never been confirmed by an answer and a third packet. The kernel \
              evicts them when it needs room, so a full table is less of a cliff; but somebody \
              sends a lot that nobody answers.",
        evidence: "The sample's share of assured entries, and the chance that early drop finds \
                   somebody: it looks into eight buckets only, so in a large, thinly filled hash \
                   table it mostly finds nobody.",
        remedies: "Find the source (a scan, a SYN flood, a service that is down). Half-open TCP \
                   entries live two minutes (nf_conntrack_tcp_timeout_syn_sent).",
        traps: "More buckets make the eviction weaker: with few entries a bucket, eight buckets \
                hold nobody. Size for the flood, or stop it before it is tracked.",
    },
};

fn locked(context: &Context<'_>) -> Vec<Finding> {
    sampled(context, |namespace, sample, room| {
        let locked = Estimate::of(sample.locked, sample)?;
        // A table that refuses packets says so itself, with this share.
        if locked.low < context.thresholds.locked_share || refused(namespace) > 0 {
            return None;
        }
        let grave = namespace.share()? >= context.thresholds.nearly_full_warning;
        let severity = if grave { Severity::Warning } else { Severity::Note };
        Some(
            Finding::new(LOCKED.id, severity, namespace.into())
                .headline("eviction can make no room")
                .summary(format!(
                    "namespace {}: {} of its {} entries are locked (assured, not closing); {}.",
                    namespace.label(),
                    with_margin(locked),
                    count(namespace.count),
                    room_for(room.effective()),
                ))
                .meaning("Early drop cannot help here: what fits is what is free.")
                .evidence("locked_share", locked.share)
                .evidence("effective_headroom", room.effective())
                .evidence("sample", sample.size)
                .remedy("ctkeeper fix", "raise limit and buckets before the table is full"),
        )
    })
}

fn soft(context: &Context<'_>) -> Vec<Finding> {
    sampled(context, |namespace, sample, room| {
        let assured = Estimate::of(sample.assured, sample)?;
        // A table that lives on evictions says so itself.
        if assured.high > context.thresholds.soft_share || lives_on_evictions(context, namespace) {
            return None;
        }
        let evictable = Estimate::of(sample.size - sample.assured, sample)?;
        Some(
            Finding::new(SOFT.id, Severity::Note, namespace.into())
                .headline("most entries are evictable")
                .summary(format!(
                    "namespace {}: {} of its {} entries are unassured ({} have seen no answer); \
                     a new packet finds one to evict with a chance of {}.",
                    namespace.label(),
                    with_margin(evictable),
                    count(namespace.count),
                    percent(sample.unreplied as f64 / sample.size.max(1) as f64),
                    percent(room.eviction_chance),
                ))
                .meaning(soft_meaning(room))
                .evidence("evictable_share", evictable.share)
                .evidence("eviction_chance", room.eviction_chance)
                .evidence("sample", sample.size)
                .remedy(
                    list(namespace, "unreplied"),
                    "see who sends without being answered: a scan, a flood, a service that is down",
                ),
        )
    })
}

/// `room for about 2,000 more`, `nothing more fits`.
pub(super) fn room_for(entries: u64) -> String {
    match entries {
        0 => "nothing more fits".to_owned(),
        some => format!("room for about {} more", count(some)),
    }
}

fn soft_meaning(room: &Headroom) -> &'static str {
    if room.eviction_chance >= 0.9 {
        "The kernel makes room among them when it must: a full table is no cliff here."
    } else {
        "They could make room, but early drop looks into eight buckets only and mostly finds \
         nobody there: at the limit new connections will be refused all the same."
    }
}

/// Runs `judge` over the namespaces that are full enough to matter and have been sampled.
fn sampled(
    context: &Context<'_>,
    judge: impl Fn(&Namespace, &Sample, &Headroom) -> Option<Finding>,
) -> Vec<Finding> {
    let full_enough =
        |namespace: &&Namespace| namespace.share() >= Some(context.thresholds.room_share);
    let judged = |namespace: &Namespace| {
        let sample = namespace.sample.as_ref()?;
        let load = context.own_load(namespace);
        let room = Headroom::of(namespace.limit, namespace.count, sample, load)?;
        judge(namespace, sample, &room)
    };
    context.snapshot.namespaces.iter().filter(full_enough).filter_map(judged).collect()
}

fn with_margin(estimate: Estimate) -> String {
    let margin = estimate.margin() * 100.0;
    if margin < 0.05 {
        percent(estimate.share)
    } else {
        format!("{} ±{margin:.1}", percent(estimate.share))
    }
}
