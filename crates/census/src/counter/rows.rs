//! Rows with their figures.

use ctkeeper_snapshot::{Figure, Key, MakeUp, Part, Row};

use super::{Counter, Slot, Stratum};
use crate::estimate::{figure, sum};
use crate::hashing::FastSet;
use crate::panel::Growth;

/// The largest rows, and all others together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The largest, most entries first.
    pub rows: Vec<Row>,
    /// The others together; absent when there are none.
    pub other: Option<Row>,
    /// How many those are, as far as was looked.
    pub others: u64,
}

impl Counter<'_> {
    /// The `top` largest rows and all others together, with growth where it was measured.
    ///
    /// A row's figure is the sum over tables of its share of each table's sample, scaled by the
    /// kernel's own count; tables that were sampled without meeting the row widen its interval by as
    /// much as may have been missed there.
    pub fn rows(&self, top: usize, growth: Option<&Growth>) -> Rows {
        let weight =
            |slot: &Slot| slot.hits().map(|(table, hits)| self.scaled(table, hits)).sum::<f64>();
        let mut ranked: Vec<_> = self.slots.iter().map(|slot| (weight(slot), slot)).collect();
        let order = |a: &(f64, &Slot), b: &(f64, &Slot)| {
            b.0.total_cmp(&a.0).then_with(|| a.1.cells.cmp(&b.1.cells))
        };
        let rest = if top < ranked.len() {
            if top > 0 {
                ranked.select_nth_unstable_by(top - 1, order);
            }
            ranked.split_off(top)
        } else {
            Vec::new()
        };
        ranked.sort_by(order);
        let rows: Vec<_> = ranked.iter().map(|(_, slot)| self.row(slot, growth)).collect();
        let shown: Vec<_> = ranked.iter().map(|(_, slot)| *slot).collect();
        let others = rest.len() as u64 + self.forgotten;
        let rest: Vec<_> = rest.iter().map(|(_, slot)| *slot).collect();
        let other = (others > 0).then(|| self.other(&shown, &rest, growth));
        Rows { rows, other, others }
    }

    fn row(&self, slot: &Slot, growth: Option<&Growth>) -> Row {
        let parts = slot.hits().map(|(table, hits)| self.part(table, hits)).collect();
        let mut entries = self.total(slot.hits());
        if slot.missed > 0 {
            let heaviest = self.tables.iter().map(Stratum::weight).fold(1.0, f64::max);
            entries.high += slot.missed as f64 * heaviest;
        }
        let table = |index: u32| {
            let facts = &self.tables[index as usize].facts;
            (facts.inode, facts.name.clone())
        };
        Row {
            values: self.columns.values(slot.cells, table),
            entries,
            parts: most_first(parts),
            twice: None,
            growth: growth.and_then(|growth| growth.of_row(slot.lasting)),
            make_up: slot
                .shares
                .make_up(slot.detail.as_deref(), self.roster)
                .map(|made| MakeUp { ghosts: self.marks_ghosts.then_some(slot.ghosts), ..made }),
        }
    }

    /// All entries that are not of the shown rows.
    fn other(&self, shown: &[&Slot], rest: &[&Slot], growth: Option<&Growth>) -> Row {
        let mut hits: Vec<_> = self.tables.iter().map(Stratum::known).collect();
        for slot in shown {
            for (table, own) in slot.hits() {
                hits[table as usize] -= own;
            }
        }
        let mut shares = self.forgotten_shares;
        for slot in rest {
            shares.merge(&slot.shares);
        }
        let hits: Vec<_> = (0..).zip(hits).filter(|(_, hits)| *hits > 0).collect();
        let parts = hits.iter().map(|(table, hits)| self.part(*table, *hits)).collect();
        let growth = growth.and_then(|growth| {
            let shown: FastSet<u64> = shown.iter().map(|slot| slot.lasting).collect();
            growth.of_others(&shown)
        });
        Row {
            values: Vec::new(),
            entries: self.total(hits.iter().copied()),
            parts: most_first(parts),
            twice: None,
            growth,
            make_up: shares.make_up(None, self.roster),
        }
    }

    /// The sum over all tables, also those where none was met: the table's own number of a row by
    /// namespace is certain there.
    fn total(&self, hits: impl Iterator<Item = (u32, u64)>) -> Figure {
        let is_by_table = self.columns.keys.contains(&Key::Netns);
        let mut hits = hits.peekable();
        let figures = self.tables.iter().zip(0..).map(|(table, number)| {
            match hits.next_if(|(at, _)| *at == number) {
                Some((_, hits)) => table.figure(hits),
                // A table that was not looked at is in no row.
                None if is_by_table || table.known() == 0 => Figure::default(),
                None => table.figure(0),
            }
        });
        sum(figures)
    }

    fn part(&self, table: u32, hits: u64) -> Part {
        let table = &self.tables[table as usize];
        let entries = table.figure(hits);
        let limit = table.facts.limit.entries().map(|limit| limit as f64);
        Part {
            inode: table.facts.inode,
            entries,
            of_limit: limit.map(|limit| entries.value / limit),
            of_limit_margin: limit.map(|limit| (entries.high - entries.low) / 2.0 / limit),
        }
    }

    fn scaled(&self, table: u32, hits: u64) -> f64 {
        hits as f64 * self.tables[table as usize].weight()
    }
}

impl Stratum {
    fn figure(&self, hits: u64) -> Figure {
        figure(hits, self.known(), self.size())
    }

    /// Entries of the table that one sampled entry stands for.
    fn weight(&self) -> f64 {
        self.size() as f64 / self.known().max(1) as f64
    }
}

fn most_first(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by(|a, b| b.entries.value.total_cmp(&a.entries.value));
    parts
}
