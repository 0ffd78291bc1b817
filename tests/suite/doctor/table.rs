//! Findings about a namespace's table, each in a namespace of its own under the host's real limit.

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_tests::{Filling, HostValues, Namespace, doctor, fill};

const LIVING: Filling = Filling::Established { timeout: 431_990 };

fn limit() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    text.trim().parse().context("the host's limit")
}

/// Datagrams from ever new ports over loopback, 200 a second, until dropped.
struct Knocking(Child);

impl Knocking {
    fn at(namespace: &Namespace) -> anyhow::Result<Self> {
        // Each datagram is a new flow; refused ones fail with EPERM, which bash reports and survives.
        let script = "for n in $(seq 2000); do echo x > /dev/udp/127.0.0.1/$((20000 + n)); \
                      sleep 0.005; done";
        let mut command = namespace.command("bash");
        command.args(["-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Knocking {
    fn drop(&mut self) {
        // `ip netns exec` has become bash: this is the process that was started.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn table_full() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let namespace = Namespace::create()?;
    namespace.track()?;
    let limit = limit()?;
    let look = ["--netns", namespace.name(), "--window", "500ms"];

    // Healthy neighbour: 2,000 places are free, the same datagrams knock.
    fill(&namespace, 0, limit - 2000, LIVING)?;
    let knocking = Knocking::at(&namespace)?;
    let report = doctor(&look)?;
    report.ensure_silent("table-full")?;
    report.ensure("nearly-full", "critical")?;
    drop(knocking);

    let count = namespace.run("cat", &["/proc/sys/net/netfilter/nf_conntrack_count"])?;
    let standing: u64 = count.trim().parse()?;
    fill(&namespace, limit, 2 * limit - standing, LIVING)?;
    let _knocking = Knocking::at(&namespace)?;
    thread::sleep(Duration::from_millis(100));
    let report = doctor(&look)?;
    report.ensure("table-full", "critical")?;
    report.ensure_silent("locked")?;
    report.ensure_silent("nearly-full")?;
    let refused = &report.finding("table-full").context("table-full")?["evidence"][0];
    ensure!(refused["value"].as_u64() > Some(10), "too few refused: {refused}");
    the_kernel_log_names_it(&namespace)
}

/// Lines come at most ten in five seconds for the whole host: another test may have used them up.
fn the_kernel_log_names_it(namespace: &Namespace) -> anyhow::Result<()> {
    let inode = namespace.inode()?;
    for _ in 0..12 {
        let report = doctor(&["--netns", namespace.name()])?;
        let named = report.findings().any(|finding| {
            finding["id"] == "kernel-log" && finding["scope"]["inode"].as_u64() == Some(inode)
        });
        if named {
            return Ok(());
        }
        let _knocking = Knocking::at(namespace)?;
        thread::sleep(Duration::from_secs(1));
    }
    let healthy = Namespace::create()?;
    let report = doctor(&["--netns", healthy.name()])?;
    let inode = healthy.inode()?;
    ensure!(!report.findings().any(|f| f["scope"]["inode"].as_u64() == Some(inode)));
    anyhow::bail!("the kernel log does not name namespace {inode} (6.18 does)")
}

pub(crate) fn nearly_full_and_locked() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let namespace = Namespace::create()?;
    let limit = limit()?;
    fill(&namespace, 0, limit * 70 / 100, LIVING)?;
    let healthy = doctor(&["--netns", namespace.name()])?;
    healthy.ensure_silent("nearly-full")?;
    healthy.ensure("locked", "note")?;
    fill(&namespace, limit * 70 / 100, limit * 85 / 100, LIVING)?;
    let report = doctor(&["--netns", namespace.name()])?;
    report.ensure("nearly-full", "warning")?;
    report.ensure("locked", "warning")?;
    report.ensure_silent("soft")?;
    fill(&namespace, limit * 85 / 100, limit, LIVING)?;
    doctor(&["--netns", namespace.name()])?.ensure("nearly-full", "critical")
}

pub(crate) fn soft() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let namespace = Namespace::create()?;
    let limit = limit()?;
    fill(&namespace, 0, limit * 55 / 100, Filling::HalfOpen)?;
    let report = doctor(&["--netns", namespace.name()])?;
    report.ensure("soft", "note")?;
    report.ensure_silent("locked")?;
    // Healthy neighbour: as many entries again, established.
    let other = Namespace::create()?;
    fill(&other, 0, limit * 25 / 100, Filling::HalfOpen)?;
    fill(&other, limit, limit * 130 / 100, LIVING)?;
    let report = doctor(&["--netns", other.name()])?;
    report.ensure_silent("soft")?;
    report.ensure_silent("locked")
}

pub(crate) fn idle_established() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let (idle, living) = (Namespace::create()?, Namespace::create()?);
    // Two hours without a packet, of a timeout of five days.
    fill(&idle, 0, 2000, Filling::Established { timeout: 432_000 - 7200 })?;
    fill(&living, 0, 2000, LIVING)?;
    doctor(&["--netns", idle.name()])?.ensure("idle-established", "note")?;
    doctor(&["--netns", living.name()])?.ensure_silent("idle-established")?;
    // With a short timeout the same entries say nothing.
    let short = "net.netfilter.nf_conntrack_tcp_timeout_established=7440";
    idle.run("sysctl", &["-q", "-w", short])?;
    doctor(&["--netns", idle.name()])?.ensure_silent("idle-established")
}

pub(crate) fn why_tracked() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let namespace = Namespace::create()?;
    namespace.track()?;
    namespace.run("bash", &["-c", "echo x > /dev/udp/127.0.0.1/20000"])?;
    let report = doctor(&["--netns", namespace.name()])?;
    report.ensure("why-tracked", "note")?;
    let finding = report.finding("why-tracked").context("why-tracked")?;
    ensure!(finding["summary"].as_str().is_some_and(|s| s.contains("track")), "{finding}");
    // Healthy neighbour: the same rule where something is dropped by it.
    namespace.nft("add rule inet track in ct state invalid drop\n")?;
    doctor(&["--netns", namespace.name()])?.ensure_silent("why-tracked")
}
