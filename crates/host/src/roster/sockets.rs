//! Whose the sockets of a namespace are, as far as entries lead to them.
//!
//! A socket tells the control group that it was made in, which leads to the container, pod or unit
//! at no cost. Only where a group's processes are of several, its processes are found by their open
//! descriptors: a system call each, and bounded.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ctkeeper_flow::{Flow, Layer4, Protocol, Tuple};
use ctkeeper_netlink::Error;
use ctkeeper_netlink::netns::{self, Namespace};
use ctkeeper_netlink::sockets::{OpenSocket, SocketState, SocketStates, Transport};
use ctkeeper_snapshot::{Connection, Gap, GapKind, Holder, HolderIndex, SocketHolder, View};

use super::Evidence;
use super::processes::{Process, Processes};
use crate::runtimes::Names;
use crate::{read, sockets};

/// Connections looked for one by one, at most: some five microseconds each.
const ASKED: usize = 16_000;
/// Sockets read of a namespace, at most: about a microsecond each.
const READ: usize = 400_000;
/// Descriptors of all processes read, at most: a system call each.
const DESCRIPTORS: usize = 60_000;
/// Looking for one connection costs as much as reading so many sockets.
const LOOKUP: usize = 5;
/// Reading any sockets at all costs as much as this many: the kernel walks its whole hash table.
const WALK: usize = 4000;

/// Adds to a namespace's view the sockets that these entries lead to, or all.
pub(super) fn add(
    view: &mut View,
    namespace: &Namespace,
    flows: Option<&[Flow]>,
    whose: &mut Whose<'_>,
) -> Option<Gap> {
    let wanted = flows.map(|flows| Wanted::of(flows, view));
    if wanted.as_ref().is_some_and(Wanted::is_nothing) {
        view.sockets_complete = true;
        return None;
    }
    match netns::enter(namespace, |_| find(wanted.as_ref())) {
        Ok(there) => {
            whose.learn(&there);
            fill(view, &there, whose);
            None
        }
        Err(error) => Some(gap(namespace.inode(), &error)),
    }
}

/// What entries lead to.
#[derive(Debug, Default)]
struct Wanted {
    /// TCP connections that were opened here: own end, other end.
    opened: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Those that were accepted here.
    accepted: BTreeSet<(SocketAddr, SocketAddr)>,
    datagrams: bool,
}

impl Wanted {
    fn of(flows: &[Flow], view: &View) -> Self {
        let mut wanted = Self::default();
        let is_local = |address: IpAddr| view.local.contains(&address) || address.is_loopback();
        for flow in flows {
            for (tuple, opened) in [(&flow.original, true), (&flow.reply, false)] {
                let Some(ends) = ends(tuple).filter(|_| is_local(tuple.source)) else { continue };
                match (tuple.protocol, opened) {
                    (Protocol::TCP, true) => drop(wanted.opened.insert(ends)),
                    (Protocol::TCP, false) => drop(wanted.accepted.insert(ends)),
                    _ => wanted.datagrams = true,
                }
            }
        }
        wanted
    }

    fn is_nothing(&self) -> bool {
        self.opened.is_empty() && self.accepted.is_empty() && !self.datagrams
    }

    fn streams(&self) -> bool {
        !self.opened.is_empty() || !self.accepted.is_empty()
    }
}

fn ends(tuple: &Tuple) -> Option<(SocketAddr, SocketAddr)> {
    let Layer4::Ports { source, destination } = tuple.layer4 else { return None };
    let own = SocketAddr::new(tuple.source, source);
    Some((own, SocketAddr::new(tuple.destination, destination)))
}

/// Sockets of a namespace, and whether they are all that were asked for.
#[derive(Debug, Default)]
struct There {
    streams: Vec<OpenSocket>,
    datagrams: Vec<OpenSocket>,
    complete: bool,
}

/// Those in the calling thread's namespace.
fn find(wanted: Option<&Wanted>) -> There {
    let mut there = There { complete: true, ..There::default() };
    if wanted.is_none_or(|wanted| wanted.datagrams) {
        let listing = sockets::udp(READ);
        there.complete &= listing.complete;
        there.datagrams = listing.sockets;
    }
    let Some(wanted) = wanted else {
        there.take(sockets::tcp(SocketStates::ALL, READ));
        return there;
    };
    if wanted.streams() {
        there.take(sockets::tcp(SocketStates::LISTENING, READ));
        there.connect(wanted);
    }
    there
}

impl There {
    fn take(&mut self, listing: sockets::Listing) {
        self.complete &= listing.complete;
        self.streams.extend(listing.sockets);
    }

    /// Adds the connections that were opened here, and those accepted where nobody listens any more:
    /// whoever listens is who accepts.
    fn connect(&mut self, wanted: &Wanted) {
        let listening: HashSet<SocketAddr> = self.streams.iter().map(|one| one.local).collect();
        let ports: HashSet<u16> = listening.iter().map(SocketAddr::port).collect();
        let orphaned = wanted.accepted.iter().filter(|(own, _)| !ports.contains(&own.port()));
        let ends: BTreeSet<_> = wanted.opened.iter().chain(orphaned).copied().collect();
        if ends.is_empty() {
            return;
        }
        let is_dear = ends.len().saturating_mul(LOOKUP) > in_use().saturating_add(WALK);
        if is_dear || ends.len() > ASKED {
            self.take(sockets::tcp(SocketStates::CONNECTED, READ));
        } else {
            self.streams.extend(sockets::tcp_between(&ends));
        }
    }
}

