//! The kernel's collector: `gc_worker` of `net/netfilter/nf_conntrack_core.c`, which Linux 6.1 and
//! 6.12 have alike.
//!
//! It walks the chains and then sleeps, the longer the later the average connection expires. Here
//! it has a clock of its own, which runs behind the caller's: each bucket and each connection
//! costs what it costs the kernel, so that a walk over a large table takes its time, is cut off
//! after 10 ms and meets connections at the moment the kernel would meet them.

use ctkeeper_flow::Status;
use serde::{Deserialize, Serialize};

use super::{Collectable, may_end_early, nearly_full};
use crate::time::{TICKS_PER_SECOND, Ticks, Time};

/// Longest, shortest and first wait between two walks, in ticks (`GC_SCAN_INTERVAL_*`).
const LONGEST: i64 = 60 * TICKS_PER_SECOND as i64;
const SHORTEST: i64 = TICKS_PER_SECOND as i64;
/// A connection that lives longer counts as living this long (`GC_SCAN_INTERVAL_CLAMP`).
const CLAMP: i64 = 300 * TICKS_PER_SECOND as i64;
/// So many connections of [`LONGEST`] are pretended (`GC_SCAN_INITIAL_COUNT`).
const PRETENDED: i64 = 100;
/// A walk is cut off when this many ticks have passed (`GC_SCAN_MAX_DURATION`: 10 ms, rounded up).
const LONGEST_WALK: i32 = 3;
/// More are not ended in one walk (`GC_SCAN_EXPIRED_MAX`).
const MOST_ENDED: u32 = 64_000 / TICKS_PER_SECOND;

/// What looking at a bucket costs the kernel, in nanoseconds: walks over 262,144 empty ones took
/// 7.0 to 11.2 ms on Linux 6.18 (`workqueue_execute_start` and `_end` of `gc_worker`).
const BUCKET: u64 = 28;
/// What looking at a connection costs it: 40,000 of them, which are looked at through both of their
/// tuples, made a walk 9 to 22 ms longer.
const CONNECTION: u64 = 150;
/// What ending a connection costs it: walks that ended 257 took 0.24 ms.
const ENDING: u64 = 500;
/// From one walk to the next that follows at once.
const RESTART: u64 = 2_000;

/// The worker never sleeps longer: if it seems to, the caller's clock went backwards.
const LONGEST_SLEEP: u64 = 64 * TICKS_PER_SECOND as u64 * TICK;
/// Nanoseconds of one tick.
const TICK: u64 = 1_000_000_000 / TICKS_PER_SECOND as u64;
/// When the caller's clock is further ahead, cycles are left out. What would have ended in them
/// ends in the next one.
const LONGEST_LAG: u64 = 150 * TICKS_PER_SECOND as u64 * TICK;
/// So much is left out at once: 60 days, after which ticks still tell past from future.
const LONGEST_JUMP: u64 = 60 * 86_400 * TICKS_PER_SECOND as u64 * TICK;

/// The kernel's collector and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Worker {
    /// Nanoseconds: up to when its work is done, or when it begins again. `None` before the first
    /// call, from which it counts.
    clock: Option<u64>,
    /// The walk it is in.
    walk: Option<Walk>,
    next_bucket: u32,
    /// Mean of the remaining timeouts in ticks, and of how many. Whole numbers, as in the kernel:
    /// it moves no more once it is off by less than `count`, so what lives in the first chains
    /// weighs most, and from 60 s down it never gets below 6.4 s.
    average: i64,
    count: i64,
    cycle_start: Ticks,
    /// A connection was refused for want of room since the last walk that had an end.
    was_full: bool,
    /// The chain that is being walked over.
    #[serde(skip)]
    lines: Vec<u32>,
}

/// One run of the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Walk {
    start: Ticks,
    bucket: u32,
    ended: u32,
    /// 95 % of the limit; 0 while there is room.
    nearly_full: u32,
}

impl Worker {
    pub(crate) const fn new() -> Self {
        Self {
            clock: None,
            walk: None,
            next_bucket: 0,
            average: LONGEST,
            count: PRETENDED,
            cycle_start: Ticks(0),
            was_full: false,
            lines: Vec::new(),
        }
    }

