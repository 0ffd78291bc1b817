//! Which entries a command line means.
//!
//! The rules are those of conntrack 1.4.7 and of libnetfilter_conntrack's comparison. What they leave
//! out: GRE's keys, SCTP's verification tags, DCCP's role and the security mark are taken from the
//! command line and compared with nothing; the address of a translation counts for IPv4 alone.

use std::net::IpAddr;

use ctkeeper_flow::{
    Family, Flow, Labels, Layer4, Mark, Protocol, ProtocolState, Status, Tuple, ZoneDirection,
};
use ctkeeper_netlink::DumpFilter;

use crate::failure::Failure;
use crate::invocation::{
    Command, Invocation, NatTemplate, Options, Table, Template, TupleTemplate,
};

/// The options that make conntrack compare an entry with the template at all. A timeout, say, counts
/// only beside one of them.
const COMPARED: [Options; 12] = [
    Options::PROTOCOL,
    Options::ORIGINAL_SOURCE,
    Options::ORIGINAL_DESTINATION,
    Options::REPLY_SOURCE,
    Options::REPLY_DESTINATION,
    Options::MARK,
    Options::SECURITY_MARK,
    Options::STATUS,
    Options::ID,
    Options::ZONE,
    Options::LABEL,
    ZONES,
];
const ZONES: Options = Options(Options::ORIGINAL_ZONE.0 | Options::REPLY_ZONE.0);

/// Tells which entries an invocation means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matcher<'i> {
    invocation: &'i Invocation,
    is_everything: bool,
    is_compared: bool,
}

impl<'i> Matcher<'i> {
    /// Fails where the options say what no entry can be held against.
    pub(crate) fn new(invocation: &'i Invocation) -> Result<Self, Failure> {
        let options = invocation.options;
        for (mask, address, message) in [
            (Options::MASK_SOURCE, Options::ORIGINAL_SOURCE, "Can't use --mask-src without --src"),
            (
                Options::MASK_DESTINATION,
                Options::ORIGINAL_DESTINATION,
                "Can't use --mask-dst without --dst",
            ),
        ] {
            // The other tables are listed without a filter, 1.4.7 does not look at it.
            let filters = invocation.table == Table::Conntrack;
            if filters && options.contains(mask) && !options.contains(address) {
                return Err(Failure::usage(message));
            }
        }
        let is_everything = invocation.family.is_none()
            && !options.intersects(TRANSLATIONS)
            && invocation.template == Template::default();
        Ok(Self { invocation, is_everything, is_compared: is_compared(options) })
    }

    /// Whether a command that lists, watches or deletes means this entry.
    #[inline]
    pub(crate) fn matches(&self, flow: &Flow) -> bool {
        self.is_everything
            || (self.family(flow)
                && self.translation(flow)
                && self.mark(flow)
                && self.labels(flow)
                && self.networks(flow)
                && (!self.is_compared || self.template(flow)))
    }

    /// Whether `-U` means this entry: what it is to set is no condition.
    pub(crate) fn matches_for_update(&self, flow: &Flow) -> bool {
        let template = &self.invocation.template;
        self.family(flow)
            && self.translation(flow)
            && self.labels(flow)
            && self.networks(flow)
            && template.id.is_none_or(|id| flow.id.is_none_or(|actual| actual == id))
            && self.tuples(flow)
    }

    /// What of this the kernel may check: a dump for each of the filters, together they deliver
    /// every entry that [`Self::matches`], and others, which it sorts out.
    ///
    /// There are two where a protocol is asked for and no family, since a tuple needs a family.
    pub(crate) fn kernel_filters(&self) -> Vec<DumpFilter> {
        let bits = self.kernel_bits();
        let tuple = self.kernel_tuple();
        if self.invocation.family.is_some() || tuple == DumpFilter::ALL {
            return vec![self.kernel_filter()];
        }
        [Family::Ipv4, Family::Ipv6].map(|family| joined(bits, tuple, Some(family))).to_vec()
    }

