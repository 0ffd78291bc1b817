//! A table that is full in a namespace of its own, as a container's is, where the limit can not be
//! changed.

use anyhow::ensure;
use ctkeeper_tests::Report;
use xtask::vm::Kernel;

use crate::story::{Story, play};

pub(crate) fn on_6_1() -> anyhow::Result<()> {
    on(Kernel::Linux6_1)
}

pub(crate) fn on_6_12() -> anyhow::Result<()> {
    on(Kernel::Linux6_12)
}

fn on(kernel: Kernel) -> anyhow::Result<()> {
    let story = play("namespaces", kernel, 512, &[STEPS])?;
    read_only_inside(&story)?;
    without_netlink(&story)?;
    full(&story)?;
    fixed(&story)
}

/// A firewall here and one in each box. The first is filled by real packets that may be evicted,
/// while the module for netlink is not loaded; the second holds connections that may not.
const STEPS: &str = r"
tables=/proc/sys/net/netfilter
firewall
echo 2000 > $tables/nf_conntrack_max
values before
box() {
    ip netns add $1
    inside='ip netns exec '$1
    $inside ip link set lo up
    $inside nft -f /etc/nftables.conf
}
box soft
step limit-inside $inside cat $tables/nf_conntrack_max
step raise-inside $inside dd if=/dev/zero of=$tables/nf_conntrack_max count=0 conv=notrunc
$inside guest-load datagrams 600000 500 > /run/knocked &
knocking=$!
sleep 5
doctor soft --window 1s
doctor elsewhere --netns current --window 1s
step words-soft ctkeeper doctor --no-note --window 1s
kill $knocking
wait $knocking
ip netns del soft

modprobe nf_conntrack_netlink
box hard
step hold $inside guest-load established 2000
$inside guest-load datagrams 600000 200 > /run/knocked &
knocking=$!
sleep 1
doctor hard --netns hard --window 1s
step from-inside $inside ctkeeper doctor --json --no-note --netns current --window 1s
step words-hard ctkeeper doctor --no-note --window 1s
step count ctkeeper count --netns hard
step list ctkeeper list --netns hard 'proto tcp state ESTABLISHED dport 443'
step statistics ctkeeper stats --netns hard
step fix-inside $inside ctkeeper fix --yes --no-persist
values refused
step fix ctkeeper fix --yes --no-persist
values fixed
sleep 1
doctor fixed --window 1s
kill $knocking
step log dmesg
";

/// Limit and buckets are the host's, whoever asks.
fn read_only_inside(story: &Story) -> anyhow::Result<()> {
    ensure!(story.success(1, "limit-inside")?.trim() == "2000", "the limit is not the host's");
    let raised = story.output(1, "raise-inside")?;
    ensure!(raised.code == Some(1) && raised.stderr.contains("Permission denied"), "{raised:?}");
    let refusal = story.output(1, "fix-inside")?;
    let said = "read-only in this network namespace";
    ensure!(refusal.code == Some(1) && refusal.stderr.contains(said), "{refusal:?}");
    ensure!(story.values(1, "refused")? == story.values(1, "before")?, "half applied");
    Ok(())
}

/// The counters of the box are read from /proc then, and are the box's, not the host's.
fn without_netlink(story: &Story) -> anyhow::Result<()> {
    let soft = story.report(1, "soft")?;
    soft.ensure("early-drop", "warning")?;
    ensure!(label(&soft, "early-drop") == "soft", "another's counters: {:#}", soft.0);
    story.report(1, "elsewhere")?.ensure_silent("early-drop")
}

fn full(story: &Story) -> anyhow::Result<()> {
    ensure!(story.success(1, "hold")?.starts_with("2000 made"), "the box was not filled");
    for name in ["hard", "from-inside"] {
        let full = story.report(1, name)?;
        full.ensure("table-full", "critical")?;
        ensure!(label(&full, "table-full") == "hard", "not the full one: {:#}", full.0);
        full.ensure("kernel-log", "warning")?;
        ensure!(full.0["taken"]["in_initial_namespace"] == (name == "hard"), "{:#}", full.0);
    }
    ensure!(story.success(1, "count")?.trim() == "2000", "another count than is held");
    let entries = story.success(1, "list")?.matches("ESTABLISHED").count();
    ensure!(entries == 2000, "{entries} of 2,000 are listed");
    let log = story.success(1, "log")?;
    ensure!(log.contains("nf_conntrack: table full, dropping packet"), "{log}");
    ensure!(!log.contains("in netns"), "this kernel names the namespace: {log}");
    Ok(())
}

/// The host's values are raised, and the box has room.
fn fixed(story: &Story) -> anyhow::Result<()> {
    story.success(1, "fix")?;
    let (limit, buckets) = story.values(1, "fixed")?;
    ensure!(limit > 2000 && buckets >= limit / 2, "limit {limit}, buckets {buckets}");
    let fixed = story.report(1, "fixed")?;
    fixed.ensure_silent("table-full")?;
    fixed.ensure_silent("nearly-full")
}

/// The namespace that a finding is about.
fn label<'a>(report: &'a Report, id: &str) -> &'a str {
    report.finding(id).and_then(|finding| finding["scope"]["label"].as_str()).unwrap_or_default()
}
