//! Ports that the kernel and the engine have each drawn at random for the same connection.
//!
//! Neither is wrong: what they draw is compared as a set. From then on the engine is given the
//! answers as they would come to its own choice.

use std::collections::BTreeMap;

use ctkeeper_flow::{Flow, Layer4, Protocol};

use crate::compare::Told;
use crate::sequence::Side;
use crate::transcript::Sent;
use crate::wire::{self, Endpoint};

/// A translated client as servers see it: protocol, server, client.
type Seen = (Protocol, Endpoint, Endpoint);

/// Which of the engine's ports stands for which of the kernel's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aliases {
    to_engine: BTreeMap<Seen, u16>,
    to_kernel: BTreeMap<Seen, u16>,
}

impl Aliases {
    /// A connection's first packet has come out on the server's side.
    pub(crate) fn learn(&mut self, sent: &Sent, told: Told<'_>) {
        let (Some(flow), Side::Client) = (told.flow, sent.from) else { return };
        let Some(seen) = sent.out.first().and_then(|out| wire::read(&out.bytes)) else { return };
        let Layer4::Ports { source, destination } = flow.reply.layer4 else { return };
        let ours = (flow.reply.destination, destination);
        let theirs = (seen.ends.source.address, seen.ends.source.port);
        let server = Endpoint { address: flow.reply.source, port: source };
        if seen.protocol != flow.reply.protocol || ours.0 != theirs.0 || ours.1 == theirs.1 {
            return;
        }
        if server != seen.ends.destination {
            return;
        }
        let end = |port| Endpoint { address: ours.0, port };
        self.to_engine.insert((seen.protocol, server, end(theirs.1)), ours.1);
        self.to_kernel.insert((seen.protocol, server, end(ours.1)), theirs.1);
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
