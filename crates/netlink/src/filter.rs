//! Which entries a dump is to deliver.

use std::net::Ipv4Addr;

use ctkeeper_flow::{Family, Flow, Layer4, Mark, Protocol, Status};

use crate::attribute::{self as cta, entry};
use crate::wire::Builder;

/// Which entries a dump delivers: those that meet every condition given.
///
/// What the kernel can check safely is sent to it, which saves up to seven eighths of a dump's
/// cost; every entry that comes is checked again here, since kernels ignore conditions that they do
/// not know (zones before Linux 6.8, status masks before 5.19, tuples before 5.8).
///
/// Sent: the family, mark, status and zone always; addresses, protocol and ports only together with
/// the family IPv4. Never sent: conditions on IPv6 tuples, whose address comparison some kernels
/// have inverted (they leave out exactly the entries that match; seen on Linux 6.18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpFilter {
    /// The family.
    pub family: Option<Family>,
    /// The mark under a mask: `(mark & mask) == value`.
    pub mark: Option<(Mark, u32)>,
    /// Status bits under a mask: `(status & mask) == value`.
    pub status: Option<(Status, Status)>,
    /// The zone's id, in either direction. 0 means entries in no zone.
    pub zone: Option<u16>,
    /// The protocol of the original direction.
    pub protocol: Option<Protocol>,
    /// The original direction's source address, exactly.
    pub source: Option<Ipv4Addr>,
    /// The original direction's destination address, exactly.
    pub destination: Option<Ipv4Addr>,
    /// The original direction's source port.
    pub source_port: Option<u16>,
    /// The original direction's destination port.
    pub destination_port: Option<u16>,
    /// The reply direction's source address, exactly.
    pub reply_source: Option<Ipv4Addr>,
    /// The reply direction's destination address, exactly.
    pub reply_destination: Option<Ipv4Addr>,
}

impl DumpFilter {
    /// Every entry.
    pub const ALL: Self = Self {
        family: None,
        mark: None,
        status: None,
        zone: None,
        protocol: None,
        source: None,
        destination: None,
        source_port: None,
        destination_port: None,
        reply_source: None,
        reply_destination: None,
    };

    /// Whether it lets every entry through.
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Whether an entry meets every condition.
    pub fn matches(&self, flow: &Flow) -> bool {
        self.matches_bits(flow) && self.matches_tuple(flow)
    }

    fn matches_bits(&self, flow: &Flow) -> bool {
        let mark = flow.mark.unwrap_or_default().0;
        self.family.is_none_or(|family| flow.family() == family)
            && self.mark.is_none_or(|(value, mask)| mark & mask == value.0)
            && self.status.is_none_or(|(value, mask)| flow.status & mask == value)
            && self.zone.is_none_or(|zone| flow.zone.id == zone)
    }

    fn matches_tuple(&self, flow: &Flow) -> bool {
        let tuple = &flow.original;
        self.protocol.is_none_or(|protocol| tuple.protocol == protocol)
            && self.source.is_none_or(|address| tuple.source == address)
            && self.destination.is_none_or(|address| tuple.destination == address)
            && self.source_port.is_none_or(|port| tuple.source_port() == Some(port))
            && self.destination_port.is_none_or(|port| tuple.destination_port() == Some(port))
            && self.reply_source.is_none_or(|address| flow.reply.source == address)
            && self.reply_destination.is_none_or(|address| flow.reply.destination == address)
    }

    /// `nfgen_family` of the request.
    pub(crate) fn family_number(&self) -> u8 {
        self.effective_family().map_or(0, Family::number)
    }

    /// Conditions on IPv4 addresses imply the family.
    fn effective_family(&self) -> Option<Family> {
        let addresses = [self.source, self.destination, self.reply_source, self.reply_destination];
        if addresses.iter().any(Option::is_some) {
            self.family.or(Some(Family::Ipv4))
        } else {
            self.family
        }
    }

