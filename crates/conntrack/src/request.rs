//! A command line's template as the attributes of a request, just as conntrack fills them in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ctkeeper_flow::{
    Direction, Family, Layer4, Mark, Protocol, ProtocolState, TcpFlags, TcpState, Tuple,
};
use ctkeeper_netlink::{EntryRequest, Errno, ExpectationRequest, TrackerRequest, Translation};

use crate::failure::Failure;
use crate::invocation::{Invocation, NatTemplate, Options, Template, TupleTemplate};

/// `IP_CT_TCP_FLAG_SACK_PERM | IP_CT_TCP_FLAG_BE_LIBERAL`: an entry that no packet made knows no
/// windows, so they must not be checked.
const TCP_FLAGS: u8 = 0x02 | 0x08;
/// `IP_CT_TCP_FLAG_CLOSE_INIT`: lets a connection begin anew from `TIME_WAIT`.
const TCP_CLOSING_FLAG: u8 = 0x04;
/// An ICMP type that no message has: the kernel refuses it.
const NO_ICMP_TYPE: u8 = 255;

/// The entry that `-I` and `-A` make.
pub(crate) fn creation(invocation: &Invocation) -> EntryRequest {
    let template = &invocation.template;
    let (original, reply) = directions(invocation);
    let mut request = EntryRequest {
        original: original.unwrap_or_else(|| request_of(invocation, &reply)),
        zone_original: template.zone_original,
        reply: Some(reply),
        zone_reply: template.zone_reply,
        zone: template.zone,
        mark: template.mark.map(|(value, _)| Mark(value)),
        labels: template.labels_changed,
        ..changes(template, template.protocol)
    };
    if original.is_some() && !has_reply(invocation) {
        request.reply = Some(answer(template, &request.original));
    }
    request
}

/// What `-G` asks for. Fails, with conntrack's words, where it has nothing to send: without the
/// original direction, and with ports of a reply direction that has no addresses.
pub(crate) fn lookup(invocation: &Invocation) -> Result<EntryRequest, Failure> {
    let (original, reply) = directions(invocation);
    let Some(original) = original else {
        let Invocation { command, table, .. } = invocation;
        return Err(Failure::errno(Errno(libc::EINVAL), command, *table));
    };
    let has_reply = has_reply(invocation);
    if !has_reply && has_ports(&invocation.template.reply) {
        return Err(Failure::Operation("Success".to_owned()));
    }
    let reply = has_reply.then_some(reply);
    Ok(EntryRequest { original, reply, ..EntryRequest::default() })
}

/// The attributes that `-U` brings to an entry of a protocol, less those that depend on the entry.
pub(crate) fn changes(template: &Template, protocol: Option<Protocol>) -> EntryRequest {
    EntryRequest {
        timeout: template.timeout,
        status: template.status,
        tracker: protocol.and_then(|protocol| tracker(template, protocol)),
        source_translation: template.source_nat.map(|nat| translation(nat, protocol)),
        destination_translation: template.destination_nat.map(|nat| translation(nat, protocol)),
        ..EntryRequest::default()
    }
}

/// The expectation that `-I expect` makes.
pub(crate) fn expectation(invocation: &Invocation) -> ExpectationRequest {
    let template = &invocation.template;
    let part = |part: &TupleTemplate| {
        // Only ports name the protocol of what is expected.
        let protocol = template.protocol.filter(|_| has_ports(part)).unwrap_or(Protocol(0));
        tuple(part, protocol, family(invocation))
    };
    ExpectationRequest {
        master: Some(named(invocation)),
        expected: Some(part(&template.expected)),
        mask: Some(part(&template.mask)),
        timeout: template.timeout,
        ..ExpectationRequest::default()
    }
}

/// What `-D expect` names: the expectation.
pub(crate) fn expectation_deletion(invocation: &Invocation) -> ExpectationRequest {
    ExpectationRequest { expected: Some(named(invocation)), ..ExpectationRequest::default() }
}

/// What `-G expect` names: not the expectation but, as conntrack sends it, a master. The kernel
/// looks for an expectation of that tuple all the same.
pub(crate) fn expectation_lookup(invocation: &Invocation) -> ExpectationRequest {
    ExpectationRequest { master: Some(named(invocation)), ..ExpectationRequest::default() }
}

/// Both tuples as far as they are named: the original if it is, and whatever is of the reply.
fn directions(invocation: &Invocation) -> (Option<Tuple>, Tuple) {
    let template = &invocation.template;
    let has_original = invocation
        .options
        .intersects(either(Options::ORIGINAL_SOURCE, Options::ORIGINAL_DESTINATION));
    let mut reply = tuple(&template.reply, reply_protocol(invocation), family(invocation));
    if matches!(reply.protocol, Protocol::ICMP | Protocol::ICMPV6) {
        // Type, code and id are those of the request; without an original direction conntrack
        // cannot tell the family, and so not the type of the answer.
        reply.layer4 = answer_layer4(template, has_original.then(|| family(invocation)));
    }
    (has_original.then(|| named(invocation)), reply)
}

