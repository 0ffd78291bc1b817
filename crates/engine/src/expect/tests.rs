use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::tuple::protocol;

const NOW: Ticks = Ticks(u32::MAX - 500);
const POLICY: Policy = Policy { maximum: 1, timeout: Ticks(1000) };
const ANY_NUMBER: Policy = Policy { maximum: 0, ..POLICY };
const MASTER: Handle = Handle { line: 1, id: 7 };
const OTHER_MASTER: Handle = Handle { line: 2, id: 8 };

const fn origin(master: Handle) -> Origin {
    Origin { master, namespace: 0, zone: 0 }
}

/// A data connection from any port to a port.
const fn data(port: u16) -> Announcement {
    let tuple = Tuple {
        source: 1,
        destination: 2,
        source_id: 0,
        destination_id: port,
        protocol: protocol::TCP,
        family: Family::Ipv4,
    };
    let (class, flags, helper) = (0, ExpectationFlags(0), 0);
    Announcement { tuple, mask: Mask::ADDRESS, class, flags, helper }
}

/// The first packet of such a connection.
const fn first(port: u16) -> Tuple {
    Tuple { source_id: 4096, ..data(port).tuple }
}

fn meet(table: &mut Expectations, now: Ticks, tuple: &Tuple) -> Option<u32> {
    table.meet(now, 0, 0, tuple, |_| true).map(|met| met.id)
}

#[test]
fn is_met_once() {
    let mut table = Expectations::new(8);
    let id = table.expect(NOW, origin(MASTER), data(20), POLICY).unwrap();
    assert_eq!(table.held(0), 1);
    assert_eq!(meet(&mut table, NOW, &first(21)), None);
    assert_eq!(meet(&mut table, NOW, &first(20)), Some(id));
    assert_eq!(meet(&mut table, NOW, &first(20)), None);
    assert_eq!((table.held(0), table.counts[0]), (0, Counts { created: 1, deleted: 1 }));
}

#[test]
fn a_permanent_one_stays_and_an_inactive_one_is_not_met() {
    let mut table = Expectations::new(8);
    let permanent = Announcement { flags: ExpectationFlags::PERMANENT, ..data(20) };
    let inactive = Announcement { flags: ExpectationFlags::INACTIVE, ..data(21) };
    let id = table.expect(NOW, origin(MASTER), permanent, ANY_NUMBER).unwrap();
    table.expect(NOW, origin(MASTER), inactive, ANY_NUMBER).unwrap();
    for _ in 0..3 {
        assert_eq!(meet(&mut table, NOW, &first(20)), Some(id));
    }
    assert_eq!(meet(&mut table, NOW, &first(21)), None);
    assert_eq!(table.held(0), 2);
}

#[test]
fn the_mask_says_how_much_of_the_source_counts() {
    let mut table = Expectations::new(8);
    table.expect(NOW, origin(MASTER), data(20), POLICY).unwrap();
    assert_eq!(meet(&mut table, NOW, &Tuple { source: 9, ..first(20) }), None);
    let from_anywhere = Announcement { mask: Mask::ANY, ..data(21) };
    table.expect(NOW, origin(OTHER_MASTER), from_anywhere, POLICY).unwrap();
    assert!(meet(&mut table, NOW, &Tuple { source: 9, ..first(21) }).is_some());
    let exact = Mask { source_id: u16::MAX, ..Mask::ADDRESS };
    let exact = Announcement { mask: exact, tuple: first(22), ..data(22) };
    table.expect(NOW, origin(OTHER_MASTER), exact, POLICY).unwrap();
    assert_eq!(meet(&mut table, NOW, &Tuple { source_id: 1, ..first(22) }), None);
    assert!(meet(&mut table, NOW, &first(22)).is_some());
}

#[test]
fn protocol_family_namespace_and_zone_count() {
    let mut table = Expectations::new(8);
    table.expect(NOW, origin(MASTER), data(20), POLICY).unwrap();
    let udp = Tuple { protocol: protocol::UDP, ..first(20) };
    let ipv6 = Tuple { family: Family::Ipv6, ..first(20) };
    assert_eq!(meet(&mut table, NOW, &udp), None);
    assert_eq!(meet(&mut table, NOW, &ipv6), None);
    assert!(table.meet(NOW, 1, 0, &first(20), |_| true).is_none());
    assert!(table.meet(NOW, 0, 1, &first(20), |_| true).is_none());
    assert!(meet(&mut table, NOW, &first(20)).is_some());
}

