//! `-D`: the entries that meet the command line, each by itself, or one expectation.

use std::ops::ControlFlow;

use ctkeeper_flow::Flow;
use ctkeeper_netlink::{Conntrack, Errno, Verb};

use super::{refused, whole};
use crate::Streams;
use crate::failure::{Failure, say};
use crate::invocation::{Invocation, Table};
use crate::matching::Matcher;
use crate::output::{Printer, Purpose};
use crate::request;

/// Entries deleted by one system call: as many as the socket takes at a time.
const BATCH: usize = 128;

/// Deletes and shows what was deleted; returns how many entries.
///
/// Each is deleted by its tuple, zone and id, even where everything is meant: what came to the table
/// after it was read is not touched, and no kernel is asked to delete by a filter.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    if invocation.table == Table::Expect {
        return expectation(invocation);
    }
    let matcher = Matcher::new(invocation)?;
    let open = || Conntrack::open().map_err(|error| refused(invocation, &error));
    let mut reader = open()?;
    let mut deletion = Deletion {
        invocation,
        table: open()?,
        printer: Printer::new(invocation, Purpose::Deleted),
        condemned: Vec::with_capacity(BATCH),
        count: 0,
    };
    let mut outcome = Ok(());
    let dump = reader.dump(&matcher.kernel_filter(), |flow| {
        if !matcher.matches(flow) {
            return ControlFlow::Continue(());
        }
        outcome = deletion.condemn(flow, streams);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    // A dump that fails half-way has condemned entries too.
    let rest = outcome.and_then(|()| deletion.execute(streams));
    deletion.printer.pass_all(streams.out)?;
    rest?;
    whole(&dump.map_err(|error| refused(invocation, &error))?)?;
    Ok(deletion.count)
}

/// Deletions under way.
struct Deletion<'i> {
    invocation: &'i Invocation,
    /// Another socket than the one that the entries are read from.
    table: Conntrack,
    printer: Printer,
    condemned: Vec<Flow>,
    count: u64,
}

impl Deletion<'_> {
    fn condemn(&mut self, flow: &Flow, streams: &mut Streams<'_>) -> Result<(), Failure> {
        self.condemned.push(flow.clone());
        if self.condemned.len() < BATCH { Ok(()) } else { self.execute(streams) }
    }

    /// Deletes what is condemned and prints what was deleted here: an entry that has gone already is
    /// somebody else's.
    fn execute(&mut self, streams: &mut Streams<'_>) -> Result<(), Failure> {
        let (mut failure, mut spared) = (None, Vec::new());
        let outcome = self.table.delete_batch(&self.condemned, |index, error| {
            spared.push(index);
            if error.errno() != Some(Errno(libc::ENOENT)) {
                failure.get_or_insert(error);
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = outcome {
            // Nobody knows how far it came.
            let unknown = self.condemned.len();
            self.condemned.clear();
            let _unread = say(streams.err, unknown_fate(unknown).as_bytes());
            return Err(refused(self.invocation, &error));
        }
        spared.sort_unstable();
        let mut spared = spared.into_iter().peekable();
        for (index, flow) in self.condemned.drain(..).enumerate() {
            if spared.next_if_eq(&index).is_none() {
                self.printer.entry(&flow);
                self.count += 1;
            }
        }
        self.printer.pass(streams.out)?;
        failure.map_or(Ok(()), |error| Err(refused(self.invocation, &error)))
    }
}

fn unknown_fate(entries: usize) -> String {
    format!("up to {entries} more flow entries may have been deleted")
}

/// The summary tells how many expectations were shown, which is none.
fn expectation(invocation: &Invocation) -> Result<u64, Failure> {
    Conntrack::open()
        .and_then(|mut table| {
            let request = request::expectation_deletion(invocation);
            table.request_expectation(Verb::Delete, &request)
        })
        .map(|()| 0)
        .map_err(|error| refused(invocation, &error))
}