/// Only the protocol's own options (or, for protocols without any, the addresses) say which
/// protocol the reply direction has.
fn reply_protocol(invocation: &Invocation) -> Protocol {
    let template = &invocation.template;
    let protocol = template.protocol.unwrap_or(Protocol(0));
    let is_named = match kind(protocol) {
        Kind::Ports => has_ports(&template.reply),
        Kind::Icmp => has_reply(invocation) && has_icmp(&template.original),
        Kind::Plain => has_reply(invocation),
    };
    if is_named { protocol } else { Protocol(0) }
}

fn has_reply(invocation: &Invocation) -> bool {
    invocation.options.intersects(either(Options::REPLY_SOURCE, Options::REPLY_DESTINATION))
}

/// The original direction of an entry of which only the reply is named.
fn request_of(invocation: &Invocation, reply: &Tuple) -> Tuple {
    let mut original = swapped(reply);
    if matches!(original.layer4, Layer4::Icmp { .. }) {
        original.layer4 = named(invocation).layer4;
    }
    original
}

/// The reply direction of an entry of which only the original is named.
fn answer(template: &Template, original: &Tuple) -> Tuple {
    let mut reply = swapped(original);
    if matches!(reply.layer4, Layer4::Icmp { .. }) {
        reply.layer4 = answer_layer4(template, Some(original.family()));
    }
    reply
}

const fn swapped(tuple: &Tuple) -> Tuple {
    let layer4 = match tuple.layer4 {
        Layer4::Ports { source, destination } => {
            Layer4::Ports { source: destination, destination: source }
        }
        other => other,
    };
    Tuple { source: tuple.destination, destination: tuple.source, protocol: tuple.protocol, layer4 }
}

fn answer_layer4(template: &Template, family: Option<Family>) -> Layer4 {
    let request = &template.original;
    let asked = request.icmp_type.unwrap_or(0);
    let kind = family.and_then(|family| answer_type(family, asked)).unwrap_or(NO_ICMP_TYPE);
    Layer4::Icmp { kind, code: request.icmp_code.unwrap_or(0), id: request.icmp_id.unwrap_or(0) }
}

/// The family, not the protocol, says whose types they are.
fn answer_type(family: Family, kind: u8) -> Option<u8> {
    let protocol = match family {
        Family::Ipv4 => Protocol::ICMP,
        Family::Ipv6 => Protocol::ICMPV6,
    };
    let layer4 = Layer4::Icmp { kind, code: 0, id: 0 };
    match (Tuple { protocol, layer4, ..Tuple::default() }).inverted()?.layer4 {
        Layer4::Icmp { kind, .. } => Some(kind),
        _ => None,
    }
}

/// The tuple of the original direction's options.
fn named(invocation: &Invocation) -> Tuple {
    let template = &invocation.template;
    let protocol = template.protocol.unwrap_or(Protocol(0));
    tuple(template.tuple(Direction::Original), protocol, family(invocation))
}

fn family(invocation: &Invocation) -> Family {
    invocation.family.unwrap_or(Family::Ipv4)
}

