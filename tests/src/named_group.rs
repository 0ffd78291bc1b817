//! Control groups by the names that systemd and container runtimes give theirs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// A control group of the same path in every hierarchy that takes one; its folders, and those above
/// that it made, go with it. Whoever is in it must have ended by then.
#[derive(Debug)]
pub struct NamedGroup {
    /// Folders that it made, outermost first, by hierarchy.
    made: Vec<PathBuf>,
    /// The innermost of each hierarchy.
    leaves: Vec<PathBuf>,
}

impl NamedGroup {
    /// Makes it: `system.slice/web-frontend.service`.
    pub fn create(path: &str) -> anyhow::Result<Self> {
        let mut group = Self { made: Vec::new(), leaves: Vec::new() };
        for hierarchy in hierarchies()? {
            // Without CPUs of its own nobody may enter a group of this one.
            if hierarchy.join("cpuset.cpus").exists() {
                continue;
            }
            let leaf = group.make(&hierarchy, path)?;
            group.leaves.push(leaf);
        }
        ensure!(!group.leaves.is_empty(), "no hierarchy of control groups is mounted");
        Ok(group)
    }

    fn make(&mut self, hierarchy: &Path, path: &str) -> anyhow::Result<PathBuf> {
        let mut folder = hierarchy.to_owned();
        for part in path.split('/') {
            folder.push(part);
            match fs::create_dir(&folder) {
                Ok(()) => self.made.push(folder.clone()),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("making {}", folder.display()));
                }
            }
        }
        Ok(folder)
    }

    /// Puts a process into it.
    pub fn add(&self, pid: u32) -> anyhow::Result<()> {
        for leaf in &self.leaves {
            let file = leaf.join("cgroup.procs");
            fs::write(&file, pid.to_string())
                .with_context(|| format!("putting {pid} into {}", leaf.display()))?;
        }
        Ok(())
    }
}

impl Drop for NamedGroup {
    fn drop(&mut self) {
        // The kernel lets go of an ended process a moment after it has been waited for.
        for folder in self.made.iter().rev() {
            for _ in 0..50 {
                match fs::remove_dir(folder) {
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(std::time::Duration::from_millis(20));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// Where hierarchies are mounted, each once.
fn hierarchies() -> anyhow::Result<BTreeSet<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading mounts")?;
    let found = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(place))
    });
    Ok(found.collect())
}
