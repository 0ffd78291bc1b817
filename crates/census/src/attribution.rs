//! Whose an entry is.

pub(crate) mod places;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ctkeeper_flow::{Flow, Layer4, Protocol, Tuple};
use ctkeeper_snapshot::{
    Connection, Holder, HolderIndex, Roster, Service, SocketHolder, Unattributed, View,
};

use crate::hashing::FastMap;
use crate::idle::{Clock, Idle, Since};
use places::{Place, Places};

/// Whose an entry is, and with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// Who holds it.
    pub holder: HolderRef,
    /// Which way it was opened.
    pub way: Way,
    /// What the client asked for, where it was translated to another address or port: a published
    /// port, a Service, whatever was redirected.
    pub service: Option<Service>,
    /// Whether the client's address or port was translated on its way out.
    pub is_masqueraded: bool,
    /// With whom.
    pub peer: PeerRef,
}

/// A [`Holder`], as far as the roster goes by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HolderRef {
    /// One of [`Roster::holders`].
    Known(HolderIndex),
    /// Somebody on another machine.
    Outside,
    /// Nobody known.
    Unattributed(Unattributed),
}

impl HolderRef {
    /// The holder itself; one that is not in the roster is hidden.
    pub fn holder(self, roster: &Roster) -> Holder {
        let hidden = Holder::Unattributed(Unattributed::Hidden);
        match self {
            Self::Known(HolderIndex(index)) => {
                roster.holders.get(index as usize).cloned().unwrap_or(hidden)
            }
            Self::Outside => Holder::Outside,
            Self::Unattributed(why) => Holder::Unattributed(why),
        }
    }
}

/// Which way an entry was opened, as seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// From outside to somebody here.
    Incoming,
    /// By somebody here to the outside.
    Outgoing,
    /// Through this host: neither end is here.
    Forwarded,
    /// Between two ends on this host.
    Local,
}

/// The other side of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerRef {
    /// Another holder of this host's.
    Holder(HolderIndex),
    /// The client.
    Address(IpAddr),
    /// What was asked for.
    Service(Service),
}

/// Tells whose the entries of one namespace's table are.
///
/// The client is the original direction's source, the server whoever answers: the reply
/// direction's source, after all translation. Each end is a tenant of the namespace, or a socket of
/// the namespace's own, or outside; which of them is known on this host holds the entry, of two the
/// client, since who opens it makes it.
///
/// An address may have had somebody else: a tenant that came after the entry's last packet is not
/// credited. Where nothing is known of that packet (no timeouts, a timeout lowered since), who has
/// the address now is: entries nearly always are the present tenant's.
///
/// A connection that a local process opened and closed has no socket any more, though its entry
/// stays for two minutes: of a busy proxy that is most of them. It is credited to whoever alone has
/// connections to the same other end; where nobody has, or several have, it is nobody's.
#[derive(Debug)]
pub struct Attributor<'a> {
    view: Option<&'a View>,
    places: Places,
    /// By the other end of connections: who alone has any to it.
    others: FastMap<(Protocol, SocketAddr), Option<HolderIndex>>,
    clock: Clock,
}

/// One end of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// On this host, and known.
    Known(HolderIndex),
    /// On this host, or once was.
    Unknown(Unattributed),
    Outside,
}

impl<'a> Attributor<'a> {
    /// One for the table of a namespace, looked at at this time. Of a namespace that the roster has
    /// no view of, everything is hidden.
    pub fn new(roster: &'a Roster, namespace: u64, clock: Clock) -> Self {
        let view = roster.views.get(&namespace);
        let places = view.map(Places::of).unwrap_or_default();
        Self { view, places, others: view.map(others).unwrap_or_default(), clock }
    }

    /// The time of the look.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whose a flow is.
    pub fn attribute(&self, flow: &Flow) -> Attribution {
        self.attribute_idle(flow, self.clock.idle(flow))
    }

