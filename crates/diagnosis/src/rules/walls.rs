//! Walls other than the limit: packets whose entry could not be put into the table though there was
//! room for it.

use ctkeeper_census::PortUse;
use ctkeeper_flow::units::{count, counted, duration};
use ctkeeper_snapshot::{Namespace, PortGroup, Rates, Statistic, Tracker};

use super::pace::{is_recent, pace, window};
use super::{Explanation, Rule};
use crate::context::{Context, list, run_in};
use crate::{Finding, Severity};

pub(super) const SNAT_PORTS: Rule = Rule {
    id: "snat-ports",
    title: "address translation has no free source port for a destination",
    judge: snat_ports,
    explanation: Explanation {
        why: "Translated connections to one destination (address, port, protocol) each need a port \
              of the translation address for themselves: 64,512 of them as a rule, fewer where the \
              rule names a range. A client's own port is kept while it is free; else the kernel \
              tries up to 240 others in four runs side by side and, finding each taken, drops the \
              packet. That begins long before the last port is taken, as the clients' own ports \
              lie in one block: measured on Linux 6.18, the first refusals come at 60 % of the \
              range, one in twenty-five new flows is refused at 90 %, nearly all at the end. Other \
              destinations work, so does everything that is not translated, and the table may be \
              nearly empty. Nothing is logged.",
        evidence: "insert_failed and drop move together while chaintoolong does not, and a sample \
                   holds a group of translated entries, same address and destination, that has \
                   most of the ports between its lowest and its highest in use while `found` \
                   (ports tried and taken) moves much faster than packets are refused. Where the \
                   sample shows no such group, long searches and steady refusals must do. Entries \
                   in TIME_WAIT count: each holds its port for two minutes.",
        remedies: "`fully-random` at the rule that translates (iptables --random-fully) has ports \
                   chosen all over the range: the first refusals then come at 90 % (measured). \
                   More addresses to translate to (snat to 192.0.2.1-192.0.2.8), each brings as \
                   many ports; or a wider range of ports. More destination addresses. Fewer \
                   connections: keep-alive, pools, HTTP/2 towards that destination. A way without \
                   translation where routing allows it.",
        traps: "A higher nf_conntrack_max changes nothing. A shorter \
                nf_conntrack_tcp_timeout_time_wait frees ports sooner, but only of connections \
                closed from then on, and the far end may still hold the old one and answer a \
                reused port with a reset; newer kernels (6.12 does, 6.1 does not) reuse such ports \
                by themselves when it is safe. net.ipv4.ip_local_port_range is for the host's own \
                connections, not for translated ones.",
    },
};

pub(super) const CLASH: Rule = Rule {
    id: "clash",
    title: "first packets are dropped because another took their place",
    judge: clash,
    explanation: Explanation {
        why: "An entry is put into the table when its first packet leaves the host. Two packets \
              under way at the same moment may claim the same tuple: two clients whose source port \
              is kept by translation, two SYNs of one connection, two DNS queries from one socket \
              that go through translation. The second one finds its place taken and is dropped: a \
              connection takes a second longer, a DNS lookup five.",
        evidence: "insert_failed and drop move together while chaintoolong does not, and ports for \
                   translation are not used up (that would be snat-ports). clash_resolve counts \
                   clashes that the kernel settled without loss (on 6.18 all of 4,990 from one UDP \
                   socket): they are mentioned, and no reason to speak.",
        remedies: "For translated sources: `fully-random` at the snat or masquerade rule (iptables \
                   --random-fully): sources no longer keep their port, and two rarely choose the \
                   same at once. For DNS: a cache on each node, queries over TCP, or \
                   single-request-reopen in resolv.conf; notrack for DNS to a local cache.",
        traps: "A higher limit or more buckets change nothing. The counters do not say who it was: \
                insert_failed alone is no proof of DNS trouble. notrack cuts what a filter or a \
                translation expects to be tracked. fully-random must stand at every rule that \
                translates, also those that Kubernetes and Docker write.",
    },
};

/// Within this many ports the kernel's search may look at each without counting it in `found`
/// (`nf_nat_used_tuple_harder`, `nf_nat_core.c`, Linux 6.12: the last 32 of an attempt).
const UNCOUNTED_SEARCH: u64 = 48;
/// With this share of the ports in use nearly every search fails.
const NONE_LEFT: f64 = 0.9;
/// Without a group that is used up so many times as much of either sign must do.
const BLIND: f64 = 4.0;
/// The rate of refusals is taken over at least this long.
const CLASH_WINDOW_MS: u64 = 60_000;

/// Packets whose entries found their place taken.
struct Refusals<'a> {
    namespace: &'a Namespace,
    rates: &'a Rates,
    packets: u64,
}

