//! The fast mode's collector: a steady sweep over all records.
//!
//! Every place of a record is looked at once in [`Config::sweep`](crate::Config), a few hundred at
//! a time: an expired connection keeps its place no longer than that.

use ctkeeper_flow::Status;
use serde::{Deserialize, Serialize};

use super::{Collectable, may_end_early, nearly_full};
use crate::entry::flag;
use crate::time::{TICKS_PER_SECOND, Ticks, Time};

/// So many places are looked at in one go.
const SLICE: usize = 512;

/// Where the sweep stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    /// Nanoseconds that one pass takes.
    pass: u64,
    /// Line to go on with. In another engine the records stand elsewhere.
    #[serde(skip)]
    cursor: u32,
    /// Nanoseconds: up to when its work is done; `None` before the first call.
    clock: Option<u64>,
    /// Nanoseconds: when the next slice is due.
    due: u64,
    /// Passes that still end closing connections of nearly full namespaces.
    full: u8,
    /// What the slice found.
    #[serde(skip)]
    found: Found,
}

/// What is to be done after a slice was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    expired: Vec<u32>,
    dispensable: Vec<u32>,
    helped: Vec<u32>,
}

impl Sweep {
    pub(crate) fn new(pass: Ticks) -> Self {
        // A tenth faster than promised: tables grow under a pass, and callers come late.
        let pass = u64::from(pass.0.max(1)) * (900_000_000 / u64::from(TICKS_PER_SECOND));
        Self { pass, cursor: 0, clock: None, due: 0, full: 0, found: Found::default() }
    }

    /// Whether it is one of passes of this length.
    pub(crate) fn is_sound(&self, pass: Ticks) -> bool {
        self.pass == Self::new(pass).pass
    }

    #[inline]
    pub(crate) const fn is_due(&self, now: Time) -> bool {
        // A wait longer than a pass: the caller's clock went backwards.
        self.due <= now.0 || self.due - now.0 > self.pass
    }

    /// From now on until the end of the next pass, dispensable connections of namespaces near
    /// their limit end as well.
    pub(crate) const fn note_full(&mut self) {
        self.full = 2;
    }

    /// Looks at as many places as the time since the last call asks for, up to `budget`; whether
    /// that was enough.
    pub(crate) fn run(&mut self, now: Time, table: &mut impl Collectable, budget: usize) -> bool {
        // One slice more than there are places: the last one of a pass is seldom whole.
        let places = (table.places() + SLICE) as u64;
        let clock = self.clock.unwrap_or(now.0).clamp(now.0.saturating_sub(self.pass), now.0);
        let scale = |value: u64, by: u64, per: u64| {
            (u128::from(value) * u128::from(by) / u128::from(per)) as u64
        };
        let owed = scale(now.0 - clock, places, self.pass);
        let payable = owed.min(budget as u64);
        self.pay(now, table, payable as usize);
        let clock = clock + scale(payable, self.pass, places);
        self.clock = Some(clock);
        self.due = clock.saturating_add(scale(SLICE as u64, self.pass, places).max(1));
        payable == owed
    }

    /// Looks at so many places, and stops at the end of a pass.
    fn pay(&mut self, now: Time, table: &mut impl Collectable, places: usize) {
        let now = Ticks::at(now);
        let mut left = places;
        while left > 0 {
            let slice = left.min(SLICE);
            self.look(now, table, slice);
            self.act(now, table);
            left -= slice;
            if self.cursor == 0 {
                self.full = self.full.saturating_sub(1);
                return;
            }
        }
    }

    fn look(&mut self, now: Ticks, table: &impl Collectable, places: usize) {
        let (full, found) = (self.full > 0, &mut self.found);
        self.cursor = table.scan(self.cursor, places, |line, entry| {
            if entry.flags & flag::LISTED == 0 {
                return;
            }
            if entry.is_expired(now) {
                found.expired.push(line);
                return;
            }
            if entry.has(Status::HELPER) {
                found.helped.push(line);
            }
            if full && may_end_early(entry) {
                found.dispensable.push(line);
            }
        });
    }