    /// The conditions that the kernel can check safely.
    pub(crate) fn write(&self, builder: &mut Builder) {
        if let Some((value, mask)) = self.mark {
            builder.put_be32(entry::MARK, value.0);
            builder.put_be32(entry::MARK_MASK, mask);
        }
        if let Some((value, mask)) = self.status.filter(|(_, mask)| mask.0 != 0) {
            builder.put_be32(entry::STATUS, value.0);
            builder.put_be32(entry::STATUS_MASK, mask.0);
        }
        if let Some(zone) = self.zone {
            builder.put_be16(entry::ZONE, zone);
        }
        if self.effective_family() == Some(Family::Ipv4) {
            self.write_tuples(builder);
        }
    }

    fn write_tuples(&self, builder: &mut Builder) {
        let original = self.write_original(builder);
        let reply = self.write_reply(builder);
        if original | reply == 0 {
            return;
        }
        builder.nest(entry::FILTER, |builder| {
            for (direction, flags) in
                [(cta::filter::ORIGINAL_FLAGS, original), (cta::filter::REPLY_FLAGS, reply)]
            {
                if flags != 0 {
                    builder.put(direction, &flags.to_ne_bytes());
                }
            }
        });
    }

    /// Writes the original tuple if it matters, and returns which parts of it do.
    ///
    /// Ports are compared by the kernel for TCP and UDP alone
    /// (`ctnetlink_filter_match_tuple`, Linux 6.12) and need the protocol.
    fn write_original(&self, builder: &mut Builder) -> u32 {
        let ports = matches!(self.protocol, Some(Protocol::TCP | Protocol::UDP));
        let (source_port, destination_port) =
            if ports { (self.source_port, self.destination_port) } else { (None, None) };
        let flags = flag(self.source.is_some(), cta::filter::SOURCE)
            | flag(self.destination.is_some(), cta::filter::DESTINATION)
            | flag(self.protocol.is_some(), cta::filter::PROTOCOL)
            | flag(source_port.is_some(), cta::filter::SOURCE_PORT)
            | flag(destination_port.is_some(), cta::filter::DESTINATION_PORT);
        if flags == 0 {
            return flags;
        }
        builder.nest(entry::TUPLE_ORIGINAL, |builder| {
            write_addresses(builder, self.source, self.destination);
            if let Some(protocol) = self.protocol {
                let layer4 = Layer4::Ports {
                    source: source_port.unwrap_or(0),
                    destination: destination_port.unwrap_or(0),
                };
                let layer4 = if ports { layer4 } else { Layer4::None };
                crate::encode::protocol(builder, protocol, layer4);
            }
        });
        flags
    }

    /// The same for the reply tuple.
    fn write_reply(&self, builder: &mut Builder) -> u32 {
        let flags = flag(self.reply_source.is_some(), cta::filter::SOURCE)
            | flag(self.reply_destination.is_some(), cta::filter::DESTINATION);
        if flags != 0 {
            builder.nest(entry::TUPLE_REPLY, |builder| {
                write_addresses(builder, self.reply_source, self.reply_destination);
            });
        }
        flags
    }
}

fn write_addresses(builder: &mut Builder, source: Option<Ipv4Addr>, destination: Option<Ipv4Addr>) {
    if source.is_none() && destination.is_none() {
        return;
    }
    builder.nest(cta::tuple::IP, |builder| {
        let any = Ipv4Addr::UNSPECIFIED;
        builder.put(cta::ip::V4_SOURCE, &source.unwrap_or(any).octets());
        builder.put(cta::ip::V4_DESTINATION, &destination.unwrap_or(any).octets());
    });
}

