//! Events of a namespace's table, with exact account of those that were lost.
//!
//! A listener taxes every new connection of its namespace (3.5 to 5.8 microseconds measured, for
//! the kernel writes each event on the packet's path), so subscribe to as little as will do:
//! [`Groups::DESTROY`] alone costs the packet path nothing.

use std::ops::BitOr;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use ctkeeper_flow::{EventKind, Expectation, Flow};

use crate::attribute::{CONNTRACK, EXPECTATIONS, group, operation as message_type};
use crate::ctnetlink::ensure_available;
use crate::decode;
use crate::error::{Error, Operation};
use crate::expectations::expectation;
use crate::netns::Namespace;
use crate::socket::{self, Socket};
use crate::sys::{self, Received};
use crate::wire::{Malformed, Message, Messages, message};

/// How long a reader lets events gather before it reads them: waking it for each one is what slows
/// the packet path down most.
const GATHERING: Duration = Duration::from_millis(5);

/// Datagrams read by one system call.
const DATAGRAMS: usize = 256;
/// Room for one datagram; each carries one event. An entry with every extension takes about 600
/// bytes; only a very long security context takes more.
const DATAGRAM: usize = 2048;
/// After so many system calls [`Events::read`] returns even if more is waiting.
const ROUNDS: usize = 64;

/// Which events to subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups(u32);

impl Groups {
    /// New entries.
    pub const NEW: Self = Self(group::NEW);
    /// Changed entries: most of all events.
    pub const UPDATE: Self = Self(group::UPDATE);
    /// Deleted and expired entries.
    pub const DESTROY: Self = Self(group::DESTROY);
    /// Everything.
    pub const ALL: Self = Self(group::NEW | group::UPDATE | group::DESTROY);
}

impl BitOr for Groups {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What happened.
    pub kind: EventKind,
    /// The entry, as far as the kernel tells of it. With an update comes only what changed, beside
    /// tuples, id, status and timeout; a destroyed one has the timeout that was left, if any, no
    /// mark of 0 and the like, but counters if they are kept.
    pub flow: &'a Flow,
    /// The netlink port of the process that caused it; 0 when a packet or the clock did.
    pub port: u32,
}

/// What one call of [`Events::read`] brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Events delivered.
    pub events: u64,
    /// Events lost because the buffer was full, since the call before: exact.
    pub lost: u64,
    /// Whether events were lost that nobody counted: the kernel had no memory to write them, or is
    /// older than 4.12.
    pub lost_uncounted: bool,
    /// Events that came and could not be read.
    pub undecodable: u64,
}

impl Reading {
    /// Whether the table may hold what the events do not tell of.
    pub const fn is_lossy(&self) -> bool {
        self.lost > 0 || self.lost_uncounted || self.undecodable > 0
    }
}

/// A subscription to the events of one namespace.
///
/// With the kernel's default setting (`nf_conntrack_events` 2) entries made before the first
/// listener send no events, not even when they are destroyed.
///
/// To follow a table, subscribe first and dump it then, so that nothing happens unseen between the
/// two; dump it again after a lossy [`Reading`]. An event that waited meanwhile may be older than
/// the dump, so tell entries apart by id: a destroy event of an id that is not known means nothing.
#[derive(Debug)]
pub struct Events {
    subscription: Subscription,
    flow: Flow,
}

impl Events {
    /// Subscribes in the calling thread's namespace, with a receive buffer of `buffer` bytes of
    /// kernel memory (a waiting event takes about 800; what the kernel gave is
    /// [`Self::capacity`]). Refuses if that would load a module.
    pub fn subscribe(groups: Groups, buffer: usize) -> Result<Self, Error> {
        Subscription::here(groups.0, buffer).map(Self::on)
    }

    /// Subscribes in a namespace.
    pub fn subscribe_in(
        namespace: &Namespace,
        groups: Groups,
        buffer: usize,
    ) -> Result<Self, Error> {
        Subscription::within(namespace, groups.0, buffer).map(Self::on)
    }

    /// Bytes of kernel memory that waiting events may take: twice what was asked for, or less
    /// without privilege (`net.core.rmem_max`).
    pub const fn capacity(&self) -> usize {
        self.subscription.capacity
    }

