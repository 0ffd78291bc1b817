//! One packet, one entry: the kernel's against the engine's.

use ctkeeper_engine::{Class, Outcome, Verdict};
use ctkeeper_flow::{Direction, Flow, Layer4, Protocol, ProtocolState, Tuple};

use crate::addresses::translated;
use crate::aliases::Aliases;
use crate::ground::{CLASSES, REPLY};
use crate::sequence::{Side, Treatment};
use crate::transcript::Sent;
use crate::wire::{self, Endpoint, Ends, Seen};

/// What the engine says of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) outcome: &'a Outcome,
    /// Its connection as it stands behind the packet.
    pub(crate) flow: Option<&'a Flow>,
}

/// What tells entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn of(flow: &Flow) -> Self {
        Self(format!("{} {:?}", flow.original, flow.zone))
    }
}

impl Told<'_> {
    /// The code that a packet of this outcome carries; 0 for one that is dropped.
    fn code(self) -> u8 {
        if self.outcome.verdict == Verdict::Drop {
            return 0;
        }
        let code = match self.outcome.class {
            Class::New => 1,
            Class::Established => 2,
            Class::Related => 3,
            Class::Invalid => return 4,
            Class::Untracked => return 5,
        };
        code + if self.outcome.direction == Direction::Reply { REPLY } else { 0 }
    }

    /// Whether the router is itself the packet's destination, so that it does not come out.
    pub(crate) fn stays_here(self, sent: &Sent) -> bool {
        let Some(seen) = wire::read(&sent.datagram) else { return false };
        let here = translated(family(&seen), Treatment::Masquerade, Side::Client);
        self.destination(seen.ends.destination.address) == here
    }

    fn destination(self, untranslated: std::net::IpAddr) -> std::net::IpAddr {
        match (self.flow, self.outcome.direction) {
            (None, _) => untranslated,
            (Some(flow), Direction::Original) => flow.reply.source,
            (Some(flow), Direction::Reply) => flow.original.source,
        }
    }

    /// The ends of the packet as they are behind the router.
    fn ends(self, seen: &Seen) -> Ends {
        match (self.flow, self.outcome.direction) {
            (None, _) => seen.ends,
            (Some(flow), Direction::Original) => ends_of(&flow.reply).turned(),
            (Some(flow), Direction::Reply) => ends_of(&flow.original).turned(),
        }
    }
}

fn family(seen: &Seen) -> ctkeeper_flow::Family {
    match seen.ends.source.address {
        std::net::IpAddr::V4(_) => ctkeeper_flow::Family::Ipv4,
        std::net::IpAddr::V6(_) => ctkeeper_flow::Family::Ipv6,
    }
}

fn ends_of(tuple: &Tuple) -> Ends {
    let (from, to) = match tuple.layer4 {
        Layer4::None => (0, 0),
        Layer4::Ports { source, destination } => (source, destination),
        Layer4::Icmp { id, .. } => (id, id),
    };
    Ends {
        source: Endpoint { address: tuple.source, port: from },
        destination: Endpoint { address: tuple.destination, port: to },
    }
}

/// A code in words.
fn word(code: u8) -> String {
    let class = CLASSES.get(usize::from(code & !REPLY)).copied().unwrap_or("?");
    match code {
        0 => "dropped".to_owned(),
        reply if reply & REPLY != 0 => format!("{class} (reply)"),
        _ => class.to_owned(),
    }
}

/// Whether both put the packet into the same class, and let it pass or not.
pub(crate) fn class(sent: &Sent, told: Told<'_>) -> Result<(), String> {
    let read = sent.out.iter().filter_map(|out| wire::read(&out.bytes));
    let theirs = read.map(|seen| seen.code).next().unwrap_or(0);
    let ours = told.code();
    if theirs == ours {
        return Ok(());
    }
    let reason = told.outcome.reason.map_or(String::new(), |reason| format!(" ({reason:?})"));
    Err(format!("the kernel says {}, the engine {}{reason}", word(theirs), word(ours)))
}

