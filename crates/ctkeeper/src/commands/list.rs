//! `ctkeeper list`: the table's entries.

use std::io;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use ctkeeper_flow::{Filter, Flow, units};
use ctkeeper_netlink::{Conntrack, DumpFilter, List};

use super::expectations;
use super::filter::{Carried, FILTER_HELP, FilterArgs, kernel_filter};
use super::namespaces::Selection;
use super::saved::{FromArgs, SavedList};
use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{EntryWriter, Extras, Format, Screen, say};

const EXAMPLES: &str = "\
Examples:
  ctkeeper list                              all entries of this namespace
  ctkeeper list tcp dport 443 not assured    terms that must all hold
  ctkeeper list 'src 10.0.0.0/8 (dport 80,443 or state TIME_WAIT)'
  ctkeeper list -o json unreplied | jq -r .original.source
  ctkeeper list --netns all 'timeout > 4d' --limit 20
  conntrack -L | ctkeeper list --from - -o json state TIME_WAIT
  ctkeeper list --table expectations         what helpers (FTP, SIP) expect

On a terminal the default is columns, elsewhere text as `conntrack -L` prints it.";

/// Options of `ctkeeper list`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{FILTER_HELP}"))]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    from: FromArgs,

    /// Which list of the kernel's
    #[arg(long, value_name = "TABLE", default_value = "entries", conflicts_with = "from")]
    table: Table,

    /// How to write them
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    /// Stop after N entries
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Show the kernel's id of each entry
    #[arg(long)]
    id: bool,

    /// In text, put the layer 3 family in front, as `conntrack -L -o extended`
    #[arg(long)]
    extended: bool,
}

/// What `--table` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Table {
    /// Tracked connections
    Entries,
    /// Connections that helpers expect
    Expectations,
    /// Entries that are deleted, while the event that tells it could not be delivered
    Dying,
    /// Entries whose first packet is on its way; none since Linux 6.0
    Unconfirmed,
}

/// Lists the entries that match.
pub(crate) fn run(args: &ListArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let filter = args.filter.compile()?;
    if args.table == Table::Expectations {
        if !filter.is_everything() {
            return Err(UsageError(expectations::NO_FILTER.to_owned()).into());
        }
        return expectations::list(args.output, args.limit, global);
    }
    let saved = args.from.open(global)?;
    let screen = Screen::stdout(global.color);
    let format = Format::choose(args.output, global.json, &screen)?;
    let extras = Extras { extended: args.extended, id: args.id, events: false };
    let mut listing = Listing {
        kernel: kernel_filter(&filter),
        list: match args.table {
            Table::Dying => List::Dying,
            Table::Unconfirmed => List::Unconfirmed,
            Table::Entries | Table::Expectations => List::Table,
        },
        now: if filter.needs_clock() { nanoseconds_since_epoch() } else { 0 },
        filter,
        writer: EntryWriter::new(format, extras, screen),
        left: args.limit.unwrap_or(u64::MAX),
        tally: Tally::default(),
    };
    let is_saved = saved.is_some();
    let complete = match saved {
        Some(saved) => listing.saved(saved)?,
        None => Selection::of(global)?.each_table(|table, label| listing.table(table, label))?,
    };
    let left_out = listing.writer.left_out().join(", ");
    listing.writer.finish()?;
    if !left_out.is_empty() {
        say!("No room on this screen for {left_out}: a wider one, or `-o text`, shows them.");
    }
    listing.report(args.limit.is_some(), is_saved);
    Ok(ExitCode::from(if complete { exit::OK } else { exit::FAILURE }))
}

/// Nanoseconds since the epoch; 0 before it.
pub(super) fn nanoseconds_since_epoch() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

struct Listing {
    filter: Filter,
    list: List,
    kernel: DumpFilter,
    /// What ages count from.
    now: u64,
    writer: EntryWriter,
    /// Entries that may still be shown.
    left: u64,
    tally: Tally,
}

/// What the closing line tells.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    shown: u64,
    /// Entries in the tables, by the kernel's count; of a saved list those that were read.
    standing: u64,
    interruptions: u64,
    undecodable: u64,
    carried: Carried,
}

impl Listing {
    fn table(&mut self, table: &mut Conntrack, label: Option<&str>) -> anyhow::Result<()> {
        let standing = table.count_and_limit()?.entries;
        self.tally.standing += u64::from(standing);
        // A dump walks the whole host's hash table, even for an empty namespace.
        let is_empty = standing == 0 && self.list == List::Table;
        if (is_empty && label.is_some()) || self.left == 0 {
            return Ok(());
        }
        let mut outcome = Ok(());
        let (kernel, list) = (self.kernel, self.list);
        let dump = table.dump_list(list, &kernel, |flow| match self.entry(flow, label) {
            Ok(()) if self.left > 0 => ControlFlow::Continue(()),
            result => {
                outcome = result;
                ControlFlow::Break(())
            }
        })?;
        outcome?;
        self.tally.interruptions += u64::from(dump.interruptions);
        self.tally.undecodable += dump.undecodable;
        Ok(())
    }

    fn saved(&mut self, list: SavedList) -> anyhow::Result<bool> {
        list.each(|flow, namespace| {
            self.tally.standing += 1;
            if self.left > 0 {
                self.entry(flow, namespace)?;
            }
            Ok(self.left > 0)
        })
    }

    #[inline]
    fn entry(&mut self, flow: &Flow, label: Option<&str>) -> io::Result<()> {
        self.tally.carried.look(flow);
        if !self.filter.matches(flow, self.now) {
            return Ok(());
        }
        self.tally.shown += 1;
        self.left -= 1;
        self.writer.entry(flow, label, None)
    }

    /// The closing line and what may surprise, on standard error.
    fn report(&self, limited: bool, is_saved: bool) {
        let Tally { shown, standing, .. } = self.tally;
        let (shown, standing) = (units::counted(shown, "entry", "entries"), units::count(standing));
        if limited && self.left == 0 && is_saved {
            // The rest may be a stream that never ends.
            say!("{shown} shown, as many as asked for; the rest of the list was not read.");
        } else if limited && self.left == 0 {
            say!("{shown} shown, as many as asked for; the table holds {standing}.");
        } else if self.filter.is_everything() {
            say!("{shown} shown.");
        } else {
            let place = if is_saved { "list" } else { "table" };
            say!("{shown} shown of {standing} in the {place}.");
        }
        self.warn();
    }

    fn warn(&self) {
        let tally = self.tally;
        if tally.interruptions > 0 {
            say!(
                "The table was rebuilt while it was read ({} parts): entries may be missing or \
                 double; list again for a whole one.",
                tally.interruptions
            );
        }
        if tally.undecodable > 0 {
            say!("{} entries could not be read.", tally.undecodable);
        }
        tally.carried.warn(&self.filter);
    }
}
