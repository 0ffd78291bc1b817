//! The terms: what they hold, and whether an entry has it.

use std::net::IpAddr;

use super::ranges::Ranges;
use crate::{Counters, Direction, Family, Flow, Layer4, Protocol, ProtocolState, Status};

/// One property of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    Address(AddressField, Box<[Network]>),
    Number(NumberField, Ranges),
    /// One of some values under a mask.
    Mark(Box<[MaskedMark]>),
    Protocol(ProtocolSet),
    Family(Family),
    State(StateSet),
    /// On its way out, by its tracker's state.
    Closing,
    /// Any of these bits.
    Status(Status),
    Helper(Box<[Box<str>]>),
    /// Any of these labels, by bit.
    Label(u128),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressField {
    OriginalSource,
    OriginalDestination,
    ReplySource,
    ReplyDestination,
    /// Any of the four.
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberField {
    OriginalSourcePort,
    OriginalDestinationPort,
    ReplySourcePort,
    ReplyDestinationPort,
    /// Any of the four.
    Port,
    Zone,
    OriginalZone,
    ReplyZone,
    Timeout,
    Age,
    Bytes,
    OriginalBytes,
    ReplyBytes,
    Packets,
    OriginalPackets,
    ReplyPackets,
    UseCount,
    Id,
    IcmpType,
    IcmpCode,
    IcmpId,
}

/// How numbers of a field are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    None,
    Seconds,
    Bytes,
    Packets,
}

impl NumberField {
    /// The highest number that the field can hold.
    pub(super) const fn maximum(self) -> u64 {
        match self {
            Self::IcmpType | Self::IcmpCode => u8::MAX as u64,
            Self::OriginalSourcePort
            | Self::OriginalDestinationPort
            | Self::ReplySourcePort
            | Self::ReplyDestinationPort
            | Self::Port
            | Self::Zone
            | Self::OriginalZone
            | Self::ReplyZone
            | Self::IcmpId => u16::MAX as u64,
            Self::Timeout | Self::UseCount | Self::Id => u32::MAX as u64,
            _ => u64::MAX,
        }
    }

    pub(super) const fn unit(self) -> Unit {
        match self {
            Self::Timeout | Self::Age => Unit::Seconds,
            Self::Bytes | Self::OriginalBytes | Self::ReplyBytes => Unit::Bytes,
            Self::Packets | Self::OriginalPackets | Self::ReplyPackets => Unit::Packets,
            _ => Unit::None,
        }
    }

    fn matches(self, ranges: &Ranges, flow: &Flow, now: u64) -> bool {
        if self == Self::Port {
            let (original, reply) = (&flow.original, &flow.reply);
            let ports = [
                original.destination_port(),
                original.source_port(),
                reply.source_port(),
                reply.destination_port(),
            ];
            return ports.into_iter().flatten().any(|port| ranges.contains(port.into()));
        }
        self.value(flow, now).is_some_and(|value| ranges.contains(value))
    }

    /// The field's number, absent where the entry has none.
    fn value(self, flow: &Flow, now: u64) -> Option<u64> {
        let packets = |counters: Option<Counters>| counters.map(|counters| counters.packets);
        let bytes = |counters: Option<Counters>| counters.map(|counters| counters.bytes);
        match self {
            Self::OriginalSourcePort => flow.original.source_port().map(u64::from),
            Self::OriginalDestinationPort | Self::Port => {
                flow.original.destination_port().map(u64::from)
            }
            Self::ReplySourcePort => flow.reply.source_port().map(u64::from),
            Self::ReplyDestinationPort => flow.reply.destination_port().map(u64::from),
            Self::Zone => Some(flow.zone.id.into()),
            Self::OriginalZone => Some(flow.zone.id_in(Direction::Original).into()),
            Self::ReplyZone => Some(flow.zone.id_in(Direction::Reply).into()),
            Self::Timeout => flow.timeout.map(u64::from),
            Self::Age => age(flow, now),
            Self::Bytes => flow.bytes(),
            Self::OriginalBytes => bytes(flow.counters_original),
            Self::ReplyBytes => bytes(flow.counters_reply),
            Self::Packets => flow.packets(),
            Self::OriginalPackets => packets(flow.counters_original),
            Self::ReplyPackets => packets(flow.counters_reply),
            Self::UseCount => flow.use_count.map(u64::from),
            Self::Id => flow.id.map(u64::from),
            Self::IcmpType => icmp(flow).map(|(kind, _, _)| kind.into()),
            Self::IcmpCode => icmp(flow).map(|(_, code, _)| code.into()),
            Self::IcmpId => icmp(flow).map(|(_, _, id)| id.into()),
        }
    }
}

/// An address with the number of leading bits that count; the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
}

