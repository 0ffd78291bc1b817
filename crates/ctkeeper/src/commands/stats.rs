//! `ctkeeper stats`: the kernel's counters, per CPU.

use std::borrow::Cow;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ctkeeper_flow::{Statistic, Statistics, json, units};

use super::namespaces::Selection;
use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{Cell, Column, Output, Screen, Table, printable, say, wrap};

const EXAMPLES: &str = "\
Examples:
  ctkeeper stats                   counters of this namespace, per CPU
  ctkeeper stats -o text           as `conntrack -S` prints them
  ctkeeper stats --netns all --json | jq 'select(.total.drop > 0) | .namespace'

Counters run since the namespace was made and are 32 bits wide: they wrap. What matters is how they
move: `drop` counts packets refused because the table is full, `insert_failed` with `chaintoolong`
the second wall, chains that are too long for the buckets. `ctkeeper doctor` judges them.
Only what this kernel keeps is shown.";

/// Options of `ctkeeper stats`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatsArgs {
    /// How to write them
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A row for each counter, with what it means
    Columns,
    /// A line for each CPU, as `conntrack -S` prints it
    Text,
    /// One JSON object for each namespace
    Json,
}

/// Shows the counters.
pub(crate) fn run(args: &StatsArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let selection = Selection::of(global)?;
    let screen = Screen::stdout(global.color);
    let format = match args.output {
        Some(Format::Columns | Format::Text) if global.json => {
            return Err(UsageError::two_formats().into());
        }
        Some(format) => format,
        None if global.json => Format::Json,
        None if screen.is_terminal() => Format::Columns,
        None => Format::Text,
    };
    let mut out = Output::new();
    let complete = selection.each_table(|table, label| {
        let cpus = table.statistics()?;
        if cpus.iter().all(Statistics::is_empty) {
            let place = label.map_or_else(String::new, |label| format!(" of {}", printable(label)));
            say!("ctkeeper: this kernel keeps no per-CPU statistics{place}");
            return Ok(());
        }
        match format {
            Format::Columns => columns(&mut out, screen, &cpus, label)?,
            Format::Text => text(&mut out, &cpus, label)?,
            Format::Json => object(&mut out, &cpus, label)?,
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(ExitCode::from(if complete { exit::OK } else { exit::FAILURE }))
}

fn total(cpus: &[Statistics]) -> Statistics {
    cpus.iter().fold(Statistics::default(), |mut total, cpu| {
        total.add(cpu);
        total
    })
}

fn text(out: &mut impl Write, cpus: &[Statistics], label: Option<&str>) -> io::Result<()> {
    for (cpu, statistics) in cpus.iter().enumerate() {
        if let Some(label) = label {
            write!(out, "netns={}\t", printable(label))?;
        }
        write!(out, "cpu={cpu:<4}\t")?;
        for (statistic, value) in statistics.iter() {
            write!(out, "{statistic}={value} ")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn object(out: &mut impl Write, cpus: &[Statistics], label: Option<&str>) -> anyhow::Result<()> {
    write!(out, "{{")?;
    if let Some(label) = label {
        let mut name = Vec::new();
        json::write_string(label, &mut name);
        write!(out, "\"namespace\":")?;
        out.write_all(&name)?;
        write!(out, ",")?;
    }
    let total = serde_json::to_string(&total(cpus))?;
    let cpus = serde_json::to_string(cpus)?;
    writeln!(out, "\"total\":{total},\"cpus\":{cpus}}}")?;
    Ok(())
}

/// A row for each counter: its total, what it means, and as many CPUs as the screen is wide.
fn columns(
    out: &mut impl Write,
    screen: Screen,
    cpus: &[Statistics],
    label: Option<&str>,
) -> io::Result<()> {
    if let Some(label) = label {
        writeln!(out, "{}", screen.paint(Screen::STRONG, &printable(label)))?;
    }
    let total = total(cpus);
    let column =
        |heading: Cow<'static, str>, right, optional| Column { heading, right, least: 0, optional };
    let mut shown = vec![
        column("COUNTER".into(), false, false),
        column("TOTAL".into(), true, false),
        column("MEANING".into(), false, false),
    ];
    shown.extend((0..cpus.len()).map(|cpu| column(format!("CPU{cpu}").into(), true, true)));
    let mut table = Table::new(screen, shown);
    let room = room_for_meaning(&total, screen);
    for (statistic, value) in total.iter() {
        let mut meaning = wrap(meaning(statistic), room).into_iter();
        let first = meaning.next().unwrap_or_default();
        let mut cells: Vec<Cell> =
            vec![statistic.name().into(), value_cell(statistic, value, screen), first.into()];
        cells.extend(cpus.iter().map(|cpu| number(cpu.value(statistic), screen).into()));
        table.row(out, cells)?;
        for rest in meaning {
            let mut cells = vec![Cell::default(), Cell::default(), rest.into()];
            cells.resize(3 + cpus.len(), Cell::default());
            table.row(out, cells)?;
        }
    }
    table.finish(out)?;
    if label.is_some() { writeln!(out) } else { Ok(()) }
}

/// How wide the meanings may be: what name and total leave of the screen.
fn room_for_meaning(total: &Statistics, screen: Screen) -> usize {
    if !screen.is_terminal() {
        return usize::MAX;
    }
    let name = total.iter().map(|(statistic, _)| statistic.name().len()).max().unwrap_or(0);
    let value = total.iter().map(|(_, value)| number(value, screen).len()).max().unwrap_or(0);
    let used = name.max("COUNTER".len()) + value.max("TOTAL".len()) + 4;
    screen.width().saturating_sub(used)
}

/// For people with the thousands apart.
fn number(value: u64, screen: Screen) -> String {
    if screen.is_terminal() { units::count(value) } else { value.to_string() }
}

fn value_cell(statistic: Statistic, value: u64, screen: Screen) -> Cell {
    let alarming = matches!(
        statistic,
        Statistic::Drop | Statistic::InsertFailed | Statistic::EarlyDrop | Statistic::ChainTooLong
    );
    if alarming && value > 0 {
        Cell::styled(number(value, screen), Screen::WARNING)
    } else {
        number(value, screen).into()
    }
}

const fn meaning(statistic: Statistic) -> &'static str {
    match statistic {
        Statistic::Searched => "lookups walked",
        Statistic::Found => "tuples found taken while translating",
        Statistic::New => "new entries",
        Statistic::Invalid => "packets that fit no connection",
        Statistic::Ignore => "packets not tracked",
        Statistic::Delete => "entries deleted",
        Statistic::DeleteList => "entries put on the list of the dying",
        Statistic::Insert => "entries made by netlink",
        Statistic::InsertFailed => "entries that found no place",
        Statistic::Drop => "packets dropped: no entry could be made",
        Statistic::EarlyDrop => "unassured entries evicted to make room",
        Statistic::Error => "ICMP errors of no connection",
        Statistic::SearchRestart => "lookups begun again",
        Statistic::ClashResolve => "clashes settled",
        Statistic::ChainTooLong => "chains too long: the second wall",
    }
}