    fn act(&mut self, now: Ticks, table: &mut impl Collectable) {
        if !self.found.expired.is_empty() {
            table.end(now, &self.found.expired);
            self.found.expired.clear();
        }
        for line in self.found.helped.drain(..) {
            table.end_expectations(now, line);
        }
        let nearly_full = nearly_full(table.limit());
        for line in self.found.dispensable.drain(..) {
            let namespace = table.entry(line).namespace;
            if nearly_full != 0 && table.count(namespace) >= nearly_full {
                table.end(now, &[line]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::TcpState;
    use proptest::prelude::*;

    use super::super::testing::Ground;
    use super::*;

    const ALL: usize = usize::MAX;

    fn established() -> u8 {
        TcpState::Established.number()
    }

    #[test]
    fn expired_connections_go_within_a_pass() {
        let (mut sweep, mut ground) = (Sweep::new(Ticks::from_seconds(2)), Ground::new(1 << 16));
        for _ in 0..10_000 {
            ground.add(Time::from_seconds(20), Status::ASSURED, established());
        }
        let long = ground.add(Time::from_seconds(2000), Status::ASSURED, established());
        for millis in (10_000..22_100).step_by(1) {
            let now = Time::from_millis(millis);
            if sweep.is_due(now) {
                assert!(sweep.run(now, &mut ground, 2 * SLICE), "keeps up, a slice at a time");
            }
        }
        assert_eq!(ground.count, 1);
        assert!(ground.is_listed(long));
    }

    #[test]
    fn little_is_done_at_a_time() {
        let (mut sweep, mut ground) = (Sweep::new(Ticks::from_seconds(2)), Ground::new(1 << 16));
        for _ in 0..50_000 {
            ground.add(Time::from_seconds(20), Status::ASSURED, established());
        }
        let mut calls = 0;
        for micros in (30_000_000_u64..32_100_000).step_by(20) {
            let before = ground.count;
            let now = Time(micros * 1000);
            if sweep.is_due(now) {
                calls += 1;
                sweep.run(now, &mut ground, ALL);
            }
            assert!(before - ground.count <= 600, "{}", before - ground.count);
        }
        assert_eq!(ground.count, 0);
        assert!((90..300).contains(&calls), "{calls}");
    }

    #[test]
    fn what_a_jump_leaves_undone_is_done_by_the_next_calls() {
        let (mut sweep, mut ground) = (Sweep::new(Ticks::from_seconds(2)), Ground::new(1 << 16));
        sweep.run(Time::from_seconds(1), &mut ground, ALL);
        for _ in 0..5000 {
            ground.add(Time::from_seconds(20), Status::ASSURED, established());
        }
        let later = Time::from_seconds(86_400);
        let mut calls = 0;
        while !sweep.run(later, &mut ground, 1000) {
            calls += 1;
        }
        assert!(calls >= 10);
        assert_eq!(ground.count, 0);
    }

    #[test]
    fn near_the_limit_dispensable_connections_end_after_a_refusal() {
        let (mut sweep, mut ground) = (Sweep::new(Ticks::from_seconds(2)), Ground::new(1 << 16));
        ground.limit = 1000;
        for number in 0..1000 {
            let (status, state) = match number % 10 {
                0 => (Status::ASSURED, TcpState::LastAck),
                1 => (Status::default(), TcpState::SynSent),
                _ => (Status::ASSURED, TcpState::Established),
            };
            ground.add(Time::from_seconds(200), status, state.number());
        }
        let mut pass = |from: u64, ground: &mut Ground| {
            for millis in (1000 * from..1000 * from + 2200).step_by(10) {
                sweep.run(Time::from_millis(millis), ground, ALL);
            }
            sweep.note_full();
            ground.count
        };
        assert_eq!(pass(1, &mut ground), 1000);
        assert_eq!(pass(4, &mut ground), 949);
    }

    #[test]
    fn expectations_of_masters_are_looked_after() {
        let (mut sweep, mut ground) = (Sweep::new(Ticks::from_seconds(2)), Ground::new(1 << 16));
        let line = ground.add(Time::from_seconds(200), Status::HELPER, established());
        sweep.run(Time::from_seconds(1), &mut ground, ALL);
        sweep.run(Time::from_seconds(4), &mut ground, ALL);
        assert_eq!(ground.helped, [line]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the clock does: nothing ends early, calls end, and what is expired goes as
        /// soon as time runs evenly for a pass.
        #[test]
        fn any_clock(
            lives in prop::collection::vec(0u64..100, 0..200),
            moments in prop::collection::vec(prop_oneof![0u64..200_000_000_000, any::<u64>()], 0..20),
        ) {
            let (mut sweep, mut ground) = (Sweep::new(Ticks::from_seconds(1)), Ground::new(1 << 16));
            for life in lives {
                ground.add(Time::from_seconds(life), Status::ASSURED, established());
            }
            for moment in moments {
                sweep.run(Time(moment), &mut ground, 100);
            }
            for millis in (50_000..51_100).step_by(7) {
                let now = Time::from_millis(millis);
                if sweep.is_due(now) {
                    sweep.run(now, &mut ground, 5000);
                }
            }
            let mut late = 0;
            ground.scan(0, ALL, |_, entry| {
                late += u32::from(entry.is_expired(Ticks::at(Time::from_seconds(50))));
            });
            prop_assert_eq!(late, 0);
        }
    }
}
