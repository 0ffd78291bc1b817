//! `-U`: changes to the entries that meet the command line.

use std::ops::ControlFlow;

use ctkeeper_flow::{Direction, Flow, Labels, Mark};
use ctkeeper_netlink::{Conntrack, DumpFilter, EntryRequest, Errno, Verb};

use super::{refused, whole};
use crate::Streams;
use crate::failure::{Failure, errno_text};
use crate::invocation::{Invocation, Options};
use crate::matching::Matcher;
use crate::output::{Printer, Purpose};
use crate::request::{self, state_number};

const ENOENT: Errno = Errno(libc::ENOENT);

/// Changes each entry that is not as it should be and shows it as it is then; returns how many.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let matcher = Matcher::new(invocation)?;
    let open = || Conntrack::open().map_err(|error| refused(invocation, &error));
    let mut reader = open()?;
    let mut update = Update {
        invocation,
        table: open()?,
        printer: Printer::new(invocation, Purpose::Updated),
        count: 0,
    };
    // What is to be set is no condition: the kernel must not see it in a filter.
    let filter = DumpFilter { family: invocation.family, ..DumpFilter::ALL };
    let mut outcome = Ok(());
    let dump = reader.dump(&filter, |flow| {
        if !matcher.matches_for_update(flow) {
            return ControlFlow::Continue(());
        }
        outcome = update.entry(flow, streams);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    update.printer.pass_all(streams.out)?;
    outcome?;
    whole(&dump.map_err(|error| refused(invocation, &error))?)?;
    Ok(update.count)
}

/// Updates under way.
struct Update<'i> {
    invocation: &'i Invocation,
    /// Another socket than the one that the entries are read from.
    table: Conntrack,
    printer: Printer,
    count: u64,
}

impl Update<'_> {
    fn entry(&mut self, flow: &Flow, streams: &mut Streams<'_>) -> Result<(), Failure> {
        let Some(change) = change(self.invocation, flow) else { return Ok(()) };
        if flow.zone.id_in(Direction::Original) != 0 {
            // Named by its tuple alone it would not be found, and another of the same tuple might.
            self.complain(ENOENT, streams);
            return Ok(());
        }
        match self.table.request_entry(Verb::Update, &change) {
            Ok(()) => {}
            // It has gone meanwhile.
            Err(error) if error.errno() == Some(ENOENT) => return Ok(()),
            Err(error) => match error.errno() {
                Some(errno) => self.complain(errno, streams),
                None => return Err(refused(self.invocation, &error)),
            },
        }
        // What the kernel refused to change is shown, and counted, all the same.
        let tuple = EntryRequest { original: flow.original, ..EntryRequest::default() };
        match self.table.look_up(&tuple) {
            Ok(now) => {
                self.printer.entry(&now);
                self.count += 1;
                Ok(self.printer.pass(streams.out)?)
            }
            Err(error) if error.errno() == Some(ENOENT) => Ok(()),
            Err(error) => Err(refused(self.invocation, &error)),
        }
    }

    /// Without the usual beginning, as in 1.4.7; the exit code does not depend on it.
    fn complain(&self, errno: Errno, streams: &mut Streams<'_>) {
        let Invocation { command, table, .. } = self.invocation;
        let text = errno_text(errno, command, *table);
        let _unread = writeln!(streams.err, "Operation failed: {text}");
    }
}

/// What is to be sent for an entry; `None` if it appears to be as it should be. Like conntrack it
/// names the entry by its tuple and not by its zone.
fn change(invocation: &Invocation, flow: &Flow) -> Option<EntryRequest> {
    let template = &invocation.template;
    let (labels, labels_mask) = labels(invocation, flow);
    let request = EntryRequest {
        original: flow.original,
        // Flags can only be added; the kernel wants those that are there repeated.
        status: template.status.map(|added| flow.status | added),
        mark: template
            .mark
            .map(|(value, mask)| Mark(flow.mark.unwrap_or_default().0 & !mask ^ value)),
        labels,
        labels_mask,
        ..request::changes(template, Some(flow.protocol()))
    };
    (!is_met(invocation, &request, flow)).then_some(request)
}

/// Whether an entry is already as the request would have it. Labels under a mask, the tracker's
/// flags and translations are never looked at: with the first every request changes something, with
/// the others none does.
fn is_met(invocation: &Invocation, request: &EntryRequest, flow: &Flow) -> bool {
    let state = invocation.template.state;
    request.labels_mask.is_none()
        && request.labels.is_none_or(|labels| Some(labels) == flow.labels)
        && request.mark.is_none_or(|mark| mark == flow.mark.unwrap_or_default())
        && request.timeout.is_none_or(|timeout| Some(timeout) == flow.timeout)
        && request.status.is_none_or(|status| flow.status.contains(status))
        && state.is_none_or(|state| Some(state) == state_number(&flow.state))
}

/// The labels to send and their mask.
fn labels(invocation: &Invocation, flow: &Flow) -> (Option<Labels>, Option<Labels>) {
    let changed = invocation.template.labels_changed;
    if invocation.options.contains(Options::LABEL_ADD) {
        // The first labels of an entry need no mask.
        return (changed, changed.filter(|_| flow.labels.is_some()));
    }
    if !invocation.options.contains(Options::LABEL_DELETE) || flow.labels.is_none() {
        return (None, None);
    }
    (Some(Labels::default()), changed)
}
