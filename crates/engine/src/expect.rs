//! Expectations: connections that are awaited because another one announced them
//! (`nf_conntrack_expect.c`, Linux 6.12; 6.1 decides alike).
//!
//! Pure data: which connections exist, and whether they are confirmed, is told by the caller.

use std::collections::BTreeMap;

use ctkeeper_flow::{ExpectationFlags, Family};
use serde::{Deserialize, Serialize};

use crate::outcome::Handle;
use crate::time::Ticks;
use crate::tuple::Tuple;

/// Which bits of an expected tuple's source count. Its destination counts whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mask {
    /// Of the address.
    pub source: u128,
    /// Of the port.
    pub source_id: u16,
}

impl Mask {
    /// The address counts, the port does not.
    pub const ADDRESS: Self = Self { source: u128::MAX, source_id: 0 };

    /// Nothing of the source counts.
    pub const ANY: Self = Self { source: 0, source_id: 0 };

    const fn both(self, other: Self) -> Self {
        Self { source: self.source & other.source, source_id: self.source_id & other.source_id }
    }

    /// Whether two tuples are equal as far as this mask looks (`nf_ct_tuple_mask_cmp`).
    const fn finds_equal(self, one: &Tuple, other: &Tuple) -> bool {
        (one.source ^ other.source) & self.source == 0
            && (one.source_id ^ other.source_id) & self.source_id == 0
            && one.destination == other.destination
            && one.destination_id == other.destination_id
            && one.protocol == other.protocol
            && matches!(
                (one.family, other.family),
                (Family::Ipv4, Family::Ipv4) | (Family::Ipv6, Family::Ipv6)
            )
    }
}

/// A connection to come, as a helper announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What is expected, in the direction of its first packet.
    pub tuple: Tuple,
    /// How much of its source counts.
    pub mask: Mask,
    /// Which of the helper's kinds of expectation it is: its [`Policy`].
    pub class: u8,
    /// `NF_CT_EXPECT_*`.
    pub flags: ExpectationFlags,
    /// Number of the helper of the connection to come; 0 for none.
    pub helper: u16,
}

/// What a helper allows one connection in a class (`struct nf_conntrack_expect_policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Expectations at a time, beyond which the oldest goes; 0 for any number.
    pub maximum: u32,
    /// How long they are awaited.
    pub timeout: Ticks,
}

/// Why an expectation was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another connection expects what the same packet could meet (`EBUSY`).
    #[error("another expectation would be met by the same packet")]
    Busy,
    /// The same is expected by the same connection in another class (`EALREADY`).
    #[error("the same is expected in another class")]
    Already,
    /// The namespace has as many expectations as it may (`EMFILE`).
    #[error("the namespace's table of expectations is full")]
    Full,
}

/// Where an expectation belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The connection that announced it, whose end ends it.
    pub(crate) master: Handle,
    pub(crate) namespace: u16,
    /// Id of the master's zone; directions do not count here.
    pub(crate) zone: u16,
}

/// An expectation of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expectation {
    pub(crate) announcement: Announcement,
    pub(crate) origin: Origin,
    pub(crate) deadline: Ticks,
    /// Tells it from all others; never 0.
    pub(crate) id: u32,
}

impl Expectation {
    const fn is_expired(&self, now: Ticks) -> bool {
        self.deadline.is_due(now)
    }

    /// Whether the announcement comes from the same connection and says the same.
    fn repeats(&self, announcement: &Announcement, origin: Origin) -> bool {
        let Announcement { tuple, mask, .. } = self.announcement;
        self.origin == origin && tuple == announcement.tuple && mask == announcement.mask
    }

    /// Whether one packet could meet both (`expect_clash`).
    fn clashes(&self, announcement: &Announcement, origin: Origin) -> bool {
        let mask = self.announcement.mask.both(announcement.mask);
        self.origin.zone == origin.zone
            && mask.finds_equal(&self.announcement.tuple, &announcement.tuple)
    }

    /// Whether a packet of this tuple meets it.
    fn awaits(&self, tuple: &Tuple, zone: u16) -> bool {
        let Announcement { tuple: expected, mask, flags, .. } = &self.announcement;
        let inactive = flags.contains(ExpectationFlags::INACTIVE);
        !inactive && self.origin.zone == zone && mask.finds_equal(expected, tuple)
    }
}

/// What has happened to expectations, as the kernel's statistics count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Put into the table (`expect_create`).
    pub(crate) created: u64,
    /// Taken out of it for whatever reason (`expect_delete`).
    pub(crate) deleted: u64,
}

