//! Limit and buckets are global to the host: they are raised under one lock, and put back.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use anyhow::{Context, ensure};
use rustix::fs::{FlockOperation, flock};

const LOCK: &str = "/run/lock/ctkeeper-lab.lock";
/// What the values were, while somebody holds them raised; whoever finds it puts them back.
const NOTE: &str = "/run/ctkeeper-lab.note";
const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// The right to change limit and buckets, held by one process at a time. Dropping it restores them.
#[derive(Debug)]
pub struct HostValues {
    _lock: File,
    limit: u64,
    buckets: u64,
}

impl HostValues {
    /// Waits for the lock, puts back what a killed holder left, and notes the values.
    pub fn lock() -> anyhow::Result<Self> {
        let lock = OpenOptions::new().create(true).append(true).open(LOCK).context(LOCK)?;
        flock(&lock, FlockOperation::LockExclusive).context("waiting for the lab's lock")?;
        restore_from_note()?;
        let (limit, buckets) = (read(LIMIT)?, read(BUCKETS)?);
        fs::write(NOTE, format!("{limit} {buckets}\n")).context(NOTE)?;
        Ok(Self { _lock: lock, limit, buckets })
    }

    /// The limit as it was found.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The buckets as they were found.
    pub fn buckets(&self) -> u64 {
        self.buckets
    }

    /// Switches the limit off.
    pub fn lift_limit(&self) -> anyhow::Result<()> {
        fs::write(LIMIT, "0").context(LIMIT)
    }

    /// Raises the limit; refuses to lower it.
    pub fn raise_limit(&self, limit: u64) -> anyhow::Result<()> {
        ensure!(limit >= self.limit, "the lab never lowers the limit ({} → {limit})", self.limit);
        fs::write(LIMIT, limit.to_string()).context(LIMIT)
    }
}

impl Drop for HostValues {
    fn drop(&mut self) {
        // A guard must not panic; the note stays for whoever comes next.
        let _ = restore_from_note();
    }
}

fn restore_from_note() -> anyhow::Result<()> {
    if !Path::new(NOTE).exists() {
        return Ok(());
    }
    let note = fs::read_to_string(NOTE).context(NOTE)?;
    if let Some((limit, buckets)) = note.trim().split_once(' ') {
        fs::write(LIMIT, limit).context(LIMIT)?;
        if read(BUCKETS)?.to_string() != buckets {
            fs::write(BUCKETS, buckets).context(BUCKETS)?;
        }
    }
    fs::remove_file(NOTE).context(NOTE)
}

fn read(file: &str) -> anyhow::Result<u64> {
    fs::read_to_string(file).context(file.to_owned())?.trim().parse().context(file.to_owned())
}
