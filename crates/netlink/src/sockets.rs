//! The TCP and UDP sockets of a network namespace, and its local addresses.
//!
//! Sockets come through `sock_diag` (`include/uapi/linux/inet_diag.h`, Linux 6.12), which can make
//! the kernel load `inet_diag`, `tcp_diag` or `udp_diag`: nothing is asked unless they are there.
//! `/proc/net/tcp` and its like tell the same for more (`ctkeeper-host` reads those).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;

use crate::availability::{Availability, Module};
use crate::error::{Errno, Error, Operation};
use crate::links;
use crate::socket::{DUMP_BUFFER, Socket as Netlink};
use crate::wire::{Attributes, Builder, Malformed, Message, message};

/// Which kind of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Its protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The module behind which the kernel tells about such sockets.
    const fn module(self) -> Module {
        match self {
            Self::Tcp => Module::TcpDiagnostics,
            Self::Udp => Module::UdpDiagnostics,
        }
    }
}

/// The state of a socket, by the kernel's number (`include/net/tcp_states.h`). UDP sockets are
/// `ESTABLISHED` when connected, else `CLOSE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketState(pub u8);

impl SocketState {
    /// A connection that stands.
    pub const ESTABLISHED: Self = Self(1);
    /// Connecting.
    pub const SYN_SENT: Self = Self(2);
    /// Closed and remembered for a minute: no process has it any more.
    pub const TIME_WAIT: Self = Self(6);
    /// Not connected.
    pub const CLOSE: Self = Self(7);
    /// Waiting for connections.
    pub const LISTEN: Self = Self(10);
}

/// A set of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketStates(u32);

impl SocketStates {
    /// Every state.
    pub const ALL: Self = Self((1 << 13) - 1);
    /// Sockets that wait for connections.
    pub const LISTENING: Self = Self::of(SocketState::LISTEN);
    /// Connections that a process has: all but listening, closed and remembered ones.
    pub const CONNECTED: Self = Self(
        Self::ALL.0
            & !Self::of(SocketState::LISTEN).0
            & !Self::of(SocketState::CLOSE).0
            & !Self::of(SocketState::TIME_WAIT).0,
    );

    /// One state.
    pub const fn of(state: SocketState) -> Self {
        Self(1_u32.wrapping_shl(state.0 as u32))
    }

    /// Whether a state is in it.
    pub const fn contains(self, state: SocketState) -> bool {
        self.0 & Self::of(state).0 != 0
    }
}

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpenSocket {
    /// Its state.
    pub state: SocketState,
    /// Its own end; an unspecified address means any. An IPv4 address in an IPv6 socket is shown
    /// as the IPv4 address that it is.
    pub local: SocketAddr,
    /// The other end; unspecified when there is none.
    pub remote: SocketAddr,
    /// Its inode, as in `/proc/PID/fd` (`socket:[INODE]`); 0 when no process has it (yet, or any
    /// more).
    pub inode: u64,
    /// The user who made it.
    pub uid: u32,
    /// The control group that it was made in: the inode of a folder of the unified hierarchy, 1 for
    /// its root. Absent before Linux 5.8, and of sockets that outlive their process.
    pub cgroup: Option<u64>,
}

/// Whether [`dump`] can ask without loading a module.
pub fn can_dump(transport: Transport) -> bool {
    missing(transport).is_none()
}

/// The part that asking would load.
fn missing(transport: Transport) -> Option<Module> {
    // `inet_diag`, which both build on, is there where they are.
    let module = transport.module();
    (!module.presence().is_safe_to_ask()).then_some(module)
}

/// Delivers the sockets of the calling thread's namespace in one of `states`, IPv4 first, until
/// `visit` breaks; returns whether all have been delivered. Refuses if that would load a module.
///
/// About a microsecond a socket. What is delivered before a break is no fair sample: connections of
/// one address to one end stand side by side (`inet_ehashfn`, `net/ipv4/inet_hashtables.c`, Linux
/// 6.18; seen there). Sockets that open or close meanwhile may or may not come.
pub fn dump(
    transport: Transport,
    states: SocketStates,
    mut visit: impl FnMut(&OpenSocket) -> ControlFlow<()>,
) -> Result<bool, Error> {
    ensure_loaded(transport)?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let asked = [family as u8, transport.number(), 0, 0];
        let mut fixed = [0; REQUEST];
        fixed[..4].copy_from_slice(&asked);
        fixed[4..8].copy_from_slice(&states.0.to_ne_bytes());
        let take = |message: Message<'_>| match socket(message.payload)? {
            Some(socket) if states.contains(socket.state) => Ok(visit(&socket).is_break()),
            _ => Ok(false),
        };
        let operation = Operation::ReadSockets;
        if !whole_dump(operation, libc::NETLINK_SOCK_DIAG, BY_FAMILY, &fixed, take)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Finds sockets by their ends, in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct SocketFinder {
    netlink: Netlink,
    transport: Transport,
}

