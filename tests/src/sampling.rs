//! Whether the census' intervals cover the truth as often as they say: tables of known composition
//! are made in the kernel, the beginnings of real dumps are counted, and each figure is held against
//! what was put in.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;

use anyhow::{Context, ensure};
use ctkeeper_census::{Clock, Counter, Panel, Rows, Stopping, TableFacts, figure};
use ctkeeper_flow::{Flow, Limit, Protocol, ProtocolState, Status, TcpState, Tuple};
use ctkeeper_netlink::{Conntrack, DumpFilter};
use ctkeeper_snapshot::{Figure, Key, Roster, Value};

/// What a table is made of.
#[derive(Clone, Copy, Debug)]
pub struct Composition {
    /// What to call it.
    pub name: &'static str,
    /// Of each source, its share.
    pub shares: &'static [f64],
    /// How its entries differ from each other.
    pub shape: Shape,
}

/// How the entries of a source differ from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In everything, without order.
    Random,
    /// In consecutive ports alone, as those of one client of one server do.
    Consecutive,
    /// Random ones, masqueraded to one address: the reply direction is of another bucket.
    Masqueraded,
}

/// Compositions from even to very skewed.
pub const COMPOSITIONS: &[Composition] = &[
    Composition { name: "skewed", shares: &[0.6, 0.25, 0.1, 0.04, 0.01], shape: Shape::Random },
    Composition { name: "even", shares: &[0.05; 20], shape: Shape::Random },
    Composition { name: "one and a rest", shares: &[0.995, 0.005], shape: Shape::Random },
    Composition { name: "steep", shares: &STEEP, shape: Shape::Random },
    Composition {
        name: "consecutive ports",
        shares: &[0.5, 0.3, 0.15, 0.05],
        shape: Shape::Consecutive,
    },
    Composition { name: "masqueraded", shares: &[0.7, 0.2, 0.1], shape: Shape::Masqueraded },
];

/// Each half of the one before.
const STEEP: [f64; 8] = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015_625, 0.007_812_5, 0.007_812_5];

/// Random numbers (splitmix64; Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Others on each run: the seed is to be printed where a run is to be repeatable.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A table that was filled: how many entries each source has.
#[derive(Clone, Debug, Default)]
pub struct Truth(pub Vec<u64>);

impl Truth {
    /// All entries.
    pub fn entries(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each source's value in a census by source, and its entries.
    pub fn rows(&self) -> impl Iterator<Item = (Value, u64)> {
        (0..).zip(&self.0).map(|(number, entries)| (Value::Address(source(number)), *entries))
    }
}

fn source(number: u8) -> IpAddr {
    IpAddr::from([10, 9, 8, number])
}

impl Composition {
    /// Fills an empty table with about so many fresh entries.
    pub fn fill(
        &self,
        table: &mut Conntrack,
        entries: u64,
        dice: &mut Dice,
    ) -> anyhow::Result<Truth> {
        let shares = self.shares.iter().map(|share| (share * entries as f64).round() as u64);
        let truth = Truth(shares.collect());
        let mut flows = Vec::new();
        for (number, wanted) in (0..).zip(&truth.0) {
            let start = dice.roll();
            flows.extend((0..*wanted).map(|at| self.flow(number, start, at, dice)));
        }
        let batch = table.create_batch(&flows, |_, _| ControlFlow::Continue(()))?;
        // Random tuples meet now and then, and translated ports are the kernel's choice.
        let met = batch.failed * 1000 > entries;
        ensure!(!met, "{} of {entries} entries were refused", batch.failed);
        if batch.failed == 0 { Ok(truth) } else { seen(table, truth.0.len()) }
    }

