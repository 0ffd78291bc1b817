//! Growth of rows between two looks at the same panel of entries.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use ctkeeper_flow::Flow;
use ctkeeper_snapshot::Figure;

use crate::estimate::{Z, sum};
use crate::hashing::{FastMap, FastSet, Secret};

/// Entries of one table that are kept: one has sixteen bytes.
const KEPT: usize = 1 << 16;
/// Entries that a bucket may hold, so that a resize moves an entry by no more.
const BUCKET: usize = 64;
/// One in so many may be further off before the looks count as not of the same panel.
const MISPLACED: usize = 20;

/// What a look saw of each table, to be held against the next look.
///
/// A dump comes in the order of a keyed hash that stays the same for a boot, so two samples of a
/// table are of the same range of hash values, as far as the shorter reaches: of the same entries,
/// but for those that came and went. What stayed adds no uncertainty to growth, unlike with two
/// independent samples. The end of the range is the last entry that both looks have seen; whatever
/// vanished meanwhile is no such mark, so nothing depends on a single entry's life. Resizing the hash
/// table keeps the order but for entries of one bucket.
#[derive(Clone, Debug)]
pub struct Panel {
    secret: Secret,
    tables: BTreeMap<u64, TablePanel>,
}

/// What a look saw of one table.
#[derive(Clone, Debug, Default)]
pub(crate) struct TablePanel {
    /// In the order of the dump.
    entries: Vec<Seen>,
    /// Entries of the whole table.
    size: u64,
    is_complete: bool,
    /// The row of a table that was not read as it is all its owner's.
    owned: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// What tells it from others: tuple and zone. Not the kernel's id: a connection that ends and
    /// begins again with the same ports is no growth, and no uncertainty either.
    identity: u64,
    row: u64,
}

impl Panel {
    pub(crate) fn after(before: Option<&Self>) -> Self {
        let secret = before.map_or_else(Secret::default, |before| before.secret);
        Self { secret, tables: BTreeMap::new() }
    }

    pub(crate) fn secret(&self) -> Secret {
        self.secret
    }

    pub(crate) fn insert(&mut self, inode: u64, table: TablePanel) {
        self.tables.insert(inode, table);
    }

    /// How the rows grew from `before` to this look, `seconds` later; of tables that only one of
    /// them has nothing is known.
    pub fn growth_since(&self, before: &Self, seconds: f64) -> Growth {
        let pairs =
            self.tables.iter().filter_map(|(inode, now)| Some((before.tables.get(inode)?, now)));
        let changes = pairs.filter_map(|(before, now)| Change::between(before, now));
        Growth { seconds: seconds.max(f64::MIN_POSITIVE), changes: changes.collect() }
    }
}

impl TablePanel {
    pub(crate) fn owned(row: u64, count: u64) -> Self {
        Self { size: count, is_complete: true, owned: Some(row), ..Self::default() }
    }

    #[inline]
    pub(crate) fn add(&mut self, flow: &Flow, row: u64, secret: Secret) {
        if self.entries.len() < KEPT {
            let identity = secret.hash_one((flow.original, flow.zone));
            self.entries.push(Seen { identity, row });
        }
    }

    pub(crate) fn ended(mut self, size: u64, is_complete: bool) -> Self {
        self.size = size;
        self.is_complete = is_complete && self.entries.len() < KEPT;
        self
    }
}

/// How rows grew between two looks.
#[derive(Clone, Debug)]
pub struct Growth {
    seconds: f64,
    changes: Vec<Change>,
}

/// What changed in one table's panel.
#[derive(Clone, Debug, Default)]
struct Change {
    /// The panel's share of the table.
    share: f64,
    /// Standard deviation of `share`, as a share of it.
    deviation: f64,
    /// By row: entries that came, entries that went.
    rows: FastMap<u64, (u64, u64)>,
}

impl Growth {
    /// Entries a second that rows gained, less those that they lost: of the row of this number, in
    /// all tables; `None` where no table is in both looks.
    pub(crate) fn of_row(&self, row: u64) -> Option<Figure> {
        self.of(|change| change.rows.get(&row).copied().unwrap_or_default())
    }

    /// The same of all rows but these.
    pub(crate) fn of_others(&self, shown: &FastSet<u64>) -> Option<Figure> {
        self.of(|change| {
            let others = change.rows.iter().filter(|(row, _)| !shown.contains(row));
            others.fold((0, 0), |sum, (_, (came, went))| (sum.0 + came, sum.1 + went))
        })
    }

    fn of(&self, moved: impl Fn(&Change) -> (u64, u64)) -> Option<Figure> {
        if self.changes.is_empty() {
            return None;
        }
        let figures = self.changes.iter().map(|change| change.figure(moved(change), self.seconds));
        Some(sum(figures))
    }
}

