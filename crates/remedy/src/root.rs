//! Files below a root: what stands there, and changing it so that a crash leaves before or after.
//!
//! Every name is looked up from a handle of the root, so that no link below a `--root` leads out of
//! it (`openat2(2)`, `RESOLVE_IN_ROOT`).

mod state;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps,
    UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

pub use state::{Bytes, FileState, RegularFile};

/// The largest settings file that is taken.
const LARGEST: u64 = 1 << 20;

/// Extended attributes that an ordinary copy carries; others are the kernel's own business.
const LONGEST_ATTRIBUTE: usize = 1 << 16;

const TEMPORARY: &str = ".ctkeeper-new";

type Result<T> = std::result::Result<T, FileError>;

/// What failed on a file.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {cause}{}", .path.display(), advice(.cause))]
pub struct FileError {
    /// What was being done: `renaming to`.
    pub operation: &'static str,
    /// The file, below the root that stands for the host's.
    pub path: PathBuf,
    /// Why it failed.
    pub cause: std::io::Error,
}

/// A directory that stands for `/`.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    handle: OwnedFd,
}

impl Root {
    /// Opens it; `/` is the host itself.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty()).map_err(at("opening", path))?;
        Ok(Self { path: path.to_owned(), handle })
    }

    /// Its own path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the host itself, whose running values go with its files.
    pub fn is_host(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Where a file of the host that this stands for really is: the name for people.
    pub fn real(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").unwrap_or(path);
        self.path.join(below)
    }

    /// What stands at `path`.
    pub fn state(&self, path: &Path) -> Result<FileState> {
        match self.folder_of(path) {
            Ok((folder, name)) => state_in(&folder, name, &self.real(path)),
            Err(error) if error.cause.kind() == std::io::ErrorKind::NotFound => {
                Ok(FileState::Absent)
            }
            Err(error) => Err(error),
        }
    }

    /// Brings `path` to a state: in one step for whoever looks, durable when this returns.
    /// `stamp` names the temporary file, so that [`Root::clean`] knows it after a crash.
    pub fn put(&self, path: &Path, state: &FileState, stamp: &str) -> Result<()> {
        let (folder, name) = self.folder_of(path)?;
        let temporary = temporary_name(name, stamp);
        let placed = match state {
            FileState::Absent => {
                ignore_absent(unlink(&folder, name)).map_err(at("removing", &self.real(path)))
            }
            FileState::Link { target } => {
                let target = OsStr::from_bytes(&target.0);
                rustix::fs::symlinkat(target, &folder, temporary.as_str())
                    .map_err(at("linking", &self.real(path)))
                    .and_then(|()| rename(&folder, &temporary, name, &self.real(path)))
            }
            FileState::File(file) => write_beside(&folder, &temporary, file, &self.real(path))
                .and_then(|()| rename(&folder, &temporary, name, &self.real(path))),
        };
        if placed.is_err() {
            // The first failure is what counts.
            let _ = unlink(&folder, OsStr::new(&temporary));
        }
        placed?;
        rustix::fs::fsync(&folder).map_err(at("making durable the folder of", &self.real(path)))
    }

    /// Removes the temporary file that a crash in [`Root::put`] left.
    pub fn clean(&self, path: &Path, stamp: &str) -> Result<()> {
        let Ok((folder, name)) = self.folder_of(path) else { return Ok(()) };
        let temporary = temporary_name(name, stamp);
        if !exists(&folder, OsStr::new(&temporary)) {
            return Ok(());
        }
        unlink(&folder, OsStr::new(&temporary))
            .map_err(at("removing the temporary file beside", &self.real(path)))?;
        rustix::fs::fsync(&folder).map_err(at("making durable the folder of", &self.real(path)))
    }

    /// Folders above `path` that are not there, outermost first.
    pub fn missing_folders(&self, path: &Path) -> Vec<PathBuf> {
        let above: Vec<_> = path.ancestors().skip(1).collect();
        let is_missing = |folder: &&Path| self.folder(folder).is_err();
        above.into_iter().rev().filter(is_missing).map(Path::to_owned).collect()
    }

    /// Makes a folder, durable when this returns; one that is there is fine.
    pub fn make_folder(&self, path: &Path, mode: u32) -> Result<()> {
        let (parent, name) = self.folder_of(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
            Ok(()) => rustix::fs::fsync(&parent)
                .map_err(at("making durable the folder of", &self.real(path))),
            Err(Errno::EXIST) => Ok(()),
            Err(cause) => Err(at("making the folder", &self.real(path))(cause)),
        }
    }

    /// Removes a folder if it is there and empty.
    pub fn remove_empty_folder(&self, path: &Path) -> Result<()> {
        let Ok((parent, name)) = self.folder_of(path) else { return Ok(()) };
        if !exists(&parent, name) {
            return Ok(());
        }
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => rustix::fs::fsync(&parent)
                .map_err(at("making durable the folder of", &self.real(path))),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(cause) => Err(at("removing the folder", &self.real(path))(cause)),
        }
    }

    /// A handle of a folder.
    pub fn folder(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = if self.is_host() {
            rustix::fs::openat(CWD, path, flags, Mode::empty())
        } else {
            let resolve = ResolveFlags::IN_ROOT;
            rustix::fs::openat2(&self.handle, path, flags, Mode::empty(), resolve)
        };
        opened.map_err(at("opening the folder", &self.real(path)))
    }

    /// A handle of the folder that `path` is in, and its name there.
    fn folder_of<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr)> {
        let plain = path.is_absolute() && !path.components().any(|c| c == Component::ParentDir);
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if plain => Ok((self.folder(parent)?, name)),
            _ => Err(at("naming", &self.real(path))(Errno::INVAL)),
        }
    }
}

