//! The processes of the host, and to whom each belongs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ctkeeper_snapshot::{Holder, Pod};
use rustix::param::clock_ticks_per_second;

use crate::cgroup::Membership;
use crate::read;
use crate::runtimes::Names;

/// Processes of a namespace that are looked at, at most.
const PROCESSES: usize = 4096;

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its command name: hostile input.
    pub(super) command: String,
    /// When it began, `CLOCK_BOOTTIME` milliseconds.
    pub(super) started_ms: Option<u64>,
    /// What its control group says.
    pub(super) membership: Membership,
    /// Inode of its folder in `/proc`.
    folder: Option<u64>,
    /// Its path in the unified hierarchy, if that sorts processes.
    pub(super) unified: Option<String>,
}

/// The processes of one namespace, remembered from look to look.
#[derive(Debug, Default)]
pub(super) struct Processes {
    by_pid: BTreeMap<u32, Process>,
    /// Whether they are all there are.
    pub(super) complete: bool,
}

impl Processes {
    /// Whether the first of these pids is still the process that it was.
    pub(super) fn are_of(&self, pids: &[u32]) -> bool {
        let first = pids.first().and_then(|pid| self.by_pid.get(pid));
        first.is_some_and(|first| first.folder.is_some() && first.folder == folder(first.pid))
    }

    /// Takes over who is there now. Those that are new are read, and those in no container: what has
    /// just begun may change its name and its group.
    pub(super) fn refresh(&mut self, pids: &[u32], own: Option<&Membership>) {
        self.complete = pids.len() <= PROCESSES;
        let pids = || pids.iter().copied().take(PROCESSES);
        let now: HashSet<u32> = pids().collect();
        let stays = |process: &Process| process.membership.container.is_some();
        self.by_pid.retain(|pid, process| now.contains(pid) && stays(process));
        for pid in pids() {
            if !self.by_pid.contains_key(&pid) {
                self.by_pid.extend(Process::read(pid, own).map(|process| (pid, process)));
            }
        }
    }

    /// They, lowest pid first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.by_pid.values()
    }

    /// The start of the first of them.
    pub(super) fn since_ms(&self) -> Option<u64> {
        let first = self.iter().filter_map(|process| process.started_ms).min();
        first.filter(|_| self.complete)
    }

    /// Whose each is.
    pub(super) fn holders(&self, names: &Names) -> Vec<Holder> {
        let residents = self.iter().filter(|process| !process.is_monitor());
        let mut first = HashMap::new();
        let holder = |process: &Process| {
            process.group(names).unwrap_or_else(|| {
                let pid = *first.entry(process.command.clone()).or_insert(process.pid);
                Holder::Process { name: process.command.clone(), pid }
            })
        };
        residents.map(holder).collect()
    }

    /// Whose one of them is.
    pub(super) fn holder(&self, process: &Process, names: &Names) -> Holder {
        process.group(names).unwrap_or_else(|| {
            let mut namesakes = self.iter().filter(|one| one.command == process.command);
            let first = namesakes.find(|one| one.group(names).is_none());
            let pid = first.map_or(process.pid, |first| first.pid);
            Holder::Process { name: process.command.clone(), pid }
        })
    }
}

/// The inode of a process's folder: each process gets another one, and may get another one later,
/// when the kernel wants memory (`proc_pid_make_inode`, `fs/proc/base.c`, Linux 6.12). It is told
/// much faster than the start.
fn folder(pid: u32) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}")).ok().map(|folder| folder.ino())
}

fn statistics_of(pid: u32) -> Option<(String, Option<u64>, bool)> {
    statistics(&read::text(Path::new(&format!("/proc/{pid}/stat"))).ok()?)
}

/// Command name, start, and whether it is the kernel's own, of a `/proc/PID/stat` (proc_pid_stat(5)): the name may hold anything,
/// parentheses too.
fn statistics(text: &str) -> Option<(String, Option<u64>, bool)> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, command) = before.split_once('(')?;
    let mut fields = after.split_ascii_whitespace();
    let flags: u32 = fields.nth(6).and_then(|flags| flags.parse().ok()).unwrap_or(0);
    let ticks: Option<u64> = fields.nth(12).and_then(|ticks| ticks.parse().ok());
    let started = ticks.map(|ticks| ticks.saturating_mul(1000) / clock_ticks_per_second().max(1));
    Some((command.to_owned(), started, flags & KERNEL_THREAD != 0))
}

/// `PF_KTHREAD` (`include/linux/sched.h`).
const KERNEL_THREAD: u32 = 0x0020_0000;

impl Process {
    /// `None` when it has gone, or is the kernel's own.
    fn read(pid: u32, own: Option<&Membership>) -> Option<Self> {
        let (command, started_ms, is_kernel) = statistics_of(pid)?;
        if is_kernel {
            return None;
        }
        let groups = read::text(Path::new(&format!("/proc/{pid}/cgroup"))).unwrap_or_default();
        let membership = Membership::of(&groups).unwrap_or_default().seen_from(own);
        let unified = groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned);
        Some(Self { pid, command, started_ms, membership, folder: folder(pid), unified })
    }

    /// The container, pod, unit or machine that it is of.
    pub(super) fn group(&self, names: &Names) -> Option<Holder> {
        let machine = || self.membership.machine.as_ref();
        let machine = || machine().map(|machine| Holder::Unit { name: machine.name.clone() });
        names.holder(&self.membership).or_else(machine)
    }

    /// Whether it only runs a container that it is not in.
    pub(super) fn is_monitor(&self) -> bool {
        self.membership.container.as_ref().is_some_and(|member| member.is_monitor)
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
        let expected = ("a) b".to_owned(), Some(123_450), false);
        assert_eq!(statistics(text).unwrap(), expected);
        let kernel = text.replace("4194560", "2129984");
        assert!(statistics(&kernel).unwrap().2);
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
    fn processes_are_remembered() {
        let pids = [std::process::id()];
        let mut processes = Processes::default();
        assert!(!processes.are_of(&pids));
        processes.refresh(&pids, None);
        assert!(processes.are_of(&pids) && processes.complete);
        let now = crate::machine::boottime_ms();
        let since = processes.since_ms();
        assert!(since.is_some_and(|at| at <= now && at + 600_000 > now));
        assert_eq!(processes.holders(&Names::default()).len(), 1);
        processes.refresh(&[], None);
        assert!(processes.iter().next().is_none() && !processes.are_of(&pids));
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in "(.|[0-9 ()]){0,120}") {
            let _ = statistics(&text);
        }
    }
}
