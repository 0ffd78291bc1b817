//! Memory of the host, what one entry takes of it, and what others have a claim on.

mod cgroup;
mod kubelet;

use std::path::Path;

use ctkeeper_snapshot::{EntrySize, Gap, GapKind, Memory};

use crate::read;

/// What the host has, what an entry takes, what is spoken for.
///
/// `MemAvailable` already leaves out huge pages; [`Memory::reservations`] holds what it does not
/// know of: memory that kubelet keeps for the system, and memory that control groups may still
/// claim. Memory that cannot be read is 0 and a gap.
pub fn read() -> (Memory, Vec<Gap>) {
    read_in(Path::new("/"))
}

fn read_in(root: &Path) -> (Memory, Vec<Gap>) {
    let mut gaps = Vec::new();
    let info = meminfo(root, &mut gaps);
    let slab = Slab::read(root);
    let groups = cgroup::claims(root, info);
    let mut reservations = kubelet::reservations(root, info.total, groups.bounds_pods, &mut gaps);
    reservations.extend(groups.reservations);
    let memory = Memory {
        total: info.total,
        available: info.available,
        reservations,
        entry: slab.entry_size(),
        slab_entries: slab.entries,
    };
    (memory, gaps)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct MemInfo {
    total: u64,
    available: u64,
}

fn meminfo(root: &Path, gaps: &mut Vec<Gap>) -> MemInfo {
    let path = root.join("proc/meminfo");
    match read::text(&path) {
        Ok(text) => parse_meminfo(&text).unwrap_or_else(|| {
            gaps.push(Gap {
                kind: GapKind::Unavailable,
                what: "the host's memory".to_owned(),
                cause: format!(
                    "{} has no MemTotal or no MemAvailable: something else is mounted over it, or \
                     the kernel is older than 3.14",
                    path.display()
                ),
                remedy: "see what is mounted over /proc/meminfo".to_owned(),
            });
            MemInfo::default()
        }),
        Err(error) => {
            gaps.push(read::gap("the host's memory", &path, &error));
            MemInfo::default()
        }
    }
}

fn parse_meminfo(text: &str) -> Option<MemInfo> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(MemInfo { total: bytes("MemTotal")?, available: bytes("MemAvailable")? })
}

/// What the slab allocator says of `nf_conntrack` objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slab {
    /// Bytes from one object to the next.
    stride: Option<u64>,
    /// Objects in use, of all namespaces.
    entries: Option<u64>,
}

impl Slab {
    /// `/proc/slabinfo` has both (root only); `/sys/kernel/slab` has the stride even where the
    /// other is masked.
    fn read(root: &Path) -> Self {
        let text = read::text(&root.join("proc/slabinfo"));
        let mut slab = text.ok().and_then(|text| parse_slabinfo(&text)).unwrap_or_default();
        let folder = root.join("sys/kernel/slab/nf_conntrack");
        slab.stride = read::number(folder.join("slab_size")).or(slab.stride);
        slab.entries = slab.entries.filter(|_| is_unmerged(&folder));
        slab
    }

    fn entry_size(self) -> EntrySize {
        let usual = EntrySize::default();
        match self.stride.filter(|stride| PLAUSIBLE_STRIDE.contains(stride)) {
            Some(object) => EntrySize { object, measured: true, ..usual },
            None => usual,
        }
    }
}

/// An entry has been between 200 and 400 bytes since Linux 2.6; a stride far from that is no entry.
const PLAUSIBLE_STRIDE: std::ops::RangeInclusive<u64> = 64..=4096;

/// A cache that is merged with others of its size counts their objects as well.
fn is_unmerged(folder: &Path) -> bool {
    read::number(folder.join("aliases")).is_none_or(|aliases| aliases == 0)
}

