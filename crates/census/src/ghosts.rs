//! Ghosts: entries whose socket no longer exists.
//!
//! What is called a ghost may be deleted, so everything here errs to the side of life: an entry is
//! a ghost only when all its ends on this host belong to holders whose sockets can all be seen, none
//! of those sockets is the entry's, twice, ten seconds apart, and no packet came between. Whatever
//! speaks without a socket spares the entries that may be its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ctkeeper_flow::{Flow, Protocol, ProtocolState, Status, TcpState, Tuple, Zone};
use ctkeeper_snapshot::{Roster, View};

use crate::attribution::places::{Place, Places};
use crate::hashing::{FastMap, FastSet};
use crate::idle::{Clock, Since};

/// Time between the looks, at least, milliseconds.
pub const BETWEEN_LOOKS_MS: u64 = 10_000;

/// Ports of programs in the kernel, of which a socket may not be seen, as those of tunnels that send
/// from ports without one: NFS, SMB, IKE and ESP in UDP, L2TP, iSCSI, NVMe over TCP, vxlan (IANA's
/// and Linux's own), RoCE, geneve, FOU, WireGuard.
const KERNEL_PORTS: [u16; 16] =
    [111, 445, 500, 1701, 2049, 3260, 4420, 4500, 4789, 4791, 5555, 6080, 6081, 7777, 8472, 51820];

/// What speaks in a namespace beside its sockets. A namespace of which this is not known has no
/// ghosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inhabitants {
    /// Whether sockets are all that speaks there: no virtual machine (no tap or macvtap), no gVisor
    /// or other network stack in user space, no `AF_XDP`, no packet or raw socket that speaks TCP or
    /// UDP by itself, no IPVS.
    pub sockets_alone: bool,
    /// Whether it translates or forwards for others, so that what leaves with its address need not
    /// come from its sockets, nor under their ports: rules of translation, `ip_forward`, a table of
    /// its own with translated entries.
    pub forwards: bool,
    /// Ports that the kernel itself uses there, beside the well-known ones.
    pub kernel_ports: BTreeSet<(Protocol, u16)>,
}

/// One look at a namespace's table: when, by which timeouts, and what was known then.
///
/// Sockets are to be read after the entries: a socket is there before its first packet makes an
/// entry. They are all of a namespace, not only those that entries lead to, of every state but
/// `TIME_WAIT`, those without a process included (not yet
/// accepted, orphaned).
#[derive(Clone, Copy, Debug)]
pub struct GhostLook<'a> {
    /// Inode of the namespace whose table it is.
    pub namespace: u64,
    /// The roster, with the sockets of the namespaces that matter.
    pub roster: &'a Roster,
    /// By a namespace's inode.
    pub inhabitants: &'a BTreeMap<u64, Inhabitants>,
    /// When the entries were read, and the timeouts of the namespace.
    pub clock: &'a Clock,
}

/// Why an entry is no ghost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spared {
    /// Neither TCP nor UDP: the sockets of others are not seen.
    Protocol,
    /// Not yet established: its socket may be about to appear.
    Opening,
    /// Its translation would be lost with it, and it is not closing.
    Translated,
    /// In a zone: a switch or a router of its own may translate it elsewhere.
    Zoned,
    /// A flow table or the kernel keeps it, or it is not quite in the table.
    Kept,
    /// A port of a program in the kernel.
    KernelPort,
    /// No end of it is of a holder on this host, or it is not certain whose.
    NoHolder,
    /// An end's namespace has inhabitants without sockets, forwards for others, or is not known.
    OtherStacks,
    /// Not all sockets of an end's namespace were seen.
    Unseen,
    /// It has a socket.
    Socket,
    /// It was not suspected in the look before, or is another entry since.
    New,
    /// The looks are less than ten seconds apart.
    TooSoon,
    /// A packet came between the looks, or cannot be excluded to have come.
    Refreshed,
}

/// What tells whether an entry is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspect {
    id: u32,
    state: ProtocolState,
    status: Status,
    left: u32,
    packets: Option<u64>,
    reply: Tuple,
}

/// The entries without a socket of a first look.
#[derive(Clone, Debug)]
pub struct Suspects {
    namespace: u64,
    at_ms: u64,
    entries: FastMap<(Tuple, Zone), Suspect>,
}

