//! The command form: an entry as the arguments that make it again, as `conntrack -o save` writes
//! them and `conntrack -R` reads them.
//!
//! ```text
//! -A -t 29 -u SEEN_REPLY -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.2 -q 10.0.0.1 -p udp --sport 5000 --dport 53 --reply-port-src 53 --reply-port-dst 5000
//! ```
//!
//! It carries neither mark nor labels, helper or master. A translated address stands as `-g` (the
//! destination) or `-n` (the source) where `-r` or `-q` stood. SCTP's verification tags stand with
//! their bytes in network order, which conntrack turns back when it reads them.
//!
//! [`write_whole`] carries what the plain form leaves out and `conntrack -R` still reads the line;
//! [`parse`] reads both, and commands written by hand.

mod parse;
mod whole;

pub use parse::parse;
pub use whole::write_whole;

use crate::digits::{push_address, push_number};
use crate::{DccpRole, Flow, Layer4, Protocol, ProtocolState, SctpTracking, Status, ZoneDirection};

/// What the command does with the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveCommand {
    /// `-A`.
    #[default]
    Add,
    /// `-U`.
    Update,
    /// `-D`.
    Delete,
}

impl SaveCommand {
    /// The option, `-A`, `-U` or `-D`.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Add => "-A",
            Self::Update => "-U",
            Self::Delete => "-D",
        }
    }
}

impl From<crate::EventKind> for SaveCommand {
    fn from(event: crate::EventKind) -> Self {
        match event {
            crate::EventKind::New => Self::Add,
            crate::EventKind::Update => Self::Update,
            crate::EventKind::Destroy => Self::Delete,
        }
    }
}

/// The bits that `-u` shows.
const STATUS: [(Status, &str); 4] = [
    (Status::EXPECTED, "EXPECTED,"),
    (Status::SEEN_REPLY, "SEEN_REPLY,"),
    (Status::ASSURED, "ASSURED,"),
    (Status::FIXED_TIMEOUT, "FIXED_TIMEOUT,"),
];

/// Appends the command for `flow`, without a line end. Allocates only where `out` must grow.
pub fn write(flow: &Flow, command: SaveCommand, out: &mut Vec<u8>) {
    push(out, command.option());
    timeout_status_and_zone(flow, flow.status, out);
    addresses(flow, out);
    protocol(flow, out);
}

fn timeout_status_and_zone(flow: &Flow, shown: Status, out: &mut Vec<u8>) {
    if let Some(timeout) = flow.timeout {
        number(out, " -t ", timeout);
    }
    status(shown, out);
    if flow.zone.id != 0 {
        let option = match flow.zone.direction {
            ZoneDirection::Both => " -w ",
            ZoneDirection::Original => " --orig-zone ",
            ZoneDirection::Reply => " --reply-zone ",
        };
        number(out, option, flow.zone.id);
    }
}

fn status(status: Status, out: &mut Vec<u8>) {
    push(out, " -u ");
    let start = out.len();
    for (_, name) in STATUS.into_iter().filter(|(bit, _)| status.contains(*bit)) {
        push(out, name);
    }
    if out.len() == start {
        push(out, "UNSET");
    } else {
        out.pop();
    }
}

fn addresses(flow: &Flow, out: &mut Vec<u8>) {
    let (original, reply) = (&flow.original, &flow.reply);
    let is_translated = |done, before, after| flow.status.contains(done) && before != after;
    let destination = is_translated(Status::DST_NAT_DONE, original.destination, reply.source);
    let source = is_translated(Status::SRC_NAT_DONE, original.source, reply.destination);
    for (option, address) in [
        (" -s ", original.source),
        (" -d ", original.destination),
        (if destination { " -g " } else { " -r " }, reply.source),
        (if source { " -n " } else { " -q " }, reply.destination),
    ] {
        push(out, option);
        push_address(out, address);
    }
}

fn protocol(flow: &Flow, out: &mut Vec<u8>) {
    push(out, " -p ");
    match flow.protocol().name() {
        Some(name) => push(out, name),
        None => push_number(out, flow.protocol().0),
    }
    match (flow.original.layer4, flow.reply.layer4) {
        (Layer4::Icmp { kind, code, id }, _) => icmp(flow.protocol(), (kind, code, id), out),
        (Layer4::Ports { source, destination }, reply) => {
            ports(flow.protocol(), (source, destination), reply, out);
        }
        (Layer4::None, _) => {}
    }
    state(&flow.state, out);
}

fn icmp(protocol: Protocol, (kind, code, id): (u8, u8, u16), out: &mut Vec<u8>) {
    let options = match protocol {
        Protocol::ICMPV6 => [" --icmpv6-type ", " --icmpv6-code ", " --icmpv6-id "],
        _ => [" --icmp-type ", " --icmp-code ", " --icmp-id "],
    };
    for (option, value) in options.into_iter().zip([u16::from(kind), u16::from(code), id]) {
        number(out, option, value);
    }
}

fn ports(protocol: Protocol, original: (u16, u16), reply: Layer4, out: &mut Vec<u8>) {
    let options = match protocol {
        Protocol::GRE => [" --srckey ", " --dstkey ", " --reply-key-src ", " --reply-key-dst "],
        _ => [" --sport ", " --dport ", " --reply-port-src ", " --reply-port-dst "],
    };
    number(out, options[0], original.0);
    number(out, options[1], original.1);
    if let Layer4::Ports { source, destination } = reply {
        number(out, options[2], source);
        number(out, options[3], destination);
    }
}

fn state(state: &ProtocolState, out: &mut Vec<u8>) {
    if let Some(name) = state.name() {
        push(out, " --state ");
        push(out, name);
    }
    match *state {
        ProtocolState::Sctp(SctpTracking {
            verification_tags: Some((original, reply)), ..
        }) => {
            number(out, " --orig-vtag ", original.to_be());
            number(out, " --reply-vtag ", reply.to_be());
        }
        ProtocolState::Dccp { role: Some(role), .. } => {
            push(
                out,
                match role {
                    DccpRole::Client => " --role client",
                    DccpRole::Server => " --role server",
                },
            );
        }
        _ => {}
    }
}

#[inline]
fn number(out: &mut Vec<u8>, option: &str, number: impl Into<u64>) {
    push(out, option);
    push_number(out, number);
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}
