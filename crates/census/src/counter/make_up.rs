//! What a row's entries are made of.

use ctkeeper_flow::Flow;
use ctkeeper_snapshot::{MakeUp, Network, Peer, Roster};

use crate::LOCKED_SECONDS;
use crate::attribution::{Attribution, HolderRef, PeerRef, Way};
use crate::idle::Idle;

/// Idle times that are kept of a row: its first ones, which are as random as all of them since
/// entries come in the order of a keyed hash.
const IDLE_TIMES: usize = 511;
/// Peers that are kept of a row: whoever has more than one in eight is among them.
const PEERS: usize = 8;
/// Entries of a row whose peers are counted, its first ones: their shares are known to a point and a
/// half.
const PEERS_OF: u64 = 4096;
/// A peer with less than one in so many of the entries is not worth naming.
const WORTH_NAMING: u64 = 20;

/// Counts that every row has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shares {
    pub(super) entries: u64,
    locked: u32,
    evictable: u32,
    /// By [`Way`].
    ways: [u32; 4],
}

impl Shares {
    #[inline]
    pub(super) fn add(&mut self, flow: &Flow, way: Way) {
        let lives_on = flow.timeout.is_none_or(|seconds| seconds > LOCKED_SECONDS);
        let is_locked = flow.is_assured() && lives_on && !flow.state.is_closing();
        self.entries += 1;
        self.locked += u32::from(is_locked);
        self.evictable += u32::from(!flow.is_assured());
        self.ways[way as usize] += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.entries += other.entries;
        self.locked += other.locked;
        self.evictable += other.evictable;
        for (way, other) in self.ways.iter_mut().zip(other.ways) {
            *way += other;
        }
    }

    /// `None` when nothing was looked at.
    pub(super) fn make_up(&self, detail: Option<&Detail>, roster: &Roster) -> Option<MakeUp> {
        if self.entries == 0 {
            return None;
        }
        let share = |part: u32| f64::from(part) / self.entries as f64;
        let way = |way: Way| share(self.ways[way as usize]);
        Some(MakeUp {
            entries: self.entries,
            locked: share(self.locked),
            evictable: share(self.evictable),
            incoming: way(Way::Incoming),
            outgoing: way(Way::Outgoing),
            forwarded: way(Way::Forwarded),
            local: way(Way::Local),
            idle_median: detail.and_then(Detail::idle_median),
            top_peer: detail.and_then(|detail| detail.top_peer(roster, self.entries)),
            ghosts: None,
        })
    }
}

/// What is kept of rows that are worth it.
#[derive(Clone, Debug, Default)]
pub(super) struct Detail {
    looked_at: u64,
    idle: Vec<u32>,
    peers: Largest<PeerRef>,
    networks: Largest<Network>,
}

impl Detail {
    #[inline]
    pub(super) fn add(&mut self, attribution: &Attribution, idle: Option<Idle>) {
        if self.idle.len() < IDLE_TIMES {
            self.idle.extend(idle.and_then(Idle::known));
        }
        if self.looked_at == PEERS_OF {
            return;
        }
        self.looked_at += 1;
        self.peers.add(attribution.peer);
        if let PeerRef::Address(address) = attribution.peer {
            self.networks.add(Network::around(address));
        }
    }

    fn idle_median(&self) -> Option<u32> {
        let mut idle = self.idle.clone();
        let middle = idle.len().checked_sub(1)? / 2;
        Some(*idle.select_nth_unstable(middle).1)
    }

    /// Whom most of a row's entries are with, and how many: a block of addresses where none of them
    /// has most of it.
    fn top_peer(&self, roster: &Roster, of: u64) -> Option<(Peer, u64)> {
        let peer = self.peers.largest();
        let network = self.networks.largest();
        let addresses = match peer {
            Some((PeerRef::Address(_), entries)) => entries,
            _ => 0,
        };
        let (peer, entries) = match (peer, network) {
            (peer, Some((network, entries)))
                if entries > peer.map_or(0, |(_, entries)| entries) && entries > 2 * addresses =>
            {
                (Peer::Network(network), entries)
            }
            (peer, _) => {
                let (peer, entries) = peer?;
                (named(peer, roster), entries)
            }
        };
        let is_worth =
            entries == self.looked_at || (entries >= 2 && entries * WORTH_NAMING >= self.looked_at);
        let late = of.saturating_sub(self.looked_at);
        let unseen = late * entries / self.looked_at.max(1);
        is_worth.then_some((peer, entries + unseen))
    }
}

