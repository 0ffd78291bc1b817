//! Whose the sockets of a namespace are, as far as entries lead to them.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;

use ctkeeper_flow::{Flow, Layer4, Protocol, Tuple};
use ctkeeper_host::sockets::{open_by, processes_in};
use ctkeeper_netlink::sockets::{
    OpenSocket, SocketFinder, SocketState, SocketStates, Transport, can_dump, dump,
};
use ctkeeper_netlink::{Error, netns};
use ctkeeper_snapshot::{Connection, Gap, GapKind, HolderIndex, SocketHolder, View};

use crate::targets::Target;

/// Connections looked for one by one, at most: a few microseconds each. Where more may be asked for,
/// all of the namespace are read.
const ASKED: usize = 16_000;
/// Sockets read of a namespace, at most: about a microsecond each.
const READ: usize = 400_000;
/// Descriptors of all processes read, at most: a system call each.
const DESCRIPTORS: usize = 60_000;

/// Sockets of a namespace, and whether they are all that were asked for.
#[derive(Debug, Default)]
struct Found {
    sockets: Vec<(Transport, OpenSocket)>,
    complete: bool,
}

/// Adds to a namespace's view the sockets that `flows` lead to, or every one where the flows are not
/// known beforehand. `processes` tells whose a process is.
pub(crate) fn add(
    view: &mut View,
    target: &Target,
    flows: Option<&[Flow]>,
    processes: &HashMap<u32, HolderIndex>,
) -> Option<Gap> {
    let inode = target.inode();
    let ends = flows.and_then(|flows| ends(flows, view));
    if ends.as_ref().is_some_and(HashSet::is_empty) {
        view.sockets_complete = true;
        return None;
    }
    let found = target.open().and_then(|handle| netns::enter(&handle, |_| find(ends.as_ref())));
    match found {
        Ok(Ok(found)) => {
            let holders = holders(inode, &found, processes);
            fill(view, &found, &holders);
            None
        }
        Ok(Err(error)) | Err(error) => Some(gap(inode, &error)),
    }
}

/// The own ends of flows that begin or end here, with the other ends; `None` when they are too many.
fn ends(flows: &[Flow], view: &View) -> Option<HashSet<Connection>> {
    let mut ends = HashSet::new();
    for tuple in flows.iter().flat_map(|flow| [&flow.original, &flow.reply]) {
        if view.local.contains(&tuple.source)
            && let Some(connection) = connection(tuple)
        {
            ends.insert(connection);
            if ends.len() > ASKED {
                return None;
            }
        }
    }
    Some(ends)
}

fn connection(tuple: &Tuple) -> Option<Connection> {
    let Layer4::Ports { source, destination } = tuple.layer4 else { return None };
    Some(Connection {
        protocol: tuple.protocol,
        local: SocketAddr::new(tuple.source, source),
        remote: SocketAddr::new(tuple.destination, destination),
    })
}

/// Those that wait, and those between these ends, or every one.
fn find(ends: Option<&HashSet<Connection>>) -> Result<Found, Error> {
    let mut found = Found { complete: true, ..Found::default() };
    for transport in [Transport::Tcp, Transport::Udp] {
        if !can_dump(transport) {
            found.complete = false;
            continue;
        }
        let waiting = match (transport, ends) {
            // A datagram socket waits whether it is connected or not.
            (Transport::Udp, _) | (_, None) => SocketStates::ALL,
            (Transport::Tcp, Some(_)) => SocketStates::LISTENING,
        };
        let mut left = READ;
        found.complete &= dump(transport, waiting, |socket| {
            found.sockets.push((transport, *socket));
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    if let (Some(ends), true) = (ends, can_dump(Transport::Tcp)) {
        let mut finder = SocketFinder::open(Transport::Tcp)?;
        for end in ends.iter().filter(|end| end.protocol == Protocol::TCP) {
            let socket = finder.connected(end.local, end.remote)?;
            found.sockets.extend(socket.map(|socket| (Transport::Tcp, socket)));
        }
    }
    Ok(found)
}

/// By inode of a socket, whose it is.
fn holders(
    namespace: u64,
    found: &Found,
    processes: &HashMap<u32, HolderIndex>,
) -> HashMap<u64, HolderIndex> {
    let mut wanted: HashSet<u64> =
        found.sockets.iter().map(|(_, socket)| socket.inode).filter(|inode| *inode != 0).collect();
    let mut holders = HashMap::new();
    let mut left = DESCRIPTORS;
    for pid in processes_in(namespace) {
        if wanted.is_empty() || left == 0 {
            break;
        }
        let Some(holder) = processes.get(&pid) else { continue };
        let (inodes, read) = open_by(pid, left);
        left -= read;
        for inode in inodes {
            if wanted.remove(&inode) {
                holders.insert(inode, *holder);
            }
        }
    }
    holders
}

fn fill(view: &mut View, found: &Found, holders: &HashMap<u64, HolderIndex>) {
    for (transport, socket) in &found.sockets {
        let protocol = match transport {
            Transport::Tcp => Protocol::TCP,
            Transport::Udp => Protocol::UDP,
        };
        // Remembered connections have no process any more.
        if socket.state == SocketState::TIME_WAIT {
            continue;
        }
        let holder = holders.get(&socket.inode);
        let holder = holder.map_or(SocketHolder::Hidden, |holder| SocketHolder::Of(*holder));
        let waits = socket.state == SocketState::LISTEN || *transport == Transport::Udp;
        if waits {
            view.listening.insert((protocol, socket.local), holder);
        }
        if !is_nowhere(socket.remote) {
            let connection = Connection { protocol, local: socket.local, remote: socket.remote };
            view.connected.insert(connection, holder);
        }
    }
    view.sockets_complete = found.complete;
}

fn is_nowhere(end: SocketAddr) -> bool {
    end.port() == 0 || matches!(end.ip(), IpAddr::V4(v4) if v4.is_unspecified())
}

fn gap(inode: u64, error: &Error) -> Gap {
    let kind = if error.is_permission() { GapKind::Privilege } else { GapKind::Unavailable };
    Gap {
        kind,
        what: format!("whose the sockets of namespace {inode} are"),
        cause: error.to_string(),
        remedy: "run as root".to_owned(),
    }
}
