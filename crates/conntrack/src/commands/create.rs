//! `-I` and `-A`: a new entry, or a new expectation.

use ctkeeper_netlink::{Conntrack, Errno, Verb};

use super::refused;
use crate::Streams;
use crate::failure::Failure;
use crate::invocation::{Command, Invocation, Table};
use crate::request;

/// Makes what the command line describes; returns how many were made. With `-A` an entry that is
/// there already is left as it is.
pub(crate) fn run(invocation: &Invocation, _streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let made = Conntrack::open().and_then(|mut table| match invocation.table {
        Table::Expect => table.request_expectation(Verb::Create, &request::expectation(invocation)),
        _ => table.request_entry(Verb::Create, &request::creation(invocation)),
    });
    match made {
        Ok(()) => Ok(1),
        Err(error) if is_there_already(invocation, error.errno()) => Ok(0),
        Err(error) => Err(refused(invocation, &error)),
    }
}

/// Whether a refusal says only that `-A` has nothing to do.
fn is_there_already(invocation: &Invocation, errno: Option<Errno>) -> bool {
    invocation.command == Command::Add && errno == Some(Errno(libc::EEXIST))
}
