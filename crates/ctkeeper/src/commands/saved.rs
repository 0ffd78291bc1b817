//! Lists that were saved to a file: text as `conntrack -L` or `/proc/net/nf_conntrack` has it, JSON
//! lines, or commands as `conntrack -L -o save` and `ctkeeper save` have them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use ctkeeper_flow::{Flow, json, save, text, units};

use crate::cli::Global;
use crate::exit::UsageError;
use crate::ui::{printable, say};

/// Longest line that is read; entries take a few hundred bytes.
const LONGEST: u64 = 64 * 1024;
/// Unreadable lines that are named one by one.
const NAMED: u64 = 10;

/// Where entries come from, if not from the kernel.
#[derive(Clone, Debug, Args)]
pub(crate) struct FromArgs {
    /// Read a saved list instead: lines of `conntrack -L` (text or `-o save`), of
    /// /proc/net/nf_conntrack, or JSON; `-` is standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

impl FromArgs {
    /// Opens the saved list, if one is named.
    pub(crate) fn open(&self, global: &Global) -> anyhow::Result<Option<SavedList>> {
        let Some(path) = &self.from else {
            return Ok(None);
        };
        if global.netns.is_some() {
            let message = "--from reads a file, --netns asks the kernel: give one of them";
            return Err(UsageError(message.to_owned()).into());
        }
        SavedList::open(path).map(Some)
    }
}

/// A saved list being read, a line at a time.
pub(crate) struct SavedList {
    name: String,
    reader: Box<dyn BufRead>,
}

impl SavedList {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            let reader = Box::new(BufReader::new(io::stdin()));
            return Ok(Self { name: "standard input".to_owned(), reader });
        }
        let name = printable(&path.to_string_lossy());
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        Ok(Self { name, reader: Box::new(BufReader::new(file)) })
    }

    /// Hands each entry, with its namespace if the line names one, to `f` until that says false.
    ///
    /// Lines that are no entry are named on standard error and passed over; the result says
    /// whether there were none. One before any entry means that this is something else: an error.
    pub(crate) fn each(
        mut self,
        mut f: impl FnMut(&Flow, Option<&str>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        let (mut line, mut number, mut unreadable) = (Vec::new(), 0u64, 0u64);
        let mut is_list = false;
        while self.next_line(&mut line)? {
            number += 1;
            let text = String::from_utf8_lossy(&line);
            if says_nothing(&text) {
                continue;
            }
            match read(&text) {
                Ok((flow, namespace)) => {
                    is_list = true;
                    if !f(&flow, namespace.as_deref())? {
                        break;
                    }
                }
                Err(error) if !is_list => {
                    bail!("{} is not a list of connections (line {number}: {error})", self.name);
                }
                Err(error) => {
                    unreadable += 1;
                    if unreadable <= NAMED {
                        say!("ctkeeper: {}, line {number}: {error}", self.name);
                    }
                }
            }
        }
        if unreadable > NAMED {
            let lines = units::counted(unreadable - NAMED, "more line", "more lines");
            say!("ctkeeper: {}: {lines} that are no entries", self.name);
        }
        Ok(unreadable == 0)
    }

    /// Reads a line, or the first part of one that is too long; false at the end.
    fn next_line(&mut self, line: &mut Vec<u8>) -> anyhow::Result<bool> {
        line.clear();
        let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', line);
        Ok(read.with_context(|| format!("cannot read {}", self.name))? > 0)
    }
}

/// Whether a line is none of the list's entries, and nothing wrong either.
pub(super) fn says_nothing(line: &str) -> bool {
    let text = line.trim();
    text.is_empty() || text.starts_with('#') || is_closing_line(line) || is_command(line)
}

/// What conntrack-tools write to standard error when they have listed. In a file that took both
/// streams it comes first, since only standard output is buffered.
fn is_closing_line(line: &str) -> bool {
    line.starts_with("conntrack v") && line.trim_end().ends_with("have been shown.")
}

/// The command that made the list, as a pasted terminal has it above.
fn is_command(line: &str) -> bool {
    ["conntrack -L", "conntrack --dump", "cat /proc/net/nf_conntrack"]
        .iter()
        .any(|command| line.contains(command))
}

/// Reads a line in any of the forms, with the namespace that it names.
pub(super) fn read(line: &str) -> anyhow::Result<(Flow, Option<String>)> {
    let start = line.trim_start();
    if start.starts_with('-') || start.starts_with("conntrack -") {
        return Ok((save::parse(line.trim_end())?, None));
    }
    if start.starts_with('{') {
        let line = json::parse_line(line)?;
        return Ok((line.flow, line.namespace));
    }
    let line = text::parse_line(line.trim_end())?;
    Ok((line.flow, line.namespace))
}
