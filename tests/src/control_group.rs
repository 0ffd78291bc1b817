//! Control groups of the tests' own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const ROOT: &str = "/sys/fs/cgroup";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name for a control group, in whatever hierarchies somebody makes it. When it goes, so do the
/// processes in it and the groups themselves.
#[derive(Debug)]
pub struct ControlGroup {
    name: String,
}

impl ControlGroup {
    /// `ctk-ROLE-PID-N`: nobody else's.
    pub fn reserve(role: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("ctk-{role}-{}-{number}", std::process::id()) }
    }

    /// Its path: `/ctk-ROLE-PID-N`.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Its folders that are there: one in each hierarchy.
    pub fn folders(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten();
        let roots = hierarchies.map(|entry| entry.path()).chain([PathBuf::from(ROOT)]);
        roots.map(|root| root.join(&self.name)).filter(|folder| folder.is_dir()).collect()
    }

    /// The processes in it and below, lowest first.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for folder in self.folders() {
            for group in groups(&folder) {
                let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            }
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for _ in 0..50 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for pid in left.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
                let _ = kill_process(pid, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
        for folder in self.folders() {
            for group in groups(&folder) {
                let _ = fs::remove_dir(group);
            }
        }
    }
}

/// A group and all below it, the lowest first.
fn groups(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let below = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut found: Vec<_> = below.flat_map(|path| groups(&path)).collect();
    found.push(folder.to_owned());
    found
}