    /// The same when its idle time is known already.
    pub(crate) fn attribute_idle(&self, flow: &Flow, idle: Option<Idle>) -> Attribution {
        let asked = end_of(flow.original.destination, flow.original.layer4, false);
        let answers = end_of(flow.reply.source, flow.reply.layer4, true);
        let service = |(address, port)| Service { address, protocol: flow.protocol(), port };
        let client = end_of(flow.original.source, flow.original.layer4, true);
        let (holder, way, peer) = if let Some(view) = self.view {
            let (client, server) = self.ends(view, flow, idle);
            held(client, server, view.owner, &flow.original, service(asked))
        } else {
            let hidden = HolderRef::Unattributed(Unattributed::Hidden);
            (hidden, Way::Forwarded, PeerRef::Service(service(asked)))
        };
        Attribution {
            holder,
            way,
            service: (answers != asked).then(|| service(asked)),
            is_masqueraded: end_of(flow.reply.destination, flow.reply.layer4, false) != client,
            peer,
        }
    }

    fn ends(&self, view: &View, flow: &Flow, idle: Option<Idle>) -> (End, End) {
        let client = match self.places.of_address(flow.original.source) {
            Place::Local => self.client(view, flow),
            place => self.elsewhere(view, place, flow.original.source, flow, idle),
        };
        let server = match self.places.of_address(flow.reply.source) {
            Place::Local => Self::local(view, &flow.reply, Side::Server),
            // Whoever listens here is among those that a group's address means.
            Place::Group if client == End::Outside => {
                match Self::local(view, &flow.reply, Side::Server) {
                    End::Unknown(_) => End::Outside,
                    known => known,
                }
            }
            place => self.elsewhere(view, place, flow.reply.source, flow, idle),
        };
        (client, server)
    }

    /// An end that is not the namespace's own.
    fn elsewhere(
        &self,
        view: &View,
        place: Place,
        address: IpAddr,
        flow: &Flow,
        idle: Option<Idle>,
    ) -> End {
        match place {
            Place::Tenant(holder, since) => match self.clock.since(flow, idle, since) {
                Since::Possible => End::Known(holder),
                Since::Before => End::Unknown(Unattributed::Gone { address }),
            },
            Place::Shared => self.one_of(view, address, flow, idle),
            Place::Vacant => End::Unknown(Unattributed::Gone { address }),
            Place::Local | Place::Group | Place::Outside => End::Outside,
        }
    }

    /// The one of several tenants that can have had the entry's last packet.
    fn one_of(&self, view: &View, address: IpAddr, flow: &Flow, idle: Option<Idle>) -> End {
        let tenants = view.tenants.get(&address).map_or(&[][..], Vec::as_slice);
        let mut possible = tenants
            .iter()
            .filter(|tenant| self.clock.since(flow, idle, tenant.since_ms) == Since::Possible)
            .map(|tenant| tenant.holder);
        match possible.next() {
            None => End::Unknown(Unattributed::Gone { address }),
            Some(first) if possible.all(|holder| holder == first) => End::Known(first),
            Some(_) => End::Unknown(Unattributed::Ambiguous { address }),
        }
    }

    /// A client in the namespace itself.
    fn client(&self, view: &View, flow: &Flow) -> End {
        let end = Self::local(view, &flow.original, Side::Client);
        if end != End::Unknown(Unattributed::NoSocket) || !flow.state.is_closing() {
            return end;
        }
        let original = &flow.original;
        let Some(port) = original.destination_port() else { return end };
        let other = (original.protocol, SocketAddr::new(original.destination, port));
        self.others.get(&other).copied().flatten().map_or(end, End::Known)
    }

    /// An end of the namespace's own, which `tuple` begins at: its owner's, or its socket's.
    fn local(view: &View, tuple: &Tuple, side: Side) -> End {
        if let Some(owner) = view.owner {
            return End::Known(owner);
        }
        match socket(view, tuple, side) {
            Some(SocketHolder::Of(holder)) => End::Known(holder),
            None if view.sockets_complete => End::Unknown(Unattributed::NoSocket),
            Some(SocketHolder::Hidden) | None => End::Unknown(Unattributed::Hidden),
        }
    }
}

