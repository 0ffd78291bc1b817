//! Ports that the kernel has drawn at random.
//!
//! What it drew is told to the engine, which must then come to the same port by its own search: in
//! the right range, free, and only where a port has to change at all.

use ctkeeper_flow::Protocol;

use crate::ground::{PORTS, SERVER_PORTS};
use crate::transcript::Sent;
use crate::wire;

/// How far into its range the search for a port, or an ICMP id, has gone; `None` where none has
/// changed (`nf_nat_l4proto_unique_tuple`, `net/netfilter/nf_nat_core.c`, Linux 6.12).
pub(crate) fn offset(sent: &Sent) -> Option<u16> {
    let before = wire::read(&sent.datagram)?;
    let after = wire::read(&sent.out.first()?.bytes)?;
    if before.protocol != after.protocol {
        return None;
    }
    let (from, to) = (before.ends.source.port, after.ends.source.port);
    if from == to {
        // Linux 6.1 draws for destinations too.
        let to = after.ends.destination.port;
        let (first, last) = SERVER_PORTS;
        return (first..=last).contains(&to).then(|| to - first);
    }
    let (first, last) = PORTS;
    let is_asked_for = (first..=last).contains(&to) && !(first..=last).contains(&from);
    let lowest = match before.protocol {
        Protocol::ICMP | Protocol::ICMPV6 => 0,
        _ if is_asked_for => first,
        _ => match from {
            0..=511 => 1,
            512..=1023 => 600,
            1024.. => 1024,
        },
    };
    to.checked_sub(lowest)
}