const fn flag(is_given: bool, flag: u32) -> u32 {
    if is_given { flag } else { 0 }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::{Tuple, Zone};

    use super::*;
    use crate::wire::Messages;

    fn sent(filter: DumpFilter) -> (u8, Vec<u16>) {
        let mut builder = Builder::default();
        builder.begin(0, 0, 0, filter.family_number());
        filter.write(&mut builder);
        assert!(builder.end());
        let message = Messages(builder.bytes()).next().unwrap().unwrap();
        let kinds = message.attributes().unwrap().map(|attribute| attribute.unwrap().kind);
        (message.netfilter_header().unwrap().0, kinds.collect())
    }

    #[test]
    fn no_tuple_is_sent_for_ipv6_or_no_family() {
        let protocol = Some(Protocol::TCP);
        let conditions = DumpFilter { protocol, destination_port: Some(80), ..DumpFilter::ALL };
        assert_eq!(sent(conditions), (0, vec![]));
        let v6 = DumpFilter { family: Some(Family::Ipv6), ..conditions };
        assert_eq!(sent(v6), (10, vec![]));
        let v4 = DumpFilter { family: Some(Family::Ipv4), ..conditions };
        assert_eq!(sent(v4), (2, vec![entry::TUPLE_ORIGINAL, entry::FILTER]));
        let contradiction = DumpFilter { source: Some(Ipv4Addr::LOCALHOST), ..v6 };
        assert_eq!(sent(contradiction), (10, vec![]));
    }

    #[test]
    fn an_ipv4_address_implies_the_family() {
        let filter = DumpFilter { source: Some(Ipv4Addr::LOCALHOST), ..DumpFilter::ALL };
        assert_eq!(sent(filter), (2, vec![entry::TUPLE_ORIGINAL, entry::FILTER]));
        let filter = DumpFilter { reply_source: Some(Ipv4Addr::LOCALHOST), ..DumpFilter::ALL };
        assert_eq!(sent(filter), (2, vec![entry::TUPLE_REPLY, entry::FILTER]));
    }

    #[test]
    fn a_port_alone_is_left_to_the_recheck() {
        let family = Some(Family::Ipv4);
        let filter = DumpFilter { family, source_port: Some(1), ..DumpFilter::ALL };
        assert_eq!(sent(filter), (2, vec![]));
    }

    /// The kernel refuses an empty status mask, which every entry meets.
    #[test]
    fn an_empty_status_mask_is_not_sent() {
        let none = Status::default();
        let filter = DumpFilter { status: Some((none, none)), ..DumpFilter::ALL };
        assert_eq!(sent(filter), (0, vec![]));
        assert!(filter.matches(&Flow::default()));
    }

    #[test]
    fn every_condition_counts() {
        let original = Tuple::with_ports(
            Protocol::TCP,
            (Ipv4Addr::new(10, 0, 0, 1).into(), 4000),
            (Ipv4Addr::new(10, 0, 0, 2).into(), 80),
        );
        let reply =
            Tuple { source: Ipv4Addr::new(10, 0, 0, 9).into(), ..original.inverted().unwrap() };
        let flow = Flow {
            original,
            reply,
            mark: Some(Mark(0x12)),
            status: Status::ASSURED,
            zone: Zone::both(3),
            ..Flow::default()
        };
        let right = DumpFilter {
            family: Some(Family::Ipv4),
            mark: Some((Mark(0x2), 0xf)),
            status: Some((Status::ASSURED, Status::ASSURED)),
            zone: Some(3),
            protocol: Some(Protocol::TCP),
            source: Some(Ipv4Addr::new(10, 0, 0, 1)),
            destination: Some(Ipv4Addr::new(10, 0, 0, 2)),
            source_port: Some(4000),
            destination_port: Some(80),
            reply_source: Some(Ipv4Addr::new(10, 0, 0, 9)),
            reply_destination: Some(Ipv4Addr::new(10, 0, 0, 1)),
        };
        assert!(right.matches(&flow));
        let wrong = [
            DumpFilter { family: Some(Family::Ipv6), ..right },
            DumpFilter { mark: Some((Mark(0x2), 0xff)), ..right },
            DumpFilter { status: Some((Status::default(), Status::ASSURED)), ..right },
            DumpFilter { zone: Some(0), ..right },
            DumpFilter { protocol: Some(Protocol::UDP), ..right },
            DumpFilter { source: Some(Ipv4Addr::new(10, 0, 0, 2)), ..right },
            DumpFilter { destination: Some(Ipv4Addr::new(10, 0, 0, 1)), ..right },
            DumpFilter { source_port: Some(80), ..right },
            DumpFilter { destination_port: Some(4000), ..right },
            DumpFilter { reply_source: Some(Ipv4Addr::new(10, 0, 0, 2)), ..right },
            DumpFilter { reply_destination: Some(Ipv4Addr::new(10, 0, 0, 9)), ..right },
        ];
        for filter in wrong {
            assert!(!filter.matches(&flow), "{filter:?}");
        }
    }
}
