//! Creating, changing and deleting entries.

use std::borrow::Borrow;
use std::ops::ControlFlow;

use ctkeeper_flow::{Flow, Status, Tuple, Zone};

use crate::attribute::{CONNTRACK, operation as message_type};
use crate::ctnetlink::Conntrack;
use crate::encode::{self, Change};
use crate::error::{Errno, Error, Operation};
use crate::socket::{Answer, SMALL_BUFFER, answer};
use crate::wire::{Builder, Message, Messages, message};

/// Requests sent at a time: their refusals, up to 1 KiB of socket memory each, must all fit the
/// default receive buffer (208 KiB).
const BATCH: usize = 128;

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Done.
    pub done: u64,
    /// Refused, each reported.
    pub failed: u64,
    /// Whether the caller stopped it.
    pub stopped: bool,
}

impl Conntrack {
    /// Makes an entry.
    ///
    /// It gets the tuples, zone, timeout (30 s if absent), state, mark, labels, helper, master and
    /// the status bits that may be set. Where `SRC_NAT` or `DST_NAT` is set, the kernel is asked for
    /// the translation that leads to the reply tuple; it may choose another port if that one is
    /// taken. Counters, id and times are the kernel's. With modules, a helper or a translation may
    /// load one. Fails with `EEXIST` if one of its tuples is in use, with `ENOMEM` if the table is
    /// full.
    pub fn create(&mut self, flow: &Flow) -> Result<(), Error> {
        let (operation, flags) = (Operation::Create, CREATION | message::ACKNOWLEDGE);
        let family = flow.family().number();
        let request = self.request(operation, message_type::NEW, flags, family, |builder| {
            encode::creation(builder, flow);
        })?;
        self.acknowledged(operation, &flow.original, &request)
    }

    /// Makes many entries, many to a system call. Refusals are handed to `refused` with the index
    /// of the flow, in any order within a batch; the rest goes on unless it breaks (then up to 128
    /// after the refused one may have been made).
    pub fn create_batch<I>(
        &mut self,
        flows: I,
        refused: impl FnMut(usize, Error) -> ControlFlow<()>,
    ) -> Result<Batch, Error>
    where
        I: IntoIterator<Item: Borrow<Flow>>,
    {
        let request = Batched { operation: Operation::Create, write: write_creation };
        self.batch(request, flows, refused)
    }

    /// Changes the entry that `tuple`, in either direction, belongs to.
    ///
    /// The kernel finds it by tuple and zone alone: if the connection has ended and another of the
    /// same tuple has begun, that one is changed.
    pub fn update(&mut self, tuple: &Tuple, zone: Zone, change: &Change) -> Result<(), Error> {
        let operation = Operation::Update;
        // The kernel refuses a status that lacks a bit which the entry has.
        let status = match change.add_status {
            Status(0) => None,
            added => match self.get(tuple, zone)? {
                Some(flow) => Some(flow.status | added),
                None => {
                    return Err(Error::kernel(operation, tuple.to_string(), Errno(libc::ENOENT)));
                }
            },
        };
        let (flags, family) = (message::ACKNOWLEDGE, tuple.family().number());
        let request = self.request(operation, message_type::NEW, flags, family, |builder| {
            encode::identity(builder, tuple, zone);
            encode::change(builder, change, status);
        })?;
        self.acknowledged(operation, tuple, &request)
    }

