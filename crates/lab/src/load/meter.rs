//! Counting while a load runs.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::report::{ErrorKind, Latency, Probes, Report};
use super::schedule::{Moment, Schedule};

/// An arrival that begins so much later than it was due is late, in nanoseconds.
pub(super) const LATE: Moment = 10_000_000;

/// Latencies are told apart from here on, in nanoseconds.
const FINEST: u64 = 1_000;
/// Longer ones count as this long: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// What a load shares with its handle.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) schedule: Schedule,
    /// Since the last mark.
    pub(super) phase: Tally,
    /// Of all phases before.
    earlier: Tally,
    phase_began: Moment,
    /// Arrivals due before the last mark.
    due_before: u64,
    cpu_before: Duration,
    pub(super) now: Gauges,
}

/// What is so at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauges {
    pub(super) open: u64,
    pub(super) waiting: u64,
    pub(super) cpu: Duration,
    /// When the CPU time was asked for.
    pub(super) looked_at: Moment,
    /// No arrival will come any more, and none waits.
    pub(super) is_settled: bool,
    /// When the load ended, if it has.
    pub(super) ended: Option<Moment>,
}

impl Meter {
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            phase: Tally::default(),
            earlier: Tally::default(),
            phase_began: 0,
            due_before: 0,
            cpu_before: Duration::ZERO,
            now: Gauges::default(),
        }
    }

    /// Since the load began.
    pub(super) fn report(&self, now: Moment) -> Report {
        let mut whole = self.earlier.clone();
        whole.add(&self.phase);
        let mut report = whole.report();
        let now = self.now.ended.unwrap_or(now);
        report.elapsed = Duration::from_nanos(now);
        report.due = self.schedule.due_by(now);
        report.cpu = self.now.cpu;
        self.with_gauges(report)
    }

    /// Since the last mark; a new phase begins.
    pub(super) fn mark(&mut self, now: Moment) -> Report {
        let phase = std::mem::take(&mut self.phase);
        self.earlier.add(&phase);
        let mut report = phase.report();
        report.elapsed = Duration::from_nanos(now.saturating_sub(self.phase_began));
        let due = self.schedule.due_by(now);
        report.due = due - self.due_before.min(due);
        report.cpu = self.now.cpu.saturating_sub(self.cpu_before);
        (self.phase_began, self.due_before, self.cpu_before) = (now, due, self.now.cpu);
        self.with_gauges(report)
    }

    const fn with_gauges(&self, mut report: Report) -> Report {
        report.open = self.now.open;
        report.waiting = self.now.waiting;
        report
    }
}

/// Counts and latencies of a stretch of time.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    started: u64,
    late: u64,
    succeeded: u64,
    errors: [u64; ErrorKind::ALL.len()],
    lost: [u64; ErrorKind::ALL.len()],
    packets: u64,
    probes: Probes,
    lag: Histogram<u64>,
    connect: Histogram<u64>,
    answer: Histogram<u64>,
    probe: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            started: 0,
            late: 0,
            succeeded: 0,
            errors: Default::default(),
            lost: Default::default(),
            packets: 0,
            probes: Probes::default(),
            lag: histogram(),
            connect: histogram(),
            answer: histogram(),
            probe: histogram(),
        }
    }
}

impl Tally {
    pub(super) fn start(&mut self, due: Moment, now: Moment) {
        self.started += 1;
        self.late += u64::from(now.saturating_sub(due) > LATE);
        record(&mut self.lag, due, now);
    }

    pub(super) fn connected(&mut self, due: Moment, now: Moment) {
        record(&mut self.connect, due, now);
    }

    pub(super) fn answered(&mut self, due: Moment, now: Moment) {
        record(&mut self.answer, due, now);
    }

    /// So many arrivals were packets that left.
    pub(super) const fn packets_sent(&mut self, number: u64) {
        self.packets += number;
        self.succeeded += number;
    }

    /// A datagram left whose answer is awaited.
    pub(super) const fn datagram_sent(&mut self) {
        self.packets += 1;
    }

    pub(super) const fn succeeded(&mut self) {
        self.succeeded += 1;
    }