/// Why they did.
enum Cause<'a> {
    /// No port was free, in this group if one stands out.
    Ports(Option<(&'a PortGroup, PortUse)>),
    /// Another packet was faster.
    Clash,
}

fn snat_ports(context: &Context<'_>) -> Vec<Finding> {
    each_refusing(context, |refusals, cause| match cause {
        Cause::Ports(Some((group, usage))) => Some(refusals.named(context, group, usage)),
        Cause::Ports(None) => Some(refusals.unnamed(context)),
        Cause::Clash => None,
    })
}

fn clash(context: &Context<'_>) -> Vec<Finding> {
    each_refusing(context, |refusals, cause| match cause {
        Cause::Clash if refusals.packets < context.thresholds.clash_packets => None,
        Cause::Clash => Some(refusals.clashed(context)),
        Cause::Ports(_) => None,
    })
}

fn each_refusing(
    context: &Context<'_>,
    judge: impl Fn(&Refusals<'_>, Cause<'_>) -> Option<Finding>,
) -> Vec<Finding> {
    let refusing = |namespace| {
        let refusals = Refusals::of(namespace)?;
        judge(&refusals, refusals.cause(context))
    };
    context.snapshot.namespaces.iter().filter_map(refusing).collect()
}

impl<'a> Refusals<'a> {
    fn of(namespace: &'a Namespace) -> Option<Self> {
        let rates = namespace.rates.as_ref()?;
        let packets = rates.refused_by_clash();
        (packets > 0).then_some(Self { namespace, rates, packets })
    }

    /// Counters alone do not tell: a busy gateway's search meets taken ports all the time, so one
    /// clash may stand beside thousands of `found`. A group that has no port left does.
    fn cause(&self, context: &Context<'_>) -> Cause<'a> {
        let searched = self.searches() >= context.thresholds.snat_searches;
        let group = self.used_up(context.thresholds.snat_ports_used);
        match group {
            Some((group, usage)) if searched || usage.available <= UNCOUNTED_SEARCH => {
                Cause::Ports(Some((group, usage)))
            }
            None if self.is_blind(context) => Cause::Ports(None),
            _ => Cause::Clash,
        }
    }

    /// Ports tried and found taken, for each packet refused.
    fn searches(&self) -> f64 {
        self.rates.moved(Statistic::Found) as f64 / self.packets as f64
    }

    /// The largest group of those with hardly a port left.
    fn used_up(&self, share: f64) -> Option<(&'a PortGroup, PortUse)> {
        let sample = self.namespace.sample.as_ref()?;
        let usage =
            |group: &'a PortGroup| Some((group, PortUse::of(group, sample, self.namespace.count)?));
        let groups = sample.port_groups.iter().filter_map(usage);
        groups
            .filter(|(_, usage)| usage.share_at_most() >= share)
            .max_by_key(|(_, usage)| usage.used)
    }

    /// Whether the group may have escaped: it was not among the sampled, or has shrunk since. Then
    /// long searches, and refusals time and again, must do.
    fn is_blind(&self, context: &Context<'_>) -> bool {
        let saw_all = self.namespace.sample.as_ref().is_some_and(|sample| sample.exact);
        let unseen = !saw_all || !is_recent(context, self.rates);
        let often = self.per_second() >= BLIND * context.thresholds.clash_warning;
        unseen && often && self.searches() >= BLIND * context.thresholds.snat_searches
    }

    /// Over at least a minute: one packet is no rate.
    fn per_second(&self) -> f64 {
        self.packets as f64 * 1000.0 / self.rates.window_ms.max(CLASH_WINDOW_MS) as f64
    }

    fn named(&self, context: &Context<'_>, group: &PortGroup, usage: PortUse) -> Finding {
        let (from, to) = (group.translated_to, group.destination);
        // A sample's numbers are no better than this.
        let (about, unit) = if self.is_exact() { ("", 1) } else { ("about ", 100) };
        let rounded = |ports: u64| count((ports + unit / 2) / unit * unit);
        let gone = usage.share_at_most() >= NONE_LEFT;
        let severity = if gone { Severity::Critical } else { Severity::Warning };
        self.ports(context, severity)
            .summary(format!(
                "namespace {}: {about}{} of {} ports of {from} are in use towards {to}; {} in the \
                 last {}{}.",
                self.namespace.label(),
                rounded(usage.used),
                rounded(usage.available),
                counted(self.packets, "packet refused", "packets refused"),
                duration(window(self.rates)),
                self.translators(),
            ))
            .meaning(format!(
                "{} The table has room: a higher limit does not help.",
                if gone {
                    format!("New translated connections to {to} hang; other destinations work.")
                } else {
                    format!(
                        "The kernel gives up its search before every port is taken: some new \
                         connections to {to} begin late, and more will."
                    )
                }
            ))
            .evidence("translated_to", from.to_string())
            .evidence("destination", to.to_string())
            .evidence("ports_used", usage.used)
            .evidence("ports_available", usage.available)
            .remedy_if(run_in(self.namespace, "nft -a list ruleset"), more_ports(usage))
            .remedy(
                list(self.namespace, &filter(group)),
                "see whose connections they are; keep-alive and pools need fewer",
            )
    }

    fn unnamed(&self, context: &Context<'_>) -> Finding {
        self.ports(context, Severity::Warning)
            .summary(format!(
                "namespace {}: {} in the last {} after {} searches for a free port each; which \
                 destination ran out is not in the sample.",
                self.namespace.label(),
                counted(self.packets, "packet refused", "packets refused"),
                duration(window(self.rates)),
                count(self.searches().round() as u64),
            ))
            .meaning(
                "New translated connections to one destination hang; others work. The table has \
                 room: a higher limit does not help.",
            )
            .remedy("ctkeeper explain snat-ports", "how to find it, and ways out")
    }

    fn ports(&self, context: &Context<'_>, now: Severity) -> Finding {
        let recent = is_recent(context, self.rates);
        let severity = if recent { now } else { Severity::Warning };
        let pace = pace(context, self.rates, self.packets, "packets");
        let are = if recent { "are" } else { "were" };
        self.finding(SNAT_PORTS.id, severity).headline(format!(
            "no free port for address translation: new connections {are} refused, {pace}"
        ))
    }

    fn clashed(&self, context: &Context<'_>) -> Finding {
        let often = self.per_second() >= context.thresholds.clash_warning;
        let severity = if often { Severity::Warning } else { Severity::Note };
        let settled = self.rates.moved(Statistic::ClashResolve);
        let beside = match settled {
            0 => String::new(),
            settled => format!("; {} settled without loss", count(settled)),
        };
        self.finding(CLASH.id, severity)
            .headline(format!(
                "first packets clash and are dropped, {}",
                pace(context, self.rates, self.packets, "packets")
            ))
            .summary(format!(
                "namespace {}: {} dropped in the last {}, as another had claimed the same \
                 addresses and ports a moment before{beside}{}.",
                self.namespace.label(),
                counted(self.packets, "first packet", "first packets"),
                duration(window(self.rates)),
                self.translators(),
            ))
            .meaning(
                "Each is a connection that begins a second late, or a DNS lookup that takes five. \
                 The table has room: a higher limit does not help.",
            )
            .evidence("clash_resolve", settled)
            .remedy_if(
                list_rules(self.namespace).filter(|_| !self.translators().is_empty()),
                "find the rule that translates; add fully-random to it",
            )
            .remedy("ctkeeper explain clash", "who clashes as a rule, and ways out for DNS")
    }

    /// `; sources are translated by nftables ip nat POSTROUTING handle 7 (masquerade)`.
    fn translators(&self) -> String {
        let tracking = self.namespace.tracking.iter();
        let rules: Vec<_> = tracking.flat_map(|t| &t.trackers).filter(|t| translates(t)).collect();
        match rules.as_slice() {
            [] => String::new(),
            [only] => format!("; sources are translated by {} ({})", only.place, only.what),
            [first, rest @ ..] => format!(
                "; sources are translated by {} ({}) and {} more",
                first.place,
                first.what,
                rest.len()
            ),
        }
    }

    fn finding(&self, id: &'static str, severity: Severity) -> Finding {
        Finding::new(id, severity, self.namespace.into())
            .evidence("refused_packets", self.packets)
            .evidence("found", self.rates.moved(Statistic::Found))
            .evidence("window_ms", self.rates.window_ms)
    }

    fn is_exact(&self) -> bool {
        self.namespace.sample.as_ref().is_some_and(|sample| sample.exact)
    }
}

fn list_rules(namespace: &Namespace) -> Option<String> {
    run_in(namespace, "nft -a list ruleset")
}

/// Nearly all ports from 1024 on: no range makes room.
const WHOLE_RANGE: u64 = 60_000;

fn more_ports(usage: PortUse) -> &'static str {
    if usage.available < WHOLE_RANGE {
        "find the rule that translates; give it a wider range of ports, or more addresses"
    } else if usage.share_at_most() < NONE_LEFT {
        "find the rule that translates; add fully-random, then more addresses"
    } else {
        "find the rule that translates; it uses every port there is: give it more addresses"
    }
}

/// Targets of iptables and expressions of nftables that translate sources.
fn translates(tracker: &Tracker) -> bool {
    const WORDS: [&str; 4] = ["snat", "masquerade", "netmap", "fullconenat"];
    let is_translation = |word: &str| WORDS.contains(&word.to_ascii_lowercase().as_str());
    tracker.what.split(", ").any(is_translation)
}

/// The filter that a group's entries meet.
fn filter(group: &PortGroup) -> String {
    let to = group.destination;
    let port = to.port.map_or_else(String::new, |port| format!(" reply-sport {port}"));
    let protocol = match to.protocol.name() {
        Some(name) => name.to_owned(),
        None => format!("proto {}", to.protocol),
    };
    format!("{protocol} reply-src {}{port} reply-dst {}", to.address, group.translated_to)
}