fn advice(cause: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match cause.kind() {
        ErrorKind::PermissionDenied => "; run as root (an immutable file: `lsattr` shows it)",
        ErrorKind::ReadOnlyFilesystem => {
            "; the file system is read-only: `--no-persist` changes running values alone, `--emit` \
             prints the files for the place where they are made"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room, then try again",
        ErrorKind::ResourceBusy => "; something is mounted over it: change it where it comes from",
        _ => "",
    }
}

/// The error of an operation on a path.
fn at(operation: &'static str, path: &Path) -> impl Fn(Errno) -> FileError {
    let path = path.to_owned();
    move |cause| FileError { operation, path: path.clone(), cause: cause.into() }
}

fn temporary_name(name: &OsStr, stamp: &str) -> String {
    // Not ending in `.conf`, no reader takes it for a settings file.
    format!(".{}.{stamp}{TEMPORARY}", name.to_string_lossy())
}

/// Whether a name is one of a temporary file of ours.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY)
}

fn unlink(folder: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    rustix::fs::unlinkat(folder, name, AtFlags::empty())
}

/// A read-only file system refuses to remove even what is not there.
fn exists(folder: &OwnedFd, name: &OsStr) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn ignore_absent(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    result.or_else(|cause| if cause == Errno::NOENT { Ok(()) } else { Err(cause) })
}

fn rename(folder: &OwnedFd, from: &str, to: &OsStr, path: &Path) -> Result<()> {
    rustix::fs::renameat(folder, from, folder, to).map_err(at("renaming the new file to", path))
}

fn state_in(folder: &OwnedFd, name: &OsStr, path: &Path) -> Result<FileState> {
    let looking = at("looking at", path);
    let status = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => status,
        Err(Errno::NOENT) => return Ok(FileState::Absent),
        Err(cause) => return Err(looking(cause)),
    };
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => read(folder, name, path).map(FileState::File),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(looking)?;
            Ok(FileState::Link { target: Bytes(target.into_bytes()) })
        }
        FileType::Directory => Err(looking(Errno::ISDIR)),
        _ => Err(looking(Errno::INVAL)),
    }
}

fn read(folder: &OwnedFd, name: &OsStr, path: &Path) -> Result<RegularFile> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(folder, name, flags, Mode::empty());
    let file = File::from(opened.map_err(at("opening", path))?);
    let status = rustix::fs::fstat(&file).map_err(at("looking at", path))?;
    let mut content = Vec::new();
    let reading = |cause| FileError { operation: "reading", path: path.to_owned(), cause };
    (&file).take(LARGEST + 1).read_to_end(&mut content).map_err(reading)?;
    if content.len() as u64 > LARGEST {
        return Err(at("reading", path)(Errno::FBIG));
    }
    Ok(RegularFile {
        content: Bytes(content),
        mode: status.st_mode & 0o7777,
        owner: status.st_uid,
        group: status.st_gid,
        modified: Some((status.st_mtime, status.st_mtime_nsec as u32)),
        attributes: attributes(&file).map_err(at("reading the attributes of", path))?,
    })
}

fn attributes(file: &File) -> rustix::io::Result<Vec<(String, Bytes)>> {
    let mut names = vec![0_u8; LONGEST_ATTRIBUTE];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(cause) => return Err(cause),
    };
    let mut attributes = Vec::new();
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0_u8; LONGEST_ATTRIBUTE];
        // One that may be listed and not read (trusted.*) is not ours to carry.
        if let Ok(length) = rustix::fs::fgetxattr(file, name, &mut value[..]) {
            value.truncate(length);
            attributes.push((name.to_owned(), Bytes(value)));
        }
    }
    Ok(attributes)
}

fn write_beside(folder: &OwnedFd, name: &str, file: &RegularFile, path: &Path) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let owner_only = Mode::from_raw_mode(0o600);
    let opened = rustix::fs::openat(folder, name, flags, owner_only);
    let mut handle = File::from(opened.map_err(at("writing the new file beside", path))?);
    let writing = |cause| FileError {
        operation: "writing the new file beside",
        path: path.to_owned(),
        cause,
    };
    handle.write_all(&file.content.0).map_err(writing)?;
    give_attributes(&handle, file).map_err(at("giving its attributes to the new file of", path))?;
    rustix::fs::fsync(&handle).map_err(at("making durable", path))
}