    pub(super) fn failed(&mut self, kind: ErrorKind) {
        self.errors[kind as usize] += 1;
    }

    /// A held connection went away on its own.
    pub(super) fn lost(&mut self, kind: ErrorKind) {
        self.lost[kind as usize] += 1;
    }

    pub(super) const fn probe_sent(&mut self) {
        self.probes.sent += 1;
    }

    pub(super) fn probe_ok(&mut self, due: Moment, now: Moment) {
        self.probes.ok += 1;
        record(&mut self.probe, due, now);
    }

    pub(super) const fn probe_timeout(&mut self) {
        self.probes.timeout += 1;
    }

    pub(super) const fn probe_refused(&mut self) {
        self.probes.refused += 1;
    }

    pub(super) const fn probe_lost(&mut self) {
        self.probes.lost += 1;
    }

    fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.late += other.late;
        self.succeeded += other.succeeded;
        self.packets += other.packets;
        for (own, other) in [(&mut self.errors, &other.errors), (&mut self.lost, &other.lost)] {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        }
        self.probes.sent += other.probes.sent;
        self.probes.ok += other.probes.ok;
        self.probes.timeout += other.probes.timeout;
        self.probes.refused += other.probes.refused;
        self.probes.lost += other.probes.lost;
        for (own, other) in [
            (&mut self.lag, &other.lag),
            (&mut self.connect, &other.connect),
            (&mut self.answer, &other.answer),
            (&mut self.probe, &other.probe),
        ] {
            // All have the same bounds, so that nothing can be too large.
            let _ = own.add(other);
        }
    }

    fn report(&self) -> Report {
        let counts = |counts: &[u64; ErrorKind::ALL.len()]| {
            let pairs = ErrorKind::ALL.into_iter().zip(*counts);
            pairs.filter(|(_, number)| *number > 0).collect()
        };
        Report {
            started: self.started,
            late: self.late,
            lag: latency(&self.lag),
            succeeded: self.succeeded,
            failed: self.errors.iter().sum(),
            errors: counts(&self.errors),
            connect: latency(&self.connect),
            answer: latency(&self.answer),
            probes: Probes { latency: latency(&self.probe), ..self.probes },
            lost: counts(&self.lost),
            packets: self.packets,
            ..Report::default()
        }
    }
}

fn histogram() -> Histogram<u64> {
    // Bounds and digits are the library's own legal ones, so the fallback is never used.
    Histogram::new_with_bounds(FINEST, LONGEST, 3)
        .unwrap_or_else(|_| unreachable!("1 µs to 1 h at three digits is within what it takes"))
}

fn record(histogram: &mut Histogram<u64>, due: Moment, now: Moment) {
    histogram.saturating_record(now.saturating_sub(due));
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
    let max = Duration::from_nanos(histogram.max());
    Latency { count: histogram.len(), p50: at(0.5).min(max), p99: at(0.99).min(max), max }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Moment = 1_000_000_000;

    #[test]
    fn phases_add_up_to_the_whole() {
        let mut meter = Meter::new(Schedule::new(2.0, 100, 60 * SECOND));
        for (due, now) in [(0, 0), (SECOND, SECOND + 2 * LATE)] {
            meter.phase.start(due, now);
            meter.phase.connected(due, now + 500_000);
            meter.phase.succeeded();
        }
        let first = meter.mark(2 * SECOND - 1);
        assert_eq!((first.due, first.started, first.late, first.succeeded), (4, 2, 1, 2));
        meter.phase.start(2 * SECOND, 2 * SECOND);
        meter.phase.failed(ErrorKind::Refused);
        let whole = meter.report(3 * SECOND - 1);
        let second = meter.mark(3 * SECOND - 1);
        assert_eq!((second.due, second.started, second.failed), (2, 1, 1));
        assert_eq!((whole.due, whole.started, whole.late, whole.failed), (6, 3, 1, 1));
        assert_eq!(whole.connect.count, 2);
        assert!(whole.connect.max >= Duration::from_millis(20));
        assert_eq!(second.connect, Latency::default());
    }
}
