//! `ctkeeper delete`: takes entries out of the table, one by one.

use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use ctkeeper_flow::units;
use ctkeeper_netlink::Conntrack;

use super::agreement::{Agreement, AgreementArgs, EXIT_CODES, Proposal, Scope};
use super::filter::{FILTER_HELP, FilterArgs};
use super::matching::{Found, Matching, filter_that_says};
use super::namespaces::Selection;
use super::outcome::{End, Outcome};
use crate::cli::Global;
use crate::exit;
use crate::ui::{Screen, say};

const EXAMPLES: &str = "\
Examples:
  ctkeeper delete src 10.0.0.7                    shown, counted, asked
  ctkeeper delete udp dport 53 unreplied --yes    without asking
  ctkeeper delete 'state TIME_WAIT timeout < 60' --dry-run
  ctkeeper delete --netns blue dnat dport 443 --yes --json

A live connection gets a new entry with its next packet, where the rules let it through as new (TCP is
picked up in its middle if nf_conntrack_tcp_loose is 1). A translated one breaks, or is translated
anew: behind a Kubernetes Service or a published port that may be another back end. What has to stop
must be stopped by a rule first.
Each entry is named to the kernel by tuple, zone and id, so that a later connection of the same tuple
stays (unless the kernel put it into the same memory, which makes it the same id). `ctkeeper flush`
empties a table.";

/// Options of `ctkeeper delete`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}\n\n{FILTER_HELP}"),
    mut_arg("words", |filter| filter.help(
        "Which entries to delete, such as `tcp dport 443 not assured`; required: `ctkeeper flush` empties the table"
    ))
)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    agreement: AgreementArgs,
}

/// Deletes the entries that match.
pub(crate) fn run(args: &DeleteArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let filter = filter_that_says(&args.filter, "`ctkeeper flush` deletes all of them")?;
    let mut table = Selection::of(global)?.only_table(ONE_NAMESPACE)?;
    let standing = table.count_and_limit()?.entries;
    let mut matching = Matching::read(&mut table, &filter)?;
    let mut outcome = Outcome::of("delete", matching.count()).with_sample(&matching.sample);
    if matching.found.is_empty() {
        outcome.end = End::NothingToDo;
        matching.carried.warn(&filter);
        return outcome.tell("deleted: none matches", global.json);
    }
    let count = units::counted(matching.count(), "entry", "entries");
    let proposal = Proposal {
        what: format!("{count} of {} will be deleted:", units::count(standing.into())),
        sample: &matching.sample,
        count: matching.count(),
        scope: Scope::These,
        consequences: consequences(matching.translated),
        question: "Delete?",
    };
    match args.agreement.reach(&proposal, global.json, Screen::stdout(global.color))? {
        Agreement::NotGiven => return not_given(outcome, global.json),
        Agreement::Given => {}
        Agreement::Asked => {
            let agreed = matching.count();
            matching.recheck(&mut table, &filter)?;
            outcome.spared = agreed.saturating_sub(matching.count());
        }
    }
    delete(&mut table, &matching, &mut outcome)?;
    if matching.undecodable > 0 {
        say!("ctkeeper: {} entries could not be read and stay.", matching.undecodable);
    }
    outcome.tell("deleted", global.json)
}

const ONE_NAMESPACE: &str = "delete works in one namespace: name it with --netns";

/// What a deletion does to what lives.
pub(super) fn consequences(translated: u64) -> Vec<String> {
    let mut sentences = vec![
        "A live connection gets a new entry with its next packet, where the rules let it through \
         as new."
            .to_owned(),
    ];
    if translated > 0 {
        let whose = match translated {
            1 => "1 of them is".to_owned(),
            _ => format!("{} of them are", units::count(translated)),
        };
        sentences.push(format!(
            "{whose} translated (NAT: Kubernetes Services, published ports of containers, \
             masquerading): if alive, it breaks or is translated anew."
        ));
    }
    sentences
}

/// The end of a command that was not agreed to.
pub(super) fn not_given(mut outcome: Outcome, json: bool) -> anyhow::Result<ExitCode> {
    outcome.end = End::Planned;
    if json {
        return outcome.tell("", true);
    }
    say!("Nothing was changed.");
    Ok(ExitCode::from(exit::NOT_APPLIED))
}

fn delete(table: &mut Conntrack, matching: &Matching, outcome: &mut Outcome) -> anyhow::Result<()> {
    let batch = table.delete_batch(matching.found.iter().map(Found::flow), |_, error| {
        outcome.refused(&error);
        ControlFlow::Continue(())
    })?;
    outcome.done = batch.done;
    Ok(())
}
