//! `-C`: how many there are.

use std::fs;
use std::ops::ControlFlow;

use ctkeeper_netlink::{Conntrack, Error};

use crate::Streams;
use crate::failure::Failure;
use crate::invocation::{Invocation, Table};

/// The number of the namespace's entries, for whoever may not ask by netlink.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Prints the number of entries, or of expectations. It is all that the command prints. Whoever may
/// not ask is told the number of entries and the refusal.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    if invocation.table == Table::Expect {
        return expectations(invocation, streams);
    }
    match Conntrack::open().and_then(|mut table| table.count_and_limit()) {
        Ok(counted) => Ok(writeln!(streams.out, "{}", counted.entries).map(|()| 0)?),
        Err(error) => {
            count_of_proc(streams)?;
            Err(refused(invocation, &error))
        }
    }
}

fn count_of_proc(streams: &mut Streams<'_>) -> Result<(), Failure> {
    let text =
        fs::read_to_string(COUNT).map_err(|_| Failure::problem(format!("Can't open {COUNT}")))?;
    let count: u32 =
        text.trim().parse().map_err(|_| Failure::problem(format!("Can't read {COUNT}")))?;
    Ok(writeln!(streams.out, "{count}")?)
}

fn expectations(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let mut counted: u64 = 0;
    let outcome = Conntrack::open().and_then(|mut table| {
        table.expectations(|expectation| {
            counted += u64::from(super::is_of_family(invocation, &expectation));
            ControlFlow::Continue(())
        })
    });
    writeln!(streams.out, "{counted}")?;
    outcome.map(|_| 0).map_err(|error| refused(invocation, &error))
}

fn refused(invocation: &Invocation, error: &Error) -> Failure {
    Failure::operation(error, &invocation.command, invocation.table)
}
