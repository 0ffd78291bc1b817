//! `-L`: what is in a table.

use std::io;
use std::ops::ControlFlow;

use ctkeeper_flow::Flow;
use ctkeeper_netlink::{Conntrack, Dump, DumpFilter, Errno, Error, List};

use super::{refused, whole};
use crate::Streams;
use crate::failure::Failure;
use crate::invocation::{Invocation, Options, Table};
use crate::matching::Matcher;
use crate::output::{Printer, Purpose};

/// Lists a table; returns how many were shown.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    match invocation.table {
        Table::Conntrack => entries(invocation, List::Table, streams),
        Table::Dying => entries(invocation, List::Dying, streams),
        Table::Unconfirmed => entries(invocation, List::Unconfirmed, streams),
        Table::Expect => expectations(invocation, streams),
    }
}

fn entries(invocation: &Invocation, list: List, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let matcher = Matcher::new(invocation)?;
    if is_zeroing(invocation) && matcher.is_comparing() {
        return Err(Failure::usage("Can't use -z with filtering parameters"));
    }
    if matcher.has_empty_status() {
        // What the kernel answers to it; our request would not ask.
        return Err(Failure::errno(Errno(libc::EINVAL), &invocation.command, invocation.table));
    }
    let mut table = Conntrack::open().map_err(|error| refused(invocation, &error))?;
    let mut printer = Printer::new(invocation, Purpose::List);
    let (mut shown, mut written) = (0, Ok(()));
    let (mut outcome, mut unread) = (Ok(()), Dump::default());
    for filter in filters(invocation, list, &matcher) {
        let visit = |flow: &Flow| {
            if matcher.matches(flow) {
                shown += 1;
                printer.entry(flow);
                written = printer.pass(streams.out);
            }
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        outcome = dump(&mut table, invocation, list, &filter, visit).map(|dump| {
            unread.undecodable += dump.undecodable;
        });
        if outcome.is_err() || written.is_err() {
            break;
        }
    }
    written?;
    if outcome.is_ok() {
        printer.footer();
    }
    printer.pass_all(streams.out)?;
    outcome.map_err(|error| refused(invocation, &error))?;
    whole(&unread)?;
    Ok(shown)
}

/// Counters are set to 0 of every entry of the family, as conntrack does, also of those that it does
/// not show then.
fn dump(
    table: &mut Conntrack,
    invocation: &Invocation,
    list: List,
    filter: &DumpFilter,
    visit: impl FnMut(&Flow) -> ControlFlow<()>,
) -> Result<Dump, Error> {
    if is_zeroing(invocation) {
        table.dump_and_zero(invocation.family, visit)
    } else {
        table.dump_list(list, filter, visit)
    }
}

fn filters(invocation: &Invocation, list: List, matcher: &Matcher<'_>) -> Vec<DumpFilter> {
    if list == List::Table && !is_zeroing(invocation) {
        matcher.kernel_filters()
    } else {
        vec![DumpFilter { family: invocation.family, ..DumpFilter::ALL }]
    }
}

fn is_zeroing(invocation: &Invocation) -> bool {
    invocation.table == Table::Conntrack && invocation.options.contains(Options::ZERO)
}

fn expectations(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let mut table = Conntrack::open().map_err(|error| refused(invocation, &error))?;
    let mut printer = Printer::new(invocation, Purpose::List);
    let (mut shown, mut written): (u64, io::Result<()>) = (0, Ok(()));
    let outcome = table.expectations(|expectation| {
        if super::is_of_family(invocation, &expectation) {
            shown += 1;
            printer.tick();
            printer.expectation(&expectation, None);
            written = printer.pass(streams.out);
        }
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    written?;
    if outcome.is_ok() {
        printer.expectations_footer();
    }
    printer.pass_all(streams.out)?;
    outcome.map_err(|error| refused(invocation, &error))?;
    Ok(shown)
}
