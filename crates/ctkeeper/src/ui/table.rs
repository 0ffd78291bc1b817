//! Tables whose columns fit what stands in them, written as the rows come.

use std::borrow::Cow;
use std::io::{self, Write};

use anstyle::Style;

use super::Screen;

/// Rows that are held back to see how wide the columns must be. Memory does not grow beyond.
const LOOKAHEAD: usize = 500;
const GAP: &str = "  ";

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Its heading, upper case.
    pub(crate) heading: Cow<'static, str>,
    /// Whether its cells stand at its right edge, as numbers do.
    pub(crate) right: bool,
    /// Least width, for tables that show each row at once.
    pub(crate) least: usize,
    /// Whether it is left out when empty; of those the last ones go when the screen is too narrow.
    pub(crate) optional: bool,
}

/// Text with a style.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style: Some(style) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: None }
    }
}

/// A table being written.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    screen: Screen,
    /// Rows held back; `None` once the widths are settled.
    waiting: Option<Vec<Vec<Cell>>>,
    /// Of each column; `None` for one that is not shown.
    widths: Vec<Option<usize>>,
    /// Rows that are waited for before the widths are settled.
    lookahead: usize,
}

impl Table {
    /// A table that is written in one go, or nearly so.
    pub(crate) fn new(screen: Screen, columns: Vec<Column>) -> Self {
        let widths = Vec::new();
        Self { columns, screen, waiting: Some(Vec::new()), widths, lookahead: LOOKAHEAD }
    }

    /// A table whose rows are shown as they come.
    pub(crate) fn live(screen: Screen, columns: Vec<Column>) -> Self {
        Self { lookahead: 0, ..Self::new(screen, columns) }
    }

    /// Adds a row: a cell for each column.
    pub(crate) fn row(&mut self, out: &mut impl Write, cells: Vec<Cell>) -> io::Result<()> {
        let Some(waiting) = &mut self.waiting else {
            return self.write_row(out, &cells);
        };
        waiting.push(cells);
        if waiting.len() > self.lookahead { self.settle(out) } else { Ok(()) }
    }

    /// Writes what is held back. A table without rows is not shown.
    pub(crate) fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        match &self.waiting {
            Some(waiting) if !waiting.is_empty() => self.settle(out),
            _ => Ok(()),
        }
    }

    fn settle(&mut self, out: &mut impl Write) -> io::Result<()> {
        let rows = self.waiting.take().unwrap_or_default();
        self.widths = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| self.width(at, column, &rows))
            .collect();
        self.fit();
        let style = Screen::STRONG;
        let headings = self
            .columns
            .iter()
            .map(|column| Cell::styled(column.heading.clone(), style))
            .collect::<Vec<_>>();
        self.write_row(out, &headings)?;
        rows.iter().try_for_each(|row| self.write_row(out, row))
    }

    fn width(&self, at: usize, column: &Column, rows: &[Vec<Cell>]) -> Option<usize> {
        let cells = rows.iter().filter_map(|row| row.get(at));
        let widest = cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0);
        let live = self.lookahead == 0;
        if column.optional && widest == 0 && !live {
            return None;
        }
        let least = if live { column.least } else { 0 };
        Some(widest.max(column.heading.chars().count()).max(least))
    }

    /// Leaves out optional columns, the last first, until the rest fits the terminal.
    fn fit(&mut self) {
        if !self.screen.is_terminal() {
            return;
        }
        let total = |widths: &[Option<usize>]| {
            widths.iter().flatten().map(|width| width + GAP.len()).sum::<usize>()
        };
        for at in (0..self.columns.len()).rev() {
            if total(&self.widths) <= self.screen.width() + GAP.len() {
                return;
            }
            if self.columns.get(at).is_some_and(|column| column.optional) {
                self.widths[at] = None;
            }
        }
    }

    fn write_row(&self, out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
        let mut line = String::new();
        // Blanks are written before the next cell only, so that no line ends in them.
        let mut blanks = 0;
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(&self.widths) {
            let Some(width) = *width else { continue };
            let padding = width.saturating_sub(cell.text.chars().count());
            if cell.text.is_empty() {
                blanks += width + GAP.len();
                continue;
            }
            let (before, after) = if column.right { (padding, 0) } else { (0, padding) };
            line.extend(std::iter::repeat_n(' ', blanks + before));
            match cell.style {
                Some(style) => line.push_str(&self.screen.paint(style, &cell.text)),
                None => line.push_str(&cell.text),
            }
            blanks = after + GAP.len();
        }
        writeln!(out, "{line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        vec![
            Column { heading: "NAME".into(), right: false, least: 6, optional: false },
            Column { heading: "N".into(), right: true, least: 3, optional: false },
            Column { heading: "NOTE".into(), right: false, least: 0, optional: true },
        ]
    }

    fn drawn(mut table: Table, rows: &[[&str; 3]]) -> String {
        let mut out = Vec::new();
        for row in rows {
            table.row(&mut out, row.iter().map(|text| Cell::from(*text)).collect()).unwrap();
        }
        table.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn plain(width: usize) -> Screen {
        Screen::plain(width)
    }

    #[test]
    fn columns_fit_their_cells() {
        let table = Table::new(plain(100), columns());
        let text = drawn(table, &[["a", "1", ""], ["longer", "1000", ""]]);
        assert_eq!(text, "NAME       N\na          1\nlonger  1000\n");
    }

    #[test]
    fn optional_columns_go_when_the_screen_is_narrow() {
        let rows = [["abcdefghijklmnopqrstuvwxyz", "1", "a note"]];
        let wide = drawn(Table::new(plain(100), columns()), &rows);
        assert!(wide.contains("a note"));
        let narrow = drawn(Table::new(plain(32), columns()), &rows);
        assert!(!narrow.contains("NOTE") && narrow.contains("xyz"));
    }

    #[test]
    fn a_live_table_shows_each_row_at_once() {
        let mut table = Table::live(plain(100), columns());
        let mut out = Vec::new();
        table.row(&mut out, vec!["a".into(), "1".into(), "x".into()]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME      N  NOTE\na         1  x\n");
    }

    #[test]
    fn no_rows_no_table() {
        assert_eq!(drawn(Table::new(plain(100), columns()), &[]), "");
    }
}
