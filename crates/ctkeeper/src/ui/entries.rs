//! Entries in the forms that `list` and `watch` offer.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use ctkeeper_flow::save::{self, SaveCommand};
use ctkeeper_flow::{EventKind, Flow, Layer4, Status, Tuple, json, text, units, xml};

use super::table::{Cell, Column, Table};
use super::{Output, Screen, printable};
use crate::exit::UsageError;

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    Columns,
    /// Lines as `conntrack -L` prints them
    Text,
    /// One JSON object a line (docs/json.md)
    Json,
    /// XML as `conntrack -L -o xml` prints it
    Xml,
    /// Commands for `conntrack -R`, as `conntrack -L -o save` prints them
    Save,
}

impl Format {
    /// The format asked for, with `-o` or `--json`; else columns for people and text for programs.
    pub(crate) fn choose(
        asked: Option<Self>,
        json: bool,
        screen: &Screen,
    ) -> Result<Self, UsageError> {
        match asked {
            Some(Self::Columns | Self::Text | Self::Xml | Self::Save) if json => {
                Err(UsageError::two_formats())
            }
            Some(format) => Ok(format),
            None if json => Ok(Self::Json),
            None if screen.is_terminal() => Ok(Self::Columns),
            None => Ok(Self::Text),
        }
    }
}

/// What is shown beside the entry itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras {
    /// The layer 3 family, in text.
    pub(crate) extended: bool,
    /// The kernel's id.
    pub(crate) id: bool,
    /// Events, each shown as it comes.
    pub(crate) events: bool,
}

/// Writes entries to standard output.
#[derive(Debug)]
pub(crate) struct EntryWriter {
    format: Format,
    extras: Extras,
    out: Output,
    table: Table,
    /// Seconds since the epoch.
    now: u64,
    /// Whether XML's root element is open.
    is_open: bool,
    /// Whose entries are being written, in the forms that have no field for it.
    namespace: Option<String>,
}

impl EntryWriter {
    pub(crate) fn new(format: Format, extras: Extras, screen: Screen) -> Self {
        let columns = columns(extras);
        let table =
            if extras.events { Table::live(screen, columns) } else { Table::new(screen, columns) };
        let (is_open, namespace) = (false, None);
        let now = seconds_since_epoch();
        Self { format, extras, out: Output::new(), table, now, is_open, namespace }
    }

    /// Writes an entry, with its event if it is one's.
    #[inline]
    pub(crate) fn entry(
        &mut self,
        flow: &Flow,
        namespace: Option<&str>,
        event: Option<EventKind>,
    ) -> io::Result<()> {
        let flushed = match self.format {
            Format::Text => {
                let Extras { extended, id, .. } = self.extras;
                let now = self.now;
                let options =
                    text::TextOptions { event, extended, id, now, namespace, ..Default::default() };
                self.out.line(|out| text::write(flow, &options, out))?
            }
            Format::Json => {
                let options = json::JsonOptions { event, namespace };
                self.out.line(|out| json::write(flow, &options, out))?
            }
            Format::Xml => {
                self.xml_head(namespace)?;
                let options = xml::XmlOptions { event, now: self.now, ..Default::default() };
                self.out.line(|out| xml::write(flow, &options, out))?
            }
            Format::Save => {
                self.save_head(namespace)?;
                let command = event.map_or_else(SaveCommand::default, Into::into);
                self.out.line(|out| save::write(flow, command, out))?
            }
            Format::Columns => {
                let cells = cells(flow, namespace, event, self.extras, self.now);
                self.table.row(&mut self.out, cells)?;
                false
            }
        };
        if flushed {
            self.now = seconds_since_epoch();
        }
        Ok(())
    }

    /// Opens the root element; says whose entries follow where there are several namespaces.
    fn xml_head(&mut self, namespace: Option<&str>) -> io::Result<()> {
        if !self.is_open {
            self.is_open = true;
            writeln!(self.out, "{}<conntrack>", xml::DECLARATION)?;
        }
        match self.change_of(namespace) {
            // Two hyphens would end the comment.
            Some(name) => {
                let name = name.replace("--", "-\\x2d");
                writeln!(self.out, "<!-- namespace {name} -->")
            }
            None => Ok(()),
        }
    }

