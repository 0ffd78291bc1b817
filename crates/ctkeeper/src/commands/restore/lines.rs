//! The lines of a file, read as often as needed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use anyhow::Context;
use ctkeeper_flow::Flow;

use super::super::saved;
use super::tally::Tally;
use crate::ui::printable;

/// Longest line that is read; entries take a few hundred bytes.
const LONGEST: u64 = 64 * 1024;

/// A file of saved entries. What cannot be read twice is copied to a file without a name.
pub(super) struct Lines {
    name: String,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u32,
}

/// A line's number, and its entry or what is wrong with it.
type Line = (u32, anyhow::Result<Flow>);

impl Lines {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let (name, file) = if path == Path::new("-") {
            ("standard input".to_owned(), copy(&mut io::stdin().lock()).context("standard input")?)
        } else {
            let name = printable(&path.to_string_lossy());
            let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            let is_plain = file.metadata().is_ok_and(|metadata| metadata.is_file());
            let file =
                if is_plain { file } else { copy(&mut file).with_context(|| name.clone())? };
            (name, file)
        };
        Ok(Self {
            name,
            reader: BufReader::with_capacity(1 << 16, file),
            line: Vec::new(),
            number: 0,
        })
    }

    /// Goes through all of them, once.
    pub(super) fn look(&mut self) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        while let Some((number, entry)) = self.next()? {
            match entry {
                Ok(flow) => tally.look(&flow),
                Err(error) => tally.unreadable(&self.name, number, &error),
            }
        }
        Ok(tally)
    }

    pub(super) fn rewind(&mut self) -> anyhow::Result<()> {
        self.number = 0;
        self.reader.rewind().with_context(|| format!("cannot read {} again", self.name))
    }

    /// The next line that says something; `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            self.line.clear();
            let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut self.line);
            if read.with_context(|| format!("cannot read {}", self.name))? == 0 {
                return Ok(None);
            }
            self.number = self.number.saturating_add(1);
            let text = String::from_utf8_lossy(&self.line);
            if !saved::says_nothing(&text) {
                return Ok(Some((self.number, saved::read(&text).map(|(flow, _)| flow))));
            }
        }
    }
}

fn copy(source: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(source, &mut file)?;
    file.rewind()?;
    Ok(file)
}
