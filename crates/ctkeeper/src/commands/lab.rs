//! `ctkeeper lab`: what can go wrong with connection tracking, on a real kernel, in namespaces that
//! go away again.

mod draw;
mod hands;
mod nightmare;

use std::cell::Cell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use ctkeeper_lab::scenario::{self, Event, Hands, RunReport, Scenario};
use ctkeeper_lab::{LabError, artefacts, catch_signals};
use serde_json::json;

use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{Screen, say};

/// Options of `ctkeeper lab`.
#[derive(Clone, Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  ctkeeper lab nightmare         a load balancer runs into the limit
  ctkeeper lab list              the scenarios, and what doctor finds in each
  ctkeeper lab run full          run one; say whether all came as expected
  ctkeeper lab run ./mine.toml   run one of your own
  ctkeeper lab clean             remove what a killed run has left

Everything happens in network namespaces of the lab's own (ctk-PID-…), which go away at the end,
also on control-C; after kill -9 the next run removes them. What is global to the host is only
ever raised, by one run at a time, and put back. Scenarios are TOML: docs/lab.md."
)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum LabCommand {
    /// A load balancer runs into the limit: the wrong fix, the right one, recovery, in a minute
    Nightmare(NightmareArgs),
    /// The scenarios that come with ctkeeper
    List,
    /// Run a scenario: phases, figures, doctor's verdicts, whether all came as expected
    Run(RunArgs),
    /// Remove what runs left that were killed, and put the host's values back
    Clean,
}

/// Options of `ctkeeper lab run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ctkeeper lab run full                   one that comes with ctkeeper
  ctkeeper lab run ./mine.toml --json     one of your own
  ctkeeper lab run full --artefacts DIR   keep the logs if it fails

Exit codes: 0 everything came as expected, 1 it did not or could not run, 64 wrong command line
or scenario. Needs root.")]
struct RunArgs {
    /// A scenario's name, or a file
    #[arg(value_name = "NAME|FILE")]
    scenario: String,

    /// Keep statistics, rules and logs of a run that fails below this folder [default: target/lab
    /// in a workspace, else the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    artefacts: Option<PathBuf>,
}

/// Options of `ctkeeper lab nightmare`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ctkeeper lab nightmare          watch it happen
  ctkeeper lab nightmare --json   the report as JSON

Real clients reach real back ends through HAProxy (Debian package haproxy) and a stateful firewall
(nftables), in namespaces of the lab's own. Their table is filled to the limit that this host has;
the host's own connections are not touched: each namespace has a count of its own. For the right fix
the host's limit and buckets are raised, and put back at the end. Needs root, about a minute, and
1 GiB of memory.

Exit codes: 0 everything came as expected, 1 it did not or could not run.")]
struct NightmareArgs {
    /// Keep statistics, rules and logs of a run that fails below this folder [default: target/lab
    /// in a workspace, else the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    artefacts: Option<PathBuf>,
}

impl LabArgs {
    /// Whether it does nothing but write.
    pub(crate) const fn only_shows(&self) -> bool {
        matches!(self.command, LabCommand::List)
    }
}

/// Lists, runs, cleans.
pub(crate) fn run(args: &LabArgs, global: &Global) -> anyhow::Result<ExitCode> {
    if global.netns.is_some() {
        let text = "lab makes its own network namespaces: it takes no --netns".to_owned();
        return Err(UsageError(text).into());
    }
    match &args.command {
        LabCommand::List => list(global),
        LabCommand::Nightmare(args) => {
            let telling = Telling::new(global);
            let nightmare = find("nightmare")?;
            play(&nightmare, args.artefacts.as_deref(), &telling, |out, report| {
                nightmare::draw(out, telling.screen, report)
            })
        }
        LabCommand::Run(args) => {
            let telling = Telling::new(global);
            let scenario = find(&args.scenario)?;
            play(&scenario, args.artefacts.as_deref(), &telling, |out, report| {
                draw::report(out, telling.screen, &scenario, report)
            })
        }
        LabCommand::Clean => clean(global),
    }
}

fn list(global: &Global) -> anyhow::Result<ExitCode> {
    let all = scenario::embedded().iter().map(|(name, text)| Scenario::parse(name, text));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let mut out = io::stdout().lock();
    if global.json {
        let rows: Vec<_> = all.iter().map(as_json).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
    } else {
        draw::list(&mut out, Screen::stdout(global.color), &all)?;
    }
    Ok(ExitCode::from(exit::OK))
}

