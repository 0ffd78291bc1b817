//! Exit codes, the same for every command.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use crate::ui::say;

/// All is well, or the command did what it was told.
pub(crate) const OK: u8 = 0;
/// The command failed. (doctor's verdicts have codes of their own: `Verdict::exit_code`.)
pub(crate) const FAILURE: u8 = 1;
/// doctor: could not tell, be it for a failure of its own.
pub(crate) const UNKNOWN: u8 = 3;
/// fix: the plan was printed and not applied.
pub(crate) const NOT_APPLIED: u8 = 4;
/// The command line is wrong (`EX_USAGE`), so that a typo in cron is no CRITICAL.
pub(crate) const USAGE: u8 = 64;

/// A mistake in the command line that the argument parser cannot see.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl UsageError {
    /// `--json` beside an `--output` that is something else.
    pub(crate) fn two_formats() -> Self {
        Self("--json and --output ask for different formats: give one of them".to_owned())
    }
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Prints an error with its causes and gives the exit code it deserves; `failure` where the error
/// itself names none.
pub(crate) fn report(error: &anyhow::Error, failure: u8) -> ExitCode {
    say!("ctkeeper: {}", with_causes(error));
    ExitCode::from(if error.is::<UsageError>() { USAGE } else { failure })
}

/// An error's text and those of its causes that it does not tell already.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        match (text.is_empty(), text.contains(&cause)) {
            (true, _) => cause,
            (_, true) => text,
            (_, false) => format!("{text}: {cause}"),
        }
    })
}

/// Whether nobody reads the output any more. For a command that only shows that is success:
/// `ctkeeper list | head` did what was asked.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}