    /// Sets how long [`Self::read`] lets events gather; 5 ms at first.
    pub const fn set_gathering(&mut self, gathering: Duration) {
        self.subscription.gathering = gathering;
    }

    /// The netlink port of the subscription, its second column in `/proc/net/netlink`.
    pub const fn port(&self) -> u32 {
        self.subscription.socket.port()
    }

    /// Waits up to `timeout` for events, lets more gather for a moment, and delivers those that are
    /// there. A signal may end the wait early. Losses are no error: see [`Reading`].
    pub fn read(
        &mut self,
        timeout: Duration,
        mut visit: impl FnMut(Event<'_>),
    ) -> Result<Reading, Error> {
        let flow = &mut self.flow;
        self.subscription.read(timeout, &mut |message| {
            let Some(kind) = kind(CONNTRACK, message) else { return Ok(false) };
            decode::flow(message.attributes()?, flow)?;
            visit(Event { kind, flow, port: message.port });
            Ok(true)
        })
    }

    fn on(subscription: Subscription) -> Self {
        Self { subscription, flow: Flow::default() }
    }
}

/// An event of an expectation.
#[derive(Clone, Copy, Debug)]
pub struct ExpectationEvent<'a> {
    /// What happened. The kernel tells of no updates.
    pub kind: EventKind,
    /// The expectation.
    pub expectation: &'a Expectation,
    /// The netlink port of the process that caused it; 0 when a packet or the clock did.
    pub port: u32,
}

/// A subscription to the events of one namespace's expectations: as [`Events`], which are of
/// entries.
#[derive(Debug)]
pub struct ExpectationEvents {
    subscription: Subscription,
}

impl ExpectationEvents {
    /// Subscribes in the calling thread's namespace; see [`Events::subscribe`].
    pub fn subscribe(groups: Groups, buffer: usize) -> Result<Self, Error> {
        let groups = groups.0 << group::EXPECTATIONS_SHIFT;
        Ok(Self { subscription: Subscription::here(groups, buffer)? })
    }

    /// Subscribes in a namespace.
    pub fn subscribe_in(
        namespace: &Namespace,
        groups: Groups,
        buffer: usize,
    ) -> Result<Self, Error> {
        let groups = groups.0 << group::EXPECTATIONS_SHIFT;
        Ok(Self { subscription: Subscription::within(namespace, groups, buffer)? })
    }

    /// See [`Events::capacity`].
    pub const fn capacity(&self) -> usize {
        self.subscription.capacity
    }

    /// See [`Events::set_gathering`].
    pub const fn set_gathering(&mut self, gathering: Duration) {
        self.subscription.gathering = gathering;
    }

    /// The netlink port of the subscription.
    pub const fn port(&self) -> u32 {
        self.subscription.socket.port()
    }

    /// See [`Events::read`].
    pub fn read(
        &mut self,
        timeout: Duration,
        mut visit: impl FnMut(ExpectationEvent<'_>),
    ) -> Result<Reading, Error> {
        self.subscription.read(timeout, &mut |message| {
            let Some(kind) = kind(EXPECTATIONS, message) else { return Ok(false) };
            let expectation = &expectation(message.attributes()?)?;
            visit(ExpectationEvent { kind, expectation, port: message.port });
            Ok(true)
        })
    }
}

/// What becomes of a message: whether it was an event.
type Take<'a> = dyn FnMut(&Message<'_>) -> Result<bool, Malformed> + 'a;

/// A socket that listens, with account of what it missed.
#[derive(Debug)]
struct Subscription {
    socket: Socket,
    capacity: usize,
    gathering: Duration,
    drops: u32,
    /// Whether the kernel may still report losses that have been counted.
    is_report_due: bool,
    buffer: Vec<u8>,
    slot: usize,
    received: Vec<Received>,
}

impl Subscription {
    fn here(groups: u32, buffer: usize) -> Result<Self, Error> {
        ensure_available()?;
        Self::on(Socket::open(Operation::Subscribe, groups)?, buffer)
    }

