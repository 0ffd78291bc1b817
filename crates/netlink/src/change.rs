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
    /// of the flow, in order; the rest goes on unless it breaks (then up to 128 after the refused
    /// one may have been made).
    pub fn create_batch<I>(
        &mut self,
        flows: I,
        refused: impl FnMut(usize, Error) -> ControlFlow<()>,
    ) -> Result<Batch, Error>
    where
        I: IntoIterator<Item: Borrow<Flow>>,
    {
        self.batch(flows.into_iter().map(Creation), refused)
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
        self.batch(flows.into_iter().map(Deletion), refused)
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

    pub(crate) fn batch<I>(
        &mut self,
        requests: I,
        mut refused: impl FnMut(usize, Error) -> ControlFlow<()>,
    ) -> Result<Batch, Error>
    where
        I: IntoIterator<Item: BatchRequest>,
    {
        self.make_ready()?;
        let mut batch = Batch::default();
        let mut part = Part::default();
        let mut requests = requests.into_iter().enumerate();
        loop {
            let first = self.socket_mut().next_sequences(BATCH as u32);
            let too_long = part.fill(&mut requests, first);
            if part.members.is_empty() && too_long.is_empty() {
                return Ok(batch);
            }
            batch.done += part.members.len() as u64;
            let mut refusals = self.send_part(&part, first)?;
            batch.done -= refusals.len() as u64;
            refusals.extend(too_long);
            refusals.sort_by_key(|(index, _)| *index);
            for (index, error) in refusals {
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
        let Some(last) = part.members.last() else { return Ok(refusals) };
        let (operation, last) = (last.operation, (part.members.len() - 1) as u32);
        let malformed = |cause| Error::Malformed { operation, cause };
        self.socket().send(operation, part.builder.bytes())?;
        let mut buffer = [0; SMALL_BUFFER];
        loop {
            // Without privilege the kernel refuses the first request and does not look at the others
            // (`nfnetlink_rcv`, `nfnetlink.c`, Linux 6.12); answers come before `send` returns.
            let refused_whole = matches!(&refusals[..], [(_, error)] if is_not_permitted(error));
            let received = if refused_whole {
                self.socket().receive_at_once(operation, &mut buffer)?
            } else {
                Some(self.socket().receive(operation, &mut buffer)?)
            };
            let Some(received) = received else {
                return Err(Error::kernel(operation, String::new(), Errno(libc::EPERM)));
            };
            for message in Messages(received) {
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

fn is_not_permitted(error: &Error) -> bool {
    error.errno() == Some(Errno(libc::EPERM))
}

/// An entry that exists is left alone.
const CREATION: u16 = message::CREATE | message::EXCLUSIVE;

/// A request that may be sent with others.
pub(crate) trait BatchRequest {
    fn operation(&self) -> Operation;

    /// What it is about.
    fn tuple(&self) -> &Tuple;

    /// Begins its message and writes the attributes.
    fn write(&self, builder: &mut Builder, sequence: u32);
}

struct Creation<F>(F);

impl<F: Borrow<Flow>> BatchRequest for Creation<F> {
    fn operation(&self) -> Operation {
        Operation::Create
    }

    fn tuple(&self) -> &Tuple {
        &self.0.borrow().original
    }

    fn write(&self, builder: &mut Builder, sequence: u32) {
        let (flow, flags) = (self.0.borrow(), message::REQUEST | CREATION);
        builder.begin(CONNTRACK | message_type::NEW, flags, sequence, flow.family().number());
        encode::creation(builder, flow);
    }
}

struct Deletion<F>(F);

impl<F: Borrow<Flow>> BatchRequest for Deletion<F> {
    fn operation(&self) -> Operation {
        Operation::Delete
    }

    fn tuple(&self) -> &Tuple {
        &self.0.borrow().original
    }

    fn write(&self, builder: &mut Builder, sequence: u32) {
        let (flow, flags) = (self.0.borrow(), message::REQUEST);
        builder.begin(CONNTRACK | message_type::DELETE, flags, sequence, flow.family().number());
        encode::deletion(builder, flow);
    }
}

/// The requests of one system call.
#[derive(Default)]
struct Part {
    builder: Builder,
    members: Vec<Member>,
}

/// What to say of a request that is refused.
struct Member {
    index: usize,
    operation: Operation,
    tuple: Tuple,
}

impl Part {
    /// Takes the next requests; returns those that do not fit a message.
    fn fill<R: BatchRequest>(
        &mut self,
        requests: &mut impl Iterator<Item = (usize, R)>,
        first: u32,
    ) -> Vec<(usize, Error)> {
        self.builder.clear();
        self.members.clear();
        let mut too_long = Vec::new();
        for (index, request) in requests.take(BATCH) {
            let (operation, tuple) = (request.operation(), *request.tuple());
            request.write(&mut self.builder, first.wrapping_add(self.members.len() as u32));
            if self.builder.end() {
                self.members.push(Member { index, operation, tuple });
            } else {
                too_long.push((index, Error::TooLong { operation, object: tuple.to_string() }));
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
        let Some(Member { index, operation, tuple }) = self.members.get(member as usize) else {
            return Ok(None);
        };
        Ok(match answer(message)? {
            Answer::Refused(refusal) => {
                Some((*index, refusal.into_error(*operation, tuple.to_string())))
            }
            Answer::Done | Answer::Nothing | Answer::Content(_) => None,
        })
    }
}
