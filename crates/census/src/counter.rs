//! Counts entries of one or many tables by a key or a pair of keys.

mod cell;
mod make_up;
mod rows;

use ctkeeper_flow::{Flow, Limit};
use ctkeeper_snapshot::{Counted, HolderIndex, Key, Roster, Table};

use crate::attribution::Attributor;
use crate::hashing::FastMap;
use crate::idle::Clock;
use crate::panel::{Panel, TablePanel};
use cell::{Cells, Columns};
use make_up::{Detail, Shares};
pub use rows::Rows;

/// Rows that are counted exactly. Of more than so many, the rarest are forgotten.
const ROWS: usize = 1 << 17;
/// Rows whose idle times and peers are kept from their first entry.
const DETAILED: usize = 1 << 12;
/// And those that come later and have so many entries.
const WORTH_DETAIL: u64 = 16;
const DETAILED_LATER: usize = 1 << 14;

/// Counts the entries of tables, one after the other, by one key or a pair.
///
/// Memory is bounded whatever the tables hold: up to 131,072 different rows are exact. Beyond, the
/// rarer half is forgotten each time, and a row may be short of up to two entries for each 131,072
/// that were looked at (the "frequent items" algorithm of Misra and Gries, 1982, with removal in
/// bulk); its interval says so. An entry costs about a tenth of a microsecond.
#[derive(Debug)]
pub struct Counter<'a> {
    roster: &'a Roster,
    columns: Columns,
    index: FastMap<Cells, u32>,
    slots: Vec<Slot>,
    tables: Vec<Stratum>,
    /// Of rows that were forgotten.
    forgotten_shares: Shares,
    detailed: usize,
    capacity: usize,
    /// What a row may be short of that was not there before: what those that were forgotten had at
    /// most.
    missed: u64,
    forgotten: u64,
    marks_ghosts: bool,
    panel: Option<Panel>,
}

/// The table that is to be counted.
#[derive(Clone, Debug, Default)]
pub struct TableFacts {
    /// Inode of its namespace.
    pub inode: u64,
    /// The namespace's name, or `host`.
    pub name: String,
    /// The kernel's own count, which a sample stands for.
    pub count: u64,
    /// What the kernel holds it against.
    pub limit: Limit,
}

/// One row's counts.
#[derive(Debug)]
struct Slot {
    cells: Cells,
    /// The same row's number in other looks.
    lasting: u64,
    /// Entries that it may be short of.
    missed: u64,
    /// The last table that has it, by its index, and its entries there.
    last: (u32, u64),
    /// Of the tables before, in order.
    earlier: Vec<(u32, u64)>,
    shares: Shares,
    /// Entries of owners' tables, which were not looked at.
    owned: u64,
    /// Of the entries looked at, ghosts.
    ghosts: u64,
    detail: Option<Box<Detail>>,
}

/// A table that was counted.
#[derive(Debug)]
struct Stratum {
    facts: TableFacts,
    seen: u64,
    is_complete: bool,
    owner: bool,
}

impl<'a> Counter<'a> {
    /// One that counts by these keys, one or two different ones (else `None`), and knows holders by
    /// this roster.
    pub fn new(by: &[Key], roster: &'a Roster) -> Option<Self> {
        Some(Self {
            roster,
            columns: Columns::new(by, roster)?,
            index: FastMap::default(),
            slots: Vec::new(),
            tables: Vec::new(),
            forgotten_shares: Shares::default(),
            detailed: 0,
            capacity: ROWS,
            missed: 0,
            forgotten: 0,
            marks_ghosts: false,
            panel: None,
        })
    }

    /// Whether a row can be told from a namespace's owner alone, so that a namespace with an owner
    /// need not be read: see [`Self::add_owned`].
    pub fn takes_owned(&self) -> bool {
        self.columns.are_of_owners()
    }

    /// From the next table on, keeps what growth is told from: see [`Panel`]. Given the panel of the
    /// look before.
    pub fn keep_panel(&mut self, before: Option<&Panel>) {
        self.panel = Some(Panel::after(before));
    }

    /// Rows tell how many of their entries are ghosts: those that are marked as such
    /// ([`TableCounter::mark_ghost`]).
    pub fn mark_ghosts(&mut self) {
        self.marks_ghosts = true;
    }

