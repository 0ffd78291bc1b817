//! Full, and nearly full.

use std::time::Duration;

use ctkeeper_census::{Headroom, time_until_full};
use ctkeeper_flow::units::{count, duration, percent};
use ctkeeper_snapshot::{Namespace, Rates};

use super::pace::pace;
use super::room::room_for;
use super::traffic::{evictions, lives_on_evictions};
use super::{Explanation, Rule};
use crate::context::{Context, refused};
use crate::{Finding, Severity};

const RAISE: (&str, &str) =
    ("ctkeeper fix", "raise limit and buckets together, with memory proof, and keep it at reboot");

pub(super) const TABLE_FULL: Rule = Rule {
    id: "table-full",
    title: "a namespace is full and packets are refused",
    judge: table_full,
    explanation: Explanation {
        why: "Every new connection needs an entry. At nf_conntrack_max, compared with each \
              namespace's own count, the kernel drops the first packet of every new connection \
              that early drop cannot make room for. Clients hang in connect, connections that \
              stand go on undisturbed, and the proxy's own log and error metrics stay green.",
        evidence: "The `drop` counter of the namespace moved (less what insert_failed explains: \
                   those are other walls) while its count stands at the limit. Without an earlier \
                   look there are no movements: use --window 2s, or run doctor twice. The kernel \
                   log's lines are only a hint: at most ten in five seconds for the whole host.",
        remedies: "ctkeeper fix raises limit and buckets together, live, and persists them. \
                   Then find what fills the table: a proxy without back-end reuse takes two \
                   entries a connection, an idle established entry lives five days.",
        traps: "Lowering a timeout frees nothing now: standing entries keep their expiry until \
                their next packet. Raising the limit alone leaves the buckets behind (see \
                second-wall) and is lost at reboot (see lost-at-boot). conntrack -F cuts \
                connections under address translation.",
    },
};

pub(super) const NEARLY_FULL: Rule = Rule {
    id: "nearly-full",
    title: "a namespace comes close to its limit",
    judge: nearly_full,
    explanation: Explanation {
        why: "Close to the limit a burst is enough to refuse new connections. What counts is \
              what still fits: free places, and unassured entries that early drop finds.",
        evidence: "Count over limit, growth since the last look, and the share of evictable \
                   entries in a sample. A table at the limit whose refusals have not been seen \
                   stands here too.",
        remedies: "ctkeeper fix. Where growth never ends, find who holds the entries first.",
        traps: "The count includes expired entries that the collector has not met yet, up to a \
                minute of them; a dump collects them, so a tool that lists the table changes \
                the number it measures.",
    },
};

fn table_full(context: &Context<'_>) -> Vec<Finding> {
    let namespaces = context.snapshot.namespaces.iter();
    namespaces.filter_map(|namespace| full(context, namespace)).collect()
}

fn full(context: &Context<'_>, namespace: &Namespace) -> Option<Finding> {
    let rates = namespace.rates.as_ref()?;
    let refused = refused(namespace);
    if refused == 0 {
        return None;
    }
    if refuses_hardly_any(context, namespace, refused) {
        return None;
    }
    if is_full(context, namespace) {
        Some(full_now(context, namespace, rates, refused))
    } else {
        Some(was_full(namespace, rates, refused))
    }
}

fn full_now(context: &Context<'_>, namespace: &Namespace, rates: &Rates, refused: u64) -> Finding {
    let finding = Finding::new(TABLE_FULL.id, Severity::Critical, namespace.into())
        .headline(format!(
            "new connections are being refused, {}",
            pace(context, rates, refused, "packets")
        ))
        .summary(format!(
            "namespace {}: {}{}.{}",
            namespace.label(),
            of_limit(namespace),
            held(context, namespace),
            held_by(namespace)
        ))
        .meaning(format!(
            "The first packet of {} is dropped: clients hang and retry. Connections that stand are \
             not touched, so logs and error rates stay green.",
            losers(context, namespace, refused)
        ))
        .evidence("refused_packets", refused)
        .evidence("window_ms", rates.window_ms);
    with_numbers(finding, namespace).remedy(RAISE.0, RAISE.1)
}

/// Whether evictions make room for all but a few: a chance of 99.9 % to find somebody to evict still
/// leaves one packet in a thousand, which is sent again.
fn refuses_hardly_any(context: &Context<'_>, namespace: &Namespace, refused: u64) -> bool {
    let share = refused_share(namespace, refused);
    lives_on_evictions(context, namespace) && share < context.thresholds.refused_share
}

/// Of the packets that wanted a place, those that got none, where all others got one by eviction.
fn refused_share(namespace: &Namespace, refused: u64) -> f64 {
    refused as f64 / (refused as f64 + evictions(namespace) as f64)
}

/// `every new connection`, or how many where others get a place by eviction.
fn losers(context: &Context<'_>, namespace: &Namespace, refused: u64) -> String {
    if !lives_on_evictions(context, namespace) {
        return "every new connection".to_owned();
    }
    format!("about {} of the new connections", percent(refused_share(namespace, refused)))
}

