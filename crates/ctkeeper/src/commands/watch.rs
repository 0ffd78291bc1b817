//! `ctkeeper watch`: events of the table as they happen.

use std::io;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use ctkeeper_flow::{EventKind, Filter, units};
use ctkeeper_netlink::{Conntrack, Event, Events, Groups};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::expectations;
use super::filter::{FILTER_HELP, FilterArgs, kernel_filter};
use super::list::nanoseconds_since_epoch;
use super::namespaces::Selection;
use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{EntryWriter, Extras, Format, Screen, say};

const EXAMPLES: &str = "\
Examples:
  ctkeeper watch                                 everything, until Ctrl-C
  ctkeeper watch --events new udp dport 53       new DNS queries
  ctkeeper watch --events destroy --duration 1m -o json
  ctkeeper watch --count 100 --netns blue
  ctkeeper watch --table expectations   what helpers (FTP, SIP) come to expect

Listening is not free: while anybody listens, each new connection of the namespace costs the kernel
3.5 to 5.8 microseconds more on the packet's path (a bare UDP flow costs 6). Destroy events alone do
not slow new connections down. With the kernel's default, connections that began before the first
listener send no events. An update carries what changed and little else, so a filter on a mark or a
counter may pass it over. Losses are counted exactly.";

/// Options of `ctkeeper watch`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{FILTER_HELP}"))]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Events of which table
    #[arg(long, value_name = "TABLE", default_value = "entries")]
    table: Watched,

    /// Which events: new, update, destroy
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = kind)]
    events: Vec<EventKind>,

    /// How to write them
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    /// Stop after this time, such as 30s, 5m, 2h
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    duration: Option<Duration>,

    /// Stop after N events that match
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// After a loss, show the entries that are in the table
    #[arg(long)]
    resync: bool,

    /// Show the kernel's id of each entry
    #[arg(long)]
    id: bool,

    /// In text, put the layer 3 family in front, as `conntrack -E -o extended`
    #[arg(long)]
    extended: bool,

    /// Kernel memory for events that wait, MiB
    #[arg(long, value_name = "MIB", default_value = "16", value_parser = clap::value_parser!(u32).range(1..=1024))]
    buffer: u32,
}

/// How long a wait for events lasts before the clock and the signals are looked at.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// Shows events until told to stop.
pub(crate) fn run(args: &WatchArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let filter = args.filter.compile()?;
    if args.table == Watched::Expectations {
        return args.expectations(&filter, global);
    }
    let selection = Selection::of(global)?;
    let screen = Screen::stdout(global.color);
    let format = Format::choose(args.output, global.json, &screen)?;
    let extras = Extras { extended: args.extended, id: args.id, events: true };
    let stop = stop_on_signals()?;
    let buffer = args.buffer as usize * 1024 * 1024;
    let events = match &selection {
        Selection::Own => Events::subscribe(groups(&args.events), buffer)?,
        Selection::One(namespace) => Events::subscribe_in(namespace, groups(&args.events), buffer)?,
        Selection::All(_) => return Err(UsageError(ONE_NAMESPACE.to_owned()).into()),
    };
    let table = if args.resync { Some(selection.only_table(ONE_NAMESPACE)?) } else { None };
    let mut watch = Watch {
        needs_clock: filter.needs_clock(),
        filter,
        writer: EntryWriter::new(format, extras, screen),
        events,
        table,
        left: args.count.unwrap_or(u64::MAX),
        tally: Tally::default(),
    };
    // An end beyond what the clock can hold is no end.
    let deadline = args.duration.and_then(|duration| Instant::now().checked_add(duration));
    let outcome = watch.follow(&stop, deadline);
    watch.report();
    outcome.map(|()| ExitCode::from(exit::OK))
}

/// What `--table` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Watched {
    /// Tracked connections
    Entries,
    /// Connections that helpers expect
    Expectations,
}

impl WatchArgs {
    fn expectations(&self, filter: &Filter, global: &Global) -> anyhow::Result<ExitCode> {
        if !filter.is_everything() || self.resync {
            return Err(UsageError(expectations::NO_FILTER.to_owned()).into());
        }
        let watch = expectations::Watch {
            output: self.output,
            groups: groups(&self.events),
            buffer: self.buffer as usize * 1024 * 1024,
            left: self.count.unwrap_or(u64::MAX),
            deadline: self.duration.and_then(|duration| Instant::now().checked_add(duration)),
        };
        let stop = stop_on_signals()?;
        watch.run(&stop, global)
    }
}