fn give_attributes(handle: &File, file: &RegularFile) -> rustix::io::Result<()> {
    let status: Stat = rustix::fs::fstat(handle)?;
    if (status.st_uid, status.st_gid) != (file.owner, file.group) {
        let (owner, group) = (Uid::from_raw(file.owner), Gid::from_raw(file.group));
        rustix::fs::fchown(handle.as_fd(), Some(owner), Some(group))?;
    }
    for (name, value) in &file.attributes {
        match rustix::fs::fsetxattr(handle, name.as_str(), &value.0, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(cause) => return Err(cause),
        }
    }
    // After the owner, whose change may clear bits, and after an access list, which sets others.
    rustix::fs::fchmod(handle, Mode::from_raw_mode(file.mode))?;
    let Some((seconds, nanoseconds)) = file.modified else { return Ok(()) };
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) },
    };
    rustix::fs::futimens(handle, &times)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/sysctl.d")).unwrap();
        let root = Root::open(folder.path()).unwrap();
        (folder, root)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        let (folder, root) = tree();
        let real = folder.path().join("etc/sysctl.conf");
        fs::write(&real, b"a = 1\n\xff").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        let modified = fs::metadata(&real).unwrap().modified().unwrap();
        let path = Path::new("/etc/sysctl.conf");
        let before = root.state(path).unwrap();
        let other = RegularFile { content: Bytes(b"b".to_vec()), ..new_file() };
        root.put(path, &FileState::File(other), "x").unwrap();
        assert!(!root.state(path).unwrap().reads_like(&before));
        root.put(path, &before, "x").unwrap();
        assert_eq!(root.state(path).unwrap(), before);
        assert_eq!(fs::read(&real).unwrap(), b"a = 1\n\xff");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(&real).unwrap().modified().unwrap(), modified);
        root.put(path, &FileState::Absent, "x").unwrap();
        assert_eq!(root.state(path).unwrap(), FileState::Absent);
        assert_eq!(names(&folder.path().join("etc")), ["sysctl.d"]);
    }

    fn new_file() -> RegularFile {
        RegularFile {
            mode: 0o644,
            owner: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            ..RegularFile::default()
        }
    }

    #[test]
    fn links_are_kept_as_links_and_do_not_lead_out() {
        let (folder, root) = tree();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), folder.path().join("etc/modprobe.d")).unwrap();
        let path = Path::new("/etc/modprobe.d/a.conf");
        assert!(root.put(path, &FileState::File(new_file()), "x").is_err());
        assert!(names(outside.path()).is_empty());
        let link = Path::new("/etc/sysctl.d/99-sysctl.conf");
        let state = FileState::Link { target: Bytes(b"../sysctl\xff.conf".to_vec()) };
        root.put(link, &state, "x").unwrap();
        assert_eq!(root.state(link).unwrap(), state);
        let pointed = fs::read_link(folder.path().join("etc/sysctl.d/99-sysctl.conf")).unwrap();
        assert_eq!(pointed.as_os_str().as_bytes(), b"../sysctl\xff.conf");
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_is_an_error() {
        let (folder, root) = tree();
        fs::create_dir(folder.path().join("etc/sysctl.d/zz-ctkeeper.conf")).unwrap();
        let path = Path::new("/etc/sysctl.d/zz-ctkeeper.conf");
        let error = root.state(path).unwrap_err();
        let real = folder.path().join("etc/sysctl.d/zz-ctkeeper.conf").display().to_string();
        assert!(error.to_string().contains(&real), "{error}");
        assert!(root.put(path, &FileState::File(new_file()), "x").is_err());
        assert_eq!(names(&folder.path().join("etc/sysctl.d")), ["zz-ctkeeper.conf"]);
    }

    #[test]
    fn paths_that_climb_are_refused() {
        let (_folder, root) = tree();
        for path in ["/etc/../../x", "etc/x", "/"] {
            assert!(root.put(Path::new(path), &FileState::Absent, "x").is_err(), "{path}");
        }
    }

    #[test]
    fn missing_folders_are_made_and_removed() {
        let (folder, root) = tree();
        let path = Path::new("/usr/lib/modules-load.d/a.conf");
        let missing = root.missing_folders(path);
        let expected = ["/usr", "/usr/lib", "/usr/lib/modules-load.d"];
        assert_eq!(missing, expected.map(PathBuf::from));
        for made in &missing {
            root.make_folder(made, 0o755).unwrap();
        }
        root.put(path, &FileState::File(new_file()), "x").unwrap();
        root.remove_empty_folder(&missing[2]).unwrap();
        root.put(path, &FileState::Absent, "x").unwrap();
        for made in missing.iter().rev() {
            root.remove_empty_folder(made).unwrap();
        }
        assert_eq!(names(folder.path()), ["etc"]);
    }
}
