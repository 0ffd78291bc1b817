//! `ctkeeper restore`: makes entries from saved lines.

mod lines;
mod tally;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use ctkeeper_flow::{Flow, units};
use ctkeeper_netlink::{Conntrack, Errno, Error};
use rustix::io::Errno as Number;

use self::lines::Lines;
use self::tally::Tally;
use super::namespaces::Selection;
use crate::cli::Global;
use crate::exit;
use crate::ui::say;

const EXAMPLES: &str = "\
Examples:
  ctkeeper restore table                    what `ctkeeper save` wrote
  ctkeeper restore --dry-run table          read it all, make nothing
  ctkeeper list -o json tcp | ssh lb2 ctkeeper restore -
  conntrack -L -o save | ctkeeper restore --netns blue -

It reads `save` lines (ours, conntrack's, and commands -A and -I by hand), JSON lines and lines of
`conntrack -L`, mixed if need be. All lines are read before anything is made: if one cannot be, nothing
is, and each is named. Entries that exist are left alone and counted.
Entries come back with tuples, zone, translation, timeout, status, state, mark, labels (where a rule
uses `ct label`), helper (where the kernel has it) and master (where that is there or saved as well).
Counters, ids, start times, security contexts and a flow table's offload begin anew. A live TCP
connection goes on: the kernel picks its windows up from its next packets.

Exit codes: 0 all are there; 1 some could not be read or made; 4 read, and not made as asked; 64 wrong
command line.";

/// Options of `ctkeeper restore`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RestoreArgs {
    /// The saved table; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Read everything, make nothing
    #[arg(long)]
    dry_run: bool,

    /// Pass over lines that cannot be read, instead of making nothing
    #[arg(long)]
    skip_unreadable: bool,
}

/// Reads all, then makes all.
pub(crate) fn run(args: &RestoreArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let mut lines = Lines::open(&args.file)?;
    let mut tally = lines.look()?;
    if tally.unreadable > 0 && !args.skip_unreadable {
        tally.outcome = "refused";
        return tally.tell(global.json, "nothing was made");
    }
    if args.dry_run {
        tally.outcome = "planned";
        return tally.tell(global.json, "nothing was made");
    }
    let mut table = Selection::of(global)?.only_table(ONE_NAMESPACE)?;
    make(&mut table, &mut lines, &mut tally)?;
    tally.tell(global.json, "")
}

const ONE_NAMESPACE: &str = "restore works in one namespace: name it with --netns";

/// Masters come before the connections that they announced.
fn make(table: &mut Conntrack, lines: &mut Lines, tally: &mut Tally) -> anyhow::Result<()> {
    pass(table, lines, tally, |flow| flow.master.is_none())?;
    if tally.with_master > 0 && !tally.stopped {
        pass(table, lines, tally, |flow| flow.master.is_some())?;
    }
    look_at_labels(table, tally)
}

/// Makes those of the entries that are wanted now, many to a request. Memory grows by four bytes
/// an entry.
fn pass(
    table: &mut Conntrack,
    lines: &mut Lines,
    tally: &mut Tally,
    wanted: impl Fn(&Flow) -> bool,
) -> anyhow::Result<()> {
    let (numbers, failure) = (RefCell::new(Vec::new()), RefCell::new(None));
    lines.rewind()?;
    let flows = std::iter::from_fn(|| {
        loop {
            match lines.next() {
                Ok(Some((number, Ok(flow)))) if wanted(&flow) => {
                    numbers.borrow_mut().push(number);
                    return Some(flow);
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => {
                    *failure.borrow_mut() = Some(error);
                    return None;
                }
            }
        }
    });
    let batch = table.create_batch(flows, |index, error| {
        let number = numbers.borrow().get(index).copied().unwrap_or(0);
        tally.refused(number, &error);
        // Every further one would be refused as well, each with a line in the kernel's log.
        if is_full(&error) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    tally.made += batch.done;
    tally.stopped |= batch.stopped;
    let failure = failure.into_inner();
    failure.map_or(Ok(()), |error| {
        let made = units::counted(tally.made, "entry was", "entries were");
        Err(error).with_context(|| format!("{made} made before the file could not be read on"))
    })
}

fn is_full(error: &Error) -> bool {
    error.errno() == Some(Errno(Number::NOMEM.raw_os_error()))
}

/// The kernel drops labels without a word where nothing uses any.
fn look_at_labels(table: &mut Conntrack, tally: &Tally) -> anyhow::Result<()> {
    let Some(labelled) = &tally.labelled else {
        return Ok(());
    };
    let made = table.get(&labelled.original, labelled.zone)?;
    if made.is_some_and(|made| made.labels != labelled.labels) {
        let entries = units::counted(tally.with_labels, "entry", "entries");
        say!("Labels of {entries} did not stick: no rule of the namespace uses `ct label`.");
    }
    Ok(())
}

/// The exit code of what was read and made.
const fn exit_code(tally: &Tally) -> u8 {
    if tally.unreadable > 0 || tally.failed > 0 || tally.stopped {
        exit::FAILURE
    } else if matches!(tally.outcome.as_bytes(), b"planned") {
        exit::NOT_APPLIED
    } else {
        exit::OK
    }
}
