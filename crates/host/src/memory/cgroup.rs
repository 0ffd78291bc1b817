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
//! Where a group has both, the larger one stands: memory that it grows into is memory that is
//! protected for it.
//!
//! A limit bounds, it does not promise: container hosts set limits far beyond what they have, and
//! kubelet gives pods all that it does not keep for the system. Limits together are therefore counted
//! up to half of what is available, each in proportion to how far it may grow.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use ctkeeper_snapshot::Reservation;

use super::MemInfo;
use crate::read;

/// How far below the root a limit is looked for: `kubepods.slice/…-burstable.slice/…-pod.slice`.
const DEPTH: usize = 3;

/// Groups looked at; a host with more has its first ones counted.
const GROUPS: usize = 4096;

/// File names of the two hierarchies.
struct Files {
    usage: &'static str,
    limit: &'static str,
    cache: [&'static str; 2],
    protections: &'static [&'static str],
}

const UNIFIED: Files = Files {
    usage: "memory.current",
    limit: "memory.max",
    cache: ["inactive_file", "active_file"],
    protections: &["memory.min", "memory.low"],
};

const LEGACY: Files = Files {
    usage: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
    protections: &[],
};

/// A group with a limit.
struct Bounded {
    path: PathBuf,
    /// How far it is from its limit, bytes.
    growth: u64,
}

impl Bounded {
    /// Whether it is kubelet's group of all pods: `kubepods.slice`, `kubepods`, and below another
    /// group `kubelet-kubepods.slice`.
    fn holds_all_pods(&self) -> bool {
        let name = self.path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        matches!(name, "kubepods" | "kubepods.slice") || name.ends_with("-kubepods.slice")
    }
}

/// What groups have a claim on.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) reservations: Vec<Reservation>,
    /// Whether the limit of kubelet's group of all pods is among them.
    pub(super) bounds_pods: bool,
}

/// What groups may still claim of the host's memory.
pub(super) fn claims(root: &Path, memory: MemInfo) -> Claims {
    let Some((mount, files)) = hierarchy(root) else { return Claims::default() };
    let scan = Scan { root, mount: &mount, files, memory };
    let bounded = scan.limits();
    let bounds_pods = bounded.iter().any(Bounded::holds_all_pods);
    let reservations = larger_ones(scan.protected(), scan.growing(&bounded));
    Claims { reservations, bounds_pods }
}

/// A claim, and the folder of the group whose it is.
type Claim = (PathBuf, Reservation);

/// Of a group's protection and the growth within it the larger one stands.
fn larger_ones(protected: Vec<Claim>, growing: Vec<Claim>) -> Vec<Reservation> {
    let sum = |group: &Path| {
        let within = growing.iter().filter(|(path, _)| path.starts_with(group));
        within.fold(0_u64, |sum, (_, claim)| sum.saturating_add(claim.bytes))
    };
    let protected: Vec<Claim> =
        protected.into_iter().filter(|(group, claim)| claim.bytes > sum(group)).collect();
    let covered = |path: &Path| protected.iter().any(|(group, _)| path.starts_with(group));
    let growing: Vec<Claim> = growing.into_iter().filter(|(path, _)| !covered(path)).collect();
    protected.into_iter().chain(growing).map(|(_, claim)| claim).collect()
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
    memory: MemInfo,
}