    fn flow(&self, number: u8, start: u64, at: u64, dice: &mut Dice) -> Flow {
        let (random, port) = (dice.roll(), 1024 + ((start + at) % 60_000) as u16);
        let server = Ipv4Addr::from_bits(0x1400_0000 | (random >> 40) as u32);
        let (client, server) = match self.shape {
            Shape::Consecutive => {
                let block = (start >> 48) as u8;
                ((source(number), port), (IpAddr::from([20, block, 0, number]), 443))
            }
            _ => ((source(number), random as u16 | 1024), (IpAddr::V4(server), 443)),
        };
        let original = Tuple::with_ports(Protocol::TCP, client, server);
        let gateway = (IpAddr::from([192, 0, 2, 1]), client.1);
        let (reply, translated) = match self.shape {
            Shape::Masqueraded => {
                (Tuple::with_ports(Protocol::TCP, server, gateway), Status::SRC_NAT)
            }
            _ => (Tuple::with_ports(Protocol::TCP, server, client), Status::default()),
        };
        Flow {
            original,
            reply,
            status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED | translated,
            state: ProtocolState::tcp(TcpState::Established),
            timeout: Some(3600),
            ..Flow::default()
        }
    }
}

/// What a table holds, read whole.
fn seen(table: &mut Conntrack, sources: usize) -> anyhow::Result<Truth> {
    let mut truth = Truth(vec![0; sources]);
    for flow in table.collect(&DumpFilter::ALL)? {
        let number =
            truth.rows().position(|(value, _)| value == Value::Address(flow.original.source));
        truth.0[number.context("an entry of somebody else")?] += 1;
    }
    Ok(truth)
}

/// The first entries of a dump.
pub fn beginning(table: &mut Conntrack, size: u64) -> anyhow::Result<Vec<Flow>> {
    let mut flows = Vec::with_capacity(size as usize);
    table.sample(size, |flow| flows.push(flow.clone()))?;
    Ok(flows)
}

/// A table's sample: its entries, and how many the table has by the kernel's count.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// The first entries of its dump.
    pub flows: &'a [Flow],
    /// The kernel's count.
    pub count: u64,
}

