//! Network namespaces: naming, holding and visiting them.
//!
//! A namespace is entered with `setns(2)`, which moves the calling **thread**. That is done on a
//! helper thread that ends afterwards; the caller's thread is never moved. What is opened there (a
//! socket) stays in that namespace for good and can be used from any thread.

use std::borrow::Borrow;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;

pub use crate::enumerate::{Enumeration, FoundNamespace, enumerate, enumerate_with_descriptors};

use crate::error::{Errno, Error};
use crate::sys;

/// Folders in which programs name network namespaces by bind mounts: iproute2, Docker, and what
/// follows them. On current systems `/var/run` is `/run`.
pub const NAME_FOLDERS: [&str; 3] = ["/run/netns", "/var/run/netns", "/run/docker/netns"];

/// What the initial namespace is called.
const HOST: &str = "host";

/// The calling thread's own namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// `PID_MAX_LIMIT` of 64-bit kernels (`include/linux/threads.h`): larger numbers are inodes, which
/// begin far above (`PROC_DYNAMIC_FIRST`, 0xF0000000; the initial namespaces just below it).
const MAX_PID: u64 = 4 * 1024 * 1024;

/// How a user names a network namespace.
///
/// From text: `current`; `host`; a number (a process id up to 4,194,304, an inode above); `pid:N`,
/// `inode:N`, `net:[N]` as `readlink` shows it; anything with a slash is a path; anything else is a
/// name under [`NAME_FOLDERS`]. A name `host` there goes before the host's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamespaceSelector {
    /// The calling thread's own.
    Current,
    /// The initial one, in which the host's network cards are; or one that is named `host`.
    Host,
    /// A name, as `ip netns` gives it.
    Name(String),
    /// That of a process.
    Pid(u32),
    /// A bind mount or a `/proc/PID/ns/net`.
    Path(PathBuf),
    /// An inode number.
    Inode(u64),
}

impl FromStr for NamespaceSelector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bracketed = text.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
        let inode = bracketed.or_else(|| text.strip_prefix("inode:"));
        if let Some(number) = inode {
            return numbered(text, number).map(Self::Inode);
        }
        if let Some(number) = text.strip_prefix("pid:") {
            let pid = numbered(text, number)?;
            return u32::try_from(pid).map(Self::Pid).map_err(|_| unreadable(text));
        }
        if text.contains('/') {
            return Ok(Self::Path(text.into()));
        }
        match text {
            "current" => Ok(Self::Current),
            HOST => Ok(Self::Host),
            "" | "." | ".." => Err(unreadable(text)),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(match numbered(text, digits)? {
                    pid @ 0..=MAX_PID => Self::Pid(pid as u32),
                    inode => Self::Inode(inode),
                })
            }
            name => Ok(Self::Name(name.to_owned())),
        }
    }
}

fn numbered(text: &str, number: &str) -> Result<u64, Error> {
    number.parse().map_err(|_| unreadable(text))
}

fn unreadable(text: &str) -> Error {
    Error::NamespaceNotFound {
        selector: NamespaceSelector::Name(text.to_owned()),
        reason: "give a name, a process id, a path, net:[INODE], current, host or all".to_owned(),
    }
}

impl fmt::Display for NamespaceSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("current"),
            Self::Host => f.write_str(HOST),
            Self::Name(name) => f.write_str(name),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Inode(inode) => write!(f, "net:[{inode}]"),
        }
    }
}

/// A network namespace held open: it lives as long as this value does, so do not keep it for
/// longer than needed. (A socket opened in it keeps it alive too.)
#[derive(Debug)]
pub struct Namespace {
    file: File,
    inode: u64,
}

impl Namespace {
    /// Opens what a selector names.
    pub fn open(selector: &NamespaceSelector) -> Result<Self, Error> {
        match selector {
            NamespaceSelector::Current => Self::current(),
            NamespaceSelector::Host if named_path(HOST).is_some() => Self::named(HOST),
            NamespaceSelector::Host => crate::enumerate::open_initial(),
            NamespaceSelector::Name(name) => Self::named(name),
            NamespaceSelector::Pid(pid) => Self::of_process(*pid),
            NamespaceSelector::Path(path) => Self::at(path, selector),
            NamespaceSelector::Inode(inode) => crate::enumerate::open_inode(*inode),
        }
    }

