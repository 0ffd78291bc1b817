//! Names the holders of namespaces in trouble, for the snapshot.

use ctkeeper_census::{Counter, TableFacts};
use ctkeeper_host::machine;
use ctkeeper_host::roster::Reader;
use ctkeeper_host::runtimes::{BUDGET, Directory};
use ctkeeper_snapshot::{
    Figure, Gap, Holder, HolderShare, Key, Namespace, Roster, Row, Sample, Value,
};

use super::{add_sockets, clock, read_roster};
use crate::doubles::Trace;
use crate::targets::Target;

/// From this share of the limit on it matters who holds the table.
const NEARLY_FULL: f64 = 0.5;
/// Holders named.
const NAMED: usize = 5;

/// Names who holds most of each traced namespace that is half full, or refuses. Whoever has a
/// namespace for himself holds all of it.
pub(crate) fn name_holders(
    namespaces: &mut [Namespace],
    targets: &[Target],
    traces: &[Trace],
) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let is_worth_it = |namespace: &&mut Namespace| {
        let rates = namespace.rates.as_ref();
        namespace.share() >= Some(NEARLY_FULL) || rates.is_some_and(|r| r.refused_when_full() > 0)
    };
    let mut worth: Vec<_> = namespaces.iter_mut().filter(is_worth_it).collect();
    if worth.is_empty() {
        return gaps;
    }
    let mut directory = Directory::new(Vec::new(), BUDGET);
    let mut reader = Reader::default();
    let mut roster = read_roster(&mut directory, &mut reader, &[], &mut gaps);
    for namespace in &mut worth {
        let inode = namespace.inode;
        let trace = traces.iter().find(|trace| trace.inode == inode);
        let target = targets.iter().find(|target| target.inode() == inode);
        let (Some(trace), Some(target)) = (trace, target) else { continue };
        let flows = Some(trace.flows.as_slice());
        gaps.extend(add_sockets(&mut reader, &mut roster, directory.names(), target, flows));
        namespace.holders = holders(namespace, trace, &roster);
    }
    gaps
}

fn holders(namespace: &Namespace, trace: &Trace, roster: &Roster) -> Vec<HolderShare> {
    let Some(mut counter) = Counter::new(&[Key::Holder], roster) else { return Vec::new() };
    let facts = TableFacts {
        inode: namespace.inode,
        name: namespace.label(),
        count: namespace.count,
        limit: namespace.limit,
    };
    let owner = roster.views.get(&namespace.inode).and_then(|view| view.owner);
    if let Some(owner) = owner {
        counter.add_owned(facts, owner);
    } else {
        let now = clock(machine::boottime_ms(), namespace.timeouts.as_ref());
        let mut table = counter.table(facts, now);
        for flow in &trace.flows {
            table.add(flow);
        }
        table.finish(namespace.sample.as_ref().is_some_and(|Sample { exact, .. }| *exact));
    }
    let all = namespace.count.max(1) as f64;
    counter.rows(NAMED, None).rows.iter().filter_map(|row| share(row, all)).collect()
}

fn share(row: &Row, all: f64) -> Option<HolderShare> {
    let Some(Value::Holder(holder)) = row.values.first() else { return None };
    let Figure { value, low, high } = row.entries;
    let holder: Holder = holder.clone();
    Some(HolderShare { holder, share: value / all, margin: (high - low) / 2.0 / all })
}
