//! Entries that two namespaces have of one connection: a container's and its host's.

use std::cmp::Reverse;

use ctkeeper_flow::{Flow, Tuple, Zone};
use ctkeeper_netlink::{Conntrack, Error};
use ctkeeper_snapshot::{Doubles, Namespace};

use crate::targets::Target;

/// Entries of a sample that are looked up elsewhere, at most.
pub(crate) const ASKED: usize = 64;
/// As many without a single one found settle it.
const ENOUGH: u64 = 16;

/// Sampled entries of a namespace.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The namespace's inode.
    pub(crate) inode: u64,
    /// They.
    pub(crate) flows: Vec<Flow>,
}

/// Looks for the traced namespaces' entries in each other and in the initial one. Some lookups of
/// six microseconds each; what cannot be entered is passed over, since it has left its gap already.
pub(crate) fn find(namespaces: &mut [Namespace], targets: &[Target], traces: &[Trace]) {
    for trace in traces {
        let Some(own) = namespaces.iter().position(|n| n.inode == trace.inode) else { continue };
        let rank = rank(&namespaces[own]);
        let is_other = |n: &&Namespace| {
            let is_known = n.initial || traces.iter().any(|trace| trace.inode == n.inode);
            is_known && n.count > 0 && self::rank(n) > rank
        };
        let mut others: Vec<_> = namespaces.iter().filter(is_other).collect();
        others.sort_by_key(|other| Reverse(self::rank(other)));
        let doubles = others.into_iter().filter_map(|other| {
            let target = targets.iter().find(|target| target.inode() == other.inode)?;
            let (asked, found) = look(target, &trace.flows).ok()?;
            Some(Doubles { other: other.inode, asked, found })
        });
        let most = doubles.max_by_key(|doubles| doubles.found);
        namespaces[own].doubles = most.filter(|doubles| doubles.found > 0);
    }
}

/// Of two namespaces with the same entries, the higher is taken for the one that passes them on: it
/// is the initial one, or has those of others as well.
fn rank(namespace: &Namespace) -> (bool, u64, Reverse<u64>) {
    (namespace.initial, namespace.count, Reverse(namespace.inode))
}

/// Entries looked up in a namespace, and those found.
pub(crate) fn look(target: &Target, flows: &[Flow]) -> Result<(u64, u64), Error> {
    let mut table = Conntrack::open_in(&target.open()?)?;
    let (mut asked, mut found) = (0, 0);
    for flow in flows.iter().take(ASKED) {
        asked += 1;
        found += u64::from(has(&mut table, flow)?);
        if asked == ENOUGH && found == 0 {
            break;
        }
    }
    Ok((asked, found))
}

/// Whether a table has the connection too. A lookup finds an entry by the tuple of either direction,
/// in the default zone.
fn has(table: &mut Conntrack, flow: &Flow) -> Result<bool, Error> {
    for tuple in outside(flow) {
        if table.get(&tuple, Zone::default())?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a connection may be called outside of its namespace, likeliest first.
///
/// Whoever passes it on sees what is on the wire. Coming in, that is the original tuple, to which
/// the other namespace may have translated: then it is, turned round, its reply tuple. Going out it
/// is the reply tuple turned round, which the other has as its original one. Without translation
/// inside there are but two.
fn outside(flow: &Flow) -> Vec<Tuple> {
    let mut tuples = Vec::with_capacity(4);
    let candidates =
        [Some(flow.original), Some(flow.reply), flow.original.inverted(), flow.reply.inverted()];
    for tuple in candidates.into_iter().flatten() {
        if !tuples.contains(&tuple) {
            tuples.push(tuple);
        }
    }
    tuples
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Protocol;

    use super::*;

    fn tuple(source: u8, destination: u8) -> Tuple {
        let end = |last| [10, 0, 0, last].into();
        Tuple::with_ports(Protocol::TCP, (end(source), 4000), (end(destination), 80))
    }

    #[test]
    fn without_translation_there_are_two_names() {
        let original = tuple(1, 2);
        let reply = original.inverted().unwrap();
        let flow = Flow { original, reply, ..Flow::default() };
        assert_eq!(outside(&flow), [original, reply]);
    }

    #[test]
    fn translation_inside_makes_more() {
        // A sidecar takes what comes in for itself: the host knows the first, turned round too.
        let flow = Flow { original: tuple(1, 2), reply: tuple(3, 1), ..Flow::default() };
        assert_eq!(outside(&flow).len(), 4);
        assert!(outside(&flow).contains(&tuple(1, 2).inverted().unwrap()));
    }

    #[test]
    fn the_host_and_the_larger_pass_on() {
        let namespace =
            |initial, count, inode| Namespace { initial, count, inode, ..Namespace::default() };
        assert!(rank(&namespace(true, 5, 9)) > rank(&namespace(false, 50, 1)));
        assert!(rank(&namespace(false, 50, 9)) > rank(&namespace(false, 5, 1)));
        assert!(rank(&namespace(false, 5, 1)) > rank(&namespace(false, 5, 9)));
    }
}