    /// Whether its numbers are such as its own work leaves.
    pub(crate) fn is_sound(&self) -> bool {
        (0..=CLAMP).contains(&self.average) && (PRETENDED..1 << 48).contains(&self.count)
    }

    #[inline]
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.clock.is_none_or(|clock| clock <= now.0 || clock - now.0 > LONGEST_SLEEP)
    }

    pub(crate) const fn note_full(&mut self) {
        self.was_full = true;
    }

    /// Lets the worker work until its clock has come to `now`; whether it got there.
    pub(crate) fn run(&mut self, now: Time, table: &mut impl Collectable, budget: usize) -> bool {
        // The kernel starts it when conntrack is, to run after a second.
        let mut clock = self.clock.unwrap_or_else(|| wake(now.0, SHORTEST));
        if clock.saturating_sub(now.0) > LONGEST_SLEEP {
            clock = wake(now.0, SHORTEST);
        }
        let mut budget = budget;
        while clock <= now.0 && clock < u64::MAX && budget > 0 {
            clock = match self.walk.take() {
                Some(walk) => self.step(walk, clock, table, &mut budget),
                None => self.begin(clock, now, table),
            };
        }
        self.clock = Some(clock);
        clock > now.0 || clock == u64::MAX
    }

    /// Begins a run; the clock after it.
    fn begin(&mut self, mut clock: u64, now: Time, table: &impl Collectable) -> u64 {
        if self.next_bucket == 0 && now.0 - clock > LONGEST_LAG {
            clock = clock.saturating_add(LONGEST_JUMP).min(now.0 - LONGEST_LAG);
        }
        let start = Ticks::at(Time(clock));
        if self.next_bucket == 0 {
            (self.average, self.count, self.cycle_start) = (LONGEST, PRETENDED, start);
        }
        let nearly_full = if self.was_full { nearly_full(table.limit()) } else { 0 };
        self.walk = Some(Walk { start, bucket: self.next_bucket, ended: 0, nearly_full });
        clock
    }

    /// Walks over one chain; the clock after it.
    fn step(
        &mut self,
        mut walk: Walk,
        mut clock: u64,
        table: &mut impl Collectable,
        budget: &mut usize,
    ) -> u64 {
        if walk.bucket >= table.buckets() {
            return self.finish(clock);
        }
        let mut lines = std::mem::take(&mut self.lines);
        table.chain(walk.bucket, &mut lines);
        *budget = budget.saturating_sub(1 + lines.len());
        let is_complete = self.walk_chain(&mut walk, &mut clock, &lines, table);
        lines.clear();
        self.lines = lines;
        if !is_complete {
            return self.cut_off(walk.bucket, clock);
        }
        clock = clock.saturating_add(BUCKET);
        walk.bucket += 1;
        let passed = Ticks::at(Time(clock)).after(walk.start);
        if passed > LONGEST_WALK && walk.bucket < table.buckets() {
            self.next_bucket = walk.bucket;
            return clock.saturating_add(RESTART);
        }
        self.walk = Some(walk);
        clock
    }

    /// Looks at the connections of a chain; false when enough have been ended before its end.
    fn walk_chain(
        &mut self,
        walk: &mut Walk,
        clock: &mut u64,
        lines: &[u32],
        table: &mut impl Collectable,
    ) -> bool {
        let mut gone = None;
        for &line in lines {
            if gone == Some(line) {
                continue;
            }
            if walk.ended > MOST_ENDED {
                return false;
            }
            *clock = clock.saturating_add(CONNECTION);
            let now = Ticks::at(Time(*clock));
            if self.judge(walk, now, line, table) {
                *clock = clock.saturating_add(ENDING);
                walk.ended += 1;
                table.end(now, &[line]);
                gone = Some(line);
            }
        }
        true
    }

    /// Whether a connection is to end; if not, it counts for the average.
    fn judge(&mut self, walk: &Walk, now: Ticks, line: u32, table: &mut impl Collectable) -> bool {
        let entry = table.entry(line);
        if entry.is_expired(now) {
            return true;
        }
        let remaining = i64::from(entry.deadline().after(now)).clamp(SHORTEST, CLAMP);
        self.count += 1;
        self.average += (remaining - self.average) / self.count;
        let (namespace, may_end) = (entry.namespace, may_end_early(entry));
        if entry.has(Status::HELPER) {
            table.end_expectations(now, line);
        }
        walk.nearly_full != 0 && table.count(namespace) >= walk.nearly_full && may_end
    }

    /// Enough have ended: goes on with the same chain, a tick later or at once when the cycle
    /// takes too long already. When it is a tick the kernel forgets that the table was full.
    fn cut_off(&mut self, bucket: u32, clock: u64) -> u64 {
        self.next_bucket = bucket;
        let passed = Ticks::at(Time(clock)).after(self.cycle_start);
        if i64::from(passed) < LONGEST {
            self.was_full = false;
            return wake(clock, 1);
        }
        clock.saturating_add(RESTART)
    }

    /// Every chain was walked over: sleeps until the average connection expires.
    fn finish(&mut self, clock: u64) -> u64 {
        self.next_bucket = 0;
        self.was_full = false;
        let passed = i64::from(Ticks::at(Time(clock)).after(self.cycle_start)).max(1);
        let wait = self.average.clamp(SHORTEST, LONGEST) - passed;
        wake(clock, wait.max(1))
    }
}