    /// Deletes an entry, found by its original tuple, zone, and id if `flow` has one: with an id, a
    /// later connection of the same tuple is not touched. False if it has gone already.
    pub fn delete(&mut self, flow: &Flow) -> Result<bool, Error> {
        let (operation, flags) = (Operation::Delete, message::ACKNOWLEDGE);
        let family = flow.family().number();
        let request = self.request(operation, message_type::DELETE, flags, family, |builder| {
            encode::deletion(builder, flow);
        })?;
        match self.acknowledged(operation, &flow.original, &request) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno(libc::ENOENT)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes many entries as [`Self::delete`] does, many to a system call. Those that have gone
    /// already are refused with `ENOENT`.
    pub fn delete_batch<I>(
        &mut self,
        flows: I,
        refused: impl FnMut(usize, Error) -> ControlFlow<()>,
    ) -> Result<Batch, Error>
    where
        I: IntoIterator<Item: Borrow<Flow>>,
    {
        let request = Batched { operation: Operation::Delete, write: write_deletion };
        self.batch(request, flows, refused)
    }

    /// Deletes every entry of the namespace.
    ///
    /// There is no filtered form: a kernel that does not know a filter ignores it and empties the
    /// table. To delete some, dump them and use [`Self::delete_batch`].
    pub fn flush(&mut self) -> Result<(), Error> {
        let (operation, flags) = (Operation::Flush, message::ACKNOWLEDGE);
        let request = self.request(operation, message_type::DELETE, flags, 0, |_| ())?;
        self.socket().exchange(operation, &String::new, &request, |_| Ok(false))
    }

    fn acknowledged(
        &self,
        operation: Operation,
        tuple: &Tuple,
        request: &[u8],
    ) -> Result<(), Error> {
        self.socket().exchange(operation, &|| tuple.to_string(), request, |_| Ok(false))
    }

    fn batch<I>(
        &mut self,
        request: Batched,
        flows: I,
        mut refused: impl FnMut(usize, Error) -> ControlFlow<()>,
    ) -> Result<Batch, Error>
    where
        I: IntoIterator<Item: Borrow<Flow>>,
    {
        self.make_ready()?;
        let mut batch = Batch::default();
        let mut part = Part { request, builder: Builder::default(), members: Vec::new() };
        let mut flows = flows.into_iter().enumerate();
        loop {
            let first = self.socket_mut().next_sequences(BATCH as u32);
            let too_long = part.fill(&mut flows, first);
            if part.members.is_empty() && too_long.is_empty() {
                return Ok(batch);
            }
            batch.done += part.members.len() as u64;
            let refusals = self.send_part(&part, first)?;
            batch.done -= refusals.len() as u64;
            for (index, error) in refusals.into_iter().chain(too_long) {
                batch.failed += 1;
                if refused(index, error).is_break() {
                    batch.stopped = true;
                }
            }
            if batch.stopped {
                return Ok(batch);
            }
        }
    }

    /// Sends a part and returns its refusals: all have come when the last request is answered.
    fn send_part(&self, part: &Part, first: u32) -> Result<Vec<(usize, Error)>, Error> {
        let mut refusals = Vec::new();
        let Some(last) = (part.members.len() as u32).checked_sub(1) else { return Ok(refusals) };
        let operation = part.request.operation;
        let malformed = |cause| Error::Malformed { operation, cause };
        self.socket().send(operation, part.builder.bytes())?;
        let mut buffer = [0; SMALL_BUFFER];
        loop {
            for message in Messages(self.socket().receive(operation, &mut buffer)?) {
                let message = message.map_err(malformed)?;
                if !self.socket().is_answer(&message, first, first.wrapping_add(last)) {
                    continue;
                }
                let member = message.sequence.wrapping_sub(first);
                refusals.extend(part.refusal(member, message).map_err(malformed)?);
                if member == last {
                    return Ok(refusals);
                }
            }
        }
    }
}

/// An entry that exists is left alone.
const CREATION: u16 = message::CREATE | message::EXCLUSIVE;

/// A kind of request that is sent in batches.
#[derive(Clone, Copy)]
struct Batched {
    operation: Operation,
    write: fn(&mut Builder, u32, &Flow),
}

fn write_creation(builder: &mut Builder, sequence: u32, flow: &Flow) {
    let flags = message::REQUEST | CREATION;
    builder.begin(CONNTRACK | message_type::NEW, flags, sequence, flow.family().number());
    encode::creation(builder, flow);
}

fn write_deletion(builder: &mut Builder, sequence: u32, flow: &Flow) {
    let flags = message::REQUEST;
    builder.begin(CONNTRACK | message_type::DELETE, flags, sequence, flow.family().number());
    encode::deletion(builder, flow);
}

/// The requests of one system call.
struct Part {
    request: Batched,
    builder: Builder,
    /// Index and tuple of each.
    members: Vec<(usize, Tuple)>,
}

impl Part {
    /// Takes the next flows; returns those that do not fit a message.
    fn fill<F: Borrow<Flow>>(
        &mut self,
        flows: &mut impl Iterator<Item = (usize, F)>,
        first: u32,
    ) -> Vec<(usize, Error)> {
        self.builder.clear();
        self.members.clear();
        let mut too_long = Vec::new();
        for (index, flow) in flows.take(BATCH) {
            let flow = flow.borrow();
            let sequence = first.wrapping_add(self.members.len() as u32);
            (self.request.write)(&mut self.builder, sequence, flow);
            if self.builder.end() {
                self.members.push((index, flow.original));
            } else {
                let (operation, object) = (self.request.operation, flow.original.to_string());
                too_long.push((index, Error::TooLong { operation, object }));
            }
        }
        // Refusals always come; the acknowledgement of the last says that all have.
        self.builder.add_flags(message::ACKNOWLEDGE);
        too_long
    }

    fn refusal(
        &self,
        member: u32,
        message: Message<'_>,
    ) -> Result<Option<(usize, Error)>, crate::Malformed> {
        let Some((index, tuple)) = self.members.get(member as usize) else { return Ok(None) };
        Ok(match answer(message)? {
            Answer::Refused(refusal) => {
                Some((*index, refusal.into_error(self.request.operation, tuple.to_string())))
            }
            Answer::Done | Answer::Nothing | Answer::Content(_) => None,
        })
    }
}