fn as_json(scenario: &Scenario) -> serde_json::Value {
    json!({
        "name": scenario.name,
        "title": scenario.title,
        "about": scenario.about.trim(),
        "finds": scenario.finds,
        "phases": scenario.phases.len(),
        "needs": scenario.needs(),
    })
}

fn clean(global: &Global) -> anyhow::Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        let operation = "look for what killed runs left".to_owned();
        return Err(LabError::NotRoot { operation }.into());
    }
    let cleaned = ctkeeper_lab::clean()?;
    let mut out = io::stdout().lock();
    if global.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&cleaned)?)?;
    } else {
        draw::cleaned(&mut out, &cleaned)?;
    }
    Ok(ExitCode::from(if cleaned.failed.is_empty() { exit::OK } else { exit::FAILURE }))
}

/// Runs a scenario and draws its report.
fn play(
    scenario: &Scenario,
    artefacts: Option<&Path>,
    telling: &Telling,
    draw: impl FnOnce(&mut io::StdoutLock<'static>, &RunReport) -> io::Result<()>,
) -> anyhow::Result<ExitCode> {
    catch_signals()?;
    let mut event = |event: Event<'_>| telling.hear(event);
    let mut hands = Hands {
        judge: &mut hands::judge,
        fix: &mut hands::fix,
        event: &mut event,
        artefacts: artefacts.map_or_else(artefacts::parent_folder, Path::to_path_buf),
    };
    let report = scenario::run(scenario, &mut hands)?;
    if telling.json {
        telling.say(|out| writeln!(out, "{}", serde_json::to_string_pretty(&report)?));
    } else {
        telling.say(|out| draw(out, &report));
    }
    Ok(ExitCode::from(if report.met { exit::OK } else { exit::FAILURE }))
}

/// A name is one of the scenarios that come with ctkeeper; what looks like a path is a file.
fn find(wanted: &str) -> anyhow::Result<Scenario> {
    let path = Path::new(wanted);
    let is_file = wanted.contains('/') || path.extension().is_some_and(|end| end == "toml");
    let read = match Scenario::named(wanted) {
        Some(read) if !is_file => read,
        _ if is_file => Scenario::read(path),
        _ => {
            let known: Vec<_> = scenario::embedded().iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            let text =
                format!("there is no scenario {wanted:?}; there is: {known} (or give ./FILE)");
            return Err(UsageError(text).into());
        }
    };
    read.map_err(|error| match error {
        LabError::Scenario { .. } => UsageError(error.to_string()).into(),
        other => other.into(),
    })
}

/// Tells what happens. Whether anybody listens must not stop a run half-way.
struct Telling {
    screen: Screen,
    json: bool,
    silenced: Cell<bool>,
}

impl Telling {
    fn new(global: &Global) -> Self {
        let screen = Screen::stdout(global.color);
        Self { screen, json: global.json, silenced: Cell::new(false) }
    }

    /// Progress goes to standard error in JSON mode, so that standard output stays JSON.
    fn hear(&self, event: Event<'_>) {
        if self.json {
            if let Some(line) = draw::event_line(event) {
                say!("{line}");
            }
        } else {
            self.say(|out| draw::event(out, self.screen, event));
        }
    }

    fn say(&self, write: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()>) {
        if self.silenced.get() {
            return;
        }
        let mut out = io::stdout().lock();
        let written = write(&mut out).and_then(|()| out.flush());
        self.silenced.set(written.is_err());
    }
}

/// What a run's callbacks hand back as an error.
fn boxed<T>(result: anyhow::Result<T>) -> Result<T, scenario::CallerError> {
    result.context("in the lab").map_err(anyhow::Error::into_boxed_dyn_error)
}

#[cfg(test)]
mod tests {
    use ctkeeper_lab::scenario::CAUSES;

    /// The lab does not know the rules: one that is renamed would never be found again.
    #[test]
    fn every_cause_is_a_finding_of_doctors() {
        for cause in CAUSES {
            assert!(ctkeeper_diagnosis::rule(cause).is_some(), "{cause}");
        }
    }
}