    /// What of this the kernel may check in one dump, which keeps the table's order.
    pub(crate) fn kernel_filter(&self) -> DumpFilter {
        let bits = self.kernel_bits();
        match self.invocation.family {
            None => bits,
            family => joined(bits, self.kernel_tuple(), family),
        }
    }

    /// Whether entries are compared with the template, which `-z` does not go with.
    pub(crate) const fn is_comparing(&self) -> bool {
        self.is_compared
    }

    /// Whether the kernel would refuse the status that is asked for, as it does when no bit counts.
    pub(crate) fn has_empty_status(&self) -> bool {
        let invocation = self.invocation;
        invocation.command == Command::List
            && invocation.table == Table::Conntrack
            && self.status().is_some_and(|(_, mask)| mask == Status::default())
    }

    fn kernel_bits(&self) -> DumpFilter {
        let Template { mark_in_kernel, zone, zone_original, zone_reply, .. } =
            self.invocation.template;
        // Entries in a zone of one direction count as being in zone 0, the kernel knows their id.
        let zone = zone.or(zone_original).or(zone_reply).filter(|zone| *zone != 0);
        DumpFilter {
            mark: mark_in_kernel.map(|(value, mask)| (Mark(value), mask)),
            status: self.kernel_status(),
            zone,
            ..DumpFilter::ALL
        }
    }

    /// A translated entry has the bit that says so.
    fn kernel_status(&self) -> Option<(Status, Status)> {
        let options = self.invocation.options;
        let (mut value, mut mask) = self.status().unwrap_or_default();
        for (option, bit) in [
            (Options::SOURCE_NAT, Status::SRC_NAT_DONE),
            (Options::DESTINATION_NAT, Status::DST_NAT_DONE),
        ] {
            if options.contains(option) {
                value |= bit;
                mask |= bit;
            }
        }
        (mask != Status::default()).then_some((value, mask))
    }

    /// `-u`: the values of the bits that count, and which these are.
    ///
    /// With `-L` 1.4.7 has the kernel hold the bits wanted against those that must be clear, which no
    /// entry meets. Other commands of it pay no heed to bits that must be clear, and `-D` would
    /// delete what was to be spared: here they count.
    fn status(&self) -> Option<(Status, Status)> {
        let Template { status, status_mask, .. } = self.invocation.template;
        status.map(|value| match self.invocation.command {
            Command::List => (value, status_mask),
            _ => (value, status_mask | value),
        })
    }

    fn kernel_tuple(&self) -> DumpFilter {
        let Invocation { options, template, .. } = self.invocation;
        let exact = |address: Option<IpAddr>, mask| match address {
            Some(IpAddr::V4(address)) if !options.intersects(mask) => Some(address),
            _ => None,
        };
        let Template { original, reply, .. } = template;
        let ports = matches!(template.protocol, Some(Protocol::TCP | Protocol::UDP));
        DumpFilter {
            protocol: template.protocol,
            source: exact(original.source, Options::MASK_SOURCE),
            destination: exact(original.destination, Options::MASK_DESTINATION),
            source_port: original.source_port.filter(|_| ports),
            destination_port: original.destination_port.filter(|_| ports),
            reply_source: exact(reply.source, Options::default()),
            reply_destination: exact(reply.destination, Options::default()),
            ..DumpFilter::ALL
        }
    }

    fn family(&self, flow: &Flow) -> bool {
        self.invocation.family.is_none_or(|family| flow.family() == family)
    }

    fn mark(&self, flow: &Flow) -> bool {
        let Template { mark, mark_in_kernel, .. } = self.invocation.template;
        let is = |wanted: Option<(u32, u32)>| {
            wanted.is_none_or(|(value, mask)| flow.mark.is_some_and(|mark| mark.0 & mask == value))
        };
        let asks_kernel = matches!(self.invocation.command, Command::List | Command::Delete);
        is(mark) && is(mark_in_kernel.filter(|_| asks_kernel))
    }