/// Who alone has connections to each other end.
fn others(view: &View) -> FastMap<(Protocol, SocketAddr), Option<HolderIndex>> {
    let mut others = FastMap::default();
    if view.owner.is_some() {
        return others;
    }
    for (connection, holder) in &view.connected {
        let holder = match holder {
            SocketHolder::Of(holder) => Some(*holder),
            SocketHolder::Hidden => None,
        };
        let alone = others.entry((connection.protocol, connection.remote)).or_insert(holder);
        if *alone != holder {
            *alone = None;
        }
    }
    others
}

/// Who holds an entry between two ends, which way it was opened, and with whom it is.
fn held(
    client: End,
    server: End,
    owner: Option<HolderIndex>,
    original: &Tuple,
    asked: Service,
) -> (HolderRef, Way, PeerRef) {
    let way = match (client, server) {
        (End::Outside, End::Outside) => Way::Forwarded,
        (End::Outside, _) => Way::Incoming,
        (_, End::Outside) => Way::Outgoing,
        _ => Way::Local,
    };
    let address = PeerRef::Address(original.source);
    let (holder, peer) = match (client, server) {
        (End::Known(client), End::Known(server)) => {
            (HolderRef::Known(client), PeerRef::Holder(server))
        }
        (End::Known(client), _) => (HolderRef::Known(client), PeerRef::Service(asked)),
        (_, End::Known(server)) => (HolderRef::Known(server), address),
        (End::Unknown(why), _) => (HolderRef::Unattributed(why), PeerRef::Service(asked)),
        (End::Outside, End::Unknown(why)) => (HolderRef::Unattributed(why), address),
        (End::Outside, End::Outside) => (HolderRef::Outside, PeerRef::Service(asked)),
    };
    let Some(owner) = owner else { return (holder, way, peer) };
    // The owner's own name says nothing about the other side.
    let other = |end, peer| match end {
        End::Known(holder) if holder != owner => PeerRef::Holder(holder),
        _ => peer,
    };
    let peer = match way {
        Way::Incoming => other(client, address),
        Way::Local if client != End::Known(owner) => other(client, address),
        _ => other(server, PeerRef::Service(asked)),
    };
    (HolderRef::Known(owner), way, peer)
}

/// Which end of an entry a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// The socket that `tuple` begins at: the connected one, else, where that can be its, one that
/// waits at the address and port, or at the port of any address. Protocols without ports are asked
/// for with their id, then with port 0, as raw sockets have it.
fn socket(view: &View, tuple: &Tuple, side: Side) -> Option<SocketHolder> {
    if let Layer4::Ports { source, destination } = tuple.layer4 {
        let connection = Connection {
            protocol: tuple.protocol,
            local: SocketAddr::new(tuple.source, source),
            remote: SocketAddr::new(tuple.destination, destination),
        };
        if let Some(holder) = view.connected.get(&connection) {
            return Some(*holder);
        }
        // Streams begin at a socket of their own; a datagram may come from any.
        if side == Side::Client && matches!(tuple.protocol, Protocol::TCP | Protocol::DCCP) {
            return None;
        }
        return listening(view, tuple, source);
    }
    let id = match tuple.layer4 {
        Layer4::Icmp { id, .. } => id,
        _ => 0,
    };
    listening(view, tuple, id).or_else(|| (id != 0).then(|| listening(view, tuple, 0))?)
}

fn listening(view: &View, tuple: &Tuple, port: u16) -> Option<SocketHolder> {
    let at = |address| view.listening.get(&(tuple.protocol, SocketAddr::new(address, port)));
    let any4 = || at(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).filter(|_| tuple.source.is_ipv4());
    // One of IPv6 serves IPv4 as well, unless told not to.
    let any6 = || at(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    at(tuple.source).or_else(any4).or_else(any6).copied()
}

/// An end's address and port; of ICMP, whose id is both ends', and of other protocols without ports
/// the address alone.
fn end_of(address: IpAddr, layer4: Layer4, is_source: bool) -> (IpAddr, Option<u16>) {
    match layer4 {
        Layer4::Ports { source, destination } => {
            (address, Some(if is_source { source } else { destination }))
        }
        Layer4::Icmp { .. } | Layer4::None => (address, None),
    }
}
