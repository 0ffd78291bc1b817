//! What the traffic does to the table: floods that live on evictions, packets of no connection.

use std::time::Duration;

use ctkeeper_census::{Estimate, Headroom};
use ctkeeper_flow::units::{count, counted, duration, percent};
use ctkeeper_snapshot::{Namespace, Rates, Sample, Statistic};

use super::pace::{is_recent, pace, window};
use super::table::{of_limit, with_numbers};
use super::{Explanation, Rule};
use crate::context::{Context, list, refused, run_in};
use crate::{Finding, Severity};

pub(super) const EARLY_DROP: Rule = Rule {
    id: "early-drop",
    title: "the table is full and lives on evictions",
    judge: early_drop,
    explanation: Explanation {
        why: "At nf_conntrack_max the kernel looks for an entry to evict before it refuses a \
              packet: one that is not assured, so half-open TCP, one-way UDP, ICMP. While it finds \
              some nothing is refused and nothing is logged. Usually that is a flood of flows that \
              nobody answers: a SYN flood, a scan, a service that is down. Evicted with them go \
              connections that are still being set up, and short exchanges such as DNS queries.",
        evidence: "The early_drop counter moved since the last look, by at least as much as \
                   packets were refused, or most entries of a sample are unassured. Where packets \
                   are refused as well, table-full says so beside this; where they are refused far \
                   more often, it speaks alone. A sample tells who sends what is not answered, and \
                   where to.",
        remedies: "Stop what is not wanted before it is tracked: a rule that drops its source or \
                   limits its rate in a chain before connection tracking (priority raw), SYNPROXY \
                   or SYN cookies for a SYN flood, notrack for services that need no tracking. \
                   Where the flows are wanted, ctkeeper fix makes room.",
        traps: "A rule that drops in the input or forward chain comes after tracking: the packet's \
                entry goes again, but at the limit it has evicted another before. A shorter \
                nf_conntrack_tcp_timeout_syn_sent or _udp_timeout holds for new entries only. \
                Sources of a SYN flood may be forged: the block that is named need not be the \
                sender. More buckets make evictions rarer: eight buckets are looked into, and in a \
                thin table they hold nobody.",
    },
};

pub(super) const INVALID_PACKETS: Rule = Rule {
    id: "invalid-packets",
    title: "many packets belong to no connection",
    judge: invalid_packets,
    explanation: Explanation {
        why: "Connection tracking calls a packet INVALID that belongs to no connection and may not \
              begin one: a TCP segment outside the window or of a connection whose handshake was \
              not seen, an answer to nothing, a broken checksum. It passes unless a rule drops it, \
              but it is not translated: under NAT it leaves with the wrong address and the far end \
              resets the connection. A few each second are normal on every host: late FINs and \
              RSTs of connections that have just ended.",
        evidence: "The invalid counter's rate since the last look, from a few dozen a second on, \
                   and only where it is more than a thousandth of the namespace's entries a \
                   second. Warned of only where something acts on tracking: a rule that drops, or \
                   translation; rules that drop by state are named. Whether they drop these very \
                   packets cannot be seen from here.",
        remedies: "Find out which they are: nf_conntrack_log_invalid=255 has the kernel log each \
                   with the reason. Usual reasons: packets of one direction take another way \
                   (asymmetric routing, two gateways, a load balancer that answers directly): make \
                   both ways meet here, or notrack that traffic with rules that accept it \
                   untracked. Entries that were flushed, evicted or timed out too early: see \
                   early-drop and table-full. A firewall or a card that merges or reorders \
                   segments: nf_conntrack_tcp_be_liberal=1 switches the window check off.",
        traps: "nf_conntrack_tcp_be_liberal=1 switches off a check that also stops forged \
                segments, and helps with windows only. nf_conntrack_tcp_loose=0 makes every \
                connection that was set up before tracking began invalid. Removing a rule that \
                drops invalid packets does not mend translation. log_invalid writes one line a \
                packet, rate-limited by the kernel's log alone, and logs other namespaces only \
                with net.netfilter.nf_log_all_netns=1.",
    },
};

/// A group with this share of the flows that are not answered is worth naming.
const MOST: f64 = 0.5;
/// What a handshake may take before evictions get in its way.
const SLOW_HANDSHAKE: Duration = Duration::from_secs(60);