/// TCP sockets of the calling thread's namespace: `TCP: inuse 5 orphan 0 …`.
fn in_use() -> usize {
    let text = read::text(Path::new("/proc/thread-self/net/sockstat")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: inuse "));
    let number = line.and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.unwrap_or(usize::MAX)
}

fn fill(view: &mut View, there: &There, whose: &Whose<'_>) {
    let streams = there.streams.iter().map(|socket| (Transport::Tcp, socket));
    let datagrams = there.datagrams.iter().map(|socket| (Transport::Udp, socket));
    for (transport, socket) in streams.chain(datagrams) {
        let Some(holder) = whose.of(socket) else { continue };
        let protocol = match transport {
            Transport::Tcp => Protocol::TCP,
            Transport::Udp => Protocol::UDP,
        };
        let waits = socket.state == SocketState::LISTEN || transport == Transport::Udp;
        if waits {
            let place = view.listening.entry((protocol, socket.local));
            place.and_modify(|known| *known = common(*known, holder)).or_insert(holder);
        }
        if is_somewhere(socket.remote) {
            let connection = Connection { protocol, local: socket.local, remote: socket.remote };
            view.connected.insert(connection, holder);
            // A route may make more local than the interfaces' addresses.
            view.local.insert(socket.local.ip());
        }
    }
    view.sockets_complete = there.complete;
}

/// Whose a port is that several sockets share: nobody's who could be told, if they are of several.
fn common(one: SocketHolder, other: SocketHolder) -> SocketHolder {
    if one == other { one } else { SocketHolder::Hidden }
}

fn is_somewhere(end: SocketAddr) -> bool {
    end.port() != 0 && !end.ip().is_unspecified()
}

/// Tells whose sockets are.
pub(super) struct Whose<'a> {
    processes: &'a Processes,
    names: &'a Names,
    index: &'a mut dyn FnMut(Holder) -> HolderIndex,
    /// By control group: containers, pods and units.
    groups: HashMap<u64, HolderIndex>,
    /// By control group, the process whose all of the namespace's in that group are.
    alone: HashMap<u64, HolderIndex>,
    /// Whether every descriptor was read.
    was_thorough: bool,
    evidence: Evidence,
    /// By inode of a socket.
    sockets: HashMap<u64, HolderIndex>,
}

impl<'a> Whose<'a> {
    pub(super) fn new(
        processes: &'a Processes,
        names: &'a Names,
        evidence: Evidence,
        index: &'a mut dyn FnMut(Holder) -> HolderIndex,
    ) -> Self {
        Self {
            processes,
            names,
            index,
            groups: HashMap::new(),
            alone: HashMap::new(),
            was_thorough: false,
            evidence,
            sockets: HashMap::new(),
        }
    }

    /// Finds out about these sockets.
    fn learn(&mut self, there: &There) {
        if self.evidence == Evidence::Groups {
            self.learn_groups();
        }
        let all = there.streams.iter().chain(&there.datagrams);
        let unclear = all.filter(|socket| socket.inode != 0 && self.by_group(socket).is_none());
        let mut inodes: HashSet<u64> = unclear.map(|socket| socket.inode).collect();
        let mut left = DESCRIPTORS;
        for process in self.processes.iter() {
            if inodes.is_empty() || left == 0 {
                break;
            }
            let (open, read) = sockets::open_by(process.pid, left);
            left -= read;
            for inode in open.intersection(&inodes.clone()) {
                inodes.remove(inode);
                let holder = self.holder(process);
                let holder = (self.index)(holder);
                self.sockets.insert(*inode, holder);
            }
        }
        self.was_thorough = left > 0;
    }

    fn learn_groups(&mut self) {
        let Some(mount) = unified_mount() else { return };
        let mut members: HashMap<&str, HashSet<Holder>> = HashMap::new();
        for process in self.processes.iter() {
            if let Some(path) = &process.unified {
                members.entry(path).or_default().insert(self.holder(process));
            }
        }
        for (path, holders) in members {
            let folder = mount.join(path.trim_start_matches('/'));
            let mut holders = holders.into_iter();
            let (Some(holder), None) = (holders.next(), holders.next()) else { continue };
            let Ok(folder) = std::fs::metadata(folder) else { continue };
            let is_process = matches!(holder, Holder::Process { .. });
            let groups = if is_process { &mut self.alone } else { &mut self.groups };
            groups.insert(folder.ino(), (self.index)(holder));
        }
    }

    fn holder(&self, process: &Process) -> Holder {
        self.processes.holder(process, self.names)
    }

    fn by_group(&self, socket: &OpenSocket) -> Option<HolderIndex> {
        self.groups.get(&socket.cgroup?).copied()
    }

    /// Whose a socket is; `None` for one that nobody has any more. Where descriptors are the evidence
    /// one that no process has (not yet accepted, or still closing) is there all the same: for who
    /// looks for entries without a socket its connection lives.
    fn of(&self, socket: &OpenSocket) -> Option<SocketHolder> {
        if socket.state == SocketState::TIME_WAIT {
            return None;
        }
        // What no descriptor leads to belongs to a process that is in another namespace now, if all
        // were read and there is one at all.
        let alone = || {
            let is_likely = !self.was_thorough || socket.inode == 0;
            socket.cgroup.filter(|_| is_likely).and_then(|group| self.alone.get(&group))
        };
        let process = || self.sockets.get(&socket.inode).or_else(alone).copied();
        let holder = self.by_group(socket).or_else(process);
        let is_there = socket.inode != 0 || self.evidence == Evidence::Descriptors;
        let hidden = is_there.then_some(SocketHolder::Hidden);
        holder.map(SocketHolder::Of).or(hidden)
    }
}

/// Where the unified hierarchy is mounted from its root on.
fn unified_mount() -> Option<PathBuf> {
    let mounts = read::text(Path::new("/proc/self/mountinfo")).ok()?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        (after.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(place))
    })
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
