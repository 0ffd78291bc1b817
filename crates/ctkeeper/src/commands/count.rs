//! `ctkeeper count`: how many entries.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use ctkeeper_flow::{Filter, Flow, Limit, json, units};
use ctkeeper_netlink::Conntrack;

use super::filter::{Carried, FILTER_HELP, FilterArgs, kernel_filter};
use super::list::nanoseconds_since_epoch;
use super::namespaces::Selection;
use super::saved::{FromArgs, SavedList};
use crate::cli::Global;
use crate::exit;
use crate::ui::{Cell, Column, Screen, Table, printable, say, wrap};

const EXAMPLES: &str = "\
Examples:
  ctkeeper count                       the kernel's count and its limit
  ctkeeper count --exact               counted entry by entry
  ctkeeper count state TIME_WAIT       entries that match
  ctkeeper count --netns all --json    every namespace, an object a line

The kernel's count includes entries that have expired and are not collected yet, for up to a minute;
with a filter or --exact they are left out (reading the table collects them). A table that changes
while it is read is read again.
Not on a terminal, the number stands alone, as `conntrack -C` prints it.";

/// Options of `ctkeeper count`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{FILTER_HELP}"))]
pub(crate) struct CountArgs {
    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    from: FromArgs,

    /// Count entry by entry, without those that have expired
    #[arg(long)]
    exact: bool,
}

/// Counts the entries that match.
pub(crate) fn run(args: &CountArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let filter = args.filter.compile()?;
    if let Some(saved) = args.from.open(global)? {
        return count_saved(saved, &filter, global.json);
    }
    let by_kernel = filter.is_everything() && !args.exact;
    let selection = Selection::of(global)?;
    let mut counts = Vec::new();
    let mut reading = Reading::default();
    let visited_all = selection.each_table(|table, label| {
        let namespace = label.map(str::to_owned);
        counts.push(Count { namespace, ..count(table, &filter, by_kernel, &mut reading)? });
        Ok(())
    })?;
    let complete = visited_all && reading.undecodable == 0;
    let screen = Screen::stdout(global.color);
    let mut out = io::stdout().lock();
    if global.json {
        counts.iter().try_for_each(|count| writeln!(out, "{}", count.json(by_kernel)))?;
    } else if matches!(selection, Selection::All(_)) {
        by_namespace(&counts, screen, &mut out)?;
    } else if screen.is_terminal() {
        for line in counts.iter().flat_map(|count| count.sentences(by_kernel)) {
            writeln!(out, "{}", wrap(&line, screen.width()).join("\n"))?;
        }
    } else {
        counts.iter().try_for_each(|count| writeln!(out, "{}", count.entries))?;
    }
    out.flush()?;
    reading.warn(&filter);
    Ok(ExitCode::from(if complete { exit::OK } else { exit::FAILURE }))
}

fn count_saved(saved: SavedList, filter: &Filter, json: bool) -> anyhow::Result<ExitCode> {
    let now = nanoseconds_since_epoch();
    let mut count = Count { namespace: None, entries: 0, standing: 0, limit: None };
    let mut carried = Carried::default();
    let complete = saved.each(|flow, _| {
        carried.look(flow);
        count.standing += 1;
        count.entries += u64::from(filter.matches(flow, now));
        Ok(true)
    })?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", count.json(false))?;
    } else {
        writeln!(out, "{}", count.entries)?;
    }
    carried.warn(filter);
    Ok(ExitCode::from(if complete { exit::OK } else { exit::FAILURE }))
}

struct Count {
    namespace: Option<String>,
    /// Entries that match.
    entries: u64,
    /// Entries by the kernel's count.
    standing: u64,
    limit: Option<Limit>,
}

/// What reading entry by entry told.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    carried: Carried,
    undecodable: u64,
}

impl Reading {
    fn warn(&self, filter: &Filter) {
        if self.undecodable > 0 {
            let unread = units::counted(self.undecodable, "entry", "entries");
            say!("ctkeeper: {unread} could not be read and so were not counted");
        }
        self.carried.warn(filter);
    }
}

fn count(
    table: &mut Conntrack,
    filter: &Filter,
    by_kernel: bool,
    reading: &mut Reading,
) -> anyhow::Result<Count> {
    let global = table.count_and_limit()?;
    let standing = u64::from(global.entries);
    let limit = global.limit.map(|limit| Limit(limit.into()));
    let mut entries = standing;
    // A dump walks the whole host's hash table, even for an empty namespace.
    if !by_kernel && standing > 0 {
        let now = nanoseconds_since_epoch();
        let tally = |(matching, carried): &mut (u64, Carried), flow: &Flow| {
            carried.look(flow);
            *matching += u64::from(filter.matches(flow, now));
        };
        let ((matching, carried), dump) = table.fold(&kernel_filter(filter), tally)?;
        entries = matching;
        reading.carried.add(carried);
        reading.undecodable += dump.undecodable;
    }
    Ok(Count { namespace: None, entries, standing, limit })
}

impl Count {
    fn json(&self, by_kernel: bool) -> String {
        let mut name = Vec::new();
        if let Some(namespace) = &self.namespace {
            name.extend_from_slice(b"\"namespace\":");
            json::write_string(namespace, &mut name);
            name.push(b',');
        }
        let name = String::from_utf8_lossy(&name);
        let Self { entries, standing, limit, .. } = self;
        let limit = limit.map_or_else(String::new, |limit| format!(",\"limit\":{}", limit.0));
        format!(
            "{{{name}\"entries\":{entries},\"table\":{standing}{limit},\
             \"includes_expired\":{by_kernel}}}"
        )
    }

    fn sentences(&self, by_kernel: bool) -> Vec<String> {
        let (entries, standing) = (units::count(self.entries), units::count(self.standing));
        if !by_kernel {
            return vec![format!("{entries} of {standing} entries")];
        }
        let count = match self.limit {
            Some(limit) if limit.entries().is_some() => {
                let share = limit.share(self.standing).map_or_else(String::new, units::percent);
                format!("{entries} of {} entries ({share})", units::count(limit.0))
            }
            _ => format!("{entries} entries, no limit"),
        };
        let note = "By the kernel's count, expired entries that are not collected yet included; \
                    --exact leaves them out.";
        vec![count, note.to_owned()]
    }
}

fn by_namespace(counts: &[Count], screen: Screen, out: &mut impl Write) -> io::Result<()> {
    let column = |heading: &'static str, right| Column {
        heading: heading.into(),
        right,
        least: 0,
        optional: false,
    };
    let mut table = Table::new(
        screen,
        vec![column("NETNS", false), column("ENTRIES", true), column("OF LIMIT", true)],
    );
    for count in counts {
        let share = count.limit.and_then(|limit| limit.share(count.standing));
        table.row(
            out,
            vec![
                Cell::from(printable(count.namespace.as_deref().unwrap_or(""))),
                if screen.is_terminal() {
                    units::count(count.entries)
                } else {
                    count.entries.to_string()
                }
                .into(),
                share.map_or_else(|| "-".to_owned(), units::percent).into(),
            ],
        )?;
    }
    table.finish(out)
}
