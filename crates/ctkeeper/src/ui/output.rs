//! Standard output by the block.

use std::io::{self, Write};

/// A block is written when so many bytes are there.
const FULL: usize = 64 * 1024;
/// Room for the line that fills a block.
const LINE: usize = 4 * 1024;

/// A buffer before standard output that is filled by whole lines.
#[derive(Debug)]
pub(crate) struct Output {
    buffer: Vec<u8>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::with_capacity(FULL + LINE) }
    }

    /// Adds a line, which `write` appends without its end, and passes a full block on. True when
    /// it did.
    pub(crate) fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<bool> {
        write(&mut self.buffer);
        self.buffer.push(b'\n');
        if self.buffer.len() < FULL {
            return Ok(false);
        }
        self.flush().map(|()| true)
    }
}

impl Write for Output {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(text);
        if self.buffer.len() >= FULL {
            self.flush()?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&self.buffer).and_then(|()| stdout.flush());
        self.buffer.clear();
        written
    }
}
