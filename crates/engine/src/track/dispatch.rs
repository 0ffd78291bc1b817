//! Which tracker is a connection's.

use super::{Context, Judgement, generic, gre, icmp, icmpv6, sctp, udp, udplite};
use crate::entry::Entry;
use crate::packet::Datagram;
use crate::tuple::protocol;

/// Judges a packet of any connection but a TCP one, which has a window
/// (`nf_conntrack_handle_packet`, `nf_conntrack_core.c`, Linux 6.12).
#[inline]
pub(crate) fn packet(
    context: &mut Context<'_>,
    entry: &mut Entry,
    datagram: &Datagram<'_>,
) -> Judgement {
    match entry.protocol {
        protocol::UDP => udp::packet(context, entry, datagram),
        protocol::ICMP => icmp::packet(context, entry, datagram),
        protocol::ICMPV6 => icmpv6::packet(context, entry, datagram),
        protocol::SCTP => sctp::packet(context, entry, datagram),
        protocol::GRE => gre::packet(context, entry),
        protocol::UDPLITE => udplite::packet(context, entry, datagram),
        _ => generic::packet(context),
    }
}
