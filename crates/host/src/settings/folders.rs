//! Drop-in folders: which files count, in which order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ctkeeper_snapshot::Gap;

use super::tree::{Content, Tree, is_missing};
use crate::read;

/// The folders of one kind of drop-in files, the one that wins first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folders {
    /// Their paths on the host.
    pub(super) paths: &'static [&'static str],
    /// How the names of files end.
    pub(super) suffix: &'static str,
}

/// `sysctl.d(5)`, and the same list in `sysctl(8)` of procps.
pub(super) const SYSCTL: Folders = Folders {
    paths: &[
        "/etc/sysctl.d",
        "/run/sysctl.d",
        "/usr/local/lib/sysctl.d",
        "/usr/lib/sysctl.d",
        "/lib/sysctl.d",
    ],
    suffix: ".conf",
};

/// `modules-load.d(5)`.
pub(super) const MODULES_LOAD: Folders = Folders {
    paths: &[
        "/etc/modules-load.d",
        "/run/modules-load.d",
        "/usr/local/lib/modules-load.d",
        "/usr/lib/modules-load.d",
        "/lib/modules-load.d",
    ],
    suffix: ".conf",
};

/// `modprobe.d(5)`.
pub(super) const MODPROBE: Folders = Folders {
    paths: &[
        "/etc/modprobe.d",
        "/run/modprobe.d",
        "/usr/local/lib/modprobe.d",
        "/usr/lib/modprobe.d",
        "/lib/modprobe.d",
    ],
    suffix: ".conf",
};

/// `udev(7)`.
pub(super) const UDEV: Folders = Folders {
    paths: &[
        "/etc/udev/rules.d",
        "/run/udev/rules.d",
        "/usr/local/lib/udev/rules.d",
        "/usr/lib/udev/rules.d",
        "/lib/udev/rules.d",
    ],
    suffix: ".rules",
};

/// A file of a drop-in folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DropIn {
    /// Its name in the folder.
    pub(super) name: OsString,
    /// What it holds; empty when it could not be read.
    pub(super) content: Content,
    /// Whether a file of the same name in an earlier folder hides it.
    pub(super) masked: bool,
}

impl DropIn {
    /// Whether its name begins with a dot: systemd passes over it, procps does not.
    pub(super) fn is_hidden(&self) -> bool {
        self.name.as_bytes().first() == Some(&b'.')
    }
}

/// Every file of the folders by name; among equal names the one that hides the others comes first.
/// What cannot be read is named in `gaps` and hides the others all the same.
pub(super) fn files(tree: &Tree<'_>, folders: Folders, gaps: &mut Vec<Gap>) -> Vec<DropIn> {
    let mut found = Vec::new();
    for (path, masked) in paths(tree, folders, gaps) {
        let Some(name) = path.file_name().map(OsStr::to_owned) else { continue };
        let content = tree.read(&path).unwrap_or_else(|error| {
            if !masked {
                gaps.extend(unread(&path, &error));
            }
            Content { file: path, bytes: Vec::new() }
        });
        found.push(DropIn { name, content, masked });
    }
    found
}

/// Names a file that cannot be read. One that has gone since its folder was read is none, and nor is
/// a link to nothing: the readers take it for an empty file (held against them in
/// `tests/suite/host.rs`), and Debian ships such links.
fn unread(path: &Path, error: &io::Error) -> Option<Gap> {
    (!is_missing(error)).then(|| read::gap("a settings file", path, error))
}

/// Paths by name, then by folder; the second part tells whether an earlier folder has the name.
/// A folder that is a link to another (`/lib` to `/usr/lib`) adds nothing.
fn paths(tree: &Tree<'_>, folders: Folders, gaps: &mut Vec<Gap>) -> Vec<(PathBuf, bool)> {
    let mut by_name: BTreeMap<ByBytes, Vec<PathBuf>> = BTreeMap::new();
    for folder in distinct(tree, folders.paths) {
        match tree.names(folder) {
            Ok(names) => {
                let wanted = |name: &OsString| name.as_bytes().ends_with(folders.suffix.as_bytes());
                for name in names.into_iter().filter(wanted) {
                    let path = folder.join(&name);
                    by_name.entry(ByBytes(name)).or_default().push(path);
                }
            }
            Err(error) => gaps.push(read::gap("a folder of settings files", folder, &error)),
        }
    }
    let masks = |paths: Vec<PathBuf>| paths.into_iter().enumerate().map(|(i, path)| (path, i > 0));
    by_name.into_values().flat_map(masks).collect()
}

fn distinct<'a>(tree: &Tree<'_>, folders: &'a [&'a str]) -> Vec<&'a Path> {
    let mut seen = Vec::new();
    let is_new = |folder: &&Path| {
        let real = tree.real_path(folder);
        let new = !seen.contains(&real);
        seen.push(real);
        new
    };
    folders.iter().map(Path::new).filter(is_new).collect()
}

/// File names in the order of their bytes, as `strcmp` has it.
#[derive(PartialEq, Eq)]
struct ByBytes(OsString);

impl Ord for ByBytes {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl PartialOrd for ByBytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
