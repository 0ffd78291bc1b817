//! Entries and expectations on standard output, as `-o` asks.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ctkeeper_flow::save::SaveCommand;
use ctkeeper_flow::text::TextOptions;
use ctkeeper_flow::xml::XmlOptions;
use ctkeeper_flow::{EventKind, Expectation, Flow, LabelNames, save, text, xml};

use crate::invocation::{Invocation, Options, Output};
use crate::labels::LabelMap;
use crate::local_time::LocalZone;

/// A block is passed on when it has so many bytes.
const FULL: usize = 64 * 1024;
/// Room for the line that fills a block.
const LINE: usize = 4 * 1024;

/// The options that make conntrack read the names of labels, and show them then.
const LABELS: Options = Options(Options::LABEL.0 | Options::LABEL_ADD.0 | Options::LABEL_DELETE.0);

/// What entries are printed for; conntrack's commands print them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `-L`, `-G`: what there is.
    List,
    /// `-E`: what happens.
    Events,
    /// `-D`: what is gone. Without labels.
    Deleted,
    /// `-U`: what it is now.
    Updated,
}

/// Prints entries and expectations into a buffer, which goes out by the block.
#[derive(Debug)]
pub(crate) struct Printer {
    output: Output,
    purpose: Purpose,
    labels: Option<LabelNames>,
    zone: Option<LocalZone>,
    /// Since the epoch.
    now: Duration,
    has_header: bool,
    buffer: Vec<u8>,
}

impl Printer {
    /// Prints as an invocation asks. Labels are shown when one of its options concerns them.
    pub(crate) fn new(invocation: &Invocation, purpose: Purpose) -> Self {
        let Invocation { output, options, .. } = *invocation;
        let needs_zone = output.kernel_timestamp || (output.timestamp && output.xml);
        let needs_labels =
            purpose != Purpose::Deleted && (output.labels || options.intersects(LABELS));
        Self {
            output,
            purpose,
            labels: needs_labels.then(label_names).flatten(),
            zone: needs_zone.then(LocalZone::load),
            now: since_epoch(),
            has_header: false,
            buffer: Vec::with_capacity(FULL + LINE),
        }
    }

    /// Adds the line of an entry.
    #[inline]
    pub(crate) fn entry(&mut self, flow: &Flow) {
        self.entry_of(flow, None);
        self.buffer.push(b'\n');
    }

    /// Adds the line of an event, at whose end `tail` stands.
    pub(crate) fn event(&mut self, flow: &Flow, event: EventKind, tail: &[u8]) {
        self.entry_of(flow, Some(event));
        self.buffer.extend_from_slice(tail);
        self.buffer.push(b'\n');
    }

    /// Adds the line of an expectation, of an event of it if there is one.
    pub(crate) fn expectation(&mut self, expectation: &Expectation, event: Option<EventKind>) {
        let Self { output, buffer, zone, now, .. } = self;
        if output.xml {
            header("expect", &mut self.has_header, buffer);
            let local = zone.as_ref().filter(|_| output.timestamp).map(LocalZone::local_time);
            let moment = local.map(|local| (now.as_secs(), local));
            xml::write_expectation(expectation, event, moment, buffer);
        } else {
            if output.timestamp {
                text::write_expectation_stamp(now.as_secs(), now.subsec_micros(), buffer);
            }
            text::write_expectation(expectation, event, buffer);
        }
        buffer.push(b'\n');
    }

    /// Adds what ends a document of entries, if one was begun.
    pub(crate) fn footer(&mut self) {
        self.end("conntrack");
    }

    /// Adds what ends a document of expectations, if one was begun.
    pub(crate) fn expectations_footer(&mut self) {
        self.end("expect");
    }

    /// Passes a full block on.
    #[inline]
    pub(crate) fn pass(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.buffer.len() >= FULL { self.pass_all(out) } else { Ok(()) }
    }

    /// Passes everything on, and takes the time anew.
    pub(crate) fn pass_all(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let written = out.write_all(&self.buffer);
        self.buffer.clear();
        self.now = since_epoch();
        written
    }

    /// Takes the time anew.
    pub(crate) fn tick(&mut self) {
        self.now = since_epoch();
    }

    #[inline]
    fn entry_of(&mut self, flow: &Flow, event: Option<EventKind>) {
        let Self { output, buffer, now, purpose, .. } = self;
        let is_event = event.is_some();
        if output.save {
            let command = event.map_or_else(|| save_command(*purpose), SaveCommand::from);
            save::write(flow, command, buffer);
        } else if output.xml {
            self.xml(flow, event);
        } else {
            if is_event && output.timestamp {
                text::write_stamp(now.as_secs(), now.subsec_micros(), buffer);
            }
            self.text(flow, event);
        }
    }

    #[inline]
    fn text(&mut self, flow: &Flow, event: Option<EventKind>) {
        let Self { output, buffer, labels, zone, .. } = self;
        let zone = zone.as_ref().filter(|_| output.kernel_timestamp && shows_life(self.purpose));
        let options = TextOptions {
            event,
            extended: output.extended,
            id: output.id,
            now: self.now.as_secs(),
            kernel_timestamps: zone.map(LocalZone::local_time),
            labels: labels.as_ref(),
            namespace: None,
        };
        text::write(flow, &options, buffer);
    }

