//! Who can hold entries, and which addresses and sockets lead to whom: builds a [`Roster`].
//!
//! Everything is read from `/proc`, rtnetlink and `sock_diag`. Runtimes only add names: without one
//! a container goes by its id, a pod by its UID. Names are hostile input.
//!
//! A [`Reader`] remembers namespaces from look to look: one whose first process is the same as
//! before is not entered again.

mod numbers;
mod places;
mod processes;
mod sockets;
mod tenants;
mod wiring;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use ctkeeper_flow::Flow;
use ctkeeper_netlink::links::Links;
use ctkeeper_netlink::netns::{self, Enumeration, FoundNamespace, Namespace};
use ctkeeper_snapshot::{Gap, GapKind, Holder, HolderIndex, Roster};

use crate::cgroup;
use crate::namespaces;
use crate::runtimes::Names;
use numbers::{Numbers, Prover};
use places::Places;
use processes::{Processes, whole};
use sockets::Whose;
use tenants::Surroundings;
use wiring::Wiring;

/// A namespace is entered again after so long, though its first process is the same: addresses may
/// have been added.
const REVISIT: Duration = Duration::from_secs(60);

/// Holders that are remembered, at most.
const HOLDERS: usize = 1 << 18;

/// A roster, and what is missing from it.
#[derive(Debug, Default)]
pub struct Reading {
    /// The roster. No view has sockets yet: see [`Reader::add_sockets`].
    pub roster: Roster,
    /// What could not be read.
    pub gaps: Vec<Gap>,
}

/// Reads rosters, one after the other. An index means the same holder in all of them.
#[derive(Debug, Default)]
pub struct Reader {
    places: BTreeMap<u64, Places>,
    known: HashMap<u64, Known>,
    numbers: Numbers,
    holders: Holders,
    /// Inode of the initial namespace, once it was seen.
    initial: Option<u64>,
}

/// What is remembered of a namespace.
#[derive(Debug, Default)]
struct Known {
    processes: Processes,
    pids: Vec<u32>,
    visited: Option<Instant>,
}

/// What tells whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The control group that it was made in, and where that does not settle it, the descriptor of a
    /// process.
    Groups,
    /// Descriptors alone, so that a socket of the kernel's own stays hidden: it has the group of
    /// whoever had it made.
    Descriptors,
}

/// Reads a roster once: see [`Reader::read`].
pub fn read(enumeration: &Enumeration, names: &Names) -> Reading {
    Reader::default().read(enumeration, names, &[])
}

impl Reader {
    /// Reads who is in the namespaces of an enumeration, and how they hang together. Namespaces that
    /// have gone meanwhile are left out. Views of namespaces that somebody owns have tenants only if
    /// their inodes are among `whole`.
    pub fn read(&mut self, enumeration: &Enumeration, names: &Names, whole: &[u64]) -> Reading {
        let mut reading = Reading::default();
        self.forget(enumeration);
        let changed = self.changed(enumeration);
        self.visit(&changed, &mut reading.gaps);
        let mut prover = Prover::new(&mut self.numbers, enumeration);
        let mut wiring = Wiring::of(&self.places, &mut prover);
        // A new interface whose other end is not seen may have one in a namespace that seemed
        // unchanged: a container has been connected to one more network.
        if wiring.unseen > self.numbers.unseen && changed.len() < enumeration.namespaces.len() {
            let all: Vec<_> = enumeration.namespaces.iter().collect();
            self.visit(&all, &mut reading.gaps);
            let mut prover = Prover::new(&mut self.numbers, enumeration);
            wiring = Wiring::of(&self.places, &mut prover);
        }
        self.numbers.unseen = wiring.unseen;
        let having = self.having(enumeration, names);
        self.add_views(&mut reading.roster, (enumeration, whole), &wiring, &having);
        reading.roster.holders.clone_from(&self.holders.list);
        reading
    }

