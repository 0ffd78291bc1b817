//! Expectations in the forms that `list` and `watch` offer.

use std::io::{self, Write};

use ctkeeper_flow::{EventKind, Expectation, json, text, xml};

use super::entries::{destination, event_cell, source, span};
use super::table::{Cell, Column, Table};
use super::{Format, Output, Screen, printable};
use crate::exit::UsageError;

/// Writes expectations to standard output.
#[derive(Debug)]
pub(crate) struct ExpectationWriter {
    format: Format,
    events: bool,
    out: Output,
    table: Table,
    /// Whether XML's root element is open.
    is_open: bool,
}

impl ExpectationWriter {
    /// Fails for the form that has none of them.
    pub(crate) fn new(format: Format, events: bool, screen: Screen) -> Result<Self, UsageError> {
        if format == Format::Save {
            let message = "expectations have no such form: text, json, xml or columns";
            return Err(UsageError(message.to_owned()));
        }
        let columns = columns(events);
        let table = if events { Table::live(screen, columns) } else { Table::new(screen, columns) };
        Ok(Self { format, events, out: Output::new(), table, is_open: false })
    }

    /// Writes one, with its event if it is one's.
    pub(crate) fn expectation(
        &mut self,
        expectation: &Expectation,
        namespace: Option<&str>,
        event: Option<EventKind>,
    ) -> io::Result<()> {
        match self.format {
            Format::Columns => {
                let cells = cells(expectation, namespace, event, self.events);
                return self.table.row(&mut self.out, cells);
            }
            Format::Json => {
                let options = json::JsonOptions { event, namespace };
                self.out.line(|out| json::write_expectation(expectation, &options, out))?;
            }
            Format::Xml => {
                if !self.is_open {
                    self.is_open = true;
                    writeln!(self.out, "{}<expect>", xml::DECLARATION)?;
                }
                self.out.line(|out| xml::write_expectation(expectation, event, None, out))?;
            }
            Format::Text | Format::Save => {
                self.out.line(|out| text::write_expectation(expectation, event, out))?;
            }
        }
        Ok(())
    }

    /// Shows everything written so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Shows the rest.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.table.finish(&mut self.out)?;
        if std::mem::take(&mut self.is_open) {
            self.out.write_all(b"</expect>\n")?;
        }
        self.out.flush()
    }
}

fn columns(events: bool) -> Vec<Column> {
    let column = |heading: &'static str, right, least, optional| Column {
        heading: heading.into(),
        right,
        least,
        optional,
    };
    let first =
        if events { column("EVENT", false, 7, false) } else { column("NETNS", false, 0, true) };
    vec![
        first,
        column("PROTO", false, 5, false),
        column("EXPIRES", true, 7, false),
        column("FROM", false, 21, false),
        column("TO", false, 21, false),
        column("HELPER", false, 6, false),
        column("MASTER", false, 21, false),
        column("OF MASTER", false, 21, false),
        column("ZONE", true, 0, true),
    ]
}

fn cells(
    expectation: &Expectation,
    namespace: Option<&str>,
    event: Option<EventKind>,
    events: bool,
) -> Vec<Cell> {
    let Expectation { expected, mask, master, zone, .. } = expectation;
    let first = match event {
        Some(event) if events => event_cell(event),
        _ if events => Cell::default(),
        _ => printable(namespace.unwrap_or("")).into(),
    };
    // Of the source, what the mask leaves out may be anything.
    let from = match mask.source_port() {
        Some(0) => expected.source.to_string(),
        _ => source(expected),
    };
    let from = if mask.source.is_unspecified() { "any".to_owned() } else { from };
    let zone = if zone.id == 0 { String::new() } else { zone.id.to_string() };
    vec![
        first,
        expected.protocol.to_string().into(),
        expectation.timeout.map_or_else(String::new, span).into(),
        from.into(),
        destination(expected).into(),
        expectation.helper.as_ref().map_or_else(String::new, |helper| printable(helper)).into(),
        source(master).into(),
        destination(master).into(),
        zone.into(),
    ]
}
