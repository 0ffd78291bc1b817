//! What was read, what became of it, and what the kernel keeps to itself.

use std::io::{self, Write};
use std::process::ExitCode;

use ctkeeper_flow::{Flow, Labels, Status, units};
use ctkeeper_netlink::{Errno, Error};
use rustix::io::Errno as Number;
use serde_json::{Value, json};

use super::super::outcome::told;
use crate::ui::{printable, say};

/// Name and version of what `--json` prints.
const SCHEMA: &str = "ctkeeper.restore/1";
/// Lines that are named one by one.
const NAMED: usize = 10;

/// Counts of a restoration.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// `refused`, `planned`, or nothing when it was done.
    pub(super) outcome: &'static str,
    /// Entries that were read.
    read: u64,
    /// Lines that could not be.
    pub(super) unreadable: u64,
    /// Entries made.
    pub(super) made: u64,
    /// Entries that were there.
    existed: u64,
    /// Entries that the kernel would not make.
    pub(super) failed: u64,
    /// Whether the rest was left because the table is full.
    pub(super) stopped: bool,
    /// Entries that another connection announced.
    pub(super) with_master: u64,
    /// Entries with labels, and the first of them.
    pub(super) with_labels: u64,
    pub(super) labelled: Option<Box<Flow>>,
    lost: Lost,
    /// What is wrong with which line.
    problems: Vec<String>,
}

/// Entries with something that cannot be made again.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    counters: u64,
    times: u64,
    contexts: u64,
    offloads: u64,
}

impl Tally {
    pub(super) fn look(&mut self, flow: &Flow) {
        self.read += 1;
        self.with_master += u64::from(flow.master.is_some());
        if flow.labels.is_some_and(|labels| labels != Labels::default()) {
            self.with_labels += 1;
            self.labelled.get_or_insert_with(|| Box::new(flow.clone()));
        }
        let Lost { counters, times, contexts, offloads } = &mut self.lost;
        *counters += u64::from(flow.counters_original.is_some());
        *times += u64::from(flow.timestamps.is_some());
        *contexts += u64::from(flow.security_context.is_some());
        *offloads += u64::from(flow.status.intersects(Status::OFFLOAD | Status::HW_OFFLOAD));
    }

    pub(super) fn unreadable(&mut self, name: &str, number: u32, error: &anyhow::Error) {
        self.unreadable += 1;
        self.problem(|| format!("{name}, line {number}: {error:#}"));
    }

    pub(super) fn refused(&mut self, number: u32, error: &Error) {
        if error.errno() == Some(Errno(Number::EXIST.raw_os_error())) {
            self.existed += 1;
            return;
        }
        self.failed += 1;
        self.problem(|| format!("line {number}: {}", printable(&error.to_string())));
    }

    fn problem(&mut self, text: impl FnOnce() -> String) {
        if self.problems.len() < NAMED {
            self.problems.push(text());
        }
    }

    /// Tells it, as JSON on standard output or in words on standard error.
    pub(super) fn tell(&self, json: bool, note: &str) -> anyhow::Result<ExitCode> {
        if json {
            let made = || format!("{} made.", units::counted(self.made, "entry", "entries"));
            told(writeln!(io::stdout().lock(), "{}", self.json()), made)?;
        }
        for problem in &self.problems {
            say!("ctkeeper: {problem}");
        }
        let unnamed = (self.unreadable + self.failed).saturating_sub(self.problems.len() as u64);
        if unnamed > 0 {
            say!("ctkeeper: {} more", units::counted(unnamed, "line", "lines"));
        }
        if !json {
            self.say(note);
        }
        Ok(ExitCode::from(super::exit_code(self)))
    }

    fn say(&self, note: &str) {
        let read = units::counted(self.read, "entry", "entries");
        if !note.is_empty() {
            let unreadable = match self.unreadable {
                0 => String::new(),
                count => format!(", {} could not be", units::counted(count, "line", "lines")),
            };
            say!("{read} read{unreadable}; {note}.");
            return;
        }
        let mut text = format!("{} made of {read}", units::count(self.made));
        let left = self.read.saturating_sub(self.made + self.existed + self.failed);
        for (count, what) in [
            (self.existed, "existed already"),
            (self.failed, "failed"),
            (left, "not tried: the table is full"),
            (self.unreadable, "lines could not be read"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {} {what}", units::count(count)));
            }
        }
        say!("{text}.");
        self.say_lost();
    }

    /// What the kernel does not take back.
    fn say_lost(&self) {
        let Lost { counters, times, contexts, offloads } = self.lost;
        let parts: Vec<String> = [
            (counters, "counters"),
            (times, "start times"),
            (contexts, "security contexts"),
            (offloads, "offload to a flow table"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{what} of {}", units::counted(count, "entry", "entries")))
        .collect();
        if !parts.is_empty() {
            say!("The kernel takes no {}: they begin anew.", parts.join(", "));
        }
    }

    fn json(&self) -> Value {
        let outcome = if self.outcome.is_empty() { "done" } else { self.outcome };
        json!({
            "schema": SCHEMA, "outcome": outcome, "read": self.read, "unreadable": self.unreadable,
            "made": self.made, "existed": self.existed, "failed": self.failed,
            "stopped": self.stopped, "problems": self.problems,
        })
    }
}
