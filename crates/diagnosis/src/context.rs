//! What every rule is given.

use ctkeeper_flow::Limits;
use ctkeeper_snapshot::{Namespace, Rates, Snapshot};

use crate::Thresholds;

/// A snapshot with the thresholds to judge it by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) thresholds: &'a Thresholds,
}

impl Context<'_> {
    /// Entries of all namespaces a bucket, 0 when not known.
    pub(crate) fn load(&self) -> f64 {
        self.snapshot.load().unwrap_or(0.0)
    }

    /// Entries of one namespace a bucket, 0 when not known: early drop evicts only its own.
    pub(crate) fn own_load(&self, namespace: &Namespace) -> f64 {
        let buckets = self.snapshot.limits.map_or(u64::MAX, |limits| limits.buckets.max(1));
        namespace.count as f64 / buckets as f64
    }

    /// The running limit and buckets, where the namespace that looks may speak for the host.
    pub(crate) fn limits(&self) -> Option<Limits> {
        self.snapshot.limits
    }
}

/// Packets that a namespace refused for want of a place since the last look.
pub(crate) fn refused(namespace: &Namespace) -> u64 {
    namespace.rates.as_ref().map_or(0, Rates::refused_when_full)
}

/// `command` as it is run in `namespace` from the host; `None` where no way in is known for sure:
/// on the host itself it would change the wrong namespace.
///
/// A name is preferred to a process, which may be gone when the command is pasted. Names are
/// hostile: only a plain one becomes part of a command for a root shell.
pub(crate) fn run_in(namespace: &Namespace, command: &str) -> Option<String> {
    let is_plain = |name: &&String| {
        !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    match (namespace.names.first().filter(is_plain), namespace.processes.first()) {
        _ if namespace.initial => Some(command.to_owned()),
        (Some(name), _) => Some(format!("ip netns exec {name} {command}")),
        (None, Some(process)) => Some(format!("nsenter -t {} -n {command}", process.pid)),
        (None, None) => None,
    }
}

/// The command that lists the entries of `namespace` that meet a filter.
pub(crate) fn list(namespace: &Namespace, filter: &str) -> String {
    if namespace.initial {
        format!("ctkeeper list {filter}")
    } else {
        format!("ctkeeper list --netns {} {filter}", namespace.inode)
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_snapshot::NamespaceProcess;

    use super::*;

    fn namespace(name: &str) -> Namespace {
        Namespace { names: vec![name.to_owned()], ..Namespace::default() }
    }

    #[test]
    fn commands_enter_the_namespace() {
        let run = |namespace: &Namespace| run_in(namespace, "nft").unwrap();
        assert_eq!(run(&namespace("web")), "ip netns exec web nft");
        let process = NamespaceProcess { pid: 7, command: "x; reboot".to_owned(), cgroup: None };
        let peopled = Namespace { processes: vec![process], ..namespace("container 1f3a") };
        assert_eq!(run(&peopled), "nsenter -t 7 -n nft");
        assert_eq!(run(&Namespace { initial: true, ..peopled }), "nft");
    }

    #[test]
    fn hostile_names_reach_no_command_and_none_runs_on_the_host_instead() {
        for name in ["a; reboot", "$(reboot)", "-all", "a b", "\u{1b}[2J", "`x`"] {
            assert_eq!(run_in(&namespace(name), "nft"), None);
        }
    }
}
