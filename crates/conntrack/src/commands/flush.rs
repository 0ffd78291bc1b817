//! `-F`: everything goes.

use ctkeeper_netlink::Conntrack;

use super::refused;
use crate::Streams;
use crate::failure::{Failure, say};
use crate::invocation::{Invocation, Table};

/// Empties the table of entries or that of expectations, of both families: 1.4.7 takes `-f` and
/// sends it, in a form that the kernel does not heed. Like 1.4.7 it announces success before it
/// says that it failed.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let expectations = invocation.table == Table::Expect;
    let outcome = Conntrack::open().and_then(|mut table| {
        if expectations { table.flush_expectations() } else { table.flush() }
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