/// When a timer of so many ticks wakes its owner: the kernel's timer wheel rounds up to steps of
/// 1, 8, 64, 512 ticks, the coarser the longer the wait (`calc_wheel_index`, `kernel/time/timer.c`).
/// Where the steps begin depends on the caller's epoch here, on boot there.
const fn wake(clock: u64, wait: i64) -> u64 {
    let wait = if wait < 0 { 0 } else { wait as u64 };
    let shift = match wait {
        0..63 => 0,
        63..504 => 3,
        504..4032 => 6,
        _ => 9,
    };
    let expires = clock / TICK + wait;
    (((expires >> shift) + 1) << shift).saturating_mul(TICK)
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

    /// A worker whose first run is due at second 11.
    fn worker() -> Worker {
        let mut worker = Worker::new();
        worker.run(Time::from_millis(9_996), &mut Ground::new(1), ALL);
        assert_eq!(worker.clock, Some(11_008_000_000), "250 ticks, in steps of 8 and then 64");
        worker
    }

    /// Runs until the next walk is over; the moment it began, in milliseconds.
    fn next_walk(worker: &mut Worker, ground: &mut Ground) -> u64 {
        let begin = worker.clock.unwrap();
        loop {
            let now = Time(worker.clock.unwrap());
            worker.run(now, ground, 1);
            if worker.walk.is_none() {
                return begin / 1_000_000;
            }
        }
    }

    #[test]
    fn expired_connections_stay_until_the_first_walk_a_second_later() {
        let (mut worker, mut ground) = (worker(), Ground::new(64));
        ground.add(Time::from_seconds(5), Status::ASSURED, established());
        ground.add(Time::from_seconds(500), Status::ASSURED, established());
        let first = Time(worker.clock.unwrap());
        assert!(!worker.is_due(Time(first.0 - 1)) && worker.is_due(first));
        assert!(worker.run(Time(first.0 - 1), &mut ground, ALL));
        assert_eq!(ground.count, 2);
        assert!(worker.run(Time(first.0 + 1_000_000), &mut ground, ALL));
        assert_eq!(ground.count, 1);
    }

    /// Seen on Linux 6.18 with an empty table: walks 61.44 s apart (60 s in steps of 512 ticks),
    /// 7 to 11 ms long at 262,144 buckets.
    #[test]
    fn an_empty_table_is_walked_over_every_61_seconds() {
        let (mut worker, mut ground) = (worker(), Ground::new(262_144));
        let begins: Vec<_> = (0..4).map(|_| next_walk(&mut worker, &mut ground)).collect();
        let waits: Vec<_> = begins.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits[1..], [61_440, 61_440]);
        let begin = worker.clock.unwrap();
        worker.run(Time(begin + 7_200_000), &mut ground, ALL);
        assert!(worker.walk.is_some());
        worker.run(Time(begin + 7_400_000), &mut ground, ALL);
        assert!(worker.walk.is_none());
    }

    #[test]
    fn short_lives_make_short_waits() {
        let wait = |seconds: u64, number: u32| {
            let (mut worker, mut ground) = (worker(), Ground::new(1024));
            for _ in 0..number {
                ground.add(Time::from_seconds(11 + seconds), Status::ASSURED, established());
            }
            let begin = next_walk(&mut worker, &mut ground);
            worker.clock.unwrap() / 1_000_000 - begin
        };
        // What whole numbers make of the mean over both tuples of each and over 100 of 60 s: it
        // stays where it is once it is off by less ticks than there are connections.
        let mean = |seconds: i64, number: i64| {
            let step = |mean: i64, count: i64| mean + (seconds * 250 - mean) / (100 + count);
            4 * (1..=2 * number).fold(60 * 250, step) as u64
        };
        for (seconds, number) in [(20, 1000), (40, 50), (3, 5000)] {
            let (wait, mean) = (wait(seconds, number), mean(seconds.cast_signed(), number.into()));
            // Timers' steps are up to 2 s wide here.
            assert!((mean - 20..mean + 2060).contains(&wait), "{seconds} {number}: {wait} {mean}");
        }
        assert!(wait(432_000, 5000) < 62_000, "the longest wait");
        let least = wait(1, 10_000);
        assert!((6470..6740).contains(&least), "{least}: no mean of whole numbers gets lower");
    }

    /// Seen on Linux 6.18: 40,000 that expired together went 257 at a time, 8 ms apart, now and
    /// then 12.
    #[test]
    fn a_walk_ends_257_and_goes_on_two_ticks_later() {
        let (mut worker, mut ground) = (worker(), Ground::new(4096));
        for _ in 0..600 {
            ground.add(Time::from_seconds(5), Status::ASSURED, established());
        }
        let mut begins = Vec::new();
        for left in [343, 86, 0] {
            begins.push(next_walk(&mut worker, &mut ground));
            assert_eq!(ground.count, left);
        }
        assert!(begins.windows(2).all(|pair| pair[1] - pair[0] == 8), "{begins:?}");
    }

    #[test]
    fn a_walk_that_takes_long_is_cut_off_and_goes_on_at_once() {
        let (mut worker, mut ground) = (worker(), Ground::new(1 << 20));
        let begin = next_walk(&mut worker, &mut ground);
        // Four ticks after it began, at 28 ns a bucket.
        assert!((571_000..572_000).contains(&worker.next_bucket), "{}", worker.next_bucket);
        let walks: Vec<_> = (0..1).map(|_| next_walk(&mut worker, &mut ground) - begin).collect();
        assert_eq!(walks, [16]);
        assert_eq!(worker.next_bucket, 0);
    }

    #[test]
    fn near_the_limit_closing_and_unassured_connections_end_after_a_refusal() {
        let fill = |ground: &mut Ground| {
            ground.limit = 1000;
            for number in 0..1000 {
                let (status, state) = match number % 10 {
                    0 => (Status::ASSURED, TcpState::TimeWait),
                    1 => (Status::default(), TcpState::SynSent),
                    _ => (Status::ASSURED, TcpState::Established),
                };
                ground.add(Time::from_seconds(200), status, state.number());
            }
        };
        let (mut worker, mut ground) = (worker(), Ground::new(512));
        fill(&mut ground);
        next_walk(&mut worker, &mut ground);
        assert_eq!(ground.count, 1000, "nobody was refused");
        worker.note_full();
        next_walk(&mut worker, &mut ground);
        assert_eq!(ground.count, 949, "down to below 95 %");
        worker.run(Time(worker.clock.unwrap()), &mut ground, ALL);
        assert!(!worker.was_full);
    }

    #[test]
    fn assured_connections_never_end_before_they_expire() {
        let (mut worker, mut ground) = (worker(), Ground::new(64));
        ground.limit = 100;
        for _ in 0..100 {
            ground.add(Time::from_seconds(200), Status::ASSURED, established());
        }
        worker.note_full();
        next_walk(&mut worker, &mut ground);
        assert_eq!(ground.count, 100);
    }

    #[test]
    fn the_kernel_forgets_a_full_table_when_it_ended_many() {
        let (mut worker, mut ground) = (worker(), Ground::new(4096));
        for _ in 0..300 {
            ground.add(Time::from_seconds(5), Status::ASSURED, established());
        }
        worker.note_full();
        next_walk(&mut worker, &mut ground);
        assert!(!worker.was_full && worker.next_bucket != 0);
    }

    #[test]
    fn expectations_of_masters_are_looked_after() {
        let (mut worker, mut ground) = (worker(), Ground::new(64));
        let line = ground.add(Time::from_seconds(200), Status::HELPER, established());
        ground.add(Time::from_seconds(200), Status::ASSURED, established());
        next_walk(&mut worker, &mut ground);
        assert_eq!(ground.helped, [line, line], "through either tuple");
    }

    #[test]
    fn a_connection_with_both_tuples_in_one_chain_ends_once() {
        let (mut worker, mut ground) = (worker(), Ground::new(1));
        for seconds in [5, 50, 5, 5, 50] {
            ground.add(Time::from_seconds(seconds), Status::ASSURED, established());
        }
        next_walk(&mut worker, &mut ground);
        assert_eq!((ground.count, ground.ended.len()), (2, 3));
    }

    #[test]
    fn odd_clocks_do_no_harm() {
        let (mut worker, mut ground) = (Worker::new(), Ground::new(64));
        ground.add(Time::from_seconds(20), Status::ASSURED, established());
        let year = 365 * 86_400;
        assert!(worker.run(Time::from_seconds(1), &mut ground, ALL));
        assert!(worker.run(Time::from_seconds(year), &mut ground, ALL));
        assert_eq!(ground.count, 0, "a jump ends what expired in it");
        ground.add(Time::from_seconds(100), Status::ASSURED, established());
        assert!(worker.is_due(Time::from_seconds(99)));
        worker.run(Time::from_seconds(99), &mut ground, ALL);
        worker.run(Time::from_seconds(170), &mut ground, ALL);
        assert_eq!(ground.count, 0, "after a jump back it goes on");
        for now in [u64::MAX - 1, u64::MAX, 0, u64::MAX] {
            worker.run(Time(now), &mut ground, 1 << 16);
        }
    }

    #[test]
    fn work_a_call_is_bounded_and_goes_on_where_it_stopped() {
        let (mut worker, mut ground) = (worker(), Ground::new(4096));
        let later = Time(worker.clock.unwrap() + 20_000_000);
        let mut calls = 1;
        while !worker.run(later, &mut ground, 100) {
            calls += 1;
        }
        assert_eq!(calls, 4096_u32.div_ceil(100));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However the work is cut into calls, the same connections end at the same ticks, none
        /// too early and none more than a cycle too late.
        #[test]
        fn calls_do_not_matter(
            lives in prop::collection::vec(1u64..200, 1..300),
            steps in prop::collection::vec((1u64..20_000, 1usize..500), 1..30),
            buckets in 1u32..2000,
        ) {
            let fill = || {
                let mut ground = Ground::new(buckets);
                let lives = lives.iter().copied().take(25 * buckets as usize);
                for life in lives {
                    ground.add(Time::from_seconds(10 + life), Status::ASSURED, established());
                }
                ground
            };
            let (mut one, mut other) = (worker(), worker());
            let (mut whole, mut cut) = (fill(), fill());
            let deadlines: Vec<_> = {
                let mut deadlines = std::collections::BTreeMap::new();
                whole.scan(0, ALL, |line, entry| {
                    deadlines.insert(line, entry.deadline());
                });
                deadlines.into_iter().collect()
            };
            let mut now = Time::from_seconds(10);
            for (millis, budget) in steps {
                now = Time(now.0 + millis * 1_000_000);
                while !other.run(now, &mut cut, budget) {}
                prop_assert!(one.run(now, &mut whole, ALL));
                prop_assert_eq!(&one, &other);
            }
            prop_assert_eq!(&whole.ended, &cut.ended);
            for (line, deadline) in deadlines {
                let end = whole.ended.iter().find(|(ended, _)| *ended == line);
                match end {
                    Some((_, at)) => {
                        prop_assert!(deadline.is_due(*at));
                        prop_assert!(at.after(deadline) < 63 * 250);
                    }
                    None => prop_assert!(Ticks::at(now).after(deadline) < 63 * 250),
                }
            }
        }
    }
}
