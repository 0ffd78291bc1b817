//! `ctkeeper conntrack`, and the binary called as `conntrack`: conntrack(8), replaced.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use ctkeeper_conntrack::Streams;
use ctkeeper_netlink::netns;

use super::namespaces::Selection;
use crate::cli::Global;
use crate::exit::UsageError;
use crate::ui::say;

const EXAMPLES: &str = "\
Examples:
  ctkeeper conntrack -L -p tcp --dport 443   as conntrack prints
  ctkeeper conntrack -E -e NEW -o timestamp
  ctkeeper --netns blue conntrack -S         in another network namespace
  ln -s \"$(command -v ctkeeper)\" /usr/local/sbin/conntrack

The words, the output and the exit codes are those of conntrack-tools 1.4.7: see conntrack(8), and
`ctkeeper conntrack -h` for a summary.";

/// What follows is conntrack's.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct ConntrackArgs {
    /// Command, table and options, as conntrack(8) has them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Runs conntrack if this is a call of it, before anything else: its words are not ours, and a script
/// that asks for a count a thousand times feels every millisecond.
pub(crate) fn run_if_called(arguments: &[OsString]) -> Option<ExitCode> {
    let (program, rest) = arguments.split_first()?;
    if Path::new(program).file_name() == Some(OsStr::new("conntrack")) {
        return Some(execute(arguments));
    }
    let (command, rest) = rest.split_first()?;
    if command != "conntrack" {
        return None;
    }
    let code = execute(&called(program, rest));
    if code == ExitCode::from(WRONG)
        && let Some(hint) = hint(rest)
    {
        say!("ctkeeper: {hint}");
    }
    Some(code)
}

/// conntrack's exit code of a wrong command line.
const WRONG: u8 = 2;

/// Options of ours that conntrack did not understand.
fn hint(rest: &[OsString]) -> Option<&'static str> {
    let has = |name: &str| {
        rest.iter().filter_map(|word| word.to_str()).any(|word| {
            word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    };
    if has("--netns") {
        return Some(BEFORE);
    }
    has("--json").then_some(NO_JSON)
}

const BEFORE: &str =
    "--netns stands before the word conntrack: `ctkeeper --netns NAME conntrack -S`";

/// Runs conntrack in the namespace of `--netns`.
pub(crate) fn run(args: &ConntrackArgs, global: &Global) -> anyhow::Result<ExitCode> {
    if global.json {
        return Err(UsageError(NO_JSON.to_owned()).into());
    }
    let arguments = called(OsStr::new("ctkeeper"), &args.arguments);
    match Selection::of(global)? {
        Selection::Own => Ok(execute(&arguments)),
        Selection::One(namespace) => Ok(netns::enter(&namespace, |_| execute(&arguments))?),
        Selection::All(_) => Err(UsageError(ONE_NAMESPACE.to_owned()).into()),
    }
}

const NO_JSON: &str =
    "conntrack knows no JSON: `ctkeeper list --json` does, and `conntrack -o xml`";
const ONE_NAMESPACE: &str = "conntrack works in one namespace: name it with --netns, or take \
                             `ctkeeper list`, `count` or `stats`, which know all of them";

/// The program is named as it was called, so that its help shows what to type.
fn called(program: &OsStr, arguments: &[OsString]) -> Vec<OsString> {
    let mut name = program.to_owned();
    name.push(" conntrack");
    std::iter::once(name).chain(arguments.iter().cloned()).collect()
}

fn execute(arguments: &[OsString]) -> ExitCode {
    let streams = Streams { out: &mut io::stdout().lock(), err: &mut io::stderr().lock() };
    ExitCode::from(ctkeeper_conntrack::run(arguments, streams))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_options_stand_before_conntracks_words() {
        let hint = |line: &str| hint(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(hint("--netns blue -S"), Some(BEFORE));
        assert_eq!(hint("-S --netns=blue"), Some(BEFORE));
        assert_eq!(hint("-L --json"), Some(NO_JSON));
        assert_eq!(hint("-L --netnsx"), None);
    }
}
