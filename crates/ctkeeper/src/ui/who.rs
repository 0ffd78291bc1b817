//! Who holds the entries: rows, tables, and how they were counted.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use ctkeeper_flow::units;
use ctkeeper_snapshot::{Counted, Figure, Key, MakeUp, Part, Row, Table as Counts, Who};

use super::{Cell, Column, Screen, Table, printable, wrap};

/// Tables named below the rows, at most.
const TABLES: usize = 8;
/// Gaps told, at most.
const GAPS: usize = 5;
/// Characters of a name that are shown, at most: whoever chose it shall not fill the screen.
const NAME: usize = 80;

/// Rows as columns, then the tables and how they were counted.
pub(crate) fn draw(out: &mut impl Write, screen: Screen, who: &Who) -> io::Result<()> {
    rows(out, screen, who)?;
    if who.rows.is_empty() {
        let nothing = if who.tables.is_empty() { "No table could be read." } else { "No entries." };
        writeln!(out, "{nothing}")?;
    }
    notes(out, screen, who)
}

fn rows(out: &mut impl Write, screen: Screen, who: &Who) -> io::Result<()> {
    let mut columns: Vec<Column> = who.by.iter().map(|key| text(&heading(*key), false)).collect();
    let many = who.tables.iter().filter(|table| table.count > 0).count() > 1;
    columns.extend([number("ENTRIES"), number("OF LIMIT")]);
    if who.window_ms.is_some() {
        columns.push(number("GROWTH/s"));
    }
    columns.extend([number("LOCKED"), number("IDLE")]);
    columns.push(text("IN/OUT", true));
    columns.push(text("TOP PEER", true));
    if many && !who.by.contains(&Key::Netns) {
        columns.push(text("NETNS", true));
    }
    let mut table = Table::new(screen, columns);
    let others = who.other.iter().map(|row| (row, true));
    for (row, is_other) in who.rows.iter().map(|row| (row, false)).chain(others) {
        let mut cells = names(who, row, is_other);
        cells.extend([entries(row.entries).into(), of_limit(row.parts.first()).into()]);
        if who.window_ms.is_some() {
            cells.push(row.growth.map_or_else(String::new, growth).into());
        }
        cells.extend(make_up(row.make_up.as_ref()));
        if many && !who.by.contains(&Key::Netns) {
            cells.push(place(who, row).into());
        }
        table.row(out, cells)?;
    }
    table.finish(out)
}

fn names(who: &Who, row: &Row, is_other: bool) -> Vec<Cell> {
    let shown = |at: usize| -> Cell {
        match row.values.get(at) {
            Some(value) => short(&value.to_string()).into(),
            None if is_other && at == 0 => format!("other ({})", units::count(who.others)).into(),
            None => String::new().into(),
        }
    };
    (0..who.by.len()).map(shown).collect()
}

