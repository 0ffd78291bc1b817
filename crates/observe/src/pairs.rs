//! Proxies of a namespace: whose entries stand on both sides of one process.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ctkeeper_census::{Local, ProcessSockets, proxies};
use ctkeeper_flow::{Flow, Protocol, Tuple};
use ctkeeper_host::sockets;
use ctkeeper_netlink::sockets::{OpenSocket, SocketStates, local_addresses};
use ctkeeper_snapshot::Proxy;

/// Sampled entries on either side from which a closer look is worth it.
const WORTH_LOOKING: usize = 10;
/// Listening sockets read, at most.
const LISTENERS: usize = 4096;
/// Connections looked for, at most: a few microseconds each.
const CONNECTIONS: usize = 2000;
/// Descriptors of all processes read, at most: a system call each.
const DESCRIPTORS: usize = 12_000;
/// And of one: sockets it accepts and sockets it opens stand there in turn.
const DESCRIPTORS_EACH: usize = 6000;
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
    let connected = sockets::tcp_between(&ends(flows, &listening, &addresses));
    let by_inode = SocketsByInode::new(&listening, &connected);
    let (processes, nobody_else) = processes(namespace, &by_inode);
    if processes.is_empty() {
        Vec::new()
    } else {
        let local = Local { nobody_else, ..local(addresses, &connected) };
        proxies(flows, &local, processes)
    }
}

/// Own and other ends of the connections behind entries that lead to where somebody listens, or begin
/// here: asked for one by one, they are as fair a sample as the entries are.
fn ends(
    flows: &[Flow],
    listening: &[OpenSocket],
    addresses: &HashSet<IpAddr>,
) -> BTreeSet<(SocketAddr, SocketAddr)> {
    let ports: HashSet<_> = listening.iter().map(|socket| socket.local.port()).collect();
    let tcp = flows.iter().filter(|flow| flow.protocol() == Protocol::TCP);
    let ends = tcp.filter_map(|flow| {
        // Where the destination was translated, the answers come from who really accepted.
        if flow.reply.source_port().is_some_and(|port| ports.contains(&port)) {
            between(&flow.reply)
        } else {
            between(&flow.original).filter(|(own, _)| addresses.contains(&own.ip()))
        }
    });
    ends.take(CONNECTIONS).collect()
}

fn between(tuple: &Tuple) -> Option<(SocketAddr, SocketAddr)> {
    let own = SocketAddr::new(tuple.source, tuple.source_port()?);
    Some((own, SocketAddr::new(tuple.destination, tuple.destination_port()?)))
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
fn local(mut addresses: HashSet<IpAddr>, connected: &[OpenSocket]) -> Local {
    addresses.extend(connected.iter().map(|socket| socket.local.ip()));
    // Not yet accepted ones belong to nobody.
    let owned = connected.iter().filter(|socket| socket.inode != 0);
    let connected = owned.map(|socket| (socket.local, socket.remote)).collect();
    Local { addresses, connected, nobody_else: false }
}

#[derive(Debug)]
struct SocketsByInode {
    listening: HashMap<u64, SocketAddr>,
    connected: HashMap<u64, (SocketAddr, SocketAddr)>,
}

impl SocketsByInode {
    fn new(listening: &[OpenSocket], connected: &[OpenSocket]) -> Self {
        Self {
            listening: listening.iter().map(|socket| (socket.inode, socket.local)).collect(),
            connected: connected
                .iter()
                .map(|socket| (socket.inode, (socket.local, socket.remote)))
                .collect(),
        }
    }
}

/// The namespace's processes that listen, with their sockets, as far as the bounds go, and whether
/// nobody else there has a socket of any kind.
fn processes(namespace: u64, sockets: &SocketsByInode) -> (Vec<ProcessSockets>, bool) {
    let pids = sockets::processes_in(namespace);
    let mut nobody_else = pids.len() <= PROCESSES;
    let mut candidates: Vec<_> = pids
        .into_iter()
        .take(PROCESSES)
        .filter_map(|pid| Some((pid, sockets::command(pid)?)))
        .collect();
    candidates.sort_by_key(|(_, command)| !KNOWN.contains(&command.as_str()));
    let mut budget = DESCRIPTORS;
    let mut found = Vec::new();
    for (pid, command) in candidates {
        let (inodes, read) = sockets::open_by(pid, budget.min(DESCRIPTORS_EACH));
        budget -= read;
        let process = process(pid, command, &inodes, sockets);
        // Of who shows no descriptor at all nothing is known.
        nobody_else &= read > 0 && (inodes.is_empty() || !process.listening.is_empty());
        found.extend(Some(process).filter(|process| !process.listening.is_empty()));
        if budget == 0 {
            return (found, false);
        }
    }
    (found, nobody_else)
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
            cgroup: None,
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
