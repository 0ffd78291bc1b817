//! Which interfaces of all namespaces are on one wire: veth pairs, ports of a bridge, macvlan and
//! ipvlan on what they stand on.
//!
//! An interface tells its other end's index and the number by which its namespace knows the one of
//! that end. Indexes are alike in all namespaces and numbers differ in each, so that a pair is
//! believed only when the kernel confirms the number.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use ctkeeper_netlink::links::{Link, PeerNamespace};

use super::places::{Kind, Places};

/// Namespaces in which the interface below a macvlan is looked for, at most.
const CANDIDATES: usize = 16;

/// An interface of a namespace: inode and index.
pub(super) type End = (u64, u32);

/// Whether a namespace knows another one by a number.
pub(super) trait Prove {
    /// Whether `from` knows `other` by this number.
    fn knows(&mut self, from: u64, number: u32, other: u64) -> bool;
}

/// The wires.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    wires: HashMap<End, usize>,
    ends: Vec<Vec<End>>,
    /// Of each wire, whether all ends of it are on this host.
    closed: Vec<bool>,
    /// Ends of veth pairs whose other ends are not among the namespaces.
    pub(super) unseen: usize,
}

impl Wiring {
    /// Finds them.
    pub(super) fn of(all: &BTreeMap<u64, Places>, prover: &mut impl Prove) -> Self {
        let mut joints = Joints::default();
        for (inode, places) in all {
            places.links.iter().for_each(|link| {
                joints.root((*inode, link.index));
            });
            join_at_home(*inode, places, &mut joints);
        }
        let resolved = join_pairs(all, prover, &mut joints);
        let resolved_children = join_children(all, prover, &mut joints);
        let is_closed = |end: End, link: &Link| {
            let known = !link.is_foreign() || resolved.contains(&end);
            link.stays_inside() && (known || resolved_children.contains(&end))
        };
        let pairs = all.values().flat_map(|places| &places.links);
        let pairs = pairs.filter(|link| link.is("veth") && link.is_foreign()).count();
        let unseen = pairs.saturating_sub(resolved.len());
        Self { unseen, ..joints.into_wiring(all, is_closed) }
    }

    /// The wire that an interface is on.
    pub(super) fn wire(&self, end: End) -> Option<usize> {
        self.wires.get(&end).copied()
    }

    /// The interfaces on a wire.
    pub(super) fn ends(&self, wire: usize) -> &[End] {
        self.ends.get(wire).map_or(&[], Vec::as_slice)
    }

    /// Whether a wire leads to nobody who is not seen: no network card, no tunnel, no virtual machine,
    /// no namespace out of sight.
    pub(super) fn is_closed(&self, wire: usize) -> bool {
        self.closed.get(wire).copied().unwrap_or(false)
    }
}

/// Ports with their bridge, interfaces with what they hang on in the same namespace.
fn join_at_home(inode: u64, places: &Places, joints: &mut Joints) {
    for link in &places.links {
        let end = (inode, link.index);
        let master = link.master.and_then(|index| places.link(index));
        if let Some(master) = master.filter(|master| master.is_switch()) {
            joints.join(end, (inode, master.index));
        }
        let peer = link.peer.filter(|_| !link.is_foreign() && (link.is("veth") || link.is_child()));
        if let Some(peer) = peer.and_then(|peer| places.link(peer)) {
            joints.join(end, (inode, peer.index));
        }
    }
}

