//! Judges nftables rules (and those that iptables makes through nftables).

use std::collections::HashSet;

use ctkeeper_netlink::nftables::{
    Chain, ConntrackKey, Expression, ObjectKind, Rule, RuleFamily, RulesetSummary, Verdict,
};
use ctkeeper_snapshot::{Tracker, Tracking};

const STATE: ConntrackKey = ConntrackKey(0);

/// Keys of `ct` that only matter to a filter: `state`, `direction`, `status`.
const FILTER_KEYS: [ConntrackKey; 3] = [STATE, ConntrackKey(1), ConntrackKey(2)];

/// iptables matches that only matter to a filter.
const FILTER_MATCHES: [&str; 2] = ["conntrack", "state"];

/// iptables matches that act on tracking by themselves.
const ACTING_MATCHES: [&str; 6] =
    ["connmark", "connlabel", "connbytes", "connlimit", "helper", "cluster"];

/// iptables targets that act on tracking. `CT` may also be `--notrack`: its options are not read.
const ACTING_TARGETS: [&str; 10] = [
    "MASQUERADE",
    "SNAT",
    "DNAT",
    "REDIRECT",
    "NETMAP",
    "CT",
    "CONNMARK",
    "CONNSECMARK",
    "SYNPROXY",
    "FULLCONENAT",
];

/// iptables targets that drop.
const DROPPING_TARGETS: [&str; 2] = ["REJECT", "TARPIT"];

/// iptables matches that leave something behind for other rules; all others only compare.
const LASTING_MATCHES: [&str; 3] = ["recent", "hashlimit", "rateest"];

/// Expressions that compare, compute or count, by the kernel's names: nothing comes of them alone.
const HARMLESS: [&str; 21] = [
    "bitwise",
    "byteorder",
    "cmp",
    "counter",
    "exthdr",
    "fib",
    "hash",
    "immediate",
    "last",
    "limit",
    "lookup",
    "meta",
    "numgen",
    "osf",
    "payload",
    "quota",
    "range",
    "rt",
    "socket",
    "tunnel",
    "xfrm",
];

/// Expressions that do something with a packet, by the kernel's names.
const ACTING: [&str; 6] = ["queue", "log", "tproxy", "dynset", "dup", "fwd"];

/// `NFT_OBJECT_COUNTER`, `NFT_OBJECT_QUOTA` and `NFT_OBJECT_LIMIT`.
const HARMLESS_OBJECTS: [ObjectKind; 3] =
    [ObjectKind::Other(1), ObjectKind::Other(2), ObjectKind::Other(4)];

/// Verdict of `queue` in rules that iptables made (`NF_QUEUE`, the queue's number above).
const QUEUE: i32 = 3;

/// Families whose packets pass connection tracking.
const FAMILIES: [RuleFamily; 4] = [RuleFamily(1), RuleFamily(2), RuleFamily(7), RuleFamily(10)];

/// Trackers shown of one place: a ruleset of Kubernetes has thousands alike.
const SHOWN: usize = 64;

/// Adds every rule that turned tracking on, and takes [`Tracking::complete`] back where one may act
/// on tracking in a way that is not known here. Of more than sixty-four, those that need it come
/// first and the rest is left out.
pub(super) fn add(summary: &RulesetSummary, tracking: &mut Tracking) {
    let ruleset = Ruleset::new(summary);
    let mut found: Vec<_> = summary.rules.iter().filter_map(|rule| ruleset.tracker(rule)).collect();
    tracking.complete &= found.iter().all(|(_, effect)| *effect != Effect::Unclear);
    found.sort_by_key(|(tracker, _)| !tracker.needed);
    found.truncate(SHOWN);
    tracking.trackers.extend(found.into_iter().map(|(tracker, _)| tracker));
}

/// What comes of a rule or of one of its expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// Nothing that anybody could tell.
    None,
    /// Perhaps something.
    Unclear,
    /// Something: packets are dropped, marked, queued or logged.
    Acts,
}

/// The rules, and what comes of all of them together.
struct Ruleset<'a> {
    summary: &'a RulesetSummary,
    /// Whether something drops packets that tracking may have seen.
    drops: bool,
    /// The most that comes of any rule that packets meet after tracking: a rule that accepts,
    /// returns or jumps decides whether a packet meets it.
    most: Effect,
}

impl<'a> Ruleset<'a> {
    fn new(summary: &'a RulesetSummary) -> Self {
        let tracked = tracked_rules(summary);
        let effects = tracked.iter().flat_map(|rule| &rule.expressions).map(effect);
        Self {
            summary,
            drops: drops(summary, &tracked),
            most: effects.max().unwrap_or(Effect::None),
        }
    }

