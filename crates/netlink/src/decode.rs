//! An entry's attributes read into a [`Flow`].
//!
//! Attributes that are not known are skipped: newer kernels may send more. States that are not known
//! leave the protocol's state empty rather than failing the entry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ctkeeper_flow::{
    Counters, DccpRole, DccpState, Flow, Helper, Labels, Layer4, Mark, Protocol, ProtocolState,
    SctpState, SctpTracking, SequenceAdjustment, Statistic, Statistics, Status, SynProxy, TcpFlags,
    TcpState, TcpTracking, Timestamps, Tuple, Zone, ZoneDirection,
};

use crate::attribute::{
    counters, entry, global, help, ip, proto, protoinfo, security, sequence, synproxy, timestamp,
    tuple,
};
use crate::wire::{Attribute, Attributes, Malformed};

mod layout;

type Result<T> = std::result::Result<T, Malformed>;

/// Reads an entry into `flow`, whose earlier contents are dropped. After an error `flow` holds
/// whatever had been read.
pub(crate) fn flow(attributes: Attributes<'_>, flow: &mut Flow) -> Result<()> {
    // The one box that many entries may carry: every entry that netlink made has it.
    let mut spare = flow.synproxy.take();
    *flow = Flow::default();
    let mut tuples = [false; 2];
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            entry::TUPLE_ORIGINAL => {
                let direction = ZoneDirection::Original;
                tuple_of(&attribute, &mut flow.original, &mut flow.zone, direction)?;
                tuples[0] = true;
            }
            entry::TUPLE_REPLY => {
                let direction = ZoneDirection::Reply;
                tuple_of(&attribute, &mut flow.reply, &mut flow.zone, direction)?;
                tuples[1] = true;
            }
            entry::STATUS => flow.status = Status(attribute.be32()?),
            entry::TIMEOUT => flow.timeout = Some(attribute.be32()?),
            entry::MARK => flow.mark = Some(Mark(attribute.be32()?)),
            entry::ID => flow.id = Some(attribute.be32()?),
            entry::USE => flow.use_count = Some(attribute.be32()?),
            entry::PROTOINFO => flow.state = state(&attribute)?,
            entry::COUNTERS_ORIGINAL => flow.counters_original = Some(counted(&attribute)?),
            entry::COUNTERS_REPLY => flow.counters_reply = Some(counted(&attribute)?),
            entry::TIMESTAMP => flow.timestamps = Some(timestamps(&attribute)?),
            entry::ZONE => flow.zone = Zone::both(attribute.be16()?),
            entry::SYNPROXY => {
                let mut kept = spare.take().unwrap_or_default();
                *kept = proxied(&attribute)?;
                flow.synproxy = Some(kept);
            }
            _ => rare(&attribute, flow)?,
        }
    }
    match tuples {
        [true, true] => Ok(()),
        [false, _] => Err(Malformed::Missing("original tuple")),
        [true, false] => Err(Malformed::Missing("reply tuple")),
    }
}

/// The attributes that few entries carry.
#[cold]
fn rare(attribute: &Attribute<'_>, flow: &mut Flow) -> Result<()> {
    match attribute.kind {
        entry::LABELS => flow.labels = Some(labels(attribute)),
        entry::HELP => flow.helper = helper(attribute)?.map(Box::new),
        entry::SECURITY_CONTEXT => flow.security_context = security_context(attribute)?,
        entry::TUPLE_MASTER => {
            // The master is in the same zone; the kernel names none for it.
            let mut master = Box::<Tuple>::default();
            tuple_of(attribute, &mut master, &mut Zone::default(), ZoneDirection::Both)?;
            flow.master = Some(master);
        }
        entry::SEQUENCE_ORIGINAL => {
            flow.sequence_adjustment.get_or_insert_default().0 = adjustment(attribute)?;
        }
        entry::SEQUENCE_REPLY => {
            flow.sequence_adjustment.get_or_insert_default().1 = adjustment(attribute)?;
        }
        entry::TIMESTAMP_EVENT => flow.event_time = Some(attribute.be64()?),
        _ => {}
    }
    Ok(())
}

/// One CPU's statistics.
pub(crate) fn statistics(attributes: Attributes<'_>) -> Result<Statistics> {
    let mut statistics = Statistics::default();
    for attribute in attributes {
        let attribute = attribute?;
        if let Some(statistic) = Statistic::from_attribute(attribute.kind) {
            statistics.set(statistic, u64::from(attribute.be32()?));
        }
    }
    Ok(statistics)
}

/// Entries and limit of a namespace, each as far as the kernel sends it.
pub(crate) fn global_statistics(attributes: Attributes<'_>) -> Result<(Option<u32>, Option<u32>)> {
    let (mut entries, mut limit) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            global::ENTRIES => entries = Some(attribute.be32()?),
            global::LIMIT => limit = Some(attribute.be32()?),
            _ => {}
        }
    }
    Ok((entries, limit))
}

/// A tuple that stands alone.
pub(crate) fn tuple(container: &Attribute<'_>) -> Result<Tuple> {
    let mut value = Tuple::default();
    tuple_of(container, &mut value, &mut Zone::default(), ZoneDirection::Both)?;
    Ok(value)
}

