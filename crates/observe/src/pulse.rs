//! The cheap look: count, limit and counters of every namespace.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ctkeeper_flow::{Limit, Statistics};
use ctkeeper_host::namespaces::{Description, processes_each};
use ctkeeper_host::{machine, statistics, sysctl};
use ctkeeper_netlink::{Conntrack, Error, netns};
use ctkeeper_snapshot::{EvidenceSource, Expectations, Gap, Namespace, Rates};
use serde::{Deserialize, Serialize};

use crate::targets::{self, Target};
use crate::{ObserveError, Selection, gaps};

/// The name of the count below `/proc/sys/net/netfilter`.
const COUNT: &str = "nf_conntrack_count";
/// And of the limit of expectations.
const EXPECTATION_LIMIT: &str = "nf_conntrack_expect_max";

/// Count and counters of every namespace at one moment. Small, serialisable: what the next look is
/// held against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pulse {
    /// The boot it belongs to: counters of another one mean nothing.
    boot_id: String,
    /// By inode.
    beats: BTreeMap<u64, Beat>,
}

/// One namespace's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Beat {
    /// `CLOCK_BOOTTIME`, milliseconds.
    at_ms: u64,
    initial: bool,
    count: u64,
    limit: Limit,
    per_cpu: Vec<Statistics>,
    /// What helpers expect just now; not for the next look.
    #[serde(skip)]
    expectations: Option<Expectations>,
}

/// A pulse, and the ways to the namespaces that it was taken of.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) pulse: Pulse,
    pub(crate) targets: Vec<Target>,
    pub(crate) gaps: Vec<Gap>,
}

/// Reads the numbers of the selected namespaces. A namespace that cannot be read leaves a gap; one
/// that vanishes leaves nothing, as if it had gone a moment earlier.
pub(crate) fn take(selection: &Selection) -> Result<Look, ObserveError> {
    let enumeration = netns::enumerate();
    let targets = targets::select(selection, &enumeration)?;
    let mut gaps = Vec::new();
    if *selection == Selection::All {
        gaps.extend(gaps::hidden_namespaces(&enumeration));
    }
    let mut beats = BTreeMap::new();
    for (inode, reading) in read_all(&targets)? {
        match reading {
            Ok((beat, gap)) => {
                beats.insert(inode, beat);
                gaps.extend(gap);
            }
            Err(error) => gaps.extend(gaps::of_namespace(&error, inode)),
        }
    }
    if *selection == Selection::All && !beats.values().any(|beat| beat.initial) {
        gaps.push(gaps::host_unseen());
    }
    let pulse = Pulse { boot_id: machine::boot_id().unwrap_or_default(), beats };
    Ok(Look { pulse, targets, gaps })
}

impl Pulse {
    /// The namespaces with how their numbers moved since an earlier pulse of the same boot; the
    /// initial one first, then by count.
    pub(crate) fn namespaces(
        &self,
        targets: &[Target],
        before: Option<&(Self, EvidenceSource)>,
    ) -> Vec<Namespace> {
        let before = before.filter(|(pulse, _)| pulse.boot_id == self.boot_id);
        let processes = processes_each(targets.len());
        let namespace = |target: &Target| {
            let beat = self.beats.get(&target.inode())?;
            let rates = before
                .and_then(|(pulse, since)| beat.rates(pulse.beats.get(&target.inode())?, *since));
            Some(beat.namespace(target.inode(), target.describe(processes), rates))
        };
        let mut namespaces: Vec<_> = targets.iter().filter_map(namespace).collect();
        namespaces.sort_by_key(|n| (!n.initial, Reverse(n.count), n.inode));
        namespaces
    }

    /// Takes over what an earlier pulse knew of namespaces that this one did not look into.
    pub(crate) fn keep_unseen(&mut self, earlier: &Self) {
        if earlier.boot_id == self.boot_id {
            for (inode, beat) in &earlier.beats {
                self.beats.entry(*inode).or_insert_with(|| beat.clone());
            }
        }
    }
}