    fn within(namespace: &Namespace, groups: u32, buffer: usize) -> Result<Self, Error> {
        ensure_available()?;
        Self::on(socket::open_in(namespace, Operation::Subscribe, groups)?, buffer)
    }

    fn on(socket: Socket, buffer: usize) -> Result<Self, Error> {
        let failed = |error| Error::kernel(Operation::Subscribe, String::new(), error);
        let capacity = sys::set_receive_buffer(socket.fd.as_fd(), buffer).map_err(failed)?;
        Ok(Self {
            socket,
            capacity,
            gathering: GATHERING,
            drops: 0,
            is_report_due: false,
            buffer: vec![0; DATAGRAMS * DATAGRAM],
            slot: DATAGRAM,
            received: Vec::with_capacity(DATAGRAMS),
        })
    }

    fn read(&mut self, timeout: Duration, take: &mut Take<'_>) -> Result<Reading, Error> {
        let failed = |error| Error::kernel(Operation::ReadEvents, String::new(), error);
        let mut reading = Reading::default();
        let is_readable = sys::wait_readable(self.socket.fd.as_fd(), timeout).map_err(failed)?;
        let mut was_overrun = false;
        if is_readable {
            thread::sleep(self.gathering);
            was_overrun = self.drain(&mut reading, take)?;
        }
        self.account(&mut reading, was_overrun);
        Ok(reading)
    }

    /// Reads what waits; returns whether the kernel reported an overrun.
    fn drain(&mut self, reading: &mut Reading, take: &mut Take<'_>) -> Result<bool, Error> {
        let mut was_overrun = false;
        for _ in 0..ROUNDS {
            let fd = self.socket.fd.as_fd();
            match sys::receive_many(fd, &mut self.buffer, self.slot, &mut self.received) {
                Ok(()) => self.deliver(reading, take),
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOBUFS) => {
                        was_overrun = true;
                        continue;
                    }
                    Some(libc::EAGAIN) => break,
                    _ => return Err(Error::kernel(Operation::ReadEvents, String::new(), error)),
                },
            }
            if self.received.len() < self.buffer.len() / self.slot {
                break;
            }
        }
        Ok(was_overrun)
    }

    fn deliver(&mut self, reading: &mut Reading, take: &mut Take<'_>) {
        let mut is_too_small = false;
        for (datagram, received) in self.buffer.chunks_exact(self.slot).zip(&self.received) {
            if !received.from_kernel {
                continue;
            }
            if received.truncated {
                reading.undecodable += 1;
                is_too_small = true;
                continue;
            }
            for message in Messages(datagram.get(..received.length).unwrap_or_default()) {
                let Ok(message) = message else {
                    reading.undecodable += 1;
                    break;
                };
                match take(&message) {
                    Ok(was_event) => reading.events += u64::from(was_event),
                    Err(_) => reading.undecodable += 1,
                }
            }
        }
        if is_too_small {
            self.slot = (self.slot * 2).min(self.buffer.len());
        }
    }

    /// Losses since the last call, by the socket's own counter.
    ///
    /// The report of an overrun may come with the next call, when its losses are counted already.
    fn account(&mut self, reading: &mut Reading, was_overrun: bool) {
        match sys::socket_drops(self.socket.fd.as_fd()) {
            Ok(drops) => {
                reading.lost = u64::from(drops.wrapping_sub(self.drops));
                self.drops = drops;
                let has_lost = reading.lost > 0;
                reading.lost_uncounted = was_overrun && !has_lost && !self.is_report_due;
                self.is_report_due = has_lost || (self.is_report_due && !was_overrun);
            }
            Err(_) => reading.lost_uncounted = was_overrun,
        }
    }
}

/// Types of messages are numbered alike in both subsystems.
fn kind(subsystem: u16, message: &Message<'_>) -> Option<EventKind> {
    match message.kind.checked_sub(subsystem)? {
        message_type::NEW if message.flags & message::CREATE != 0 => Some(EventKind::New),
        message_type::NEW => Some(EventKind::Update),
        message_type::DELETE => Some(EventKind::Destroy),
        _ => None,
    }
}