    fn labels(&self, flow: &Flow) -> bool {
        self.invocation.template.labels.is_none_or(|wanted| {
            let bits = |labels: Labels| u128::from_ne_bytes(labels.0);
            flow.labels.is_some_and(|actual| bits(actual) & bits(wanted) == bits(wanted))
        })
    }

    /// The addresses under masks.
    fn networks(&self, flow: &Flow) -> bool {
        let Invocation { options, template, .. } = self.invocation;
        let Template { original, mask, .. } = template;
        (!options.contains(Options::MASK_SOURCE)
            || within(flow.original.source, original.source, mask.source))
            && (!options.contains(Options::MASK_DESTINATION)
                || within(flow.original.destination, original.destination, mask.destination))
    }

    fn translation(&self, flow: &Flow) -> bool {
        let Invocation { options, template, .. } = self.invocation;
        let any = options.contains(Options::ANY_NAT);
        let source = options.contains(Options::SOURCE_NAT);
        let destination = options.contains(Options::DESTINATION_NAT);
        if !(any || source || destination) {
            return true;
        }
        let has_source = || source_translated(flow, template.source_nat);
        let has_destination = || destination_translated(flow, template.destination_nat);
        if any {
            return has_source() || has_destination();
        }
        (!source || has_source()) && (!destination || has_destination())
    }

    fn template(&self, flow: &Flow) -> bool {
        let template = &self.invocation.template;
        let is = |wanted: Option<u32>, actual: Option<u32>| {
            wanted.is_none_or(|wanted| actual == Some(wanted))
        };
        is(template.id, flow.id)
            && is(template.timeout, flow.timeout)
            && self.status_bits(flow)
            && self.state(flow)
            && self.zones(flow)
            && self.tuples(flow)
    }

    fn status_bits(&self, flow: &Flow) -> bool {
        self.status().is_none_or(|(value, mask)| flow.status & mask == value)
    }

    fn state(&self, flow: &Flow) -> bool {
        self.invocation.template.state.is_none_or(|wanted| state(flow) == Some(wanted))
    }

    /// An entry without a zone is in zone 0, one whose zone counts for one direction too.
    fn zones(&self, flow: &Flow) -> bool {
        let Template { zone, zone_original, zone_reply, .. } = self.invocation.template;
        let is = |wanted: Option<u16>, direction| {
            let actual = if flow.zone.direction == direction { flow.zone.id } else { 0 };
            wanted.is_none_or(|wanted| wanted == actual)
        };
        is(zone, ZoneDirection::Both)
            && is(zone_original, ZoneDirection::Original)
            && is(zone_reply, ZoneDirection::Reply)
    }

    fn tuples(&self, flow: &Flow) -> bool {
        let Invocation { options, template, .. } = self.invocation;
        let Template { protocol, original, reply, .. } = template;
        let is = |wanted: Option<IpAddr>, actual| wanted.is_none_or(|wanted| wanted == actual);
        protocol.is_none_or(|protocol| flow.protocol() == protocol)
            && (options.contains(Options::MASK_SOURCE) || is(original.source, flow.original.source))
            && (options.contains(Options::MASK_DESTINATION)
                || is(original.destination, flow.original.destination))
            && is(reply.source, flow.reply.source)
            && is(reply.destination, flow.reply.destination)
            && layer4(original, &flow.original)
            && layer4(reply, &flow.reply)
    }
}

fn is_compared(options: Options) -> bool {
    COMPARED.into_iter().any(|option| options.intersects(option))
}

const TRANSLATIONS: Options =
    Options(Options::SOURCE_NAT.0 | Options::DESTINATION_NAT.0 | Options::ANY_NAT.0);

/// Both sets of conditions.
fn joined(bits: DumpFilter, tuple: DumpFilter, family: Option<Family>) -> DumpFilter {
    let DumpFilter { mark, status, zone, .. } = bits;
    DumpFilter { family, mark, status, zone, ..tuple }
}

