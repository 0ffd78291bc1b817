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
    let (namespaces, processes) = remove_namespaces()?;
    // After the namespaces: what they held may need the buckets that were raised.
    let host_values = host_values::restore_leftovers()?;
    for pid in owner::with_folders() {
        if owner::has_ended(pid) {
            owner::remove_folder(pid);
        }
    }
    Ok(Cleaned { namespaces, processes, host_values })
}

/// Removes left namespaces and ends what runs inside.
pub(crate) fn remove_namespaces() -> Result<(Vec<String>, Vec<u32>), LabError> {
    let names = leftovers();
    let processes = end_processes(&names);
    if names.is_empty() {
        return Ok((names, processes));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot { operation: format!("remove {}", names.join(", ")) });
    }
    for name in &names {
        namespace::remove(name);
    }
    Ok((names, processes))
}

fn leftovers() -> Vec<String> {
    let entries = fs::read_dir(namespace::FOLDER).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let dead = |name: &String| namespace::owner(name).is_some_and(owner::has_ended);
    let mut names: Vec<_> = names.filter(dead).collect();
    names.sort_unstable();
    names
}

/// Ends every process that lives inside these namespaces, for the lab made them and all of it is the
/// lab's, and those on their way there.
fn end_processes(names: &[String]) -> Vec<u32> {
    let inode = |name: &String| fs::metadata(Path::new(namespace::FOLDER).join(name)).ok();
    let own = fs::metadata("/proc/self/ns/net").map_or(0, |own| own.ino());
    let inodes: Vec<_> = names.iter().filter_map(inode).map(|found| found.ino()).collect();
    let is_left = |pid: u32| {
        let home = fs::metadata(format!("/proc/{pid}/ns/net")).map_or(0, |home| home.ino());
        (home != own && inodes.contains(&home)) || owner::is_orphan(pid)
    };
    let found: Vec<_> = process_numbers().filter(|&pid| is_left(pid)).collect();
    let signal_all = |signal| found.iter().for_each(|&pid| send(pid, signal, &is_left));
    signal_all(Signal::TERM);
    let end = Instant::now() + GRACE;
    while found.iter().any(|&pid| is_left(pid)) && Instant::now() < end {
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