impl Suspects {
    /// Those of a first look's entries that no socket is behind.
    pub fn of<'f>(entries: impl IntoIterator<Item = &'f Flow>, look: GhostLook<'_>) -> Self {
        let judge = Judge::new(look);
        let suspects = entries.into_iter().filter(|flow| judge.is_dead(flow).is_ok());
        let named =
            suspects.filter_map(|flow| Some(((flow.original, flow.zone), Suspect::of(flow)?)));
        let entries = named.collect();
        Self { namespace: look.namespace, at_ms: look.clock.now_ms(), entries }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Judges each of a second look's entries: a ghost, or why it is none.
    pub fn judge<'f>(
        &self,
        entries: impl IntoIterator<Item = &'f Flow>,
        look: GhostLook<'_>,
    ) -> Vec<(&'f Flow, Result<(), Spared>)> {
        let judge = Judge::new(look);
        let verdict =
            |flow| (flow, judge.is_dead(flow).and_then(|()| self.is_still_dead(flow, look)));
        entries.into_iter().map(verdict).collect()
    }

    /// The ghosts among a second look's entries, at least ten seconds after the first.
    pub fn confirm<'f>(
        &self,
        entries: impl IntoIterator<Item = &'f Flow>,
        look: GhostLook<'_>,
    ) -> Vec<&'f Flow> {
        let judged = self.judge(entries, look).into_iter();
        judged.filter(|(_, verdict)| verdict.is_ok()).map(|(flow, _)| flow).collect()
    }

    /// Whether an entry that is dead now was so before, with no packet between.
    fn is_still_dead(&self, flow: &Flow, look: GhostLook<'_>) -> Result<(), Spared> {
        let elapsed = look.clock.now_ms().saturating_sub(self.at_ms);
        if elapsed < BETWEEN_LOOKS_MS {
            return Err(Spared::TooSoon);
        }
        let before = self.entries.get(&(flow.original, flow.zone));
        let (Some(before), Some(now)) = (before, Suspect::of(flow)) else {
            return Err(Spared::New);
        };
        if self.namespace != look.namespace || before.id != now.id || before.reply != now.reply {
            return Err(Spared::New);
        }
        let is_same =
            (before.state, before.status, before.packets) == (now.state, now.status, now.packets);
        let settable = look.clock.settable(flow).ok_or(Spared::Refreshed)?;
        if is_same && ran_down(before.left, now.left, elapsed, &settable) {
            Ok(())
        } else {
            Err(Spared::Refreshed)
        }
    }
}

impl Suspect {
    fn of(flow: &Flow) -> Option<Self> {
        Some(Self {
            id: flow.id?,
            state: flow.state,
            status: flow.status,
            left: flow.timeout?,
            packets: flow.packets(),
            reply: flow.reply,
        })
    }
}

/// Whether what is left of a timeout fell by the time that passed, and could not have done so had a
/// packet set it anew. Both are rounded down to whole seconds.
fn ran_down(before: u32, now: u32, elapsed_ms: u64, settable: &[u32]) -> bool {
    let (before, now, elapsed) = (u64::from(before), u64::from(now), elapsed_ms / 1000);
    let fell = before.checked_sub(now);
    let fell_right = fell.is_some_and(|fell| (elapsed..=elapsed + 1).contains(&fell));
    // A packet some seconds after the first look set so much: it would have run down to the same.
    let ambiguous = (before.saturating_sub(elapsed + 2))..=(before + 2);
    fell_right && !settable.iter().any(|seconds| ambiguous.contains(&u64::from(*seconds)))
}

/// Judges the entries of one look.
struct Judge<'a> {
    look: GhostLook<'a>,
    view: Option<&'a View>,
    places: Places,
    /// By a namespace's inode: which ends have sockets.
    ends: BTreeMap<u64, Ends>,
}

/// Ends of a namespace's sockets.
#[derive(Debug, Default)]
struct Ends {
    /// Own ends of connected ones.
    own: FastSet<(Protocol, IpAddr, u16)>,
    /// Other ends of connected ones.
    other: FastSet<(Protocol, IpAddr, u16)>,
    /// Ports of UDP sockets of any kind.
    datagrams: FastSet<u16>,
}

impl Ends {
    fn of(view: &View) -> Self {
        let mut ends = Self::default();
        for connection in view.connected.keys() {
            let (own, other) = (connection.local, connection.remote);
            ends.own.insert((connection.protocol, own.ip(), own.port()));
            ends.other.insert((connection.protocol, other.ip(), other.port()));
            if connection.protocol == Protocol::UDP {
                ends.datagrams.insert(own.port());
            }
        }
        let listening = view.listening.keys().filter(|(protocol, _)| *protocol == Protocol::UDP);
        ends.datagrams.extend(listening.map(|(_, at)| at.port()));
        ends
    }

    /// Whether a socket may be the one at the beginning of `tuple`. Where translation hides one end
    /// of it the other is enough: a client's own port, a server's client.
    fn has(&self, tuple: &Tuple, is_client: bool) -> bool {
        let (Some(own), Some(other)) = (tuple.source_port(), tuple.destination_port()) else {
            return true;
        };
        if tuple.protocol == Protocol::UDP {
            return self.datagrams.contains(&own);
        }
        if is_client {
            self.own.contains(&(tuple.protocol, tuple.source, own))
        } else {
            self.other.contains(&(tuple.protocol, tuple.destination, other))
        }
    }
}

