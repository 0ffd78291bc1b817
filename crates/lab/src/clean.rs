//! What killed runs left is removed: their namespaces, what runs inside, their folders, and the
//! host's values as they noted them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use crate::host_values::{self, Restored};
use crate::{LabError, namespace, owner};

const GRACE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(10);

/// What [`clean`] has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    /// Names of the namespaces.
    pub namespaces: Vec<String>,
    /// Numbers of the processes that ran inside.
    pub processes: Vec<u32>,
    /// The host's values, if they had to be put back.
    pub host_values: Option<Restored>,
    /// What could not be removed, and why: the next [`clean`] tries again.
    pub failed: Vec<String>,
}

impl Cleaned {
    /// Whether there was nothing to remove.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Removes what runs of the lab left whose process has ended without its guards (kill -9). What
/// belongs to a process that still runs stays, and nothing outside the lab's namespaces is touched.
pub fn clean() -> Result<Cleaned, LabError> {
    let mut cleaned = remove_namespaces()?;
    // After the namespaces: what they held may need the buckets that were raised.
    cleaned.host_values = host_values::restore_leftovers()?;
    for pid in owner::with_folders() {
        // Without the folder, nobody would know whose the namespaces are that are still there.
        if owner::has_ended(pid) && !owner::has_namespaces(pid) {
            owner::remove_folder(pid);
        }
    }
    Ok(cleaned)
}

/// Removes left namespaces and ends what runs inside.
pub(crate) fn remove_namespaces() -> Result<Cleaned, LabError> {
    let names = leftovers();
    if !names.is_empty() && !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot { operation: format!("remove {}", names.join(", ")) });
    }
    let mut cleaned = Cleaned { processes: end_processes(&names), ..Cleaned::default() };
    for name in names {
        match namespace::remove(&name) {
            Ok(()) => cleaned.namespaces.push(name),
            Err(error) => cleaned.failed.push(error.to_string()),
        }
    }
    Ok(cleaned)
}

fn leftovers() -> Vec<String> {
    let dead = |name: &String| namespace::owner(name).is_some_and(owner::has_ended);
    let mut names: Vec<_> = namespace::names().filter(dead).collect();
    names.sort_unstable();
    names
}

/// Ends every process that lives inside a namespace of this process's own making.
pub(crate) fn end_inside(name: &str) {
    let homes = homes(&[name.to_owned()]);
    end_all(|pid| home(pid).is_some_and(|home| homes.contains(&home)));
}

/// Ends every process that lives inside these namespaces, for the lab made them and all of it is the
/// lab's, and those on their way there.
fn end_processes(names: &[String]) -> Vec<u32> {
    let homes = homes(names);
    end_all(|pid| home(pid).is_some_and(|home| homes.contains(&home)) || owner::is_orphan(pid))
}

/// Device and inode of namespaces, without the one that this process lives in.
fn homes(names: &[String]) -> Vec<(u64, u64)> {
    let own = home(std::process::id());
    let found = names.iter().filter_map(|name| identity(Path::new(namespace::FOLDER).join(name)));
    found.filter(|found| Some(*found) != own).collect()
}

fn home(pid: u32) -> Option<(u64, u64)> {
    identity(format!("/proc/{pid}/ns/net"))
}

fn identity(file: impl AsRef<Path>) -> Option<(u64, u64)> {
    fs::metadata(file).ok().map(|found| (found.dev(), found.ino()))
}

/// Ends the processes that are meant: SIGTERM, and SIGKILL a second later.
fn end_all(is_meant: impl Fn(u32) -> bool) -> Vec<u32> {
    let own = std::process::id();
    let found: Vec<_> = process_numbers().filter(|&pid| pid != own && is_meant(pid)).collect();
    let signal_all = |signal| found.iter().for_each(|&pid| send(pid, signal, &is_meant));
    signal_all(Signal::TERM);
    let end = Instant::now() + GRACE;
    while found.iter().any(|&pid| is_meant(pid)) && Instant::now() < end {
        thread::sleep(STEP);
    }
    signal_all(Signal::KILL);
    found
}

/// Looks again once the process is held, so that the signal reaches the one that was meant.
fn send(number: u32, signal: Signal, is_meant: &impl Fn(u32) -> bool) {
    let Some(pid) = Pid::from_raw(number.cast_signed()) else { return };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if is_meant(number) {
        let _ = pidfd_send_signal(&held, signal);
    }
}

fn process_numbers() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
