//! Both readers of a command line.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, ensure};
use ctkeeper_conntrack::{Command, Refused, check_filters, parse};
use ctkeeper_tests::Namespace;

/// Exit code of timeout(1).
const TIMED_OUT: i32 = 124;

/// A line's words are separated by spaces; `''` is an empty word, `\s` a space in one, `\n` and
/// `\xHH` are bytes.
const LINES: &str = include_str!("lines.txt");

pub(crate) fn lines_by_hand_are_read_alike() -> anyhow::Result<()> {
    let real = Real::new()?;
    let (mut count, mut differences) = (0, Vec::new());
    for line in LINES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        count += 1;
        if let Err(difference) = real.agrees(&words(line)) {
            differences.push(format!("{line}\n{difference:#}"));
        }
    }
    ensure!(count > 300, "only {count} lines");
    ensure!(
        differences.is_empty(),
        "{} of {count} lines are read differently:\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok(())
}

fn words(line: &str) -> Vec<Vec<u8>> {
    let word = |word: &str| match word {
        "''" => Vec::new(),
        word => word.replace("\\s", " ").replace("\\n", "\n").replace("\\t", "\t").into_bytes(),
    };
    line.split(' ').map(word).map(|word| unescape(&word)).collect()
}

fn unescape(word: &[u8]) -> Vec<u8> {
    match word.windows(2).position(|pair| pair == b"\\x") {
        Some(at) if word.len() >= at + 4 => {
            let digits = std::str::from_utf8(&word[at + 2..at + 4]).unwrap_or_default();
            let byte = u8::from_str_radix(digits, 16).unwrap_or(b'?');
            [&word[..at], &[byte], &unescape(&word[at + 4..])].concat()
        }
        _ => word.to_vec(),
    }
}

/// What a reader makes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// Refused: standard error and the exit code.
    Refused(String, i32),
    /// Taken, whatever comes of it.
    Taken,
    /// Answered with the help.
    Help,
    /// The program crashed.
    Crashed,
}

/// Debian's conntrack.
pub(crate) struct Real {
    namespace: Namespace,
}

impl Real {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { namespace: Namespace::create()? })
    }

    /// Fails unless both read the line alike. A crash may be answered as one likes.
    pub(crate) fn agrees(&self, words: &[Vec<u8>]) -> anyhow::Result<()> {
        let (mut theirs, ours) = (self.reads(words, 1)?, reads(words));
        if theirs != ours {
            // On a busy machine a second may have been too short to be refused in.
            theirs = self.reads(words, 20)?;
        }
        ensure!(
            theirs == ours || theirs == Reading::Crashed || is_beyond_its_table(&theirs, &ours),
            "  conntrack: {theirs:?}\n  ours:      {ours:?}"
        );
        Ok(())
    }

    fn reads(&self, words: &[Vec<u8>], seconds: u32) -> anyhow::Result<Reading> {
        let output = self
            .namespace
            .command("setpriv")
            // `-E` without a group of events needs no privileges, and waits for ever.
            .args(["--reuid=65534", "--clear-groups", "timeout", &seconds.to_string(), "conntrack"])
            .args(words.iter().map(|word| std::ffi::OsStr::from_bytes(word)))
            .output()
            .context("run conntrack")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = said.contains("\nTry `conntrack -h'") || is_other_refusal(&said);
        Ok(match output.status.code() {
            None => {
                ensure!(output.status.signal().is_some(), "neither code nor signal");
                Reading::Crashed
            }
            Some(TIMED_OUT) => Reading::Taken,
            Some(128..) => Reading::Crashed,
            Some(0) if output.stdout.starts_with(b"Command line interface") => Reading::Help,
            Some(code) if refused => Reading::Refused(said, code),
            Some(_) => Reading::Taken,
        })
    }
}

/// For a line without a command 1.4.7 reads the row behind its last one, in which the bytes of
/// whatever comes next allow `--reply-zone`.
fn is_beyond_its_table(theirs: &Reading, ours: &Reading) -> bool {
    let Reading::Refused(said, _) = ours else { return false };
    *theirs == Reading::Help && said.contains("Illegal option `--reply-zone' with this command")
}

/// The two refusals that are no usage errors.
fn is_other_refusal(said: &str) -> bool {
    ["cannot combine save output", "cannot use --label-add and"]
        .iter()
        .any(|message| said.contains(message))
}

fn reads(words: &[Vec<u8>]) -> Reading {
    let program = OsString::from("conntrack");
    let words = words.iter().map(|word| OsString::from_vec(word.clone()));
    let line: Vec<_> = std::iter::once(program).chain(words).collect();
    let (warnings, failure) = match parse(&line) {
        // Without privileges conntrack does not come as far as to look at its filters.
        Ok(invocation) if invocation.command == Command::Events => return Reading::Taken,
        Ok(invocation) if invocation.command == Command::Help => return Reading::Help,
        Ok(invocation) => match check_filters(&invocation) {
            Ok(()) => return Reading::Taken,
            Err(failure) => (invocation.warnings, failure),
        },
        Err(Refused { warnings, failure }) => (warnings, failure),
    };
    let mut said = Vec::new();
    for warning in warnings {
        said.extend(format!("{warning}\n").into_bytes());
    }
    failure.report(&mut said).unwrap_or_default();
    Reading::Refused(String::from_utf8_lossy(&said).into_owned(), failure.exit_code().into())
}
