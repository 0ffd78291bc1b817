//! What can go wrong: the operation, what it was about, the cause in plain words, what to do.

use std::fmt;
use std::io;

use crate::availability::Availability;
use crate::netns::{self, NamespaceSelector};
use crate::wire::Malformed;

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Opening a netlink socket.
    Open,
    /// Reading count and limit.
    Count,
    /// Reading the per-CPU statistics.
    Statistics,
    /// Listing entries.
    Dump,
    /// Reading one entry.
    Get,
    /// Making an entry.
    Create,
    /// Changing an entry.
    Update,
    /// Deleting an entry.
    Delete,
    /// Deleting every entry of a namespace.
    Flush,
    /// Listing expectations.
    ReadExpectations,
    /// Reading one expectation.
    GetExpectation,
    /// Making an expectation.
    Expect,
    /// Changing an expectation.
    UpdateExpectation,
    /// Deleting an expectation.
    DeleteExpectation,
    /// Deleting every expectation of a namespace.
    FlushExpectations,
    /// Reading timeouts by protocol, or policies of them.
    ReadTimeouts,
    /// Setting timeouts by protocol, or policies of them.
    WriteTimeouts,
    /// Listing helpers in user space.
    ReadHelpers,
    /// Subscribing to events.
    Subscribe,
    /// Reading events.
    ReadEvents,
    /// Listing nftables' rules.
    ReadRules,
    /// Listing sockets.
    ReadSockets,
    /// Listing local addresses.
    ReadAddresses,
    /// Listing the network interfaces.
    ReadLinks,
    /// Finding the route to an address.
    ReadRoute,
    /// Finding the number by which one namespace knows another.
    ReadNamespaceNumber,
}

impl Operation {
    /// Whether it changes what it is about.
    const fn changes(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Update
                | Self::Delete
                | Self::Flush
                | Self::Expect
                | Self::UpdateExpectation
                | Self::DeleteExpectation
                | Self::FlushExpectations
                | Self::WriteTimeouts
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "open a netlink socket",
            Self::Count => "read the number of entries",
            Self::Statistics => "read the per-CPU statistics",
            Self::Dump => "list the entries",
            Self::Get => "read the entry",
            Self::Create => "create the entry",
            Self::Update => "change the entry",
            Self::Delete => "delete the entry",
            Self::Flush => "delete all entries",
            Self::ReadExpectations => "list the expectations",
            Self::GetExpectation => "read the expectation",
            Self::Expect => "create the expectation",
            Self::UpdateExpectation => "change the expectation",
            Self::DeleteExpectation => "delete the expectation",
            Self::FlushExpectations => "delete all expectations",
            Self::ReadTimeouts => "read the timeouts",
            Self::WriteTimeouts => "set the timeouts",
            Self::ReadHelpers => "list the helpers in user space",
            Self::Subscribe => "subscribe to events",
            Self::ReadEvents => "read events",
            Self::ReadRules => "list the nftables rules",
            Self::ReadSockets => "list the sockets",
            Self::ReadAddresses => "list the local addresses",
            Self::ReadLinks => "list the network interfaces",
            Self::ReadRoute => "find the route to",
            Self::ReadNamespaceNumber => "find the number of namespace",
        })
    }
}