    /// The rule, if it turned tracking on, and what comes of its tracking.
    fn tracker(&self, rule: &Rule) -> Option<(Tracker, Effect)> {
        let uses: Vec<_> = rule.expressions.iter().filter_map(usage).collect();
        let always = uses.iter().any(|(_, need)| *need == Need::Always);
        let effect = if always { Effect::Acts } else { self.effect(rule) };
        let mut what: Vec<String> = uses.into_iter().map(|(what, _)| what).collect();
        what.dedup();
        let tracker = || Tracker {
            place: place(self.summary, rule),
            what: what.join(", "),
            needed: effect == Effect::Acts,
            drops: drops_by_state(rule),
        };
        (!what.is_empty()).then(|| (tracker(), effect))
    }

    /// What comes of a rule that only asks for the state of tracking.
    fn effect(&self, rule: &Rule) -> Effect {
        if self.drops || has_verdict_map(rule) {
            return Effect::Acts;
        }
        let own = rule.expressions.iter().map(effect).max().unwrap_or(Effect::None);
        let decides = rule.expressions.iter().any(is_way);
        // What is met by some packets only may still be what all of them meet.
        let met = if decides { self.most.min(Effect::Unclear) } else { Effect::None };
        own.max(met)
    }
}

/// When a use of tracking acts on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// By itself.
    Always,
    /// Where something comes of the rules: a filter by which nothing happens decides nothing.
    WhereActed,
}

fn usage(expression: &Expression) -> Option<(String, Need)> {
    let always = |what: &str| Some((what.to_owned(), Need::Always));
    match expression {
        Expression::ConntrackRead(key) if FILTER_KEYS.contains(key) => {
            Some((format!("ct {}", key.name()), Need::WhereActed))
        }
        Expression::ConntrackRead(key) => Some((format!("ct {}", key.name()), Need::Always)),
        Expression::ConntrackWrite(key) => Some((format!("ct {} set", key.name()), Need::Always)),
        Expression::SourceNat => always("snat"),
        Expression::DestinationNat => always("dnat"),
        Expression::Masquerade => always("masquerade"),
        Expression::Redirect => always("redirect"),
        Expression::ConnectionLimit => always("ct count"),
        Expression::FlowOffload(_) => always("flow table"),
        Expression::SynProxy => always("synproxy"),
        Expression::Object(kind, _) => object(*kind).and_then(always),
        Expression::Match(name) if FILTER_MATCHES.contains(&name.as_str()) => {
            Some((name.clone(), Need::WhereActed))
        }
        Expression::Match(name) if ACTING_MATCHES.contains(&name.as_str()) => always(name),
        Expression::Target(name) if ACTING_TARGETS.contains(&name.as_str()) => always(name),
        _ => None,
    }
}

fn object(kind: ObjectKind) -> Option<&'static str> {
    match kind {
        ObjectKind::ConntrackHelper => Some("ct helper set"),
        ObjectKind::ConntrackTimeout => Some("ct timeout set"),
        ObjectKind::ConntrackExpectation => Some("ct expectation set"),
        ObjectKind::ConnectionLimit => Some("ct count"),
        ObjectKind::SynProxy => Some("synproxy"),
        _ => None,
    }
}

/// What an expression does by itself. What uses tracking is judged by [`usage`].
fn effect(expression: &Expression) -> Effect {
    let known = |is_harmless: bool| if is_harmless { Effect::None } else { Effect::Unclear };
    match expression {
        expression if is_drop(expression) => Effect::Acts,
        // Every target of iptables does something.
        Expression::PacketWrite(_) | Expression::Target(_) => Effect::Acts,
        Expression::Verdict(Verdict::Other(code)) if code & 0xff == QUEUE => Effect::Acts,
        Expression::Verdict(Verdict::Other(code)) => known(*code < 0),
        Expression::Other(name) if ACTING.contains(&name.as_str()) => Effect::Acts,
        Expression::Other(name) => known(HARMLESS.contains(&name.as_str())),
        Expression::Object(kind, _) => known(HARMLESS_OBJECTS.contains(kind)),
        Expression::Match(name) => known(!LASTING_MATCHES.contains(&name.as_str())),
        Expression::ConntrackRead(_)
        | Expression::Lookup { is_verdict: false, .. }
        | Expression::Notrack
        | Expression::Verdict(_) => Effect::None,
        _ => Effect::Unclear,
    }
}

