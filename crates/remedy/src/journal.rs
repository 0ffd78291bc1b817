//! The journal: what each change found, so that it can be put back.
//!
//! One JSON file a change, under [`FOLDER`]. It is written as a whole, durable, before the first
//! step; whoever finds one that is neither done nor undone knows everything that is needed to go
//! back to before. One change at a time holds the lock.

use std::path::{Path, PathBuf};

use ctkeeper_snapshot::Limits;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::plan::RunningStep;
use crate::root::{Bytes, FileState, RegularFile, Root, is_temporary};
use crate::time;

/// Where the journal is.
pub const FOLDER: &str = "/var/lib/ctkeeper/journal";

/// Name and version of its serialised form.
pub const CHANGE_SCHEMA: &str = "ctkeeper.change/1";

const LOCK: &str = "lock";
const STAMP: &str = "journal";

/// A change, made or begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// [`CHANGE_SCHEMA`].
    pub schema: String,
    /// What `--undo` calls it; sorts by time.
    pub id: String,
    /// How far it came.
    pub state: ChangeState,
    /// When it began, seconds since the epoch.
    pub began: u64,
    /// When it began, `CLOCK_BOOTTIME` in milliseconds.
    pub began_boottime_ms: u64,
    /// In which boot.
    pub boot_id: String,
    /// For whom: `root (sudo by alice)`.
    pub by: String,
    /// The version of ctkeeper.
    pub version: String,
    /// What it does, in a line.
    pub summary: String,
    /// Why, as the plan gave it.
    pub why: Vec<String>,
    /// Limit and buckets that it is to give.
    pub after: Limits,
    /// Running values, in the order in which they are written.
    pub running: Vec<RunningStep>,
    /// Files, in the order in which they are written.
    pub files: Vec<FileChange>,
    /// What was left as it is when it was rolled back or undone, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// How far a change came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeState {
    /// Begun: some of its steps may have been made.
    Applying,
    /// Made and verified.
    Done,
    /// Rolled back after a failure or a crash: everything is as before.
    RolledBack,
    /// Being undone: some of its steps may have been taken back.
    Undoing,
    /// Undone: everything is as before.
    Undone,
}

impl ChangeState {
    /// Whether it was begun and not ended.
    pub const fn is_unfinished(self) -> bool {
        matches!(self, Self::Applying | Self::Undoing)
    }
}

impl std::fmt::Display for ChangeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Applying => "unfinished",
            Self::Done => "done",
            Self::RolledBack => "rolled back",
            Self::Undoing => "half undone",
            Self::Undone => "undone",
        })
    }
}

/// One file of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// The file, as a path on the host.
    pub path: PathBuf,
    /// What was there.
    pub before: FileState,
    /// What is there afterwards.
    pub after: FileState,
    /// Folders made for it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made_folders: Vec<PathBuf>,
}

/// The journal, held alone.
#[derive(Debug)]
pub(crate) struct Journal<'a> {
    root: &'a Root,
    /// The lock lasts as long as this is open, also when the process is killed.
    _lock: rustix::fd::OwnedFd,
}

impl<'a> Journal<'a> {
    /// Makes the folder if need be, and takes the lock.
    pub(crate) fn open(root: &'a Root) -> Result<Self, Error> {
        let folder = Path::new(FOLDER);
        for missing in root.missing_folders(&folder.join(LOCK)) {
            root.make_folder(&missing, if missing == folder { 0o700 } else { 0o755 })?;
        }
        let handle = root.folder(folder)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&handle, LOCK, flags, Mode::from_raw_mode(0o600))
            .map_err(|cause| lock_error(root, "opening", cause))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                clear_leftovers(root, &handle)?;
                Ok(Self { root, _lock: lock })
            }
            Err(Errno::WOULDBLOCK) => Err(Error::Busy),
            Err(cause) => Err(lock_error(root, "locking", cause)),
        }
    }

    /// Every change, oldest first.
    pub(crate) fn changes(&self) -> Result<Vec<Change>, Error> {
        changes(self.root)
    }

    /// Writes a change down, durable when this returns.
    pub(crate) fn save(&self, change: &Change) -> Result<(), Error> {
        let path = file_of(&change.id);
        let json =
            serde_json::to_vec_pretty(change).map_err(|cause| broken(self.root, &path, &cause))?;
        let file = RegularFile {
            content: Bytes(json),
            mode: 0o600,
            owner: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            ..RegularFile::default()
        };
        self.root.clean(&path, STAMP)?;
        Ok(self.root.put(&path, &FileState::File(file), STAMP)?)
    }

    /// Keeps a file beside the journal before it is overwritten by force.
    pub(crate) fn keep(&self, id: &str, path: &Path, state: &FileState) -> Result<PathBuf, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kept = Path::new(FOLDER).join(format!("{id}.{name}.kept"));
        self.root.put(&kept, state, STAMP)?;
        Ok(kept)
    }

    /// A name for a change that begins now.
    pub(crate) fn new_id(&self, unix: u64) -> Result<String, Error> {
        let taken: Vec<_> = self.changes()?.into_iter().map(|change| change.id).collect();
        let first = time::compact(unix);
        let mut id = first.clone();
        let mut number = 2;
        while taken.contains(&id) {
            id = format!("{first}-{number}");
            number += 1;
        }
        Ok(id)
    }
}

