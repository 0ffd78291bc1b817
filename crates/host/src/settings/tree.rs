//! The host's files below a root: `/`, or a folder that stands for it (`--root`).
//!
//! Links are followed as the host would follow them, so that an absolute link stays below the root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::read;

/// Links followed on the way to one file, as the kernel's own bound (`MAXSYMLINKS`).
const LINKS: usize = 40;

/// Names read of one folder.
const NAMES: usize = 10_000;

/// A host's files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree<'a> {
    root: &'a Path,
}

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Its real path on the host: no link.
    pub(super) file: PathBuf,
    /// What it holds.
    pub(super) bytes: Vec<u8>,
}

impl<'a> Tree<'a> {
    pub(super) const fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// Reads the file at a path of the host, links followed. `/dev/null` is empty, whether or not
    /// the root has one.
    pub(super) fn read(&self, path: &Path) -> io::Result<Content> {
        let file = self.resolve(path)?;
        if file == Path::new("/dev/null") {
            return Ok(Content { file, bytes: Vec::new() });
        }
        let real = self.below(&file);
        if !fs::metadata(&real)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Content { bytes: read::bytes(&real)?, file })
    }

    /// The names in a folder of the host, in no order; none when there is no such folder.
    pub(super) fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let entries = self.resolve(folder).and_then(|folder| fs::read_dir(self.below(&folder)));
        match entries {
            Ok(entries) => Ok(entries.flatten().map(|e| e.file_name()).take(NAMES).collect()),
            Err(error) if is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Where a path of the host leads; the path itself when its links lead nowhere.
    pub(super) fn real_path(&self, path: &Path) -> PathBuf {
        self.resolve(path).unwrap_or_else(|_| path.to_owned())
    }

    /// The real path, on the host, of a path of the host.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut real = PathBuf::from("/");
        let mut left: VecDeque<OsString> = parts(path);
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            match fs::read_link(self.below(&next)) {
                Ok(target) => {
                    links += 1;
                    if links > LINKS {
                        return Err(io::Error::from_raw_os_error(
                            rustix::io::Errno::LOOP.raw_os_error(),
                        ));
                    }
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    let mut onward = parts(&target);
                    onward.append(&mut left);
                    left = onward;
                }
                Err(_) => real = next,
            }
        }
        Ok(real)
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Whether an error only says that something is not there.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc/sysctl.d")).unwrap();
        fs::write(at("etc/sysctl.conf"), "a=1\n").unwrap();
        symlink("../sysctl.conf", at("etc/sysctl.d/relative")).unwrap();
        symlink("/etc/sysctl.conf", at("etc/sysctl.d/absolute")).unwrap();
        symlink("/etc/sysctl.d", at("folder")).unwrap();
        symlink("../../../../etc/sysctl.conf", at("etc/sysctl.d/above")).unwrap();
        symlink("/dev/null", at("etc/sysctl.d/masked")).unwrap();
        symlink("loop", at("etc/sysctl.d/loop")).unwrap();
        let tree = Tree::new(root.path());
        for name in ["relative", "absolute", "above"] {
            let content = tree.read(&Path::new("/folder").join(name)).unwrap();
            assert_eq!(content.file, Path::new("/etc/sysctl.conf"), "{name}");
            assert_eq!(content.bytes, b"a=1\n");
        }
        assert_eq!(tree.read(Path::new("/folder/masked")).unwrap().bytes, b"");
        assert!(!is_missing(&tree.read(Path::new("/folder/loop")).unwrap_err()));
        assert!(is_missing(&tree.read(Path::new("/folder/nothing")).unwrap_err()));
        assert!(tree.read(Path::new("/etc")).is_err());
        assert_eq!(tree.names(Path::new("/folder")).unwrap().len(), 5);
        assert!(tree.names(Path::new("/nowhere")).unwrap().is_empty());
    }
}