fn named(peer: PeerRef, roster: &Roster) -> Peer {
    match peer {
        PeerRef::Holder(index) => Peer::Holder(HolderRef::Known(index).holder(roster)),
        PeerRef::Address(address) => Peer::Address(address),
        PeerRef::Service(service) => Peer::Service(service),
    }
}

/// The most frequent of many values, by the space-saving algorithm (Metwally, Agrawal and El Abbadi,
/// 2005): of each value that is kept, how often it came at least.
#[derive(Clone, Debug)]
struct Largest<T> {
    /// Value, how often it came at most, and by how much that may be too much.
    kept: Vec<(T, u64, u64)>,
}

impl<T> Default for Largest<T> {
    fn default() -> Self {
        Self { kept: Vec::new() }
    }
}

impl<T: Copy + Ord> Largest<T> {
    #[inline]
    fn add(&mut self, value: T) {
        if let Some((_, most, _)) = self.kept.iter_mut().find(|(kept, ..)| *kept == value) {
            *most += 1;
        } else if self.kept.len() < PEERS {
            self.kept.push((value, 1, 0));
        } else if let Some(least) = self.kept.iter_mut().min_by_key(|(_, most, _)| *most) {
            *least = (value, least.1 + 1, least.1);
        }
    }

    /// The largest, and how often it came at least.
    fn largest(&self) -> Option<(T, u64)> {
        let sure = self.kept.iter().map(|(value, most, error)| (*value, most - error));
        sure.max_by_key(|(value, least)| (*least, std::cmp::Reverse(*value)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ctkeeper_flow::Protocol;
    use ctkeeper_snapshot::Service;

    use super::*;

    fn with(peer: PeerRef) -> Attribution {
        Attribution {
            holder: HolderRef::Outside,
            way: Way::Incoming,
            service: None,
            is_masqueraded: false,
            peer,
        }
    }

    fn top(peers: impl IntoIterator<Item = PeerRef>) -> Option<(Peer, u64)> {
        let mut detail = Detail::default();
        peers.into_iter().for_each(|peer| detail.add(&with(peer), None));
        detail.top_peer(&Roster::default(), detail.looked_at)
    }

    fn client(last: u8) -> PeerRef {
        PeerRef::Address(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn a_crowd_of_one_block_is_the_block() {
        let block = Network::around([192, 0, 2, 0].into());
        assert_eq!(top((0..100).map(client)), Some((Peer::Network(block), 100)));
        let one = Peer::Address([192, 0, 2, 7].into());
        assert_eq!(top((0..100).map(|n| client(if n < 20 { n } else { 7 }))), Some((one, 80)));
    }

    #[test]
    fn nobody_in_particular_is_not_named() {
        let address = |n: u32| PeerRef::Address(IpAddr::from((n * 7919 * 256).to_be_bytes()));
        assert_eq!(top((0..1000).map(address)), None);
        assert_eq!(top((0..2).map(address)), None);
        assert!(top((0..1).map(address)).is_some());
    }

    #[test]
    fn the_frequent_are_found_among_very_many() {
        let port = |n: u32| Service {
            address: [10, 0, 0, 1].into(),
            protocol: Protocol::TCP,
            port: Some(if n.is_multiple_of(3) { 443 } else { n as u16 }),
        };
        let (peer, entries) = top((0..3000).map(|n| PeerRef::Service(port(n)))).unwrap();
        assert_eq!(peer, Peer::Service(port(0)));
        assert!((600..=1001).contains(&entries), "{entries}");
    }

    #[test]
    fn the_median_is_of_known_times() {
        let mut detail = Detail::default();
        for idle in [5, 1, 9] {
            detail.add(&with(client(1)), Some(Idle { least: idle - 1, most: idle }));
        }
        detail.add(&with(client(1)), Some(Idle { least: 0, most: 400_000 }));
        assert_eq!(detail.idle_median(), Some(5));
    }
}
