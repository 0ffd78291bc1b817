//! `-G`: one entry, or one expectation, by its tuple.

use ctkeeper_netlink::Conntrack;

use super::refused;
use crate::Streams;
use crate::failure::Failure;
use crate::invocation::{Invocation, Table};
use crate::matching::Matcher;
use crate::output::{Printer, Purpose};
use crate::request;

/// Shows the entry that the command line's tuple belongs to, if its id and labels are the right
/// ones too; fails if there is none. Returns how many were shown.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    if invocation.table == Table::Expect {
        return expectation(invocation, streams);
    }
    let matcher = Matcher::new(invocation)?;
    let request = request::lookup(invocation)?;
    let flow = Conntrack::open()
        .and_then(|mut table| table.look_up(&request))
        .map_err(|error| refused(invocation, &error))?;
    if !matcher.matches(&flow) {
        return Ok(0);
    }
    let mut printer = Printer::new(invocation, Purpose::List);
    printer.entry(&flow);
    printer.pass_all(streams.out)?;
    Ok(1)
}

/// Nothing counts expectations here: the command ends without a summary.
fn expectation(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let found = Conntrack::open()
        .and_then(|mut table| table.look_up_expectation(&request::expectation_lookup(invocation)))
        .map_err(|error| refused(invocation, &error))?;
    let mut printer = Printer::new(invocation, Purpose::List);
    printer.expectation(&found, None);
    printer.pass_all(streams.out)?;
    Ok(1)
}
