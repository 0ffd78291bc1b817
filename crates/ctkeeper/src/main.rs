//! `ctkeeper`: sees, explains and fixes a full connection tracking table.
//!
//! This binary is thin: it turns arguments into calls of the libraries and draws the values that
//! come back. What a command does is in `commands/`, how values are drawn in `ui/`.

#![deny(clippy::print_stderr, clippy::print_stdout)] // they panic when nobody reads any more

mod cli;
mod commands;
mod exit;
mod help;
mod hint;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(code) = commands::conntrack::run_if_called(&arguments) {
        return code;
    }
    let cli = match cli::parse(arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let (failure, only_shows) = (cli.command.failure(), cli.command.only_shows());
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) if only_shows && exit::is_broken_pipe(&error) => ExitCode::from(exit::OK),
        Err(error) => exit::report(&error, failure),
    }
}
