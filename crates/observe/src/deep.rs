//! The closer look at the namespaces that are worth it: a sample of the entries, timeouts, and what
//! turned tracking on.

use ctkeeper_census::Tally;
use ctkeeper_flow::Flow;
use ctkeeper_host::{sysctl, tracking};
use ctkeeper_netlink::{Conntrack, Error, netns};
use ctkeeper_snapshot::{Gap, Namespace, Sample, Statistic, Timeouts, Tracking};

use crate::doubles::{self, Trace};
use crate::targets::Target;
use crate::{gaps, pairs, who};

/// Namespaces that are looked at closely, at most.
const NAMESPACES: usize = 4;
/// Smaller tables are not sampled unless they are half full or something was refused.
const WORTH_SAMPLING: u64 = 1000;
/// Entries that all samples together may walk over. A dump walks the table of all namespaces, at
/// 0.4 us an entry (measured), to find those of one: about 60 ms.
const WALK_BUDGET: u64 = 150_000;

/// What a closer look at one namespace brings.
#[derive(Debug, Default)]
struct Findings {
    sample: Option<Sample>,
    timeouts: Option<Timeouts>,
    tracking: Option<Tracking>,
    /// The entries of the sample.
    flows: Vec<Flow>,
    gaps: Vec<Gap>,
}

/// Looks closely at namespaces where something was refused, and at the largest; what could not be
/// read comes back as gaps.
pub(crate) fn look(namespaces: &mut [Namespace], targets: &[Target], sample: u64) -> Vec<Gap> {
    let total: u64 = namespaces.iter().map(|namespace| namespace.count).sum();
    let mut worth: Vec<_> = namespaces.iter_mut().filter(|n| n.count > 0).collect();
    worth.sort_by_key(|namespace| std::cmp::Reverse((trouble(namespace), namespace.count)));
    let mut budget = WALK_BUDGET;
    let (mut gaps, mut traces) = (Vec::new(), Vec::new());
    for namespace in worth.into_iter().take(NAMESPACES) {
        let walk = walk(namespace, total, sample).filter(|walk| *walk <= budget);
        budget = budget.saturating_sub(walk.unwrap_or(0));
        let size = walk.map_or(0, |_| sample);
        let Some(target) = targets.iter().find(|t| t.inode() == namespace.inode) else { continue };
        let found = target
            .open()
            .and_then(|handle| netns::enter(&handle, |_| inside(namespace.inode, size)));
        match found {
            Ok(found) => {
                namespace.sample = found.sample;
                namespace.timeouts = found.timeouts;
                namespace.tracking = found.tracking;
                traces.push(Trace { inode: namespace.inode, flows: found.flows });
                gaps.extend(found.gaps);
            }
            Err(error) => gaps.extend(gaps::of_namespace(&error, namespace.inode)),
        }
    }
    gaps.extend(who::name_holders(namespaces, targets, &traces));
    doubles::find(namespaces, targets, &traces);
    gaps
}

/// Entries that a sample of this namespace would walk over; `None` when it is not worth it. The
/// walk ends when the sample is full, so it is short where the namespace holds most of the table.
fn walk(namespace: &Namespace, total: u64, sample: u64) -> Option<u64> {
    let worth = namespace.count >= WORTH_SAMPLING
        || namespace.share() >= Some(0.5)
        || trouble(namespace) > Trouble::Invalid;
    let walked = sample.saturating_mul(total) / namespace.count.max(1);
    worth.then(|| walked.min(total))
}

/// What a namespace's counters say of it since the last look, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    None,
    Invalid,
    Refused,
}

fn trouble(namespace: &Namespace) -> Trouble {
    let moved = |statistic| namespace.rates.as_ref().map_or(0, |rates| rates.moved(statistic));
    let refused = [Statistic::Drop, Statistic::InsertFailed, Statistic::EarlyDrop];
    if refused.into_iter().any(|statistic| moved(statistic) > 0) {
        Trouble::Refused
    } else if moved(Statistic::Invalid) > 0 {
        Trouble::Invalid
    } else {
        Trouble::None
    }
}

fn inside(inode: u64, size: u64) -> Findings {
    let mut found = Findings { timeouts: sysctl::timeouts().ok(), ..Findings::default() };
    if size > 0 {
        match take_sample(size, found.timeouts.as_ref()) {
            Ok((mut sample, flows)) => {
                sample.proxies = pairs::find(inode, &flows);
                found.sample = Some(sample);
                found.flows = flows;
            }
            Err(error) => found.gaps.extend(gaps::of_sample(&error, inode)),
        }
    }
    let (tracking, gaps) = tracking::find();
    found.tracking = Some(tracking);
    found.gaps.extend(gaps);
    found
}

/// What a sample holds, and its entries.
fn take_sample(size: u64, timeouts: Option<&Timeouts>) -> Result<(Sample, Vec<Flow>), Error> {
    let mut tally = Tally::new(timeouts);
    let mut flows = Vec::new();
    let dump = Conntrack::open()?.sample(size, |flow| {
        tally.add(flow);
        flows.push(flow.clone());
    })?;
    Ok((tally.finish(dump.complete), flows))
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::{Limit, Statistics};
    use ctkeeper_snapshot::{EvidenceSource, Rates};

    use super::*;

    fn namespace(count: u64, limit: u64) -> Namespace {
        Namespace { count, limit: Limit(limit), ..Namespace::default() }
    }

    #[test]
    fn a_sample_is_short_where_the_namespace_holds_the_table() {
        assert_eq!(walk(&namespace(262_144, 262_144), 262_144, 5000), Some(5000));
        // A tenth of the table: ten times as many are walked over.
        assert_eq!(walk(&namespace(26_214, 262_144), 262_140, 5000), Some(50_000));
        assert_eq!(walk(&namespace(1000, 262_144), 262_144, 5000), Some(262_144));
    }

    #[test]
    fn small_tables_are_sampled_only_when_half_full() {
        assert_eq!(walk(&namespace(999, 262_144), 999, 5000), None);
        assert_eq!(walk(&namespace(999, 1000), 999, 5000), Some(999));
    }

    #[test]
    fn a_small_table_is_sampled_when_something_was_refused() {
        let since_last_look = |statistic| {
            let mut statistics = Statistics::default();
            statistics.set(statistic, 1);
            let since = EvidenceSource::LastRun;
            let rates = Rates { since, window_ms: 1000, count_change: 0, statistics };
            Namespace { rates: Some(rates), ..namespace(100, 262_144) }
        };
        assert_eq!(walk(&since_last_look(Statistic::InsertFailed), 100, 5000), Some(100));
        assert_eq!(walk(&since_last_look(Statistic::Invalid), 100, 5000), None);
        assert!(trouble(&since_last_look(Statistic::Invalid)) > trouble(&namespace(100, 1000)));
    }
}
