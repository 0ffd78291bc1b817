//! One module a command: arguments in, calls of the libraries, values drawn.

pub(crate) mod add;
mod agreement;
pub(crate) mod bundle;
pub(crate) mod conntrack;
pub(crate) mod count;
pub(crate) mod delete;
pub(crate) mod doctor;
mod expectations;
pub(crate) mod explain;
mod filter;
pub(crate) mod fix;
pub(crate) mod flush;
pub(crate) mod generate;
pub(crate) mod get;
pub(crate) mod lab;
pub(crate) mod list;
mod matching;
mod namespaces;
mod outcome;
pub(crate) mod restore;
pub(crate) mod save;
mod saved;
pub(crate) mod stats;
pub(crate) mod update;
mod values;
pub(crate) mod watch;
pub(crate) mod who;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Runs what the command line says.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Doctor(args) => doctor::run(&args, &cli.global),
        Command::Who(args) => who::run(&args, &cli.global),
        Command::List(args) => list::run(&args, &cli.global),
        Command::Get(args) => get::run(&args, &cli.global),
        Command::Add(args) => add::run(&args, &cli.global),
        Command::Update(args) => update::run(&args, &cli.global),
        Command::Delete(args) => delete::run(&args, &cli.global),
        Command::Flush(args) => flush::run(&args, &cli.global),
        Command::Save(args) => save::run(&args, &cli.global),
        Command::Restore(args) => restore::run(&args, &cli.global),
        Command::Count(args) => count::run(&args, &cli.global),
        Command::Stats(args) => stats::run(&args, &cli.global),
        Command::Watch(args) => watch::run(&args, &cli.global),
        Command::Conntrack(args) => conntrack::run(&args, &cli.global),
        Command::Explain(args) => explain::run(&args, &cli.global),
        Command::Fix(args) => fix::run(&args, &cli.global),
        Command::Bundle(args) => bundle::run(&args, &cli.global),
        Command::Lab(args) => lab::run(&args, &cli.global),
        Command::Generate(args) => generate::run(&args),
    }
}
