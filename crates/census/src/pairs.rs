//! Proxies: processes that hold an entry for a client and another for a back end.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ctkeeper_flow::{Flow, Protocol, Tuple};
use ctkeeper_snapshot::Proxy;

/// Proxies named of one namespace.
const NAMED: usize = 4;

/// A process's share of an end's sockets from which the entries to that end count as its own.
const OWN: f64 = 0.5;

/// And of all sockets that begin here, from which every end counts as its own, given so many.
const NEARLY_ALL: f64 = 0.8;
const EVIDENCE: u64 = 32;

/// What a process has open.
#[derive(Clone, Debug, Default)]
pub struct ProcessSockets {
    /// Its pid.
    pub pid: u32,
    /// Its command name.
    pub command: String,
    /// Where it accepts connections; an unspecified address is any of the namespace's.
    pub listening: Vec<SocketAddr>,
    /// Its connections: own end, other end.
    pub connected: Vec<(SocketAddr, SocketAddr)>,
}

/// What is local in a namespace.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Its addresses, and whatever else its sockets use as their own.
    pub addresses: HashSet<IpAddr>,
    /// Every connection that a process has: own end, other end.
    pub connected: Vec<(SocketAddr, SocketAddr)>,
    /// Whether the processes given are all in the namespace that have any socket: then whatever
    /// begins here is theirs, also where connections are too short to be seen.
    pub nobody_else: bool,
}

/// Processes with entries on both sides among `flows`.
///
/// A front entry leads to where the process listens. A back entry begins at a local address and
/// leads to an end that the process is seen connected to: most sockets to that end must be its own.
/// Ends rather than single entries are matched, since an entry outlives its socket by minutes.
///
/// Not every socket nor every process's descriptor need be given: what share of a process's
/// sockets is known is judged by its front connections, which are its own for certain.
pub fn proxies(flows: &[Flow], local: &Local, processes: Vec<ProcessSockets>) -> Vec<Proxy> {
    let groups = by_listeners(processes);
    let everywhere: Listeners =
        groups.iter().flat_map(|group| group.sockets.listening.iter().copied()).collect();
    let to_ends = outgoing(&local.connected, &everywhere);
    let alone = local.nobody_else && groups.len() == 1;
    let proxy = |group: &Group| {
        let listeners: Listeners = group.sockets.listening.iter().copied().collect();
        let ends = if alone {
            Ends::All
        } else {
            Ends::These(own_ends(group, &listeners, &everywhere, local, &to_ends))
        };
        count(group, &listeners, &ends, flows, local)
    };
    let mut proxies: Vec<_> =
        groups.iter().map(proxy).filter(|proxy| proxy.front > 0 && proxy.back > 0).collect();
    proxies.sort_by_key(|proxy| (std::cmp::Reverse(proxy.back), proxy.pid));
    proxies.truncate(NAMED);
    proxies
}

/// Ends to which a group's connections lead.
#[derive(Debug)]
enum Ends {
    All,
    These(HashSet<SocketAddr>),
}

impl Ends {
    fn contains(&self, end: SocketAddr) -> bool {
        match self {
            Self::All => true,
            Self::These(ends) => ends.contains(&end),
        }
    }
}

/// Processes that accept at the same addresses.
#[derive(Debug)]
struct Group {
    sockets: ProcessSockets,
    processes: u64,
}

/// Workers share their master's sockets, and processes may share an address (`SO_REUSEPORT`).
fn by_listeners(processes: Vec<ProcessSockets>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for sockets in processes.into_iter().filter(|process| !process.listening.is_empty()) {
        let mut merged = Group { sockets, processes: 1 };
        let shares = |group: &mut Group| {
            group.sockets.listening.iter().any(|at| merged.sockets.listening.contains(at))
        };
        let same: Vec<_> = groups.extract_if(.., shares).collect();
        for group in same {
            merged.take(group);
        }
        groups.push(merged);
    }
    groups
}

impl Group {
    fn take(&mut self, other: Self) {
        if other.sockets.pid < self.sockets.pid {
            self.sockets.pid = other.sockets.pid;
            self.sockets.command = other.sockets.command;
        }
        self.processes += other.processes;
        self.sockets.listening.extend(other.sockets.listening);
        self.sockets.connected.extend(other.sockets.connected);
    }
}

/// Where connections are accepted.
#[derive(Debug, Default)]
struct Listeners {
    exact: HashSet<SocketAddr>,
    /// At any address.
    anywhere: BTreeSet<u16>,
}

impl FromIterator<SocketAddr> for Listeners {
    fn from_iter<I: IntoIterator<Item = SocketAddr>>(ends: I) -> Self {
        let mut listeners = Self::default();
        for end in ends {
            if end.ip().is_unspecified() {
                listeners.anywhere.insert(end.port());
            } else {
                listeners.exact.insert(end);
            }
        }
        listeners
    }
}

impl Listeners {
    fn accept(&self, end: SocketAddr) -> bool {
        self.exact.contains(&end) || self.anywhere.contains(&end.port())
    }

