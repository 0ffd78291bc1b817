//! Summaries of nftables rules.

use anyhow::{Context, ensure};
use ctkeeper_netlink::nftables::{Expression, RulesetSummary, Verdict};
use ctkeeper_tests::Namespace;

use crate::support::held;

const RULES: &str = "
table inet filter {
  ct helper ftp-standard { type \"ftp\" protocol tcp; }
  chain input {
    type filter hook input priority -5; policy drop;
    ct state established,related accept
    ct state vmap { invalid : drop, new : jump fresh }
    ct mark set 7
    ct helper set \"ftp-standard\"
    reject
  }
  chain fresh { tcp dport 22 ct count over 10 drop; return; }
}
table ip nat {
  chain post { type nat hook postrouting priority 100; oifname \"lo\" masquerade; snat to 10.0.0.1; }
  chain pre { type nat hook prerouting priority -100; tcp dport 80 dnat to 10.0.0.2:8080; tcp dport 81 redirect to :8081; }
}
table ip6 raw {
  flags dormant
  chain pre { type filter hook prerouting priority -300; notrack; }
}
";

fn expressions(summary: &RulesetSummary, chain: &str) -> Vec<Expression> {
    let rules = summary.rules.iter().filter(|rule| rule.chain == chain);
    rules.flat_map(|rule| rule.expressions.clone()).collect()
}

pub(crate) fn rules_are_summarised() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    namespace.nft(RULES)?;
    let summary = RulesetSummary::read_in(&held(&namespace)?)?.context("no nftables")?;
    println!("{summary:#?}");
    ensure!(summary.tables.len() == 3 && summary.chains.len() == 5, "{:?}", summary.tables);
    let dormant: Vec<_> = summary.tables.iter().filter(|table| table.is_dormant).collect();
    ensure!(dormant.len() == 1 && dormant[0].family.name() == "ip6", "{dormant:?}");

    let input = summary.chains.iter().find(|chain| chain.name == "input").context("no input")?;
    let hook = input.hook.context("no hook")?;
    ensure!((hook.name, hook.priority) == ("input", -5), "{hook:?}");
    ensure!(input.policy == Some(Verdict::Drop) && input.kind.as_deref() == Some("filter"));
    let fresh = summary.chains.iter().find(|chain| chain.name == "fresh").context("no fresh")?;
    ensure!(fresh.hook.is_none() && fresh.policy.is_none(), "{fresh:?}");

    let all = expressions(&summary, "input");
    let reads =
        |e: &&Expression| matches!(e, Expression::ConntrackRead(key) if key.name() == "state");
    ensure!(all.iter().filter(reads).count() == 2, "{all:?}");
    ensure!(
        all.iter().any(|e| matches!(e, Expression::ConntrackWrite(key) if key.name() == "mark"))
    );
    ensure!(all.iter().any(|e| matches!(e, Expression::Lookup { is_verdict: true, .. })));
    ensure!(all.iter().any(|e| matches!(e, Expression::Object(_, name) if name == "ftp-standard")));
    ensure!(
        all.contains(&Expression::Verdict(Verdict::Accept)) && all.contains(&Expression::Reject)
    );
    let all = expressions(&summary, "fresh");
    ensure!(all.contains(&Expression::ConnectionLimit), "{all:?}");
    ensure!(all.contains(&Expression::Verdict(Verdict::Drop)), "{all:?}");
    let all = expressions(&summary, "post");
    ensure!(
        all.contains(&Expression::Masquerade) && all.contains(&Expression::SourceNat),
        "{all:?}"
    );
    let rule = summary.rules.iter().find(|rule| rule.chain == "post").context("no rule")?;
    ensure!(
        rule.handle > 0 && summary.chain_of(rule).is_some_and(|c| c.kind.as_deref() == Some("nat"))
    );
    let pre: Vec<_> = expressions(&summary, "pre");
    ensure!(pre.contains(&Expression::DestinationNat) && pre.contains(&Expression::Redirect));
    ensure!(pre.contains(&Expression::Notrack), "{pre:?}");
    Ok(())
}

pub(crate) fn no_rules_are_no_error() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let summary = RulesetSummary::read_in(&held(&namespace)?)?;
    ensure!(summary.is_none_or(|summary| summary == RulesetSummary::default()));
    Ok(())
}