/// A name as it may be shown, its end left out where it is long.
fn short(name: &str) -> String {
    let shown = printable(name);
    match shown.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

fn make_up(make_up: Option<&MakeUp>) -> Vec<Cell> {
    let Some(make_up) = make_up else { return vec!["".into(), "".into(), "".into(), "".into()] };
    let idle = make_up
        .idle_median
        .map_or_else(String::new, |seconds| units::duration(Duration::from_secs(seconds.into())));
    let whole = |share: f64| format!("{:.0}", share * 100.0);
    let ways = format!("{}/{}", whole(make_up.incoming), whole(make_up.outgoing));
    let peer =
        make_up.top_peer.as_ref().map_or_else(String::new, |(peer, _)| short(&peer.to_string()));
    vec![units::percent(make_up.locked).into(), idle.into(), ways.into(), peer.into()]
}

/// The namespaces where a row's entries stand, most first.
fn place(who: &Who, row: &Row) -> String {
    let name = |part: &Part| {
        let table = who.tables.iter().find(|table| table.inode == part.inode);
        table.map_or_else(String::new, |table| short(&table.name))
    };
    match row.parts.as_slice() {
        [] => String::new(),
        [one] => name(one),
        [first, rest @ ..] => format!("{} +{}", name(first), rest.len()),
    }
}

fn entries(figure: Figure) -> String {
    units::count(figure.value.round() as u64)
}

fn growth(figure: Figure) -> String {
    format!("{:+.0}", figure.value)
}

/// Of the limit of the table where most of them stand.
fn of_limit(part: Option<&Part>) -> String {
    let Some(share) = part.and_then(|part| part.of_limit) else { return String::new() };
    match part.and_then(|part| part.of_limit_margin).filter(|margin| *margin > 0.0) {
        Some(margin) => format!("{} ±{:.1}", units::percent(share), margin * 100.0),
        None => units::percent(share),
    }
}

fn notes(out: &mut impl Write, screen: Screen, who: &Who) -> io::Result<()> {
    let counted: Vec<_> = who.tables.iter().filter(|table| table.count > 0).collect();
    let twice: u64 = who.rows.iter().filter_map(|row| row.twice).sum();
    writeln!(out)?;
    for table in counted.iter().take(TABLES) {
        for line in wrap(&sentence(table), screen.width()) {
            writeln!(out, "{line}")?;
        }
    }
    if counted.len() > TABLES {
        let rest: u64 = counted[TABLES..].iter().map(|table| table.count).sum();
        let more = counted.len() - TABLES;
        writeln!(out, "{more} more tables, {} together.", entries_of(rest))?;
    }
    if twice > 0 {
        let words = format!(
            "{} stand in two tables: a network on which Docker tracks twice.",
            entries_of(twice)
        );
        wrap(&words, screen.width()).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    for words in gaps(who) {
        wrap(&words, screen.width()).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    let elapsed = units::duration(Duration::from_secs_f64(who.elapsed_ms.max(0.0) / 1000.0));
    writeln!(out, "Counted in {elapsed}.")
}

/// What could not be read; the same remedy is told once.
pub(crate) fn gaps(who: &Who) -> Vec<String> {
    let mut remedies = Vec::new();
    let mut told = Vec::new();
    for gap in who.gaps.iter().take(GAPS) {
        if remedies.contains(&&gap.remedy) {
            continue;
        }
        remedies.push(&gap.remedy);
        let words = format!("Not known: {} ({}); {}.", gap.what, gap.cause, gap.remedy);
        told.push(printable(&words));
    }
    told
}

/// A table, and how it was counted.
fn sentence(table: &Counts) -> String {
    let how = match table.counted {
        Counted::Owned => "all of one holder, not read".to_owned(),
        Counted::Exactly { .. } => "all read".to_owned(),
        Counted::Sampled { entries } => {
            format!("{} read (95 % intervals; --exact reads all)", units::count(entries))
        }
        Counted::Not => {
            "not read: the host's whole table would have to be walked (--netns NAME does)"
                .to_owned()
        }
    };
    let share = table.limit.share(table.count).map_or_else(String::new, |share| {
        format!(" of {} ({})", units::count(table.limit.0), units::percent(share))
    });
    let name = short(&table.name);
    let refused = table
        .refused_per_second
        .filter(|rate| *rate > 0.0)
        .map_or_else(String::new, |rate| format!("; refused: {rate:.0} packets/s"));
    format!("{name}: {}{share}, {how}{refused}.", entries_of(table.count))
}

fn entries_of(count: u64) -> String {
    units::counted(count, "entry", "entries")
}

fn heading(key: Key) -> String {
    key.name().to_uppercase()
}

fn text(heading: &str, optional: bool) -> Column {
    Column { heading: Cow::Owned(heading.to_owned()), right: false, least: 0, optional }
}

fn number(heading: &'static str) -> Column {
    Column { heading: Cow::Borrowed(heading), right: true, least: 0, optional: false }
}

/// A line for each row, with a heading.
pub(crate) fn csv(out: &mut impl Write, who: &Who) -> io::Result<()> {
    let keys: Vec<_> = who.by.iter().map(|key| key.name()).collect();
    writeln!(
        out,
        "{},entries,entries_low,entries_high,of_limit,growth_per_second,locked,evictable,incoming,\
         outgoing,forwarded,local,idle_median_seconds,top_peer,twice",
        keys.join(",")
    )?;
    let others = who.other.iter();
    for row in who.rows.iter().chain(others) {
        let mut fields: Vec<String> =
            row.values.iter().map(|value| quoted(&value.to_string())).collect();
        if fields.is_empty() {
            fields.push("other".to_owned());
            fields.resize(who.by.len(), String::new());
        }
        fields.extend(figures(row));
        writeln!(out, "{}", fields.join(","))?;
    }
    Ok(())
}

fn figures(row: &Row) -> Vec<String> {
    let shown = |number: Option<f64>| number.map_or_else(String::new, |n| format!("{n:.4}"));
    let whole = |number: f64| format!("{number:.0}");
    let Figure { value, low, high } = row.entries;
    let mut fields = vec![whole(value), whole(low), whole(high)];
    fields.push(shown(row.parts.first().and_then(|part| part.of_limit)));
    fields.push(shown(row.growth.map(|growth| growth.value)));
    let of = |share: fn(&MakeUp) -> f64| shown(row.make_up.as_ref().map(share));
    fields.extend([of(|m| m.locked), of(|m| m.evictable), of(|m| m.incoming)]);
    fields.extend([of(|m| m.outgoing), of(|m| m.forwarded), of(|m| m.local)]);
    let made = row.make_up.as_ref();
    let idle = made.and_then(|made| made.idle_median);
    fields.push(idle.map_or_else(String::new, |seconds| seconds.to_string()));
    let peer = made.and_then(|made| made.top_peer.as_ref());
    fields.push(peer.map_or_else(String::new, |(peer, _)| quoted(&peer.to_string())));
    fields.push(row.twice.map_or_else(String::new, |twice| twice.to_string()));
    fields
}

/// A field as RFC 4180 has it, without control characters.
fn quoted(text: &str) -> String {
    let text = printable(text);
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