    /// Begins a table, looked at at this time.
    pub fn table(&mut self, facts: TableFacts, clock: Clock) -> TableCounter<'_, 'a> {
        let attributor = Attributor::new(self.roster, facts.inode, clock);
        let stratum = Stratum { facts, seen: 0, is_complete: false, owner: false };
        self.tables.push(stratum);
        let number = self.tables.len() as u32 - 1;
        let panel = self.panel.as_ref().map(|_| TablePanel::default());
        TableCounter { counter: self, attributor, number, seen: 0, panel }
    }

    /// Counts a whole table as its owner's, without looking. Only where [`Self::takes_owned`].
    pub fn add_owned(&mut self, facts: TableFacts, owner: HolderIndex) {
        let (count, inode) = (facts.count, facts.inode);
        let number = self.tables.len() as u32;
        self.tables.push(Stratum { facts, seen: 0, is_complete: true, owner: true });
        let cells = self.columns.of_owner(owner, number);
        let slot = self.slot(cells, inode) as usize;
        let slot = &mut self.slots[slot];
        slot.owned += count;
        slot.hit(number, count);
        let lasting = slot.lasting;
        if let Some(panel) = &mut self.panel {
            panel.insert(inode, TablePanel::owned(lasting, count));
        }
    }

    /// The tables as they were counted, in the order in which they came.
    pub fn tables(&self) -> Vec<Table> {
        let table = |stratum: &Stratum| Table {
            inode: stratum.facts.inode,
            name: stratum.facts.name.clone(),
            count: stratum.facts.count,
            limit: stratum.facts.limit,
            counted: stratum.counted(),
            refused_per_second: None,
            growth: None,
        };
        self.tables.iter().map(table).collect()
    }

    /// What growth is told from, if it was to be kept.
    pub fn panel(&self) -> Option<&Panel> {
        self.panel.as_ref()
    }

    /// The same, taken out.
    pub fn take_panel(&mut self) -> Option<Panel> {
        self.panel.take()
    }

    /// Rows that are kept.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[inline]
    fn slot(&mut self, cells: Cells, inode: u64) -> u32 {
        if let Some(slot) = self.index.get(&cells) {
            return *slot;
        }
        self.new_slot(cells, inode)
    }

    fn new_slot(&mut self, cells: Cells, inode: u64) -> u32 {
        if self.slots.len() >= self.capacity {
            self.forget_the_rarest();
        }
        let secret = self.panel.as_ref().map(Panel::secret);
        let lasting = secret.map_or(0, |secret| self.columns.lasting(cells, inode, secret));
        let is_detailed = self.detailed < DETAILED;
        self.detailed += usize::from(is_detailed);
        let number = self.slots.len() as u32;
        self.slots.push(Slot {
            cells,
            lasting,
            missed: self.missed,
            last: (0, 0),
            earlier: Vec::new(),
            shares: Shares::default(),
            owned: 0,
            ghosts: 0,
            detail: is_detailed.then(Box::default),
        });
        self.index.insert(cells, number);
        number
    }

    /// Forgets the rarer half: whoever is forgotten had no more than `missed` entries. The sum of
    /// what is kept falls by half the capacity for each that `missed` rises, so that it never
    /// exceeds twice the entries looked at by the capacity.
    fn forget_the_rarest(&mut self) {
        let most = |slot: &Slot| slot.seen() + slot.missed;
        let mut ranks: Vec<_> = self.slots.iter().map(most).collect();
        let middle = ranks.len() / 2;
        let (_, threshold, _) = ranks.select_nth_unstable(middle);
        let threshold = *threshold;
        self.missed = threshold.max(self.missed);
        let before = self.slots.len();
        let mut detailed = 0;
        let forgotten = &mut self.forgotten_shares;
        self.slots.retain(|slot| {
            let stays = most(slot) > threshold || slot.owned > 0;
            if !stays {
                forgotten.merge(&slot.shares);
            }
            detailed += usize::from(stays && slot.detail.is_some());
            stays
        });
        self.detailed = detailed;
        self.forgotten += (before - self.slots.len()) as u64;
        self.index.clear();
        let numbered = self.slots.iter().zip(0..);
        self.index.extend(numbered.map(|(slot, number)| (slot.cells, number)));
    }

    /// Whether one more row may have details.
    fn takes_detail(&mut self) -> bool {
        let takes = self.detailed < DETAILED_LATER;
        self.detailed += usize::from(takes);
        takes
    }
}

/// Counts the entries of one table.
#[derive(Debug)]
pub struct TableCounter<'c, 'a> {
    counter: &'c mut Counter<'a>,
    attributor: Attributor<'a>,
    number: u32,
    seen: u64,
    panel: Option<TablePanel>,
}