/// Whether something was begun below `root` and not ended: a change, or the writing of the journal
/// itself.
pub(crate) fn needs_recovery(root: &Root) -> Result<bool, Error> {
    let unfinished = changes(root)?.iter().any(|change| change.state.is_unfinished());
    let leftover = || names(root).map(|names| names.iter().any(|name| is_temporary(name)));
    Ok(unfinished || leftover()?)
}

/// A process killed while it wrote the journal leaves a temporary file that nothing refers to.
fn clear_leftovers(root: &Root, folder: &rustix::fd::OwnedFd) -> Result<(), Error> {
    for name in names(root)?.iter().filter(|name| is_temporary(name)) {
        rustix::fs::unlinkat(folder, name.as_str(), AtFlags::empty())
            .map_err(|cause| listing(root, cause))?;
    }
    Ok(())
}

/// Names of the files in the journal's folder; none where there is no such folder.
fn names(root: &Root) -> Result<Vec<String>, Error> {
    let folder = match root.folder(Path::new(FOLDER)) {
        Ok(folder) => folder,
        Err(error) if error.cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let listing = |cause| listing(root, cause);
    let entries = rustix::fs::Dir::read_from(&folder).map_err(listing)?;
    let name = |entry: rustix::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| entry.map(name).map_err(listing)).collect()
}

fn listing(root: &Root, cause: Errno) -> Error {
    broken(root, Path::new(FOLDER), &cause)
}

fn broken(root: &Root, path: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::Journal { path: root.real(path), cause: cause.to_string() }
}

/// Every change in the journal below `root`, oldest first; none where there is no journal.
pub fn changes(root: &Root) -> Result<Vec<Change>, Error> {
    let names = names(root)?;
    let ids = names.iter().filter_map(|name| name.strip_suffix(".json"));
    let mut changes = ids.map(|id| read(root, &file_of(id))).collect::<Result<Vec<_>, _>>()?;
    changes.sort_by(|a, b| (a.began, &a.id).cmp(&(b.began, &b.id)));
    Ok(changes)
}

/// A change that was begun and neither finished nor undone, in a line, or why there may be one that
/// cannot be read; `None` also while another ctkeeper is at it, or where the journal is not for the
/// caller to read.
///
/// This only looks.
pub fn unfinished(root: &Root) -> Option<String> {
    let changes = match changes(root) {
        Ok(changes) => changes,
        Err(Error::File(error)) if error.cause.kind() == std::io::ErrorKind::PermissionDenied => {
            return None;
        }
        Err(error) => return Some(format!("that cannot be ruled out, as {error}")),
    };
    let change = changes.into_iter().find(|change| change.state.is_unfinished())?;
    let folder = root.folder(Path::new(FOLDER)).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(&folder, LOCK, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).ok()?;
    Some(format!(
        "change {} of {} is {}: {}",
        change.id,
        time::readable(change.began),
        change.state,
        change.summary
    ))
}

fn file_of(id: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{id}.json"))
}

fn read(root: &Root, path: &Path) -> Result<Change, Error> {
    let broken = |cause: String| broken(root, path, &cause);
    let FileState::File(file) = root.state(path)? else {
        return Err(broken("it is no regular file".to_owned()));
    };
    let change: Change =
        serde_json::from_slice(&file.content.0).map_err(|cause| broken(cause.to_string()))?;
    if change.schema != CHANGE_SCHEMA {
        return Err(broken(format!("it has schema {:?}, not {CHANGE_SCHEMA:?}", change.schema)));
    }
    Ok(change)
}

fn lock_error(root: &Root, operation: &'static str, cause: Errno) -> Error {
    let path = root.real(&Path::new(FOLDER).join(LOCK));
    crate::root::FileError { operation, path, cause: cause.into() }.into()
}