    fn ports(&self) -> Vec<u16> {
        let exact = self.exact.iter().map(SocketAddr::port);
        let ports: BTreeSet<_> = exact.chain(self.anywhere.iter().copied()).collect();
        ports.into_iter().collect()
    }
}

/// Connections that processes opened, counted by the end they lead to.
fn outgoing(
    connected: &[(SocketAddr, SocketAddr)],
    listeners: &Listeners,
) -> HashMap<SocketAddr, u64> {
    let mut ends = HashMap::new();
    for (_, remote) in connected.iter().filter(|(own, _)| !listeners.accept(*own)) {
        *ends.entry(*remote).or_insert(0) += 1;
    }
    ends
}

/// The ends to which most connections are the group's own. Where next to all that begin here are,
/// every end is: of one that few connections lead to none may be among the sockets read.
fn own_ends(
    group: &Group,
    listeners: &Listeners,
    everywhere: &Listeners,
    local: &Local,
    to_ends: &HashMap<SocketAddr, u64>,
) -> HashSet<SocketAddr> {
    let seen = seen_share(group, listeners, local);
    let mut own = outgoing(&group.sockets.connected, everywhere);
    let (mine, all) = (own.values().sum::<u64>(), to_ends.values().sum::<u64>());
    if mine >= EVIDENCE && mine as f64 >= NEARLY_ALL * seen * all as f64 {
        return to_ends.keys().copied().collect();
    }
    own.retain(|end, connections| {
        let all = to_ends.get(end).copied().unwrap_or(0).max(*connections);
        *connections as f64 >= OWN * seen * all as f64
    });
    own.into_keys().collect()
}

/// The share of the group's sockets that were found with it, by those it accepted.
fn seen_share(group: &Group, listeners: &Listeners, local: &Local) -> f64 {
    let accepted = |connected: &[(SocketAddr, SocketAddr)]| {
        connected.iter().filter(|(own, _)| listeners.accept(*own)).count() as f64
    };
    let all = accepted(&local.connected);
    if all == 0.0 { 1.0 } else { (accepted(&group.sockets.connected) / all).min(1.0) }
}

fn count(
    group: &Group,
    listeners: &Listeners,
    ends: &Ends,
    flows: &[Flow],
    local: &Local,
) -> Proxy {
    let mut proxy = Proxy {
        command: group.sockets.command.clone(),
        pid: group.sockets.pid,
        processes: group.processes,
        ..Proxy::default()
    };
    let (mut met, mut used) = (HashSet::new(), BTreeSet::new());
    for flow in flows.iter().filter(|flow| flow.protocol() == Protocol::TCP) {
        let (Some(accepting), Some(back_end)) = (source(&flow.reply), destination(&flow.original))
        else {
            continue;
        };
        // Where the destination was translated, the answers come from who really accepted.
        if listeners.accept(accepting) && local.addresses.contains(&accepting.ip()) {
            proxy.front += 1;
            used.insert(accepting.port());
        } else if ends.contains(back_end) && local.addresses.contains(&flow.original.source) {
            proxy.back += 1;
            met.insert(back_end);
        }
    }
    proxy.back_ends = met.len() as u64;
    proxy.ports = listeners.ports().into_iter().filter(|port| used.contains(port)).collect();
    proxy
}

fn source(tuple: &Tuple) -> Option<SocketAddr> {
    Some(SocketAddr::new(tuple.source, tuple.source_port()?))
}