/// Whether both translate the packet alike.
pub(crate) fn ends(sent: &Sent, told: Told<'_>, aliases: &Aliases) -> Result<(), String> {
    let (Some(before), Some(out)) = (wire::read(&sent.datagram), sent.out.first()) else {
        return Ok(());
    };
    let Some(seen) = wire::read(&out.bytes) else { return Ok(()) };
    if told.outcome.class == Class::Related && told.flow.is_some() {
        return inner_ends(told, &out.bytes, &seen, aliases);
    }
    let mut ours = told.ends(&before);
    ours.source = aliases.kernels(seen.protocol, ours.destination, ours.source);
    if !has_ids(seen.protocol) {
        for ends in [&mut ours.source, &mut ours.destination] {
            ends.port = 0;
        }
    }
    if seen.ends == ours || before.protocol != seen.protocol {
        return Ok(());
    }
    Err(format!("it comes out as {:?}, the engine says {ours:?}", seen.ends))
}

fn has_ids(protocol: Protocol) -> bool {
    matches!(
        protocol,
        Protocol::TCP
            | Protocol::UDP
            | Protocol::UDPLITE
            | Protocol::SCTP
            | Protocol::ICMP
            | Protocol::ICMPV6
    )
}

/// The packet inside an error is what its receiver once sent.
fn inner_ends(told: Told<'_>, bytes: &[u8], seen: &Seen, aliases: &Aliases) -> Result<(), String> {
    let Some(flow) = told.flow else { return Ok(()) };
    let own = match told.outcome.direction {
        Direction::Original => &flow.reply,
        Direction::Reply => &flow.original,
    };
    if seen.ends.destination.address != own.source {
        let to = seen.ends.destination.address;
        return Err(format!("the error goes to {to}, with the engine to {}", own.source));
    }
    let Some(inner) = bytes.get(seen.header + 8..).and_then(wire::read) else { return Ok(()) };
    if inner.is_later_fragment || !has_ids(inner.protocol) {
        return Ok(());
    }
    let mut ours = ends_of(own);
    ours.destination = aliases.kernels(inner.protocol, ours.source, ours.destination);
    if inner.ends == ours {
        return Ok(());
    }
    Err(format!("the error is about {:?}, with the engine about {ours:?}", inner.ends))
}

/// An entry in one line.
pub(crate) fn brief(flow: &Flow) -> String {
    let state = flow.state.name().unwrap_or("-");
    format!("{} {state} {} {:?}s", flow.original, flow.status, flow.timeout)
}

/// Whether both entries say the same; ids and use counts are nobody's business.
pub(crate) fn flows(theirs: &Flow, ours: &Flow) -> Result<(), String> {
    let mut different = Vec::new();
    let mut check = |name: &str, kernel: &dyn std::fmt::Debug, engine: &dyn std::fmt::Debug| {
        let (kernel, engine) = (format!("{kernel:?}"), format!("{engine:?}"));
        if kernel != engine {
            different.push(format!("{name}: kernel {kernel}, engine {engine}"));
        }
    };
    check("reply", &theirs.reply.to_string(), &ours.reply.to_string());
    check("zone", &theirs.zone, &ours.zone);
    check("status", &theirs.status.to_string(), &ours.status.to_string());
    check("state", &comparable(theirs.state), &comparable(ours.state));
    check("mark", &theirs.mark.unwrap_or_default(), &ours.mark.unwrap_or_default());
    check("counters", &theirs.counters_original, &ours.counters_original);
    check("reply's counters", &theirs.counters_reply, &ours.counters_reply);
    check("labels", &theirs.labels.unwrap_or_default(), &ours.labels.unwrap_or_default());
    check("master", &theirs.master, &ours.master);
    let remaining = |flow: &Flow| flow.timeout.unwrap_or(0);
    if remaining(theirs).abs_diff(remaining(ours)) > 1 {
        let (kernel, engine) = (remaining(theirs), remaining(ours));
        different.push(format!("timeout: kernel {kernel} s, engine {engine} s"));
    }
    if different.is_empty() {
        return Ok(());
    }
    Err(format!("{}: {}", theirs.original, different.join("; ")))
}

/// What the mask of TCP's flags says is for writers only.
fn comparable(state: ProtocolState) -> ProtocolState {
    match state {
        ProtocolState::Tcp(mut tracking) => {
            if let Some((original, reply)) = &mut tracking.flags {
                original.mask = 0;
                reply.mask = 0;
            }
            ProtocolState::Tcp(tracking)
        }
        other => other,
    }
}
