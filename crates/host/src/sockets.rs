//! The TCP and UDP sockets of a namespace, and which processes have them.
//!
//! The kernel is asked through netlink where that loads nothing, else `/proc/net/tcp` is read, which
//! is slower. Processes are found by their open descriptors, which takes a system call a
//! descriptor: all of it is bounded. Names of processes are hostile input.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ctkeeper_netlink::sockets::{
    OpenSocket, SocketFinder, SocketState, SocketStates, Transport, can_dump, dump,
};

use rustix::fs::{Dir, Mode, OFlags, readlinkat};

use crate::read;

/// Connections read of `/proc/net/tcp`, at most, where netlink tells nothing.
const LINES: usize = 100_000;

/// Sockets, and whether they are all there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The sockets.
    pub sockets: Vec<OpenSocket>,
    /// Whether none was left out.
    pub complete: bool,
}

/// The TCP sockets of the calling thread's namespace in one of `states`, at most `limit` of them.
/// Nothing is loaded by looking; where nothing can be seen, the listing is empty and incomplete.
pub fn tcp(states: SocketStates, limit: usize) -> Listing {
    if can_dump(Transport::Tcp)
        && let Ok(listing) = from_netlink(Transport::Tcp, states, limit)
    {
        return listing;
    }
    from_proc(Path::new("/proc/thread-self/net"), "tcp", states, limit)
}

/// The UDP sockets of the calling thread's namespace, at most `limit` of them, under the same terms.
pub fn udp(limit: usize) -> Listing {
    let states = SocketStates::ALL;
    if can_dump(Transport::Udp)
        && let Ok(listing) = from_netlink(Transport::Udp, states, limit)
    {
        return listing;
    }
    from_proc(Path::new("/proc/thread-self/net"), "udp", states, limit)
}

/// The TCP sockets of the calling thread's namespace that are connected between these ends: own, other.
/// Nothing is loaded by looking; where nothing can be seen, there are none.
pub fn tcp_between(ends: &BTreeSet<(SocketAddr, SocketAddr)>) -> Vec<OpenSocket> {
    if let Ok(mut finder) = SocketFinder::open(Transport::Tcp) {
        let found = ends.iter().filter_map(|(own, other)| finder.connected(*own, *other).ok()?);
        return found.collect();
    }
    let mut sockets =
        from_proc(Path::new("/proc/thread-self/net"), "tcp", SocketStates::CONNECTED, LINES)
            .sockets;
    sockets.retain(|socket| ends.contains(&(socket.local, socket.remote)));
    sockets
}

/// Processes with their first one in the network namespace of this inode, lowest pid first.
pub fn processes_in(namespace: u64) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found.ino() == namespace)
        })
        .collect();
    pids.sort_unstable();
    pids
}

/// A process's command name (`comm`): hostile input. `None` when it has gone.
pub fn command(pid: u32) -> Option<String> {
    let comm = read::text(Path::new(&format!("/proc/{pid}/comm"))).ok()?;
    Some(comm.trim_end_matches('\n').to_owned())
}

/// The inodes of the sockets among a process's first descriptors, at most `limit` of those, and how
/// many were read. Nothing where it has gone or may not be looked into.
pub fn open_by(pid: u32, limit: usize) -> (HashSet<u64>, usize) {
    let (mut inodes, mut read) = (HashSet::new(), 0);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(format!("/proc/{pid}/fd"), flags, Mode::empty());
    let Ok(folder) = folder else { return (inodes, 0) };
    let Ok(entries) = Dir::read_from(&folder) else { return (inodes, 0) };
    let mut link = Vec::with_capacity(64);
    let numbers =
        entries.flatten().filter(|entry| entry.file_name() != c"." && entry.file_name() != c"..");
    for entry in numbers.take(limit) {
        read += 1;
        // Relative to the folder: the path to it is walked once.
        if let Ok(target) = readlinkat(&folder, entry.file_name(), std::mem::take(&mut link)) {
            inodes.extend(target.to_str().ok().and_then(inode));
            link = target.into_bytes();
        }
    }
    (inodes, read)
}

