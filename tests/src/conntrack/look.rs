//! The table as the kernel sends it, attribute by attribute: nothing of ours reads it, so nothing of
//! ours can leave something out.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use anyhow::{Context, bail, ensure};
use ctkeeper_lab::Namespace;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use super::mask::Moment;
use super::outcome::unified;

const BUFFER: usize = 1 << 16;
/// Of `struct nlmsghdr` and `struct nfgenmsg` (`include/uapi/linux/netlink.h`, `netfilter/nfnetlink.h`,
/// Linux 6.12).
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
const REQUEST_DUMP: u16 = 1 | 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 0x8000;
const TYPE: u16 = 0x3fff;

/// One of the two tables (`enum cntl_msg_types`, `nfnetlink_conntrack.h`): its dump request, and
/// which attributes are seconds left, the kernel's ids, reference counts and times.
struct Kind {
    name: &'static str,
    request: u16,
    timeout: u16,
    left_out: &'static [u16],
}

const KINDS: [Kind; 2] = [
    Kind { name: "entry", request: 1 << 8 | 1, timeout: 7, left_out: &[11, 12, 20] },
    Kind { name: "expectation", request: 2 << 8 | 1, timeout: 4, left_out: &[5] },
];

/// Names of an entry's attributes (`enum ctattr_type`).
const NAMES: [&str; 27] = [
    "",
    "original",
    "reply",
    "status",
    "protoinfo",
    "help",
    "nat",
    "timeout",
    "mark",
    "counters-original",
    "counters-reply",
    "use",
    "id",
    "nat-dst",
    "master",
    "seq-original",
    "seq-reply",
    "secmark",
    "zone",
    "secctx",
    "timestamp",
    "mark-mask",
    "labels",
    "labels-mask",
    "synproxy",
    "filter",
    "status-mask",
];

/// How a table looks: entries and expectations, each with its seconds left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    lines: BTreeMap<String, Vec<Option<u32>>>,
    pub(super) moment: Moment,
}

/// How far the seconds left may be apart.
const APART: u64 = 2;

impl Look {
    /// What differs, in lines; `None` if nothing does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let lines = |look: &Self| -> Vec<String> {
            let each = look.lines.iter();
            each.flat_map(|(line, times)| vec![format!("{line}\n"); times.len()]).collect()
        };
        let (theirs, ours) = (lines(self), lines(other));
        if theirs != ours {
            return Some(only_changes(&unified(&theirs, &ours)));
        }
        self.lines.iter().zip(other.lines.values()).find_map(|((line, theirs), ours)| {
            let mut pairs = theirs.iter().zip(ours);
            let may =
                |a: u32, b: u32| self.moment.may_be_one(other.moment, (a.into(), b.into()), APART);
            let apart = pairs.find(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => !may(*a, *b),
                (a, b) => a != b,
            })?;
            Some(format!("  seconds left {apart:?}: {line}\n"))
        })
    }

    /// How many entries and expectations there are.
    pub fn count(&self) -> usize {
        self.lines.values().map(Vec::len).sum()
    }
}

fn only_changes(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with("   ")).collect()
}

/// Looks at one namespace's tables.
#[derive(Debug)]
pub(super) struct Watch {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Watch {
    pub(super) fn open(namespace: &Namespace) -> anyhow::Result<Self> {
        let socket = namespace.enter(|| -> anyhow::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC;
            let socket =
                socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
            bind(&socket, &SocketAddrNetlink::new(0, 0))?;
            Ok(socket)
        })??;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    pub(super) fn look(&mut self) -> anyhow::Result<Look> {
        let mut look = Look::default();
        for kind in &KINDS {
            self.dump(kind, &mut look)?;
        }
        look.lines.values_mut().for_each(|times| times.sort_unstable());
        Ok(look)
    }

    fn dump(&mut self, kind: &Kind, look: &mut Look) -> anyhow::Result<()> {
        let mut request = vec![(HEADER + FAMILY_HEADER) as u8, 0, 0, 0];
        request.extend(kind.request.to_ne_bytes());
        request.extend(REQUEST_DUMP.to_ne_bytes());
        request.extend([0; 8 + FAMILY_HEADER]);
        send(&self.socket, &request, SendFlags::empty()).context("asking for the table")?;
        loop {
            let (_, read) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())
                .context("reading the table")?;
            ensure!(read <= BUFFER, "a part of a dump does not fit");
            let mut rest = &self.buffer[..read];
            while let Some((message_type, body)) = message(&mut rest) {
                match message_type {
                    DONE => return Ok(()),
                    ERROR => bail!("the kernel refuses to show its table: {body:?}"),
                    _ => take(kind, body, look),
                }
            }
        }
    }
}

/// The next message's type and what follows the headers.
fn message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let header = rest.get(..HEADER)?;
    let length = u32::from_ne_bytes(header[..4].try_into().ok()?) as usize;
    let message = rest.get(..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    let message_type = u16::from_ne_bytes(header[4..6].try_into().ok()?);
    Some((message_type, message.get(HEADER + FAMILY_HEADER..).unwrap_or_default()))
}

fn take(kind: &Kind, body: &[u8], look: &mut Look) {
    let (mut line, mut left) = (kind.name.to_owned(), None);
    for (number, nested, value) in attributes(body) {
        if number == kind.timeout {
            left = value.try_into().ok().map(u32::from_be_bytes);
        } else if !kind.left_out.contains(&number) {
            let named = NAMES.get(usize::from(number)).filter(|_| kind.timeout == 7);
            line += &named.map_or_else(|| format!(" {number}"), |name| format!(" {name}"));
            describe(nested, value, &mut line);
        }
    }
    look.lines.entry(line).or_default().push(left);
}

fn describe(nested: bool, value: &[u8], line: &mut String) {
    if !nested {
        line.push('=');
        for byte in value {
            *line += &format!("{byte:02x}");
        }
        return;
    }
    line.push('(');
    for (number, nested, value) in attributes(value) {
        *line += &format!(" {number}");
        describe(nested, value, line);
    }
    *line += " )";
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, bool, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE, kind & NESTED != 0, value))
    })
}