/// Whether a rule asks for the state of a packet and drops it.
fn drops_by_state(rule: &Rule) -> bool {
    let asks = |expression: &Expression| match expression {
        Expression::ConntrackRead(key) => *key == STATE,
        Expression::Match(name) => FILTER_MATCHES.contains(&name.as_str()),
        _ => false,
    };
    rule.expressions.iter().any(asks) && rule.expressions.iter().any(is_drop)
}

/// Whether an expression decides which rules a packet meets.
fn is_way(expression: &Expression) -> bool {
    matches!(
        expression,
        Expression::Verdict(
            Verdict::Accept | Verdict::Return | Verdict::Jump(_) | Verdict::Goto(_)
        )
    )
}

/// The rules that packets meet after tracking.
fn tracked_rules(summary: &RulesetSummary) -> Vec<&Rule> {
    let early = summary.chains.iter().filter(|chain| is_before_tracking(chain));
    let early: HashSet<_> = early.map(|c| (c.family, &c.table, &c.name)).collect();
    let is_late = |rule: &&Rule| {
        is_tracked(rule.family) && !early.contains(&(rule.family, &rule.table, &rule.chain))
    };
    summary.rules.iter().filter(is_late).collect()
}

/// Whether anything in the ruleset drops packets that tracking may have seen.
fn drops(summary: &RulesetSummary, tracked: &[&Rule]) -> bool {
    let by_policy = |chain: &Chain| {
        is_tracked(chain.family)
            && !is_before_tracking(chain)
            && chain.policy == Some(Verdict::Drop)
    };
    summary.chains.iter().any(by_policy)
        || tracked.iter().flat_map(|rule| &rule.expressions).any(is_drop)
}

fn is_drop(expression: &Expression) -> bool {
    match expression {
        Expression::Verdict(Verdict::Drop) | Expression::Reject => true,
        Expression::Target(name) => DROPPING_TARGETS.contains(&name.as_str()),
        _ => false,
    }
}

fn is_tracked(family: RuleFamily) -> bool {
    FAMILIES.contains(&family)
}

/// A chain that packets pass before they are tracked cannot act on tracking.
fn is_before_tracking(chain: &Chain) -> bool {
    chain.hook.is_some_and(|hook| hook.priority < CONNTRACK_PRIORITY)
}

/// `NF_IP_PRI_CONNTRACK` (`include/uapi/linux/netfilter_ipv4.h`).
const CONNTRACK_PRIORITY: i32 = -200;

/// A verdict map's elements are not read: one may drop.
fn has_verdict_map(rule: &Rule) -> bool {
    rule.expressions.iter().any(|e| matches!(e, Expression::Lookup { is_verdict: true, .. }))
}

