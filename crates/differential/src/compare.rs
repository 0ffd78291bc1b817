//! One packet, one entry: the kernel's against the engine's.

use ctkeeper_engine::{Class, Outcome, Verdict};
use ctkeeper_flow::{Direction, Expectation, Flow, ProtocolState};

use crate::addresses::translated;
use crate::ground::{CLASSES, REPLY};
use crate::sequence::{Side, Treatment};
use crate::transcript::Sent;
use crate::wire::{self, Seen};

/// What the engine says of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) outcome: &'a Outcome,
    /// The packet as it goes on; none where it cannot be translated.
    pub(crate) packet: Option<&'a [u8]>,
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
        if self.outcome.verdict == Verdict::Drop || self.packet.is_none() {
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

    /// Where and how it goes on.
    pub(crate) fn seen(self) -> Option<Seen> {
        wire::read(self.packet?)
    }

    /// Whether the router is itself the packet's destination, so that it does not come out.
    pub(crate) fn stays_here(self) -> bool {
        self.seen().is_some_and(|seen| is_routers(&seen))
    }
}

/// Whether a packet goes to the address that the router masquerades with.
pub(crate) fn is_routers(seen: &Seen) -> bool {
    let own = translated(family(seen), Treatment::Masquerade, Side::Client);
    seen.ends.destination.address == own
}

const fn family(seen: &Seen) -> ctkeeper_flow::Family {
    match seen.ends.source.address {
        std::net::IpAddr::V4(_) => ctkeeper_flow::Family::Ipv4,
        std::net::IpAddr::V6(_) => ctkeeper_flow::Family::Ipv6,
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

/// Whether the packet goes on alike, byte for byte behind the network header.
pub(crate) fn packet(sent: &Sent, told: Told<'_>) -> Result<(), String> {
    let (Some(ours), Some(out)) = (told.seen(), sent.out.first()) else { return Ok(()) };
    let Some(theirs) = wire::read(&out.bytes) else { return Ok(()) };
    if theirs.ends != ours.ends {
        return Err(format!("it comes out as {:?}, the engine says {:?}", theirs.ends, ours.ends));
    }
    let layer4 = wire::layer4_of(sent.out.iter().map(|out| out.bytes.as_slice()));
    let engines = told.packet.and_then(|packet| packet.get(ours.header..)).unwrap_or_default();
    if layer4 == engines {
        return Ok(());
    }
    Err(format!("it comes out as {}, the engine says {}", digits(&layer4), digits(engines)))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
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
    check("helper", &name_of(theirs), &name_of(ours));
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

fn name_of(flow: &Flow) -> Option<&str> {
    flow.helper.as_ref().map(|helper| &*helper.name)
}

/// An expectation but for its id and its age. Of its mask only the source counts, and the kernel
/// names the master's helper where no other reads along.
pub(crate) fn expectation(expectation: &Expectation) -> String {
    let Expectation { expected, mask, master, flags, class, .. } = expectation;
    let (source, port) = (mask.source, mask.source_port());
    format!("{expected} mask {source} {port:?} of {master} ({flags:?}, class {class})")
}

/// What the mask of TCP's flags says is for writers only.
pub(crate) fn comparable(state: ProtocolState) -> ProtocolState {
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