/// Why a request to the kernel failed, in this crate's one error type.
///
/// Names in it may come from others and are not safe for a terminal as they stand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing answers to the selector.
    #[error("there is no network namespace {selector}: {reason}")]
    NamespaceNotFound {
        /// What was asked for.
        selector: NamespaceSelector,
        /// Where it was looked for.
        reason: String,
    },
    /// A file that is no network namespace.
    #[error("{object} is not a network namespace")]
    NotANetworkNamespace {
        /// Its path, or what it is instead.
        object: String,
    },
    /// A namespace that is there but cannot be opened or entered.
    #[error("cannot {action} network namespace {namespace}: {errno}{}", hint(self))]
    NamespaceAccess {
        /// `open`, `enter`, `inspect`.
        action: &'static str,
        /// Which.
        namespace: String,
        /// Why.
        errno: Errno,
    },
    /// Asking would change the host, or there is nobody to ask.
    #[error("{availability}")]
    Unavailable {
        /// Which of the two.
        availability: Availability,
    },
    /// Asking might load a module, and looking changes nothing.
    #[error(
        "cannot {operation}: the module {module} is not loaded, and asking might load it; load it \
         with `modprobe {module}`"
    )]
    WouldLoadModule {
        /// What was asked.
        operation: Operation,
        /// Its name.
        module: &'static str,
    },
    /// The kernel refused.
    #[error("cannot {operation}{}: {}{}{}", on(object), meaning(*operation, *errno), said(message.as_deref()), hint(self))]
    Kernel {
        /// What was asked.
        operation: Operation,
        /// About what: a tuple, a namespace; may be empty.
        object: String,
        /// The error number.
        errno: Errno,
        /// The text of the kernel's extended acknowledgement.
        message: Option<Box<str>>,
        /// Offset in the request of the attribute that the kernel rejected.
        offset: Option<u32>,
    },
    /// The kernel's answer is not what its interface promises.
    #[error("cannot {operation}: the kernel's answer is malformed: {cause}")]
    Malformed {
        /// What was asked.
        operation: Operation,
        /// What is wrong with it.
        cause: Malformed,
    },
    /// The answer did not fit the receive buffer.
    #[error("cannot {operation}: the kernel's answer is longer than the receive buffer")]
    Truncated {
        /// What was asked.
        operation: Operation,
    },
    /// Nothing came within the socket's receive timeout.
    #[error("cannot {operation}: the kernel did not answer within {seconds} s")]
    NoAnswer {
        /// What was asked.
        operation: Operation,
        /// The receive timeout.
        seconds: u64,
    },
    /// What was listed changed underneath each time.
    #[error(
        "cannot {operation}: it changed while being read, {attempts} times in a row; try again"
    )]
    Interrupted {
        /// What was asked.
        operation: Operation,
        /// How often it was begun.
        attempts: u32,
    },
    /// A value that does not fit a netlink attribute (64 KiB).
    #[error("cannot {operation}{}: a value is longer than a netlink attribute can be", on(object))]
    TooLong {
        /// What was asked.
        operation: Operation,
        /// About what.
        object: String,
    },
    /// No helper thread to enter a namespace with.
    #[error("cannot start the thread that enters network namespaces: {errno}")]
    Thread {
        /// Why.
        errno: Errno,
    },
}

impl Error {
    /// What the operator can do about it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::NamespaceAccess { action, errno, .. } if errno.is_permission() => {
                Some(match *action {
                    "enter" => ENTERING,
                    _ if netns::may_look_into_processes() => HIDDEN,
                    _ => OPENING,
                })
            }
            Self::Kernel { operation, errno, .. } => remedy(*operation, *errno),
            _ => None,
        }
    }

    /// The error number, where the kernel gave one.
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::NamespaceAccess { errno, .. }
            | Self::Kernel { errno, .. }
            | Self::Thread { errno } => Some(*errno),
            _ => None,
        }
    }

    /// Whether it is a lack of privilege.
    pub fn is_permission(&self) -> bool {
        self.errno().is_some_and(Errno::is_permission)
    }

    pub(crate) fn kernel(operation: Operation, object: String, errno: impl Into<Errno>) -> Self {
        Self::Kernel { operation, object, errno: errno.into(), message: None, offset: None }
    }
}

const ENTERING: &str =
    "entering a network namespace needs CAP_SYS_ADMIN: run as root, or name no namespace";
const OPENING: &str = "the namespaces of other users' processes need CAP_SYS_PTRACE: run as root";
const HIDDEN: &str = "this process hides its namespace even from root: name it in another way";

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Whether it is `EPERM` or `EACCES`.
    pub const fn is_permission(self) -> bool {
        matches!(self.0, libc::EPERM | libc::EACCES)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// The system's text, such as `Operation not permitted`.
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        f.pad(text.split(" (os error").next().unwrap_or(&text))
    }
}