pub(super) const ONE_NAMESPACE: &str = "watch listens in one namespace, since listening taxes each that it \
                             listens in: name one with --netns, or run one watch for each";

/// A flag that is set when somebody asks to stop; asked twice, the process ends at once.
fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let code = 128 + signal;
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot catch signals")?;
    }
    Ok(stop)
}

fn kind(name: &str) -> Result<EventKind, String> {
    EventKind::from_name(name).ok_or_else(|| "the kinds are new, update and destroy".to_owned())
}

fn groups(kinds: &[EventKind]) -> Groups {
    let group = |kind: &EventKind| match kind {
        EventKind::New => Groups::NEW,
        EventKind::Update => Groups::UPDATE,
        EventKind::Destroy => Groups::DESTROY,
    };
    kinds.iter().map(group).reduce(|a, b| a | b).unwrap_or(Groups::ALL)
}

struct Watch {
    filter: Filter,
    needs_clock: bool,
    writer: EntryWriter,
    events: Events,
    /// What is shown again after a loss.
    table: Option<Conntrack>,
    /// Events that may still be shown.
    left: u64,
    tally: Tally,
}

/// What the closing line tells.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    seen: u64,
    shown: u64,
    lost: u64,
    lost_uncounted: bool,
    undecodable: u64,
}

impl Watch {
    fn follow(&mut self, stop: &AtomicBool, deadline: Option<Instant>) -> anyhow::Result<()> {
        while self.left > 0 && !stop.load(Ordering::Relaxed) {
            let patience = match deadline.map(|end| end.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                Some(rest) => rest.min(PATIENCE),
                None => PATIENCE,
            };
            self.read(patience)?;
        }
        Ok(self.writer.finish()?)
    }

    fn read(&mut self, patience: Duration) -> anyhow::Result<()> {
        let now = if self.needs_clock { nanoseconds_since_epoch() } else { 0 };
        let Self { filter, writer, events, left, tally, .. } = self;
        let mut written = Ok(());
        let reading = events.read(patience, |Event { kind, flow, .. }| {
            tally.seen += 1;
            if *left > 0 && written.is_ok() && filter.matches(flow, now) {
                tally.shown += 1;
                *left -= 1;
                written = writer.entry(flow, None, Some(kind));
            }
        })?;
        written?;
        self.writer.flush()?;
        self.tally.undecodable += reading.undecodable;
        self.tally.lost += reading.lost;
        self.tally.lost_uncounted |= reading.lost_uncounted;
        if reading.is_lossy() { self.after_loss(reading.lost) } else { Ok(()) }
    }

    fn after_loss(&mut self, lost: u64) -> anyhow::Result<()> {
        if lost > 0 {
            say!("ctkeeper: {} lost", units::counted(lost, "event", "events"));
        } else {
            say!("ctkeeper: events were lost; the kernel did not count them");
        }
        self.show_table()
    }

    /// Shows the entries that are in the table, if that was asked for.
    fn show_table(&mut self) -> anyhow::Result<()> {
        let Self { table: Some(table), filter, writer, .. } = self else {
            return Ok(());
        };
        let (mut shown, mut written): (u64, io::Result<()>) = (0, Ok(()));
        let now = nanoseconds_since_epoch();
        let dump = table.dump(&kernel_filter(filter), |flow| {
            if filter.matches(flow, now) {
                shown += 1;
                written = writer.entry(flow, None, None);
            }
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        written?;
        writer.flush()?;
        let entries = units::counted(shown, "entry", "entries");
        if dump.interruptions > 0 {
            say!(
                "ctkeeper: {entries} shown of the table, which was rebuilt meanwhile: some may be \
                 missing or double"
            );
        } else {
            say!("ctkeeper: resynchronised: {entries} of the table shown");
        }
        if dump.undecodable > 0 {
            let unread = units::counted(dump.undecodable, "entry", "entries");
            say!("ctkeeper: {unread} of the table could not be read");
        }
        Ok(())
    }

    fn report(&self) {
        let Tally { seen, shown, lost, lost_uncounted, undecodable } = self.tally;
        let of = if self.filter.is_everything() && seen == shown {
            String::new()
        } else {
            format!(" of {} that came", units::count(seen))
        };
        say!("{} events shown{of}, {} lost.", units::count(shown), units::count(lost));
        if lost_uncounted {
            say!("Besides, events were lost that the kernel did not count.");
        }
        if undecodable > 0 {
            say!("{} events could not be read.", units::count(undecodable));
        }
        if lost > 0 {
            say!("A larger --buffer, or fewer kinds with --events, loses less.");
        }
    }
}