impl Network {
    /// The network that an address lies in, or `None` if the prefix is too long for its family.
    pub(super) fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                IpAddr::V4((v4.to_bits() & mask(prefix, 32) as u32).into())
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                IpAddr::V6((v6.to_bits() & mask(prefix, 128)).into())
            }
            _ => return None,
        };
        Some(Self { address, prefix })
    }

    pub(super) const fn is_single(self) -> bool {
        self.prefix == if self.address.is_ipv4() { 32 } else { 128 }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                address.to_bits() & mask(self.prefix, 32) as u32 == network.to_bits()
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                address.to_bits() & mask(self.prefix, 128) == network.to_bits()
            }
            _ => false,
        }
    }
}

/// The mask of the leading `prefix` of `width` bits.
const fn mask(prefix: u8, width: u8) -> u128 {
    if prefix == 0 { 0 } else { u128::MAX >> (128 - width) << (width - prefix) }
}

/// `mark & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MaskedMark {
    pub(super) value: u32,
    pub(super) mask: u32,
}

/// Layer 4 protocols, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProtocolSet([u64; 4]);

impl ProtocolSet {
    pub(super) fn insert(&mut self, protocol: Protocol) {
        self.0[usize::from(protocol.0 / 64)] |= 1 << (protocol.0 % 64);
    }

    fn contains(self, protocol: Protocol) -> bool {
        self.0[usize::from(protocol.0 / 64)] >> (protocol.0 % 64) & 1 == 1
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Protocol> {
        (0..=u8::MAX).map(Protocol).filter(move |protocol| self.contains(*protocol))
    }
}

/// Trackers' states, a bit each by the kernel's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StateSet {
    pub(super) tcp: u16,
    pub(super) sctp: u16,
    pub(super) dccp: u16,
}

impl StateSet {
    fn contains(self, state: &ProtocolState) -> bool {
        let (set, number) = match state {
            ProtocolState::None => return false,
            ProtocolState::Tcp(tcp) => (self.tcp, tcp.state.number()),
            ProtocolState::Sctp(sctp) => (self.sctp, sctp.state.number()),
            ProtocolState::Dccp { state, .. } => (self.dccp, state.number()),
        };
        set >> number & 1 == 1
    }
}

impl Term {
    pub(super) fn matches(&self, flow: &Flow, now: u64) -> bool {
        match self {
            Self::Address(field, networks) => field.matches(networks, flow),
            Self::Number(field, ranges) => field.matches(ranges, flow, now),
            Self::Mark(marks) => {
                // An entry that shows no mark has none: the kernel leaves zeros out of events.
                let mark = flow.mark.map_or(0, |mark| mark.0);
                marks.iter().any(|wanted| mark & wanted.mask == wanted.value)
            }
            Self::Protocol(protocols) => protocols.contains(flow.protocol()),
            Self::Family(family) => flow.family() == *family,
            Self::State(states) => states.contains(&flow.state),
            Self::Closing => flow.state.is_closing(),
            Self::Status(bits) => flow.status.intersects(*bits),
            Self::Helper(names) => {
                flow.helper.as_ref().is_some_and(|helper| names.contains(&helper.name))
            }
            Self::Label(bits) => flow.labels.is_some_and(|labels| labels.to_bits() & bits != 0),
        }
    }

    pub(super) fn needs_clock(&self) -> bool {
        matches!(self, Self::Number(NumberField::Age, _))
    }

    pub(super) fn needs_accounting(&self) -> bool {
        let Self::Number(field, _) = self else { return false };
        matches!(field.unit(), Unit::Bytes | Unit::Packets)
    }
}

impl AddressField {
    fn matches(self, networks: &[Network], flow: &Flow) -> bool {
        let within = |address| networks.iter().any(|network| network.contains(address));
        match self {
            Self::OriginalSource => within(flow.original.source),
            Self::OriginalDestination => within(flow.original.destination),
            Self::ReplySource => within(flow.reply.source),
            Self::ReplyDestination => within(flow.reply.destination),
            Self::Host => {
                within(flow.original.source)
                    || within(flow.original.destination)
                    || within(flow.reply.source)
                    || within(flow.reply.destination)
            }
        }
    }
}

/// Whole seconds since the entry was made (until it ended).
fn age(flow: &Flow, now: u64) -> Option<u64> {
    let stamps = flow.timestamps?;
    let end = if stamps.stop == 0 { now } else { stamps.stop };
    Some(end.saturating_sub(stamps.start) / 1_000_000_000)
}

fn icmp(flow: &Flow) -> Option<(u8, u8, u16)> {
    match flow.original.layer4 {
        Layer4::Icmp { kind, code, id } => Some((kind, code, id)),
        _ => None,
    }
}
