//! Values under `/proc/sys/net/netfilter`, read and written one at a time.
//!
//! `/proc/sys/net` follows the calling *thread*: it shows the network namespace that the thread is
//! in. Limit and buckets are global, writable in the initial namespace only (mode 0444 elsewhere);
//! timeouts are each namespace's own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ctkeeper_flow::{Limit, Limits, Timeouts};
use ctkeeper_snapshot::{Gap, GapKind};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use thiserror::Error;

/// The folder of the values.
pub const FOLDER: &str = "/proc/sys/net/netfilter";

/// `nf_conntrack_max`.
pub const LIMIT: &str = "nf_conntrack_max";

/// `nf_conntrack_buckets`.
pub const BUCKETS: &str = "nf_conntrack_buckets";

/// A value could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SysctlError {
    /// The file is not there: the module is not loaded, or this namespace does not show it.
    #[error(
        "{operation} {}: no such value; the kernel module nf_conntrack is not loaded, or this is \
         a container that does not show it: run on the host, or load it with `modprobe nf_conntrack`",
        file.display()
    )]
    Absent {
        /// What was being done.
        operation: Operation,
        /// The file.
        file: PathBuf,
    },
    /// The caller may not: not root, or the namespace is not the host's initial one.
    #[error(
        "{operation} {}: permission denied; limit and buckets belong to the host's initial network \
         namespace: run as root there (on the host, not in a container)",
        file.display()
    )]
    Denied {
        /// What was being done.
        operation: Operation,
        /// The file.
        file: PathBuf,
    },
    /// `/proc/sys` is mounted read-only, as container runtimes do.
    #[error(
        "writing {}: /proc/sys is mounted read-only here, as in a container; run it on the host",
        file.display()
    )]
    ReadOnly {
        /// The file.
        file: PathBuf,
    },
    /// The kernel does not take the value.
    #[error("writing {value} to {}: the kernel refuses the value ({cause}); {}", file.display(), refusal_advice(*cause))]
    Refused {
        /// The file.
        file: PathBuf,
        /// The value.
        value: u64,
        /// What the kernel said.
        cause: Errno,
    },
    /// The file holds no number.
    #[error("reading {}: {text:?} is no number; is something else mounted over it?", file.display())]
    NotANumber {
        /// The file.
        file: PathBuf,
        /// What it holds.
        text: String,
    },
    /// Anything else.
    #[error("{operation} {}: {cause}; look at the kernel log, then try again", file.display())]
    Io {
        /// What was being done.
        operation: Operation,
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        cause: Errno,
    },
}

/// What was being done to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading.
    Reading,
    /// Writing.
    Writing,
}

/// What stands between the caller and changing limit or buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitsAccess {
    /// Nothing.
    Writable,
    /// The values are not there: the module is absent, or `/proc` is masked.
    Absent,
    /// This is not the host's initial network namespace.
    OtherNamespace,
    /// `/proc/sys` is mounted read-only.
    ReadOnlyMount,
    /// The caller is not root in the initial namespace.
    NoPrivilege,
}

/// Limit and buckets as they run.
pub fn limits() -> Result<Limits, SysctlError> {
    Ok(Limits { limit: Limit(read(LIMIT)?), buckets: read(BUCKETS)? })
}

/// One value of the calling thread's namespace.
pub fn read(name: &str) -> Result<u64, SysctlError> {
    let file = path_of(name);
    let text = content(CWD, &file).map_err(|cause| reading(&file, cause))?;
    let number = text.trim().parse::<i64>().ok().map(unsigned);
    number.ok_or_else(|| SysctlError::NotANumber { file, text: text.trim().to_owned() })
}

/// Writes one value in the calling thread's namespace. What the kernel made of it (buckets are
/// rounded up) is to be read back.
pub fn write(name: &str, value: u64) -> Result<(), SysctlError> {
    let file = path_of(name);
    put(&file, value).map_err(|cause| writing(file, value, cause))
}

/// Every `nf_conntrack_*timeout*` of the calling thread's namespace, seconds.
pub fn timeouts() -> Result<Timeouts, SysctlError> {
    let folder = Path::new(FOLDER);
    let handle = open_folder(folder).map_err(|cause| reading(folder, cause))?;
    let mut timeouts = Timeouts::default();
    for entry in rustix::fs::Dir::read_from(&handle).map_err(|cause| reading(folder, cause))? {
        let entry = entry.map_err(|cause| reading(folder, cause))?;
        let Some(name) = entry.file_name().to_str().ok().and_then(timeout_name) else { continue };
        let file = Path::new(entry.file_name().to_str().unwrap_or_default());
        if let Some(seconds) = content(&handle, file).ok().and_then(|text| text.trim().parse().ok())
        {
            timeouts.0.insert(name.to_owned(), seconds);
        }
    }
    Ok(timeouts)
}