/// The two ends of veth pairs, beginning where most of them end, so that few namespaces have to be
/// asked. Returns those whose other end was found.
fn join_pairs(
    all: &BTreeMap<u64, Places>,
    prover: &mut impl Prove,
    joints: &mut Joints,
) -> HashSet<End> {
    let is_pair = |link: &&Link| link.is("veth") && link.is_foreign();
    let pairs = |places: &Places| places.links.iter().filter(is_pair).count();
    let mut crowded: Vec<_> = all.iter().collect();
    crowded.sort_by_key(|(_, places)| Reverse(pairs(places)));
    // By own index and the other end's.
    let mut by_indexes: HashMap<(u32, u32), Vec<(u64, PeerNamespace)>> = HashMap::new();
    for (inode, places) in all {
        for link in places.links.iter().filter(is_pair) {
            let indexes = (link.index, link.peer.unwrap_or_default());
            by_indexes.entry(indexes).or_default().push((*inode, link.peer_namespace));
        }
    }
    let mut resolved = HashSet::new();
    for (inode, places) in crowded {
        for link in places.links.iter().filter(is_pair) {
            let (end, peer) = ((*inode, link.index), link.peer.unwrap_or_default());
            if resolved.contains(&end) {
                continue;
            }
            let candidates = by_indexes.get(&(peer, link.index)).map_or(&[][..], Vec::as_slice);
            let other = candidates.iter().find(|(other, back)| {
                other != inode && are_mutual(prover, (*inode, link.peer_namespace), (*other, *back))
            });
            if let Some((other, _)) = other {
                joints.join(end, (*other, peer));
                resolved.extend([end, (*other, peer)]);
            }
        }
    }
    resolved
}

/// Whether two namespaces, each with the number by which it knows the other end's, are each other's.
fn are_mutual(
    prover: &mut impl Prove,
    one: (u64, PeerNamespace),
    two: (u64, PeerNamespace),
) -> bool {
    match (one, two) {
        ((from, PeerNamespace::Other(number)), (other, _))
        | ((other, _), (from, PeerNamespace::Other(number))) => prover.knows(from, number, other),
        _ => false,
    }
}

/// macvlan, ipvlan and VLANs that stand on an interface of another namespace. Returns those whose
/// interface was found.
fn join_children(
    all: &BTreeMap<u64, Places>,
    prover: &mut impl Prove,
    joints: &mut Joints,
) -> HashSet<End> {
    let mut resolved = HashSet::new();
    let mut largest: Vec<_> = all.iter().collect();
    largest.sort_by_key(|(_, places)| (!places.is_initial, Reverse(places.links.len())));
    for (inode, places) in all {
        for link in places.links.iter().filter(|link| link.is_child() && link.is_foreign()) {
            let (Some(below), PeerNamespace::Other(number)) = (link.peer, link.peer_namespace)
            else {
                continue;
            };
            let has_it = |other: &Places| other.link(below).is_some_and(|link| !link.is_loopback);
            let candidates =
                largest.iter().filter(|(other, places)| *other != inode && has_it(places));
            let found = candidates
                .take(CANDIDATES)
                .find(|(other, _)| prover.knows(*inode, number, **other));
            if let Some((other, _)) = found {
                joints.join((*inode, link.index), (**other, below));
                resolved.insert((*inode, link.index));
            }
        }
    }
    resolved
}

/// Interfaces that are joined: a forest whose roots stand for whole wires.
#[derive(Debug, Default)]
struct Joints {
    numbers: HashMap<End, usize>,
    ends: Vec<End>,
    above: Vec<usize>,
}

impl Joints {
    fn root(&mut self, end: End) -> usize {
        let next = self.ends.len();
        let mut at = *self.numbers.entry(end).or_insert(next);
        if at == next {
            self.ends.push(end);
            self.above.push(next);
        }
        while let Some(above) = self.above.get(at).copied().filter(|above| *above != at) {
            let further = self.above.get(above).copied().unwrap_or(above);
            if let Some(place) = self.above.get_mut(at) {
                *place = further;
            }
            at = further;
        }
        at
    }

    fn join(&mut self, one: End, two: End) {
        let (one, two) = (self.root(one), self.root(two));
        if let Some(place) = self.above.get_mut(one) {
            *place = two;
        }
    }

    fn into_wiring(
        mut self,
        all: &BTreeMap<u64, Places>,
        is_closed: impl Fn(End, &Link) -> bool,
    ) -> Wiring {
        let mut wiring = Wiring::default();
        let mut numbers = HashMap::new();
        for (inode, places) in all {
            for link in places.links.iter().filter(|link| !link.is_loopback) {
                let end = (*inode, link.index);
                let next = wiring.ends.len();
                let wire = *numbers.entry(self.root(end)).or_insert(next);
                if wire == next {
                    wiring.ends.push(Vec::new());
                    wiring.closed.push(true);
                }
                wiring.wires.insert(end, wire);
                wiring.ends[wire].push(end);
                wiring.closed[wire] &= is_closed(end, link);
            }
        }
        wiring
    }
}
