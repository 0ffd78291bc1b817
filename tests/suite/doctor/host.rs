//! Findings about values that are global to the host, raised under the lab's lock.

use anyhow::ensure;
use ctkeeper_tests::{HostValues, doctor};

pub(crate) fn second_wall_and_memory() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    let buckets = host.buckets();
    let healthy = doctor(&[])?;
    healthy.ensure_silent("second-wall")?;
    healthy.ensure_silent("memory-at-limit")?;
    host.raise_limit(buckets * 2)?;
    doctor(&[])?.ensure_silent("second-wall")?;
    host.raise_limit(buckets * 3)?;
    doctor(&[])?.ensure("second-wall", "note")?;
    host.raise_limit(buckets * 8)?;
    doctor(&[])?.ensure("second-wall", "warning")?;
    // 384 bytes an entry: this limit would take all memory there is.
    let available = available_memory()?;
    host.raise_limit(available * 11 / 10 / 384)?;
    doctor(&[])?.ensure("memory-at-limit", "critical")
}

pub(crate) fn unlimited() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    doctor(&[])?.ensure_silent("unlimited")?;
    host.lift_limit()?;
    let report = doctor(&[])?;
    report.ensure("unlimited", "note")?;
    report.ensure_silent("nearly-full")
}

pub(crate) fn not_persisted() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    doctor(&[])?.ensure_silent("not-persisted")?;
    host.raise_limit(host.limit() + 1000)?;
    doctor(&[])?.ensure("not-persisted", "warning")
}

/// The seed's first command, `echo 600000 > …/nf_conntrack_max`, live: gone after a reboot, and the
/// buckets stay behind. (What a line in /etc/sysctl.conf is worth is `files` and the lab's matter.)
pub(crate) fn the_seeds_fix() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    ensure!(host.limit() < 600_000, "this host's limit is above the seed's already");
    host.raise_limit(600_000)?;
    let report = doctor(&[])?;
    report.ensure("not-persisted", "warning")?;
    let load = 600_000.0 / host.buckets() as f64;
    if load > 2.0 {
        ensure!(report.finding("second-wall").is_some(), "load {load} at the limit: {report:?}");
    }
    Ok(())
}

fn available_memory() -> anyhow::Result<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| anyhow::anyhow!("no MemAvailable"))
}
