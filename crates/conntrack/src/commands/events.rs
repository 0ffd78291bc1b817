//! `-E`: what happens in a table, until a signal says to stop.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ctkeeper_netlink::{Error, Events, ExpectationEvents, Groups, Reading};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::Streams;
use crate::failure::{Failure, plain};
use crate::invocation::{EventMask, Invocation, Table};
use crate::matching::Matcher;
use crate::output::{Printer, Purpose};
use crate::programs::Programs;

/// Kernel memory for events that wait, unless `-b` says otherwise; taken only while they wait. It
/// holds the burst of a table of 80,000 entries being emptied.
const BUFFER: usize = 32 * 1024 * 1024;
/// How long a wait lasts before signals are looked at, in case one came just before it.
const PATIENCE: Duration = Duration::from_millis(500);
/// After so long without events there is no burst, and the next event is printed at once.
const LULL: Duration = Duration::from_millis(10);
/// In a burst events gather so long, at most: reading each for itself costs thrice as much, and
/// slows down those who cause them.
const GATHERING: Duration = Duration::from_millis(5);
/// What a flood may fill a buffer with: 200,000 events a second of 800 bytes of kernel memory each.
const BYTES_PER_MICROSECOND: u64 = 160;
/// How often losses are told.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Prints events; returns how many were shown.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    match invocation.table {
        Table::Expect => expectations(invocation, streams),
        _ => entries(invocation, streams),
    }
}

fn entries(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let stop = stop_on_signals()?;
    let buffer = invocation.buffer_size.unwrap_or(BUFFER);
    let mut events = Events::subscribe(groups(invocation.events), buffer)
        .map_err(|error| not_open(invocation, &error, streams))?;
    if invocation.buffer_size.is_some() {
        let size = events.capacity();
        writeln!(streams.err, "NOTICE: Netlink socket buffer size has been set to {size} bytes.")?;
    }
    let matcher = Matcher::new(invocation)?;
    let mut printer = Printer::new(invocation, Purpose::Events);
    let mut programs = Programs::default();
    let (mut pace, mut losses, mut shown) = (Pace::new(events.capacity()), Losses::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let mut written = Ok(());
        events.set_gathering(pace.gathering());
        let reading = events.read(pace.patience(), |event| {
            if written.is_err() || !matcher.matches(event.flow) {
                return;
            }
            shown += 1;
            printer.tick();
            // Later releases leave it away where it would break the document.
            let port = if invocation.output.xml { 0 } else { event.port };
            printer.event(event.flow, event.kind, programs.tail(port));
            written = printer.pass(streams.out);
        });
        written?;
        printer.pass_all(streams.out)?;
        streams.out.flush()?;
        programs.forget();
        let reading = reading.map_err(|error| not_read(&error))?;
        pace.note(&reading);
        losses.note(&reading, streams.err)?;
    }
    losses.tell(streams.err)?;
    printer.footer();
    printer.pass_all(streams.out)?;
    Ok(shown)
}

fn expectations(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let stop = stop_on_signals()?;
    let mut events = ExpectationEvents::subscribe(groups(invocation.events), BUFFER)
        .map_err(|error| not_open(invocation, &error, streams))?;
    let mut printer = Printer::new(invocation, Purpose::Events);
    let (mut pace, mut losses, mut shown) = (Pace::new(events.capacity()), Losses::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let mut written = Ok(());
        events.set_gathering(pace.gathering());
        let reading = events.read(pace.patience(), |event| {
            if written.is_err() {
                return;
            }
            shown += 1;
            printer.tick();
            printer.expectation(event.expectation, Some(event.kind));
            written = printer.pass(streams.out);
        });
        written?;
        printer.pass_all(streams.out)?;
        streams.out.flush()?;
        let reading = reading.map_err(|error| not_read(&error))?;
        pace.note(&reading);
        losses.note(&reading, streams.err)?;
    }
    losses.tell(streams.err)?;
    printer.expectations_footer();
    printer.pass_all(streams.out)?;
    Ok(shown)
}