/// Whether the calling thread can change limit and buckets, told by looking alone.
pub fn limits_access() -> LimitsAccess {
    let file = path_of(LIMIT);
    let Ok(status) = rustix::fs::stat(&file) else { return LimitsAccess::Absent };
    if !Mode::from_raw_mode(status.st_mode).contains(Mode::WUSR) {
        return LimitsAccess::OtherNamespace;
    }
    if is_read_only_mount(&file) {
        return LimitsAccess::ReadOnlyMount;
    }
    match rustix::fs::access(&file, rustix::fs::Access::WRITE_OK) {
        Ok(()) => LimitsAccess::Writable,
        Err(_) => LimitsAccess::NoPrivilege,
    }
}

/// Whether the calling thread is in the host's initial network namespace; `None` when `/proc` is
/// masked.
///
/// `netdev_budget` is registered for `init_net` alone (`net/core/sysctl_net_core.c`, Linux 6.12).
pub fn in_initial_namespace() -> Option<bool> {
    if Path::new("/proc/sys/net/core/netdev_budget").exists() {
        return Some(true);
    }
    Path::new("/proc/sys/net/core/somaxconn").exists().then_some(false)
}

impl SysctlError {
    /// The gap that a failed reading leaves.
    pub fn gap(&self, what: impl Into<String>) -> Gap {
        let (kind, remedy) = match self {
            Self::Absent { .. } => {
                (GapKind::Unavailable, "run on the host, with nf_conntrack loaded")
            }
            Self::Denied { .. } => (GapKind::Privilege, "run as root in the initial namespace"),
            Self::ReadOnly { .. } => (GapKind::Unavailable, "run on the host"),
            Self::NotANumber { .. } => (GapKind::BrokenFile, "see what is mounted over /proc/sys"),
            Self::Refused { .. } | Self::Io { .. } => (GapKind::Unavailable, "see the kernel log"),
        };
        Gap { kind, what: what.into(), cause: self.to_string(), remedy: remedy.to_owned() }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Reading => "reading",
            Self::Writing => "writing",
        })
    }
}

/// Shown as a signed number; -1, which kernels before 6.15 took for a limit, is the largest 32-bit
/// one.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_else(|_| u64::from(number as u32))
}

fn path_of(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// `tcp_timeout_established` of `nf_conntrack_tcp_timeout_established`.
fn timeout_name(file: &str) -> Option<&str> {
    file.strip_prefix("nf_conntrack_").filter(|name| name.contains("timeout"))
}

fn open_folder(folder: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A sysctl is a line; 128 bytes hold any number with room to spare.
fn content(folder: impl AsFd, file: &Path) -> rustix::io::Result<String> {
    let handle = rustix::fs::openat(folder, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0_u8; 128];
    let length = rustix::io::retry_on_intr(|| rustix::io::pread(&handle, &mut buffer, 0))?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}

fn put(file: &Path, value: u64) -> rustix::io::Result<()> {
    let handle = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let text = format!("{value}\n");
    rustix::io::retry_on_intr(|| rustix::io::write(&handle, text.as_bytes())).map(drop)
}

fn is_read_only_mount(file: &Path) -> bool {
    rustix::fs::statvfs(file).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn reading(file: &Path, cause: Errno) -> SysctlError {
    let (operation, file) = (Operation::Reading, file.to_owned());
    match cause {
        Errno::NOENT | Errno::NOTDIR => SysctlError::Absent { operation, file },
        Errno::ACCESS | Errno::PERM => SysctlError::Denied { operation, file },
        _ => SysctlError::Io { operation, file, cause },
    }
}

fn writing(file: PathBuf, value: u64, cause: Errno) -> SysctlError {
    let operation = Operation::Writing;
    match cause {
        Errno::NOENT | Errno::NOTDIR => SysctlError::Absent { operation, file },
        Errno::ACCESS | Errno::PERM => SysctlError::Denied { operation, file },
        Errno::ROFS => SysctlError::ReadOnly { file },
        Errno::INVAL | Errno::NOMEM | Errno::RANGE => SysctlError::Refused { file, value, cause },
        _ => SysctlError::Io { operation, file, cause },
    }
}

/// `ENOMEM` is what a bucket table gives that cannot be had; anything else is out of range.
fn refusal_advice(cause: Errno) -> &'static str {
    if cause == Errno::NOMEM {
        "there is no memory for a table of that size: take fewer buckets"
    } else {
        "it takes 1 to 2147483647"
    }
}
