//! What becomes of a connection that finds one of its tuples taken when it is to enter the table.
//!
//! Two packets of one flow may both have begun a connection before either was confirmed, or
//! translation may have chosen a tuple that another connection took meanwhile
//! (`nf_ct_resolve_clash`, `net/netfilter/nf_conntrack_core.c`, Linux 6.1 and 6.12).

use ctkeeper_flow::{Direction, Status};

use crate::entry::{Entry, flag};
use crate::index::records::Records;
use crate::settings::Profile;
use crate::time::{TICKS_PER_SECOND, Ticks};
use crate::tuple::protocol;

/// How a clash ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The newcomer is discarded, its packet belongs to this connection and counts for it; counted
    /// as `clash_resolve`.
    Ride(u32),
    /// The newcomer enters with its reply tuple only, after [`enter_by_reply`]; counted as
    /// `clash_resolve`. The kernel tells no event of it.
    EnterByReply,
    /// The packet is dropped; counted as `drop` and `insert_failed`.
    Drop,
}

/// Decides between the connection that has a tuple and the one that wants it.
///
/// `reply_owner` looks for whoever has the newcomer's reply tuple.
pub(crate) fn settle(
    profile: Profile,
    records: &impl Records,
    winner: u32,
    newcomer: u32,
    reply_owner: impl FnOnce() -> Option<u32>,
) -> Settlement {
    if !may_clash(profile, records.entry(winner).protocol) {
        return Settlement::Drop;
    }
    if is_same_flow(profile, records, winner, newcomer) {
        return Settlement::Ride(winner);
    }
    match reply_owner() {
        None => Settlement::EnterByReply,
        Some(owner) if is_same_flow(profile, records, owner, newcomer) => Settlement::Ride(owner),
        Some(_) => Settlement::Drop,
    }
}

/// Makes a record what a connection is that enters by its reply tuple alone: gone in a second
/// whatever comes, never assured.
pub(crate) fn enter_by_reply(entry: &mut Entry, now: Ticks) {
    entry.deadline = (now + Ticks(TICKS_PER_SECOND)).0;
    entry.set(Status::FIXED_TIMEOUT | Status::NAT_CLASH | Status::CONFIRMED);
    entry.flags |= flag::REPLY_ONLY;
}

/// Protocols whose trackers let clashes be settled (`allow_clash` of `nf_conntrack_proto_*.c`).
const fn may_clash(profile: Profile, protocol: u8) -> bool {
    match protocol {
        protocol::TCP | protocol::SCTP | protocol::ICMP | protocol::ICMPV6 => false,
        protocol::GRE => !matches!(profile, Profile::Linux6_1),
        _ => true,
    }
}

/// Whether the newcomer's packet may ride on a connection (`__nf_ct_resolve_clash`).
fn is_same_flow(profile: Profile, records: &impl Records, winner: u32, newcomer: u32) -> bool {
    if profile == Profile::Linux6_1 {
        let entry = records.entry(winner);
        let translation_set_up = Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
        return !entry.has(Status::DYING)
            && (!entry.status().intersects(translation_set_up)
                || is_equal(records, winner, newcomer));
    }
    is_equal(records, winner, newcomer) || is_reverse(records, winner, newcomer)
}

/// Equal tuples, zones and namespaces (`nf_ct_match`).
fn is_equal(records: &impl Records, one: u32, other: u32) -> bool {
    records.entry(one).namespace == records.entry(other).namespace
        && [Direction::Original, Direction::Reply]
            .into_iter()
            .all(|way| ends(records, one, way) == ends(records, other, way))
}

/// The same flow begun from the other side (`nf_ct_match_reverse`).
fn is_reverse(records: &impl Records, one: u32, other: u32) -> bool {
    ends(records, one, Direction::Original) == ends(records, other, Direction::Reply)
        && ends(records, one, Direction::Reply) == ends(records, other, Direction::Original)
}