/// A census by source of samples of one or several tables.
pub fn census(samples: &[Taken<'_>]) -> anyhow::Result<Rows> {
    let roster = Roster::default();
    let mut counter = Counter::new(&[Key::Source], &roster).context("one key")?;
    for (inode, sample) in (1..).zip(samples) {
        let facts = TableFacts { inode, name: String::new(), count: sample.count, limit: Limit(0) };
        let mut table = counter.table(facts, Clock::default());
        for flow in sample.flows {
            table.add(flow);
        }
        table.finish(sample.flows.len() as u64 == sample.count);
    }
    Ok(counter.rows(usize::MAX, None))
}

/// Reads a table until the census says that it is enough; how many that were, and the rows.
pub fn until_enough(table: &mut Conntrack, budget: u64) -> anyhow::Result<(u64, Rows)> {
    let roster = Roster::default();
    let count = u64::from(table.count_and_limit()?.entries);
    let facts = TableFacts { inode: 1, name: String::new(), count, limit: Limit(0) };
    let mut counter = Counter::new(&[Key::Source], &roster).context("one key")?;
    let mut counting = counter.table(facts, Clock::default());
    let mut stopping = Stopping::new(count, budget);
    let dump = table.dump(&DumpFilter::ALL, |flow| {
        counting.add(flow);
        if stopping.is_enough(&counting) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    let seen = counting.seen();
    counting.finish(dump.complete);
    Ok((seen, counter.rows(usize::MAX, None)))
}

/// A row's figure; one that was not met has none of its own.
pub fn figure_of(rows: &Rows, value: &Value, missing: Figure) -> Figure {
    let row = rows.rows.iter().find(|row| row.values.first() == Some(value));
    row.map_or(missing, |row| row.entries)
}

/// How often intervals covered the truth.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    cells: BTreeMap<Cell, Count>,
}

/// What counts are of: composition, entries of the table, size of the sample, share in thousandths.
pub type Cell = (&'static str, u64, u64, u64);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    runs: u64,
    covered: u64,
    /// By intervals of half the width, which do not say the truth.
    by_half: u64,
    /// Half of all widths, as shares of the table.
    margins: f64,
}

impl Coverage {
    /// Holds a figure against the truth.
    pub fn hold(&mut self, name: &'static str, entries: u64, size: u64, truth: u64, found: Figure) {
        let share = (truth as f64 * 1000.0 / entries as f64).round() as u64;
        self.hold_number((name, entries, size, share), truth as f64, found);
    }

    /// Holds any figure against the truth, as one of this cell.
    pub fn hold_number(&mut self, cell: Cell, truth: f64, found: Figure) {
        let (count, entries) = (self.cells.entry(cell).or_default(), cell.1);
        let Figure { value, low, high } = found;
        count.runs += 1;
        count.covered += u64::from(low <= truth && truth <= high);
        let (low, high) = (f64::midpoint(value, low), f64::midpoint(value, high));
        count.by_half += u64::from(low <= truth && truth <= high);
        count.margins += (found.high - found.low) / 2.0 / entries as f64;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (cell, count) in &other.cells {
            let sum = self.cells.entry(*cell).or_default();
            sum.runs += count.runs;
            sum.covered += count.covered;
            sum.by_half += count.by_half;
            sum.margins += count.margins;
        }
    }

    /// Fails unless the intervals covered as often as they say: each cell within what chance allows
    /// (once in some ten thousand runs of the suite it does not), all together closely. And unless
    /// intervals of half the width would have failed: else the counts tell nothing.
    pub fn check(&self) -> anyhow::Result<()> {
        for (cell, count) in &self.cells {
            let runs = count.runs as f64;
            let least = 0.95 * runs - 5.0 * (0.95 * 0.05 * runs).sqrt() - 1.0;
            ensure!(count.covered as f64 >= least, "{cell:?}: {count:?}, at least {least:.1}");
        }
        let (runs, covered, by_half) = self.totals();
        ensure!(runs >= 100, "only {runs} intervals");
        let (covered, by_half) = (covered / runs as f64, by_half / runs as f64);
        // Intervals of one table hang together: some half of them are independent. In small samples
        // Wilson's cover by half a point less on average, as counts are whole numbers.
        let slack = 4.0 * (0.95 * 0.05 / (runs as f64 / 2.0)).sqrt() + 0.006;
        ensure!(covered >= 0.95 - slack, "{covered:.3} of {runs} intervals cover the truth");
        ensure!(by_half < 0.85, "intervals of half the width cover as often: {by_half:.3}");
        Ok(())
    }

    /// How many intervals there were, and how many of them covered the truth.
    pub fn counted(&self) -> (u64, u64) {
        let (runs, covered, _) = self.totals();
        (runs, covered as u64)
    }

    fn totals(&self) -> (u64, f64, f64) {
        let counts = self.cells.values();
        counts.fold((0, 0.0, 0.0), |(runs, covered, by_half), count| {
            (runs + count.runs, covered + count.covered as f64, by_half + count.by_half as f64)
        })
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:18} {:>7} {:>7} {:>7} {:>8} {:>6} {:>8} {:>8}",
            "composition", "entries", "sample", "share", "± points", "runs", "covered", "by half"
        )?;
        for ((name, entries, size, share), count) in &self.cells {
            let of_runs = |number: u64| number as f64 * 100.0 / count.runs as f64;
            writeln!(
                f,
                "{name:18} {entries:7} {size:7} {:5.1} % {:8.2} {:6} {:6.1} % {:6.1} %",
                *share as f64 / 10.0,
                count.margins * 100.0 / count.runs as f64,
                count.runs,
                of_runs(count.covered),
                of_runs(count.by_half),
            )?;
        }
        let (runs, covered, by_half) = self.totals();
        let of_runs = |number: f64| number * 100.0 / runs.max(1) as f64;
        let (covered, by_half) = (of_runs(covered), of_runs(by_half));
        writeln!(f, "all: {runs} intervals, {covered:.2} % cover, of half the width {by_half:.2} %")
    }
}

