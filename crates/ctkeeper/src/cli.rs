//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use ctkeeper_observe::Selection;

use crate::commands::add::AddArgs;
use crate::commands::bundle::BundleArgs;
use crate::commands::conntrack::ConntrackArgs;
use crate::commands::count::CountArgs;
use crate::commands::delete::DeleteArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::explain::ExplainArgs;
use crate::commands::fix::FixArgs;
use crate::commands::flush::FlushArgs;
use crate::commands::generate::GenerateArgs;
use crate::commands::get::GetArgs;
use crate::commands::lab::LabArgs;
use crate::commands::list::ListArgs;
use crate::commands::restore::RestoreArgs;
use crate::commands::save::SaveArgs;
use crate::commands::stats::StatsArgs;
use crate::commands::update::UpdateArgs;
use crate::commands::watch::WatchArgs;
use crate::commands::who::WhoArgs;
use crate::exit::{self, UsageError};
use crate::help::{with_own_options, with_unbroken_prose};
use crate::hint;
use crate::ui::say;

/// Connection tracking: is this host all right, who fills the table, and the fix that lasts.
///
/// Without a command, ctkeeper is `ctkeeper doctor`, whose options it takes too.
#[derive(Debug, Parser)]
#[command(
    name = "ctkeeper",
    version,
    propagate_version = true,
    subcommand_required = true,
    after_help = "Examples:\n  \
                  ctkeeper                       judge this host: findings, each with its remedy\n  \
                  ctkeeper --window 2s           are packets being refused just now?\n  \
                  ctkeeper explain second-wall   a finding in full\n  \
                  ctkeeper fix --dry-run         what would be changed, and why\n  \
                  ctkeeper list dport 443        entries that match a filter\n  \
                  ctkeeper delete src 10.0.0.7   take entries out, after a look at them\n  \
                  ctkeeper bundle --anonymize    one file for somebody else to look at\n\n\
                  Exit codes: 0 ok; doctor: 1 warning, 2 critical, 3 could not tell; \
                  others: 1 failed; 4 shown and not done; 64 wrong command line.\n\
                  Looking never changes the host: only `fix` and its undo do, and `add`, `update`, `delete`, \
                  `flush` and `restore` the table; `lab nightmare` raises the limit for a while and puts it back."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Look into this network namespace: a name, pid, path or inode; `current`, `host` (the initial
    /// one) or `all`
    #[arg(long, global = true, value_name = "NAME|PID|PATH|INODE|all")]
    pub(crate) netns: Option<String>,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

impl Global {
    /// The namespaces that `--netns` names: all of them without it.
    pub(crate) fn selection(&self) -> Result<Selection, UsageError> {
        match self.netns.as_deref() {
            None | Some("all") => Ok(Selection::All),
            Some(name) => name
                .parse()
                .map(Selection::One)
                .map_err(|error| UsageError(format!("--netns: {error}"))),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Is this host all right? Findings by severity, each with the command that fixes it
    Doctor(DoctorArgs),
    /// Who holds the entries: container, pod, process, or another property
    Who(WhoArgs),
    /// The table's entries: all, or those that a filter means
    List(ListArgs),
    /// One entry, by its tuple
    Get(GetArgs),
    /// How many entries there are, or match a filter
    Count(CountArgs),
    /// The kernel's counters, per CPU
    Stats(StatsArgs),
    /// Events of the table as they happen
    Watch(WatchArgs),
    /// Make an entry
    Add(AddArgs),
    /// Change mark, timeout, status or labels of entries
    Update(UpdateArgs),
    /// Delete entries, one by one
    Delete(DeleteArgs),
    /// Empty a namespace's table
    Flush(FlushArgs),
    /// Write entries as lines that `restore` makes them from again
    Save(SaveArgs),
    /// Make entries from what `save`, `list` or conntrack wrote
    Restore(RestoreArgs),
    /// conntrack(8), replaced: the same words, output and exit codes (also when called as `conntrack`)
    Conntrack(ConntrackArgs),
    /// A finding in full: why, evidence, remedies, traps
    Explain(ExplainArgs),
    /// Raise limit and buckets, with proof, for good; and take it back
    Fix(FixArgs),
    /// One file for a colleague or a ticket: snapshot, findings, settings, log lines
    Bundle(BundleArgs),
    /// What can go wrong, on this kernel, in namespaces that go away again; and the cure
    Lab(LabArgs),
    /// Write man pages and shell completions
    #[command(hide = true)]
    Generate(GenerateArgs),
}

impl Command {
    /// The exit code of a failure that names none of its own: 1 would read as doctor's warning.
    pub(crate) const fn failure(&self) -> u8 {
        if matches!(self, Self::Doctor(_)) { exit::UNKNOWN } else { exit::FAILURE }
    }

    /// Whether it does nothing but write, so that a reader who has gone is no failure. doctor's
    /// verdict, deeds of fix, of the lab and in the table count also when nobody reads on, and half a
    /// saved table is none.
    pub(crate) const fn only_shows(&self) -> bool {
        match self {
            Self::Doctor(_)
            | Self::Fix(_)
            | Self::Add(_)
            | Self::Update(_)
            | Self::Delete(_)
            | Self::Flush(_)
            | Self::Save(_)
            | Self::Restore(_) => false,
            Self::Lab(args) => args.only_shows(),
            _ => true,
        }
    }
}

/// The definition of the command line.
pub(crate) fn command() -> clap::Command {
    with_own_options(with_unbroken_prose(Cli::command()))
}

/// The command line, or the exit code after its help, version or error has been printed.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Cli, ExitCode> {
    let matches = command().try_get_matches_from(with_default_command(arguments));
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        if let Some(hint) = hint::for_conntracks_words(&error) {
            say!("ctkeeper: {hint}");
            return ExitCode::from(exit::USAGE);
        }
        // Help that nobody reads any more is no failure.
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK })
    })
}

/// `ctkeeper --window 2s` means `ctkeeper doctor --window 2s`.
fn with_default_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let command = Cli::command();
    let names_command = |argument: &OsString| {
        argument == "help" || command.get_subcommands().any(|c| argument == c.get_name())
    };
    let asks_help = |argument: &OsString| {
        ["-h", "--help", "-V", "--version"].iter().any(|flag| argument == flag)
    };
    let first_is_option = arguments.get(1).is_none_or(|a| a.as_encoded_bytes().starts_with(b"-"));
    if first_is_option && !arguments.iter().skip(1).any(|a| names_command(a) || asks_help(a)) {
        arguments.insert(1.min(arguments.len()), "doctor".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_of(line: &str) -> Vec<OsString> {
        with_default_command(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn doctor_is_the_default_command() {
        assert_eq!(command_of("ctkeeper"), ["ctkeeper", "doctor"]);
        assert_eq!(command_of("ctkeeper --json"), ["ctkeeper", "doctor", "--json"]);
    }

    #[test]
    fn a_named_command_stays() {
        for line in ["ctkeeper --json doctor", "ctkeeper doctor", "ctkeeper frob", "ctkeeper -h"] {
            assert_eq!(command_of(line), line.split(' ').collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
