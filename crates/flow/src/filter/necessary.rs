//! What must hold for every match, in plain values.

use std::net::IpAddr;

use super::Node;
use super::term::{AddressField, MaskedMark, Network, NumberField, ProtocolSet, Term};
use crate::{Family, Flow, Layer4, Protocol, Status, Tuple};

/// Conditions that every entry a filter matches fulfils; absent ones are not known to hold. An
/// entry that fulfils them all need not match: the filter decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Necessary {
    /// The family.
    pub family: Option<Family>,
    /// The layer 4 protocol.
    pub protocol: Option<Protocol>,
    /// The original tuple.
    pub original: NecessaryTuple,
    /// The reply tuple.
    pub reply: NecessaryTuple,
    /// Bits of the mark: value and mask, `mark & mask == value`.
    pub mark: Option<(u32, u32)>,
    /// Status bits that are set.
    pub status_set: Status,
    /// Status bits that are clear.
    pub status_clear: Status,
    /// The zone's id, be it for one direction or both.
    pub zone: Option<u16>,
}

/// Conditions on one tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NecessaryTuple {
    /// Source address.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Source port or GRE key.
    pub source_port: Option<u16>,
    /// Destination port or GRE key.
    pub destination_port: Option<u16>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
    /// ICMP id.
    pub icmp_id: Option<u16>,
}

impl Necessary {
    /// Whether nothing is known: every entry fulfils it.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an entry fulfils all conditions.
    pub fn allows(&self, flow: &Flow) -> bool {
        let mark = flow.mark.map_or(0, |mark| mark.0);
        holds(self.family, flow.family())
            && holds(self.protocol, flow.protocol())
            && holds(self.zone, flow.zone.id)
            && self.mark.is_none_or(|(value, mask)| mark & mask == value)
            && flow.status.contains(self.status_set)
            && !flow.status.intersects(self.status_clear)
            && self.original.allows(&flow.original)
            && self.reply.allows(&flow.reply)
    }

    /// The conditions of both: for an `and`. Where they contradict each other nothing matches, and
    /// either one is true of it.
    fn and(self, other: Self) -> Self {
        Self {
            family: self.family.or(other.family),
            protocol: self.protocol.or(other.protocol),
            original: self.original.and(other.original),
            reply: self.reply.and(other.reply),
            mark: match (self.mark, other.mark) {
                (Some((a, a_mask)), Some((b, b_mask))) => {
                    Some((a | (b & !a_mask), a_mask | b_mask))
                }
                (one, other) => one.or(other),
            },
            status_set: self.status_set | other.status_set,
            status_clear: self.status_clear | other.status_clear,
            zone: self.zone.or(other.zone),
        }
    }

    /// The conditions that hold in both: for an `or`.
    fn or(self, other: Self) -> Self {
        Self {
            family: common(self.family, other.family),
            protocol: common(self.protocol, other.protocol),
            original: self.original.or(other.original),
            reply: self.reply.or(other.reply),
            mark: match (self.mark, other.mark) {
                (Some((a, a_mask)), Some((b, b_mask))) => {
                    let mask = a_mask & b_mask & !(a ^ b);
                    (mask != 0).then_some((a & mask, mask))
                }
                _ => None,
            },
            status_set: self.status_set & other.status_set,
            status_clear: self.status_clear & other.status_clear,
            zone: common(self.zone, other.zone),
        }
    }
}

impl NecessaryTuple {
    fn allows(&self, tuple: &Tuple) -> bool {
        let icmp = match tuple.layer4 {
            Layer4::Icmp { kind, code, id } => Some((kind, code, id)),
            _ => None,
        };
        holds(self.source, tuple.source)
            && holds(self.destination, tuple.destination)
            && self.source_port.is_none_or(|port| tuple.source_port() == Some(port))
            && self.destination_port.is_none_or(|port| tuple.destination_port() == Some(port))
            && self.icmp_type.is_none_or(|wanted| icmp.is_some_and(|(kind, _, _)| kind == wanted))
            && self.icmp_code.is_none_or(|wanted| icmp.is_some_and(|(_, code, _)| code == wanted))
            && self.icmp_id.is_none_or(|wanted| icmp.is_some_and(|(_, _, id)| id == wanted))
    }

