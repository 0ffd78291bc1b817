//! A filtered list is what filtering a full list gives: whatever the kernel left out.

use anyhow::ensure;
use ctkeeper_flow::{Filter, json};
use ctkeeper_tests::{Namespace, run};

use super::support::{in_namespace, lines, table_of_everything};

/// Filters that reach the kernel in each of the ways it can filter, and some that do not.
const FILTERS: [&str; 43] = [
    "tcp",
    "udp",
    "ipv4",
    "ipv6",
    "ipv4 tcp",
    "ipv6 tcp",
    "src 10.0.0.1",
    "dst 10.0.0.53",
    "src 10.0.0.1 dst 10.0.0.2",
    "src 10.0.0.1 tcp dport 443",
    "ipv4 tcp sport 4000",
    "ipv4 udp dport 53",
    "ipv4 sctp dport 5",
    "ipv4 gre",
    "ipv4 icmp icmp-id 77",
    "ipv4 icmp-type 13",
    "ipv4 proto 200",
    "reply-src 192.0.2.7",
    "reply-dst 192.0.2.8",
    "reply-sport 8080",
    "src fd77:1::2",
    "dst fd77:2::2 tcp",
    "ipv6 udp sport 1",
    "src ::1.2.3.4",
    "src 10.0.0.0/24",
    "src fd77::/16",
    "host 10.0.0.53",
    "mark 18",
    "mark 0x10/0x10",
    "mark 0",
    "mark 16,18",
    "zone 5",
    "zone 7",
    "zone 0",
    "zone 65535 udp",
    "assured",
    "unreplied",
    "replied not assured",
    "nat",
    "fixed_timeout",
    "assured ipv4 dport 80",
    "state ESTABLISHED or mark 16",
    "not (tcp or udp) and not zone 5",
];

pub(crate) fn give_what_a_full_list_holds() -> anyhow::Result<()> {
    let namespace = table_of_everything(false, false)?;
    let full = identified(&namespace, &["list", "--json"])?;
    for expression in FILTERS {
        let filter = Filter::parse(expression)?;
        let mut expected = Vec::new();
        for (id, line) in &full {
            if filter.matches(&json::parse(line)?, 0) {
                expected.push(*id);
            }
        }
        let listed = identified(&namespace, &["list", "--json", expression])?;
        let listed: Vec<_> = listed.into_iter().map(|(id, _)| id).collect();
        ensure!(listed == expected, "`{expression}` lists {listed:?} of {expected:?}");
        ensure!(!expected.is_empty(), "`{expression}` matches nothing: it tests nothing");
        let count = lines(&namespace, &["count", expression])?;
        ensure!(count == [expected.len().to_string()], "`{expression}` counts {count:?}");
    }
    Ok(())
}

/// Entries by id, sorted.
fn identified(namespace: &Namespace, arguments: &[&str]) -> anyhow::Result<Vec<(u32, String)>> {
    let mut entries = Vec::new();
    for line in lines(namespace, arguments)? {
        entries.push((json::parse(&line)?.id.unwrap_or(0), line));
    }
    entries.sort();
    Ok(entries)
}

pub(crate) fn a_typo_points_at_its_column() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    for command in ["list", "count", "watch"] {
        let output = run(&mut in_namespace(&namespace, &[command, "tcp", "dprot", "80"]))?;
        ensure!(output.code == Some(64), "{output:?}");
        ensure!(output.stdout.is_empty());
        let expected = "ctkeeper: filter, column 5: unknown term `dprot`\n  tcp dprot 80\n      \
                        ^^^^^ did you mean `dport`?\n";
        ensure!(output.stderr == expected, "{}", output.stderr);
    }
    for arguments in [
        &["list", "-o", "yaml"][..],
        &["list", "--limit", "x"],
        &["watch", "--events", "x"],
        &["list", "--json", "-o", "text"],
        &["watch", "--json", "-o", "columns"],
        &["stats", "--json", "-o", "text"],
    ] {
        let output = run(&mut in_namespace(&namespace, arguments))?;
        ensure!(output.code == Some(64), "{arguments:?}: {output:?}");
    }
    Ok(())
}

pub(crate) fn absent_counters_are_named() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    ctkeeper_tests::fill(&namespace, 0, 3, ctkeeper_tests::Filling::HalfOpen)?;
    for (command, nothing) in [("list", ""), ("count", "0\n")] {
        for (filter, setting) in
            [("bytes > 1MiB", "nf_conntrack_acct"), ("age > 1h", "nf_conntrack_timestamp")]
        {
            let output = run(&mut in_namespace(&namespace, &[command, filter]))?;
            ensure!(output.code == Some(0) && output.stdout == nothing, "{output:?}");
            ensure!(output.stderr.contains(setting), "{command}: {}", output.stderr);
        }
        let output = run(&mut in_namespace(&namespace, &[command, "mark 7"]))?;
        ensure!(!output.stderr.contains("nf_conntrack"), "{command}: {}", output.stderr);
    }
    Ok(())
}
