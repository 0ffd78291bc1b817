//! Which tracker is a connection's, and what else depends on its protocol.

use ctkeeper_flow::{SctpState, TcpState};

use super::{Context, Judgement, generic, gre, icmp, icmpv6, sctp, udp, udplite};
use crate::entry::Entry;
use crate::packet::Datagram;
use crate::settings::Profile;
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

/// Whether two connections with the same tuple may both go on, as their protocol has no
/// handshake (`allow_clash` of `struct nf_conntrack_l4proto`).
pub(crate) const fn allows_clash(protocol: u8, profile: Profile) -> bool {
    match protocol {
        protocol::TCP | protocol::SCTP | protocol::ICMP | protocol::ICMPV6 => false,
        protocol::GRE => !matches!(profile, Profile::Linux6_1),
        _ => true,
    }
}

/// Whether the collector may take a connection near the limit although it is assured
/// (`can_early_drop` of `struct nf_conntrack_l4proto`).
pub(crate) fn is_closing(entry: &Entry) -> bool {
    match entry.protocol {
        protocol::TCP => TcpState::from_number(entry.state).is_some_and(TcpState::is_closing),
        protocol::SCTP => SctpState::from_number(entry.state).is_some_and(SctpState::is_closing),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_clash() {
        for profile in [Profile::Linux6_1, Profile::Linux6_12, Profile::Linux6_18] {
            let gre = profile != Profile::Linux6_1;
            assert_eq!(allows_clash(protocol::GRE, profile), gre);
            for protocol in [protocol::UDP, protocol::UDPLITE, 50] {
                assert!(allows_clash(protocol, profile));
            }
            for protocol in [protocol::TCP, protocol::SCTP, protocol::ICMP, protocol::ICMPV6] {
                assert!(!allows_clash(protocol, profile));
            }
        }
    }
}
