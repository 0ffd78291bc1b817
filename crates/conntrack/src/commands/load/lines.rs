//! The lines of a file, twice.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What conntrack reads at a time: a longer line is several lines to it.
const LONGEST: usize = 10_239;
const BUFFER: usize = 64 * 1024;

/// Lines that can be read again from the beginning.
#[derive(Debug)]
pub(super) struct Lines {
    source: Source,
    /// What the next read begins with.
    position: u64,
    buffer: Vec<u8>,
    /// What of the buffer is read but not yet handed out.
    start: usize,
    ended: bool,
}

#[derive(Debug)]
enum Source {
    File(File),
    Memory(Vec<u8>),
}

impl Lines {
    /// Opens a file. One that cannot be read has no lines, as a folder; one that cannot be read
    /// twice is read into memory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let source = if file.metadata()?.is_file() {
            Source::File(file)
        } else {
            let mut memory = Vec::new();
            // What came before an error counts.
            let _incomplete = file.read_to_end(&mut memory);
            Source::Memory(memory)
        };
        let (buffer, start) = (Vec::with_capacity(BUFFER), 0);
        Ok(Self { source, position: 0, buffer, start, ended: false })
    }

    /// Begins again.
    pub(super) fn rewind(&mut self) {
        (self.position, self.start, self.ended) = (0, 0, false);
        self.buffer.clear();
    }

    /// The next line with its line feed, if it has one; what stands behind a NUL is lost.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let length = match self.line_length() {
            None if !self.ended => {
                self.fill();
                self.line_length()
            }
            length => length,
        };
        let length = length.unwrap_or(self.buffer.len() - self.start);
        if length == 0 {
            return None;
        }
        let line = self.start..self.start + length;
        self.start = line.end;
        let line = &self.buffer[line];
        Some(memchr::memchr(0, line).map_or(line, |nul| &line[..nul]))
    }

    /// The length of the next line if all of it is in the buffer.
    fn line_length(&self) -> Option<usize> {
        let rest = &self.buffer[self.start..];
        let window = &rest[..rest.len().min(LONGEST)];
        let end = memchr::memchr(b'\n', window).map(|feed| feed + 1);
        end.or_else(|| (window.len() == LONGEST).then_some(LONGEST))
    }

    fn fill(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        let kept = self.buffer.len();
        self.buffer.resize(BUFFER, 0);
        let mut filled = kept;
        while filled < BUFFER && !self.ended {
            let count = self.source.read(&mut self.buffer[filled..], self.position);
            self.ended = count == 0;
            filled += count;
            self.position += count as u64;
        }
        self.buffer.truncate(filled);
    }
}

impl Source {
    /// An error ends the lines, as it does for conntrack.
    fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        match self {
            Self::File(file) => loop {
                match file.read_at(buffer, position) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    count => return count.unwrap_or(0),
                }
            },
            Self::Memory(memory) => {
                let rest = usize::try_from(position).ok().and_then(|from| memory.get(from..));
                let rest = rest.unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                count
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Lines {
            source: Source::Memory(bytes.to_vec()),
            position: 0,
            buffer: Vec::new(),
            start: 0,
            ended: false,
        };
        let mut read = || {
            let mut all = Vec::new();
            while let Some(line) = lines.next() {
                all.push(line.to_vec());
            }
            lines.rewind();
            all
        };
        let first = read();
        assert_eq!(first, read(), "the same twice");
        first
    }

    #[test]
    fn lines_come_whole() {
        assert_eq!(all(b"a\n\nb\0c\nd"), [&b"a\n"[..], b"\n", b"b", b"d"]);
        assert_eq!(all(b""), [b""; 0]);
        let many: Vec<u8> = b"some words of a line\n".repeat(10_000);
        assert_eq!(all(&many).concat(), many);
        let long = vec![b'x'; 25_000];
        assert_eq!(all(&long).iter().map(Vec::len).collect::<Vec<_>>(), [10_239, 10_239, 4_522]);
    }
}
