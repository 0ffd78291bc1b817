//! Connections that two namespaces track.

use ctkeeper_flow::units::{count, percent};
use ctkeeper_snapshot::{Doubles, Namespace, Tracker};

use super::{Explanation, Rule};
use crate::context::Context;
use crate::{Finding, Severity};

pub(super) const TRACKED_TWICE: Rule = Rule {
    id: "tracked-twice",
    title: "a container tracks what its host tracks already",
    judge: tracked_twice,
    explanation: Explanation {
        why: "Each network namespace tracks for itself as soon as a rule in it asks for it. \
              Docker puts rules into each container on a user-defined network (not on the default \
              bridge): they lead the container's DNS queries to Docker's embedded server at \
              127.0.0.11, and switch tracking on for everything else as well. Then each \
              connection of the container has an entry inside and another on the host: twice \
              the memory, and twice the work a packet. The container has a count of its own under \
              the same limit, so it can be full while the host looks fine.",
        evidence: "Up to 64 entries of the container's sample are looked up in the host's table, \
                   by each name that translation may have given them there; the share found is \
                   that of the container's entries. What turned tracking on inside is read from \
                   its rules. Speaks from 1,000 such entries on, when they are half of the \
                   container's; a warning when the container is half full. Zones are not \
                   searched.",
        remedies: "Nothing is broken by it; mend it where memory or the container's own limit is \
                   short. (1) Containers that need no DNS by container name can run on the \
                   default bridge, or with --network host, where nothing is tracked inside. \
                   (2) Leave everything but loopback untracked inside. DNS goes on working: \
                   Docker's rules act on loopback only. From the host, as root, with the \
                   container's process id (docker inspect -f '{{.State.Pid}}' NAME):\
                   \n    nsenter -t PID -n nft -f - <<'EOF'\
                   \n    table inet untracked {\
                   \n      chain in  { type filter hook prerouting priority raw; iif != lo notrack; }\
                   \n      chain out { type filter hook output priority raw; oif != lo notrack; }\
                   \n    }\
                   \n    EOF\
                   \nEntries that stand stay until they expire: nsenter -t PID -n conntrack -F \
                   removes them. (3) Raise the limit for all namespaces: ctkeeper fix.",
        traps: "notrack inside is gone when the container is started again, and Docker knows \
                nothing of it. A container with a firewall of its own that accepts by ct state \
                must then accept untracked packets too, or it cuts its connections. Never use notrack on \
                the host for this: translation to and from containers needs the host's \
                entries. A service mesh's sidecar and kube-proxy inside a container need \
                tracking inside. With --network host a container has no network of its own: its \
                ports are the host's, and published ports mean nothing.",
    },
};

fn tracked_twice(context: &Context<'_>) -> Vec<Finding> {
    let namespaces = context.snapshot.namespaces.iter();
    namespaces.filter_map(|namespace| doubled(context, namespace, namespace.doubles?)).collect()
}

fn doubled(context: &Context<'_>, namespace: &Namespace, doubles: Doubles) -> Option<Finding> {
    let thresholds = context.thresholds;
    let share = doubles.found as f64 / doubles.asked.max(1) as f64;
    let entries = (share.min(1.0) * namespace.count as f64).round() as u64;
    if share < thresholds.tracked_twice_share || entries < thresholds.tracked_twice_entries {
        return None;
    }
    let mut all = context.snapshot.namespaces.iter();
    let other = all
        .find(|other| other.inode == doubles.other)
        .map_or_else(|| format!("netns {}", doubles.other), Namespace::label);
    let crowded = namespace.share() >= Some(thresholds.room_share);
    let severity = if crowded { Severity::Warning } else { Severity::Note };
    let cause = cause(namespace);
    Some(
        Finding::new(TRACKED_TWICE.id, severity, namespace.into())
            .headline("a container tracks what its host tracks already")
            .summary(format!(
                "namespace {}: {} of its {} entries stand in namespace {other} as well ({} of {} \
                 looked up). {cause}",
                namespace.label(),
                about(entries, share),
                count(namespace.count),
                doubles.found,
                doubles.asked,
            ))
            .meaning(
                "Each of these connections takes memory twice, and this namespace can be full \
                 while the other looks fine: the same limit, but a count of its own.",
            )
            .evidence("share", share)
            .evidence("entries", entries)
            .evidence("other", doubles.other)
            .evidence("cause", cause)
            .remedy("ctkeeper explain tracked-twice", "when it matters, and the rules that end it"),
    )
}

fn about(entries: u64, share: f64) -> String {
    if share >= 1.0 {
        "all".to_owned()
    } else {
        format!("about {} ({})", count(entries), percent(share))
    }
}

/// Chains that Docker makes in a container's namespace for its embedded DNS (libnetwork,
/// `resolver_unix.go`).
const DOCKERS_DNS: [&str; 2] = ["DOCKER_OUTPUT", "DOCKER_POSTROUTING"];

/// What turned tracking on inside, in a sentence.
fn cause(namespace: &Namespace) -> String {
    let trackers = namespace.tracking.as_ref().map_or(&[][..], |tracking| &tracking.trackers);
    let is_dns =
        |tracker: &&Tracker| tracker.place.split(' ').any(|word| DOCKERS_DNS.contains(&word));
    let (dns, others): (Vec<_>, Vec<_>) = trackers.iter().partition(is_dns);
    match (dns.is_empty(), others.as_slice()) {
        (false, []) => {
            "Docker's rules for its embedded DNS (127.0.0.11) turned tracking on inside.".to_owned()
        }
        (false, [first, ..]) => format!(
            "Docker's rules for its embedded DNS (127.0.0.11) turned tracking on inside, and so \
             did {} ({}).",
            first.place, first.what
        ),
        (true, [first, rest @ ..]) => {
            let more =
                if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            format!("Tracking inside was turned on by {} ({}){more}.", first.place, first.what)
        }
        (true, []) => "What turned tracking on inside was not found.".to_owned(),
    }
}