impl Beat {
    /// The numbers of the namespace that the calling thread is in.
    fn now(count: u64, limit: Option<u64>, per_cpu: Vec<Statistics>) -> Self {
        let initial = sysctl::in_initial_namespace().unwrap_or(false);
        let limit = Limit(limit.unwrap_or(0));
        let at_ms = machine::boottime_ms();
        Self { at_ms, initial, count, limit, per_cpu, expectations: None }
    }

    fn namespace(&self, inode: u64, called: Description, rates: Option<Rates>) -> Namespace {
        let statistics = sum(&self.per_cpu);
        Namespace {
            inode,
            initial: self.initial,
            names: called.names,
            processes: called.processes,
            count: self.count,
            limit: self.limit,
            statistics: (!statistics.is_empty()).then_some(statistics),
            statistics_per_cpu: self.per_cpu.clone(),
            rates,
            sample: None,
            timeouts: None,
            tracking: None,
            expectations: self.expectations,
            doubles: None,
            holders: Vec::new(),
        }
    }

    /// `None` where the earlier numbers are another namespace's: the kernel gives the inode of one
    /// that has gone to the next, whose counters begin at 0.
    fn rates(&self, before: &Self, since: EvidenceSource) -> Option<Rates> {
        let window_ms = self.at_ms.checked_sub(before.at_ms)?;
        if self.per_cpu.iter().zip(&before.per_cpu).any(|(now, then)| went_back(now, then)) {
            return None;
        }
        let cpus = self.per_cpu.iter().zip(&before.per_cpu);
        let moved: Vec<_> = cpus.map(|(now, then)| now.since(then)).collect();
        let count_change = self.count.cast_signed().saturating_sub(before.count.cast_signed());
        Some(Rates { since, window_ms, count_change, statistics: sum(&moved) })
    }
}

/// A counter that wrapped at 32 bits is a little ahead, modulo those; one that began anew is far.
fn went_back(now: &Statistics, then: &Statistics) -> bool {
    now.since(then).iter().any(|(_, moved)| moved > u64::from(u32::MAX / 2))
}

fn sum(per_cpu: &[Statistics]) -> Statistics {
    per_cpu.iter().fold(Statistics::default(), |mut total, cpu| {
        total.add(cpu);
        total
    })
}

type Reading = Result<(Beat, Option<Gap>), Error>;

/// Reads every namespace on one helper thread, in turn; each is open only for its visit.
fn read_all(targets: &[Target]) -> Result<Vec<(u64, Reading)>, ObserveError> {
    let mut readings = Vec::with_capacity(targets.len());
    let mut opened = Vec::with_capacity(targets.len());
    let handles = targets.iter().filter_map(|target| match target.open() {
        Ok(handle) => {
            opened.push(target.inode());
            Some(handle)
        }
        Err(error) => {
            readings.push((target.inode(), Err(error)));
            None
        }
    });
    let visited = netns::visit(handles, read_one)?;
    let flattened = visited.into_iter().map(|outcome| outcome.and_then(|reading| reading));
    readings.extend(opened.into_iter().zip(flattened));
    Ok(readings)
}

fn read_one(namespace: &netns::Namespace) -> Reading {
    match Conntrack::open() {
        Ok(mut table) => read_netlink(namespace, &mut table),
        Err(error @ Error::Unavailable { .. }) => read_proc(error),
        Err(error) => Err(error),
    }
}

fn read_netlink(namespace: &netns::Namespace, table: &mut Conntrack) -> Reading {
    let global = table.count_and_limit()?;
    // Older kernels send no limit with the count.
    let limit = global.limit.map(u64::from).or_else(|| sysctl::read(sysctl::LIMIT).ok());
    let (per_cpu, gap) = match table.statistics() {
        Ok(per_cpu) => (per_cpu, None),
        Err(error) => (Vec::new(), gaps::of_statistics(&error, namespace.inode())),
    };
    let gap = gap.or_else(|| limit.is_none().then(|| gaps::unknown_limit(namespace.inode())));
    let expectations = if global.entries > 0 { expectations(table) } else { None };
    Ok((Beat { expectations, ..Beat::now(u64::from(global.entries), limit, per_cpu) }, gap))
}