fn early_drop(context: &Context<'_>) -> Vec<Finding> {
    let namespaces = context.snapshot.namespaces.iter();
    namespaces.filter_map(|namespace| evicting(context, namespace)).collect()
}

/// Whether a full table gets by on evictions: `early-drop` speaks of it then.
pub(super) fn lives_on_evictions(context: &Context<'_>, namespace: &Namespace) -> bool {
    let evicted = evictions(namespace);
    evicted > 0 && (evicted >= refused(namespace) || is_soft(context, namespace))
}

/// Entries evicted since the last look.
pub(super) fn evictions(namespace: &Namespace) -> u64 {
    namespace.rates.as_ref().map_or(0, |rates| rates.moved(Statistic::EarlyDrop))
}

fn is_soft(context: &Context<'_>, namespace: &Namespace) -> bool {
    let assured = |sample: &Sample| Estimate::of(sample.assured, sample);
    let assured = namespace.sample.as_ref().and_then(assured);
    assured.is_some_and(|assured| assured.high <= context.thresholds.soft_share)
}

fn evicting(context: &Context<'_>, namespace: &Namespace) -> Option<Finding> {
    let rates = namespace.rates.as_ref()?;
    if !lives_on_evictions(context, namespace) {
        return None;
    }
    let evicted = evictions(namespace);
    let recent = is_recent(context, rates);
    let severity = if recent { Severity::Warning } else { Severity::Note };
    let pace = pace(context, rates, evicted, "entries");
    let headline = if recent {
        format!("the table is full and lives on evictions, {pace}")
    } else {
        format!("the table was full and lived on evictions, {pace}")
    };
    let finding = Finding::new(EARLY_DROP.id, severity, namespace.into())
        .headline(headline)
        .summary(evicting_summary(namespace, rates, evicted))
        .meaning(evicting_meaning(context, namespace, rates, evicted))
        .evidence("evicted_entries", evicted)
        .evidence("refused_packets", refused(namespace))
        .evidence("window_ms", rates.window_ms);
    let finding = namespace.sample.iter().fold(finding, with_senders);
    Some(
        with_numbers(finding, namespace)
            .remedy(list(namespace, "unreplied"), "see who sends without being answered")
            .remedy("ctkeeper explain early-drop", "ways to stop them before they are tracked"),
    )
}

fn evicting_summary(namespace: &Namespace, rates: &Rates, evicted: u64) -> String {
    let beside = match refused(namespace) {
        0 => "no packet was refused".to_owned(),
        refused => format!("{} refused besides", counted(refused, "packet was", "packets were")),
    };
    let mut text = format!(
        "namespace {}: {}; {} evicted in the last {}, {beside}.",
        namespace.label(),
        of_limit(namespace),
        count(evicted),
        duration(window(rates)),
    );
    if let Some(sample) = namespace.sample.as_ref().filter(|sample| sample.unreplied > 0) {
        let share = percent(sample.unreplied as f64 / sample.size.max(1) as f64);
        text += &format!(" {share} of the entries have seen no answer{}.", senders(sample));
    }
    text
}

/// `, most of them from 203.0.113.7 to tcp 192.0.2.1:80`.
fn senders(sample: &Sample) -> String {
    let who = &sample.unanswered;
    let most = |entries: u64| entries as f64 >= MOST * sample.unreplied as f64;
    let source = who.source.filter(|group| most(group.entries)).map(|g| g.what.to_string());
    let network = || who.network.filter(|group| most(group.entries)).map(|g| g.what.to_string());
    let from = source.or_else(network);
    let to = who.destination.filter(|group| most(group.entries)).map(|g| g.what.to_string());
    match (from, to) {
        (Some(from), Some(to)) => format!(", most of them from {from} to {to}"),
        (Some(from), None) => format!(", most of them from {from} to many destinations"),
        (None, Some(to)) => format!(", most of them from many sources to {to}"),
        (None, None) => ", from many sources to many destinations".to_owned(),
    }
}