    /// The calling thread's own.
    pub fn current() -> Result<Self, Error> {
        Self::at(Path::new(CURRENT), &NamespaceSelector::Current)
    }

    /// Whether the calling thread is in it.
    pub fn is_current(&self) -> bool {
        fs::metadata(CURRENT).is_ok_and(|current| current.ino() == self.inode)
    }

    /// That of a process.
    pub fn of_process(pid: u32) -> Result<Self, Error> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        Self::at(&path, &NamespaceSelector::Pid(pid))
    }

    /// Its inode number, as in `readlink /proc/PID/ns/net` and in the kernel's log.
    pub const fn inode(&self) -> u64 {
        self.inode
    }

    /// Opens a file that is known to lie on the namespace file system.
    pub(crate) fn open_known(path: &Path) -> Result<Self, Error> {
        // Something else may be mounted over it: opening must neither wait nor take a terminal.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        Self::from_file(file.map_err(|error| inaccessible("open", path.display(), error))?)
    }

    /// Takes over a descriptor, checking that it is a network namespace.
    pub(crate) fn from_file(file: File) -> Result<Self, Error> {
        let shown = || format!("descriptor {}", file.as_raw_fd());
        match sys::is_network_namespace(file.as_fd()) {
            Ok(true) => {}
            Ok(false) => return Err(Error::NotANetworkNamespace { object: shown() }),
            Err(error) => return Err(inaccessible("inspect", shown(), error)),
        }
        let inode = file.metadata().map_err(|error| inaccessible("inspect", shown(), error))?;
        let inode = inode.ino();
        Ok(Self { file, inode })
    }

    fn named(name: &str) -> Result<Self, Error> {
        let selector = NamespaceSelector::Name(name.to_owned());
        match named_path(name) {
            Some(path) => Self::at(&path, &selector),
            None => Err(Error::NamespaceNotFound {
                selector,
                reason: format!("no such file in {}", NAME_FOLDERS.join(", ")),
            }),
        }
    }

    /// Opens a path that anybody may have given: it is looked at before it is opened, since opening
    /// a device or a pipe can have effects.
    fn at(path: &Path, selector: &NamespaceSelector) -> Result<Self, Error> {
        let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
        let found = found.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NamespaceNotFound {
                selector: selector.clone(),
                reason: missing(path, selector),
            },
            _ => inaccessible("open", selector, error),
        })?;
        if !sys::is_on_nsfs(found.as_fd()).map_err(|e| inaccessible("inspect", selector, e))? {
            return Err(Error::NotANetworkNamespace { object: path.display().to_string() });
        }
        let opened = OpenOptions::new()
            .read(true)
            .open(format!("/proc/self/fd/{}", found.as_raw_fd()))
            .map_err(|error| inaccessible("open", selector, error))?;
        Self::from_file(opened).map_err(|error| match error {
            Error::NotANetworkNamespace { .. } => {
                Error::NotANetworkNamespace { object: path.display().to_string() }
            }
            other => other,
        })
    }
}

/// The file that names a namespace.
fn named_path(name: &str) -> Option<PathBuf> {
    NAME_FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

/// Whether the calling thread is in the initial namespace: `netdev_budget` is registered for
/// `init_net` alone (`net/core/sysctl_net_core.c`, Linux 6.12), and `/proc/sys/net` follows the
/// thread.
pub fn in_initial() -> bool {
    Path::new("/proc/sys/net/core/netdev_budget").exists()
}

/// Whether the calling thread may look into every process (`CAP_SYS_PTRACE`). A process whose
/// namespace it cannot tell all the same hides it even from root.
pub fn may_look_into_processes() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_PTRACE))
}