#[test]
fn an_expired_one_is_not_met_and_goes() {
    let mut table = Expectations::new(8);
    table.expect(NOW, origin(MASTER), data(20), POLICY).unwrap();
    let last = NOW + Ticks(999);
    assert_eq!(table.of_namespace(0, last).count(), 1);
    assert_eq!(table.of_namespace(0, last + Ticks(1)).count(), 0);
    assert_eq!(table.held(0), 1, "it counts until something meets it");
    assert_eq!(meet(&mut table, last + Ticks(1), &first(20)), None);
    assert_eq!(table.held(0), 0);
    table.expect(NOW, origin(MASTER), data(20), POLICY).unwrap();
    assert!(meet(&mut table, last, &first(20)).is_some());
}

#[test]
fn a_master_that_does_not_stand_has_announced_nothing() {
    let mut table = Expectations::new(8);
    table.expect(NOW, origin(MASTER), data(20), POLICY).unwrap();
    let mut asked = None;
    let met = table.meet(NOW, 0, 0, &first(20), |master| {
        asked = Some(master);
        false
    });
    assert_eq!((met, asked, table.held(0)), (None, Some(MASTER), 1));
}

#[test]
fn the_same_again_replaces() {
    let mut table = Expectations::new(8);
    let id = table.expect(NOW, origin(MASTER), data(20), ANY_NUMBER).unwrap();
    let again = table.expect(NOW, origin(MASTER), data(20), ANY_NUMBER).unwrap();
    assert!(id != again && table.held(0) == 1);
    let other_class = Announcement { class: 1, ..data(20) };
    let refused = table.expect(NOW, origin(MASTER), other_class, ANY_NUMBER);
    assert_eq!(refused, Err(Refused::Already));
}

#[test]
fn what_one_packet_could_meet_too_is_refused() {
    let mut table = Expectations::new(8);
    table.expect(NOW, origin(MASTER), data(20), ANY_NUMBER).unwrap();
    let mut expect =
        |announcement, origin, now| table.expect(now, origin, announcement, ANY_NUMBER);
    let elsewhere = origin(OTHER_MASTER);
    assert_eq!(expect(data(20), elsewhere, NOW), Err(Refused::Busy));
    let from_anywhere = Announcement { mask: Mask::ANY, ..data(20) };
    assert_eq!(expect(from_anywhere, origin(MASTER), NOW), Err(Refused::Busy));
    assert!(expect(data(20), Origin { zone: 1, ..elsewhere }, NOW).is_ok());
    assert!(expect(data(20), Origin { namespace: 1, ..elsewhere }, NOW).is_ok());
    let other_source = Tuple { source: 3, ..data(20).tuple };
    assert!(expect(Announcement { tuple: other_source, ..data(20) }, elsewhere, NOW).is_ok());
    assert!(expect(data(20), elsewhere, NOW + Ticks(1000)).is_ok(), "the first has expired");
}

#[test]
fn the_oldest_of_the_class_makes_way() {
    let mut table = Expectations::new(8);
    let two = Policy { maximum: 2, ..POLICY };
    let other_class = Announcement { class: 1, ..data(9) };
    table.expect(NOW, origin(MASTER), other_class, ANY_NUMBER).unwrap();
    for port in [20, 21, 22] {
        table.expect(NOW, origin(MASTER), data(port), two).unwrap();
    }
    assert_eq!(table.held(0), 3);
    assert_eq!(meet(&mut table, NOW, &first(20)), None);
    for port in [9, 21, 22] {
        assert!(meet(&mut table, NOW, &first(port)).is_some(), "port {port}");
    }
}

#[test]
fn expired_ones_make_way_before_the_oldest() {
    let mut table = Expectations::new(8);
    let two = Policy { maximum: 2, ..POLICY };
    let long = Policy { timeout: Ticks(5000), ..two };
    table.expect(NOW, origin(MASTER), data(20), long).unwrap();
    table.expect(NOW, origin(MASTER), data(21), two).unwrap();
    let later = NOW + Ticks(2000);
    table.expect(later, origin(MASTER), data(22), two).unwrap();
    assert!(meet(&mut table, later, &first(20)).is_some());
    assert!(meet(&mut table, later, &first(22)).is_some());
}