fn destination(tuple: &Tuple) -> Option<SocketAddr> {
    Some(SocketAddr::new(tuple.destination, tuple.destination_port()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "10.0.0.9";
    const PROXY: &str = "10.0.0.1";
    const BACK: &str = "10.1.0.1:8080";
    const DATABASE: &str = "10.1.0.2:5432";

    fn end(address: &str, port: u16) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), port)
    }

    fn flow(from: SocketAddr, to: SocketAddr) -> Flow {
        let original =
            Tuple::with_ports(Protocol::TCP, (from.ip(), from.port()), (to.ip(), to.port()));
        Flow { original, reply: original.inverted().unwrap(), ..Flow::default() }
    }

    /// So many clients of port 80, and so many connections to an end.
    fn flows(clients: u16, own: u16, to: &str) -> Vec<Flow> {
        let front = (0..clients).map(|n| flow(end(CLIENT, 2000 + n), end(PROXY, 80)));
        let back = (0..own).map(|n| flow(end(PROXY, 30_000 + n), to.parse().unwrap()));
        front.chain(back).collect()
    }

    fn ends(flows: &[Flow]) -> Vec<(SocketAddr, SocketAddr)> {
        let of = |flow: &Flow| {
            let (from, to) =
                (source(&flow.original).unwrap(), destination(&flow.original).unwrap());
            if to.port() == 80 { (to, from) } else { (from, to) }
        };
        flows.iter().map(of).collect()
    }

    fn process(pid: u32, connected: &[(SocketAddr, SocketAddr)]) -> ProcessSockets {
        let command = format!("proxy{pid}");
        let (listening, connected) = (vec![end("::", 80)], connected.to_vec());
        ProcessSockets { pid, command, listening, connected }
    }

    fn local(connected: &[(SocketAddr, SocketAddr)]) -> Local {
        let addresses = [PROXY.parse().unwrap()].into();
        Local { addresses, connected: connected.to_vec(), nobody_else: false }
    }

    #[test]
    fn a_proxy_has_entries_on_both_sides() {
        let flows = flows(100, 100, BACK);
        let sockets = ends(&flows);
        let found = proxies(&flows, &local(&sockets), vec![process(7, &sockets)]);
        let expected = Proxy {
            command: "proxy7".to_owned(),
            pid: 7,
            processes: 1,
            ports: vec![80],
            front: 100,
            back: 100,
            back_ends: 1,
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn entries_outlive_their_sockets() {
        let flows = flows(100, 100, BACK);
        let sockets = ends(&flows)[99..101].to_vec();
        let found = proxies(&flows, &local(&sockets), vec![process(7, &sockets)]);
        assert_eq!((found[0].front, found[0].back), (100, 100));
    }

    #[test]
    fn another_processs_connections_are_not_the_servers() {
        let flows = [flows(100, 0, BACK), flows(0, 100, DATABASE)].concat();
        let sockets = ends(&flows);
        let server = process(7, &sockets[..100]);
        let caller = ProcessSockets { listening: Vec::new(), ..process(8, &sockets[100..]) };
        assert_eq!(proxies(&flows, &local(&sockets), vec![server, caller]), []);
    }

    #[test]
    fn an_end_that_others_use_more_is_theirs() {
        let flows = flows(10, 100, BACK);
        let sockets = ends(&flows);
        let server = process(7, &sockets[..30]);
        assert_eq!(proxies(&flows, &local(&sockets), vec![server]), []);
    }

    #[test]
    fn some_of_the_sockets_are_enough() {
        let flows = flows(100, 100, BACK);
        let sockets = ends(&flows);
        // A tenth of its descriptors was read, on either side alike.
        let read: Vec<_> = sockets.iter().step_by(10).copied().collect();
        let found = proxies(&flows, &local(&sockets), vec![process(7, &read)]);
        assert_eq!((found[0].front, found[0].back), (100, 100));
    }

    #[test]
    fn many_ends_of_which_few_sockets_were_read_are_all_its_own() {
        let to = |n: u16| format!("10.1.1.{}:{}", n % 200, 8000 + n / 200);
        let back = (0..400).map(|n| flow(end(PROXY, 30_000 + n), to(n).parse().unwrap()));
        let flows: Vec<_> = flows(400, 0, BACK).into_iter().chain(back).collect();
        let sockets = ends(&flows);
        let read: Vec<_> = sockets.iter().step_by(10).copied().collect();
        let found = proxies(&flows, &local(&sockets), vec![process(7, &read)]);
        assert_eq!((found[0].front, found[0].back, found[0].back_ends), (400, 400, 400));
    }

    #[test]
    fn who_is_alone_needs_no_open_connection() {
        let flows = flows(100, 100, BACK);
        let alone = Local { nobody_else: true, ..local(&[]) };
        let found = proxies(&flows, &alone, vec![process(7, &[])]);
        assert_eq!((found[0].front, found[0].back), (100, 100));
        assert_eq!(proxies(&flows, &local(&[]), vec![process(7, &[])]), []);
        let other = ProcessSockets { listening: vec![end("::", 90)], ..process(8, &[]) };
        assert_eq!(proxies(&flows, &alone, vec![process(7, &[]), other]), []);
    }

    #[test]
    fn workers_are_one_proxy() {
        let flows = flows(100, 100, BACK);
        let sockets = ends(&flows);
        let workers = (0..4).map(|n| process(20 - n, &sockets[n as usize * 50..][..50])).collect();
        let found = proxies(&flows, &local(&sockets), workers);
        assert_eq!((found.len(), found[0].processes, found[0].pid), (1, 4, 17));
        assert_eq!((found[0].front, found[0].back), (100, 100));
    }

    #[test]
    fn what_passes_through_is_neither() {
        let elsewhere = flow(end(CLIENT, 2000), end("10.9.9.9", 80));
        let mut flows = flows(100, 100, BACK);
        flows.push(elsewhere);
        let sockets = ends(&flows[..200]);
        let found = proxies(&flows, &local(&sockets), vec![process(7, &sockets)]);
        assert_eq!((found[0].front, found[0].back), (100, 100));
    }

    #[test]
    fn a_translated_front_is_known_by_who_answers() {
        let mut front = flow(end(CLIENT, 2000), end("203.0.113.1", 443));
        front.reply = flow(end(CLIENT, 2000), end(PROXY, 80)).reply;
        let mut flows = flows(0, 1, BACK);
        flows.push(front);
        let sockets = ends(&flows[..1]);
        let found = proxies(&flows, &local(&sockets), vec![process(7, &sockets)]);
        assert_eq!((found[0].front, found[0].back), (1, 1));
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(proxies(&[], &Local::default(), Vec::new()), []);
        assert_eq!(proxies(&flows(9, 9, BACK), &Local::default(), vec![process(1, &[])]), []);
    }
}
