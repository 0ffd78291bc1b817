//! Events of a namespace's table, with exact account of those that were lost.
//!
//! A listener taxes every new connection of its namespace (3.5 to 5.8 microseconds measured, for
//! the kernel writes each event on the packet's path), so subscribe to as little as will do:
//! [`Groups::DESTROY`] alone costs the packet path nothing.

use std::ops::BitOr;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use ctkeeper_flow::{EventKind, Flow};

use crate::attribute::{CONNTRACK, group, operation as message_type};
use crate::ctnetlink::ensure_available;
use crate::decode;
use crate::error::{Error, Operation};
use crate::netns::Namespace;
use crate::socket::{self, Socket};
use crate::sys::{self, Received};
use crate::wire::{Message, Messages, message};

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
    socket: Socket,
    capacity: usize,
    gathering: Duration,
    drops: u32,
    buffer: Vec<u8>,
    slot: usize,
    received: Vec<Received>,
    flow: Flow,
}

impl Events {
    /// Subscribes in the calling thread's namespace, with a receive buffer of `buffer` bytes of
    /// kernel memory (a waiting event takes about 800; what the kernel gave is
    /// [`Self::capacity`]). Refuses if that would load a module.
    pub fn subscribe(groups: Groups, buffer: usize) -> Result<Self, Error> {
        ensure_available()?;
        Self::on(Socket::open(Operation::Subscribe, groups.0)?, buffer)
    }

    /// Subscribes in a namespace.
    pub fn subscribe_in(
        namespace: &Namespace,
        groups: Groups,
        buffer: usize,
    ) -> Result<Self, Error> {
        ensure_available()?;
        Self::on(socket::open_in(namespace, Operation::Subscribe, groups.0)?, buffer)
    }

    /// Bytes of kernel memory that waiting events may take: twice what was asked for, or less
    /// without privilege (`net.core.rmem_max`).
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets how long [`Self::read`] lets events gather; 5 ms at first.
    pub const fn set_gathering(&mut self, gathering: Duration) {
        self.gathering = gathering;
    }

    /// The netlink port of the subscription, its second column in `/proc/net/netlink`.
    pub const fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Waits up to `timeout` for events, lets more gather for a moment, and delivers those that are
    /// there. A signal may end the wait early. Losses are no error: see [`Reading`].
    pub fn read(
        &mut self,
        timeout: Duration,
        mut visit: impl FnMut(Event<'_>),
    ) -> Result<Reading, Error> {
        let failed = |error| Error::kernel(Operation::ReadEvents, String::new(), error);
        let mut reading = Reading::default();
        let is_readable = sys::wait_readable(self.socket.fd.as_fd(), timeout).map_err(failed)?;
        let mut was_overrun = false;
        if is_readable {
            thread::sleep(self.gathering);
            was_overrun = self.drain(&mut reading, &mut visit)?;
        }
        self.account(&mut reading, was_overrun);
        Ok(reading)
    }

    fn on(socket: Socket, buffer: usize) -> Result<Self, Error> {
        let failed = |error| Error::kernel(Operation::Subscribe, String::new(), error);
        let capacity = sys::set_receive_buffer(socket.fd.as_fd(), buffer).map_err(failed)?;
        Ok(Self {
            socket,
            capacity,
            gathering: GATHERING,
            drops: 0,
            buffer: vec![0; DATAGRAMS * DATAGRAM],
            slot: DATAGRAM,
            received: Vec::with_capacity(DATAGRAMS),
            flow: Flow::default(),
        })
    }

    /// Reads what waits; returns whether the kernel reported an overrun.
    fn drain(
        &mut self,
        reading: &mut Reading,
        visit: &mut dyn FnMut(Event<'_>),
    ) -> Result<bool, Error> {
        let mut was_overrun = false;
        for _ in 0..ROUNDS {
            let fd = self.socket.fd.as_fd();
            match sys::receive_many(fd, &mut self.buffer, self.slot, &mut self.received) {
                Ok(()) => self.deliver(reading, visit),
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

    fn deliver(&mut self, reading: &mut Reading, visit: &mut dyn FnMut(Event<'_>)) {
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
                let Some(kind) = kind(&message) else { continue };
                let attributes = message.attributes();
                if attributes.and_then(|list| decode::flow(list, &mut self.flow)).is_err() {
                    reading.undecodable += 1;
                    continue;
                }
                reading.events += 1;
                visit(Event { kind, flow: &self.flow, port: message.port });
            }
        }
        if is_too_small {
            self.slot = (self.slot * 2).min(self.buffer.len());
        }
    }

    /// Losses since the last call, by the socket's own counter.
    fn account(&mut self, reading: &mut Reading, was_overrun: bool) {
        match sys::socket_drops(self.socket.fd.as_fd()) {
            Ok(drops) => {
                reading.lost = u64::from(drops.wrapping_sub(self.drops));
                self.drops = drops;
                reading.lost_uncounted = was_overrun && reading.lost == 0;
            }
            Err(_) => reading.lost_uncounted = was_overrun,
        }
    }
}

fn kind(message: &Message<'_>) -> Option<EventKind> {
    const NEW: u16 = CONNTRACK | message_type::NEW;
    const DELETE: u16 = CONNTRACK | message_type::DELETE;
    match message.kind {
        NEW if message.flags & message::CREATE != 0 => Some(EventKind::New),
        NEW => Some(EventKind::Update),
        DELETE => Some(EventKind::Destroy),
        _ => None,
    }
}