impl<'a> Judge<'a> {
    fn new(look: GhostLook<'a>) -> Self {
        let view = look.roster.views.get(&look.namespace);
        let vouched = look.inhabitants.keys();
        let views = vouched.filter_map(|inode| Some((*inode, look.roster.views.get(inode)?)));
        let ends = views.map(|(inode, view)| (inode, Ends::of(view))).collect();
        Self { look, view, places: view.map(Places::of).unwrap_or_default(), ends }
    }

    /// Whether no socket is behind an entry, as far as one look tells.
    fn is_dead(&self, flow: &Flow) -> Result<(), Spared> {
        is_of_a_kind(flow)?;
        let client = self.end(&flow.original, true, flow)?;
        let server = self.end(&flow.reply, false, flow)?;
        if client || server { Ok(()) } else { Err(Spared::NoHolder) }
    }

    /// Whether the end that `tuple` begins at is on this host, and has no socket.
    fn end(&self, tuple: &Tuple, is_client: bool, flow: &Flow) -> Result<bool, Spared> {
        let namespace = match self.places.of_address(tuple.source) {
            Place::Local => self.look.namespace,
            Place::Tenant(_, since) => self.tenants_namespace(tuple.source, since, flow)?,
            Place::Shared | Place::Vacant | Place::Group => return Err(Spared::NoHolder),
            Place::Outside => return Ok(false),
        };
        let view = self.look.roster.views.get(&namespace).ok_or(Spared::Unseen)?;
        let inhabitants = self.look.inhabitants.get(&namespace).ok_or(Spared::OtherStacks)?;
        // Of the table's own namespace each translation stands in the entry itself.
        let forwards = inhabitants.forwards && namespace != self.look.namespace;
        if !inhabitants.sockets_alone || forwards {
            return Err(Spared::OtherStacks);
        }
        let uses = |port| inhabitants.kernel_ports.contains(&(tuple.protocol, port));
        if tuple.source_port().is_some_and(uses) || tuple.destination_port().is_some_and(uses) {
            return Err(Spared::KernelPort);
        }
        if !view.sockets_complete {
            return Err(Spared::Unseen);
        }
        match self.ends.get(&namespace) {
            Some(ends) if !ends.has(tuple, is_client) => Ok(true),
            _ => Err(Spared::Socket),
        }
    }

    /// The one namespace of a tenant, which had the address when the entry's last packet came.
    fn tenants_namespace(
        &self,
        address: IpAddr,
        since_ms: Option<u64>,
        flow: &Flow,
    ) -> Result<u64, Spared> {
        let clock = self.look.clock;
        if clock.since(flow, clock.idle(flow), since_ms) == Since::Before {
            return Err(Spared::NoHolder);
        }
        match self.view.and_then(|view| view.tenants.get(&address)).map(Vec::as_slice) {
            Some([tenant]) => Ok(tenant.namespace),
            _ => Err(Spared::NoHolder),
        }
    }
}

/// Whether an entry is of a kind that has ghosts.
fn is_of_a_kind(flow: &Flow) -> Result<(), Spared> {
    let original = &flow.original;
    let is_opening = match (original.protocol, flow.state) {
        (Protocol::TCP, ProtocolState::Tcp(tcp)) => {
            let opening =
                [TcpState::None, TcpState::SynSent, TcpState::SynRecv, TcpState::SynSent2];
            opening.contains(&tcp.state)
        }
        (Protocol::UDP, ProtocolState::None) => false,
        _ => return Err(Spared::Protocol),
    };
    if is_opening {
        return Err(Spared::Opening);
    }
    if flow.zone != Zone::DEFAULT {
        return Err(Spared::Zoned);
    }
    let kept = Status::OFFLOAD
        | Status::HW_OFFLOAD
        | Status::FIXED_TIMEOUT
        | Status::TEMPLATE
        | Status::DYING
        | Status::NAT_CLASH;
    if flow.status.intersects(kept) || flow.synproxy.is_some() || flow.master.is_some() {
        return Err(Spared::Kept);
    }
    let is_translated = flow.status.intersects(Status::SRC_NAT | Status::DST_NAT)
        || original.inverted() != Some(flow.reply);
    if is_translated && !flow.state.is_closing() {
        return Err(Spared::Translated);
    }
    let ports = [original.source_port(), original.destination_port(), flow.reply.source_port()];
    if ports.into_iter().flatten().any(|port| KERNEL_PORTS.contains(&port)) {
        return Err(Spared::KernelPort);
    }
    Ok(())
}
