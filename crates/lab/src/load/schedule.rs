//! When arrivals are due. No clock: moments are nanoseconds since the load began.

use std::collections::VecDeque;

/// Nanoseconds since the load began.
pub(super) type Moment = u64;

/// The open loop's plan: arrival number `n` is due at a moment that no answer can shift.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// In order; the last has no end. One a change of rate, gone once its arrivals have started.
    stretches: VecDeque<Stretch>,
    started: u64,
    most: u64,
    end: Moment,
}

/// Arrivals at one rate.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: u64,
    from: Moment,
    per_second: f64,
}

impl Stretch {
    fn due_at(&self, arrival: u64) -> Moment {
        let ahead = arrival.saturating_sub(self.first) as f64;
        self.from.saturating_add((ahead * 1e9 / self.per_second) as u64)
    }

    fn due_by(&self, now: Moment) -> u64 {
        if self.per_second <= 0.0 || now < self.from {
            return self.first;
        }
        let elapsed = (now - self.from) as f64 / 1e9;
        // The arrival at the stretch's very beginning is due at once.
        self.first + (elapsed * self.per_second) as u64 + 1
    }
}

impl Schedule {
    /// Arrivals at `per_second`, at most so many, none due at `end` or later.
    pub(super) fn new(per_second: f64, most: u64, end: Moment) -> Self {
        let first = Stretch { first: 0, from: 0, per_second };
        Self { stretches: VecDeque::from([first]), started: 0, most, end }
    }

    /// How many are due by now, those that have started among them.
    pub(super) fn due_by(&self, now: Moment) -> u64 {
        let now = now.min(self.end.saturating_sub(1));
        let due = self.stretches.back().map_or(0, |stretch| stretch.due_by(now));
        due.min(self.most)
    }

    /// Takes the next arrival if it is due: its number and when it was to begin.
    pub(super) fn take(&mut self, now: Moment) -> Option<(u64, Moment)> {
        let due = self.next()?;
        if due > now {
            return None;
        }
        let number = self.started;
        self.started += 1;
        Some((number, due))
    }

    /// When the next arrival is due; `None` when there will be none (unless the rate changes).
    pub(super) fn next(&mut self) -> Option<Moment> {
        while self.stretches.get(1).is_some_and(|later| later.first <= self.started) {
            self.stretches.pop_front();
        }
        let stretch = self.stretches.front()?;
        if self.started >= self.most || stretch.per_second <= 0.0 {
            return None;
        }
        Some(stretch.due_at(self.started)).filter(|due| *due < self.end)
    }

    /// From now on at another rate; 0 pauses. What is overdue keeps its moment.
    pub(super) fn set_rate(&mut self, per_second: f64, now: Moment) {
        let first = self.due_by(now).max(self.started);
        let from = self.stretches.back().map_or(now, |stretch| {
            // The next one is due no sooner than the old rate or the new one would have it.
            let gap = if per_second > 0.0 { (1e9 / per_second) as u64 } else { 0 };
            let last = if first > 0 { stretch.due_at(first - 1) } else { now };
            now.max(last.saturating_add(gap.min(1_000_000_000)))
        });
        self.stretches.push_back(Stretch { first, from, per_second });
    }

    /// No arrival any more from now on.
    pub(super) fn stop(&mut self, now: Moment) {
        self.end = self.end.min(now);
    }

    /// Whether no arrival can come any more, whatever the rate becomes.
    pub(super) fn is_over(&mut self, now: Moment) -> bool {
        let is_spent = self.started >= self.most || now >= self.end;
        is_spent || (self.next().is_none() && !self.is_paused())
    }

    fn is_paused(&self) -> bool {
        self.stretches.back().is_some_and(|stretch| stretch.per_second <= 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Moment = 1_000_000_000;

    fn all(schedule: &mut Schedule, now: Moment) -> Vec<Moment> {
        std::iter::from_fn(|| schedule.take(now).map(|(_, due)| due)).collect()
    }

    #[test]
    fn arrivals_are_evenly_spaced_from_the_beginning() {
        let mut schedule = Schedule::new(4.0, u64::MAX, 10 * SECOND);
        assert_eq!(all(&mut schedule, SECOND / 2), [0, SECOND / 4, SECOND / 2]);
        assert_eq!(schedule.next(), Some(SECOND * 3 / 4));
        assert_eq!(schedule.due_by(SECOND / 2), 3);
    }

    #[test]
    fn a_late_taker_gets_the_moments_that_were_planned() {
        let mut schedule = Schedule::new(1000.0, 5, 10 * SECOND);
        let late = all(&mut schedule, 3 * SECOND);
        assert_eq!(late, [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000]);
        assert!(schedule.is_over(3 * SECOND));
    }

    #[test]
    fn nothing_is_due_at_the_end_or_later() {
        let mut schedule = Schedule::new(2.0, u64::MAX, SECOND);
        assert_eq!(all(&mut schedule, 5 * SECOND), [0, SECOND / 2]);
        assert_eq!(schedule.due_by(5 * SECOND), 2);
        assert!(schedule.is_over(SECOND));
    }

    #[test]
    fn another_rate_leaves_what_is_overdue_where_it_was() {
        let mut schedule = Schedule::new(10.0, u64::MAX, 100 * SECOND);
        schedule.set_rate(1.0, SECOND);
        let taken = all(&mut schedule, 4 * SECOND);
        assert_eq!(taken[..11], (0..11).map(|n| n * SECOND / 10).collect::<Vec<_>>());
        assert_eq!(taken[11..], [2 * SECOND, 3 * SECOND, 4 * SECOND]);
    }

    #[test]
    fn a_pause_is_not_the_end() {
        let mut schedule = Schedule::new(10.0, 20, 100 * SECOND);
        all(&mut schedule, SECOND);
        schedule.set_rate(0.0, SECOND);
        assert_eq!(schedule.next(), None);
        assert!(!schedule.is_over(5 * SECOND));
        assert_eq!(schedule.due_by(5 * SECOND), 11);
        schedule.set_rate(1000.0, 5 * SECOND);
        assert_eq!(all(&mut schedule, 6 * SECOND).len(), 9);
        assert!(schedule.is_over(6 * SECOND));
    }

    #[test]
    fn stopping_stops() {
        let mut schedule = Schedule::new(10.0, 20, 100 * SECOND);
        schedule.stop(SECOND / 2);
        assert_eq!(all(&mut schedule, SECOND).len(), 5);
        assert!(schedule.is_over(SECOND));
    }
}