/// What an error number means for an operation, in plain words.
fn meaning(operation: Operation, errno: Errno) -> String {
    use Operation::{
        Count, Create, Delete, DeleteExpectation, Get, GetExpectation, Statistics, Update,
        UpdateExpectation,
    };
    match (operation, errno.0) {
        (_, libc::EPERM) => "not permitted".to_owned(),
        (Create, libc::ENOMEM) => "the table is full (or memory is)".to_owned(),
        (Create, libc::EEXIST) => "an entry with this tuple exists already".to_owned(),
        (Operation::Expect, libc::EMFILE) => "the expectation table is full".to_owned(),
        (Operation::Expect, libc::EOPNOTSUPP) => "its master connection has no helper".to_owned(),
        (Create | Operation::Expect, libc::ENOENT) => {
            "its master connection does not exist".to_owned()
        }
        (Get | Update | Delete, libc::ENOENT) => "there is no such entry".to_owned(),
        (GetExpectation | UpdateExpectation | DeleteExpectation, libc::ENOENT) => {
            "there is no such expectation".to_owned()
        }
        (Update, libc::ENOSPC) => "the entry has no room for labels".to_owned(),
        (Create | Update, libc::EBUSY) => {
            "the kernel does not let these status bits or this helper be changed".to_owned()
        }
        (Count | Statistics, libc::EINVAL) => {
            "this kernel has no netlink interface for connection tracking (CONFIG_NF_CT_NETLINK)"
                .to_owned()
        }
        (Operation::ReadHelpers, libc::EINVAL) => {
            "this kernel has no helpers in user space (CONFIG_NF_CT_NETLINK_HELPER)".to_owned()
        }
        (Operation::WriteTimeouts, libc::EEXIST) => {
            "a policy of this name exists already".to_owned()
        }
        (Operation::ReadTimeouts | Operation::WriteTimeouts, libc::EOPNOTSUPP) => {
            "this kernel does not track this protocol".to_owned()
        }
        (_, libc::EINVAL) => "the kernel finds the request invalid".to_owned(),
        (_, libc::EOPNOTSUPP) => "this kernel does not support it".to_owned(),
        _ => errno.to_string(),
    }
}

fn remedy(operation: Operation, errno: Errno) -> Option<&'static str> {
    use Operation::{Create, Open, Update};
    Some(match (operation, errno.0) {
        (Open, libc::EMFILE) => "raise the limit of open files (ulimit -n)",
        (_, libc::EPERM) if operation.changes() => {
            "connection tracking is changed only with CAP_NET_ADMIN in that namespace's user \
             namespace: run as root"
        }
        (_, libc::EPERM) => {
            "connection tracking is readable only with CAP_NET_ADMIN in that namespace's user \
             namespace: run as root"
        }
        (Update, libc::ENOSPC) => {
            "labels stick only on entries made while a rule of the namespace uses `ct label`: add \
             such a rule; connections that begin after it have room"
        }
        (Create, libc::ENOMEM) => "see `ctkeeper doctor`; raise the limit with `ctkeeper fix`",
        (Create, libc::EEXIST) => "change it instead of creating it",
        (Operation::Expect, libc::EMFILE) => {
            "raise net.netfilter.nf_conntrack_expect_max; see `ctkeeper explain expectations-full`"
        }
        _ => return None,
    })
}

fn on(object: &str) -> String {
    if object.is_empty() { String::new() } else { format!(" {object}") }
}

fn said(message: Option<&str>) -> String {
    message.map_or_else(String::new, |text| format!(" (the kernel says: {text})"))
}

fn hint(error: &Error) -> String {
    error.advice().map_or_else(String::new, |advice| format!("; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_operation_object_cause_and_advice() {
        let error = Error::kernel(
            Operation::Create,
            "10.0.0.1:1 → 10.0.0.2:2 (tcp)".to_owned(),
            Errno(libc::ENOMEM),
        );
        assert_eq!(
            error.to_string(),
            "cannot create the entry 10.0.0.1:1 → 10.0.0.2:2 (tcp): the table is full (or memory \
             is); see `ctkeeper doctor`; raise the limit with `ctkeeper fix`"
        );
    }

    #[test]
    fn who_may_not_change_is_not_told_of_reading() {
        let advice = |operation, errno| {
            Error::kernel(operation, String::new(), Errno(errno)).advice().unwrap_or_default()
        };
        assert!(advice(Operation::Dump, libc::EPERM).contains("readable only with CAP_NET_ADMIN"));
        assert!(advice(Operation::Create, libc::EPERM).contains("changed only with CAP_NET_ADMIN"));
        assert!(advice(Operation::Update, libc::ENOSPC).contains("`ct label`"));
    }

    #[test]
    fn carries_the_kernels_own_words() {
        let error = Error::Kernel {
            operation: Operation::Dump,
            object: String::new(),
            errno: Errno(libc::EINVAL),
            message: Some("reserved bit set".into()),
            offset: Some(20),
        };
        assert_eq!(
            error.to_string(),
            "cannot list the entries: the kernel finds the request invalid (the kernel says: \
             reserved bit set)"
        );
        assert_eq!(error.advice(), None);
    }

    #[test]
    fn an_errno_is_the_systems_text_alone() {
        assert_eq!(Errno(libc::EPERM).to_string(), "Operation not permitted");
    }
}
