//! `ctkeeper flush`: empties a namespace's table.

use std::process::ExitCode;

use clap::Args;
use ctkeeper_flow::{Filter, units};

use super::agreement::{Agreement, AgreementArgs, EXIT_CODES, Proposal, Scope};
use super::delete::{consequences, not_given};
use super::matching::Matching;
use super::namespaces::Selection;
use super::outcome::{End, Outcome};
use crate::cli::Global;
use crate::ui::Screen;

const EXAMPLES: &str = "\
Examples:
  ctkeeper flush                          counted, shown in part, asked
  ctkeeper flush --netns blue --yes
  ctkeeper save > before && ctkeeper flush --yes && ctkeeper restore before
  ctkeeper flush --expectations --yes     what helpers expect; entries stay

It empties the table of one namespace with a single request, which carries no filter: `ctkeeper
delete` takes a filter and deletes one by one. On a host with containers or Kubernetes, every
translated connection of the namespace that lives is cut or translated anew.";

/// Options of `ctkeeper flush`.
#[derive(Clone, Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct FlushArgs {
    /// Delete what helpers expect instead of entries
    #[arg(long)]
    expectations: bool,

    #[command(flatten)]
    agreement: AgreementArgs,
}

/// Empties the table.
pub(crate) fn run(args: &FlushArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let mut table = Selection::of(global)?.only_table(ONE_NAMESPACE)?;
    let (one, several) =
        if args.expectations { ("expectation", "expectations") } else { ("entry", "entries") };
    let count = if args.expectations {
        table.expectation_count()?
    } else {
        table.count_and_limit()?.entries
    };
    let count = u64::from(count);
    let mut outcome = Outcome::of("flush", count).with_nouns(one, several);
    if count == 0 {
        outcome.end = End::NothingToDo;
        return outcome.tell("deleted: there is none", global.json);
    }
    if !args.agreement.is_given() {
        let is_read = !args.expectations && !global.json;
        let matching = if is_read {
            Matching::read(&mut table, &Filter::default())?
        } else {
            Matching::default()
        };
        let proposal = Proposal {
            what: format!(
                "All {} of this namespace will be deleted:",
                units::counted(count, one, several)
            ),
            sample: &matching.sample,
            count,
            scope: Scope::Whatever,
            consequences: if is_read { consequences(matching.translated) } else { Vec::new() },
            question: "Flush?",
        };
        let screen = Screen::stdout(global.color);
        if args.agreement.reach(&proposal, global.json, screen)? == Agreement::NotGiven {
            return not_given(outcome, global.json);
        }
    }
    if args.expectations {
        table.flush_expectations()?;
    } else {
        table.flush()?;
    }
    outcome.done = count;
    outcome.tell("deleted", global.json)
}

const ONE_NAMESPACE: &str = "flush empties one namespace: name it with --netns";
