//! Limit and buckets are global to the host: they are raised under one lock, and put back.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::fill::number;
use crate::{LabError, clean, pause};

const LOCK: &str = "/run/lock/ctkeeper-lab.lock";
/// What the values were, while somebody holds them raised; whoever finds it puts them back.
const NOTE: &str = "/run/ctkeeper-lab.note";
const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";
const STEP: Duration = Duration::from_millis(50);

/// The right to change limit and buckets, held by one process at a time. Dropping it restores
/// them: let the namespaces that need them go first.
#[derive(Debug)]
pub struct HostValues {
    _lock: File,
    limit: u64,
    buckets: u64,
}

impl HostValues {
    /// Waits for the lock, removes and puts back what a killed holder left, and notes the values.
    pub fn lock() -> Result<Self, LabError> {
        loop {
            match Self::try_lock()? {
                Some(values) => return Ok(values),
                None => pause(STEP)?,
            }
        }
    }

    /// The same without waiting; nothing if another process holds them.
    pub fn try_lock() -> Result<Option<Self>, LabError> {
        let Some(lock) = take_lock()? else { return Ok(None) };
        // What a killed holder has filled needs the buckets that it has raised.
        clean::remove_namespaces()?;
        restore_from_note()?;
        let (limit, buckets) = (number(LIMIT)?, number(BUCKETS)?);
        write(NOTE, &format!("{limit} {buckets}\n"))?;
        Ok(Some(Self { _lock: lock, limit, buckets }))
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
    pub fn lift_limit(&self) -> Result<(), LabError> {
        write(LIMIT, "0")
    }

    /// Raises the limit; refuses to lower it.
    pub fn raise_limit(&self, limit: u64) -> Result<(), LabError> {
        raise(LIMIT, self.limit, limit)
    }

    /// Raises the buckets; refuses to lower them.
    pub fn raise_buckets(&self, buckets: u64) -> Result<(), LabError> {
        raise(BUCKETS, self.buckets, buckets)
    }
}

fn raise(file: &str, found: u64, value: u64) -> Result<(), LabError> {
    if value >= found {
        return write(file, &value.to_string());
    }
    Err(LabError::Harmful {
        operation: format!("set {file} to {value}"),
        reason: format!("it was {found}, and the lab never lowers it"),
        remedy: "what needs less runs in a virtual machine (cargo xtask vm)",
    })
}

impl Drop for HostValues {
    fn drop(&mut self) {
        // A guard must not panic; the note stays for whoever comes next.
        let _ = restore_from_note();
    }
}

/// What was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The limit, as it is again.
    pub limit: u64,
    /// The buckets, as they are again.
    pub buckets: u64,
}

/// Puts back what a killed holder left, unless somebody holds the values just now.
pub(crate) fn restore_leftovers() -> Result<Option<Restored>, LabError> {
    if !Path::new(NOTE).exists() {
        return Ok(None);
    }
    match take_lock()? {
        Some(_lock) => restore_from_note(),
        None => Ok(None),
    }
}

fn take_lock() -> Result<Option<File>, LabError> {
    let opened = OpenOptions::new().create(true).append(true).open(LOCK);
    let lock = opened.map_err(LabError::system("open", LOCK))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(LabError::system("lock", LOCK)(error.into())),
    }
}

fn restore_from_note() -> Result<Option<Restored>, LabError> {
    let Ok(note) = fs::read_to_string(NOTE) else { return Ok(None) };
    let restored = restore(&note)?;
    fs::remove_file(NOTE).map_err(LabError::system("remove", NOTE))?;
    Ok(restored)
}

fn restore(note: &str) -> Result<Option<Restored>, LabError> {
    let mut noted = note.split_whitespace().map_while(|word| word.parse::<u64>().ok());
    // A note that was never finished: nothing was changed yet.
    let (Some(limit), Some(buckets)) = (noted.next(), noted.next()) else { return Ok(None) };
    let unchanged = number(LIMIT)? == limit && number(BUCKETS)? == buckets;
    if unchanged {
        return Ok(None);
    }
    write(LIMIT, &limit.to_string())?;
    // Writing the buckets rehashes every entry of the host, even if they stay as they are.
    if number(BUCKETS)? != buckets {
        write(BUCKETS, &buckets.to_string())?;
    }
    Ok(Some(Restored { limit, buckets }))
}

fn write(file: &str, text: &str) -> Result<(), LabError> {
    fs::write(file, text).map_err(LabError::system("write", file))
}