    /// Adds to a namespace's view the sockets that `flows`, entries of its table, lead to; every one
    /// where the flows are not known beforehand. What cannot be seen stays hidden. It is for
    /// namespaces of the last look.
    pub fn add_sockets(
        &mut self,
        roster: &mut Roster,
        namespace: &Namespace,
        names: &Names,
        flows: Option<&[Flow]>,
        evidence: Evidence,
    ) -> Option<Gap> {
        let view = roster.views.get_mut(&namespace.inode())?;
        let Known { processes, pids, .. } = self.known.entry(namespace.inode()).or_default();
        let own = cgroup::of_process(std::process::id());
        processes.refresh(pids, own.as_ref());
        let mut index = |holder| self.holders.index(holder);
        let mut whose = Whose::new(processes, names, evidence, &mut index);
        let gap = sockets::add(view, namespace, flows, &mut whose);
        let known = roster.holders.len();
        roster.holders.extend(self.holders.list.iter().skip(known).cloned());
        gap
    }

    fn forget(&mut self, enumeration: &Enumeration) {
        let there: HashSet<u64> = enumeration.namespaces.iter().map(|found| found.inode).collect();
        let is_there = |inode: &u64| there.contains(inode);
        self.places.retain(|inode, _| is_there(inode));
        self.known.retain(|inode, _| is_there(inode));
        self.numbers.keep(|inode| is_there(&inode));
        if self.holders.list.len() > HOLDERS {
            self.holders = Holders::default();
        }
    }

    /// The namespaces that have to be entered.
    fn changed<'a>(&mut self, enumeration: &'a Enumeration) -> Vec<&'a FoundNamespace> {
        let is_same = |found: &FoundNamespace| {
            let known = self.known.get(&found.inode)?;
            let places = self.places.get(&found.inode)?;
            let is_recent = known.visited.is_some_and(|at| at.elapsed() < REVISIT);
            let is_small = !places.is_initial && !places.passes_on;
            let rests = places.is_furnished() && is_small && is_recent;
            Some(rests && known.processes.are_of(&found.processes))
        };
        let is_changed = |found: &&FoundNamespace| !is_same(found).unwrap_or(false);
        let changed: Vec<_> = enumeration.namespaces.iter().filter(is_changed).collect();
        for found in &changed {
            self.known.remove(&found.inode);
        }
        changed
    }

    /// Reads interfaces and addresses of these namespaces.
    fn visit(&mut self, namespaces: &[&FoundNamespace], gaps: &mut Vec<Gap>) {
        let mut forbidden = Vec::new();
        let opened = namespaces.iter().filter_map(|found| match found.open() {
            Ok(namespace) => Some(namespace),
            Err(error) => {
                forbidden.extend(error.is_permission().then(|| error.to_string()));
                None
            }
        });
        for found in namespaces {
            self.places.remove(&found.inode);
        }
        // It is the same for the whole boot, and comes first: looking it up in each takes longer than
        // all else there.
        let initial = &mut self.initial;
        let read = netns::visit(opened, |namespace| {
            let inode = namespace.inode();
            let is_initial = initial.map_or_else(netns::in_initial, |initial| initial == inode);
            if is_initial {
                *initial = Some(inode);
            }
            (inode, Places::read(is_initial))
        });
        match read {
            Ok(read) => {
                for one in read {
                    match one {
                        Ok((inode, Ok(places))) => {
                            self.known.entry(inode).or_default().visited = Some(Instant::now());
                            self.places.insert(inode, places);
                            self.numbers.forget(inode);
                        }
                        Ok((_, Err(error))) | Err(error) => forbidden.push(error.to_string()),
                    }
                }
            }
            Err(error) => forbidden.push(error.to_string()),
        }
        gaps.extend(unvisited(&forbidden));
    }

    /// Who has each namespace.
    fn having(&mut self, enumeration: &Enumeration, names: &Names) -> HashMap<u64, Having> {
        let own = cgroup::of_process(std::process::id());
        let mut having = HashMap::new();
        for found in &enumeration.namespaces {
            let Some(places) = self.places.get(&found.inode) else { continue };
            let known = self.known.entry(found.inode).or_default();
            known.pids.clone_from(&found.processes);
            if places.is_initial {
                let host = Holder::Namespace { inode: found.inode, name: "host".to_owned() };
                let tenant = (self.holders.index(host), None);
                having.insert(found.inode, Having { owner: None, tenant });
                continue;
            }
            known.processes.refresh(&found.processes, own.as_ref());
            let Inside { holder, is_alone } = inside(found, &known.processes, names);
            let is_container = matches!(holder, Holder::Container(_) | Holder::Pod(_));
            // Somebody's namespace of a given name is older than who is in it now.
            let since_ms = known.processes.since_ms().filter(|_| is_container);
            let index = self.holders.index(holder);
            let is_owned = is_alone && (is_container || !places.passes_on);
            let owner = is_owned.then_some(index);
            having.insert(found.inode, Having { owner, tenant: (index, since_ms) });
        }
        having
    }

    fn add_views(
        &self,
        roster: &mut Roster,
        (enumeration, whole): (&Enumeration, &[u64]),
        wiring: &Wiring,
        having: &HashMap<u64, Having>,
    ) {
        let holders = having.iter().map(|(inode, one)| (*inode, one.tenant)).collect();
        let around = Surroundings { all: &self.places, wiring, holders: &holders };
        for found in &enumeration.namespaces {
            let Some(one) = having.get(&found.inode) else { continue };
            let mut view = if one.owner.is_some() && !whole.contains(&found.inode) {
                around.own(found.inode)
            } else {
                let mut links = None;
                let mut route = |address| {
                    let links = links.get_or_insert_with(|| {
                        found.open().and_then(|namespace| Links::open_in(&namespace)).ok()
                    });
                    links.as_mut()?.route_to(address).ok().flatten()
                };
                around.view(found.inode, &mut route)
            };
            view.owner = one.owner;
            roster.views.insert(found.inode, view);
        }
    }
}