impl Scan<'_> {
    /// For each top-level group the larger of its protections: `low` contains `min`.
    fn protected(&self) -> Vec<Claim> {
        let larger = |group: PathBuf| {
            let files = self.files.protections.iter();
            let claims = files.filter_map(|file| self.protection(&group, file));
            let larger = claims.reduce(|one, two| if two.bytes > one.bytes { two } else { one });
            Some((group, larger?))
        };
        children(self.mount).into_iter().filter_map(larger).collect()
    }

    fn protection(&self, group: &Path, file: &str) -> Option<Reservation> {
        let path = group.join(file);
        let total = self.memory.total;
        let promised = quantity(&read::value(&path).ok()?, total)?.min(total);
        let bytes = promised.saturating_sub(read::number(group.join(self.files.usage))?);
        (bytes > 0).then(|| self.reservation(group, file, bytes))
    }

    fn limits(&self) -> Vec<Bounded> {
        let mut bounded = Vec::new();
        let mut left = GROUPS;
        self.collect(self.mount, DEPTH, &mut left, &mut bounded);
        bounded
    }

    fn growing(&self, bounded: &[Bounded]) -> Vec<Claim> {
        let sum = bounded.iter().fold(0_u64, |sum, group| sum.saturating_add(group.growth));
        let counted = sum.min(self.memory.available / 2);
        let claim = |group: &Bounded| {
            let bytes = part(group.growth, counted, sum);
            let reservation = || self.reservation(&group.path, self.files.limit, bytes);
            (bytes > 0).then(|| (group.path.clone(), reservation()))
        };
        bounded.iter().filter_map(claim).collect()
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
        let total = self.memory.total;
        let limit = quantity(&read::value(group.join(self.files.limit)).ok()?, total)?;
        if limit >= total {
            return None;
        }
        let used = read::number(group.join(self.files.usage))?.saturating_sub(self.cache(group));
        Some(Bounded { path: group.to_owned(), growth: limit.saturating_sub(used) })
    }

    fn cache(&self, group: &Path) -> u64 {
        let text = read::text(&group.join("memory.stat")).unwrap_or_default();
        let of = |line: &str| {
            let (name, bytes) = line.split_once(' ')?;
            self.files.cache.contains(&name).then(|| bytes.trim().parse::<u64>().ok())?
        };
        text.lines().filter_map(of).fold(0, u64::saturating_add)
    }

    fn reservation(&self, group: &Path, file: &str, bytes: u64) -> Reservation {
        let name = group.strip_prefix(self.mount).unwrap_or(group).display();
        let path = group.join(file);
        let on_host = Path::new("/").join(path.strip_prefix(self.root).unwrap_or(&path));
        let owner = format!("cgroup /{name} {file}");
        Reservation { owner, bytes, file: on_host.display().to_string() }
    }
}

/// `of` of `whole`, when of the whole only so much is counted.
fn part(of: u64, counted: u64, whole: u64) -> u64 {
    let part = u128::from(of) * u128::from(counted) / u128::from(whole.max(1));
    u64::try_from(part).unwrap_or(counted)
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

    const MEMORY: MemInfo = MemInfo { total: 1000, available: 2000 };

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
            self.found_of(MEMORY)
        }

        fn found_of(&self, memory: MemInfo) -> Vec<(String, u64)> {
            let found = claims(self.0.path(), memory).reservations;
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
    fn limits_count_up_to_half_of_what_is_available() {
        let tree = Tree::unified();
        tree.group("a", 100, "500").group("b", 50, "850");
        let of = |available| tree.found_of(MemInfo { total: 1000, available });
        let halved = [("cgroup /a memory.max", 140), ("cgroup /b memory.max", 280)];
        assert_eq!(of(840), owned(&halved));
        let in_full = [("cgroup /a memory.max", 400), ("cgroup /b memory.max", 800)];
        assert_eq!(of(2400), owned(&in_full));
        assert_eq!(of(0), vec![]);
    }

    #[test]
    fn of_protection_and_growth_the_larger_stands() {
        let tree = Tree::unified();
        tree.group("a", 100, "500").put("a/memory.min", "300\n");
        tree.group("b", 100, "200").put("b/memory.low", "400\n");
        tree.group("c", 100, "max").put("c/memory.low", "150\n").group("c/d", 10, "110");
        let expected = [
            ("cgroup /b memory.low", 300),
            ("cgroup /a memory.max", 400),
            ("cgroup /c/d memory.max", 100),
        ];
        assert_eq!(tree.found(), owned(&expected));
    }

    #[test]
    fn the_group_of_all_pods_is_known() {
        for (group, expected) in [
            ("kubepods.slice", true),
            ("kubepods", true),
            ("kubelet.slice/kubelet-kubepods.slice", true),
            ("kubepods.slice/kubepods-burstable.slice", false),
            ("kubepods.slice/kubepods-pod1.slice", false),
        ] {
            let tree = Tree::unified();
            let bounds_pods = claims(tree.group(group, 1, "900").0.path(), MEMORY).bounds_pods;
            assert_eq!(bounds_pods, expected, "{group}");
            let unbounded = Tree::unified();
            assert!(!claims(unbounded.group(group, 1, "max").0.path(), MEMORY).bounds_pods);
        }
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
