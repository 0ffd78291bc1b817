//! Proxies of a namespace: whose entries stand on both sides of one process.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ctkeeper_census::{Local, ProcessSockets, proxies};
use ctkeeper_flow::{Flow, Protocol};
use ctkeeper_host::sockets::{self, Listing};
use ctkeeper_netlink::sockets::{OpenSocket, SocketStates, local_addresses};
use ctkeeper_snapshot::Proxy;

/// Sampled entries on either side from which a closer look is worth it.
const WORTH_LOOKING: usize = 10;
/// Listening sockets read, at most.
const LISTENERS: usize = 4096;
/// Connections read, at most: about a microsecond each.
const CONNECTIONS: usize = 20_000;
/// Descriptors of processes read, at most: a system call each.
const DESCRIPTORS: u64 = 20_000;
/// Processes looked into, at most.
const PROCESSES: usize = 1024;

/// Programs that are looked into first: where a host has very many processes, the others may not
/// have their turn.
const KNOWN: [&str; 9] =
    ["haproxy", "nginx", "envoy", "traefik", "caddy", "varnishd", "squid", "httpd", "apache2"];

/// Processes of the calling thread's namespace (of this inode) that hold entries on both sides
/// among `flows`. What cannot be seen leaves nothing: no proxy is made up.
pub(crate) fn find(namespace: u64, flows: &[Flow]) -> Vec<Proxy> {
    let listening = sockets::tcp(SocketStates::LISTENING, LISTENERS).sockets;
    let addresses: HashSet<_> = local_addresses().unwrap_or_default().into_iter().collect();
    if !is_worth_it(flows, &listening, &addresses) {
        return Vec::new();
    }
    let connected = sockets::tcp(SocketStates::CONNECTED, CONNECTIONS);
    let by_inode = SocketsByInode::new(&listening, &connected);
    let processes = processes(namespace, &by_inode);
    if processes.is_empty() {
        Vec::new()
    } else {
        proxies(flows, &local(addresses, &connected), processes)
    }
}

/// Whether enough entries lead to a port that somebody listens at, and enough begin here.
fn is_worth_it(flows: &[Flow], listening: &[OpenSocket], addresses: &HashSet<IpAddr>) -> bool {
    let ports: HashSet<_> = listening.iter().map(|socket| socket.local.port()).collect();
    let tcp = || flows.iter().filter(|flow| flow.protocol() == Protocol::TCP);
    let front = |flow: &&Flow| flow.reply.source_port().is_some_and(|port| ports.contains(&port));
    let back = |flow: &&Flow| addresses.contains(&flow.original.source);
    let enough = |side: &dyn Fn(&&Flow) -> bool| {
        tcp().filter(side).take(WORTH_LOOKING).count() == WORTH_LOOKING
    };
    enough(&front) && enough(&back)
}

/// What is local: the interfaces' addresses, and those that sockets use as their own (a route may
/// make others local).
fn local(mut addresses: HashSet<IpAddr>, connected: &Listing) -> Local {
    addresses.extend(connected.sockets.iter().map(|socket| socket.local.ip()));
    // Not yet accepted ones belong to nobody.
    let owned = connected.sockets.iter().filter(|socket| socket.inode != 0);
    Local { addresses, connected: owned.map(|socket| (socket.local, socket.remote)).collect() }
}

#[derive(Debug)]
struct SocketsByInode {
    listening: HashMap<u64, SocketAddr>,
    connected: HashMap<u64, (SocketAddr, SocketAddr)>,
}

impl SocketsByInode {
    fn new(listening: &[OpenSocket], connected: &Listing) -> Self {
        Self {
            listening: listening.iter().map(|socket| (socket.inode, socket.local)).collect(),
            connected: connected
                .sockets
                .iter()
                .map(|socket| (socket.inode, (socket.local, socket.remote)))
                .collect(),
        }
    }
}

/// The namespace's processes that listen, with their sockets, as far as the bounds go.
fn processes(namespace: u64, sockets: &SocketsByInode) -> Vec<ProcessSockets> {
    let pids = sockets::processes_in(namespace).into_iter().take(PROCESSES);
    let mut candidates: Vec<_> =
        pids.filter_map(|pid| Some((pid, sockets::command(pid)?))).collect();
    candidates.sort_by_key(|(_, command)| !KNOWN.contains(&command.as_str()));
    let mut budget = DESCRIPTORS;
    let mut found = Vec::new();
    for (pid, command) in candidates {
        let (inodes, _) = sockets::open_by(pid, &mut budget);
        let process = process(pid, command, &inodes, sockets);
        found.extend(Some(process).filter(|process| !process.listening.is_empty()));
        if budget == 0 {
            break;
        }
    }
    found
}

fn process(
    pid: u32,
    command: String,
    inodes: &HashSet<u64>,
    sockets: &SocketsByInode,
) -> ProcessSockets {
    ProcessSockets {
        pid,
        command,
        listening: inodes
            .iter()
            .filter_map(|inode| sockets.listening.get(inode))
            .copied()
            .collect(),
        connected: inodes
            .iter()
            .filter_map(|inode| sockets.connected.get(inode))
            .copied()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Tuple;
    use ctkeeper_netlink::sockets::SocketState;

    use super::*;

    fn listener(port: u16) -> OpenSocket {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        OpenSocket {
            state: SocketState::LISTEN,
            local: any(port),
            remote: any(0),
            inode: 1,
            uid: 0,
        }
    }

    const HERE: [u8; 4] = [10, 0, 0, 1];
    const THERE: [u8; 4] = [10, 0, 0, 2];

    fn flow(from: [u8; 4], to: [u8; 4], port: u16) -> Flow {
        let (client, server) = (from.into(), to.into());
        let original = Tuple::with_ports(Protocol::TCP, (client, 4000), (server, port));
        Flow { original, reply: original.inverted().unwrap(), ..Flow::default() }
    }

    #[test]
    fn both_sides_must_be_there() {
        let here = [HERE.into()].into();
        // A proxy and its back end often use the same port.
        for port in [80, 8080] {
            let (front, back) =
                (vec![flow(THERE, HERE, 80); 10], vec![flow(HERE, THERE, port); 10]);
            let both = [front.clone(), back].concat();
            assert!(is_worth_it(&both, &[listener(80)], &here), "{port}");
            assert!(!is_worth_it(&both, &[listener(81)], &here), "{port}");
            assert!(!is_worth_it(&front, &[listener(80)], &here), "{port}");
        }
        assert!(!is_worth_it(&vec![flow(HERE, THERE, 8080); 10], &[listener(80)], &here));
    }
}