/// What helpers expect. Each expectation has a master, which is an entry: without entries there are
/// none. A kernel that does not count them has nothing to say about them.
fn expectations(table: &mut Conntrack) -> Option<Expectations> {
    let count = u64::from(table.expectation_count().ok().filter(|count| *count > 0)?);
    Some(Expectations { count, limit: sysctl::read(EXPECTATION_LIMIT).ok()? })
}

/// Without the kernel's netlink interface, which asking would load, `/proc` still tells the numbers.
fn read_proc(unavailable: Error) -> Reading {
    let Ok(count) = sysctl::read(COUNT) else { return Err(unavailable) };
    let (per_cpu, gap) = match statistics::per_cpu() {
        Ok(per_cpu) => (per_cpu, None),
        Err(gap) => (Vec::new(), Some(gap)),
    };
    Ok((Beat::now(count, sysctl::read(sysctl::LIMIT).ok(), per_cpu), gap))
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Statistic;

    use super::*;

    fn beat(at_ms: u64, count: u64, drops: u64) -> Beat {
        let mut cpu = Statistics::default();
        cpu.set(Statistic::Drop, drops);
        Beat {
            at_ms,
            initial: true,
            count,
            limit: Limit(1000),
            per_cpu: vec![cpu],
            expectations: None,
        }
    }

    fn pulse(boot_id: &str, beats: &[(u64, Beat)]) -> Pulse {
        Pulse { boot_id: boot_id.to_owned(), beats: beats.iter().cloned().collect() }
    }

    #[test]
    fn rates_are_differences_over_the_time_between() {
        let rates = beat(3000, 900, 15).rates(&beat(1000, 950, 5), EvidenceSource::Window).unwrap();
        assert_eq!((rates.window_ms, rates.count_change), (2000, -50));
        assert_eq!(rates.statistics.value(Statistic::Drop), 10);
    }

    #[test]
    fn counters_that_began_anew_are_another_namespaces() {
        let fresh = beat(3000, 0, 0);
        assert_eq!(fresh.rates(&beat(1000, 500, 1000), EvidenceSource::LastRun), None);
        let wrapped = beat(3000, 0, 3);
        let before = beat(1000, 0, u64::from(u32::MAX) - 1);
        let rates = wrapped.rates(&before, EvidenceSource::LastRun).unwrap();
        assert_eq!(rates.statistics.value(Statistic::Drop), 5);
    }

    #[test]
    fn a_clock_that_went_back_gives_no_rates() {
        assert_eq!(beat(1000, 0, 0).rates(&beat(3000, 0, 0), EvidenceSource::LastRun), None);
    }

    #[test]
    fn another_boots_note_is_not_compared_nor_kept() {
        let before = pulse("yesterday", &[(1, beat(1000, 0, 0)), (2, beat(1000, 0, 0))]);
        let mut now = pulse("today", &[(1, beat(2000, 5, 5))]);
        now.keep_unseen(&before);
        assert_eq!(now.beats.len(), 1);
        let mut same = pulse("yesterday", &[(1, beat(2000, 5, 5))]);
        same.keep_unseen(&before);
        assert_eq!((same.beats.len(), same.beats[&1].count), (2, 5));
    }

    #[test]
    fn a_pulse_survives_its_note() {
        let before = pulse("boot", &[(7, beat(1000, 3, 4))]);
        let json = serde_json::to_vec(&before).unwrap();
        assert_eq!(serde_json::from_slice::<Pulse>(&json).unwrap(), before);
    }
}
