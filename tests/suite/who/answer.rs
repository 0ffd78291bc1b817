//! Asking `ctkeeper who`, and finding one's way in its answer.

use std::fmt::Debug;
use std::process::Command;

use anyhow::{Context, ensure};
use ctkeeper_snapshot::{
    Counted, Figure, Holder, Row, Table, Unattributed, Value, WHO_SCHEMA, Who,
};
use ctkeeper_tests::{ctkeeper, run};

/// An answer as `--json` prints it.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(crate) Who);

/// Asks for exact rows, all of them.
pub(crate) fn who(arguments: &[&str]) -> anyhow::Result<Answer> {
    answer_of(ctkeeper(&["who", "--json", "--exact", "--top", "100000"]).args(arguments))
}

/// Runs a command that prints an answer.
pub(crate) fn answer_of(command: &mut Command) -> anyhow::Result<Answer> {
    let output = run(command)?;
    ensure!(output.code == Some(0), "{command:?}: {output:?}");
    let who: Who = serde_json::from_str(&output.stdout)
        .with_context(|| format!("no answer from {command:?}: {output:?}"))?;
    ensure!(who.schema == WHO_SCHEMA, "{}", who.schema);
    Ok(Answer(who))
}

impl Answer {
    /// The row of which the first property is such.
    pub(crate) fn row(
        &self,
        what: impl Debug,
        is: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<&Row> {
        let mut found = self.0.rows.iter().filter(|row| row.values.first().is_some_and(&is));
        let row = found.next().with_context(|| format!("no row of {what:?}: {self}"))?;
        ensure!(found.next().is_none(), "several rows of {what:?}: {self}");
        Ok(row)
    }

    /// The row of a holder.
    pub(crate) fn holder(
        &self,
        what: impl Debug,
        is: impl Fn(&Holder) -> bool,
    ) -> anyhow::Result<&Row> {
        self.row(what, |value| matches!(value, Value::Holder(holder) if is(holder)))
    }

    /// The row of a container by its name, or by the beginning of its id.
    pub(crate) fn container(&self, name: &str) -> anyhow::Result<&Row> {
        self.holder(name, |holder| match holder {
            Holder::Container(container) => match &container.name {
                Some(own) => own == name,
                None => container.id.starts_with(name),
            },
            _ => false,
        })
    }

    /// Whether a container has a row.
    pub(crate) fn has_container(&self, name: &str) -> bool {
        self.container(name).is_ok()
    }

    /// The table of a namespace.
    pub(crate) fn table(&self, inode: u64) -> anyhow::Result<&Table> {
        let table = self.0.tables.iter().find(|table| table.inode == inode);
        table.with_context(|| format!("no table of {inode}: {self}"))
    }

    /// All rows together are what a table's dump has given: nothing is counted twice or left out.
    pub(crate) fn ensure_whole(&self, inode: u64) -> anyhow::Result<()> {
        let Counted::Exactly { entries } = self.table(inode)?.counted else {
            anyhow::bail!("not counted exactly: {self}")
        };
        let rows = self.0.rows.iter().chain(&self.0.other);
        let sum: f64 = rows.map(|row| part(row, inode)).sum();
        ensure!(sum as u64 == entries, "{sum} in rows, {entries} in the table: {self}");
        Ok(())
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for table in &self.0.tables {
            writeln!(f, "\n{} {}: {} {:?}", table.inode, table.name, table.count, table.counted)?;
        }
        for row in &self.0.rows {
            let parts: Vec<_> = row.parts.iter().map(|p| (p.inode, p.entries.value)).collect();
            writeln!(f, "{:?}\n    {parts:?} twice {:?} {:?}", row.values, row.twice, row.make_up)?;
        }
        write!(f, "gaps: {:#?}", self.0.gaps)
    }
}

/// A row's entries in one table.
pub(crate) fn part(row: &Row, inode: u64) -> f64 {
    row.parts.iter().filter(|part| part.inode == inode).map(|part| part.entries.value).sum()
}

/// Fails unless a row has exactly so many entries in a table.
pub(crate) fn ensure_entries(row: &Row, inode: u64, entries: u64) -> anyhow::Result<()> {
    let own: Vec<_> = row.parts.iter().filter(|part| part.inode == inode).collect();
    let [own] = own.as_slice() else { anyhow::bail!("{} parts in {inode}: {row:#?}", own.len()) };
    ensure!(own.entries == Figure::exactly(entries), "{entries} expected: {row:#?}");
    Ok(())
}

/// Fails unless that share of a row's entries was opened by others, by the holder, and between two
/// ends on this host.
pub(crate) fn ensure_directions(row: &Row, shares: [f64; 3]) -> anyhow::Result<()> {
    let make_up = row.make_up.as_ref().with_context(|| format!("not looked at: {row:#?}"))?;
    let [incoming, outgoing, local] = shares;
    let near = |one: f64, other: f64| (one - other).abs() < 0.005;
    let right = near(make_up.incoming, incoming)
        && near(make_up.outgoing, outgoing)
        && near(make_up.local, local);
    ensure!(right, "not {shares:?}: {row:#?}");
    Ok(())
}

/// Whether a row is of somebody who has gone.
pub(crate) fn is_gone(row: &Row) -> bool {
    matches!(
        row.values.first(),
        Some(Value::Holder(Holder::Unattributed(Unattributed::Gone { .. })))
    )
}

/// With `CTKEEPER_SHOW` set, the answer.
pub(crate) fn show(answer: &Answer) {
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        println!("{answer}");
    }
}