/// Who has a namespace.
#[derive(Clone, Copy, Debug)]
struct Having {
    /// Who has it alone.
    owner: Option<HolderIndex>,
    /// Whose its addresses are, and since when.
    tenant: (HolderIndex, Option<u64>),
}

/// Who is in a namespace.
#[derive(Debug)]
struct Inside {
    holder: Holder,
    /// Whether nobody else is.
    is_alone: bool,
}

/// The one holder whose all processes are. A container or pod stays the one that the namespace is
/// there for when somebody of the host looks in; of several, and of nobody, the namespace's name is
/// what is left.
fn inside(found: &FoundNamespace, processes: &Processes, names: &Names) -> Inside {
    let holders = processes.holders(names);
    let is_container = |holder: &&Holder| matches!(holder, Holder::Container(_) | Holder::Pod(_));
    let residents = whole(holders.iter().filter(is_container).cloned());
    let is_alone = processes.complete;
    if let Some(holder) = whole(holders.iter().cloned()) {
        return Inside { holder, is_alone };
    }
    if let Some(holder) = residents {
        return Inside { holder, is_alone: false };
    }
    let name = namespaces::describe(found, 1).names.into_iter().next();
    let name = name.or_else(|| {
        let first = processes.iter().next()?;
        Some(format!("{} (pid {})", first.command, first.pid))
    });
    let name = name.unwrap_or_else(|| format!("netns {}", found.inode));
    let several_containers = holders.iter().any(|holder| is_container(&holder));
    let holder = Holder::Namespace { inode: found.inode, name };
    Inside { holder, is_alone: is_alone && !several_containers }
}

fn unvisited(obstacles: &[String]) -> Option<Gap> {
    let cause = obstacles.first()?.clone();
    let what = match obstacles.len() {
        1 => "the addresses of a network namespace".to_owned(),
        many => format!("the addresses of {many} network namespaces"),
    };
    let remedy = "run as root".to_owned();
    Some(Gap { kind: GapKind::Privilege, what, cause, remedy })
}

/// Holders, each once.
#[derive(Debug, Default)]
struct Holders {
    list: Vec<Holder>,
    known: HashMap<Holder, HolderIndex>,
}

impl Holders {
    fn index(&mut self, holder: Holder) -> HolderIndex {
        let list = &mut self.list;
        *self.known.entry(holder).or_insert_with_key(|holder| {
            list.push(holder.clone());
            HolderIndex(list.len() as u32 - 1)
        })
    }
}
