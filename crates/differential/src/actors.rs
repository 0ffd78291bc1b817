//! The hosts of one running sequence: they make its packets, and learn from what comes back how
//! each side sees a conversation that the router translates.

use std::collections::BTreeMap;

use ctkeeper_flow::Protocol;

use crate::addresses::Place;
use crate::sequence::{Conversation, IcmpError, Packet, Side, Transport};
use crate::wire::{self, Endpoint, Ends, Seen};

/// The hosts of one running sequence.
#[derive(Clone, Debug)]
pub struct Actors {
    place: Place,
    /// How each side sees conversations whose ends are translated on it, client first.
    views: BTreeMap<(Side, Protocol, Conversation), Ends>,
}

impl Actors {
    /// Hosts at a place of their own.
    pub const fn new(place: Place) -> Self {
        Self { place, views: BTreeMap::new() }
    }

    /// Where they are.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// A packet's bytes, as a whole datagram.
    pub fn make(&self, packet: &Packet) -> Vec<u8> {
        self.made_on(packet, packet.from)
    }

    /// A packet as it is seen on a side.
    fn made_on(&self, packet: &Packet, side: Side) -> Vec<u8> {
        if let Transport::Error(error) = &packet.transport {
            return self.error(error, packet, side);
        }
        let ends = self.ends(packet, side);
        wire::datagram(ends, &packet.transport, &packet.defects, &[])
    }

    fn error(&self, error: &IcmpError, packet: &Packet, side: Side) -> Vec<u8> {
        let mut inner = self.made_on(&error.about, side);
        inner.truncate(usize::from(error.bytes));
        if error.inner_fragment {
            wire::mark_as_fragment(&mut inner);
        }
        let about = self.ends(&error.about, side);
        let source = Endpoint { address: self.place.address(error.source), port: 0 };
        let address = match error.destination {
            None => about.source.address,
            Some(host) => self.place.address(host),
        };
        let ends = Ends { source, destination: Endpoint { address, port: 0 } };
        wire::datagram(ends, &packet.transport, &packet.defects, &inner)
    }

    fn ends(&self, packet: &Packet, side: Side) -> Ends {
        let protocol = packet.transport.protocol(self.place.family);
        let seen = self.views.get(&(side, protocol, packet.conversation));
        let ends = seen.copied().unwrap_or_else(|| self.untranslated(packet.conversation));
        if packet.from == Side::Client { ends } else { ends.turned() }
    }

    fn untranslated(&self, conversation: Conversation) -> Ends {
        let Conversation { client, client_port, server, server_port } = conversation;
        Ends {
            source: Endpoint { address: self.place.address(client), port: client_port },
            destination: Endpoint { address: self.place.address(server), port: server_port },
        }
    }

    /// What came out on the other side when a packet was sent.
    pub fn observe(&mut self, packet: &Packet, side: Side, seen: &Seen) {
        if side == packet.from || matches!(packet.transport, Transport::Error(_)) {
            return;
        }
        let mut ends = seen.ends;
        if matches!(seen.protocol, Protocol::ICMP | Protocol::ICMPV6) {
            // Only the asking end has an id.
            ends.destination.port = 0;
        }
        let ends = if packet.from == Side::Client { ends } else { ends.turned() };
        self.views.insert((side, seen.protocol, packet.conversation), ends);
    }
}