impl Change {
    fn between(before: &TablePanel, now: &TablePanel) -> Option<Self> {
        match (before.owned, now.owned) {
            (Some(then), Some(row)) => {
                return Some(Self::owned((then, before.size), (row, now.size)));
            }
            (None, None) => {}
            _ => return None,
        }
        let places: FastMap<u64, usize> =
            before.entries.iter().enumerate().map(|(at, seen)| (seen.identity, at)).collect();
        let range = Range::common(before, now, &places)?;
        let mut rows: FastMap<u64, (u64, u64)> = FastMap::default();
        let mut met = FastSet::default();
        for (at, seen) in now.entries.iter().enumerate() {
            if !met.insert(seen.identity) {
                continue;
            }
            let then = places.get(&seen.identity).map(|at| before.entries[*at].row);
            // One that stands on the other side of the end in the other look has not moved.
            if then == Some(seen.row) || at >= range.now {
                continue;
            }
            rows.entry(seen.row).or_default().0 += 1;
            if let Some(then) = then {
                rows.entry(then).or_default().1 += 1;
            }
        }
        for seen in before.entries.iter().take(range.before) {
            if !met.contains(&seen.identity) {
                rows.entry(seen.row).or_default().1 += 1;
            }
        }
        let (share, deviation) = range.share(before, now);
        Some(Self { share, deviation, rows })
    }

    fn owned((then, before): (u64, u64), (row, now): (u64, u64)) -> Self {
        let mut rows: FastMap<u64, (u64, u64)> = FastMap::default();
        if then == row {
            rows.insert(row, (now.saturating_sub(before), before.saturating_sub(now)));
        } else {
            rows.insert(then, (0, before));
            rows.insert(row, (now, 0));
        }
        Self { share: 1.0, deviation: 0.0, rows }
    }

    fn figure(&self, (came, went): (u64, u64), seconds: f64) -> Figure {
        let scale = 1.0 / (self.share * seconds);
        let [came, went] = [came, went].map(|moved| self.poisson(moved));
        let gone = Figure { value: -went.value, low: -went.high, high: -went.low };
        let net = sum([came, gone]);
        let of_share = Z * self.deviation * net.value.abs();
        let blurred = Figure { value: 0.0, low: -of_share, high: of_share };
        let Figure { value, low, high } = sum([net, blurred]);
        Figure { value: value * scale, low: low * scale, high: high * scale }
    }

    /// How many came (or went) in the panel's share of the table when chance had been average: the
    /// score interval of a rare event's count, narrowed by the share that was seen.
    fn poisson(&self, moved: u64) -> Figure {
        let z2 = Z * Z * (1.0 - self.share).max(0.0);
        let value = moved as f64;
        let spread = (z2 * (value + z2 / 4.0)).sqrt();
        let centre = value + z2 / 2.0;
        Figure { value, low: (centre - spread).max(0.0), high: centre + spread }
    }
}

/// The part of two looks that is of the same range of hash values, as counts of their first entries.
#[derive(Clone, Copy, Debug)]
struct Range {
    before: usize,
    now: usize,
    is_whole: bool,
}

impl Range {
    /// `None` when the looks have no entry in common, or have them in another order.
    fn common(before: &TablePanel, now: &TablePanel, places: &FastMap<u64, usize>) -> Option<Self> {
        if before.is_complete && now.is_complete {
            let (before, now) = (before.entries.len(), now.entries.len());
            return Some(Self { before, now, is_whole: true });
        }
        let seen = now.entries.iter().enumerate();
        let in_both: Vec<_> =
            seen.filter_map(|(at, seen)| Some((*places.get(&seen.identity)?, at))).collect();
        let &(end_before, end_now) = in_both.last()?;
        let range = Self { before: end_before, now: end_now, is_whole: false };
        are_in_order(&in_both).then_some(range)
    }

    /// The range's share of the table, and how uncertain that is.
    fn share(self, before: &TablePanel, now: &TablePanel) -> (f64, f64) {
        if self.is_whole {
            return (1.0, 0.0);
        }
        let seen = (self.before + self.now).max(1) as f64;
        let share = (seen / (before.size + now.size).max(1) as f64).min(1.0);
        // Most of the second look's entries are the first one's: they count once.
        let different = self.before.max(self.now).max(1) as f64;
        (share, ((1.0 - share) / different).sqrt())
    }
}

/// Whether entries come in the same order in both looks, given their places in the first in the order
/// of the second: but for those of one bucket, which a resize turns round.
fn are_in_order(in_both: &[(usize, usize)]) -> bool {
    let mut first: Vec<_> = in_both.iter().map(|(before, _)| *before).zip(0_usize..).collect();
    first.sort_unstable();
    let near = (in_both.len() / 4).clamp(8, BUCKET);
    let misplaced = first.iter().zip(0..).filter(|((_, now), then)| now.abs_diff(*then) > near);
    misplaced.count() <= in_both.len() / MISPLACED
}
