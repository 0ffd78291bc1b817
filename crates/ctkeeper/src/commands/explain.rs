//! `ctkeeper explain ID`: a finding in full.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use ctkeeper_diagnosis::{RULES, Rule, Thresholds, rule};
use serde_json::json;

use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{Screen, explanation};

/// Options of `ctkeeper explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  ctkeeper explain               every id with its title\n  \
                        ctkeeper explain second-wall   why, evidence, remedies, traps\n  \
                        ctkeeper explain thresholds    the numbers at which rules speak, as TOML")]
pub(crate) struct ExplainArgs {
    /// The finding's id, or `thresholds`; all ids are listed without it
    id: Option<String>,
}

/// Prints the explanation.
pub(crate) fn run(args: &ExplainArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let screen = Screen::stdout(global.color);
    let mut out = io::stdout().lock();
    match args.id.as_deref() {
        None if global.json => {
            let all: Vec<_> = RULES.iter().map(as_json).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        }
        None => list(&mut out, &screen)?,
        Some("thresholds") => print_thresholds(&mut out, global.json)?,
        Some(id) => {
            let rule = rule(id).ok_or_else(|| unknown(id))?;
            if global.json {
                writeln!(out, "{}", serde_json::to_string_pretty(&as_json(rule))?)?;
            } else {
                explanation::draw(&mut out, &screen, rule)?;
            }
        }
    }
    Ok(ExitCode::from(exit::OK))
}

fn list(out: &mut impl Write, screen: &Screen) -> io::Result<()> {
    for rule in RULES {
        let padding = 24_usize.saturating_sub(rule.id.len());
        writeln!(out, "{}{:padding$}{}", screen.paint(Screen::STRONG, rule.id), "", rule.title)?;
    }
    writeln!(out, "{}{:14}their numbers", screen.paint(Screen::STRONG, "thresholds"), "")
}

fn print_thresholds(out: &mut impl Write, json: bool) -> anyhow::Result<()> {
    let thresholds = Thresholds::default();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&thresholds)?)?;
    } else {
        writeln!(out, "# docs/thresholds.md says what each one means.")?;
        writeln!(out, "# Put what you change into /etc/ctkeeper/thresholds.toml.")?;
        write!(out, "{}", thresholds.to_toml())?;
    }
    Ok(())
}

fn as_json(rule: &Rule) -> serde_json::Value {
    let text = rule.explanation;
    json!({
        "id": rule.id, "title": rule.title, "why": text.why, "evidence": text.evidence,
        "remedies": text.remedies, "traps": text.traps,
    })
}

fn unknown(id: &str) -> UsageError {
    let known: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
    UsageError(format!("there is no finding {id:?}; there are: {}", known.join(", ")))
}
