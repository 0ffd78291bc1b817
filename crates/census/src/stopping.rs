//! When a sample is large enough.

use crate::TableCounter;
use crate::estimate::figure_at;

/// Tables with no more entries are read to their end: about 43 ms.
const SMALL: u64 = 13_000;
/// The first look at a sample, and by how much it grows from look to look.
const FIRST: u64 = 4000;
const GROWTH: (u64, u64) = (5, 4);
/// Rows are known when their share is known to so much. A hundredth of the table.
const MARGIN: f64 = 0.01;
/// Rows that have to be: those above a twentieth, and whoever may be, given the margin.
const WORTH_KNOWING: f64 = 0.04;
/// Of so many at a time, each at a confidence of 95 % by 25: `z` for `1 - 0.05 / rows`, two-sided.
const SIMULTANEOUS: [f64; 25] = [
    1.9600, 2.2414, 2.3940, 2.4977, 2.5758, 2.6383, 2.6901, 2.7344, 2.7729, 2.8070, 2.8376, 2.8653,
    2.8905, 2.9137, 2.9352, 2.9552, 2.9738, 2.9913, 3.0078, 3.0233, 3.0381, 3.0520, 3.0654, 3.0781,
    3.0902,
];

/// Tells when to stop reading a table.
///
/// A sample is enough when every row above 5 % is known to ±1 point of the table, all of them at
/// once with 95 % confidence, and the order of these rows is settled: of two neighbours, which one
/// is larger is known, or that they differ by no more than a point. Otherwise it grows, by a quarter
/// at a time, until the budget ends. Whatever the table holds, 13,000 entries are enough for the
/// former (two rows of one half each); more are read for the order alone.
///
/// "At once" is by Bonferroni: of `m` rows each is held to `1 - 0.05 / m`; there are no more than 25.
/// Stopping looks at how wide intervals are, hardly at where they lie, so that it does not bend their
/// coverage, as measured (suite `sampling`).
///
/// Entries may be counted before the sockets of local processes are known, which are then one row,
/// hidden: it is held to be two of one half each, the parts of which least is known.
#[derive(Clone, Copy, Debug)]
pub struct Stopping {
    next: u64,
    budget: u64,
}

impl Stopping {
    /// For a table of `count` entries, of which no more than `budget` are to be read.
    pub fn new(count: u64, budget: u64) -> Self {
        if count <= SMALL.min(budget) {
            // It may have grown since it was counted.
            return Self { next: u64::MAX, budget: budget.max(2 * SMALL) };
        }
        Self { next: FIRST.min(budget), budget }
    }

    /// Whether what was counted is enough, or the budget has ended: to be asked after each entry.
    #[inline]
    pub fn is_enough(&mut self, table: &TableCounter<'_, '_>) -> bool {
        let seen = table.seen();
        if seen >= self.budget {
            return true;
        }
        if seen < self.next {
            return false;
        }
        self.next = seen * GROWTH.0 / GROWTH.1 + 1;
        is_precise(table.hits(), seen, table.count())
    }
}

/// Whether rows with so many hits of `seen` entries are known well enough, in a table of `count`.
fn is_precise(hits: impl Iterator<Item = (u64, bool)>, seen: u64, count: u64) -> bool {
    let worth = ((WORTH_KNOWING * seen as f64) as u64).max(1);
    let (mut rows, mut parts) = (Vec::new(), Vec::new());
    for (hits, is_undivided) in hits {
        if hits < worth {
            continue;
        }
        if is_undivided && hits > seen / 2 {
            parts.extend([seen / 2, hits - seen / 2]);
        } else if is_undivided {
            parts.push(hits);
        } else {
            rows.push(hits);
        }
    }
    rows.sort_unstable_by(|a, b| b.cmp(a));
    let Some(at) = (rows.len() + parts.len()).checked_sub(1) else { return true };
    let z = SIMULTANEOUS[at.min(SIMULTANEOUS.len() - 1)];
    let known = |hits: &u64| {
        let figure = figure_at(*hits, seen, count, z);
        figure.high - figure.low <= 2.0 * MARGIN * count.max(seen) as f64
    };
    let ordered = |pair: &[u64]| is_ordered(pair[0], pair[1], seen, count, z);
    rows.iter().chain(&parts).all(known) && rows.windows(2).all(ordered)
}

/// Whether the larger of two rows is known to be, or both to be the same but for the margin.
fn is_ordered(larger: u64, smaller: u64, seen: u64, count: u64, z: f64) -> bool {
    let size = seen as f64;
    let difference = (larger - smaller) as f64 / size;
    let both = (larger + smaller) as f64 / size;
    let left = count.saturating_sub(seen) as f64 / count.saturating_sub(1).max(1) as f64;
    let spread = z * ((both - difference * difference) / size * left).sqrt();
    difference > spread || difference + spread <= MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUGE: u64 = 1 << 40;

    fn precise(shares: &[f64], seen: u64, count: u64) -> bool {
        let hits = shares.iter().map(|share| ((share * seen as f64) as u64, false));
        is_precise(hits, seen, count)
    }

    #[test]
    fn thirteen_thousand_are_enough_for_any_composition() {
        for rows in 1..=25_u32 {
            let share = 1.0 / f64::from(rows);
            let size = 13_000.0;
            let figure =
                figure_at((share * size) as u64, 13_000, HUGE, SIMULTANEOUS[rows as usize - 1]);
            let margin = (figure.high - figure.low) / 2.0 / HUGE as f64;
            // One row alone is 100 %, or has others beside it.
            assert!(margin <= MARGIN, "{rows} rows: {margin}");
        }
        assert!(precise(&[0.6, 0.4], 13_000, HUGE));
        assert!(!precise(&[0.6, 0.4], 9_000, HUGE));
    }

    #[test]
    fn what_is_not_told_apart_is_held_to_be_halves() {
        let of = |seen: u64| is_precise([(seen * 99 / 100, true)].into_iter(), seen, HUGE);
        assert!(!of(9000) && of(13_000));
        assert!(precise(&[0.99], 9000, HUGE));
    }

    #[test]
    fn order_takes_more() {
        assert!(!precise(&[0.505, 0.495], 13_000, HUGE));
        assert!(precise(&[0.505, 0.495], 70_000, HUGE));
        assert!(precise(&[0.5, 0.5], 60_000, HUGE), "known to be the same");
        assert!(precise(&[0.30, 0.27, 0.2, 0.1], 20_000, HUGE));
    }

    #[test]
    fn of_a_large_part_less_is_enough() {
        assert!(!precise(&[0.55, 0.45], 9_000, HUGE));
        assert!(precise(&[0.55, 0.45], 9_000, 12_000));
    }

    #[test]
    fn many_small_rows_need_no_more() {
        assert!(precise(&[0.001; 1000], FIRST, HUGE));
        assert!(is_precise(std::iter::empty(), FIRST, HUGE));
    }
}
