//! Who can hold entries, and which addresses lead to whom: builds a [`Roster`].
//!
//! Everything is read from /proc and rtnetlink. Runtimes only add names: without one a container
//! goes by its id, a pod by its UID. Names are hostile input.

mod places;
mod processes;

use std::collections::{BTreeMap, HashMap};

use ctkeeper_netlink::netns::{self, Enumeration, FoundNamespace};
use ctkeeper_snapshot::{Gap, GapKind, Holder, HolderIndex, Roster, View};

use crate::namespaces;
use crate::runtimes::Names;
use places::Places;
use processes::{Process, whole};

/// A roster, and what is needed to ask on for single entries.
#[derive(Debug, Default)]
pub struct Reading {
    /// The roster.
    pub roster: Roster,
    /// What could not be read.
    pub gaps: Vec<Gap>,
    /// By a process's id, whom it belongs to: for those who ask whose a socket is.
    pub processes: HashMap<u32, HolderIndex>,
}

/// Reads who is in the namespaces of an enumeration, and how they hang together. Each namespace is
/// entered once; one that has gone meanwhile is left out.
pub fn read(enumeration: &Enumeration, names: &Names) -> Reading {
    let mut reading = Reading::default();
    let visited = visit(enumeration, &mut reading.gaps);
    let mut inside: BTreeMap<u64, Vec<Process>> = BTreeMap::new();
    for process in processes::read() {
        inside.entry(process.namespace).or_default().push(process);
    }
    let mut holders = Holders::default();
    let mut owners = BTreeMap::new();
    for found in &enumeration.namespaces {
        let processes = inside.get(&found.inode).map(Vec::as_slice).unwrap_or_default();
        for process in processes {
            if let Some(holder) = process.holder(names) {
                reading.processes.insert(process.pid, holders.index(holder));
            }
        }
        let since = processes.iter().filter_map(|process| process.started_ms).min();
        let places = visited.get(&found.inode);
        if let Some(holder) =
            owner(found, places, processes, names).map(|holder| holders.index(holder))
        {
            owners.insert(found.inode, (holder, since));
        }
    }
    reading.roster.views = views(&visited, &owners);
    reading.roster.holders = holders.list;
    reading
}

/// Interfaces and addresses of each namespace.
fn visit(enumeration: &Enumeration, gaps: &mut Vec<Gap>) -> BTreeMap<u64, Places> {
    let opened: Vec<_> =
        enumeration.namespaces.iter().filter_map(|found| found.open().ok()).collect();
    let missing = enumeration.namespaces.len() - opened.len();
    if missing > 0 {
        gaps.push(Gap {
            kind: GapKind::Vanished,
            what: format!("the addresses of {missing} network namespaces"),
            cause: "they could not be opened".to_owned(),
            remedy: "run as root, or look again".to_owned(),
        });
    }
    let read = netns::visit(&opened, |namespace| Places::read(namespace.inode()));
    let mut visited = BTreeMap::new();
    for (namespace, places) in opened.iter().zip(read.into_iter().flatten()) {
        if let Ok(Ok(places)) = places {
            visited.insert(namespace.inode(), places);
        }
    }
    visited
}

type Owners = BTreeMap<u64, (HolderIndex, Option<u64>)>;

fn views(visited: &BTreeMap<u64, Places>, owners: &Owners) -> BTreeMap<u64, View> {
    let view = |(inode, places): (&u64, &Places)| {
        let view = places.view(visited, |tenant| owners.get(&tenant).copied());
        let owner = owners.get(inode).map(|(owner, _)| *owner);
        (*inode, View { owner, ..view })
    };
    visited.iter().map(view).collect()
}

/// Who has a namespace for himself: a container or a pod. Or who is alone in it, else what it is
/// named, unless others' packets go through it. Nobody has the initial one.
fn owner(
    found: &FoundNamespace,
    places: Option<&Places>,
    inside: &[Process],
    names: &Names,
) -> Option<Holder> {
    if places.is_none_or(|places| places.is_initial) {
        return None;
    }
    let whole = whole(inside.iter().filter_map(|process| process.holder(names)));
    if matches!(whole, Some(Holder::Container(_) | Holder::Pod(_))) {
        return whole;
    }
    if places.is_some_and(Places::passes_on) {
        return None;
    }
    whole.or_else(|| {
        let name = namespaces::describe(found, 1).names.first().cloned()?;
        Some(Holder::Namespace { inode: found.inode, name })
    })
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