/// Whether an address lies in a network. The parser sees to it that both are of one family.
fn within(actual: IpAddr, network: Option<IpAddr>, mask: Option<IpAddr>) -> bool {
    match (actual, network, mask) {
        (IpAddr::V4(actual), Some(IpAddr::V4(network)), Some(IpAddr::V4(mask))) => {
            actual & mask == network & mask
        }
        (IpAddr::V6(actual), Some(IpAddr::V6(network)), Some(IpAddr::V6(mask))) => {
            actual & mask == network & mask
        }
        _ => false,
    }
}

fn layer4(wanted: &TupleTemplate, actual: &Tuple) -> bool {
    fn is<T: PartialEq + Copy>(wanted: Option<T>, actual: T) -> bool {
        wanted.is_none_or(|wanted| wanted == actual)
    }
    match actual.layer4 {
        Layer4::Ports { .. } if actual.protocol == Protocol::GRE => true,
        Layer4::Ports { source, destination } => {
            is(wanted.source_port, source) && is(wanted.destination_port, destination)
        }
        Layer4::Icmp { kind, code, id } => {
            is(wanted.icmp_type, kind) && is(wanted.icmp_code, code) && is(wanted.icmp_id, id)
        }
        Layer4::None => {
            actual.protocol == Protocol::GRE
                || (wanted.source_port.is_none()
                    && wanted.destination_port.is_none()
                    && wanted.icmp_type.is_none()
                    && wanted.icmp_code.is_none()
                    && wanted.icmp_id.is_none())
        }
    }
}

fn state(flow: &Flow) -> Option<u8> {
    match flow.state {
        ProtocolState::None => None,
        ProtocolState::Tcp(tcp) => Some(tcp.state.number()),
        ProtocolState::Sctp(sctp) => Some(sctp.state.number()),
        ProtocolState::Dccp { state, .. } => Some(state.number()),
    }
}

/// The layer 4 fields of a tuple as the two numbers that a translation could have changed: those of
/// ICMP stand where others have ports, which makes echo entries that could have been translated
/// count as translated.
const fn layer4_numbers(tuple: &Tuple) -> (u16, u16) {
    match tuple.layer4 {
        Layer4::None => (0, 0),
        Layer4::Ports { source, destination } => (source, destination),
        Layer4::Icmp { kind, code, id } => (id, u16::from_be_bytes([kind, code])),
    }
}

fn source_translated(flow: &Flow, wanted: Option<NatTemplate>) -> bool {
    let before = (flow.original.source, layer4_numbers(&flow.original).0);
    let after = (flow.reply.destination, layer4_numbers(&flow.reply).1);
    flow.status.contains(Status::SRC_NAT_DONE) && translated(before, after, wanted)
}

fn destination_translated(flow: &Flow, wanted: Option<NatTemplate>) -> bool {
    let before = (flow.original.destination, layer4_numbers(&flow.original).1);
    let after = (flow.reply.source, layer4_numbers(&flow.reply).0);
    flow.status.contains(Status::DST_NAT_DONE) && translated(before, after, wanted)
}

/// Whether an end was translated, and to what is wanted. Of an IPv6 address only the port counts.
fn translated(before: (IpAddr, u16), after: (IpAddr, u16), wanted: Option<NatTemplate>) -> bool {
    let (address_moved, port_moved) = (before.0 != after.0, before.1 != after.1);
    let address = wanted.map(|wanted| wanted.address).filter(IpAddr::is_ipv4);
    let port = wanted.and_then(|wanted| wanted.port);
    let address_met = address.map(|address| address_moved && address == after.0);
    let port_met = port.map(|port| port_moved && port == after.1);
    match (address_met, port_met) {
        (None, None) => address_moved || port_moved,
        (address_met, port_met) => address_met.unwrap_or(true) && port_met.unwrap_or(true),
    }
}

#[cfg(test)]
mod tests;
