//! Lines that make entries, many to a system call.
//!
//! The kernel goes on behind a request that it refuses, and conntrack does not: what the requests
//! behind it have made is taken away again at once, before the failure is told. So the table is as
//! conntrack leaves it; who listens to events may have seen those entries come and go. Near the
//! limit, where a creation can push another entry out, requests go one by one.

use std::ops::ControlFlow;

use ctkeeper_netlink::{Conntrack, EntryRequest, Errno, Error, Verb};

use crate::failure::Failure;
use crate::invocation::{Command, Invocation, Table};
use crate::request;

/// Requests sent at a time: as many as the socket takes.
const BATCH: usize = 128;

/// Entries to be made.
#[derive(Default)]
pub(super) struct Creations {
    /// Open since the first.
    table: Option<Conntrack>,
    requests: Vec<EntryRequest>,
    /// Of each, the command.
    commands: Vec<Command>,
}

impl Creations {
    /// Takes a line of `-I` or `-A`; may send it and those before it.
    pub(super) fn add(&mut self, invocation: &Invocation) -> Result<(), Failure> {
        self.requests.push(request::creation(invocation));
        self.commands.push(invocation.command.clone());
        if self.requests.len() < BATCH { Ok(()) } else { self.send() }
    }

    /// Sends what was taken. Fails like the first line that fails; those behind it have made
    /// nothing then.
    pub(super) fn send(&mut self) -> Result<(), Failure> {
        if self.requests.is_empty() {
            return Ok(());
        }
        let sent = self.send_all();
        let outcome = sent.map_err(|(index, error)| self.failure(index, &error));
        self.requests.clear();
        self.commands.clear();
        outcome
    }

    fn failure(&self, index: usize, error: &Error) -> Failure {
        let command = self.commands.get(index).unwrap_or(&Command::Create);
        Failure::operation(error, command, Table::Conntrack)
    }

    fn send_all(&mut self) -> Result<(), (usize, Error)> {
        let Self { table, requests, commands } = self;
        let of_first = |error| (0, error);
        let table = match table {
            Some(table) => table,
            place => place.insert(Conntrack::open().map_err(of_first)?),
        };
        if has_room(table, requests.len()).map_err(of_first)? {
            at_once(table, requests, commands)
        } else {
            one_by_one(table, requests, commands)
        }
    }
}

/// Whether none of so many new entries meets the limit.
fn has_room(table: &mut Conntrack, count: usize) -> Result<bool, Error> {
    let seen = table.count_and_limit()?;
    let after = u64::from(seen.entries) + count as u64;
    Ok(seen.limit.is_none_or(|limit| limit == 0 || after <= u64::from(limit)))
}

fn one_by_one(
    table: &mut Conntrack,
    requests: &[EntryRequest],
    commands: &[Command],
) -> Result<(), (usize, Error)> {
    for (index, (request, command)) in requests.iter().zip(commands).enumerate() {
        match table.request_entry(Verb::Create, request) {
            Err(error) if !is_there_already(command, &error) => return Err((index, error)),
            _ => {}
        }
    }
    Ok(())
}

fn at_once(
    table: &mut Conntrack,
    requests: &[EntryRequest],
    commands: &[Command],
) -> Result<(), (usize, Error)> {
    let (mut failed, mut not_made) = (None, Vec::new());
    let batch = requests.iter().map(|request| (Verb::Create, request));
    table
        .request_batch(batch, |index, error| {
            not_made.push(index);
            let accepted =
                commands.get(index).is_some_and(|command| is_there_already(command, &error));
            if !accepted && failed.is_none() {
                failed = Some((index, error));
            }
            ControlFlow::Continue(())
        })
        .map_err(|error| (0, error))?;
    let Some((first, error)) = failed else { return Ok(()) };
    let made = requests.iter().enumerate().skip(first + 1);
    let made = made.filter(|(index, _)| !not_made.contains(index)).map(|(_, request)| request);
    take_away(table, made).map_err(|error| (first, error))?;
    Err((first, error))
}

/// Deletes what was just made. What has gone by itself is no fault.
fn take_away<'r>(
    table: &mut Conntrack,
    made: impl Iterator<Item = &'r EntryRequest>,
) -> Result<(), Error> {
    let names = made.map(|request| EntryRequest {
        original: request.original,
        zone_original: request.zone_original,
        zone: request.zone,
        ..EntryRequest::default()
    });
    let mut failed = None;
    table.request_batch(names.map(|name| (Verb::Delete, name)), |_, error| {
        if error.errno() != Some(Errno(libc::ENOENT)) {
            failed.get_or_insert(error);
        }
        ControlFlow::Continue(())
    })?;
    failed.map_or(Ok(()), Err)
}

/// Whether a refusal says only that `-A` has nothing to do.
fn is_there_already(command: &Command, error: &Error) -> bool {
    *command == Command::Add && error.errno() == Some(Errno(libc::EEXIST))
}