#[test]
fn a_namespace_holds_no_more_than_the_limit() {
    let mut table = Expectations::new(2);
    for port in [20, 21] {
        table.expect(NOW, origin(MASTER), data(port), ANY_NUMBER).unwrap();
    }
    let refused = table.expect(NOW, origin(MASTER), data(22), ANY_NUMBER);
    assert_eq!(refused, Err(Refused::Full));
    let elsewhere = Origin { namespace: 3, ..origin(MASTER) };
    assert!(table.expect(NOW, elsewhere, data(22), ANY_NUMBER).is_ok());
    assert!(table.expect(NOW, origin(MASTER), data(21), ANY_NUMBER).is_ok(), "it replaces one");
}

#[test]
fn ends_with_its_master() {
    let mut table = Expectations::new(8);
    for port in [20, 21] {
        table.expect(NOW, origin(MASTER), data(port), ANY_NUMBER).unwrap();
    }
    table.expect(NOW, origin(OTHER_MASTER), data(22), ANY_NUMBER).unwrap();
    table.remove_of(MASTER);
    assert_eq!(table.held(0), 1);
    table.remove_of(OTHER_MASTER);
    assert_eq!(table.held(0), 0);
    table.expect(NOW, origin(MASTER), data(20), POLICY).unwrap();
    table.collect_of(MASTER, NOW + Ticks(999));
    assert_eq!(table.held(0), 1);
    table.collect_of(MASTER, NOW + Ticks(1000));
    assert_eq!(table.held(0), 0);
}

/// The table as one list, newest first: what its answers are held against.
#[derive(Default)]
struct Naive(Vec<Expectation>);

impl Naive {
    fn expect(&mut self, now: Ticks, new: Expectation, maximum: usize, limit: usize) -> bool {
        let same = |old: &Expectation| old.origin.master == new.origin.master;
        let destination = |one: &Expectation| one.announcement.tuple.destination_id;
        self.0.retain(|old| destination(old) != destination(&new) || !old.is_expired(now));
        if let Some(at) = self.0.iter().position(|old| destination(old) == destination(&new)) {
            if !same(&self.0[at]) {
                return false;
            }
            self.0.remove(at);
        }
        if maximum != 0 && self.0.iter().filter(|old| same(old)).count() >= maximum {
            self.0.retain(|old| !same(old) || !old.is_expired(now));
            let count = self.0.iter().filter(|old| same(old)).count();
            if let (true, Some(at)) = (count >= maximum, self.0.iter().rposition(same)) {
                self.0.remove(at);
            }
        }
        let fits = self.0.len() < limit;
        if fits {
            self.0.insert(0, new);
        }
        fits
    }

    fn meet(&mut self, now: Ticks, port: u16) -> Option<Ticks> {
        let destination = |one: &Expectation| one.announcement.tuple.destination_id;
        self.0.retain(|one| destination(one) != port || !one.is_expired(now));
        let at = self.0.iter().position(|one| destination(one) == port)?;
        Some(self.0.remove(at).deadline)
    }
}

proptest! {
    #[test]
    fn does_as_one_list_would(
        steps in vec((0..4_u8, 0..4_u16, 0..3_u32, 0..600_u32), 1..200),
        maximum in 0..4_u32,
        limit in 1..8_u32,
    ) {
        let (mut table, mut naive, mut now) = (Expectations::new(limit), Naive::default(), NOW);
        let policy = Policy { maximum, ..POLICY };
        for (step, port, line, wait) in steps {
            now = now + Ticks(wait);
            let master = Handle { line, id: 1 };
            match step {
                0 | 1 => {
                    let (announcement, origin) = (data(port), origin(master));
                    let deadline = now + policy.timeout;
                    let new = Expectation { announcement, origin, deadline, id: 0 };
                    let taken = table.expect(now, origin, announcement, policy).is_ok();
                    let expected = naive.expect(now, new, maximum as usize, limit as usize);
                    prop_assert_eq!(taken, expected);
                }
                2 => {
                    let met = table.meet(now, 0, 0, &first(port), |_| true);
                    prop_assert_eq!(met.map(|one| one.deadline), naive.meet(now, port));
                }
                _ => {
                    table.remove_of(master);
                    naive.0.retain(|one| one.origin.master != master);
                }
            }
            prop_assert_eq!(table.held(0) as usize, naive.0.len());
        }
    }
}
