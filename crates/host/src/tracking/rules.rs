//! Judges nftables rules (and those that iptables makes through nftables).

use std::collections::HashSet;

use ctkeeper_netlink::nftables::{
    Chain, ConntrackKey, Expression, ObjectKind, Rule, RuleFamily, RulesetSummary, Verdict,
};
use ctkeeper_snapshot::Tracker;

/// Keys of `ct` that only matter to a filter: `state`, `direction`, `status`.
const FILTER_KEYS: [ConntrackKey; 3] = [ConntrackKey(0), ConntrackKey(1), ConntrackKey(2)];

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

/// Families whose packets pass connection tracking.
const FAMILIES: [RuleFamily; 4] = [RuleFamily(1), RuleFamily(2), RuleFamily(7), RuleFamily(10)];

/// Trackers shown of one place: a ruleset of Kubernetes has thousands alike.
const SHOWN: usize = 64;

/// Every rule that turned tracking on. Of more than sixty-four, those that need it come first and
/// the rest is left out.
pub(super) fn trackers(summary: &RulesetSummary) -> Vec<Tracker> {
    let drops = drops(summary);
    let mut found: Vec<_> =
        summary.rules.iter().filter_map(|rule| tracker(summary, rule, drops)).collect();
    found.sort_by_key(|tracker| !tracker.needed);
    found.truncate(SHOWN);
    found
}

fn tracker(summary: &RulesetSummary, rule: &Rule, ruleset_drops: bool) -> Option<Tracker> {
    let uses: Vec<_> = rule.expressions.iter().filter_map(usage).collect();
    let drops = ruleset_drops || has_verdict_map(rule);
    let needed = uses.iter().any(|(_, need)| *need == Need::Always || drops);
    let mut what: Vec<String> = uses.into_iter().map(|(what, _)| what).collect();
    what.dedup();
    (!what.is_empty()).then(|| Tracker {
        place: place(summary, rule),
        what: what.join(", "),
        needed,
    })
}

/// When a use of tracking acts on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// By itself.
    Always,
    /// Where something is dropped: a filter that drops nothing decides nothing.
    WhereDropped,
}

fn usage(expression: &Expression) -> Option<(String, Need)> {
    let always = |what: &str| Some((what.to_owned(), Need::Always));
    match expression {
        Expression::ConntrackRead(key) if FILTER_KEYS.contains(key) => {
            Some((format!("ct {}", key.name()), Need::WhereDropped))
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
            Some((name.clone(), Need::WhereDropped))
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

/// Whether anything in the ruleset drops packets that tracking may have seen.
fn drops(summary: &RulesetSummary) -> bool {
    let (early, late): (Vec<_>, Vec<_>) =
        summary.chains.iter().partition(|chain| is_before_tracking(chain));
    let early: HashSet<_> = early.into_iter().map(|c| (c.family, &c.table, &c.name)).collect();
    let by_policy =
        |chain: &&Chain| is_tracked(chain.family) && chain.policy == Some(Verdict::Drop);
    let by_rule = |rule: &Rule| {
        is_tracked(rule.family)
            && rule.expressions.iter().any(is_drop)
            && !early.contains(&(rule.family, &rule.table, &rule.chain))
    };
    late.iter().any(by_policy) || summary.rules.iter().any(by_rule)
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

    fn needed(rules: &[&[Expression]], policy: Verdict) -> Vec<bool> {
        trackers(&summary(rules, policy)).iter().map(|tracker| tracker.needed).collect()
    }

    const STATE: Expression = Expression::ConntrackRead(ConntrackKey(0));
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