/// Reads a tuple into `value`. (Returning it would cost a third more: values of this size are
/// copied by loads wider than the stores that made them.)
#[inline]
fn tuple_of(
    container: &Attribute<'_>,
    value: &mut Tuple,
    zone: &mut Zone,
    direction: ZoneDirection,
) -> Result<()> {
    if layout::tuple(container.value, value) {
        return Ok(());
    }
    walk_tuple(container, value, zone, direction)
}

/// A tuple whose parts may stand in any order, and some be missing.
fn walk_tuple(
    container: &Attribute<'_>,
    value: &mut Tuple,
    zone: &mut Zone,
    direction: ZoneDirection,
) -> Result<()> {
    let (mut has_addresses, mut has_protocol) = (false, false);
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            tuple::IP => has_addresses = addresses_of(&attribute, value)?,
            tuple::PROTO => {
                layer4_of(&attribute, value)?;
                has_protocol = true;
            }
            tuple::ZONE => *zone = Zone { id: attribute.be16()?, direction },
            _ => {}
        }
    }
    match (has_addresses, has_protocol) {
        (true, true) => Ok(()),
        (false, _) => Err(Malformed::Missing("addresses of a tuple")),
        (true, false) => Err(Malformed::Missing("protocol of a tuple")),
    }
}

/// Returns whether both addresses are there and of one family: nothing else could be used.
#[inline]
fn addresses_of(container: &Attribute<'_>, value: &mut Tuple) -> Result<bool> {
    let (mut v4_ends, mut v6_ends) = (0, 0);
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            ip::V4_SOURCE => (value.source, v4_ends) = (v4(&attribute)?, v4_ends | 1),
            ip::V4_DESTINATION => (value.destination, v4_ends) = (v4(&attribute)?, v4_ends | 2),
            ip::V6_SOURCE => (value.source, v6_ends) = (v6(&attribute)?, v6_ends | 1),
            ip::V6_DESTINATION => (value.destination, v6_ends) = (v6(&attribute)?, v6_ends | 2),
            _ => {}
        }
    }
    Ok(matches!((v4_ends, v6_ends), (3, 0) | (0, 3)))
}

#[inline]
fn v4(attribute: &Attribute<'_>) -> Result<IpAddr> {
    attribute.bytes::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
}

#[inline]
fn v6(attribute: &Attribute<'_>) -> Result<IpAddr> {
    attribute.bytes::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
}

/// Ports or ICMP fields are there where the kernel sends them: a protocol number alone does not
/// tell, since trackers come and go (DCCP went with Linux 6.16).
#[inline]
fn layer4_of(container: &Attribute<'_>, value: &mut Tuple) -> Result<()> {
    let mut protocol = None;
    let (mut ports, mut icmp) = ((0, 0), (0, 0, 0));
    let (mut has_ports, mut is_icmp) = (false, false);
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            proto::NUMBER => protocol = Some(Protocol(attribute.u8()?)),
            proto::SOURCE_PORT => (ports.0, has_ports) = (attribute.be16()?, true),
            proto::DESTINATION_PORT => (ports.1, has_ports) = (attribute.be16()?, true),
            proto::ICMP_ID | proto::ICMPV6_ID => (icmp.2, is_icmp) = (attribute.be16()?, true),
            proto::ICMP_TYPE | proto::ICMPV6_TYPE => (icmp.0, is_icmp) = (attribute.u8()?, true),
            proto::ICMP_CODE | proto::ICMPV6_CODE => (icmp.1, is_icmp) = (attribute.u8()?, true),
            _ => {}
        }
    }
    value.protocol = protocol.ok_or(Malformed::Missing("protocol of a tuple"))?;
    value.layer4 = match (has_ports, is_icmp) {
        (true, _) => Layer4::Ports { source: ports.0, destination: ports.1 },
        (false, true) => Layer4::Icmp { kind: icmp.0, code: icmp.1, id: icmp.2 },
        (false, false) => Layer4::None,
    };
    Ok(())
}

#[inline]
fn state(container: &Attribute<'_>) -> Result<ProtocolState> {
    match layout::tcp(container.value) {
        Some(tcp) => Ok(ProtocolState::Tcp(tcp)),
        None => walk_state(container),
    }
}

fn walk_state(container: &Attribute<'_>) -> Result<ProtocolState> {
    let mut state = ProtocolState::None;
    for attribute in container.nested() {
        let attribute = attribute?;
        state = match attribute.kind {
            protoinfo::TCP => tcp(&attribute)?,
            protoinfo::SCTP => sctp(&attribute)?,
            protoinfo::DCCP => dccp(&attribute)?,
            _ => state,
        };
    }
    Ok(state)
}

