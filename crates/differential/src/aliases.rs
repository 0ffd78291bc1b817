//! Ports that the kernel and the engine have each drawn at random for the same connection.
//!
//! Neither is wrong: what they draw is compared as a set. From then on the engine is given the
//! answers as they would come to its own choice.

use std::collections::BTreeMap;

use ctkeeper_flow::{Direction, Flow, Layer4, Protocol};

use crate::compare::Told;
use crate::ground::PORTS;
use crate::transcript::Sent;
use crate::wire::{self, Endpoint, Ends};

/// Whether two ports could each have been drawn for a third one (`nf_nat_l4proto_unique_tuple`,
/// `net/netfilter/nf_nat_core.c`, Linux 6.12).
fn is_alike(before: u16, one: u16, other: u16) -> bool {
    let asked_for = |port| (PORTS.0..=PORTS.1).contains(&port);
    let drawn = |port| match before {
        0..=511 => (1..=511).contains(&port),
        512..=1023 => (600..=1023).contains(&port),
        1024.. => port >= 1024,
    };
    (asked_for(one) && asked_for(other)) || (drawn(one) && drawn(other))
}

/// A translated client as servers see it: protocol, server, client.
type Seen = (Protocol, Endpoint, Endpoint);

/// Which of the engine's ports stands for which of the kernel's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aliases {
    to_engine: BTreeMap<Seen, u16>,
    to_kernel: BTreeMap<Seen, u16>,
}

impl Aliases {
    /// A packet of the original direction has come out: has its source another port than with the
    /// engine, then one as good?
    pub(crate) fn learn(&mut self, sent: &Sent, told: Told<'_>) -> Result<(), String> {
        let (Some(ours), Direction::Original) = (told.seen(), told.outcome.direction) else {
            return Ok(());
        };
        let theirs = sent.out.first().and_then(|out| wire::read(&out.bytes));
        let (Some(theirs), true) = (theirs, told.flow.is_some()) else { return Ok(()) };
        let (mine, other) = (ours.ends.source, theirs.ends.source);
        let same_place = mine.address == other.address
            && ours.ends.destination == theirs.ends.destination
            && ours.protocol == theirs.protocol;
        if !same_place || mine.port == other.port {
            return Ok(());
        }
        let Some(before) = wire::read(&sent.datagram) else { return Ok(()) };
        if !is_alike(before.ends.source.port, mine.port, other.port) {
            return Err(format!("the kernel draws port {}, the engine {}", other.port, mine.port));
        }
        self.to_engine.insert((ours.protocol, ours.ends.destination, other), mine.port);
        self.to_kernel.insert((ours.protocol, ours.ends.destination, mine), other.port);
        Ok(())
    }

    /// Whether ports that were drawn have a part in a packet that comes out between these ends.
    pub(crate) fn concern(&self, sent: &Sent, out: &Ends) -> bool {
        let known = |protocol, ends: Ends| {
            self.to_engine.contains_key(&(protocol, ends.source, ends.destination))
        };
        wire::read(&sent.datagram).is_some_and(|seen| {
            known(seen.protocol, seen.ends) || known(seen.protocol, out.turned())
        })
    }

    /// The packet as it would have been sent to the engine's choice, where that is another one.
    pub(crate) fn to_engine(&self, sent: &Sent) -> Option<Vec<u8>> {
        let seen = wire::read(&sent.datagram)?;
        let known = (seen.protocol, seen.ends.source, seen.ends.destination);
        let port = self.to_engine.get(&known)?;
        let mut datagram = sent.datagram.clone();
        let place = seen.header + 2;
        datagram.get_mut(place..place + 2)?.copy_from_slice(&port.to_be_bytes());
        Some(datagram)
    }

    /// The kernel's port for one of the engine's.
    pub(crate) fn kernels(
        &self,
        protocol: Protocol,
        server: Endpoint,
        client: Endpoint,
    ) -> Endpoint {
        let port = self.to_kernel.get(&(protocol, server, client)).copied();
        Endpoint { port: port.unwrap_or(client.port), ..client }
    }

    /// The engine's entry with the kernel's choice of ports.
    pub(crate) fn as_the_kernel(&self, mut flow: Flow) -> Flow {
        if let Layer4::Ports { source, destination } = flow.reply.layer4 {
            let server = Endpoint { address: flow.reply.source, port: source };
            let client = Endpoint { address: flow.reply.destination, port: destination };
            let client = self.kernels(flow.reply.protocol, server, client);
            flow.reply.layer4 = Layer4::Ports { source, destination: client.port };
        }
        flow
    }
}
