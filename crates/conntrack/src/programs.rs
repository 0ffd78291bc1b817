//! Which program a netlink port belongs to.

use std::fs;
use std::path::{Path, PathBuf};

use ctkeeper_flow::hostile;

/// `NETLINK_NETFILTER`, as the second column of `/proc/net/netlink` has it.
const NETFILTER: &str = "12";

/// What follows an event that a process caused.
///
/// Looking a program up takes a walk through `/proc`: one answer serves all events that were read at
/// once, and a port that still has the same socket keeps its program.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    port: u32,
    socket: Option<u64>,
    program: Option<String>,
    tail: Vec<u8>,
    is_fresh: bool,
}

impl Programs {
    /// ` [USERSPACE] portid=N progname=NAME`, without the name if the process is gone; nothing for
    /// port 0, which is the kernel.
    pub(crate) fn tail(&mut self, port: u32) -> &[u8] {
        if port == 0 {
            return &[];
        }
        let position = self.known.iter().position(|known| known.port == port);
        let index = position.unwrap_or_else(|| {
            self.known.push(Known::look(port, None));
            self.known.len() - 1
        });
        let known = &mut self.known[index];
        if !known.is_fresh {
            *known = Known::look(port, Some(known));
        }
        &known.tail
    }

    /// Time has passed: what is known may be so no more. Whoever caused nothing since the last time
    /// is dropped.
    pub(crate) fn forget(&mut self) {
        self.known.retain(|known| known.is_fresh);
        self.known.iter_mut().for_each(|known| known.is_fresh = false);
    }
}

impl Known {
    fn look(port: u32, before: Option<&Self>) -> Self {
        let socket = socket_of(port);
        let same = before.filter(|before| before.socket.is_some() && before.socket == socket);
        let program = match (same, socket) {
            (Some(before), _) => before.program.clone(),
            (None, Some(socket)) => program_of(port, socket),
            (None, None) => None,
        };
        let mut tail = format!(" [USERSPACE] portid={port}");
        if let Some(program) = &program {
            tail.push_str(" progname=");
            tail.push_str(&hostile::escaped(program));
        }
        Self { port, socket, program, tail: tail.into_bytes(), is_fresh: true }
    }
}

/// The inode of the socket that has a port.
fn socket_of(port: u32) -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netlink").ok()?;
    let port = port.to_string();
    text.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_it = columns.get(1) == Some(&NETFILTER) && *columns.get(2)? == port;
        if is_it { columns.get(9)?.parse().ok() } else { None }
    })
}

/// The name of the process that has a socket. The first socket of a process often has its id as
/// port.
fn program_of(port: u32, socket: u64) -> Option<String> {
    let target = PathBuf::from(format!("socket:[{socket}]"));
    let likely = PathBuf::from(format!("/proc/{port}"));
    if has_open(&likely, &target) {
        return name(&likely);
    }
    let is_process = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut processes =
        fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path()).filter(is_process);
    processes.find(|process| has_open(process, &target)).and_then(|process| name(&process))
}

fn has_open(process: &Path, target: &Path) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link == target))
}

/// The second word of `stat`, up to the first closing bracket, as conntrack reads it.
fn name(process: &Path) -> Option<String> {
    let stat = fs::read(process.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.split_once('(')?;
    rest.split(')').next().filter(|name| !name.is_empty()).map(str::to_owned)
}