fn ends(records: &impl Records, line: u32, direction: Direction) -> (crate::Tuple, u16) {
    (records.tuple(line, direction), records.entry(line).zone_in(direction))
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Family;

    use super::*;
    use crate::extension::Extensions;
    use crate::index::records::Stored;
    use crate::memory::Arena;
    use crate::tuple::Tuple;

    /// Connections outside any index.
    struct Pair {
        arena: Arena,
        extensions: Extensions,
    }

    const fn tuple(protocol: u8, source_id: u16, destination_id: u16) -> Tuple {
        Tuple {
            source: 0x0a00_0001,
            destination: 0x0a00_0002,
            source_id,
            destination_id,
            protocol,
            family: Family::Ipv4,
        }
    }

    impl Pair {
        fn new() -> Self {
            Self { arena: Arena::new(8).unwrap(), extensions: Extensions::new(8, 1) }
        }

        fn add(&mut self, original: Tuple, reply: Option<Tuple>) -> u32 {
            let line = self.arena.record(&original).unwrap();
            let entry = self.arena.entry_mut(line);
            entry.id = line + 1;
            if let Some(reply) = reply {
                self.extensions.set_reply(line, entry, &reply);
            }
            line
        }

        fn settle(
            &self,
            profile: Profile,
            winner: u32,
            newcomer: u32,
            reply_owner: Option<u32>,
        ) -> Settlement {
            let records = Stored { arena: &self.arena, extensions: &self.extensions };
            settle(profile, &records, winner, newcomer, || reply_owner)
        }
    }

    const PROFILES: [Profile; 3] = [Profile::Linux6_1, Profile::Linux6_12, Profile::Linux6_18];

    #[test]
    fn trackers_with_states_let_no_clash_be_settled() {
        for number in [protocol::TCP, protocol::SCTP, protocol::ICMP, protocol::ICMPV6] {
            let mut pair = Pair::new();
            let [winner, newcomer] = [0; 2].map(|_| pair.add(tuple(number, 1, 8 << 8), None));
            for profile in PROFILES {
                let settled = pair.settle(profile, winner, newcomer, None);
                assert_eq!(settled, Settlement::Drop, "{number} {profile:?}");
            }
        }
    }

    #[test]
    fn gre_is_settled_since_6_12() {
        let mut pair = Pair::new();
        let [winner, newcomer] = [0; 2].map(|_| pair.add(tuple(protocol::GRE, 0, 0), None));
        let settle = |profile| pair.settle(profile, winner, newcomer, None);
        assert_eq!(settle(Profile::Linux6_1), Settlement::Drop);
        assert_eq!(settle(Profile::Linux6_12), Settlement::Ride(winner));
    }

    #[test]
    fn equal_connections_become_one() {
        let mut pair = Pair::new();
        for number in [protocol::UDP, protocol::UDPLITE, 50] {
            let translated = Some(tuple(number, 7, 8));
            let [winner, newcomer] = [0; 2].map(|_| pair.add(tuple(number, 1, 2), translated));
            for profile in PROFILES {
                let settled = pair.settle(profile, winner, newcomer, None);
                assert_eq!(settled, Settlement::Ride(winner), "{number} {profile:?}");
            }
        }
    }

    #[test]
    fn the_reverse_is_the_same_flow_since_6_12() {
        let mut pair = Pair::new();
        let original = tuple(protocol::UDP, 1, 2);
        let winner = pair.add(original, None);
        let newcomer = pair.add(original.inverted().unwrap(), None);
        pair.arena.entry_mut(winner).set(Status::SRC_NAT_DONE);
        let settle = |pair: &Pair, profile| pair.settle(profile, winner, newcomer, Some(winner));
        assert_eq!(settle(&pair, Profile::Linux6_12), Settlement::Ride(winner));
        assert_eq!(settle(&pair, Profile::Linux6_1), Settlement::Drop);
        pair.arena.entry_mut(winner).status = 0;
        assert_eq!(settle(&pair, Profile::Linux6_1), Settlement::Ride(winner));
    }

    #[test]
    fn another_zone_is_another_flow() {
        let mut pair = Pair::new();
        let [winner, newcomer] = [0; 2].map(|_| pair.add(tuple(protocol::UDP, 1, 2), None));
        let entry = pair.arena.entry_mut(newcomer);
        (entry.zone, entry.flags) = (9, flag::ZONE_NOT_ORIGINAL);
        let settled = pair.settle(Profile::Linux6_12, winner, newcomer, None);
        assert_eq!(settled, Settlement::EnterByReply);
    }

    /// One client, one socket, two mappings: a free reply tuple lets the second in by it; a reply
    /// tuple that a third has does not.
    #[test]
    fn a_newcomer_with_a_reply_tuple_of_its_own_enters_by_it() {
        let mut pair = Pair::new();
        let original = tuple(protocol::UDP, 1, 2);
        let winner = pair.add(original, Some(tuple(protocol::UDP, 7, 8)));
        pair.arena.entry_mut(winner).set(Status::DST_NAT_DONE);
        let newcomer = pair.add(original, Some(tuple(protocol::UDP, 9, 8)));
        let third = pair.add(tuple(protocol::UDP, 3, 2), Some(tuple(protocol::UDP, 9, 8)));
        pair.arena.entry_mut(third).set(Status::DST_NAT_DONE);
        for profile in PROFILES {
            let settle = |owner| pair.settle(profile, winner, newcomer, owner);
            assert_eq!(settle(None), Settlement::EnterByReply);
            assert_eq!(settle(Some(third)), Settlement::Drop);
        }
    }

    #[test]
    fn who_enters_by_the_reply_tuple_lives_a_second_and_is_never_refreshed() {
        let mut pair = Pair::new();
        let line = pair.add(tuple(protocol::UDP, 1, 2), None);
        let entry = pair.arena.entry_mut(line);
        enter_by_reply(entry, Ticks(1000));
        assert_eq!(entry.deadline, 1250);
        assert!(entry.has(Status::FIXED_TIMEOUT | Status::NAT_CLASH | Status::CONFIRMED));
        assert_eq!(entry.flags, flag::REPLY_ONLY);
    }
}