/// A number for the order in which this boot's hash puts the same few entries.
pub fn order(table: &mut Conntrack) -> anyhow::Result<u64> {
    let composition = Composition { name: "order", shares: &[1.0], shape: Shape::Random };
    composition.fill(table, 50, &mut Dice::new(1))?;
    let flows = beginning(table, 50)?;
    table.flush()?;
    let mut hasher = DefaultHasher::new();
    for flow in flows {
        flow.original.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Fills a table with a composition, again and again, and holds samples of these sizes against what
/// was put in. The table is empty afterwards.
pub fn repeat(
    table: &mut Conntrack,
    composition: &Composition,
    (entries, sizes): (u64, &[u64]),
    runs: u64,
    dice: &mut Dice,
) -> anyhow::Result<Coverage> {
    let mut coverage = Coverage::default();
    for _ in 0..runs {
        let truth = composition.fill(table, entries, dice)?;
        let count = u64::from(table.count_and_limit()?.entries);
        ensure!(count == truth.entries(), "{count} entries, not {}", truth.entries());
        let flows = beginning(table, sizes.iter().copied().max().unwrap_or(0))?;
        for size in sizes {
            let flows = flows.get(..*size as usize).context("a dump cut short")?;
            let rows = census(&[Taken { flows, count }])?;
            for (value, truth) in truth.rows() {
                let found = figure_of(&rows, &value, figure(0, *size, count));
                coverage.hold(composition.name, entries, *size, truth, found);
            }
        }
        table.flush()?;
    }
    Ok(coverage)
}

/// Fills a table, looks at it, changes it, and looks again, so many times: growth of each source
/// against what was changed. `between` may do more between the looks.
pub fn growing(
    table: &mut Conntrack,
    (entries, size, runs): (u64, u64, u64),
    between: &mut dyn FnMut() -> anyhow::Result<()>,
    dice: &mut Dice,
) -> anyhow::Result<Coverage> {
    const THREE: Composition =
        Composition { name: "growth", shares: &[0.4, 0.4, 0.2], shape: Shape::Random };
    const NAMES: [&str; 3] = ["growing", "shrinking", "turning over"];
    let mut coverage = Coverage::default();
    for _ in 0..runs {
        let before = THREE.fill(table, entries, dice)?;
        let roster = Roster::default();
        let panel = look(table, &roster, size, None)?.take_panel().context("a panel")?;
        change(table, entries, dice)?;
        between()?;
        let after = seen(table, 3)?;
        let counter = look(table, &roster, size, Some(&panel))?;
        let growth = counter.panel().context("a panel")?.growth_since(&panel, 1.0);
        let rows = counter.rows(usize::MAX, Some(&growth));
        for ((value, then), (now, name)) in before.rows().zip(after.0.iter().zip(NAMES)) {
            let row = rows.rows.iter().find(|row| row.values.first() == Some(&value));
            let found = row.and_then(|row| row.growth).context("a source without growth")?;
            let cell = (name, entries, size, (then * 1000 + entries / 2) / entries);
            coverage.hold_number(cell, *now as f64 - then as f64, found);
        }
        table.flush()?;
    }
    Ok(coverage)
}

/// One source gains a quarter, one loses a quarter, one has a third replaced.
fn change(table: &mut Conntrack, entries: u64, dice: &mut Dice) -> anyhow::Result<()> {
    let flows = table.collect(&DumpFilter::ALL)?;
    let mut goes = |flow: &&Flow| {
        let mut of = |number, one_in: u64| {
            flow.original.source == source(number) && dice.roll().is_multiple_of(one_in)
        };
        of(1, 4) || of(2, 3)
    };
    let going: Vec<_> = flows.iter().filter(&mut goes).collect();
    table.delete_batch(going, |_, _| ControlFlow::Continue(()))?;
    let more = Composition { name: "more", shares: &[0.1, 0.0, 0.067], shape: Shape::Random };
    let fresh = more.shares.iter().zip(0..).flat_map(|(share, number)| {
        (0..(share * entries as f64) as u64).map(move |at| (number, at))
    });
    let fresh: Vec<_> = fresh.map(|(number, at)| more.flow(number, 0, at, dice)).collect();
    table.create_batch(&fresh, |_, _| ControlFlow::Continue(()))?;
    Ok(())
}

fn look<'a>(
    table: &mut Conntrack,
    roster: &'a Roster,
    size: u64,
    before: Option<&Panel>,
) -> anyhow::Result<Counter<'a>> {
    let mut counter = Counter::new(&[Key::Source], roster).context("one key")?;
    counter.keep_panel(before);
    let count = u64::from(table.count_and_limit()?.entries);
    let facts = TableFacts { inode: 1, name: String::new(), count, limit: Limit(0) };
    let mut counting = counter.table(facts, Clock::default());
    let dump = table.sample(size, |flow| counting.add(flow))?;
    counting.finish(dump.complete);
    Ok(counter)
}