/// What is not named is zero.
fn tuple(template: &TupleTemplate, protocol: Protocol, family: Family) -> Tuple {
    let any: IpAddr = match family {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let layer4 = match kind(protocol) {
        Kind::Ports => Layer4::Ports {
            source: template.source_port.unwrap_or(0),
            destination: template.destination_port.unwrap_or(0),
        },
        Kind::Icmp => Layer4::Icmp {
            kind: template.icmp_type.unwrap_or(0),
            code: template.icmp_code.unwrap_or(0),
            id: template.icmp_id.unwrap_or(0),
        },
        Kind::Plain => Layer4::None,
    };
    Tuple {
        source: template.source.unwrap_or(any),
        destination: template.destination.unwrap_or(any),
        protocol,
        layer4,
    }
}

/// What a protocol's tuples have beside addresses.
enum Kind {
    Ports,
    Icmp,
    Plain,
}

const fn kind(protocol: Protocol) -> Kind {
    match protocol {
        Protocol::TCP
        | Protocol::UDP
        | Protocol::UDPLITE
        | Protocol::SCTP
        | Protocol::DCCP
        | Protocol::GRE => Kind::Ports,
        Protocol::ICMP | Protocol::ICMPV6 => Kind::Icmp,
        _ => Kind::Plain,
    }
}

const fn has_ports(template: &TupleTemplate) -> bool {
    template.source_port.is_some() || template.destination_port.is_some()
}

const fn has_icmp(template: &TupleTemplate) -> bool {
    template.icmp_type.is_some() || template.icmp_code.is_some() || template.icmp_id.is_some()
}

const fn either(one: Options, other: Options) -> Options {
    Options(one.0 | other.0)
}

/// What the template says to a protocol's tracker. Of TCP there is always something to say.
fn tracker(template: &Template, protocol: Protocol) -> Option<TrackerRequest> {
    let state = template.state;
    let of = |owner: Protocol| template.protocol == Some(owner) && protocol == owner;
    if of(Protocol::TCP) {
        let is_over = state >= Some(TcpState::TimeWait.number());
        let flags = if is_over { TCP_FLAGS | TCP_CLOSING_FLAG } else { TCP_FLAGS };
        let flags = TcpFlags { flags, mask: flags };
        return Some(TrackerRequest::Tcp { state, flags: Some((flags, flags)) });
    }
    if of(Protocol::SCTP) {
        let (original, reply) = template.verification_tags;
        let said = state.is_some() || original.is_some() || reply.is_some();
        // conntrack swaps the bytes of a tag once more than there is need to.
        let verification_tags = (original.map(u32::to_be), reply.map(u32::to_be));
        return said.then_some(TrackerRequest::Sctp { state, verification_tags });
    }
    let role = template.dccp_role;
    let said = of(Protocol::DCCP) && (state.is_some() || role.is_some());
    said.then_some(TrackerRequest::Dccp { state, role })
}

/// Ports are sent for TCP and UDP alone.
fn translation(nat: NatTemplate, protocol: Option<Protocol>) -> Translation {
    let with_ports = matches!(protocol, Some(Protocol::TCP | Protocol::UDP));
    Translation { address: Some(nat.address), port: nat.port.filter(|_| with_ports) }
}

/// The kernel's number of the state that a tracker is in.
pub(crate) const fn state_number(state: &ProtocolState) -> Option<u8> {
    match state {
        ProtocolState::None => None,
        ProtocolState::Tcp(tracking) => Some(tracking.state.number()),
        ProtocolState::Sctp(tracking) => Some(tracking.state.number()),
        ProtocolState::Dccp { state, .. } => Some(state.number()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn invocation(line: &str) -> Invocation {
        let arguments: Vec<_> =
            std::iter::once("conntrack").chain(line.split(' ')).map(OsString::from).collect();
        crate::parse(&arguments).unwrap()
    }

    fn created(line: &str) -> (String, String) {
        let request = creation(&invocation(line));
        (request.original.to_string(), request.reply.unwrap().to_string())
    }

    #[test]
    fn the_direction_that_is_not_named_is_the_other_one_turned_round() {
        let original = "-I -t 1 -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2";
        let reply = "-I -t 1 -p udp -r 2.2.2.2 -q 1.1.1.1 --reply-port-src 2 --reply-port-dst 1";
        let both = ("1.1.1.1:1 → 2.2.2.2:2 (udp)", "2.2.2.2:2 → 1.1.1.1:1 (udp)");
        for line in [original, reply] {
            let (original, reply) = created(line);
            assert_eq!((&*original, &*reply), both, "{line}");
        }
        let (_, reply) =
            created("-I -t 1 -p icmp -s 1.1.1.1 -d 2.2.2.2 --icmp-type 13 --icmp-code 0");
        assert_eq!(reply, "2.2.2.2 → 1.1.1.1 type 14 code 0 id 0 (icmp)");
    }

    /// As `conntrack` sends it, seen with `strace`: the kernel refuses it.
    #[test]
    fn a_reply_whose_ports_are_not_named_has_no_protocol() {
        let line = "-I -t 1 -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2 -r 2.2.2.2 -q 1.1.1.1";
        assert_eq!(created(line).1, "2.2.2.2 → 1.1.1.1 (0)");
        let line = "-I -t 1 -p icmp -r 1.1.1.1 -q 2.2.2.2 --icmp-type 8 --icmp-code 0";
        let (original, reply) = created(line);
        assert_eq!(original, "2.2.2.2 → 1.1.1.1 type 8 code 0 id 0 (icmp)");
        assert_eq!(reply, "1.1.1.1 → 2.2.2.2 type 255 code 0 id 0 (icmp)");
    }

    #[test]
    fn tcp_is_never_held_to_its_windows() {
        let tracker = |state: &str| {
            let line = "-I -t 1 -p tcp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2 --state ";
            creation(&invocation(&format!("{line}{state}"))).tracker
        };
        let expected = |state, flags| {
            let flags = TcpFlags { flags, mask: flags };
            Some(TrackerRequest::Tcp { state: Some(state), flags: Some((flags, flags)) })
        };
        assert_eq!(tracker("ESTABLISHED"), expected(3, 10));
        assert_eq!(tracker("TIME_WAIT"), expected(7, 14));
    }

    #[test]
    fn an_expectation_is_of_the_masters_protocol() {
        let line = "-I expect -t 1 -p tcp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 21 \
                    --tuple-src 1.1.1.1 --tuple-dst 2.2.2.2 --tuple-port-src 0 \
                    --tuple-port-dst 4555 --mask-src 255.255.255.255 --mask-dst 255.255.255.255 \
                    --mask-port-src 0 --mask-port-dst 65535";
        let request = expectation(&invocation(line));
        assert_eq!(request.expected.unwrap().to_string(), "1.1.1.1:0 → 2.2.2.2:4555 (tcp)");
        assert_eq!(request.master.unwrap().to_string(), "1.1.1.1:1 → 2.2.2.2:21 (tcp)");
    }
}
