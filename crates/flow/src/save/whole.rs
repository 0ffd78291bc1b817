//! The command form with everything that makes an entry what it is.

use std::net::IpAddr;

use super::{SaveCommand, number, protocol, push, timeout_status_and_zone};
use crate::digits::{push_address, push_number};
use crate::text::free_byte;
use crate::{Flow, Labels, Layer4, Protocol, ProtocolState, Status, Tuple};

/// Appends the command for `flow` with what [`super::write`] leaves out, without a line end.
///
/// The mark stands as `-m`, which `conntrack -A` takes, and a translated port behind its address
/// (`-g 192.0.2.7:8080`): without it, conntrack loses the port. What conntrack has no option for
/// follows as words of their own, which it passes over: `labels=1,7`, `helper=ftp`,
/// `master=6,10.0.0.1,10.0.0.2,4000,21`, `tcp-scale=7,9`, `tcp-flags=35,35`, and `nat=none` where the
/// reply is not the original's inverse and no address is translated. `EXPECTED`, which the kernel
/// refuses, follows from the master. Sequence adjustments, SYNPROXY's
/// state and private data of helpers are left out: the JSON form has them.
pub fn write_whole(flow: &Flow, out: &mut Vec<u8>) {
    push(out, SaveCommand::Add.option());
    // A child is one by its master; the kernel refuses the bit by itself.
    timeout_status_and_zone(flow, flow.status & !Status::EXPECTED, out);
    addresses(flow, out);
    protocol(flow, out);
    if flow.protocol() == Protocol::DCCP && flow.original.layer4 == Layer4::None {
        push(out, UNTRACKED_DCCP);
    }
    if let Some(mark) = flow.mark.filter(|mark| mark.0 != 0) {
        number(out, " -m ", mark.0);
    }
    extras(flow, out);
}

/// What conntrack demands of DCCP, and kernels that do not track it (6.16 and later) pass over.
const UNTRACKED_DCCP: &str =
    " --sport 0 --dport 0 --reply-port-src 0 --reply-port-dst 0 --state NONE --role client";

fn addresses(flow: &Flow, out: &mut Vec<u8>) {
    let (original, reply) = (&flow.original, &flow.reply);
    push(out, " -s ");
    push_address(out, original.source);
    push(out, " -d ");
    push_address(out, original.destination);
    let (destination, source) = (flow.is_destination_translated(), flow.is_source_translated());
    let is_moved = |before: Option<u16>, after: Option<u16>| after.filter(|_| before != after);
    let port = is_moved(original.destination_port(), reply.source_port());
    answerer(out, (" -g ", " -r "), destination, reply.source, port);
    let port = is_moved(original.source_port(), reply.destination_port());
    answerer(out, (" -n ", " -q "), source, reply.destination, port);
}

/// An address of the reply: as what it is translated to, or as what it is.
fn answerer(
    out: &mut Vec<u8>,
    (translated, plain): (&str, &str),
    is_translated: bool,
    address: IpAddr,
    port: Option<u16>,
) {
    push(out, if is_translated { translated } else { plain });
    match (port.filter(|_| is_translated), address) {
        (Some(port), IpAddr::V6(_)) => {
            out.push(b'[');
            push_address(out, address);
            number(out, "]:", port);
        }
        (Some(port), IpAddr::V4(_)) => {
            push_address(out, address);
            number(out, ":", port);
        }
        (None, _) => push_address(out, address),
    }
}

fn extras(flow: &Flow, out: &mut Vec<u8>) {
    if !flow.status.intersects(Status::SRC_NAT | Status::DST_NAT)
        && flow.original.inverted().is_some_and(|inverse| inverse != flow.reply)
    {
        push(out, " nat=none");
    }
    if let Some(labels) = flow.labels.filter(|labels| *labels != Labels::default()) {
        push(out, " labels=");
        list(out, labels.bits());
    }
    if let Some(helper) = &flow.helper {
        push(out, " helper=");
        helper.name.bytes().for_each(|byte| free_byte(out, byte));
    }
    if let Some(master) = &flow.master {
        push(out, " master=");
        self::master(master, out);
    }
    if let ProtocolState::Tcp(tracking) = &flow.state {
        if let Some((original, reply)) = tracking.window_scale {
            push(out, " tcp-scale=");
            list(out, [original, reply]);
        }
        if let Some((original, reply)) = tracking.flags {
            push(out, " tcp-flags=");
            list(out, [original.flags, reply.flags]);
        }
    }
}

fn list(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u8>) {
    for (index, number) in numbers.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_number(out, number);
    }
}

fn master(tuple: &Tuple, out: &mut Vec<u8>) {
    push_number(out, tuple.protocol.0);
    for address in [tuple.source, tuple.destination] {
        out.push(b',');
        push_address(out, address);
    }
    match tuple.layer4 {
        Layer4::None => {}
        Layer4::Ports { source, destination } => {
            number(out, ",", source);
            number(out, ",", destination);
        }
        Layer4::Icmp { kind, code, id } => {
            number(out, ",", kind);
            number(out, ",", code);
            number(out, ",", id);
        }
    }
}
