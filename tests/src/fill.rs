//! Filling a namespace's table without hurting its neighbours.

use std::fs;

use anyhow::{Context, ensure};

/// Bytes of an entry on Linux 6.x: a 256-byte slab object and 128 bytes of extensions.
const ENTRY_BYTES: u64 = 384;

/// Refuses a fill of `entries` that others would feel: the hash table and the memory are shared by
/// every namespace of the host.
pub fn ensure_harmless(entries: u64) -> anyhow::Result<()> {
    let standing = slab_entries().unwrap_or(0);
    let buckets = number("/proc/sys/net/netfilter/nf_conntrack_buckets")?;
    ensure!(
        standing + entries <= 2 * buckets,
        "{standing} entries and {entries} more would stand in {buckets} buckets: over 2 a bucket"
    );
    let available = memory_available()?;
    ensure!(
        entries * ENTRY_BYTES < available / 10,
        "{entries} entries would take over a tenth of the {available} bytes available"
    );
    Ok(())
}

fn slab_entries() -> Option<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo").ok()?;
    let line = slabs.lines().find(|line| line.starts_with("nf_conntrack "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn memory_available() -> anyhow::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .context("/proc/meminfo names no MemAvailable")?;
    Ok(kib * 1024)
}

fn number(file: &str) -> anyhow::Result<u64> {
    fs::read_to_string(file).context(file.to_owned())?.trim().parse().context(file.to_owned())
}
