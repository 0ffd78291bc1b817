//! What the drivers of sockets share: a table whose keys are never mistaken for later ones, timers,
//! and opening sockets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt as options};
use slab::Slab;

use super::report::ErrorKind;
use super::schedule::Moment;
use super::{SPARE_DESCRIPTORS, takes_too_much};

/// Names an entry of a [`Table`]: its slot, and how often the slot had been used before. An event of
/// a socket that was closed meanwhile thus never reaches the slot's next socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token(pub(super) u64);

impl Token {
    const fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// Values by token.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Slab<(Token, T)>,
    inserted: u32,
}

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Slab::new(), inserted: 0 }
    }

    pub(super) fn insert(&mut self, value: T) -> Token {
        // The highest numbers stay free for what is no socket.
        self.inserted = (self.inserted + 1) & 0x7fff_ffff;
        let entry = self.slots.vacant_entry();
        let token = Token(u64::from(self.inserted) << 32 | entry.key() as u64);
        entry.insert((token, value));
        token
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let (held, value) = self.slots.get_mut(token.slot())?;
        (*held == token).then_some(value)
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        self.get_mut(token)?;
        self.slots.try_remove(token.slot()).map(|(_, value)| value)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.slots.iter().map(|(_, (token, value))| (*token, value))
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.slots.drain().map(|(_, value)| value)
    }
}

/// No moment at all.
pub(super) const NEVER: Moment = Moment::MAX;

/// Moments at which somebody wants to be called.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, Token)>>,
}

impl Timers {
    /// Sees to it that `token` is called by `deadline`. `queued` is the owner's note of the earliest
    /// call that is on its way already: a deadline that only moves back costs nothing here.
    pub(super) fn arm(&mut self, token: Token, deadline: Moment, queued: &mut Moment) {
        if deadline < *queued {
            *queued = deadline;
            self.heap.push(Reverse((deadline, token)));
        }
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((moment, _))| *moment)
    }

    pub(super) fn pop(&mut self, now: Moment) -> Option<(Moment, Token)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer)
    }

    /// Forgets the calls of those that are gone, when they are most of what is here.
    pub(super) fn tidy(&mut self, alive: usize, mut is_alive: impl FnMut(Token) -> bool) {
        if self.heap.len() > 4 * alive + 4096 {
            self.heap.retain(|Reverse((_, token))| is_alive(*token));
        }
    }
}

/// A socket that does not block, bound to `source` if there is one.
pub(super) fn open(
    target: SocketAddr,
    source: Option<SocketAddr>,
    kind: SocketType,
) -> Result<OwnedFd, ErrorKind> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, kind, flags, None).map_err(kind_of)?;
    if takes_too_much(&socket, SPARE_DESCRIPTORS) {
        return Err(ErrorKind::NoDescriptors);
    }
    if let Some(source) = source {
        bind(&socket, source).map_err(kind_of)?;
    }
    Ok(socket)
}

/// Binds a source; port 0 is chosen at connect, where the target is known and the port can be shared
/// with connections to others.
pub(super) fn bind(socket: &OwnedFd, source: SocketAddr) -> Result<(), Errno> {
    if source.port() == 0 {
        // The option is of the IPv4 level, and IPv6 sockets obey it too (`__inet6_bind`,
        // net/ipv6/af_inet6.c, Linux 6.1).
        setsockopt(socket, sockopt::IpBindAddressNoPort, &true).map_err(from_nix)?;
    } else {
        // A port in TIME_WAIT may be used for the next connection.
        options::set_socket_reuseaddr(socket, true)?;
    }
    if source.is_ipv6() {
        // A network that a route makes local is not yet the host's own to bind, as it is in IPv4
        // (`__inet6_bind` asks for the address itself).
        options::set_ipv6_freebind(socket, true)?;
    }
    net::bind(socket, &source)
}

pub(super) fn from_nix(error: nix::Error) -> Errno {
    Errno::from_raw_os_error(error as i32)
}

/// What a connection is watched for, once for good: events come when something changes.
pub(super) const WATCHED: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

pub(super) fn watch(epoll: &OwnedFd, socket: &OwnedFd, token: Token) -> Result<(), ErrorKind> {
    epoll::add(epoll, socket, epoll::EventData::new_u64(token.0), WATCHED).map_err(kind_of)
}

/// What an error of the kernel means for an arrival.
pub(super) const fn kind_of(error: Errno) -> ErrorKind {
    match error {
        Errno::TIMEDOUT => ErrorKind::ConnectTimeout,
        Errno::CONNREFUSED => ErrorKind::Refused,
        Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED => ErrorKind::Reset,
        Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::NETDOWN | Errno::HOSTDOWN => {
            ErrorKind::Unreachable
        }
        Errno::PERM | Errno::ACCESS => ErrorKind::NotPermitted,
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => ErrorKind::NoPorts,
        Errno::MFILE | Errno::NFILE => ErrorKind::NoDescriptors,
        Errno::NOMEM | Errno::NOBUFS => ErrorKind::NoMemory,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_one_value_only() {
        let mut table = Table::new();
        let first = table.insert('a');
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('b');
        assert_eq!(first.slot(), second.slot());
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 'b'));
    }

    #[test]
    fn timers_call_in_order_and_only_when_earlier_than_known() {
        let mut timers = Timers::default();
        let (mut a, mut b) = (NEVER, NEVER);
        timers.arm(Token(1), 30, &mut a);
        timers.arm(Token(1), 40, &mut a);
        timers.arm(Token(2), 20, &mut b);
        assert_eq!(timers.next(), Some(20));
        assert_eq!(timers.pop(19), None);
        assert_eq!(timers.pop(50), Some((20, Token(2))));
        assert_eq!(timers.pop(50), Some((30, Token(1))));
        assert_eq!(timers.pop(50), None);
    }
}
