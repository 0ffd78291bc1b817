//! The thread of a load: what is due begins, what has happened is counted.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::Closing;
use super::meter::{Meter, Tally};
use super::pool::Token;
use super::schedule::Moment;

/// So many arrivals begin before answers are looked at again.
const BATCH: usize = 64;
const EVENTS: usize = 512;
/// The token of the handle's call.
pub(super) const WAKE: Token = Token(u64::MAX);

/// What a driver is called with.
pub(super) struct Context<'a> {
    pub(super) now: Moment,
    pub(super) tally: &'a mut Tally,
}

/// One sort of traffic.
pub(super) trait Driver: Send {
    /// Begins an arrival.
    fn launch(&mut self, number: u64, due: Moment, cx: &mut Context<'_>);
    /// Sees the end of a batch of arrivals.
    fn flush(&mut self, _: &mut Context<'_>) {}
    /// Something happened to a socket.
    fn ready(&mut self, token: Token, flags: epoll::EventFlags, cx: &mut Context<'_>);
    /// Does what is due by now.
    fn fire(&mut self, cx: &mut Context<'_>);
    /// When `fire` wants to be called next.
    fn next(&self) -> Option<Moment>;
    /// Probes held connections, at most so many.
    fn probe(&mut self, most: Option<u64>, now: Moment);
    /// How many sockets are open.
    fn open(&self) -> u64;
    /// How much is under way.
    fn waiting(&self) -> u64;
    /// Every arrival has had its end.
    fn finish(&mut self);
    /// Closes everything; what waits has failed.
    fn abandon(&mut self, end: Closing, cx: &mut Context<'_>);
}

/// What a handle asks of its load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    SetRate(f64),
    Probe(Option<u64>),
    StopArrivals,
    Stop(Closing),
}

/// What a load's thread and its handle share.
#[derive(Debug)]
pub(super) struct Shared {
    meter: Mutex<Meter>,
    changed: Condvar,
    began: Instant,
    wake: OwnedFd,
}

impl Shared {
    pub(super) fn new(meter: Meter, wake: OwnedFd) -> Self {
        Self { meter: Mutex::new(meter), changed: Condvar::new(), began: Instant::now(), wake }
    }

    pub(super) fn now(&self) -> Moment {
        nanoseconds(self.began.elapsed())
    }

    pub(super) fn meter(&self) -> MutexGuard<'_, Meter> {
        // Numbers cannot be half-written in a way that harms.
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread for a command.
    pub(super) fn wake(&self) {
        // It fails only when the counter is full, and then the thread is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    pub(super) const fn wake_descriptor(&self) -> &OwnedFd {
        &self.wake
    }

    /// Waits until `is_done`, or until the time is over.
    pub(super) fn wait(&self, most: Duration, mut is_done: impl FnMut(&Meter) -> bool) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.meter(), most, |meter| !is_done(meter))
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Receiver<Command>,
    pub(super) epoll: Arc<OwnedFd>,
    pub(super) driver: Box<dyn Driver>,
}

impl Worker {
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        while let Some(wait) = self.work() {
            let timeout = Timespec::try_from(wait).ok();
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) => self.see(&events),
                Err(Errno::INTR) => {}
                // Nothing can be waited for any more: better no load than a blind one.
                Err(_) => return self.end(Closing::Close),
            }
        }
    }

    /// Does what is due; how long to sleep then, `None` when all is done.
    fn work(&mut self) -> Option<Duration> {
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        let mut meter = shared.meter();
        if self.obey(&mut meter, now) {
            drop(meter);
            self.end(Closing::Close);
            return None;
        }
        self.driver.fire(&mut Context { now, tally: &mut meter.phase });
        let has_more = self.launch(&mut meter, &shared);
        let is_settled = meter.schedule.is_over(now) && self.driver.waiting() == 0;
        if is_settled {
            self.driver.finish();
        }
        self.note(&mut meter, is_settled, now);
        if is_settled && self.driver.open() == 0 {
            meter.now.ended = Some(now);
            shared.changed.notify_all();
            return None;
        }
        if has_more {
            return Some(Duration::ZERO);
        }
        let next = [meter.schedule.next(), self.driver.next()].into_iter().flatten().min();
        // A look around every second at least: the end of the schedule is no event.
        let wait = next.map_or(1_000_000_000, |next| next.saturating_sub(shared.now()));
        Some(Duration::from_nanos(wait.min(1_000_000_000)))
    }

    fn launch(&mut self, meter: &mut Meter, shared: &Shared) -> bool {
        for _ in 0..BATCH {
            let now = shared.now();
            let Some((number, due)) = meter.schedule.take(now) else {
                self.driver.flush(&mut Context { now, tally: &mut meter.phase });
                return false;
            };
            meter.phase.start(due, now);
            self.driver.launch(number, due, &mut Context { now, tally: &mut meter.phase });
        }
        self.driver.flush(&mut Context { now: shared.now(), tally: &mut meter.phase });
        true
    }

    fn note(&self, meter: &mut Meter, is_settled: bool, now: Moment) {
        meter.now.open = self.driver.open();
        meter.now.waiting = self.driver.waiting();
        // Asking costs a system call.
        if is_settled || now.saturating_sub(meter.now.looked_at) > 1_000_000 {
            meter.now.cpu = cpu();
            meter.now.looked_at = now;
        }
        if is_settled != meter.now.is_settled {
            meter.now.is_settled = is_settled;
            self.shared.changed.notify_all();
        }
    }

    fn see(&mut self, events: &[epoll::Event]) {
        let shared = Arc::clone(&self.shared);
        let mut meter = shared.meter();
        let now = shared.now();
        for event in events {
            let token = Token(event.data.u64());
            if token == WAKE {
                let _ = rustix::io::read(shared.wake_descriptor(), &mut [0_u8; 8]);
                continue;
            }
            let flags = event.flags;
            self.driver.ready(token, flags, &mut Context { now, tally: &mut meter.phase });
        }
    }

    /// Follows the handle's commands; whether the load is to end now.
    fn obey(&mut self, meter: &mut Meter, now: Moment) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::SetRate(rate)) => meter.schedule.set_rate(rate, now),
                Ok(Command::Probe(most)) => self.driver.probe(most, now),
                Ok(Command::StopArrivals) => meter.schedule.stop(now),
                Ok(Command::Stop(end)) => {
                    meter.schedule.stop(now);
                    self.driver.abandon(end, &mut Context { now, tally: &mut meter.phase });
                    return true;
                }
                Err(TryRecvError::Empty) => return false,
                // The handle's guard is gone: so is its load.
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn end(&mut self, end: Closing) {
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        let mut meter = shared.meter();
        meter.schedule.stop(now);
        self.driver.abandon(end, &mut Context { now, tally: &mut meter.phase });
        self.note(&mut meter, true, now);
        meter.now.ended = Some(now);
        shared.changed.notify_all();
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

pub(super) fn nanoseconds(time: Duration) -> Moment {
    Moment::try_from(time.as_nanos()).unwrap_or(Moment::MAX)
}