    fn save_head(&mut self, namespace: Option<&str>) -> io::Result<()> {
        match self.change_of(namespace) {
            Some(name) => writeln!(self.out, "# namespace {name}"),
            None => Ok(()),
        }
    }

    /// The namespace, fit to be shown, if it is another than the last entry's.
    fn change_of(&mut self, namespace: Option<&str>) -> Option<String> {
        let changed = namespace.filter(|name| self.namespace.as_deref() != Some(name))?;
        self.namespace = Some(changed.to_owned());
        Some(printable(changed))
    }

    /// Headings of the columns for which the screen has no room.
    pub(crate) fn left_out(&self) -> Vec<&str> {
        if self.format == Format::Columns { self.table.left_out() } else { Vec::new() }
    }

    /// Shows everything written so far, and takes the time anew.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.now = seconds_since_epoch();
        self.out.flush()
    }

    /// Shows the rest.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.table.finish(&mut self.out)?;
        if std::mem::take(&mut self.is_open) {
            self.out.write_all(b"</conntrack>\n")?;
        }
        self.out.flush()
    }
}

/// Seconds since the epoch; 0 before it.
fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Those that go first on a narrow screen come last.
fn columns(extras: Extras) -> Vec<Column> {
    let column = |heading: &'static str, right, least, optional| Column {
        heading: heading.into(),
        right,
        least,
        optional,
    };
    let always = |heading, right, least| column(heading, right, least, false);
    let maybe = |heading, right, least| column(heading, right, least, true);
    let mut columns = Vec::new();
    if extras.events {
        columns.push(always("EVENT", false, 7));
    }
    if !extras.events {
        columns.push(maybe("NETNS", false, 0));
    }
    columns.extend([
        always("PROTO", false, 5),
        always("STATE", false, 11),
        column("EXPIRES", true, 7, extras.events),
        always("SOURCE", false, 21),
        always("DESTINATION", false, 21),
        maybe("TRANSLATED", false, 0),
        always("FLAGS", false, 9),
    ]);
    if extras.id {
        columns.push(always("ID", true, 10));
    }
    columns.extend([
        maybe("BYTES", true, 9),
        maybe("MARK", true, 0),
        maybe("ZONE", true, 0),
        maybe("HELPER", false, 0),
        maybe("AGE", true, 0),
    ]);
    columns
}

fn cells(
    flow: &Flow,
    namespace: Option<&str>,
    event: Option<EventKind>,
    extras: Extras,
    now: u64,
) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(15);
    if extras.events {
        cells.push(event.map_or_else(Cell::default, event_cell));
    }
    if !extras.events {
        cells.push(printable(namespace.unwrap_or("")).into());
    }
    cells.extend([
        protocol(flow).into(),
        state(flow),
        flow.timeout.map_or_else(String::new, span).into(),
        source(&flow.original).into(),
        destination(&flow.original).into(),
        translated(flow).into(),
        flags(flow),
    ]);
    if extras.id {
        cells.push(flow.id.map_or_else(String::new, |id| id.to_string()).into());
    }
    let zone = if flow.zone.id == 0 { String::new() } else { flow.zone.id.to_string() };
    let mark = flow.mark.filter(|mark| mark.0 != 0).map(|mark| format!("{:#x}", mark.0));
    cells.extend([
        flow.bytes().map_or_else(String::new, size).into(),
        mark.unwrap_or_default().into(),
        zone.into(),
        flow.helper.as_ref().map_or_else(String::new, |helper| printable(&helper.name)).into(),
        age(flow, now).into(),
    ]);
    cells
}

pub(super) fn event_cell(event: EventKind) -> Cell {
    let style = match event {
        EventKind::New => Screen::GOOD,
        EventKind::Update => Screen::NOTE,
        EventKind::Destroy => Screen::FAINT,
    };
    Cell::styled(event.name(), style)
}

