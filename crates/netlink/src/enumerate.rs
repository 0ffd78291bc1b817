//! Every network namespace of the host that this process can see.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::netns::{self, NAME_FOLDERS, Namespace, NamespaceSelector};

/// Processes of a namespace by which it is tried to be opened.
const WAYS: usize = 8;

/// What [`enumerate`] found.
#[derive(Clone, Debug, Default)]
pub struct Enumeration {
    /// The namespaces, by inode.
    pub namespaces: Vec<FoundNamespace>,
    /// Processes whose namespace could not be read for want of privilege: there may be namespaces
    /// that are not listed.
    pub unreadable_processes: usize,
}

impl Enumeration {
    /// The namespace of an inode.
    pub fn find(&self, inode: u64) -> Option<&FoundNamespace> {
        self.namespaces.iter().find(|found| found.inode == inode)
    }
}

/// A network namespace and the ways to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundNamespace {
    /// Its inode.
    pub inode: u64,
    /// Its bind mounts, and links to it in the folders of names; sorted. Hostile input.
    pub paths: Vec<PathBuf>,
    /// How many processes (thread groups) are in it.
    pub process_count: usize,
    /// Their ids, lowest first.
    pub processes: Vec<u32>,
    /// Descriptors of processes on it (process id, descriptor), where those were asked for.
    pub descriptors: Vec<(u32, u32)>,
}

impl FoundNamespace {
    /// Opens it. Fails when it has gone since.
    pub fn open(&self) -> Result<Namespace, Error> {
        let processes = self.processes.iter().take(WAYS);
        let processes = processes.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")));
        let descriptors =
            self.descriptors.iter().map(|(pid, fd)| PathBuf::from(format!("/proc/{pid}/fd/{fd}")));
        let mut last = None;
        for path in self.paths.iter().cloned().chain(processes).chain(descriptors) {
            match Namespace::open_known(&path) {
                Ok(namespace) if namespace.inode() == self.inode => return Ok(namespace),
                Ok(_) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(error) if error.is_permission() => error,
            _ => gone(self.inode, "it has ended since it was seen"),
        })
    }
}

/// Lists every network namespace that a process is in or that is bind-mounted somewhere: names of
/// `ip netns`, sandboxes of container runtimes. Costs a few microseconds a process and a mount.
///
/// Not found: namespaces that only a thread other than a process's first is in, that only an open
/// descriptor holds (see [`enumerate_with_descriptors`]) or an open socket (the kernel tells
/// nobody), or that are mounted only where this process does not see the mount. Processes that
/// vanish meanwhile are normal.
pub fn enumerate() -> Enumeration {
    list(false)
}

/// As [`enumerate`], and namespaces held by an open descriptor of any process. Reads every
/// descriptor of the host: tens of milliseconds on a busy one.
pub fn enumerate_with_descriptors() -> Enumeration {
    list(true)
}

/// Opens the namespace of an inode, wherever it is found.
pub(crate) fn open_inode(inode: u64) -> Result<Namespace, Error> {
    if let Ok(current) = Namespace::current()
        && current.inode() == inode
    {
        return Ok(current);
    }
    for listing in [enumerate, enumerate_with_descriptors] {
        if let Some(found) = listing().find(inode) {
            return found.open();
        }
    }
    Err(gone(inode, "no process is in it, and it is mounted nowhere that is visible from here"))
}

/// Opens the initial namespace: ours if we are in it, else the one that shows itself as such when
/// it is entered.
pub(crate) fn open_initial() -> Result<Namespace, Error> {
    if netns::in_initial() {
        return Namespace::current();
    }
    let mut failure = None;
    for found in enumerate().namespaces {
        let looked = found.open().and_then(|namespace| {
            netns::enter(&namespace, |_| netns::in_initial()).map(|initial| (namespace, initial))
        });
        match looked {
            Ok((namespace, true)) => return Ok(namespace),
            Err(error) if error.is_permission() => failure = Some(error),
            _ => {}
        }
    }
    Err(failure.unwrap_or_else(|| Error::NamespaceNotFound {
        selector: NamespaceSelector::Host,
        reason: "none of those that are visible from here is the initial one".to_owned(),
    }))
}

fn gone(inode: u64, reason: &str) -> Error {
    Error::NamespaceNotFound {
        selector: NamespaceSelector::Inode(inode),
        reason: reason.to_owned(),
    }
}

type Found = BTreeMap<u64, FoundNamespace>;

fn list(descriptors: bool) -> Enumeration {
    let mut found = Found::new();
    add_mounts(&mut found);
    add_links(&mut found);
    let unreadable_processes = add_processes(&mut found, descriptors);
    for namespace in found.values_mut() {
        namespace.paths.sort();
        namespace.paths.dedup();
    }
    Enumeration { namespaces: found.into_values().collect(), unreadable_processes }
}

