//! `-R`: a file of command lines.
//!
//! Every line is read before the first is carried out, and then once more: two passes over a file
//! keep nothing in memory. What cannot be read twice, a pipe, is kept as it came.

mod creations;
mod lines;
mod words;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::Streams;
use crate::arguments::{Memory, Refused, parse_words};
use crate::failure::Failure;
use crate::invocation::{Command, Invocation, Table};
use creations::Creations;
use lines::Lines;
use words::Words;

/// Carries out the lines of a file, standard input if it is `-`, for a `program` of this name. Stops
/// at the first that fails; where there was nothing to delete or change, none has failed.
pub(crate) fn run(program: &OsStr, file: &Path, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let file = if file == Path::new("-") { Path::new("/dev/stdin") } else { file };
    let mut lines = Lines::open(file).map_err(|_| {
        let name = file.as_os_str().as_bytes();
        Failure::Usage([b"Failed to open file ", name, b" for reading"].concat())
    })?;
    let mut reader =
        Reader { program: program.as_bytes(), memory: Memory::new(), words: Words::default() };
    let mut misplaced = None;
    while let Some(line) = lines.next() {
        let Some((warnings, parsed)) = reader.read(line)? else { continue };
        for warning in warnings {
            let _unread = streams.err.write_all(format!("{warning}\n").as_bytes());
        }
        let invocation = parsed?;
        if misplaced.is_none() {
            misplaced = misplaced_command(&invocation);
        }
    }
    if let Some(name) = misplaced {
        let message = format!("Cannot use command `{name}' with --load-file");
        return Err(Failure::usage(message));
    }
    lines.rewind();
    let mut creations = Creations::default();
    while let Some(line) = lines.next() {
        // What the first pass said, it does not say again. `-o` of later lines holds for earlier
        // ones too: all have been read by now.
        let parsed = match reader.read(line) {
            Ok(None) => continue,
            Ok(Some((_, parsed))) => parsed,
            Err(failure) => Err(failure),
        };
        execute(parsed, &mut creations, streams)?;
    }
    creations.send()
}

/// Carries out a line, or lays it by if it makes an entry.
fn execute(
    parsed: Result<Invocation, Failure>,
    creations: &mut Creations,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    match parsed {
        Ok(line) if matches!(line.command, Command::Create | Command::Add) => creations.add(&line),
        parsed => {
            creations.send()?;
            super::run(&parsed?, streams)?;
            // What was printed stands before what comes next on standard error.
            Ok(streams.out.flush()?)
        }
    }
}

/// Reads lines.
struct Reader<'p> {
    program: &'p [u8],
    memory: Memory,
    words: Words,
}

impl Reader<'_> {
    /// What a line means, with the warnings that it gives; `None` where there is nothing in it.
    #[expect(clippy::type_complexity, reason = "a line's warnings come whatever becomes of it")]
    fn read(
        &mut self,
        line: &[u8],
    ) -> Result<Option<(Vec<String>, Result<Invocation, Failure>)>, Failure> {
        let start = line.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
        let line = &line[start.unwrap_or(line.len())..];
        if matches!(line.first(), Some(b'\n' | b'#')) {
            return Ok(None);
        }
        let words = self.words.of(self.program, line).map_err(Failure::usage)?;
        Ok(Some(match parse_words(words, &mut self.memory) {
            Ok(mut invocation) => (std::mem::take(&mut invocation.warnings), Ok(invocation)),
            Err(Refused { warnings, failure }) => (warnings, Err(failure)),
        }))
    }
}

/// The name, as the message has it, of a command that has no place in a file.
fn misplaced_command(invocation: &Invocation) -> Option<&'static str> {
    let expectations = invocation.table == Table::Expect;
    Some(match invocation.command {
        // It has no other name for a creation.
        Command::Create | Command::Count if expectations => "-C expect",
        Command::Delete if expectations => "-D expect",
        Command::Flush if expectations => "-F expect",
        Command::List if expectations => "-L expect",
        Command::Get if expectations => "-G expect",
        Command::Events if expectations => "-E expect",
        Command::Statistics if expectations => "-S expect",
        Command::List => "-L",
        Command::Get => "-G",
        Command::Events => "-E",
        Command::Count => "-C",
        Command::Statistics => "-S",
        Command::Version => "-V",
        Command::Help if invocation.no_command => "unknown",
        Command::Help => "-h",
        _ => return None,
    })
}
