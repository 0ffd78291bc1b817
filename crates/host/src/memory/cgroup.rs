//! Memory that control groups may still claim.
//!
//! `MemAvailable` counts everything free or reclaimable. Two promises of control groups reach into
//! it: `memory.min` and `memory.low` protect what a group is going to use, and a group with a limit
//! may grow up to it. Counted are:
//!
//! * for each top-level group, what is missing between its use and its protection;
//! * for each *outermost* group with a limit, what is missing between its use, without its
//!   reclaimable page cache (which `MemAvailable` counts as well), and its limit. Groups without a
//!   limit have no bound that could be counted.
//!
//! Limits that together exceed the host's memory are overcommitted: they no longer say what will be
//! used. Then a group counts up to the most it has ever used (`memory.peak`, Linux 5.19 and later)
//! or, where the kernel does not say, up to its part of the host's memory.

use std::fs;
use std::path::{Path, PathBuf};

use ctkeeper_snapshot::Reservation;

use crate::read;

/// How far below the root a limit is looked for: `kubepods.slice/…-burstable.slice/…-pod.slice`.
const DEPTH: usize = 3;

/// Groups looked at; a host with more has its first ones counted.
const GROUPS: usize = 4096;

/// File names of the two hierarchies.
struct Files {
    usage: &'static str,
    limit: &'static str,
    peak: &'static str,
    cache: [&'static str; 2],
    protections: &'static [&'static str],
}

const UNIFIED: Files = Files {
    usage: "memory.current",
    limit: "memory.max",
    peak: "memory.peak",
    cache: ["inactive_file", "active_file"],
    protections: &["memory.min", "memory.low"],
};

const LEGACY: Files = Files {
    usage: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
    protections: &[],
};

/// A group with a limit.
struct Bounded {
    path: PathBuf,
    used: u64,
    limit: u64,
    peak: Option<u64>,
}

/// What groups may still claim of `total` bytes.
pub(super) fn reservations(root: &Path, total: u64) -> Vec<Reservation> {
    let Some((mount, files)) = hierarchy(root) else { return Vec::new() };
    let scan = Scan { root, mount: &mount, files, total };
    let mut found = scan.protected();
    found.extend(scan.growing());
    found
}

/// The hierarchy that controls memory, if any does.
fn hierarchy(root: &Path) -> Option<(PathBuf, &'static Files)> {
    let folder = root.join("sys/fs/cgroup");
    let controls = |mount: &Path| {
        read::text(&mount.join("cgroup.controllers"))
            .is_ok_and(|list| list.split_ascii_whitespace().any(|name| name == "memory"))
    };
    let unified = [folder.clone(), folder.join("unified")].into_iter().find(|m| controls(m));
    let legacy = || Some(folder.join("memory")).filter(|m| m.join(LEGACY.limit).exists());
    unified.map(|mount| (mount, &UNIFIED)).or_else(|| Some((legacy()?, &LEGACY)))
}

struct Scan<'a> {
    root: &'a Path,
    mount: &'a Path,
    files: &'static Files,
    total: u64,
}

impl Scan<'_> {
    fn protected(&self) -> Vec<Reservation> {
        let groups = children(self.mount).into_iter();
        let claims = groups.flat_map(|group| {
            self.files.protections.iter().filter_map(move |file| self.protection(&group, file))
        });
        let mut found: Vec<Reservation> = Vec::new();
        for claim in claims {
            // `low` contains `min`: of the two the larger claim stands.
            match found.last_mut() {
                Some(last) if folder_of(&last.file) == folder_of(&claim.file) => {
                    if claim.bytes > last.bytes {
                        *last = claim;
                    }
                }
                _ => found.push(claim),
            }
        }
        found
    }

    fn protection(&self, group: &Path, file: &str) -> Option<Reservation> {
        let path = group.join(file);
        let promised = quantity(&read::value(&path).ok()?, self.total)?.min(self.total);
        let bytes = promised.saturating_sub(read::number(group.join(self.files.usage))?);
        (bytes > 0).then(|| self.reservation(group, &path, file, bytes))
    }

    fn growing(&self) -> Vec<Reservation> {
        let mut bounded = Vec::new();
        let mut left = GROUPS;
        self.collect(self.mount, DEPTH, &mut left, &mut bounded);
        let sum = bounded.iter().fold(0_u64, |sum, group| sum.saturating_add(group.limit));
        bounded.iter().filter_map(|group| self.growth(group, sum)).collect()
    }

    fn collect(&self, folder: &Path, depth: usize, left: &mut usize, bounded: &mut Vec<Bounded>) {
        for group in children(folder) {
            if *left == 0 {
                return;
            }
            *left -= 1;
            if let Some(group) = self.bounded(&group) {
                bounded.push(group);
            } else if depth > 1 {
                self.collect(&group, depth - 1, left, bounded);
            }
        }
    }

    /// The group, if it has a limit below the host's memory.
    fn bounded(&self, group: &Path) -> Option<Bounded> {
        let limit = quantity(&read::value(group.join(self.files.limit)).ok()?, self.total)?;
        if limit >= self.total {
            return None;
        }
        let used = read::number(group.join(self.files.usage))?;
        let peak = read::number(group.join(self.files.peak)).map(|peak| peak.min(limit));
        let used = used.saturating_sub(self.cache(group));
        Some(Bounded { path: group.to_owned(), used, limit, peak })
    }

    fn cache(&self, group: &Path) -> u64 {
        let text = read::text(&group.join("memory.stat")).unwrap_or_default();
        let of = |line: &str| {
            let (name, bytes) = line.split_once(' ')?;
            self.files.cache.contains(&name).then(|| bytes.trim().parse::<u64>().ok())?
        };
        text.lines().filter_map(of).fold(0, u64::saturating_add)
    }

    fn growth(&self, group: &Bounded, sum_of_limits: u64) -> Option<Reservation> {
        let (bound, name) = match (sum_of_limits > self.total, group.peak) {
            (false, _) => (group.limit, self.files.limit),
            (true, Some(peak)) => (peak, self.files.peak),
            (true, None) => (self.part(group.limit, sum_of_limits), self.files.limit),
        };
        let bytes = bound.saturating_sub(group.used);
        (bytes > 0).then(|| self.reservation(&group.path, &group.path.join(name), name, bytes))
    }

    fn part(&self, limit: u64, sum_of_limits: u64) -> u64 {
        let part = u128::from(limit) * u128::from(self.total) / u128::from(sum_of_limits.max(1));
        u64::try_from(part).unwrap_or(self.total)
    }

    fn reservation(&self, group: &Path, path: &Path, file: &str, bytes: u64) -> Reservation {
        let name = group.strip_prefix(self.mount).unwrap_or(group).display();
        let on_host = Path::new("/").join(path.strip_prefix(self.root).unwrap_or(path));
        let owner = format!("cgroup /{name} {file}");
        Reservation { owner, bytes, file: on_host.display().to_string() }
    }
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The groups directly below one, in a stable order.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut groups: Vec<_> =
        entries.filter(is_folder).map(|entry| entry.path()).take(GROUPS).collect();
    groups.sort();
    groups
}