/// Set when somebody asks to stop; asked twice, the process ends at once, as it must while nobody
/// takes what it prints.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::problem(format!("Can't catch signals: {error}")))?;
    }
    Ok(stop)
}

fn groups(mask: Option<EventMask>) -> Groups {
    let EventMask { new, updates, destroy } =
        mask.unwrap_or(EventMask { new: true, updates: true, destroy: true });
    [(new, Groups::NEW), (updates, Groups::UPDATE), (destroy, Groups::DESTROY)]
        .into_iter()
        .filter_map(|(wanted, group)| wanted.then_some(group))
        .reduce(|a, b| a | b)
        .unwrap_or(Groups::ALL)
}

/// A subscription that the kernel refuses; of connections 1.4.7 says why.
fn not_open(invocation: &Invocation, error: &Error, streams: &mut Streams<'_>) -> Failure {
    let Some(errno) = error.errno() else {
        return Failure::operation(error, &invocation.command, invocation.table);
    };
    if invocation.table == Table::Expect {
        return Failure::problem("Can't open handler");
    }
    let cause = plain(&std::io::Error::from_raw_os_error(errno.0));
    // The exit code tells as well, if nobody reads this.
    let _unread = writeln!(streams.err, "mnl_socket_bind: {cause}");
    Failure::problem("Can't open netlink socket")
}

fn not_read(error: &Error) -> Failure {
    let cause = error.errno().map_or_else(
        || error.to_string(),
        |errno| plain(&std::io::Error::from_raw_os_error(errno.0)),
    );
    Failure::problem(format!("failed to received netlink event: {cause}"))
}

/// How long to wait and let gather: an event that comes alone is printed at once, one of many with
/// its neighbours.
struct Pace {
    is_burst: bool,
    gathering: Duration,
}

impl Pace {
    /// For a buffer of `capacity` bytes, of which a flood may fill a quarter while it gathers.
    fn new(capacity: usize) -> Self {
        let bearable = Duration::from_micros(capacity as u64 / BYTES_PER_MICROSECOND / 4);
        Self { is_burst: false, gathering: GATHERING.min(bearable) }
    }

    fn patience(&self) -> Duration {
        if self.is_burst { LULL } else { PATIENCE }
    }

    fn gathering(&self) -> Duration {
        if self.is_burst { self.gathering } else { Duration::ZERO }
    }

    fn note(&mut self, reading: &Reading) {
        self.is_burst = reading.events > 0;
    }
}

/// Events that nobody will see.
#[derive(Default)]
struct Losses {
    counted: u64,
    uncounted: bool,
    is_told: bool,
    told: Option<Instant>,
}

impl Losses {
    fn note(&mut self, reading: &Reading, err: &mut dyn Write) -> Result<(), Failure> {
        if reading.is_lossy() {
            self.counted += reading.lost + reading.undecodable;
            self.uncounted |= reading.lost_uncounted;
            self.is_told = false;
        }
        let is_due = self.told.is_none_or(|told| told.elapsed() >= WARNING_INTERVAL);
        if is_due { self.tell(err) } else { Ok(()) }
    }

    /// conntrack's warning, and how many there were since the beginning.
    fn tell(&mut self, err: &mut dyn Write) -> Result<(), Failure> {
        if (self.counted == 0 && !self.uncounted) || self.is_told {
            return Ok(());
        }
        let counted = self.counted;
        let more = if self.uncounted { " at least" } else { "" };
        err.write_all(WARNING.as_bytes())?;
        writeln!(err, "Lost so far:{more} {counted} events.")?;
        self.is_told = true;
        self.told = Some(Instant::now());
        Ok(())
    }
}

const WARNING: &str = "WARNING: We have hit ENOBUFS! We are losing events.\n\
    This message means that the current netlink socket buffer size is too small.\n\
    Please, check --buffer-size in conntrack(8) manpage.\n";