fn was_full(namespace: &Namespace, rates: &Rates, refused: u64) -> Finding {
    let ago = duration(Duration::from_millis(rates.window_ms));
    let finding = Finding::new(TABLE_FULL.id, Severity::Warning, namespace.into())
        .headline(format!("{} packets were refused in the last {ago}", count(refused)))
        .summary(format!(
            "namespace {}: {} packets were refused for want of a place in the last {ago}; it now \
             holds {}.",
            namespace.label(),
            count(refused),
            of_limit(namespace),
        ))
        .meaning("The table was full for a while. The next peak will meet the same limit.")
        .evidence("refused_packets", refused)
        .evidence("window_ms", rates.window_ms);
    with_numbers(finding, namespace).remedy(RAISE.0, RAISE.1)
}

fn nearly_full(context: &Context<'_>) -> Vec<Finding> {
    let namespaces = context.snapshot.namespaces.iter();
    namespaces.filter_map(|namespace| near(context, namespace)).collect()
}

fn near(context: &Context<'_>, namespace: &Namespace) -> Option<Finding> {
    if is_full(context, namespace) && refused(namespace) > 0 {
        return None;
    }
    let share = namespace.share()?;
    let room = room(context, namespace);
    let left = time_left(namespace);
    let severity = near_severity(context, namespace, share, room, left)?;
    if severity < Severity::Critical && lives_on_evictions(context, namespace) {
        return None;
    }
    let mut summary = format!("namespace {}: {}", namespace.label(), of_limit(namespace));
    if let Some(left) = left {
        summary += &format!(", full in {} at this growth", duration(left));
    }
    summary += &room.map_or_else(String::new, |room| format!("; {}", room_for(room.effective())));
    let finding = Finding::new(NEARLY_FULL.id, severity, namespace.into())
        .headline(format!("the table is {} full", percent(share)))
        .summary(summary + "." + &held_by(namespace))
        .meaning(near_meaning(namespace, severity))
        .remedy(RAISE.0, RAISE.1);
    Some(with_numbers(finding, namespace))
}

fn near_severity(
    context: &Context<'_>,
    namespace: &Namespace,
    share: f64,
    room: Option<Headroom>,
    left: Option<Duration>,
) -> Option<Severity> {
    let thresholds = context.thresholds;
    let soon = left.is_some_and(|left| left.as_secs() < thresholds.time_to_full_warning);
    let near = share >= thresholds.nearly_full_warning || (share >= 0.5 && soon);
    if !near {
        return None;
    }
    // Eviction that finds somebody nearly always is room: a ratio alone would cry wolf.
    let reserve = (1.0 - thresholds.nearly_full_warning) * namespace.limit.0 as f64;
    let soft = room.is_some_and(|room| room.effective() as f64 >= reserve);
    Some(match (share >= thresholds.nearly_full_critical, soft) {
        (true, false) => Severity::Critical,
        (false, true) => Severity::Note,
        _ => Severity::Warning,
    })
}

fn near_meaning(namespace: &Namespace, severity: Severity) -> &'static str {
    let at_limit = namespace.limit.headroom(namespace.count) == Some(0);
    match (at_limit, severity) {
        (_, Severity::Note) => {
            "Most entries are evictable: the kernel makes room among them, so this is no cliff."
        }
        (true, _) if namespace.rates.is_none() => {
            "Whether packets are refused just now takes a second look: ctkeeper doctor --window 2s."
        }
        (true, _) => "The next new connection is refused.",
        (false, _) => "A burst is enough to refuse new connections.",
    }
}

fn is_full(context: &Context<'_>, namespace: &Namespace) -> bool {
    namespace.share().is_some_and(|share| share >= context.thresholds.full_share)
}

fn room(context: &Context<'_>, namespace: &Namespace) -> Option<Headroom> {
    let sample = namespace.sample.as_ref()?;
    Headroom::of(namespace.limit, namespace.count, sample, context.own_load(namespace))
}

fn time_left(namespace: &Namespace) -> Option<Duration> {
    let rates = namespace.rates.as_ref()?;
    let growth = rates.per_second(rates.count_change as f64);
    time_until_full(namespace.count, namespace.limit, growth)
}

pub(super) fn of_limit(namespace: &Namespace) -> String {
    format!("{} of {} entries", count(namespace.count), namespace_limit(namespace))
}

fn namespace_limit(namespace: &Namespace) -> String {
    namespace.limit.entries().map_or_else(|| "unlimited".to_owned(), count)
}

/// `; 97 % locked (assured, established ones idle for 38 min in the median)`.
fn held(context: &Context<'_>, namespace: &Namespace) -> String {
    let (Some(sample), Some(room)) = (&namespace.sample, room(context, namespace)) else {
        return String::new();
    };
    let locked = room.locked as f64 / namespace.count.max(1) as f64;
    let idle = sample.established_idle_median.map_or_else(String::new, |seconds| {
        let idle = duration(Duration::from_secs(u64::from(seconds)));
        format!(" (assured; established ones idle for {idle} in the median)")
    });
    format!("; {} locked{idle}", percent(locked))
}

/// ` Held by: container haproxy 71 %, outside 12 %.`: who has a twentieth or more, the three largest.
fn held_by(namespace: &Namespace) -> String {
    let large = namespace.holders.iter().filter(|held| held.share >= 0.05).take(3);
    let named: Vec<_> =
        large.map(|held| format!("{} {}", held.holder, percent(held.share))).collect();
    if named.is_empty() { String::new() } else { format!(" Held by: {}.", named.join(", ")) }
}

pub(super) fn with_numbers(finding: Finding, namespace: &Namespace) -> Finding {
    finding.evidence("count", namespace.count).evidence("limit", namespace.limit.0)
}