fn at(found: &mut Found, inode: u64) -> &mut FoundNamespace {
    found.entry(inode).or_insert_with(|| FoundNamespace { inode, ..FoundNamespace::default() })
}

/// The bind mounts of this process's mount namespace.
fn add_mounts(found: &mut Found) {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    for line in mounts.split(|byte| *byte == b'\n') {
        if let Some((inode, path)) = mounted(line) {
            at(found, inode).paths.push(path);
        }
    }
}

/// Inode and place of a network namespace's mount: its fourth field is `net:[INODE]`, its fifth
/// the place (proc_pid_mountinfo(5)).
fn mounted(line: &[u8]) -> Option<(u64, PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let inode = inode_of(fields.next()?)?;
    Some((inode, PathBuf::from(OsString::from_vec(unescaped(fields.next()?)))))
}

/// `net:[4026531833]`.
fn inode_of(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Undoes the kernel's `\040` for a space and its kin.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) =
            (first, tail)
        {
            plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            after
        } else {
            plain.push(*first);
            tail
        };
    }
    plain
}

/// Symbolic links in the folders of names, a common way to name a running container's namespace.
fn add_links(found: &mut Found) {
    for folder in NAME_FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok()) {
        let links = folder.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_symlink()));
        for link in links {
            let selector = NamespaceSelector::Path(link.path());
            if let Ok(namespace) = Namespace::open(&selector) {
                at(found, namespace.inode()).paths.push(link.path());
            }
        }
    }
}

/// Returns how many could not be read.
fn add_processes(found: &mut Found, descriptors: bool) -> usize {
    let mut unreadable = 0;
    for pid in processes() {
        match fs::read_link(format!("/proc/{pid}/ns/net")) {
            Ok(link) => {
                if let Some(inode) = inode_of(link.as_os_str().as_bytes()) {
                    let namespace = at(found, inode);
                    namespace.process_count += 1;
                    namespace.processes.push(pid);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unreadable += 1,
            Err(_) => {}
        }
        if descriptors {
            add_descriptors(found, pid);
        }
    }
    unreadable
}

/// Process ids, lowest first.
fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

fn add_descriptors(found: &mut Found, pid: u32) {
    let folder = format!("/proc/{pid}/fd");
    for entry in fs::read_dir(Path::new(&folder)).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(number), Some(inode)) = (number, described(&entry.path())) {
            at(found, inode).descriptors.push((pid, number));
        }
    }
}

/// The network namespace that a descriptor is open on. One opened through a bind mount shows that
/// mount's path, so whatever shows a path is looked at.
fn described(descriptor: &Path) -> Option<u64> {
    let link = fs::read_link(descriptor).ok()?;
    if !link.has_root() {
        return inode_of(link.as_os_str().as_bytes());
    }
    let file = fs::metadata(descriptor).ok()?;
    if file.dev() != fs::metadata("/proc/self/ns/net").ok()?.dev() {
        return None;
    }
    // It is a namespace; whether one of a network only opening it tells.
    Namespace::open_known(descriptor).ok().map(|namespace| namespace.inode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_a_namespace_is_recognised() {
        let line = b"512 31 0:4 net:[4026532465] /run/netns/a\\040b rw shared:7 - nsfs nsfs rw";
        assert_eq!(mounted(line), Some((4_026_532_465, PathBuf::from("/run/netns/a b"))));
        assert_eq!(mounted(b"24 1 254:0 / / rw,relatime - ext4 /dev/root rw"), None);
        assert_eq!(mounted(b"5 6 0:4 mnt:[4026531841] /run/x rw - nsfs nsfs rw"), None);
        assert_eq!(mounted(b""), None);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescaped(b"\\134\\040\\011x\\9\\"), b"\\ \tx\\9\\");
    }

    #[test]
    fn this_process_is_found() {
        let here = Namespace::of_process(std::process::id()).unwrap();
        let listing = enumerate();
        let found = listing.find(here.inode()).unwrap();
        assert!(found.process_count > 0);
        assert!(found.processes.is_sorted());
        assert_eq!(found.open().unwrap().inode(), here.inode());
        assert!(listing.namespaces.is_sorted_by_key(|found| found.inode));
    }

    #[test]
    fn a_held_descriptor_is_found_when_asked_for() {
        let here = Namespace::of_process(std::process::id()).unwrap();
        let listing = enumerate_with_descriptors();
        let found = listing.find(here.inode()).unwrap();
        assert!(found.descriptors.iter().any(|(pid, _)| *pid == std::process::id()));
    }
}
