//! Who owns what in the lab: a folder `/run/ctkeeper-lab/PID` for each process that has made
//! something. It says when that process started, since process numbers are used again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{LabError, clean, namespace};

const FOLDER: &str = "/run/ctkeeper-lab";
const STARTED: &str = "started";

static MINE: Mutex<Weak<Claim>> = Mutex::new(Weak::new());

/// This process's folder; it goes when the last thing goes that the process has made.
#[derive(Debug)]
pub(crate) struct Claim {
    folder: PathBuf,
}

impl Claim {
    /// Takes hold of the folder, making it if need be.
    pub(crate) fn take() -> Result<Arc<Self>, LabError> {
        let mut mine = MINE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claim) = mine.upgrade() {
            return Ok(claim);
        }
        let claim = Arc::new(Self::make()?);
        *mine = Arc::downgrade(&claim);
        Ok(claim)
    }

    fn make() -> Result<Self, LabError> {
        let pid = std::process::id();
        let folder = folder_of(pid);
        let failed = || LabError::system("make", folder.display().to_string());
        if folder.exists() {
            // Left by an earlier process of this number, as what it made may be.
            clean::remove_namespaces()?;
            let _ = fs::remove_dir_all(&folder);
        }
        fs::create_dir_all(&folder).map_err(failed())?;
        let started = started(pid).unwrap_or_default();
        // Renamed into place: half a file would say that the owner is gone.
        let draft = folder.join("draft");
        fs::write(&draft, started.to_string()).map_err(failed())?;
        fs::rename(&draft, folder.join(STARTED)).map_err(failed())?;
        Ok(Self { folder })
    }

    /// Where files of this process may stand.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Another thread may have made it anew by now.
        let mine = MINE.lock().unwrap_or_else(PoisonError::into_inner);
        let is_last = mine.strong_count() == 0;
        // Namespaces that could not be removed need it, or nobody would know whose they are.
        if is_last && !has_namespaces(std::process::id()) {
            // A guard must not panic; the next run removes what is left.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Whether a process has left a folder under this number and has ended since. Without a folder
/// nothing is known, and what has such a number in its name may be somebody else's.
pub(crate) fn has_ended(pid: u32) -> bool {
    let folder = folder_of(pid);
    let noted = fs::read_to_string(folder.join(STARTED)).ok();
    let noted = noted.and_then(|text| text.trim().parse::<u64>().ok());
    folder.exists()
        && match (life(pid), noted) {
            (Life::Over, _) => true,
            (Life::Since(running), Some(noted)) => running != noted,
            // It is about to write when it started.
            (Life::Since(_), None) | (Life::Unknown, _) => false,
        }
}

/// Whether namespaces with this number in their names are there.
pub(crate) fn has_namespaces(pid: u32) -> bool {
    namespace::names().any(|name| namespace::owner(&name) == Some(pid))
}

/// Numbers of the processes that have left a folder.
pub(crate) fn with_folders() -> Vec<u32> {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// An environment variable that marks programs of the lab with their owner: one that is started at
/// the very moment its owner is killed is not yet inside its namespace.
pub(crate) const MARK: &str = "CTKEEPER_LAB_OWNER";

/// This process's mark.
pub(crate) fn mark() -> String {
    let pid = std::process::id();
    format!("{pid}:{}", started(pid).unwrap_or_default())
}

/// Whether a process bears the mark of an owner that has ended.
pub(crate) fn is_orphan(pid: u32) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let orphaned = |entry: &[u8]| {
        let owner = std::str::from_utf8(entry).ok()?.strip_prefix(MARK)?.strip_prefix('=')?;
        let (pid, noted) = owner.split_once(':')?;
        Some(match life(pid.parse().ok()?) {
            Life::Over => true,
            Life::Since(running) => noted.parse() != Ok(running),
            Life::Unknown => false,
        })
    };
    // Of a lab inside a container, whose numbers are not ours.
    if numbering(&pid.to_string()).is_none_or(|other| Some(other) != numbering("self")) {
        return false;
    }
    environment.split(|&byte| byte == 0).any(|entry| orphaned(entry).unwrap_or(false))
}

/// Removes the folder of a process that has ended.
pub(crate) fn remove_folder(pid: u32) {
    let _ = fs::remove_dir_all(folder_of(pid));
}

fn folder_of(pid: u32) -> PathBuf {
    Path::new(FOLDER).join(pid.to_string())
}

/// The process namespace that numbers a process.
fn numbering(process: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// There is no such process, or it has ended and nobody has asked how (a zombie).
    Over,
    /// When it started, in ticks since boot.
    Since(u64),
    /// It cannot be told: there are no descriptors left, say.
    Unknown,
}

fn started(pid: u32) -> Option<u64> {
    if let Life::Since(started) = life(pid) { Some(started) } else { None }
}

/// State and start are fields 3 and 22 of `/proc/PID/stat` (proc(5)). The name before them may hold
/// anything, closing brackets too.
fn life(pid: u32) -> Life {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) => return if is_gone(&error) { Life::Over } else { Life::Unknown },
    };
    let Some((_, after_name)) = stat.rsplit_once(')') else { return Life::Unknown };
    let mut fields = after_name.split_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Life::Over;
    }
    let started = fields.nth(18).and_then(|field| field.parse().ok());
    started.map_or(Life::Unknown, Life::Since)
}

/// Reading says ESRCH of a process that went after the file was opened.
fn is_gone(error: &std::io::Error) -> bool {
    let gone = Some(rustix::io::Errno::SRCH.raw_os_error());
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_started() {
        let own = started(std::process::id()).unwrap();
        let first = started(1).unwrap();
        assert!(own > first, "{own} {first}");
        assert!(!has_ended(std::process::id()) && !has_ended(u32::MAX / 2));
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while life(child.id()) != Life::Over {
            assert!(std::time::Instant::now() < end, "{:?}", life(child.id()));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert_eq!(life(child.id()), Life::Over);
    }
}
