//! Limit and buckets are global to the host: they are raised under one lock, and put back.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use ctkeeper_flow::units;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::fill::{memory_available, number};
use crate::{LabError, clean, pause};

const LOCK: &str = "/run/lock/ctkeeper-lab.lock";
/// What the values were, while somebody holds them raised; whoever finds it puts them back.
const NOTE: &str = "/run/ctkeeper-lab.note";
/// Becomes the note by its new name: half a note could not be put back.
const DRAFT: &str = "/run/ctkeeper-lab.note.draft";
const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";
const STEP: Duration = Duration::from_millis(50);
/// A bucket is a pointer (`struct hlist_nulls_head`, `include/linux/list_nulls.h`, Linux 6.12).
const BUCKET_BYTES: u64 = size_of::<usize>() as u64;

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
        Note { limit, buckets, own: None }.leave()?;
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

    /// From now on only what is set through this value is put back. Without it, whatever the
    /// values are at the end: other programs may change them on the holder's behalf.
    pub(crate) fn expect_no_other_changes(&self) -> Result<(), LabError> {
        let own = [number(LIMIT)?, number(BUCKETS)?, self.limit, self.buckets];
        self.note(Some(own.into()))
    }

    /// Until [`HostValues::expect_no_other_changes`], changes by others are put back as well.
    pub(crate) fn expect_other_changes(&self) -> Result<(), LabError> {
        self.note(None)
    }

    fn note(&self, own: Option<BTreeSet<u64>>) -> Result<(), LabError> {
        Note { limit: self.limit, buckets: self.buckets, own }.leave()
    }

    /// Switches the limit off.
    pub fn lift_limit(&self) -> Result<(), LabError> {
        set(LIMIT, 0)
    }

    /// Raises the limit; refuses to lower it.
    pub fn raise_limit(&self, limit: u64) -> Result<(), LabError> {
        raise(LIMIT, self.limit, limit)
    }

    /// Raises the buckets; refuses to lower them, and to spend over a tenth of the memory available.
    pub fn raise_buckets(&self, buckets: u64) -> Result<(), LabError> {
        let available = memory_available()?;
        if buckets.saturating_mul(BUCKET_BYTES) >= available / 10 {
            return Err(LabError::Harmful {
                operation: format!("make {} buckets", units::count(buckets)),
                reason: format!("over a tenth of the {} available", units::mebibytes(available)),
                remedy: "ask for fewer, or run it where there is more memory",
            });
        }
        raise(BUCKETS, self.buckets, buckets)
    }

    /// Fails if a limit is below the one that was found.
    pub(crate) fn ensure_no_lower(&self, limit: u64) -> Result<(), LabError> {
        ensure_no_lower(LIMIT, self.limit, limit)
    }
}

fn raise(file: &str, found: u64, value: u64) -> Result<(), LabError> {
    ensure_no_lower(file, found, value)?;
    set(file, value)
}

fn ensure_no_lower(file: &str, found: u64, value: u64) -> Result<(), LabError> {
    if value >= found {
        return Ok(());
    }
    Err(LabError::Harmful {
        operation: format!("set {file} to {value}"),
        reason: format!("it was {found}, and the lab never lowers it"),
        remedy: "what needs less runs in a virtual machine (cargo xtask vm)",
    })
}

/// Sets a value; the note knows it before, should the process be killed in between.
fn set(file: &str, value: u64) -> Result<(), LabError> {
    // The kernel makes whole pages of buckets (nf_ct_alloc_hashtable,
    // net/netfilter/nf_conntrack_core.c, Linux 6.12).
    let page = rustix::param::page_size() as u64 / BUCKET_BYTES;
    let value = if file == BUCKETS { value.next_multiple_of(page) } else { value };
    if let Some(mut note) = Note::find()?
        && let Some(own) = &mut note.own
    {
        own.insert(value);
        note.leave()?;
    }
    write(file, &value.to_string())
}

impl HostValues {
    /// Puts the values back and lets others have them; what fails stays noted for whoever comes next.
    pub fn put_back(self) -> Result<(), LabError> {
        restore_from_note().map(drop)
    }
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
    let restored = match Note::find()? {
        Some(note) => note.restore()?,
        None => None,
    };
    match fs::remove_file(NOTE) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(LabError::system("remove", NOTE)(error))
        }
        _ => Ok(restored),
    }
}

/// What the values were, and which ones the lab has set since; those that somebody else has set
/// meanwhile, an operator in need, say, are not the lab's to lower. Without a list any may be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    limit: u64,
    buckets: u64,
    own: Option<BTreeSet<u64>>,
}

impl Note {
    fn find() -> Result<Option<Self>, LabError> {
        match fs::read_to_string(NOTE) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LabError::system("read", NOTE)(error)),
        }
    }

    /// Nothing for a note that was never finished: nothing was changed yet.
    fn parse(text: &str) -> Option<Self> {
        let (found, own) = text.split_once('\n')?;
        let (limit, buckets) = found.split_once(' ')?;
        let own = own.strip_prefix("own ");
        let numbers = |own: &str| own.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let (limit, buckets) = (limit.parse().ok()?, buckets.parse().ok()?);
        Some(Self { limit, buckets, own: own.map(numbers) })
    }

    fn text(&self) -> String {
        let own = self.own.iter().map(|own| {
            let numbers: Vec<_> = own.iter().map(u64::to_string).collect();
            format!("own {}\n", numbers.join(" "))
        });
        format!("{} {}\n", self.limit, self.buckets) + &own.collect::<String>()
    }

    fn leave(&self) -> Result<(), LabError> {
        write(DRAFT, &self.text())?;
        fs::rename(DRAFT, NOTE).map_err(LabError::system("write", NOTE))
    }

    /// Whether a value that is now in place of this one is to go.
    fn is_changed(&self, now: u64, found: u64) -> bool {
        now != found && self.own.as_ref().is_none_or(|own| own.contains(&now))
    }

    fn restore(&self) -> Result<Option<Restored>, LabError> {
        let mut changed = false;
        for (file, found) in [(LIMIT, self.limit), (BUCKETS, self.buckets)] {
            // Writing the buckets rehashes every entry of the host, even if they stay as they are.
            if self.is_changed(number(file)?, found) {
                write(file, &found.to_string())?;
                changed = true;
            }
        }
        Ok(if changed {
            Some(Restored { limit: number(LIMIT)?, buckets: number(BUCKETS)? })
        } else {
            None
        })
    }
}

fn write(file: &str, text: &str) -> Result<(), LabError> {
    fs::write(file, text).map_err(LabError::system("write", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_set_meanwhile_stays() {
        let mut note = Note { limit: 65_536, buckets: 16_384, own: None };
        assert_eq!(Note::parse(&note.text()), Some(note.clone()));
        assert!(note.is_changed(600_000, 65_536), "whoever has changed it");
        note.own = Some([65_536, 262_144].into());
        assert_eq!(Note::parse(&note.text()), Some(note.clone()));
        assert!(note.is_changed(262_144, 65_536), "the lab has changed it");
        assert!(!note.is_changed(600_000, 65_536), "an operator has");
        assert!(!note.is_changed(65_536, 65_536));
        for unfinished in ["", "65536", "65536 163"] {
            assert_eq!(Note::parse(unfinished), None);
        }
    }
}
