//! The commands: each takes an [`Invocation`] and tells how many entries it concerned.
//!
//! A command's module has `pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>)
//! -> Result<u64, Failure>`: the number is conntrack's counter, which [`summary`] prints where a
//! command stands alone; with `-R` nobody asks for it.

mod count;
mod create;
mod delete;
mod events;
mod flush;
mod get;
mod list;
pub(crate) mod load;
mod statistics;
mod update;

use ctkeeper_flow::Expectation;
use ctkeeper_netlink::{Dump, Error};

use crate::failure::{Failure, say};
use crate::invocation::{Command, Invocation, Options, Table};
use crate::{Streams, help};

/// Runs a command, without its summary.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    check_filters(invocation)?;
    match &invocation.command {
        Command::List => return list::run(invocation, streams),
        Command::Get => return get::run(invocation, streams),
        Command::Create | Command::Add => return create::run(invocation, streams),
        Command::Update => return update::run(invocation, streams),
        Command::Delete => return delete::run(invocation, streams),
        Command::Flush => return flush::run(invocation, streams),
        Command::Events => return events::run(invocation, streams),
        Command::Count => return count::run(invocation, streams),
        Command::Statistics => return statistics::run(invocation, streams),
        Command::Version => streams.out.write_all(help::VERSION)?,
        // These need the program's name, and stand alone: `crate::execute` has seen to them.
        Command::Help | Command::Load(_) => {}
    }
    Ok(0)
}

/// The kernel's refusal of an invocation.
pub(crate) fn refused(invocation: &Invocation, error: &Error) -> Failure {
    Failure::operation(error, &invocation.command, invocation.table)
}

/// That every entry of a dump could be read.
pub(crate) fn whole(dump: &Dump) -> Result<(), Failure> {
    match dump.undecodable {
        0 => Ok(()),
        unread => Err(Failure::problem(format!("{unread} flow entries could not be read"))),
    }
}

/// What conntrack finds wrong only when it begins with a command: by then it has carried out the
/// lines before, where the command stands in a file of `-R`.
pub fn check_filters(invocation: &Invocation) -> Result<(), Failure> {
    const NEEDED: &[(Options, Options, &str)] = &[
        (Options::MASK_SOURCE, Options::ORIGINAL_SOURCE, "Can't use --mask-src without --src"),
        (
            Options::MASK_DESTINATION,
            Options::ORIGINAL_DESTINATION,
            "Can't use --mask-dst without --dst",
        ),
    ];
    let (Table::Conntrack, options) = (invocation.table, invocation.options) else {
        return Ok(());
    };
    let lists = invocation.command == Command::List;
    if lists && options.contains(Options::ZERO) && options.intersects(Options::COMPARED) {
        return Err(Failure::usage("Can't use -z with filtering parameters"));
    }
    let filters = matches!(invocation.command, Command::Update | Command::Delete | Command::Events);
    let lacking = NEEDED
        .iter()
        .find(|(mask, address, _)| options.contains(*mask) && !options.contains(*address));
    match lacking {
        Some((.., message)) if lists || filters => Err(Failure::usage(*message)),
        _ => Ok(()),
    }
}

/// The line on standard error that ends a command, and the exit code that it implies: a command
/// that was to change or delete something fails when there was nothing. (`-D expect`, which shows
/// none, deletes the one that it names or has failed before.)
pub(crate) fn summary(
    invocation: &Invocation,
    count: u64,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let Some(what) = summary_text(&invocation.command, invocation.table) else {
        return Ok(());
    };
    // Like conntrack's, the exit code does not depend on whether anybody can read this.
    let _unread = say(streams.err, format!("{count} {what}").as_bytes());
    let may_be_nothing = invocation.table == Table::Expect
        || matches!(invocation.command, Command::List | Command::Add | Command::Events);
    if count == 0 && !may_be_nothing { Err(Failure::Nothing) } else { Ok(()) }
}

/// Whether an expectation is of the family asked for.
fn is_of_family(invocation: &Invocation, expectation: &Expectation) -> bool {
    invocation.family.is_none_or(|family| expectation.expected.family() == family)
}

fn summary_text(command: &Command, table: Table) -> Option<&'static str> {
    let expectations = table == Table::Expect;
    Some(match command {
        Command::List | Command::Delete if expectations => "expectations have been shown.",
        Command::Events if expectations => "expectation events have been shown.",
        _ if expectations => return None,
        Command::List | Command::Get => "flow entries have been shown.",
        Command::Create => "flow entries have been created.",
        Command::Add => "flow entries have been added.",
        Command::Update => "flow entries have been updated.",
        Command::Delete => "flow entries have been deleted.",
        Command::Events => "flow events have been shown.",
        _ => return None,
    })
}