/// `max` is no bound: all there is.
fn quantity(text: &str, total: u64) -> Option<u64> {
    if text == "max" { Some(total) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: u64 = 1000;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn unified() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            tree.put("cgroup.controllers", "cpu memory\n");
            tree
        }

        fn put(&self, path: &str, content: &str) -> &Self {
            let path = self.0.path().join("sys/fs/cgroup").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            self
        }

        fn group(&self, path: &str, used: u64, limit: &str) -> &Self {
            self.put(&format!("{path}/memory.current"), &format!("{used}\n"));
            self.put(&format!("{path}/memory.max"), &format!("{limit}\n"))
        }

        fn found(&self) -> Vec<(String, u64)> {
            let found = reservations(self.0.path(), TOTAL);
            found.into_iter().map(|r| (r.owner, r.bytes)).collect()
        }
    }

    fn owned(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|(owner, bytes)| ((*owner).to_owned(), *bytes)).collect()
    }

    #[test]
    fn only_the_outermost_limit_counts() {
        let tree = Tree::unified();
        tree.group("kubepods", 200, "600").group("kubepods/pod1", 200, "500");
        tree.group("system", 50, "max").group("system/a", 10, "100").group("free", 9, "max");
        let expected = [("cgroup /kubepods memory.max", 400), ("cgroup /system/a memory.max", 90)];
        assert_eq!(tree.found(), owned(&expected));
    }

    #[test]
    fn page_cache_is_no_use() {
        let tree = Tree::unified();
        tree.group("a", 90, "100")
            .put("a/memory.stat", "anon 9\ninactive_file 30\nactive_file 5\n");
        assert_eq!(tree.found(), owned(&[("cgroup /a memory.max", 45)]));
    }

    #[test]
    fn overcommitted_limits_count_up_to_the_peak_or_a_fair_part() {
        let tree = Tree::unified();
        tree.group("a", 100, "500").put("a/memory.peak", "150\n").group("b", 10, "750");
        let expected = [("cgroup /a memory.peak", 50), ("cgroup /b memory.max", 590)];
        assert_eq!(tree.found(), owned(&expected));
    }

    #[test]
    fn the_larger_protection_stands() {
        let tree = Tree::unified();
        tree.group("a", 100, "max").put("a/memory.min", "150\n").put("a/memory.low", "250\n");
        tree.group("b", 100, "max").put("b/memory.min", "max\n").put("c/memory.min", "junk");
        let expected = [("cgroup /a memory.low", 150), ("cgroup /b memory.min", 900)];
        assert_eq!(tree.found(), owned(&expected));
    }

    #[test]
    fn the_legacy_hierarchy_is_read() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        tree.put("memory/docker/x/memory.limit_in_bytes", "300\n");
        tree.put("memory/docker/x/memory.usage_in_bytes", "100\n");
        tree.put("memory/docker/memory.limit_in_bytes", "9223372036854771712\n");
        let expected = [("cgroup /docker/x memory.limit_in_bytes", 200)];
        assert_eq!(tree.found(), owned(&expected));
    }

    #[test]
    fn a_host_without_memory_control_has_none() {
        assert_eq!(Tree(tempfile::tempdir().unwrap()).found(), vec![]);
    }
}