fn protocol(flow: &Flow) -> String {
    match flow.original.layer4 {
        Layer4::Icmp { kind, .. } => format!("{} {kind}", flow.protocol()),
        _ => flow.protocol().to_string(),
    }
}

fn state(flow: &Flow) -> Cell {
    match flow.state.name() {
        None => Cell::default(),
        Some(name) if flow.state.is_closing() => Cell::styled(name, Screen::FAINT),
        Some(name) => name.into(),
    }
}

pub(super) fn source(tuple: &Tuple) -> String {
    endpoint(tuple.source, tuple.source_port())
}

pub(super) fn destination(tuple: &Tuple) -> String {
    endpoint(tuple.destination, tuple.destination_port())
}

fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port}"),
    }
}

/// Where the answers really come from (`→`), and as whom the source appears there (`as`).
fn translated(flow: &Flow) -> String {
    let Some(plain) = flow.original.inverted() else {
        return String::new();
    };
    let to = source(&flow.reply);
    let r#as = destination(&flow.reply);
    match (to == source(&plain), r#as == destination(&plain)) {
        (true, true) => String::new(),
        (false, true) => format!("→ {to}"),
        (true, false) => format!("as {as}"),
        (false, false) => format!("→ {to} as {as}"),
    }
}

fn flags(flow: &Flow) -> Cell {
    let replied = if flow.is_assured() {
        "assured"
    } else if flow.is_replied() {
        "replied"
    } else {
        "unreplied"
    };
    let mut flags = replied.to_owned();
    for (bits, name) in [
        (Status::OFFLOAD | Status::HW_OFFLOAD, "offload"),
        (Status::FIXED_TIMEOUT, "fixed"),
        (Status::DYING, "dying"),
    ] {
        if flow.status.intersects(bits) {
            flags.push(',');
            flags.push_str(name);
        }
    }
    let style = match replied {
        "assured" => Screen::GOOD,
        "replied" => return flags.into(),
        _ => Screen::WARNING,
    };
    Cell::styled(flags, style)
}

fn age(flow: &Flow, now: u64) -> String {
    let Some(stamps) = flow.timestamps else {
        return String::new();
    };
    let start = Duration::from_nanos(stamps.start);
    let end =
        if stamps.stop == 0 { Duration::from_secs(now) } else { Duration::from_nanos(stamps.stop) };
    units::duration(Duration::from_secs(end.saturating_sub(start).as_secs()).max(SHORTEST))
}

/// Ages below are shown as this.
const SHORTEST: Duration = Duration::from_secs(1);

pub(super) fn span(seconds: u32) -> String {
    match seconds {
        0 => "0 s".to_owned(),
        seconds => units::duration(Duration::from_secs(seconds.into())),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} KiB", bytes / 1024),
        _ => units::mebibytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(line: &str) -> Flow {
        text::parse(line).unwrap()
    }

    #[test]
    fn translation_is_shown_from_the_clients_side() {
        let both = flow(
            "tcp 6 9 ESTABLISHED src=10.0.0.1 dst=10.0.0.9 sport=4000 dport=80 src=192.0.2.2 \
             dst=192.0.2.1 sport=8080 dport=61000 [ASSURED] use=1",
        );
        assert_eq!(translated(&both), "→ 192.0.2.2:8080 as 192.0.2.1:61000");
        let none = flow("udp 17 9 src=::1 dst=::2 sport=1 dport=2 src=::2 dst=::1 sport=2 dport=1");
        assert_eq!(translated(&none), "");
        assert_eq!(source(&none.original), "[::1]:1");
    }

    #[test]
    fn columns_and_cells_go_together() {
        let some = flow("udp 17 9 src=::1 dst=::2 sport=1 dport=2 src=::2 dst=::1 sport=2 dport=1");
        for (id, events) in [(false, false), (true, false), (false, true), (true, true)] {
            let extras = Extras { extended: false, id, events };
            assert_eq!(columns(extras).len(), cells(&some, None, None, extras, 0).len());
        }
    }
}
