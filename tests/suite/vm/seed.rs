//! The seed's own two commands on small machines, over reboots: what the kernel does, and whether
//! doctor has said so before. Then the two files that are missing, one after the other.

use anyhow::{Context, ensure};
use ctkeeper_flow::units::count;

use crate::story::{Story, play};
use xtask::vm::Kernel;

/// On 512 MiB the kernel chooses 4,096 entries; the seed's limit needs over half of the memory.
pub(crate) fn on_6_1() -> anyhow::Result<()> {
    on(Kernel::Linux6_1, 512, 4096, "warning")
}

/// The seed's own machine: "a VM with just 1GB memory".
pub(crate) fn on_6_12() -> anyhow::Result<()> {
    on(Kernel::Linux6_12, 1024, 8192, "note")
}

fn on(kernel: Kernel, mebibytes: u32, default: u64, memory: &str) -> anyhow::Result<()> {
    let story = play("seed", kernel, mebibytes, &[COMMANDS, LOST, LOADED_EARLY, KEPT])?;
    looking_loads_nothing(&story)?;
    the_first_command(&story, default, memory)?;
    the_second_command(&story, default)?;
    loaded_early(&story, default)?;
    kept(&story)
}

/// Nothing tracks yet; then the firewall comes, then the seed's commands.
const COMMANDS: &str = "
# What a machine's programs take; half of the rest is then less than the seed's limit needs.
head -c 60000000 /dev/zero > /run/programs
step modules-without cat /proc/modules
doctor absent
step modules-without-after cat /proc/modules
firewall
values default
step modules-with cat /proc/modules
doctor healthy
step modules-with-after cat /proc/modules

echo 600000 > /proc/sys/net/netfilter/nf_conntrack_max
values echoed
doctor echoed
step words-echoed ctkeeper doctor --no-note

echo 'net.netfilter.nf_conntrack_max = 600000' >> /etc/sysctl.conf
doctor line
step words-line ctkeeper doctor --no-note
touch /etc/firewall-enabled
";

/// The reboot; then the remedy that everybody tries, and the file that was missing.
const LOST: &str = "
values rebooted
doctor lost
step sysctl-p sysctl -p
values by-hand
doctor by-hand
echo nf_conntrack > /etc/modules-load.d/conntrack.conf
doctor early
";

/// The limit is kept now, the buckets are not.
const LOADED_EARLY: &str = "
values rebooted
doctor rebooted
echo 'options nf_conntrack hashsize=600000' > /etc/modprobe.d/conntrack.conf
doctor option
";

/// Both are kept.
const KEPT: &str = "
values rebooted
doctor rebooted
";

fn looking_loads_nothing(story: &Story) -> anyhow::Result<()> {
    let absent = story.report(1, "absent")?;
    absent.ensure("module-absent", "note")?;
    ensure!(absent.0["exit_code"] == 0, "nothing tracks, nothing is wrong: {:#}", absent.0);
    story.report(1, "healthy")?.ensure_silent("module-absent")?;
    for (before, after) in
        [("modules-without", "modules-without-after"), ("modules-with", "modules-with-after")]
    {
        let (before, after) = (story.success(1, before)?, story.success(1, after)?);
        ensure!(before == after, "looking has loaded modules: {before}{after}");
    }
    ensure!(story.success(1, "modules-with")?.contains("nf_conntrack "), "the firewall tracks not");
    Ok(())
}

/// `echo 600000 > …/nf_conntrack_max`.
fn the_first_command(story: &Story, default: u64, memory: &str) -> anyhow::Result<()> {
    ensure!(story.values(1, "default")? == (default, default), "not the kernel's own default");
    let healthy = story.report(1, "healthy")?;
    let said = ["second-wall", "memory-at-limit", "not-persisted", "lost-at-boot"];
    for id in said {
        healthy.ensure_silent(id)?;
    }
    ensure!(story.values(1, "echoed")? == (600_000, default), "the kernel did not take it");
    let echoed = story.report(1, "echoed")?;
    echoed.ensure("second-wall", "warning")?;
    echoed.ensure("memory-at-limit", memory)?;
    echoed.ensure("not-persisted", "warning")?;
    echoed.ensure_silent("lost-at-boot")
}

/// The line in /etc/sysctl.conf: read before the module is there, as systemd-sysctl itself says.
fn the_second_command(story: &Story, default: u64) -> anyhow::Result<()> {
    let line = story.report(1, "line")?;
    line.ensure("lost-at-boot", "warning")?;
    line.ensure_silent("not-persisted")?;
    let evidence = &line.finding("lost-at-boot").context("lost-at-boot")?["evidence"];
    let foretold = format!("{} (kernel default)", count(default));
    ensure!(evidence[1]["value"] == foretold.as_str(), "{evidence}");

    let reader = story.output(2, "sysctl")?;
    ensure!(reader.code == Some(0) && reader.stderr.contains("Couldn't write"), "{reader:?}");
    ensure!(story.values(2, "rebooted")? == (default, default), "foretold: {foretold}");
    let lost = story.report(2, "lost")?;
    lost.ensure("lost-at-boot", "warning")?;
    lost.ensure_silent("second-wall")?;
    // `sysctl -p` by hand works, and proves nothing about the next boot.
    ensure!(story.values(2, "by-hand")? == (600_000, default), "sysctl -p set nothing");
    story.report(2, "by-hand")?.ensure("lost-at-boot", "warning")
}

/// With a line in modules-load.d the limit is there after the reboot, behind the second wall.
fn loaded_early(story: &Story, default: u64) -> anyhow::Result<()> {
    let early = story.report(2, "early")?;
    early.ensure_silent("lost-at-boot")?;
    early.ensure_silent("not-persisted")?;
    early.ensure("second-wall", "warning")?;
    let reader = story.output(3, "sysctl")?;
    ensure!(reader.stderr.is_empty(), "{reader:?}");
    ensure!(story.values(3, "rebooted")? == (600_000, default), "the limit is not kept");
    let rebooted = story.report(3, "rebooted")?;
    rebooted.ensure_silent("lost-at-boot")?;
    rebooted.ensure("second-wall", "warning")
}

/// With the module's option the buckets are there as well, and nothing is left to say but memory.
fn kept(story: &Story) -> anyhow::Result<()> {
    story.report(3, "rebooted")?.ensure_silent("differs-from-persisted")?;
    story.report(3, "option")?.ensure("differs-from-persisted", "warning")?;
    // A page of the hash table holds 512 buckets: the kernel rounds up.
    ensure!(story.values(4, "rebooted")? == (600_000, 600_064), "not both are kept");
    let kept = story.report(4, "rebooted")?;
    let settled = ["second-wall", "lost-at-boot", "not-persisted", "differs-from-persisted"];
    settled.iter().try_for_each(|id| kept.ensure_silent(id))
}
