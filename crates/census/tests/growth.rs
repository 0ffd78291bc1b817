//! Growth by row, from two samples of tables whose every change is known.

mod common;

use std::net::{IpAddr, Ipv4Addr};

use common::{HOST, WEB, WEB_NETNS, roster, udp};
use ctkeeper_census::{Clock, Counter, Panel, Rows, TableFacts};
use ctkeeper_flow::{Flow, Limit};
use ctkeeper_snapshot::{Figure, Key, Roster, Value};

/// A table in the order of its keyed hash: hash, number of the source, number of the entry.
type Table = Vec<(u64, u8, u32)>;

struct Dice(u64);

impl Dice {
    /// A splitmix64 generator: the test is the same on every run.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn flow(source: u8, number: u32) -> Flow {
    let mut flow = udp("192.0.2.8:9", "198.51.100.1:53");
    flow.original.source = IpAddr::from([10, 0, 0, source]);
    flow.original.destination = IpAddr::V4(Ipv4Addr::from_bits(number));
    flow
}

fn add(table: &mut Table, dice: &mut Dice, source: u8, entries: u32) {
    for _ in 0..entries {
        table.push((dice.roll(), source, dice.roll() as u32));
    }
    table.sort_unstable();
}

/// Removes one in so many of a source's.
fn remove(table: &mut Table, dice: &mut Dice, source: u8, one_in: u64) -> u32 {
    let before = table.len();
    table.retain(|(_, of, _)| *of != source || !dice.roll().is_multiple_of(one_in));
    (before - table.len()) as u32
}

/// Looks at the first `size` entries.
fn look<'a>(roster: &'a Roster, table: &Table, size: usize, before: Option<&Panel>) -> Counter<'a> {
    let mut counter = Counter::new(&[Key::Source], roster).unwrap();
    counter.keep_panel(before);
    let count = table.len() as u64;
    let facts = TableFacts { inode: HOST, name: String::new(), count, limit: Limit(0) };
    let mut counting = counter.table(facts, Clock::default());
    for (_, source, number) in table.iter().take(size) {
        counting.add(&flow(*source, *number));
    }
    counting.finish(size >= table.len());
    counter
}

/// Rows after a second look, ten seconds after the first.
fn grown(first: &Table, second: &Table, sizes: (usize, usize)) -> Rows {
    let roster = Roster::default();
    let before = look(&roster, first, sizes.0, None).take_panel().unwrap();
    let now = look(&roster, second, sizes.1, Some(&before));
    let growth = now.panel().unwrap().growth_since(&before, 10.0);
    now.rows(10, Some(&growth))
}

fn of(rows: &Rows, source: u8) -> Option<Figure> {
    let value = Value::Address(IpAddr::from([10, 0, 0, source]));
    rows.rows.iter().find(|row| row.values[0] == value)?.growth
}

/// One row grows much, one shrinks, one turns over without growing, one stands still.
#[test]
fn intervals_cover_the_true_growth_as_often_as_they_say() {
    let mut covered = [0_u32; 4];
    let runs = 150;
    for run in 0..runs {
        let mut dice = Dice(run);
        let mut first = Table::new();
        for source in 0..4 {
            add(&mut first, &mut dice, source, 2500);
        }
        let mut second = first.clone();
        add(&mut second, &mut dice, 0, 1500);
        let lost = remove(&mut second, &mut dice, 1, 4);
        let turned_over = remove(&mut second, &mut dice, 2, 5);
        add(&mut second, &mut dice, 2, turned_over);
        let rows = grown(&first, &second, (1000, 1000));
        let truth = [150.0, -f64::from(lost) / 10.0, 0.0, 0.0];
        for (source, truth) in (0..).zip(truth) {
            let Some(Figure { low, high, .. }) = of(&rows, source) else { continue };
            covered[usize::from(source)] += u32::from(low <= truth && truth <= high);
        }
    }
    println!("covered of {runs}: {covered:?}");
    for covered in &covered[..3] {
        assert!((134..=149).contains(covered), "of {runs}: {covered}");
    }
    assert_eq!(covered[3], 150, "what stands still is seen to");
}