    fn xml(&mut self, flow: &Flow, event: Option<EventKind>) {
        let Self { output, buffer, labels, zone, purpose, .. } = self;
        let when = zone.as_ref().filter(|_| output.timestamp && event.is_some());
        if shows_life(*purpose) {
            header("conntrack", &mut self.has_header, buffer);
        }
        let options = XmlOptions {
            event,
            kernel_timestamps: output.kernel_timestamp && shows_life(*purpose),
            now: self.now.as_secs(),
            labels: labels.as_ref(),
            when: when.map(LocalZone::local_time),
        };
        xml::write(flow, &options, buffer);
    }

    fn end(&mut self, name: &str) {
        if self.has_header {
            self.buffer.extend_from_slice(format!("</{name}>\n").as_bytes());
        }
    }
}

/// What deletes and updates prints neither a document around entries nor when they began.
const fn shows_life(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::List | Purpose::Events)
}

const fn save_command(purpose: Purpose) -> SaveCommand {
    match purpose {
        Purpose::Deleted => SaveCommand::Delete,
        Purpose::List | Purpose::Events | Purpose::Updated => SaveCommand::Add,
    }
}

/// A document begins with its first entry.
fn header(name: &str, has_header: &mut bool, buffer: &mut Vec<u8>) {
    if !*has_header {
        *has_header = true;
        buffer.extend_from_slice(xml::DECLARATION.as_bytes());
        buffer.extend_from_slice(format!("<{name}>\n").as_bytes());
    }
}

/// What the parser complained of is not said again.
fn label_names() -> Option<LabelNames> {
    LabelMap::read().ok().map(|map| LabelNames::new(map.names()))
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::{Command, Table, Template};

    fn printer(purpose: Purpose, output: Output) -> Printer {
        let invocation = Invocation {
            command: Command::List,
            table: Table::Conntrack,
            family: None,
            options: Options::default(),
            template: Template::default(),
            output,
            events: None,
            buffer_size: None,
            warnings: Vec::new(),
            no_command: false,
        };
        Printer::new(&invocation, purpose)
    }

    fn printed(mut printer: Printer, print: impl FnOnce(&mut Printer)) -> String {
        print(&mut printer);
        let mut out = Vec::new();
        printer.pass_all(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const XML: Output = Output {
        xml: true,
        extended: false,
        timestamp: false,
        id: false,
        kernel_timestamp: false,
        labels: false,
        userspace: false,
        save: false,
    };

    #[test]
    fn a_document_begins_with_its_first_entry() {
        let text = printed(printer(Purpose::List, XML), Printer::footer);
        assert_eq!(text, "");
        let text = printed(printer(Purpose::List, XML), |printer| {
            printer.entry(&Flow::default());
            printer.entry(&Flow::default());
            printer.footer();
        });
        assert!(
            text.starts_with("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<conntrack>\n<flow>")
        );
        assert!(text.ends_with("</flow>\n</conntrack>\n"));
        assert_eq!(text.lines().count(), 5);
    }

    #[test]
    fn what_was_changed_or_deleted_stands_alone() {
        for purpose in [Purpose::Deleted, Purpose::Updated] {
            let text = printed(printer(purpose, XML), |printer| printer.entry(&Flow::default()));
            assert!(text.starts_with("<flow><meta"), "{text}");
        }
    }

    #[test]
    fn commands_are_those_of_the_purpose() {
        let save = || Output { save: true, ..Output::default() };
        let of = |purpose, event: Option<EventKind>| {
            let text = printed(printer(purpose, save()), |printer| match event {
                Some(event) => printer.event(&Flow::default(), event, b" tail"),
                None => printer.entry(&Flow::default()),
            });
            text[..2].to_owned()
        };
        assert_eq!(of(Purpose::List, None), "-A");
        assert_eq!(of(Purpose::Updated, None), "-A");
        assert_eq!(of(Purpose::Deleted, None), "-D");
        assert_eq!(of(Purpose::Events, Some(EventKind::Update)), "-U");
        assert_eq!(of(Purpose::Events, Some(EventKind::Destroy)), "-D");
    }

    #[test]
    fn events_have_stamps_and_tails() {
        let output = Output { timestamp: true, ..Output::default() };
        let text = printed(printer(Purpose::Events, output), |printer| {
            printer.event(&Flow::default(), EventKind::New, b" [USERSPACE] portid=7");
        });
        assert!(text.starts_with('[') && text.contains("]\t    [NEW] "), "{text}");
        assert!(text.ends_with(" [USERSPACE] portid=7\n"), "{text}");
    }

    #[test]
    fn blocks_are_passed_on_when_they_are_full() {
        let (mut printer, mut out) = (printer(Purpose::List, Output::default()), Vec::new());
        while out.is_empty() {
            printer.entry(&Flow::default());
            printer.pass(&mut out).unwrap();
        }
        assert!((FULL..FULL + LINE).contains(&out.len()));
        assert!(printer.buffer.is_empty());
    }
}
