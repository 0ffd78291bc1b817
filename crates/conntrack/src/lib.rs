//! The `conntrack` command of conntrack-tools 1.4.7, replaced: its words, its bytes, its exit codes.
//!
//! Arguments become an [`Invocation`], a plain value; a command is then run for it. Where 1.4.7 has
//! a fault that later releases mended, the later behaviour is taken.

mod arguments;
mod commands;
mod enduring;
mod failure;
mod help;
pub mod invocation;
mod labels;
mod local_time;
mod matching;
mod output;
mod programs;
mod request;

use std::ffi::{OsStr, OsString};
use std::io::Write;

use enduring::Enduring;

pub use arguments::{Refused, parse};
pub use commands::check_filters;
use failure::Failure;
pub use invocation::{Command, Invocation, Table};

/// Where a command writes to.
pub struct Streams<'s> {
    /// Standard output: entries. Commands hand it large pieces and flush it where somebody waits.
    pub out: &'s mut dyn Write,
    /// Standard error: summaries, warnings and failures, whole lines at a time.
    pub err: &'s mut dyn Write,
}

/// Runs conntrack with `arguments`, of which the first is the program's name, and returns its exit
/// code: 0, 1 when it failed or there was nothing to change, 2 when the arguments are wrong.
pub fn run(arguments: &[OsString], mut streams: Streams<'_>) -> u8 {
    let outcome = execute(arguments, &mut streams);
    let flushed = streams.out.flush().map_err(Failure::Output);
    match outcome.and(flushed) {
        Ok(()) => 0,
        Err(failure) => {
            // Nobody is left to tell when standard error is closed; the exit code still speaks.
            let _unread = failure.report(streams.err);
            failure.exit_code()
        }
    }
}

fn execute(arguments: &[OsString], streams: &mut Streams<'_>) -> Result<(), Failure> {
    let (warnings, parsed) = match parse(arguments) {
        Ok(mut invocation) => (std::mem::take(&mut invocation.warnings), Ok(invocation)),
        Err(Refused { warnings, failure }) => (warnings, Err(failure)),
    };
    for warning in warnings {
        let _unread = streams.err.write_all(format!("{warning}\n").as_bytes());
    }
    let invocation = parsed?;
    let program = arguments.first().map_or_else(|| OsStr::new("conntrack"), OsString::as_os_str);
    match &invocation.command {
        Command::Help => Ok(help::write(program, &invocation, streams.out)?),
        Command::Load(_) | Command::Delete | Command::Update => {
            let mut out = Enduring::new(streams.out);
            perform(program, &invocation, &mut Streams { out: &mut out, err: streams.err })?;
            out.flush()?;
            Ok(out.outcome()?)
        }
        _ => perform(program, &invocation, streams),
    }
}

fn perform(
    program: &OsStr,
    invocation: &Invocation,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    if let Command::Load(file) = &invocation.command {
        return commands::load::run(program, file, streams);
    }
    let count = commands::run(invocation, streams)?;
    commands::summary(invocation, count, streams)
}
