//! How a command of conntrack fails, in its words.

use std::io::{self, Write};

use ctkeeper_netlink::{Errno, Error};

use crate::invocation::{Command, Table};

/// Exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of a command line that is wrong.
pub(crate) const USAGE: u8 = 2;
/// Exit code, as shells show it, of a program that writes to a pipe which nobody reads.
const BROKEN_PIPE: u8 = 128 + 13;

/// Why a command ends with another exit code than 0.
///
/// Messages are bytes: what arguments quote need not be UTF-8.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong: exit code 2, and where to find help.
    Usage(Vec<u8>),
    /// Something else is wrong: exit code 1.
    Problem(Vec<u8>),
    /// The kernel refused: exit code 1 behind `Operation failed: `.
    Operation(String),
    /// All has been said, the exit code is 1: nothing was deleted, or changed.
    Nothing,
    /// The output could not be written. Where nobody reads any more there is nothing to say.
    Output(io::Error),
}

impl Failure {
    /// A mistake in the command line.
    pub fn usage(message: impl Into<Vec<u8>>) -> Self {
        Self::Usage(message.into())
    }

    /// Any other trouble that is not the kernel's refusal.
    pub fn problem(message: impl Into<Vec<u8>>) -> Self {
        Self::Problem(message.into())
    }

    /// The kernel's refusal of a command, in conntrack's words.
    pub fn operation(error: &Error, command: &Command, table: Table) -> Self {
        Self::Operation(match error.errno() {
            Some(errno) => errno_text(errno, command, table),
            None => error.to_string(),
        })
    }

    /// The kernel's refusal by its error number alone.
    pub fn errno(errno: Errno, command: &Command, table: Table) -> Self {
        Self::Operation(errno_text(errno, command, table))
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => BROKEN_PIPE,
            Self::Problem(_) | Self::Operation(_) | Self::Nothing | Self::Output(_) => FAILED,
        }
    }

    /// Writes what conntrack writes to standard error.
    pub fn report(&self, err: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Usage(message) => {
                say(err, message)?;
                err.write_all(TRY_HELP)
            }
            Self::Problem(message) => say(err, message),
            Self::Operation(text) => say(err, format!("Operation failed: {text}").as_bytes()),
            Self::Output(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                say(err, format!("Can't write: {}", plain(error)).as_bytes())
            }
            Self::Output(_) | Self::Nothing => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The program's name and version, as every message begins.
pub(crate) const PREFIX: &[u8] = b"conntrack v1.4.7 (conntrack-tools): ";

const TRY_HELP: &[u8] = b"Try `conntrack -h' or 'conntrack --help' for more information.\n";

/// A line of standard error as conntrack begins them, in one write.
pub(crate) fn say(err: &mut dyn Write, message: &[u8]) -> io::Result<()> {
    err.write_all(&[PREFIX, message, b"\n"].concat())
}

/// What an error number means for a command; in doubt the system's own words.
pub(crate) fn errno_text(Errno(errno): Errno, command: &Command, table: Table) -> String {
    use Command::{Add, Create, Delete, Get, List};
    /// In the kernel, and in no header of the C library.
    const NOT_SUPPORTED_BY_KERNEL: i32 = 524;
    let expectations = table == Table::Expect;
    let text = match (errno, command) {
        (NOT_SUPPORTED_BY_KERNEL, List) if !expectations => "function not implemented",
        (libc::EINVAL, _) if names_invalid(command, table) => "invalid parameters",
        (libc::EEXIST, Create) if !expectations => "Such conntrack exists, try -U to update",
        (libc::ENOENT, Create | Get | Delete | Add) if !expectations => {
            "such conntrack doesn't exist"
        }
        (libc::ENOMEM, Create | Get | Add) if !expectations => "not enough memory",
        (libc::EAFNOSUPPORT, Get) if !expectations => "protocol not supported",
        (libc::ETIME, Create | Add) if !expectations => "conntrack has expired",
        (libc::ENOENT, Create) => "master conntrack not found",
        (libc::EPERM, _) => "sorry, you must be root or get CAP_NET_ADMIN capability to do this",
        _ => return plain(&io::Error::from_raw_os_error(errno)),
    };
    text.to_owned()
}

/// conntrack has words of its own for EINVAL with all but its youngest commands.
fn names_invalid(command: &Command, table: Table) -> bool {
    match command {
        Command::Statistics | Command::Add => false,
        Command::Count => table != Table::Expect,
        _ => true,
    }
}

/// The system's words for an error, without the number that Rust adds.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) if error.raw_os_error().is_some() => text[..end].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_conntracks_words() {
        let text = |errno, command| errno_text(Errno(errno), &command, Table::Conntrack);
        assert_eq!(text(libc::EEXIST, Command::Create), "Such conntrack exists, try -U to update");
        assert_eq!(text(libc::EINVAL, Command::Create), "invalid parameters");
        assert_eq!(text(libc::EINVAL, Command::Add), "Invalid argument");
        assert_eq!(text(libc::ENOENT, Command::Update), "No such file or directory");
        assert_eq!(text(524, Command::Update), "Unknown error 524");
        assert_eq!(
            errno_text(Errno(libc::ENOENT), &Command::Create, Table::Expect),
            "master conntrack not found"
        );
    }

    #[test]
    fn reports_end_as_their_kind_says() {
        let mut err = Vec::new();
        Failure::usage(*b"bad \xff").report(&mut err).unwrap();
        assert_eq!(
            err,
            b"conntrack v1.4.7 (conntrack-tools): bad \xff\nTry `conntrack -h' or \
              'conntrack --help' for more information.\n"
        );
        let broken = Failure::Output(io::ErrorKind::BrokenPipe.into());
        err.clear();
        broken.report(&mut err).unwrap();
        assert_eq!((err.as_slice(), broken.exit_code()), (&b""[..], 141));
    }
}