/// The expectations of all namespaces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expectations {
    /// How many each namespace may have.
    limit: u32,
    places: Vec<Option<Expectation>>,
    free: Vec<u32>,
    /// Places by what every packet that meets them has in common, the newest last.
    by_destination: BTreeMap<Destination, Vec<u32>>,
    /// Places by line and id of the master, the newest last.
    by_master: BTreeMap<(u32, u32), Vec<u32>>,
    /// By namespace.
    held: Vec<u32>,
    counts: Vec<Counts>,
    last_id: u32,
}

/// Namespace, whether of IPv6, protocol, address, port.
type Destination = (u16, bool, u8, u128, u16);

const fn destination(namespace: u16, tuple: &Tuple) -> Destination {
    let Tuple { family, protocol, destination, destination_id, .. } = *tuple;
    (namespace, matches!(family, Family::Ipv6), protocol, destination, destination_id)
}

const fn key(master: Handle) -> (u32, u32) {
    (master.line, master.id)
}

impl Expectations {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, ..Self::default() }
    }

    /// How many a namespace has, expired ones included that nothing has met yet. Where it has
    /// none, [`Self::meet`] need not be called.
    #[inline]
    pub(crate) fn held(&self, namespace: u16) -> u32 {
        self.held.get(usize::from(namespace)).copied().unwrap_or_default()
    }

    /// All that are awaited in a namespace.
    pub(crate) fn of_namespace(
        &self,
        namespace: u16,
        now: Ticks,
    ) -> impl Iterator<Item = &Expectation> {
        let all = self.places.iter().flatten();
        all.filter(move |one| one.origin.namespace == namespace && !one.is_expired(now))
    }

    /// Takes an expectation in (`__nf_ct_expect_check`, `nf_ct_expect_insert`) and tells its id.
    ///
    /// One that repeats another of the same connection replaces it.
    ///
    /// # Errors
    /// [`Refused`]; what was met on the way as expired, replaced or evicted is gone nevertheless.
    pub(crate) fn expect(
        &mut self,
        now: Ticks,
        origin: Origin,
        announcement: Announcement,
        policy: Policy,
    ) -> Result<u32, Refused> {
        self.make_way(now, origin, &announcement)?;
        let class = announcement.class;
        if policy.maximum != 0 && self.held_in_class(origin.master, class) >= policy.maximum {
            self.evict_oldest(now, origin.master, class, policy.maximum);
        }
        if self.held(origin.namespace) >= self.limit {
            return Err(Refused::Full);
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let (deadline, id) = (now + policy.timeout, self.last_id);
        self.insert(Expectation { announcement, origin, deadline, id });
        Ok(id)
    }

    /// The expectation that a new connection meets (`nf_ct_find_expectation`); it is used up by
    /// that unless it is permanent.
    ///
    /// `zone` is the id of the new packet's zone. `stands` tells whether a master is confirmed and
    /// not dying: one that is not has announced nothing, and its expectation is kept.
    pub(crate) fn meet(
        &mut self,
        now: Ticks,
        namespace: u16,
        zone: u16,
        tuple: &Tuple,
        stands: impl FnOnce(Handle) -> bool,
    ) -> Option<Expectation> {
        let candidates = self.by_destination.get(&destination(namespace, tuple))?.clone();
        for place in candidates.into_iter().rev() {
            let Some(expectation) = self.at(place) else { continue };
            if expectation.is_expired(now) {
                self.unlink(place);
            } else if expectation.awaits(tuple, zone) {
                let met = stands(expectation.origin.master).then_some(expectation)?;
                if !met.announcement.flags.contains(ExpectationFlags::PERMANENT) {
                    self.unlink(place);
                }
                return Some(met);
            }
        }
        None
    }

    /// Forgets what a connection expected: it ends (`nf_ct_remove_expectations`).
    pub(crate) fn remove_of(&mut self, master: Handle) {
        for place in self.places_of(master) {
            self.unlink(place);
        }
    }

    /// Forgets what a connection expected in vain: the collector meets it
    /// (`nf_ct_expectation_gc`, for connections with [`Status::HELPER`](ctkeeper_flow::Status)).
    pub(crate) fn collect_of(&mut self, master: Handle, now: Ticks) {
        for place in self.places_of(master) {
            if self.at(place).is_some_and(|one| one.is_expired(now)) {
                self.unlink(place);
            }
        }
    }

    /// Removes what the announcement replaces.
    fn make_way(
        &mut self,
        now: Ticks,
        origin: Origin,
        announcement: &Announcement,
    ) -> Result<(), Refused> {
        let key = destination(origin.namespace, &announcement.tuple);
        let others = self.by_destination.get(&key).cloned().unwrap_or_default();
        for place in others.into_iter().rev() {
            let Some(other) = self.at(place) else { continue };
            if other.is_expired(now) {
                self.unlink(place);
            } else if other.repeats(announcement, origin) {
                if other.announcement.class != announcement.class {
                    return Err(Refused::Already);
                }
                self.unlink(place);
                return Ok(());
            } else if other.clashes(announcement, origin) {
                return Err(Refused::Busy);
            }
        }
        Ok(())
    }

    /// Drops the oldest of a class, if dropping the expired ones of all classes was not enough.
    fn evict_oldest(&mut self, now: Ticks, master: Handle, class: u8, maximum: u32) {
        self.collect_of(master, now);
        if self.held_in_class(master, class) < maximum {
            return;
        }
        let is_of_class =
            |place: &u32| self.at(*place).is_some_and(|one| one.announcement.class == class);
        if let Some(oldest) = self.places_of(master).into_iter().find(is_of_class) {
            self.unlink(oldest);
        }
    }

    fn held_in_class(&self, master: Handle, class: u8) -> u32 {
        let places = self.by_master.get(&key(master)).into_iter().flatten();
        let of_class = places.filter_map(|&place| self.at(place));
        of_class.filter(|one| one.announcement.class == class).count() as u32
    }

    fn places_of(&self, master: Handle) -> Vec<u32> {
        self.by_master.get(&key(master)).cloned().unwrap_or_default()
    }

    fn at(&self, place: u32) -> Option<Expectation> {
        self.places.get(place as usize).copied().flatten()
    }

    fn insert(&mut self, expectation: Expectation) {
        let Origin { master, namespace, .. } = expectation.origin;
        let destination = destination(namespace, &expectation.announcement.tuple);
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        if let Some(slot) = self.places.get_mut(place as usize) {
            *slot = Some(expectation);
        }
        self.by_destination.entry(destination).or_default().push(place);
        self.by_master.entry(key(master)).or_default().push(place);
        let (held, counts) = self.tallies(namespace);
        *held += 1;
        counts.created += 1;
    }

    fn unlink(&mut self, place: u32) {
        let slot = self.places.get_mut(place as usize);
        let Some(expectation) = slot.and_then(Option::take) else { return };
        let Origin { master, namespace, .. } = expectation.origin;
        let destination = destination(namespace, &expectation.announcement.tuple);
        drop_from(&mut self.by_destination, &destination, place);
        drop_from(&mut self.by_master, &key(master), place);
        self.free.push(place);
        let (held, counts) = self.tallies(namespace);
        *held -= 1;
        counts.deleted += 1;
    }

    fn tallies(&mut self, namespace: u16) -> (&mut u32, &mut Counts) {
        let namespace = usize::from(namespace);
        if self.held.len() <= namespace {
            self.held.resize(namespace + 1, 0);
            self.counts.resize(namespace + 1, Counts::default());
        }
        (&mut self.held[namespace], &mut self.counts[namespace])
    }
}