fn with_senders(finding: Finding, sample: &Sample) -> Finding {
    let who = &sample.unanswered;
    let mut finding =
        finding.evidence("unreplied", sample.unreplied).evidence("sample", sample.size);
    if let Some(source) = who.source {
        finding = finding
            .evidence("source", source.what.to_string())
            .evidence("source_entries", source.entries);
    }
    if let Some(network) = who.network {
        finding = finding
            .evidence("source_network", network.what.to_string())
            .evidence("source_network_entries", network.entries);
    }
    if let Some(destination) = who.destination {
        finding = finding
            .evidence("destination", destination.what.to_string())
            .evidence("destination_entries", destination.entries);
    }
    finding
}

/// An evictable entry is taken with the same chance as any other: it lives as long, on average, as
/// it takes to evict them all.
fn evicting_meaning(
    context: &Context<'_>,
    namespace: &Namespace,
    rates: &Rates,
    evicted: u64,
) -> String {
    let what = "Flows that nobody has answered make room for new ones.";
    let load = context.own_load(namespace);
    let room = namespace
        .sample
        .as_ref()
        .and_then(|sample| Headroom::of(namespace.limit, namespace.count, sample, load));
    let lives = room.map(|room| room.evictable as f64 / rates.per_second(evicted as f64));
    match lives.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(lives) if is_recent(context, rates) && lives < SLOW_HANDSHAKE => format!(
            "{what} A connection that is still being set up is among them: it has {} on average \
             before it is evicted itself.",
            duration(lives),
        ),
        _ => format!("{what} A connection that is slow to be set up may be among them."),
    }
}

fn invalid_packets(context: &Context<'_>) -> Vec<Finding> {
    let namespaces = context.snapshot.namespaces.iter();
    namespaces.filter_map(|namespace| invalid(context, namespace)).collect()
}

fn invalid(context: &Context<'_>, namespace: &Namespace) -> Option<Finding> {
    let rates = namespace.rates.as_ref()?;
    let packets = rates.moved(Statistic::Invalid);
    let severity = invalid_severity(context, namespace, rates.per_second(packets as f64))?;
    let finding = Finding::new(INVALID_PACKETS.id, severity, namespace.into())
        .headline(format!(
            "many packets belong to no connection, {}",
            pace(context, rates, packets, "packets")
        ))
        .summary(format!(
            "namespace {}: {} were INVALID in the last {}, beside {}{}.",
            namespace.label(),
            counted(packets, "packet", "packets"),
            duration(window(rates)),
            counted(namespace.count, "entry", "entries"),
            dropped_by(namespace),
        ))
        .meaning(
            "They are not translated, and rules that expect a known state drop them: connections \
             hang or are reset although nothing is full.",
        )
        .evidence("invalid_packets", packets)
        .evidence("window_ms", rates.window_ms)
        .evidence("count", namespace.count)
        .remedy_if(
            run_in(namespace, "sysctl net.netfilter.nf_conntrack_log_invalid=255"),
            log_effect(namespace),
        )
        .remedy("ctkeeper explain invalid-packets", "the usual reasons, and what mends each");
    Some(finding)
}

fn log_effect(namespace: &Namespace) -> &'static str {
    if namespace.initial {
        "have the kernel log them with the reason; 0 ends it"
    } else {
        "have the kernel log them with the reason; 0 ends it; on the host also \
         net.netfilter.nf_log_all_netns=1"
    }
}

fn invalid_severity(
    context: &Context<'_>,
    namespace: &Namespace,
    per_second: f64,
) -> Option<Severity> {
    let thresholds = context.thresholds;
    let many = thresholds.invalid_share * namespace.count as f64;
    if per_second < thresholds.invalid_note.max(many) {
        return None;
    }
    // Where nothing acts on tracking nobody feels it.
    let acted_on = namespace.tracking.as_ref().is_none_or(|t| t.needed() != Some(false));
    let grave = per_second >= thresholds.invalid_warning && acted_on;
    Some(if grave { Severity::Warning } else { Severity::Note })
}

/// The rules that drop by the state of the connection.
fn dropped_by(namespace: &Namespace) -> String {
    let trackers = namespace.tracking.iter().flat_map(|tracking| &tracking.trackers);
    let dropping: Vec<_> = trackers.filter(|tracker| tracker.drops).map(|t| &t.place).collect();
    match dropping.as_slice() {
        [] => String::new(),
        [only] => format!("; {only} drops by state"),
        [first, rest @ ..] => format!("; {first} and {} more drop by state", rest.len()),
    }
}
