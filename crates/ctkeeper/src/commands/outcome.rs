//! What became of a change of several entries: the closing line, or an object of JSON.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use ctkeeper_flow::{Flow, json, units};
use ctkeeper_netlink::{Errno, Error};
use rustix::io::Errno as Number;
use serde_json::{Value, json};

use crate::exit;
use crate::ui::{printable, say};

/// Name and version of what `--json` prints.
const SCHEMA: &str = "ctkeeper.entries/1";
/// Failures that are named one by one.
const NAMED: usize = 10;

/// A reader who has gone hides no deed and is no failure; any other failure to tell is one.
pub(super) fn told(written: io::Result<()>, deed: impl FnOnce() -> String) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            anyhow::bail!("{} Telling so on standard output failed: {error}", deed())
        }
        _ => Ok(()),
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// It was done.
    #[default]
    Done,
    /// It was shown, and not done.
    Planned,
    /// No entry was meant.
    NothingToDo,
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Planned => "planned",
            Self::NothingToDo => "nothing-to-do",
        }
    }
}

/// What is told of a command that changes entries.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// `delete`, `update`, …
    pub(super) command: &'static str,
    /// How it ended.
    pub(super) end: End,
    /// Entries that were meant.
    pub(super) matched: u64,
    /// Entries that were changed.
    pub(super) done: u64,
    /// Entries that had ended meanwhile.
    pub(super) gone: u64,
    /// Entries that changed meanwhile and were left alone.
    pub(super) spared: u64,
    /// Entries that the kernel would not change.
    pub(super) failed: u64,
    failures: Vec<String>,
    sample: Vec<Value>,
    /// What is counted, if not entries.
    nouns: Option<(&'static str, &'static str)>,
}

impl Outcome {
    pub(super) fn of(command: &'static str, matched: u64) -> Self {
        Self { command, matched, ..Self::default() }
    }

    /// Counts other things than entries: one of them, several of them.
    pub(super) const fn with_nouns(mut self, one: &'static str, several: &'static str) -> Self {
        self.nouns = Some((one, several));
        self
    }

    /// Keeps some entries for JSON.
    pub(super) fn with_sample(mut self, flows: &[Flow]) -> Self {
        let object = |flow: &Flow| {
            let mut line = Vec::new();
            json::write(flow, &json::JsonOptions::default(), &mut line);
            serde_json::from_slice(&line).unwrap_or(Value::Null)
        };
        self.sample = flows.iter().map(object).collect();
        self
    }

    /// Counts a refusal: of an entry that has ended it is none.
    pub(super) fn refused(&mut self, error: &Error) {
        if error.errno() == Some(Errno(Number::NOENT.raw_os_error())) {
            self.gone += 1;
            return;
        }
        self.failed_for(error.to_string());
    }

    /// Counts a failure whose cause is known better than from the kernel's number.
    pub(super) fn failed_for(&mut self, cause: impl AsRef<str>) {
        self.failed += 1;
        if self.failures.len() < NAMED {
            self.failures.push(printable(cause.as_ref()));
        }
    }

    /// Tells it, as JSON on standard output or in words on standard error. `verb` is `deleted`.
    pub(super) fn tell(&self, verb: &str, json: bool) -> anyhow::Result<ExitCode> {
        if json {
            told(writeln!(io::stdout().lock(), "{}", self.json()), || self.sentence(verb))?;
        }
        for failure in &self.failures {
            say!("ctkeeper: {failure}");
        }
        let unnamed = self.failed - self.failures.len() as u64;
        if unnamed > 0 {
            say!("ctkeeper: {} failed besides", units::counted(unnamed, "entry", "entries"));
        }
        if !json {
            say!("{}", self.sentence(verb));
        }
        Ok(ExitCode::from(self.exit_code()))
    }

    fn sentence(&self, verb: &str) -> String {
        let (one, several) = self.nouns.unwrap_or(("entry", "entries"));
        let mut text = format!("{} {verb}", units::counted(self.done, one, several));
        for (count, what) in [
            (self.gone, "had ended already"),
            (self.spared, "no longer matched and stayed"),
            (self.failed, "failed"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {} {what}", units::count(count)));
            }
        }
        text.push('.');
        text
    }

    const fn exit_code(&self) -> u8 {
        match (self.end, self.failed) {
            (End::Planned, _) => exit::NOT_APPLIED,
            (_, 0) => exit::OK,
            _ => exit::FAILURE,
        }
    }

    fn json(&self) -> Value {
        json!({
            "schema": SCHEMA, "command": self.command, "outcome": self.end.name(),
            "matched": self.matched, "done": self.done, "gone": self.gone,
            "spared": self.spared, "failed": self.failed,
            "failures": self.failures, "sample": self.sample,
        })
    }
}