/// What an image keeps.
impl Expectations {
    /// All of them, the oldest first, and the last id that was given.
    pub(crate) fn in_order(&self) -> (Vec<&Expectation>, u32) {
        let mut all: Vec<_> = self.places.iter().flatten().collect();
        // Ids begin anew after the largest: the one after the last is the oldest.
        all.sort_by_key(|one| one.id.wrapping_sub(self.last_id).wrapping_sub(1));
        (all, self.last_id)
    }

    /// What has happened, by namespace, up to the last where anything has.
    pub(crate) fn all_counts(&self) -> &[Counts] {
        &self.counts
    }

    /// Puts one back that stood behind those already there.
    pub(crate) fn put_back(&mut self, expectation: Expectation) {
        self.insert(expectation);
    }

    /// Goes on counting, of ids and in a namespace.
    pub(crate) fn resume(&mut self, last_id: u32, counts: &[Counts]) {
        self.last_id = last_id;
        if self.counts.len() < counts.len() {
            self.held.resize(counts.len(), 0);
            self.counts.resize(counts.len(), Counts::default());
        }
        for (mine, counts) in self.counts.iter_mut().zip(counts) {
            *mine = *counts;
        }
    }
}

/// Takes a place out of a list, and the list away when that was the last.
fn drop_from<Key: Ord>(lists: &mut BTreeMap<Key, Vec<u32>>, key: &Key, place: u32) {
    let Some(list) = lists.get_mut(key) else { return };
    list.retain(|&other| other != place);
    if list.is_empty() {
        lists.remove(key);
    }
}

#[cfg(test)]
mod tests;
