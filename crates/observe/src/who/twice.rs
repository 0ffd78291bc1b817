//! Entries that stand in two tables: a container's own namespace tracks what its host tracks.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ctkeeper_census::{Attributor, HolderRef};
use ctkeeper_flow::Flow;
use ctkeeper_netlink::Conntrack;
use ctkeeper_snapshot::{Holder, HolderIndex, Part, Roster, Row, Value};

use super::{Content, Read, clock};
use crate::doubles;

/// Entries sampled of a table that was read whole and not kept.
const SAMPLE: u64 = 5_000;

/// Tells of each row whose holder has entries both in a namespace of his own and in another table how
/// many of the latter stand in his own too: some are looked up there, each by its tuples.
pub(super) fn mark(rows: &mut [Row], read: &[Read], roster: &Roster) {
    let mut samples = BTreeMap::new();
    for row in rows.iter_mut().filter(|row| row.parts.len() > 1) {
        let Some(holder) = holder_of(row, roster) else { continue };
        let is_own = |part: &Part| {
            roster.views.get(&part.inode).is_some_and(|view| view.owner == Some(holder))
        };
        let (own, others): (Vec<&Part>, Vec<&Part>) = row.parts.iter().partition(|p| is_own(p));
        let Some(own) = own.first().and_then(|part| find(read, part.inode)) else { continue };
        let twice: u64 = others
            .into_iter()
            .filter_map(|part| {
                let table = find(read, part.inode)?;
                let sample = samples.entry(part.inode).or_insert_with(|| sample(table));
                let flows = flows_of(table, sample, holder, roster);
                let (asked, found) = doubles::look(&own.target, &flows).ok()?;
                let share = found as f64 / asked.max(1) as f64;
                Some((part.entries.value * share).round() as u64)
            })
            .sum();
        row.twice = Some(twice).filter(|twice| *twice > 0);
    }
}

fn holder_of(row: &Row, roster: &Roster) -> Option<HolderIndex> {
    let [Value::Holder(holder @ (Holder::Container(_) | Holder::Pod(_)))] = row.values.as_slice()
    else {
        return None;
    };
    let known = roster.holders.iter().position(|known| known == holder)?;
    Some(HolderIndex(known as u32))
}

fn find(read: &[Read], inode: u64) -> Option<&Read> {
    read.iter().find(|one| one.facts.inode == inode)
}

/// Entries of a table: those that were kept, or some read anew.
fn sample(read: &Read) -> Cow<'_, [Flow]> {
    match &read.content {
        Content::Sample(flows, _) => Cow::Borrowed(flows),
        Content::Whole => {
            let mut flows = Vec::new();
            // Of what cannot be read nothing is told to be tracked twice.
            let _ = read.target.open().and_then(|handle| {
                Conntrack::open_in(&handle)?.sample(SAMPLE, |flow| flows.push(flow.clone()))
            });
            Cow::Owned(flows)
        }
        Content::Owned(_) | Content::Nothing => Cow::Borrowed(&[]),
    }
}

/// Some entries of a table that are this holder's.
fn flows_of(read: &Read, sample: &[Flow], holder: HolderIndex, roster: &Roster) -> Vec<Flow> {
    let now = clock(read.at_ms, read.timeouts.as_ref());
    let attributor = Attributor::new(roster, read.facts.inode, now);
    let is_his = |flow: &&Flow| attributor.attribute(flow).holder == HolderRef::Known(holder);
    sample.iter().filter(is_his).take(doubles::ASKED).cloned().collect()
}
