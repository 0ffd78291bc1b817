//! What the entries are, and why they are there.

use std::time::Duration;

use ctkeeper_census::{Estimate, IDLE_SECONDS};
use ctkeeper_flow::units::{count, counted, duration, percent};
use ctkeeper_snapshot::Namespace;

use super::{Explanation, Rule};
use crate::context::{Context, run_in};
use crate::{Finding, Severity};

pub(super) const IDLE_ESTABLISHED: Rule = Rule {
    id: "idle-established",
    title: "idle established connections keep their entries for days",
    judge: idle_established,
    explanation: Explanation {
        why: "An established TCP entry lives five days after its last packet. Connections whose \
              ends have gone without a word (a crashed client, a lost VPN, a load balancer that \
              forgot) keep their entries that long, assured: early drop spares them.",
        evidence: "A sample's established entries, their idle time read from what remains of \
                   their timeout, and the namespace's own tcp_timeout_established.",
        remedies: "Shorter tcp_timeout_established (RFC 5382 asks for at least 2 h 4 min), set \
                   in the namespace that holds the entries; TCP keepalive below it in the \
                   programs; back-end reuse in the proxy.",
        traps: "Lowering the timeout does nothing to standing entries until their next packet: \
                it is no remedy in an incident. Below the keepalive interval of an application \
                it cuts living connections under address translation or a strict firewall. \
                Namespaces have timeouts of their own: setting the host's leaves a pod's alone.",
    },
};

pub(super) const WHY_TRACKED: Rule = Rule {
    id: "why-tracked",
    title: "connections are tracked and nothing needs it",
    judge: why_tracked,
    explanation: Explanation {
        why: "Tracking is switched on in a namespace as soon as one rule refers to it. A rule \
              that only counts or accepts by state, where nothing is dropped or translated, \
              costs an entry a connection and brings nothing.",
        evidence: "The namespace's nftables rules, legacy tables and module parameters that \
                   refer to tracking, and whether anything acts on what it knows: translates, drops, \
                   marks, queues. What is not known for sure to be harmless counts as acting.",
        remedies: "Delete the rule that is named. Then the namespace stops tracking, and its \
                   entries expire.",
        traps: "A counter of `ct state` may feed somebody's monitoring; Docker's and \
                Kubernetes' rules come back. notrack without accepting untracked packets cuts \
                connections where a filter expects a state.",
    },
};

fn idle_established(context: &Context<'_>) -> Vec<Finding> {
    let namespaces = context.snapshot.namespaces.iter();
    namespaces.filter_map(|namespace| idle(context, namespace)).collect()
}

fn idle(context: &Context<'_>, namespace: &Namespace) -> Option<Finding> {
    let thresholds = context.thresholds;
    let sample = namespace.sample.as_ref()?;
    let timeout = namespace.timeouts.as_ref()?.established()?;
    let idle = Estimate::of(sample.established_idle, sample)?;
    let matters = namespace.count >= thresholds.idle_entries
        && timeout >= thresholds.idle_timeout
        && idle.share >= thresholds.idle_share;
    if !matters {
        return None;
    }
    let crowded = namespace.share() >= Some(thresholds.room_share);
    let severity = if crowded { Severity::Warning } else { Severity::Note };
    let threshold = duration(Duration::from_secs(u64::from(IDLE_SECONDS)));
    let life = duration(Duration::from_secs(u64::from(timeout)));
    Some(
        Finding::new(IDLE_ESTABLISHED.id, severity, namespace.into())
            .headline("idle connections hold the table")
            .summary(format!(
                "namespace {}: {} of its {} entries are established and have seen no packet for \
                 {threshold} or more{}; each stays {life} after its last packet.",
                namespace.label(),
                percent(idle.share),
                count(namespace.count),
                median(sample.established_idle_median),
            ))
            .meaning("They are assured: nothing evicts them before their timeout.")
            .evidence("idle_share", idle.share)
            .evidence("tcp_timeout_established", u64::from(timeout))
            .remedy_if(
                run_in(namespace, "sysctl net.netfilter.nf_conntrack_tcp_timeout_established=7440"),
                "entries end 2 h 4 min after their last packet; standing ones only after their \
                 next",
            ),
    )
}

fn median(seconds: Option<u32>) -> String {
    seconds.map_or_else(String::new, |seconds| {
        format!(" (median {})", duration(Duration::from_secs(u64::from(seconds))))
    })
}

fn why_tracked(context: &Context<'_>) -> Vec<Finding> {
    let namespaces = context.snapshot.namespaces.iter();
    namespaces.filter_map(|namespace| needless(context, namespace)).collect()
}

fn needless(context: &Context<'_>, namespace: &Namespace) -> Option<Finding> {
    let tracking = namespace.tracking.as_ref()?;
    let idle = namespace.count < context.thresholds.why_tracked_entries;
    if idle || tracking.needed() != Some(false) {
        return None;
    }
    let causes: Vec<_> =
        tracking.trackers.iter().map(|t| format!("{} ({})", t.place, t.what)).collect();
    let turned_on = match causes.as_slice() {
        [] => "no rule that refers to it is left; the entries are left over".to_owned(),
        [cause] => format!("turned on by {cause}"),
        [cause, rest @ ..] => format!("turned on by {cause} and {} more", rest.len()),
    };
    let finding = Finding::new(WHY_TRACKED.id, Severity::Note, namespace.into())
        .headline("connections are tracked for nothing")
        .summary(format!(
            "namespace {}: {}, {turned_on}; nothing there acts on it.",
            namespace.label(),
            counted(namespace.count, "entry", "entries"),
        ))
        .meaning("Every connection costs an entry that nobody uses.")
        .evidence("count", namespace.count);
    let finding = causes.into_iter().fold(finding, |f, cause| f.evidence("tracker", cause));
    let find = run_in(namespace, "nft -a list ruleset");
    Some(finding.remedy_if(find, "find that rule; without it nothing is tracked"))
}
