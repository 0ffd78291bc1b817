//! `-F`: everything goes.

use std::ops::ControlFlow;

use ctkeeper_flow::{Family, Flow};
use ctkeeper_netlink::{Conntrack, DumpFilter, Errno, Error};

use super::refused;
use crate::Streams;
use crate::failure::{Failure, say};
use crate::invocation::{Invocation, Options, Table};

/// Empties the table of entries or that of expectations. Like 1.4.7 it announces success before it
/// says that it failed.
///
/// What 1.4.7 sends for `-f` the kernel does not heed, and both families go. Entries of the other
/// family stay here.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let expectations = invocation.table == Table::Expect;
    let asked = invocation.options.contains(Options::FAMILY);
    let family = invocation.family.filter(|_| asked);
    let outcome = Conntrack::open().and_then(|mut table| match family {
        _ if expectations => table.flush_expectations(),
        Some(family) => delete_family(&mut table, family),
        None => table.flush(),
    });
    let message = if expectations {
        "expectation table has been emptied."
    } else {
        "connection tracking table has been emptied."
    };
    // The exit code does not depend on whether anybody can read this.
    let _unread = say(streams.err, message.as_bytes());
    outcome.map(|()| 0).map_err(|error| refused(invocation, &error))
}

/// Deletes the entries of a family one by one: the kernel is never asked to delete by a filter, which
/// it may ignore.
fn delete_family(table: &mut Conntrack, family: Family) -> Result<(), Error> {
    let filter = DumpFilter { family: Some(family), ..DumpFilter::ALL };
    let mut reader = Conntrack::open()?;
    let mut condemned: Vec<Flow> = Vec::with_capacity(BATCH);
    let mut outcome = Ok(());
    let dump = reader.dump(&filter, |flow| {
        condemned.push(flow.clone());
        if condemned.len() == BATCH {
            outcome = delete(table, &mut condemned);
        }
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    outcome?;
    delete(table, &mut condemned)?;
    dump.map(drop)
}

fn delete(table: &mut Conntrack, condemned: &mut Vec<Flow>) -> Result<(), Error> {
    let mut failure = None;
    table.delete_batch(condemned.drain(..), |_, error| {
        // One that has ended meanwhile is gone as it should be.
        if error.errno() != Some(Errno(libc::ENOENT)) {
            failure.get_or_insert(error);
        }
        ControlFlow::Continue(())
    })?;
    failure.map_or(Ok(()), Err)
}

/// Entries deleted by one system call.
const BATCH: usize = 128;
