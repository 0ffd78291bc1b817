//! `ctkeeper save`: the table as lines that make it again.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ctkeeper_flow::{Filter, Flow, json, save, units};
use ctkeeper_netlink::{Conntrack, Dump};

use super::filter::{Carried, FILTER_HELP, FilterArgs, kernel_filter};
use super::list::nanoseconds_since_epoch;
use super::namespaces::Selection;
use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{Output, say};

const EXAMPLES: &str = "\
Examples:
  ctkeeper save > table                         all entries of this namespace
  ctkeeper save tcp assured -o json > table     those that match
  ctkeeper save --netns blue | ctkeeper restore --netns green -
  ctkeeper save > table && conntrack -R table   conntrack reads it too

The form `save` is that of `conntrack -L -o save` with what that leaves out: marks, translated ports
(conntrack loses them), and, as words that conntrack passes over, labels, helpers, masters and TCP's
window scales. `list -o save` has conntrack's own bytes. JSON also has sequence adjustments and the
private data of helpers.
Expectations are not saved: they come with the helper's traffic.

Exit codes: 0 saved; 1 failed, or not all could be read; 64 wrong command line.";

/// How entries are saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Commands that make them, for restore and for `conntrack -R`
    Save,
    /// One JSON object a line (docs/json.md)
    Json,
}

/// Options of `ctkeeper save`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{FILTER_HELP}"))]
pub(crate) struct SaveArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// How to write them [default: save]
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

/// Says what follows, where the form has comments.
const HEAD: &str = "# ctkeeper save: for `ctkeeper restore`, and for `conntrack -R`";

/// Writes the entries that match.
pub(crate) fn run(args: &SaveArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let format = match args.output {
        Some(Format::Save) if global.json => return Err(UsageError::two_formats().into()),
        Some(format) => format,
        None if global.json => Format::Json,
        None => Format::Save,
    };
    let filter = args.filter.compile()?;
    let mut table = Selection::of(global)?.only_table(ONE_NAMESPACE)?;
    let mut saving =
        Saving { filter, format, out: Output::new(), saved: 0, carried: Carried::default() };
    let dump = saving.table(&mut table)?;
    say!("{} saved.", units::counted(saving.saved, "entry", "entries"));
    saving.carried.warn(&saving.filter);
    name_expectations(&mut table);
    Ok(ExitCode::from(if is_whole(&dump) { exit::OK } else { exit::FAILURE }))
}

const ONE_NAMESPACE: &str =
    "save reads one namespace, which restore makes again: name it with --netns";

struct Saving {
    filter: Filter,
    format: Format,
    out: Output,
    saved: u64,
    carried: Carried,
}

impl Saving {
    fn table(&mut self, table: &mut Conntrack) -> anyhow::Result<Dump> {
        if self.format == Format::Save {
            writeln!(self.out, "{HEAD}")?;
        }
        let (mut written, now) = (Ok(()), nanoseconds_since_epoch());
        let dump = table.dump(&kernel_filter(&self.filter), |flow| {
            self.carried.look(flow);
            if self.filter.matches(flow, now) {
                written = self.entry(flow);
            }
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        written?;
        self.out.flush()?;
        Ok(dump)
    }

    fn entry(&mut self, flow: &Flow) -> io::Result<()> {
        self.saved += 1;
        let options = json::JsonOptions::default();
        self.out.line(|out| match self.format {
            Format::Save => save::write_whole(flow, out),
            Format::Json => json::write(flow, &options, out),
        })?;
        Ok(())
    }
}

fn is_whole(dump: &Dump) -> bool {
    if dump.interruptions > 0 {
        say!(
            "ctkeeper: the table was rebuilt while it was read: entries may be missing or double; \
             save again"
        );
    }
    if dump.undecodable > 0 {
        let unread = units::counted(dump.undecodable, "entry", "entries");
        say!("ctkeeper: {unread} could not be read and are not saved");
    }
    dump.interruptions == 0 && dump.undecodable == 0
}

/// Not to be able to count them is no reason to fail.
fn name_expectations(table: &mut Conntrack) {
    if let Ok(count @ 1..) = table.expectation_count() {
        let left = units::counted(count.into(), "expectation is", "expectations are");
        say!("{left} not saved: they come with the helper's traffic.");
    }
}
