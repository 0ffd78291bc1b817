//! Errors turned into gaps: what is missing, why, and what to do.

use ctkeeper_netlink::Error;
use ctkeeper_netlink::netns::{self, Enumeration};
use ctkeeper_snapshot::{Gap, GapKind};

/// A namespace that could not be read; one that has gone meanwhile is no gap.
pub(crate) fn of_namespace(error: &Error, inode: u64) -> Option<Gap> {
    of_error(error, format!("the table of namespace {inode}"))
}

/// Counters that could not be read.
pub(crate) fn of_statistics(error: &Error, inode: u64) -> Option<Gap> {
    of_error(error, format!("the counters of namespace {inode}"))
}

/// A sample that could not be taken.
pub(crate) fn of_sample(error: &Error, inode: u64) -> Option<Gap> {
    of_error(error, format!("a sample of the entries of namespace {inode}"))
}

/// Processes whose namespace could not be told may be in namespaces that nobody saw. Some hide it
/// even from who may look into every process; that is no lack of privilege.
pub(crate) fn hidden_namespaces(enumeration: &Enumeration) -> Option<Gap> {
    let processes = match enumeration.unreadable_processes {
        0 => return None,
        1 => "the namespace of 1 process".to_owned(),
        several => format!("the namespaces of {several} processes"),
    };
    let (kind, remedy) = if netns::may_look_into_processes() {
        (GapKind::Unavailable, "hidden even from root")
    } else {
        (GapKind::Privilege, "run as root, or with CAP_SYS_PTRACE")
    };
    let cause = "reading /proc/PID/ns/net: permission denied".to_owned();
    Some(Gap { kind, what: processes, cause, remedy: remedy.to_owned() })
}

/// Without its limit a namespace passes for unlimited.
pub(crate) fn unknown_limit(inode: u64) -> Gap {
    Gap {
        kind: GapKind::Unavailable,
        what: format!("the limit of namespace {inode}"),
        cause: "the kernel sends none with the count, and /proc/sys does not show it".to_owned(),
        remedy: "look from the host, where /proc/sys is whole".to_owned(),
    }
}

/// Without connection tracking there is nothing to count, and nothing is loaded to look.
pub(crate) fn no_tracking() -> Gap {
    Gap {
        kind: GapKind::Unavailable,
        what: "any entry".to_owned(),
        cause: "this kernel does not track connections now".to_owned(),
        remedy: "nothing to do: no table can fill up".to_owned(),
    }
}

/// No namespace that could be read is the host's own: a container's view, or one without privilege.
pub(crate) fn host_unseen() -> Gap {
    Gap {
        kind: GapKind::Privilege,
        what: "the host's own namespace".to_owned(),
        cause: "it is not among those that can be seen or entered from here (a container?)".into(),
        remedy: "run it as root on the host; to judge this namespace alone: --netns current".into(),
    }
}

fn of_error(error: &Error, what: String) -> Option<Gap> {
    let kind = match error {
        Error::NamespaceNotFound { .. } => return None,
        error if error.is_permission() => GapKind::Privilege,
        _ => GapKind::Unavailable,
    };
    let remedy = match kind {
        GapKind::Privilege => "run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN",
        _ => "see the cause",
    };
    Some(Gap {
        kind,
        what,
        cause: error.to_string(),
        remedy: error.advice().unwrap_or(remedy).to_owned(),
    })
}
