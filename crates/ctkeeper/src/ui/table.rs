//! Tables whose columns fit what stands in them, written as the rows come.

use std::borrow::Cow;
use std::io::{self, Write};

use anstyle::Style;

use super::{Screen, wrap};

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
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    screen: Screen,
    /// Rows held back; `None` once the widths are settled.
    waiting: Option<Vec<Vec<Cell>>>,
    /// Of each column; `None` for one that is not shown.
    widths: Vec<Option<usize>>,
    /// Rows that are waited for before the widths are settled.
    lookahead: usize,
    /// Whether texts may take several lines where the screen is too narrow.
    folds: bool,
}

impl Table {
    /// A table that is written in one go, or nearly so.
    pub(crate) fn new(screen: Screen, columns: Vec<Column>) -> Self {
        let widths = Vec::new();
        Self {
            columns,
            screen,
            waiting: Some(Vec::new()),
            widths,
            lookahead: LOOKAHEAD,
            folds: false,
        }
    }

    /// A table whose rows are shown as they come.
    pub(crate) fn live(screen: Screen, columns: Vec<Column>) -> Self {
        Self { lookahead: 0, ..Self::new(screen, columns) }
    }

    /// A table of sentences: on a narrow screen headings and texts are folded between words before
    /// an optional column is left out.
    pub(crate) fn folding(screen: Screen, columns: Vec<Column>) -> Self {
        Self { folds: true, ..Self::new(screen, columns) }
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
        self.fit(&rows);
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

    /// Folds what may be folded, then leaves out optional columns, the last first, until the rest
    /// fits the terminal.
    fn fit(&mut self, rows: &[Vec<Cell>]) {
        if !self.screen.is_terminal() {
            return;
        }
        let full = self.widths.clone();
        for at in (0..self.columns.len()).rev() {
            self.fold(&full, rows);
            if self.excess() == 0 {
                return;
            }
            if self.columns.get(at).is_some_and(|column| column.optional) {
                self.widths[at] = None;
            }
        }
        if self.lookahead == 0 {
            self.narrow();
        }
    }

    /// Takes from the widest columns what is missing: what comes later may be as narrow.
    fn narrow(&mut self) {
        for _ in 0..self.excess() {
            let Some(widest) = self.widths.iter_mut().flatten().max() else { return };
            *widest = widest.saturating_sub(1).max(GAP.len());
        }
    }

    /// Headings of the columns that have something to show and no room on this screen.
    pub(crate) fn left_out(&self) -> Vec<&str> {
        let mut trial = self.clone();
        let rows = trial.waiting.take().unwrap_or_default();
        let columns = || trial.columns.iter().enumerate();
        let full: Vec<_> = columns().map(|(at, column)| trial.width(at, column, &rows)).collect();
        trial.widths.clone_from(&full);
        trial.fit(&rows);
        let missing = full.iter().zip(&trial.widths).zip(&self.columns);
        let missing = missing.filter(|((full, shown), _)| full.is_some() && shown.is_none());
        missing.map(|(_, column)| column.heading.as_ref()).collect()
    }

    /// How much wider than the screen it is.
    fn excess(&self) -> usize {
        let total: usize = self.widths.iter().flatten().map(|width| width + GAP.len()).sum();
        total.saturating_sub(self.screen.width() + GAP.len())
    }

    /// Gives the columns that are shown as much of their full widths as there is room for: the
    /// widest that can be folded gives way first.
    fn fold(&mut self, full: &[Option<usize>], rows: &[Vec<Cell>]) {
        if !self.folds {
            return;
        }
        for (width, full) in self.widths.iter_mut().zip(full) {
            *width = width.and(*full);
        }
        let least: Vec<_> = (0..self.columns.len()).map(|at| self.unbroken(at, rows)).collect();
        for _ in 0..self.excess() {
            let shown = self.widths.iter_mut().zip(&least);
            let can_give =
                shown.filter_map(|(width, least)| width.as_mut().filter(|w| **w > *least));
            let Some(widest) = can_give.max() else { return };
            *widest -= 1;
        }
    }

    /// The least width of a column: that of its longest word; numbers are not folded at all.
    fn unbroken(&self, at: usize, rows: &[Vec<Cell>]) -> usize {
        let column = &self.columns[at];
        let words =
            |text: &str| text.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
        let cells = rows
            .iter()
            .filter_map(|row| row.get(at))
            .map(|cell| if column.right { cell.text.chars().count() } else { words(&cell.text) });
        cells.max().unwrap_or(0).max(words(&column.heading))
    }

    fn write_row(&self, out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
        if !self.folds {
            return self.write_line(out, cells);
        }
        let folded: Vec<_> = cells
            .iter()
            .zip(&self.widths)
            .map(|(cell, width)| {
                let lines = wrap(&cell.text, width.unwrap_or(usize::MAX));
                (lines, cell.style)
            })
            .collect();
        let shown = folded.iter().zip(&self.widths).filter(|(_, width)| width.is_some());
        let height = shown.map(|((lines, _), _)| lines.len()).max().unwrap_or(0).max(1);
        for at in 0..height {
            let line: Vec<_> = folded
                .iter()
                .map(|(lines, style)| Cell {
                    text: lines.get(at).cloned().unwrap_or_default(),
                    style: *style,
                })
                .collect();
            self.write_line(out, &line)?;
        }
        Ok(())
    }

    fn write_line(&self, out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
        let mut line = String::new();
        // Where the column begins, and where the line ends: a cell that is wider than its column
        // takes the room of the blanks behind the next ones.
        let (mut start, mut end) = (0, 0);
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(&self.widths) {
            let Some(width) = *width else { continue };
            let length = cell.text.chars().count();
            let before = if column.right { width.saturating_sub(length) } else { 0 };
            let at = start + before;
            start += width + GAP.len();
            if length == 0 {
                continue;
            }
            let least = if end == 0 { 0 } else { GAP.len() };
            let blanks = at.saturating_sub(end).max(least);
            line.extend(std::iter::repeat_n(' ', blanks));
            end += blanks + length;
            match cell.style {
                Some(style) => line.push_str(&self.screen.paint(style, &cell.text)),
                None => line.push_str(&cell.text),
            }
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
    fn texts_fold_when_the_screen_is_narrow_and_no_line_is_longer() {
        let rows = [["a name of many words", "12 %", "a note of many words"]];
        let text = drawn(Table::folding(plain(32), columns()), &rows);
        assert!(text.lines().count() > 2 && text.contains("NOTE"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 32), "{text}");
        assert!(text.contains("12 %"), "a number is not folded: {text}");
        let wide = drawn(Table::folding(plain(100), columns()), &rows);
        assert_eq!(wide.lines().count(), 2, "{wide}");
    }

    #[test]
    fn a_live_table_shows_each_row_at_once() {
        let mut table = Table::live(plain(100), columns());
        let mut out = Vec::new();
        table.row(&mut out, vec!["a".into(), "1".into(), "x".into()]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME      N  NOTE\na         1  x\n");
    }

    #[test]
    fn a_live_table_fits_and_makes_up_for_wide_cells() {
        let column = |heading: &'static str, least| Column {
            heading: heading.into(),
            right: false,
            least,
            optional: false,
        };
        let mut table = Table::live(plain(40), vec![column("FROM", 21), column("TO", 21)]);
        let mut out = Vec::new();
        for from in ["10.0.0.1:1", "192.168.100.100:65000"] {
            table.row(&mut out, vec![from.into(), "10.0.0.2:443".into()]).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("192.168.100.100:65000  10.0.0.2:443"), "{text}");
    }

    #[test]
    fn what_is_left_out_is_known() {
        let row = |table: &mut Table| {
            let cells = ["abcdefghijklmnopqrstuvwxyz", "1", "a note"].map(Cell::from);
            table.row(&mut Vec::new(), cells.into()).unwrap();
        };
        let (mut narrow, mut wide) =
            (Table::new(plain(32), columns()), Table::new(plain(100), columns()));
        row(&mut narrow);
        row(&mut wide);
        assert_eq!(narrow.left_out(), ["NOTE"]);
        assert!(wide.left_out().is_empty());
    }

    #[test]
    fn no_rows_no_table() {
        assert_eq!(drawn(Table::new(plain(100), columns()), &[]), "");
    }
}