/// What stays costs no certainty: independent samples would tell growth to ±40 a second here.
#[test]
fn standing_entries_cost_no_certainty() {
    let mut dice = Dice(7);
    let mut first = Table::new();
    add(&mut first, &mut dice, 1, 20_000);
    let mut second = first.clone();
    add(&mut second, &mut dice, 1, 100);
    let Figure { low, high, .. } = of(&grown(&first, &second, (2000, 2000)), 1).unwrap();
    assert!(low <= 10.0 && 10.0 <= high && high - low < 15.0, "{low} to {high}");
}

#[test]
fn whole_tables_grow_exactly() {
    let mut dice = Dice(7);
    let mut first = Table::new();
    add(&mut first, &mut dice, 1, 500);
    let mut second = first.clone();
    add(&mut second, &mut dice, 1, 70);
    add(&mut second, &mut dice, 2, 30);
    let rows = grown(&first, &second, (1000, 1000));
    let exactly = |rate: f64| Some(Figure { value: rate, low: rate, high: rate });
    assert_eq!((of(&rows, 1), of(&rows, 2)), (exactly(7.0), exactly(3.0)));
}

/// A table that doubles pushes the end of the range that both looks share forwards, one that halves
/// backwards; other sizes of the samples do no harm.
#[test]
fn looks_of_other_sizes_share_what_the_shorter_reaches() {
    let mut dice = Dice(7);
    let mut first = Table::new();
    add(&mut first, &mut dice, 1, 10_000);
    let mut second = first.clone();
    add(&mut second, &mut dice, 1, 10_000);
    for sizes in [(1000, 1000), (3000, 1000), (1000, 3000)] {
        let Figure { low, high, .. } = of(&grown(&first, &second, sizes), 1).unwrap();
        assert!(low <= 1000.0 && 1000.0 <= high, "{sizes:?}: {low} to {high}");
        let Figure { low, high, .. } = of(&grown(&second, &first, sizes), 1).unwrap();
        assert!(low <= -1000.0 && -1000.0 <= high, "{sizes:?}: {low} to {high}");
    }
}

/// A resize of the hash table changes the order within what was one bucket.
#[test]
fn a_resize_does_no_harm() {
    let mut dice = Dice(9);
    let mut first = Table::new();
    add(&mut first, &mut dice, 1, 20_000);
    let mut second = first.clone();
    for bucket in second.chunks_mut(16) {
        bucket.reverse();
    }
    let Figure { value, .. } = of(&grown(&first, &second, (2005, 2005)), 1).unwrap();
    assert!(value.abs() < 1e-9, "{value}");
}

/// Of a table with another key (a namespace's inode used again, another boot) nothing is said.
#[test]
fn other_entries_say_nothing() {
    let mut dice = Dice(9);
    let (mut first, mut second) = (Table::new(), Table::new());
    add(&mut first, &mut dice, 1, 5000);
    add(&mut second, &mut dice, 1, 5000);
    assert_eq!(of(&grown(&first, &second, (1000, 1000)), 1), None);
    // The same entries in another order.
    let mut shuffled: Table =
        first.iter().map(|(_, source, number)| (dice.roll(), *source, *number)).collect();
    shuffled.sort_unstable();
    assert_eq!(of(&grown(&first, &shuffled, (1000, 1000)), 1), None);
}

#[test]
fn owners_grow_by_their_counts() {
    let roster = roster();
    let look = |count, before: Option<&Panel>| {
        let mut counter = Counter::new(&[Key::Holder], &roster).unwrap();
        counter.keep_panel(before);
        let facts = TableFacts { inode: WEB_NETNS, name: String::new(), count, limit: Limit(0) };
        counter.add_owned(facts, WEB);
        counter
    };
    let before = look(500, None).take_panel().unwrap();
    let now = look(450, Some(&before));
    let growth = now.panel().unwrap().growth_since(&before, 10.0);
    let rate = now.rows(1, Some(&growth)).rows[0].growth.unwrap();
    assert_eq!(rate, Figure { value: -5.0, low: -5.0, high: -5.0 });
}
