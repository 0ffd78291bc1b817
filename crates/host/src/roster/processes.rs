//! The processes of the host, and to whom each belongs.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ctkeeper_snapshot::{Holder, Pod};
use rustix::param::clock_ticks_per_second;

use crate::cgroup::{self, Membership};
use crate::read;
use crate::runtimes::Names;

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Inode of its network namespace.
    pub(super) namespace: u64,
    /// When it began, `CLOCK_BOOTTIME` milliseconds.
    pub(super) started_ms: Option<u64>,
    membership: Membership,
    command: String,
    /// The lowest pid of its name in its namespace, among those that are in the same of units and
    /// containers, or in none.
    first_pid: u32,
}

/// Every process whose network namespace can be seen, lowest pid first.
pub(super) fn read() -> Vec<Process> {
    read_in(Path::new("/proc"))
}

fn read_in(proc: &Path) -> Vec<Process> {
    let own = cgroup::in_proc(proc, std::process::id());
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let mut first = HashMap::new();
    let process = |pid| {
        let mut process = process(proc, pid, own.as_ref())?;
        let Membership { container, machine, unit, .. } = process.membership.clone();
        let name = (process.namespace, process.command.clone(), container, machine, unit);
        process.first_pid = *first.entry(name).or_insert(pid);
        Some(process)
    };
    pids.into_iter().filter_map(process).collect()
}

fn process(proc: &Path, pid: u32, own: Option<&Membership>) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    let namespace = fs::metadata(folder.join("ns/net")).ok()?.ino();
    let (command, started_ms) = statistics(&read::text(&folder.join("stat")).ok()?)?;
    let membership = cgroup::in_proc(proc, pid).unwrap_or_default().seen_from(own);
    Some(Process { pid, namespace, started_ms, membership, command, first_pid: pid })
}

/// Command name and start of a `/proc/PID/stat` (proc_pid_stat(5)): the name may hold anything,
/// parentheses too.
fn statistics(text: &str) -> Option<(String, Option<u64>)> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, command) = before.split_once('(')?;
    let ticks: Option<u64> = after.split_ascii_whitespace().nth(19).and_then(|n| n.parse().ok());
    let started = ticks.map(|ticks| ticks.saturating_mul(1000) / clock_ticks_per_second().max(1));
    Some((command.to_owned(), started))
}

impl Process {
    /// Whose it is; nobody's if it only runs a container that it is not in.
    pub(super) fn holder(&self, names: &Names) -> Option<Holder> {
        let Membership { container, machine, .. } = &self.membership;
        if container.as_ref().is_some_and(|member| member.is_monitor) {
            return None;
        }
        let named = names.holder(&self.membership);
        let machine =
            || machine.as_ref().map(|machine| Holder::Unit { name: machine.name.clone() });
        let itself = || Holder::Process { name: self.command.clone(), pid: self.first_pid };
        Some(named.or_else(machine).unwrap_or_else(itself))
    }
}

/// The one that all of these are, if there is one: containers of a pod are the pod together.
pub(super) fn whole(holders: impl IntoIterator<Item = Holder>) -> Option<Holder> {
    let mut holders = holders.into_iter();
    let first = holders.next()?;
    holders.try_fold(first, |whole, holder| match (whole, holder) {
        (whole, holder) if whole == holder => Some(whole),
        (Holder::Pod(whole), Holder::Pod(other)) if whole.uid == other.uid => {
            Some(Holder::Pod(Pod { container: None, ..whole }))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use ctkeeper_snapshot::Container;
    use proptest::prelude::*;

    use super::*;

    fn container(id: &str) -> Container {
        Container { id: id.to_owned(), ..Container::default() }
    }

    #[test]
    fn a_name_may_hold_parentheses() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 10";
        let (command, started) = statistics(text).unwrap();
        assert_eq!(command, "a) b");
        assert_eq!(started, Some(123_450));
    }

    #[test]
    fn containers_of_one_pod_are_the_pod_together() {
        let pod = |container| Pod { uid: "u".to_owned(), container, ..Pod::default() };
        let of = |id| Holder::Pod(pod(Some(container(id))));
        assert_eq!(whole([of("pause"), of("cart")]), Some(Holder::Pod(pod(None))));
        assert_eq!(whole([of("cart"), of("cart")]), Some(of("cart")));
    }

    #[test]
    fn two_containers_are_nobody_together() {
        let of = |id| Holder::Container(container(id));
        assert_eq!(whole([of("a"), of("b")]), None);
        assert_eq!(whole([of("a"), of("a")]), Some(of("a")));
        assert_eq!(whole([]), None);
    }

    #[test]
    fn this_process_is_among_them() {
        let here = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let processes = read();
        let this = processes.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert_eq!(this.namespace, here);
        let now = crate::machine::boottime_ms();
        assert!(this.started_ms.is_some_and(|at| at <= now && at + 600_000 > now));
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in "(.|[0-9 ()]){0,120}") {
            let _ = statistics(&text);
        }
    }
}
