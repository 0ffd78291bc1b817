//! Both walls, by real packets on few entries and few buckets, which a shared host must not have.

use anyhow::{Context, ensure};

use crate::story::{Story, play};
use xtask::vm::Kernel;

pub(crate) fn on_6_1() -> anyhow::Result<()> {
    on(Kernel::Linux6_1)
}

pub(crate) fn on_6_12() -> anyhow::Result<()> {
    on(Kernel::Linux6_12)
}

fn on(kernel: Kernel) -> anyhow::Result<()> {
    let story = play("walls", kernel, 768, &[CHAINS, FULL])?;
    chains(&story)?;
    full(&story)
}

/// The seed's limit; the same new connections on many buckets, on few, and on many again.
const CHAINS: &str = r#"
firewall
tables=/proc/sys/net/netfilter
echo 600000 > $tables/nf_conntrack_max
knock() {
    guest-load datagrams 200000 4000 > /run/knocked &
    knocking=$!
    sleep 5
    doctor "$1" --window 2s
    step "$1-statistics" cat /proc/net/stat/nf_conntrack
    kill $knocking
    wait $knocking
}
echo 600000 > $tables/nf_conntrack_buckets
values many
knock many
echo 512 > $tables/nf_conntrack_buckets
values few
knock few
step words-few ctkeeper doctor --no-note --window 100ms
echo 600000 > $tables/nf_conntrack_buckets
knock cured
step log dmesg
"#;

/// A full table, with and without the module for netlink.
const FULL: &str = r"
firewall
tables=/proc/sys/net/netfilter
echo 65536 > $tables/nf_conntrack_buckets
echo 2000 > $tables/nf_conntrack_max
guest-load datagrams 500 1000 > /run/knocked
doctor room --window 500ms
guest-load datagrams 600000 1000 > /run/knocked &
knocking=$!
sleep 5
doctor full --window 2s
step words-full ctkeeper doctor --no-note --window 1s
modprobe nf_conntrack_netlink
doctor full-netlink --window 1s
echo 600000 > $tables/nf_conntrack_max
sleep 1
doctor raised --window 1s
kill $knocking
step log dmesg
";

/// The second wall: silent in the log, `drop` at rest, `chaintoolong` moving.
fn chains(story: &Story) -> anyhow::Result<()> {
    for healthy in ["many", "cured"] {
        story.report(1, healthy)?.ensure_silent("second-wall")?;
    }
    ensure!(story.values(1, "few")? == (600_000, 512), "the kernel took other buckets");
    let few = story.report(1, "few")?;
    few.ensure("second-wall", "critical")?;
    few.ensure_silent("table-full")?;
    few.ensure_silent("kernel-log")?;
    let evidence = &few.finding("second-wall").context("second-wall")?["evidence"];
    ensure!(evidence[3]["name"] == "chaintoolong", "{evidence}");
    ensure!(evidence[3]["value"].as_u64() > Some(100), "chaintoolong rests: {evidence}");
    let log = story.success(1, "log")?;
    ensure!(!log.contains("table full"), "the second wall is not silent any more: {log}");
    Ok(())
}

/// The first wall, with the older line, which names no namespace.
fn full(story: &Story) -> anyhow::Result<()> {
    let room = story.report(2, "room")?;
    room.ensure_silent("table-full")?;
    room.ensure_silent("kernel-log")?;
    for name in ["full", "full-netlink"] {
        let full = story.report(2, name)?;
        full.ensure("table-full", "critical")?;
        full.ensure("kernel-log", "warning")?;
        full.ensure_silent("second-wall")?;
        let summary = &full.finding("kernel-log").context("kernel-log")?["summary"];
        let summary = summary.as_str().context("a summary")?;
        ensure!(summary.contains("a namespace that this kernel does not name"), "{summary}");
    }
    let raised = story.report(2, "raised")?;
    raised.ensure_silent("table-full")?;
    // What was logged stays worth knowing.
    raised.ensure("kernel-log", "warning")?;
    let log = story.success(2, "log")?;
    ensure!(log.contains("nf_conntrack: table full, dropping packet"), "{log}");
    ensure!(!log.contains("in netns"), "this kernel names the namespace: {log}");
    Ok(())
}