    fn and(self, other: Self) -> Self {
        Self {
            source: self.source.or(other.source),
            destination: self.destination.or(other.destination),
            source_port: self.source_port.or(other.source_port),
            destination_port: self.destination_port.or(other.destination_port),
            icmp_type: self.icmp_type.or(other.icmp_type),
            icmp_code: self.icmp_code.or(other.icmp_code),
            icmp_id: self.icmp_id.or(other.icmp_id),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            source: common(self.source, other.source),
            destination: common(self.destination, other.destination),
            source_port: common(self.source_port, other.source_port),
            destination_port: common(self.destination_port, other.destination_port),
            icmp_type: common(self.icmp_type, other.icmp_type),
            icmp_code: common(self.icmp_code, other.icmp_code),
            icmp_id: common(self.icmp_id, other.icmp_id),
        }
    }
}

pub(super) fn of(node: &Node) -> Necessary {
    conditions(node, false)
}

/// The conditions of a node or of its negation.
fn conditions(node: &Node, negated: bool) -> Necessary {
    match (node, negated) {
        (Node::Not(node), _) => conditions(node, !negated),
        (Node::Term(term), false) => of_term(term),
        (Node::Term(term), true) => of_negated_term(term),
        (Node::All(nodes), false) | (Node::Any(nodes), true) => nodes
            .iter()
            .map(|node| conditions(node, negated))
            .fold(Necessary::default(), Necessary::and),
        (Node::Any(nodes), false) | (Node::All(nodes), true) => nodes
            .iter()
            .map(|node| conditions(node, negated))
            .reduce(Necessary::or)
            .unwrap_or_default(),
    }
}

fn of_term(term: &Term) -> Necessary {
    let nothing = Necessary::default();
    match term {
        Term::Address(field, networks) => networks
            .iter()
            .map(|network| of_network(*field, *network))
            .reduce(Necessary::or)
            .unwrap_or_default(),
        Term::Number(field, ranges) => {
            ranges.single().map_or(nothing, |number| of_number(*field, number))
        }
        Term::Mark(marks) => marks
            .iter()
            .map(|MaskedMark { value, mask }| Necessary {
                mark: (*mask != 0).then_some((*value, *mask)),
                ..nothing
            })
            .reduce(Necessary::or)
            .unwrap_or_default(),
        Term::Protocol(protocols) => Necessary { protocol: only(*protocols), ..nothing },
        Term::Family(family) => Necessary { family: Some(*family), ..nothing },
        Term::Status(bits) if bits.0.is_power_of_two() => {
            Necessary { status_set: *bits, ..nothing }
        }
        _ => nothing,
    }
}

fn of_negated_term(term: &Term) -> Necessary {
    let nothing = Necessary::default();
    match term {
        Term::Family(Family::Ipv4) => Necessary { family: Some(Family::Ipv6), ..nothing },
        Term::Family(Family::Ipv6) => Necessary { family: Some(Family::Ipv4), ..nothing },
        Term::Status(bits) => Necessary { status_clear: *bits, ..nothing },
        _ => nothing,
    }
}

fn of_network(field: AddressField, network: Network) -> Necessary {
    let family = if network.address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let mut necessary = Necessary { family: Some(family), ..Necessary::default() };
    if network.is_single() {
        let address = Some(network.address);
        match field {
            AddressField::OriginalSource => necessary.original.source = address,
            AddressField::OriginalDestination => necessary.original.destination = address,
            AddressField::ReplySource => necessary.reply.source = address,
            AddressField::ReplyDestination => necessary.reply.destination = address,
            AddressField::Host => {}
        }
    }
    necessary
}

fn of_number(field: NumberField, number: u64) -> Necessary {
    let mut necessary = Necessary::default();
    let port = u16::try_from(number).ok();
    match field {
        NumberField::OriginalSourcePort => necessary.original.source_port = port,
        NumberField::OriginalDestinationPort => necessary.original.destination_port = port,
        NumberField::ReplySourcePort => necessary.reply.source_port = port,
        NumberField::ReplyDestinationPort => necessary.reply.destination_port = port,
        NumberField::Zone => necessary.zone = port,
        NumberField::IcmpType => necessary.original.icmp_type = u8::try_from(number).ok(),
        NumberField::IcmpCode => necessary.original.icmp_code = u8::try_from(number).ok(),
        NumberField::IcmpId => necessary.original.icmp_id = port,
        _ => {}
    }
    necessary
}

fn only(protocols: ProtocolSet) -> Option<Protocol> {
    let mut members = protocols.iter();
    members.next().filter(|_| members.next().is_none())
}

fn holds<T: Copy + PartialEq>(condition: Option<T>, value: T) -> bool {
    condition.is_none_or(|wanted| wanted == value)
}

fn common<T: Copy + PartialEq>(one: Option<T>, other: Option<T>) -> Option<T> {
    if one == other { one } else { None }
}
