//! How often intervals cover the truth.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use ctkeeper_netlink::Conntrack;
use ctkeeper_snapshot::Figure;
use ctkeeper_tests::sampling::{
    COMPOSITIONS, Composition, Coverage, Dice, Shape, Taken, beginning, census, figure_of, repeat,
    until_enough,
};
use ctkeeper_tests::{Namespace, ensure_harmless};

/// Other tuples on each run.
pub(crate) fn dice() -> Dice {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = now.as_nanos() as u64;
    println!("seed {seed}");
    Dice::new(seed)
}

/// A namespace of its own, and its table.
fn table() -> anyhow::Result<(Namespace, Conntrack)> {
    let namespace = Namespace::create()?;
    let table = namespace.conntrack()?;
    Ok((namespace, table))
}

pub(crate) fn small_tables() -> anyhow::Result<()> {
    covers(2000, &[200, 1000, 1800], 60)
}

pub(crate) fn large_tables() -> anyhow::Result<()> {
    covers(20_000, &[1000, 5000, 15_000], 6)
}

fn covers(entries: u64, sizes: &[u64], runs: u64) -> anyhow::Result<()> {
    ensure_harmless(entries)?;
    let (_namespace, mut table) = table()?;
    let (mut coverage, mut dice) = (Coverage::default(), dice());
    for composition in COMPOSITIONS {
        coverage.merge(&repeat(&mut table, composition, (entries, sizes), runs, &mut dice)?);
    }
    println!("{coverage}");
    coverage.check()
}

/// The same sources in three namespaces, of other sizes, compositions and sample sizes, the last of
/// them read whole: the interval of each source's sum.
pub(crate) fn several_namespaces() -> anyhow::Result<()> {
    const PARTS: [(Composition, u64, u64); 3] = [
        (part(&[0.6, 0.25, 0.1, 0.05]), 3000, 600),
        (part(&[0.02, 0.08, 0.1, 0.8]), 2000, 200),
        (part(&[0.25; 4]), 400, 400),
    ];
    const RUNS: u64 = 60;
    ensure_harmless(5400)?;
    let made = Namespace::create_many(3)?;
    let mut tables = made.iter().map(Namespace::conntrack).collect::<Result<Vec<_>, _>>()?;
    let (mut coverage, mut dice) = (Coverage::default(), dice());
    for _ in 0..RUNS {
        let (mut truth, mut samples) = ([0; 4], Vec::new());
        for (table, (composition, entries, size)) in tables.iter_mut().zip(PARTS) {
            let part = composition.fill(table, entries, &mut dice)?;
            for (sum, entries) in truth.iter_mut().zip(&part.0) {
                *sum += entries;
            }
            samples.push((beginning(table, size)?, part.entries()));
        }
        let taken: Vec<_> =
            samples.iter().map(|(flows, count)| Taken { flows, count: *count }).collect();
        let rows = census(&taken)?;
        let truth = ctkeeper_tests::sampling::Truth(truth.to_vec());
        for (value, entries) in truth.rows() {
            let found = figure_of(&rows, &value, Figure::default());
            coverage.hold("three namespaces", 5400, 1200, entries, found);
        }
        for table in &mut tables {
            table.flush()?;
        }
    }
    println!("{coverage}");
    coverage.check()
}

const fn part(shares: &'static [f64]) -> Composition {
    Composition { name: "part", shares, shape: Shape::Random }
}

/// Of a sample that was said to be enough, every row above 5 % is within a point of the truth, all of
/// them at once in 19 of 20 runs, and whichever is called larger is, or is by less than a point.
pub(crate) fn enough() -> anyhow::Result<()> {
    const ENTRIES: u64 = 24_000;
    const RUNS: u64 = 5;
    ensure_harmless(ENTRIES)?;
    let (_namespace, mut table) = table()?;
    let (mut coverage, mut dice) = (Coverage::default(), dice());
    let (mut runs, mut precise, mut ordered) = (0, 0, 0);
    for composition in COMPOSITIONS {
        let mut sizes = Vec::new();
        for _ in 0..RUNS {
            let truth = composition.fill(&mut table, ENTRIES, &mut dice)?;
            let (seen, rows) = until_enough(&mut table, 20_000)?;
            let point = truth.entries() as f64 / 100.0;
            let missing = ctkeeper_census::figure(0, seen, truth.entries());
            let large: Vec<_> = truth
                .rows()
                .filter(|(_, entries)| *entries * 20 >= ENTRIES)
                .map(|(value, entries)| (figure_of(&rows, &value, missing).value, entries as f64))
                .collect();
            runs += 1;
            precise += u64::from(large.iter().all(|(found, truth)| (found - truth).abs() <= point));
            let order = |(a, b): (&(f64, f64), &(f64, f64))| {
                (a.0 - b.0).signum() == (a.1 - b.1).signum() || (a.1 - b.1).abs() <= point
            };
            ordered += u64::from(large.iter().zip(&large[1..]).all(order));
            for (value, entries) in truth.rows() {
                let found = figure_of(&rows, &value, missing);
                coverage.hold(composition.name, ENTRIES, 0, entries, found);
            }
            sizes.push(seen);
            table.flush()?;
        }
        sizes.sort_unstable();
        println!("{:18} enough at {} to {}", composition.name, sizes[0], sizes[sizes.len() - 1]);
    }
    println!("{runs} tables: {precise} to a point, {ordered} in order\n{coverage}");
    // 30 at 95 %: fewer than 23 would be chance once in ten thousand runs.
    ensure!(precise >= 23, "{precise} of {runs} were within a point");
    ensure!(ordered >= 23, "{ordered} of {runs} were in order");
    coverage.check()
}