/// `slabinfo - version: 2.x`: name, active objects, objects, object size (the stride: with
/// padding), …
fn parse_slabinfo(text: &str) -> Option<Slab> {
    let mut fields = text
        .lines()
        .map(str::split_ascii_whitespace)
        .find_map(|mut fields| (fields.next()? == "nf_conntrack").then_some(fields))?;
    let entries = fields.next()?.parse().ok();
    Some(Slab { entries, stride: fields.nth(1)?.parse().ok() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// A host's files in a folder.
    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const GIB: u64 = 1 << 30;

    /// A node of 16 GiB, 2 GiB of them kept for the system, with pods that use 2 GiB.
    fn node(pods: &str) -> Memory {
        let root = host(&[
            ("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 13946060 kB\n"),
            (
                "var/lib/kubelet/config.yaml",
                "systemReserved:\n  memory: 1Gi\nkubeReserved:\n  memory: 1Gi\n\
                 evictionHard:\n  memory.available: 100Mi\n",
            ),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
            ("sys/fs/cgroup/kubepods.slice/memory.current", "2147483648\n"),
            ("sys/fs/cgroup/kubepods.slice/memory.max", pods),
            ("sys/fs/cgroup/kubepods.slice/memory.min", "1073741824\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "734003200\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
        ]);
        let (memory, gaps) = read_in(root.path());
        assert_eq!(gaps, vec![]);
        memory
    }

    #[test]
    fn a_node_with_reserved_memory_has_memory_to_plan_with() {
        let memory = node("15032385536\n");
        let owners: Vec<_> = memory.reservations.iter().map(|r| r.owner.as_str()).collect();
        assert_eq!(owners, ["kubelet evictionHard", "cgroup /kubepods.slice memory.max"]);
        assert_eq!(memory.free_to_plan(), memory.available / 2 - (100 << 20));
    }

    #[test]
    fn without_a_bound_of_pods_what_kubelet_keeps_counts_in_full() {
        let memory = node("max\n");
        assert_eq!(memory.free_to_plan(), memory.available - 2 * GIB - (100 << 20));
    }

    /// Twenty containers of 2 GiB each on 16 GiB.
    #[test]
    fn a_host_with_overcommitted_limits_has_memory_to_plan_with() {
        let groups: Vec<_> = (0..20)
            .flat_map(|n| {
                let file = |name| format!("sys/fs/cgroup/system.slice/docker-{n}.scope/{name}");
                [(file("memory.max"), "2147483648"), (file("memory.current"), "209715200")]
            })
            .collect();
        let mut files: Vec<_> = groups.iter().map(|(p, text)| (p.as_str(), *text)).collect();
        files.extend([
            ("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 11534336 kB\n"),
            ("sys/fs/cgroup/cgroup.controllers", "memory\n"),
        ]);
        let (memory, _) = read_in(host(&files).path());
        assert_eq!(memory.reservations.len(), 20);
        assert!(memory.free_to_plan().abs_diff(memory.available / 2) <= 20);
    }

    #[test]
    fn masked_memory_leaves_a_gap() {
        for files in [&[("proc/meminfo", "")][..], &[("proc/uptime", "1 1")]] {
            let (memory, gaps) = read_in(host(files).path());
            assert_eq!((memory.total, memory.free_to_plan()), (0, 0));
            assert_eq!(gaps.len(), 1, "{gaps:?}");
            assert_eq!(gaps[0].kind, GapKind::Unavailable);
            assert!(gaps[0].cause.contains("proc/meminfo"), "{gaps:?}");
        }
    }

    #[test]
    fn meminfo_is_in_kibibytes() {
        let text = "MemTotal:       24684092 kB\nMemFree:  1 kB\nMemAvailable:   24320804 kB\n";
        let expected = MemInfo { total: 24_684_092 * 1024, available: 24_320_804 * 1024 };
        assert_eq!(parse_meminfo(text), Some(expected));
        assert_eq!(parse_meminfo("MemTotal: 5 kB\n"), None);
        assert_eq!(parse_meminfo("MemTotal: 99999999999999999999 kB\nMemAvailable: 1 kB"), None);
    }

    #[test]
    fn slabinfo_gives_stride_and_entries() {
        let text = "slabinfo - version: 2.1\n# name <active_objs>\n\
            nf_conntrack_expect 0 0 232 17 1 : tunables 0 0 0 : slabdata 0 0 0\n\
            nf_conntrack  1998 2000 256 16 1 : tunables 0 0 0 : slabdata 125 125 0\n";
        assert_eq!(parse_slabinfo(text), Some(Slab { stride: Some(256), entries: Some(1998) }));
        assert_eq!(parse_slabinfo("nf_conntrack x\n"), None);
    }

    #[test]
    fn this_kernel_is_measured() {
        let (memory, _) = read();
        assert!(memory.total >= memory.available && memory.available > 0);
        assert!(memory.entry.bytes() >= 256);
    }

    proptest! {
        #[test]
        fn hostile_files_do_no_harm(content in proptest::collection::vec(any::<u8>(), 0..400)) {
            let text = String::from_utf8_lossy(&content);
            let _ = parse_meminfo(&text);
            let _ = parse_slabinfo(&text);
        }
    }
}