impl<'a> TableCounter<'_, 'a> {
    /// Counts one entry.
    #[inline]
    pub fn add(&mut self, flow: &Flow) {
        let idle = self.attributor.clock().idle(flow);
        let attribution = self.attributor.attribute_idle(flow, idle);
        let counter = &mut *self.counter;
        let cells = counter.columns.of_flow(flow, &attribution, self.number);
        let inode = counter.tables[self.number as usize].facts.inode;
        let number = counter.slot(cells, inode) as usize;
        let slot = &mut counter.slots[number];
        slot.hit(self.number, 1);
        slot.shares.add(flow, attribution.way);
        if let (Some(kept), Some(panel)) = (&mut self.panel, &counter.panel) {
            kept.add(flow, slot.lasting, panel.secret());
        }
        if slot.detail.is_none() && slot.shares.entries >= WORTH_DETAIL && counter.takes_detail() {
            counter.slots[number].detail = Some(Box::default());
        }
        if let Some(detail) = &mut counter.slots[number].detail {
            detail.add(&attribution, idle);
        }
        self.seen += 1;
    }

    /// Counts an entry, which was added already, as a ghost (see [`crate::Suspects`]).
    pub fn mark_ghost(&mut self, flow: &Flow) {
        let attribution = self.attributor.attribute(flow);
        let cells = self.counter.columns.of_flow(flow, &attribution, self.number);
        if let Some(slot) = self.counter.index.get(&cells) {
            self.counter.slots[*slot as usize].ghosts += 1;
        }
    }

    /// Entries counted so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The kernel's own count of the table.
    pub fn count(&self) -> u64 {
        self.counter.tables[self.number as usize].facts.count
    }

    /// Who tells whose the entries are.
    pub fn attributor(&self) -> &Attributor<'a> {
        &self.attributor
    }

    /// Entries of this table by row, in no order, and whether the row may be several holders': those
    /// of local processes, before their sockets are known.
    pub(crate) fn hits(&self) -> impl Iterator<Item = (u64, bool)> {
        let number = self.number;
        let here = move |slot: &&Slot| slot.last.0 == number;
        let hits = |slot: &Slot| (slot.last.1, slot.cells.iter().any(|cell| cell.is_undivided()));
        self.counter.slots.iter().filter(here).map(hits)
    }

    /// Ends the table; `is_complete` when every entry has come, so that it is counted exactly.
    /// Without this it counts as a sample.
    pub fn finish(self, is_complete: bool) {
        let stratum = &mut self.counter.tables[self.number as usize];
        stratum.is_complete = is_complete;
    }
}

impl Drop for TableCounter<'_, '_> {
    fn drop(&mut self) {
        let stratum = &mut self.counter.tables[self.number as usize];
        stratum.seen = self.seen;
        let (inode, size, is_complete) = (stratum.facts.inode, stratum.size(), stratum.is_complete);
        if let (Some(kept), Some(panel)) = (self.panel.take(), &mut self.counter.panel) {
            panel.insert(inode, kept.ended(size, is_complete));
        }
    }
}

impl Slot {
    #[inline]
    fn hit(&mut self, table: u32, entries: u64) {
        if self.last.0 != table {
            if self.last.1 > 0 {
                self.earlier.push(self.last);
            }
            self.last = (table, 0);
        }
        self.last.1 += entries;
    }

    /// By table's index, in order.
    fn hits(&self) -> impl Iterator<Item = (u32, u64)> {
        self.earlier.iter().copied().chain([self.last])
    }

    fn seen(&self) -> u64 {
        self.shares.entries
    }
}

impl Stratum {
    /// The entries that it stands for. Of a table that was read to its end those that came: the
    /// kernel's count has expired ones in it, which nobody has collected yet.
    fn size(&self) -> u64 {
        match (self.owner, self.is_complete) {
            (false, true) => self.seen,
            _ => self.facts.count.max(self.seen),
        }
    }

    /// Entries whose share is known.
    fn known(&self) -> u64 {
        if self.owner { self.facts.count } else { self.seen }
    }

    fn counted(&self) -> Counted {
        match (self.owner, self.is_complete, self.seen) {
            (true, ..) => Counted::Owned,
            (_, true, entries) => Counted::Exactly { entries },
            (_, _, 0) => Counted::Not,
            (_, _, entries) => Counted::Sampled { entries },
        }
    }
}