fn tcp(container: &Attribute<'_>) -> Result<ProtocolState> {
    let mut state = None;
    let (mut scale, mut flags) = ((None, None), (None, None));
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            protoinfo::STATE => state = TcpState::from_number(attribute.u8()?),
            protoinfo::TCP_SCALE_ORIGINAL => scale.0 = Some(attribute.u8()?),
            protoinfo::TCP_SCALE_REPLY => scale.1 = Some(attribute.u8()?),
            protoinfo::TCP_FLAGS_ORIGINAL => flags.0 = Some(tcp_flags(&attribute)?),
            protoinfo::TCP_FLAGS_REPLY => flags.1 = Some(tcp_flags(&attribute)?),
            _ => {}
        }
    }
    Ok(state.map_or(ProtocolState::None, |state| {
        ProtocolState::Tcp(TcpTracking {
            state,
            window_scale: scale.0.zip(scale.1),
            flags: flags.0.zip(flags.1),
        })
    }))
}

fn tcp_flags(attribute: &Attribute<'_>) -> Result<TcpFlags> {
    attribute.bytes().map(|[flags, mask]| TcpFlags { flags, mask })
}

fn sctp(container: &Attribute<'_>) -> Result<ProtocolState> {
    let (mut state, mut tags) = (None, (None, None));
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            protoinfo::STATE => state = SctpState::from_number(attribute.u8()?),
            protoinfo::SCTP_TAG_ORIGINAL => tags.0 = Some(attribute.be32()?),
            protoinfo::SCTP_TAG_REPLY => tags.1 = Some(attribute.be32()?),
            _ => {}
        }
    }
    Ok(state.map_or(ProtocolState::None, |state| {
        ProtocolState::Sctp(SctpTracking { state, verification_tags: tags.0.zip(tags.1) })
    }))
}

fn dccp(container: &Attribute<'_>) -> Result<ProtocolState> {
    let (mut state, mut role, mut handshake_sequence) = (None, None, None);
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            protoinfo::STATE => state = DccpState::from_number(attribute.u8()?),
            protoinfo::DCCP_ROLE => role = dccp_role(attribute.u8()?),
            protoinfo::DCCP_HANDSHAKE => handshake_sequence = Some(attribute.be64()?),
            _ => {}
        }
    }
    Ok(state.map_or(ProtocolState::None, |state| ProtocolState::Dccp {
        state,
        role,
        handshake_sequence,
    }))
}

/// `enum ct_dccp_roles`.
fn dccp_role(number: u8) -> Option<DccpRole> {
    match number {
        0 => Some(DccpRole::Client),
        1 => Some(DccpRole::Server),
        _ => None,
    }
}

/// 64-bit counters, or the 32-bit ones of kernels before 2.6.30.
fn counted(container: &Attribute<'_>) -> Result<Counters> {
    let mut counted = Counters::default();
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            counters::PACKETS => counted.packets = attribute.be64()?,
            counters::BYTES => counted.bytes = attribute.be64()?,
            counters::PACKETS_32 => counted.packets = u64::from(attribute.be32()?),
            counters::BYTES_32 => counted.bytes = u64::from(attribute.be32()?),
            _ => {}
        }
    }
    Ok(counted)
}

fn timestamps(container: &Attribute<'_>) -> Result<Timestamps> {
    let mut timestamps = Timestamps::default();
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            timestamp::START => timestamps.start = attribute.be64()?,
            timestamp::STOP => timestamps.stop = attribute.be64()?,
            _ => {}
        }
    }
    Ok(timestamps)
}

/// Kernels with fewer than 128 labels send fewer bytes.
fn labels(attribute: &Attribute<'_>) -> Labels {
    let mut labels = Labels::default();
    for (to, from) in labels.0.iter_mut().zip(attribute.value) {
        *to = *from;
    }
    labels
}

fn helper(container: &Attribute<'_>) -> Result<Option<Helper>> {
    let (mut name, mut info) = (None, Box::default());
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            help::NAME => name = Some(attribute.text().into_boxed_str()),
            help::INFO => info = attribute.value.into(),
            _ => {}
        }
    }
    Ok(name.map(|name| Helper { name, info }))
}

fn security_context(container: &Attribute<'_>) -> Result<Option<Box<str>>> {
    let mut context = None;
    for attribute in container.nested() {
        let attribute = attribute?;
        if attribute.kind == security::NAME {
            context = Some(attribute.text().into_boxed_str());
        }
    }
    Ok(context)
}

fn adjustment(container: &Attribute<'_>) -> Result<SequenceAdjustment> {
    let mut adjustment = SequenceAdjustment::default();
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            sequence::CORRECTION => adjustment.correction = attribute.be32()?,
            sequence::BEFORE => adjustment.before = attribute.be32()?,
            sequence::AFTER => adjustment.after = attribute.be32()?,
            _ => {}
        }
    }
    Ok(adjustment)
}

fn proxied(container: &Attribute<'_>) -> Result<SynProxy> {
    let mut proxied = SynProxy::default();
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            synproxy::INITIAL_SEQUENCE => proxied.initial_sequence = attribute.be32()?,
            synproxy::INITIAL_TIMESTAMP => proxied.initial_timestamp = attribute.be32()?,
            synproxy::TIMESTAMP_OFFSET => proxied.timestamp_offset = attribute.be32()?,
            _ => {}
        }
    }
    Ok(proxied)
}

#[cfg(test)]
mod tests;
