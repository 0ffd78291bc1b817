//! What an entry has of a key, small enough to be counted by.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;

use ctkeeper_flow::{Flow, Mark, Protocol};
use ctkeeper_snapshot::{Holder, HolderIndex, Key, Pod, Roster, Service, Unattributed, Value};

use crate::attribution::{Attribution, HolderRef};
use crate::hashing::Secret;

/// A [`Value`] by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Cell {
    /// Index of [`Columns::holders`].
    Holder(u32),
    Outside,
    Nobody(Unattributed),
    Service(Service),
    /// Index of the table.
    Table(u32),
    Address(IpAddr),
    Port(Protocol, u16),
    Protocol(Protocol),
    State(&'static str),
    Zone(u16),
    Mark(u32),
    None,
}

impl Cell {
    /// Whether it stands for local processes that are not told apart.
    pub(super) fn is_undivided(self) -> bool {
        matches!(self, Self::Nobody(Unattributed::Hidden | Unattributed::NoSocket))
    }
}

/// What a row is counted by: of one key, the second cell is `None`.
pub(super) type Cells = [Cell; 2];

/// The keys that are counted by.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) keys: Vec<Key>,
    /// By key, what each of the roster's holders is for it.
    cells: Vec<Vec<Cell>>,
    holders: Vec<Holder>,
}

impl Columns {
    /// One key or two different ones.
    pub(super) fn new(keys: &[Key], roster: &Roster) -> Option<Self> {
        if !matches!(keys, [_]) && !matches!(keys, [first, second] if first != second) {
            return None;
        }
        let mut holders = Vec::new();
        let mut known = HashMap::new();
        let mut intern = |holder: Option<Holder>| {
            let Some(holder) = holder else { return Cell::None };
            let index = *known.entry(holder).or_insert_with_key(|holder: &Holder| {
                holders.push(holder.clone());
                holders.len() as u32 - 1
            });
            match &holders[index as usize] {
                Holder::Outside => Cell::Outside,
                Holder::Unattributed(why) => Cell::Nobody(*why),
                _ => Cell::Holder(index),
            }
        };
        let of_key = |key: &Key| match key {
            Key::Holder | Key::Container | Key::Pod | Key::Process => {
                roster.holders.iter().map(|holder| intern(as_seen_by(*key, holder))).collect()
            }
            _ => Vec::new(),
        };
        let cells = keys.iter().map(of_key).collect();
        Some(Self { keys: keys.to_vec(), cells, holders })
    }

    /// Whether a namespace's owner alone tells the row.
    pub(super) fn are_of_owners(&self) -> bool {
        self.keys.iter().all(|key| is_of_holders(*key) || *key == Key::Netns)
    }

    pub(super) fn of_flow(&self, flow: &Flow, attribution: &Attribution, table: u32) -> Cells {
        let mut cells = [Cell::None; 2];
        for (column, cell) in cells.iter_mut().enumerate().take(self.keys.len()) {
            *cell = self.cell(column, flow, attribution, table);
        }
        cells
    }

    /// The row of a namespace's owner.
    pub(super) fn of_owner(&self, owner: HolderIndex, table: u32) -> Cells {
        let mut cells = [Cell::None; 2];
        for (column, cell) in cells.iter_mut().enumerate().take(self.keys.len()) {
            *cell = match self.keys[column] {
                Key::Netns => Cell::Table(table),
                _ => self.of_holder(column, HolderRef::Known(owner)),
            };
        }
        cells
    }

    fn cell(&self, column: usize, flow: &Flow, attribution: &Attribution, table: u32) -> Cell {
        let original = &flow.original;
        match self.keys[column] {
            Key::Holder | Key::Container | Key::Pod | Key::Process => {
                self.of_holder(column, attribution.holder)
            }
            Key::Service => attribution.service.map_or(Cell::None, Cell::Service),
            Key::Netns => Cell::Table(table),
            Key::Source => Cell::Address(original.source),
            Key::Destination => Cell::Address(original.destination),
            Key::Port => original
                .destination_port()
                .map_or(Cell::None, |port| Cell::Port(original.protocol, port)),
            Key::Protocol => Cell::Protocol(original.protocol),
            Key::State => state(flow).map_or(Cell::None, Cell::State),
            Key::Zone => Cell::Zone(flow.zone.id),
            // The kernel leaves out a mark of 0 (`ctnetlink_dump_mark`).
            Key::Mark => Cell::Mark(flow.mark.map_or(0, |mark| mark.0)),
        }
    }

    fn of_holder(&self, column: usize, holder: HolderRef) -> Cell {
        match holder {
            HolderRef::Known(HolderIndex(index)) => {
                let cell = self.cells[column].get(index as usize).copied();
                cell.unwrap_or(Cell::Nobody(Unattributed::Hidden))
            }
            HolderRef::Outside => Cell::Outside,
            HolderRef::Unattributed(why) => Cell::Nobody(why),
        }
    }

    /// What the cells stand for; `table` names a table by its index.
    pub(super) fn values(&self, cells: Cells, table: impl Fn(u32) -> (u64, String)) -> Vec<Value> {
        let value = |cell: &Cell| match *cell {
            Cell::Holder(index) => match self.holders.get(index as usize) {
                Some(holder) => Value::Holder(holder.clone()),
                None => Value::None,
            },
            Cell::Outside => Value::Holder(Holder::Outside),
            Cell::Nobody(why) => Value::Holder(Holder::Unattributed(why)),
            Cell::Service(service) => Value::Service(service),
            Cell::Table(index) => {
                let (inode, name) = table(index);
                Value::Netns(inode, name)
            }
            Cell::Address(address) => Value::Address(address),
            Cell::Port(protocol, port) => Value::Port(protocol, port),
            Cell::Protocol(protocol) => Value::Protocol(protocol),
            Cell::State(state) => Value::State(state.to_owned()),
            Cell::Zone(zone) => Value::Zone(zone),
            Cell::Mark(mark) => Value::Mark(Mark(mark)),
            Cell::None => Value::None,
        };
        cells.iter().take(self.keys.len()).map(value).collect()
    }

    /// A number for the cells that is the same in another look with another roster.
    pub(super) fn lasting(&self, cells: Cells, inode: u64, secret: Secret) -> u64 {
        let one = |cell: Cell| match cell {
            Cell::Holder(index) => secret.hash_one(self.holders.get(index as usize)),
            Cell::Table(_) => secret.hash_one(inode),
            other => secret.hash_one(other),
        };
        secret.hash_one(cells.map(one))
    }
}

fn is_of_holders(key: Key) -> bool {
    matches!(key, Key::Holder | Key::Container | Key::Pod | Key::Process)
}

/// What a holder is for one of the keys of holders.
fn as_seen_by(key: Key, holder: &Holder) -> Option<Holder> {
    match (key, holder) {
        (Key::Pod, Holder::Pod(pod)) => Some(Holder::Pod(Pod { container: None, ..pod.clone() })),
        (Key::Pod, Holder::Container(_))
        | (
            Key::Pod | Key::Container,
            Holder::Unit { .. } | Holder::Process { .. } | Holder::Namespace { .. },
        ) => None,
        _ => Some(holder.clone()),
    }
}

/// The state as conntrack writes it; of protocols without states, what stands in brackets.
fn state(flow: &Flow) -> Option<&'static str> {
    let bracketed = || match (flow.is_replied(), flow.is_assured()) {
        (_, true) => Some("ASSURED"),
        (false, false) => Some("UNREPLIED"),
        (true, false) => None,
    };
    flow.state.name().or_else(bracketed)
}
