//! `ctkeeper generate`: man pages and shell completions, made from the command line's definition.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

use crate::cli;
use crate::exit;

/// Options of `ctkeeper generate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What to make
    what: What,
    /// The folder to write it to
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Man pages, one a command
    Man,
    /// Completions for bash, zsh and fish
    Completions,
    /// Both
    All,
}

/// Writes the files.
pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.folder).with_context(|| args.folder.display().to_string())?;
    if args.what != What::Completions {
        man(&args.folder)?;
    }
    if args.what != What::Man {
        completions(&args.folder)?;
    }
    Ok(ExitCode::from(exit::OK))
}

fn man(folder: &Path) -> anyhow::Result<()> {
    let mut command = cli::command();
    command.build();
    pages(folder, &command, "ctkeeper")
}

/// The page of a command and those of its own commands, which it refers to.
fn pages(folder: &Path, command: &clap::Command, name: &str) -> anyhow::Result<()> {
    page(folder, command, name)?;
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    for subcommand in shown {
        pages(folder, subcommand, &format!("{name}-{}", subcommand.get_name()))?;
    }
    Ok(())
}

fn page(folder: &Path, command: &clap::Command, name: &str) -> anyhow::Result<()> {
    let path = folder.join(format!("{name}.8"));
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    // The page's name must outlive the command: it is made once in a short run.
    let command = command.clone().name(String::leak(name.to_owned()) as &'static str);
    Ok(Man::new(command).section("8").render(&mut file)?)
}

fn completions(folder: &Path) -> anyhow::Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut cli::command(), "ctkeeper", folder)
            .with_context(|| format!("completions for {shell}"))?;
    }
    Ok(())
}