impl SocketFinder {
    /// Opens one. Refuses if asking would load a module.
    pub fn open(transport: Transport) -> Result<Self, Error> {
        ensure_loaded(transport)?;
        let operation = Operation::ReadSockets;
        let netlink = Netlink::open_protocol(operation, libc::NETLINK_SOCK_DIAG, 0)?;
        Ok(Self { netlink, transport })
    }

    /// The socket that is connected from `local` to `remote`, if there is one: a few microseconds.
    pub fn connected(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Option<OpenSocket>, Error> {
        let operation = Operation::ReadSockets;
        let Some(fixed) = identity(self.transport, local, remote) else { return Ok(None) };
        let mut builder = Builder::default();
        builder.begin_with(BY_FAMILY, message::REQUEST, self.netlink.next_sequences(1), &fixed);
        let object = || format!("{local} to {remote}");
        if !builder.end() {
            return Err(Error::TooLong { operation, object: object() });
        }
        let mut found = None;
        let asked = self.netlink.exchange(operation, &object, &builder.into_bytes(), |message| {
            found = socket(message.payload)?;
            Ok(true)
        });
        match asked {
            // Where no connection matches, the kernel gives who listens there.
            Ok(()) => Ok(found.filter(|socket| (socket.local, socket.remote) == (local, remote))),
            Err(error) if error.errno() == Some(Errno(libc::ENOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A `struct inet_diag_req_v2` that names one socket; `None` if its ends are of two families.
fn identity(transport: Transport, local: SocketAddr, remote: SocketAddr) -> Option<[u8; REQUEST]> {
    let mut fixed = [0; REQUEST];
    let family = match (local.ip(), remote.ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            fixed[12..16].copy_from_slice(&local.octets());
            fixed[28..32].copy_from_slice(&remote.octets());
            libc::AF_INET
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            fixed[12..28].copy_from_slice(&local.octets());
            fixed[28..44].copy_from_slice(&remote.octets());
            libc::AF_INET6
        }
        _ => return None,
    };
    fixed[0] = family as u8;
    fixed[1] = transport.number();
    fixed[4..8].copy_from_slice(&SocketStates::ALL.0.to_ne_bytes());
    fixed[8..10].copy_from_slice(&local.port().to_be_bytes());
    fixed[10..12].copy_from_slice(&remote.port().to_be_bytes());
    // `INET_DIAG_NOCOOKIE`, twice: whichever socket it is.
    fixed[48..].fill(0xff);
    Some(fixed)
}

fn ensure_loaded(transport: Transport) -> Result<(), Error> {
    missing(transport).map_or(Ok(()), |module| {
        let availability = Availability::WouldLoadModule { module: module.name() };
        Err(Error::Unavailable { availability })
    })
}

/// The addresses of the calling thread's namespace, loopback's among them. Addresses that only a
/// route makes local (`ip route add local`) are not.
pub fn local_addresses() -> Result<Vec<IpAddr>, Error> {
    let addresses = links::addresses()?;
    Ok(addresses.into_iter().map(|held| held.address).collect())
}

/// `SOCK_DIAG_BY_FAMILY` (`include/uapi/linux/sock_diag.h`).
const BY_FAMILY: u16 = 20;
/// Size of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// Size of `struct inet_diag_msg`.
const ANSWER: usize = 72;
const INET_DIAG_CGROUP_ID: u16 = 21;

/// Runs a dump on a socket of its own, which ends with it: a dump can be abandoned in no other way.
/// Returns whether it came to its end.
fn whole_dump(
    operation: Operation,
    protocol: libc::c_int,
    kind: u16,
    fixed: &[u8],
    mut take: impl FnMut(Message<'_>) -> Result<bool, Malformed>,
) -> Result<bool, Error> {
    let mut netlink = Netlink::open_protocol(operation, protocol, 0)?;
    let mut builder = Builder::default();
    let sequence = netlink.next_sequences(1);
    builder.begin_with(kind, message::REQUEST | message::DUMP, sequence, fixed);
    if !builder.end() {
        return Err(Error::TooLong { operation, object: String::new() });
    }
    let mut buffer = vec![0; DUMP_BUFFER];
    let mut stopped = false;
    let request = builder.into_bytes();
    netlink.exchange_with(&mut buffer, operation, &String::new, &request, |message| {
        stopped = take(message)?;
        Ok(stopped)
    })?;
    Ok(!stopped)
}

/// A `struct inet_diag_msg`; `None` for a family that is not the internet's.
fn socket(payload: &[u8]) -> Result<Option<OpenSocket>, Malformed> {
    let answer = payload.first_chunk::<ANSWER>().ok_or(Malformed::Message)?;
    let family = i32::from(answer[0]);
    let ports = (big_endian(answer, 4), big_endian(answer, 6));
    let (Some(local), Some(remote)) =
        (address(family, &answer[8..]), address(family, &answer[24..]))
    else {
        return Ok(None);
    };
    Ok(Some(OpenSocket {
        state: SocketState(answer[1]),
        local: SocketAddr::new(local, ports.0),
        remote: SocketAddr::new(remote, ports.1),
        uid: native(answer, 64),
        inode: u64::from(native(answer, 68)),
        cgroup: cgroup(payload.get(ANSWER..).unwrap_or_default())?,
    }))
}

fn cgroup(attributes: &[u8]) -> Result<Option<u64>, Malformed> {
    for attribute in Attributes(attributes) {
        let attribute = attribute?;
        if attribute.kind == INET_DIAG_CGROUP_ID {
            return attribute.bytes().map(|bytes| Some(u64::from_ne_bytes(bytes)));
        }
    }
    Ok(None)
}

pub(crate) fn address(family: i32, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        libc::AF_INET => bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        libc::AF_INET6 => {
            bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).to_canonical())
        }
        _ => None,
    }
}

const fn big_endian(bytes: &[u8; ANSWER], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

const fn native(bytes: &[u8; ANSWER], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use proptest::prelude::*;

    use super::*;

    fn inode(socket: &impl AsRawFd) -> u64 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let link = link.to_string_lossy().into_owned();
        link.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
    }

    fn found(states: SocketStates, inode: u64) -> Option<OpenSocket> {
        let mut found = None;
        let whole = dump(Transport::Tcp, states, |socket| {
            if socket.inode == inode {
                found = Some(*socket);
            }
            ControlFlow::Continue(())
        });
        assert!(whole.unwrap());
        found
    }

    #[test]
    fn the_sockets_of_this_process_are_among_them() {
        if !can_dump(Transport::Tcp) {
            return;
        }
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let listening = found(SocketStates::LISTENING, inode(&listener)).unwrap();
            assert_eq!(listening.local, listener.local_addr().unwrap());
            assert_eq!(listening.state, SocketState::LISTEN);
            for stream in [&client, &server] {
                let socket = found(SocketStates::CONNECTED, inode(stream)).unwrap();
                assert_eq!(socket.local, stream.local_addr().unwrap());
                assert_eq!(socket.remote, stream.peer_addr().unwrap());
                assert_eq!(socket.state, SocketState::ESTABLISHED);
                let mut finder = SocketFinder::open(Transport::Tcp).unwrap();
                let ends = (socket.local, socket.remote);
                assert_eq!(finder.connected(ends.0, ends.1).unwrap(), Some(socket));
                // The listener would take a connection from there; it is none.
                let stranger = SocketAddr::new(socket.remote.ip(), 1);
                assert_eq!(finder.connected(ends.0, stranger).unwrap(), None);
            }
            assert_eq!(found(SocketStates::LISTENING, inode(&client)), None);
        }
    }

    #[test]
    fn a_dump_stops_when_told() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if can_dump(Transport::Tcp) {
            let stop = |_: &OpenSocket| ControlFlow::Break(());
            assert!(!dump(Transport::Tcp, SocketStates::LISTENING, stop).unwrap());
        }
    }

    #[test]
    fn loopback_is_a_local_address() {
        assert!(local_addresses().unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn states_are_told_apart() {
        assert!(SocketStates::ALL.contains(SocketState::TIME_WAIT));
        assert!(SocketStates::CONNECTED.contains(SocketState::SYN_SENT));
        for state in [SocketState::LISTEN, SocketState::TIME_WAIT, SocketState::CLOSE] {
            assert!(!SocketStates::CONNECTED.contains(state), "{state:?}");
        }
        assert!(!SocketStates::ALL.contains(SocketState(31)));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = socket(&bytes);
        }
    }
}