fn place(summary: &RulesetSummary, rule: &Rule) -> String {
    let dormant = summary
        .tables
        .iter()
        .any(|table| table.is_dormant && table.family == rule.family && table.name == rule.table);
    let note = if dormant { " (dormant)" } else { "" };
    format!("nftables {} {} {} handle {}{note}", rule.family, rule.table, rule.chain, rule.handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: RuleFamily = RuleFamily(2);

    fn summary(rules: &[&[Expression]], policy: Verdict) -> RulesetSummary {
        let (table, chain) = ("t".to_owned(), "c".to_owned());
        let rule = |(handle, expressions): (u64, &&[Expression])| Rule {
            family: IP,
            table: table.clone(),
            chain: chain.clone(),
            handle,
            expressions: expressions.to_vec(),
        };
        RulesetSummary {
            tables: Vec::new(),
            chains: vec![Chain {
                family: IP,
                table: table.clone(),
                name: chain.clone(),
                hook: None,
                kind: None,
                policy: Some(policy),
            }],
            rules: (1..).zip(rules).map(rule).collect(),
        }
    }

    fn tracking(summary: &RulesetSummary) -> Tracking {
        let mut tracking = Tracking { trackers: Vec::new(), complete: true };
        add(summary, &mut tracking);
        tracking
    }

    fn trackers(summary: &RulesetSummary) -> Vec<Tracker> {
        tracking(summary).trackers
    }

    fn needed(rules: &[&[Expression]], policy: Verdict) -> Vec<bool> {
        trackers(&summary(rules, policy)).iter().map(|tracker| tracker.needed).collect()
    }

    /// Whether tracking is needed; `None` where that is left open.
    fn judged(rules: &[&[Expression]]) -> Option<bool> {
        tracking(&summary(rules, Verdict::Accept)).needed()
    }

    fn other(name: &str) -> Expression {
        Expression::Other(name.to_owned())
    }

    const STATE: Expression = Expression::ConntrackRead(super::STATE);
    const ACCEPT: Expression = Expression::Verdict(Verdict::Accept);
    const DROP: Expression = Expression::Verdict(Verdict::Drop);

    #[test]
    fn a_state_that_nothing_drops_by_is_not_needed() {
        assert_eq!(needed(&[&[STATE, ACCEPT]], Verdict::Accept), [false]);
        assert_eq!(needed(&[&[STATE, ACCEPT]], Verdict::Drop), [true]);
        assert_eq!(needed(&[&[STATE, ACCEPT], &[DROP]], Verdict::Accept), [true]);
        let map = Expression::Lookup { set: "__map0".to_owned(), is_verdict: true };
        assert_eq!(needed(&[&[STATE, map]], Verdict::Accept), [true]);
        let matched = Expression::Match("state".to_owned());
        assert_eq!(needed(&[&[matched, ACCEPT]], Verdict::Accept), [false]);
    }

    #[test]
    fn a_state_that_something_is_done_by_is_needed() {
        let acting = ["queue", "log", "tproxy", "dynset", "dup", "fwd"].map(other);
        let by_iptables =
            ["MARK", "NFQUEUE", "LOG"].map(|name| Expression::Target(name.to_owned()));
        let queue = Expression::Verdict(Verdict::Other(QUEUE | 7 << 16));
        let mark = Expression::PacketWrite("meta".to_owned());
        for expression in acting.into_iter().chain(by_iptables).chain([queue, mark]) {
            let rule = [STATE, other("immediate"), expression];
            assert_eq!(judged(&[&rule]), Some(true), "{rule:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_open() {
        let recent = Expression::Match("recent".to_owned());
        let secmark = Expression::Object(ObjectKind::Other(8), "o".to_owned());
        for expression in [other("new"), recent, secmark] {
            assert_eq!(judged(&[&[STATE, expression.clone()]]), None, "{expression:?}");
        }
        let plain = ["meta", "payload", "cmp", "bitwise", "counter", "limit"].map(other);
        let rule = [&[STATE][..], &plain, &[ACCEPT]].concat();
        assert_eq!(judged(&[&rule]), Some(false));
    }

    #[test]
    fn a_state_that_decides_what_is_met_is_left_open() {
        let mark = Expression::PacketWrite("meta".to_owned());
        let jump = Expression::Verdict(Verdict::Jump("d".to_owned()));
        for way in [ACCEPT, jump] {
            assert_eq!(
                judged(&[&[STATE, way.clone()], std::slice::from_ref(&mark)]),
                None,
                "{way:?}"
            );
            assert_eq!(judged(&[&[STATE, way], &[other("counter")]]), Some(false));
        }
        assert_eq!(judged(&[&[STATE, other("counter")], &[mark]]), Some(false));
    }

    #[test]
    fn translation_and_marks_are_needed() {
        let mark = Expression::ConntrackWrite(ConntrackKey(3));
        let target = Expression::Target("MASQUERADE".to_owned());
        for expression in [Expression::Masquerade, mark, target, Expression::SynProxy] {
            let rule = std::slice::from_ref(&expression);
            assert_eq!(needed(&[rule], Verdict::Accept), [true], "{expression:?}");
        }
        assert_eq!(needed(&[&[Expression::Notrack], &[DROP]], Verdict::Drop), [false; 0]);
    }

    #[test]
    fn a_rule_that_drops_by_state_is_told_from_one_beside_a_drop() {
        let rules: [&[Expression]; 3] = [&[STATE, DROP], &[STATE, ACCEPT], &[DROP]];
        let drops: Vec<_> =
            trackers(&summary(&rules, Verdict::Accept)).iter().map(|t| t.drops).collect();
        assert_eq!(drops, [true, false]);
    }

    #[test]
    fn places_name_the_rule() {
        let found = trackers(&summary(&[&[STATE], &[STATE, STATE, DROP]], Verdict::Accept));
        assert_eq!(found[1].place, "nftables ip t c handle 2");
        assert_eq!(found[1].what, "ct state");
    }

    #[test]
    fn a_drop_before_tracking_does_not_count() {
        let mut rules = summary(&[&[STATE, ACCEPT]], Verdict::Drop);
        rules.chains[0].hook = Some(ctkeeper_netlink::nftables::Hook {
            number: 0,
            name: "prerouting",
            priority: -300,
        });
        assert!(!trackers(&rules)[0].needed);
    }
}