/// The number in `socket:[4711]`.
fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn from_netlink(
    transport: Transport,
    states: SocketStates,
    limit: usize,
) -> Result<Listing, ctkeeper_netlink::Error> {
    let mut sockets = Vec::new();
    let complete = dump(transport, states, |socket| {
        if sockets.len() == limit {
            return ControlFlow::Break(());
        }
        sockets.push(*socket);
        ControlFlow::Continue(())
    })?;
    Ok(Listing { sockets, complete })
}

/// `name` is the file of IPv4; that of IPv6 has a 6 behind it.
fn from_proc(folder: &Path, name: &str, states: SocketStates, limit: usize) -> Listing {
    let mut listing = Listing { sockets: Vec::new(), complete: true };
    for (name, is_needed) in [(name.to_owned(), true), (format!("{name}6"), false)] {
        // Without IPv6 there is no second file.
        let Ok(file) = fs::File::open(folder.join(name)) else {
            listing.complete &= !is_needed;
            continue;
        };
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        let sockets = lines.filter_map(|line| parse(&line));
        for socket in sockets.filter(|socket| states.contains(socket.state)) {
            if listing.sockets.len() == limit {
                return Listing { complete: false, ..listing };
            }
            listing.sockets.push(socket);
        }
    }
    listing
}

/// A line of `/proc/net/tcp`, `udp` and those of IPv6 (`get_tcp4_sock`, `net/ipv4/tcp_ipv4.c`,
/// Linux 6.12).
fn parse(line: &str) -> Option<OpenSocket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (end(fields.next()?)?, end(fields.next()?)?);
    let state = SocketState(u8::from_str_radix(fields.next()?, 16).ok()?);
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(OpenSocket { state, local, remote, inode, uid, cgroup: None })
}

/// `0100007F:1F90`: 32-bit words of the address as this machine has them in memory, and the port.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words = |index: usize| {
        let word = address.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    };
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(words(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (index, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&words(index)?);
            }
            Ipv6Addr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    fn ours(listing: &Listing, mine: &HashSet<u64>) -> Vec<OpenSocket> {
        let mut sockets: Vec<_> =
            listing.sockets.iter().filter(|s| mine.contains(&s.inode)).copied().collect();
        sockets.sort_by_key(|socket| socket.inode);
        sockets
    }

    #[test]
    fn both_ways_tell_the_same() {
        let mut kept = Vec::new();
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            kept.push((listener.accept().unwrap(), client, listener));
        }
        let (mine, _) = open_by(std::process::id(), 100_000);
        assert!(mine.len() >= 3 * kept.len());
        let states = SocketStates::ALL;
        let read = from_proc(Path::new("/proc/thread-self/net"), "tcp", states, usize::MAX);
        assert!(read.complete);
        assert!(ours(&read, &mine).len() >= 3 * kept.len());
        if can_dump(Transport::Tcp) {
            let mut asked = from_netlink(Transport::Tcp, states, usize::MAX).unwrap();
            // Netlink alone tells the control group.
            asked.sockets.iter_mut().for_each(|socket| socket.cgroup = None);
            assert_eq!(ours(&asked, &mine), ours(&read, &mine));
        }
    }

    #[test]
    fn reading_is_bounded() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let states = SocketStates::LISTENING;
        assert!(!tcp(states, 0).complete);
        assert!(!from_proc(Path::new("/proc/thread-self/net"), "tcp", states, 0).complete);
        assert_eq!(open_by(std::process::id(), 2).1, 2);
        assert_eq!(open_by(u32::MAX, 2), (HashSet::new(), 0));
    }

    #[test]
    fn this_process_is_in_its_namespace() {
        let here = fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert!(processes_in(here).contains(&std::process::id()));
        assert_eq!(processes_in(1), [0_u32; 0]);
        assert!(command(std::process::id()).is_some_and(|name| !name.is_empty()));
        assert_eq!(command(u32::MAX), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_of_proc_is_taken_apart() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                    1000        0 4711 1 ffff8880 100 0 0 10 0";
        let socket = parse(line).unwrap();
        assert_eq!(socket.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((socket.state, socket.uid, socket.inode), (SocketState::LISTEN, 1000, 4711));
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue"), None);
    }

    proptest! {
        #[test]
        fn no_line_does_harm(line in "([0-9A-F: ]|.){0,120}") {
            let _ = (parse(&line), inode(&line), end(&line));
        }
    }
}
