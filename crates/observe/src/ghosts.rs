//! Ghosts of a namespace's table: two looks at its entries, and at the sockets of everybody on this
//! host whose they may be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::SystemTime;

use ctkeeper_census::{Clock, GhostLook, Inhabitants, Spared, Suspects};
use ctkeeper_flow::{Flow, Protocol};
use ctkeeper_host::roster::{Evidence, Reader};
use ctkeeper_host::runtimes::Names;
use ctkeeper_host::{machine, stacks, sysctl};
use ctkeeper_netlink::netns::{self, Enumeration, Namespace, NamespaceSelector};
use ctkeeper_netlink::{Conntrack, DumpFilter};
use ctkeeper_snapshot::{Roster, SocketHolder, View};

use crate::targets::{self, Target};
use crate::{ObserveError, Selection};

/// Entries read of a table, at most; of a fuller one the others are not judged.
const ENTRIES: usize = 4_000_000;

/// An entry, and that it is a ghost or why it is none.
pub type Judged = (Flow, Result<(), Spared>);

/// A first look at a namespace's table, to be held against a second one at least
/// [`BETWEEN_LOOKS_MS`](ctkeeper_census::BETWEEN_LOOKS_MS) later. Nothing is deleted.
#[derive(Debug)]
pub struct GhostSearch {
    namespace: NamespaceSelector,
    suspects: Suspects,
}

impl GhostSearch {
    /// Takes the first look.
    pub fn begin(namespace: &NamespaceSelector) -> Result<Self, ObserveError> {
        let sight = Sight::take(namespace)?;
        let suspects = Suspects::of(&sight.flows, sight.look());
        Ok(Self { namespace: namespace.clone(), suspects })
    }

    /// Entries without a socket in the first look.
    pub fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// Takes the second look: each entry, and that it is a ghost or why it is none. Entries that are
    /// called ghosts are safe to delete, by tuple and id.
    pub fn judge(&self) -> Result<Vec<Judged>, ObserveError> {
        let sight = Sight::take(&self.namespace)?;
        let judged = self.suspects.judge(&sight.flows, sight.look());
        Ok(judged.into_iter().map(|(flow, verdict)| (flow.clone(), verdict)).collect())
    }
}

/// What one look has seen.
struct Sight {
    namespace: u64,
    flows: Vec<Flow>,
    roster: Roster,
    inhabitants: BTreeMap<u64, Inhabitants>,
    clock: Clock,
}

impl Sight {
    fn take(selector: &NamespaceSelector) -> Result<Self, ObserveError> {
        let enumeration = netns::enumerate();
        let handle = Namespace::open(selector)?;
        let (mut reader, names) = (Reader::default(), Names::default());
        let mut reading = reader.read(&enumeration, &names, &[handle.inode()]);
        let clock = clock(&handle)?;
        // Sockets come after the entries: a socket is there before its first packet makes one.
        let flows = flows(&handle)?;
        let namespace = handle.inode();
        let wanted = holders_namespaces(&flows, namespace, &reading.roster);
        let mut inhabitants = BTreeMap::new();
        for target in select(selector, &enumeration, namespace, &wanted)? {
            // What cannot be read stays incomplete, and spares everything.
            if let Ok(seen) = target.open() {
                let roster = &mut reading.roster;
                reader.add_sockets(roster, &seen, &names, None, Evidence::Descriptors);
            }
            let Some(view) = reading.roster.views.get(&target.inode()) else { continue };
            inhabitants.extend(look_around(&target, view).map(|found| (target.inode(), found)));
        }
        Ok(Self { namespace, flows, roster: reading.roster, inhabitants, clock })
    }

    fn look(&self) -> GhostLook<'_> {
        GhostLook {
            namespace: self.namespace,
            roster: &self.roster,
            inhabitants: &self.inhabitants,
            clock: &self.clock,
        }
    }
}

fn clock(handle: &Namespace) -> Result<Clock, ObserveError> {
    let timeouts = netns::enter(handle, |_| sysctl::timeouts())?.ok();
    let unix_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
    let unix_ms = unix_ms.map(|since| since.as_millis() as u64);
    Ok(Clock::new(machine::boottime_ms(), unix_ms, timeouts.as_ref()))
}

fn flows(handle: &Namespace) -> Result<Vec<Flow>, ObserveError> {
    let mut flows = Vec::new();
    Conntrack::open_in(handle)?.dump(&DumpFilter::ALL, |flow| {
        if flows.len() == ENTRIES {
            return ControlFlow::Break(());
        }
        flows.push(flow.clone());
        ControlFlow::Continue(())
    })?;
    Ok(flows)
}

/// Namespaces of this host in which an entry may have its socket.
fn holders_namespaces(flows: &[Flow], namespace: u64, roster: &Roster) -> BTreeSet<u64> {
    let ends: BTreeSet<IpAddr> =
        flows.iter().flat_map(|flow| [flow.original.source, flow.reply.source]).collect();
    let tenants = roster.views.get(&namespace).map(|view| &view.tenants);
    let tenants = ends.iter().filter_map(|end| tenants?.get(end)).flatten();
    tenants.map(|tenant| tenant.namespace).chain([namespace]).collect()
}

fn select(
    selector: &NamespaceSelector,
    enumeration: &Enumeration,
    own: u64,
    wanted: &BTreeSet<u64>,
) -> Result<Vec<Target>, ObserveError> {
    let mut found = targets::select(&Selection::One(selector.clone()), enumeration)?;
    let others = targets::select(&Selection::All, enumeration)?;
    let is_wanted = |target: &Target| target.inode() != own && wanted.contains(&target.inode());
    found.extend(others.into_iter().filter(is_wanted));
    Ok(found)
}

/// What speaks in a namespace beside its sockets, and the ports of which nobody seen has the socket:
/// the kernel's own.
fn look_around(target: &Target, view: &View) -> Option<Inhabitants> {
    let handle = target.open().ok()?;
    let (stacks, entries) = netns::enter(&handle, |_| {
        let counted = Conntrack::open().and_then(|mut table| table.count_and_limit());
        (stacks::here(), counted.map_or(u32::MAX, |counted| counted.entries))
    })
    .ok()?;
    let is_hidden = |holder: &SocketHolder| *holder == SocketHolder::Hidden;
    let hidden = view
        .listening
        .iter()
        .filter(|((protocol, _), holder)| *protocol == Protocol::UDP && is_hidden(holder));
    Some(Inhabitants {
        sockets_alone: stacks.sockets_alone(),
        // A table of its own may translate.
        forwards: stacks.forwards || entries > 0,
        kernel_ports: hidden.map(|((protocol, at), _)| (*protocol, at.port())).collect(),
    })
}