fn missing(path: &Path, selector: &NamespaceSelector) -> String {
    match selector {
        NamespaceSelector::Pid(_) => "no such process, or it has ended".to_owned(),
        _ => format!("{} does not exist", path.display()),
    }
}

pub(crate) fn inaccessible(
    action: &'static str,
    namespace: impl fmt::Display,
    error: io::Error,
) -> Error {
    Error::NamespaceAccess { action, namespace: namespace.to_string(), errno: error.into() }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// Calls `f` in each namespace in turn, on one helper thread; results come in the same order.
///
/// The iterator runs on that thread too, so namespaces can be opened as they are needed and closed
/// after their visit. Whatever `f` opens stays in its namespace. A panic of `f` goes on in the
/// caller.
pub fn visit<I, T>(
    namespaces: I,
    mut f: impl FnMut(&Namespace) -> T + Send,
) -> Result<Vec<Result<T, Error>>, Error>
where
    I: IntoIterator<Item: Borrow<Namespace>> + Send,
    T: Send,
{
    on_helper_thread(move || {
        let visit_one = |namespace: I::Item| {
            let namespace = namespace.borrow();
            sys::enter_network_namespace(namespace.as_fd())
                .map_err(|error| inaccessible("enter", namespace, error))?;
            Ok(f(namespace))
        };
        namespaces.into_iter().map(visit_one).collect()
    })
}

/// Calls `f` in a namespace, on a helper thread.
pub fn enter<T: Send>(
    namespace: &Namespace,
    f: impl FnOnce(&Namespace) -> T + Send,
) -> Result<T, Error> {
    on_helper_thread(|| {
        sys::enter_network_namespace(namespace.as_fd())
            .map_err(|error| inaccessible("enter", namespace, error))?;
        Ok(f(namespace))
    })?
}

fn on_helper_thread<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let helper = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, f);
        let helper = helper.map_err(|error| Error::Thread { errno: Errno::from(error) })?;
        helper.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_as_they_are_written() {
        let cases = [
            ("current", NamespaceSelector::Current),
            ("host", NamespaceSelector::Host),
            ("blue", NamespaceSelector::Name("blue".to_owned())),
            ("cni-4f2a", NamespaceSelector::Name("cni-4f2a".to_owned())),
            ("1", NamespaceSelector::Pid(1)),
            ("pid:77", NamespaceSelector::Pid(77)),
            ("4026531833", NamespaceSelector::Inode(4_026_531_833)),
            ("net:[4026532465]", NamespaceSelector::Inode(4_026_532_465)),
            ("inode:12", NamespaceSelector::Inode(12)),
            ("/proc/1/ns/net", NamespaceSelector::Path("/proc/1/ns/net".into())),
            ("./blue", NamespaceSelector::Path("./blue".into())),
        ];
        for (text, selector) in cases {
            assert_eq!(text.parse::<NamespaceSelector>().unwrap(), selector, "{text}");
            let shown = selector.to_string();
            assert_eq!(shown.parse::<NamespaceSelector>().unwrap(), selector, "{shown}");
        }
    }

    #[test]
    fn senseless_selectors_are_refused() {
        for text in ["", ".", "..", "net:[]", "net:[x]", "pid:", "pid:-1", "pid:99999999999"] {
            assert!(text.parse::<NamespaceSelector>().is_err(), "{text}");
        }
    }

    #[test]
    fn other_files_are_no_namespace() {
        let pid = NamespaceSelector::Path("/proc/self/ns/uts".into());
        assert!(matches!(Namespace::open(&pid), Err(Error::NotANetworkNamespace { .. })));
        let null = NamespaceSelector::Path("/dev/null".into());
        assert!(matches!(Namespace::open(&null), Err(Error::NotANetworkNamespace { .. })));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let error = Namespace::open(&NamespaceSelector::Name("no-such-one".to_owned()));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("no-such-one") && text.contains("/run/netns"), "{text}");
        let error = Namespace::of_process(u32::MAX).unwrap_err();
        assert!(matches!(error, Error::NamespaceNotFound { .. }), "{error}");
    }
}
