//! `ctkeeper update`: changes entries that are there.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ctkeeper_flow::{Labels, Mark, Status, units};
use ctkeeper_netlink::{Conntrack, EntryRequest, Errno, Error, Verb};
use rustix::io::Errno as Number;

use super::agreement::{Agreement, AgreementArgs, EXIT_CODES, Proposal, Scope};
use super::delete::not_given;
use super::filter::{FILTER_HELP, FilterArgs};
use super::matching::{Found, Matching, filter_that_says};
use super::namespaces::Selection;
use super::outcome::{End, Outcome};
use super::values;
use crate::cli::Global;
use crate::exit::UsageError;
use crate::ui::{Screen, say};

const EXAMPLES: &str = "\
Examples:
  ctkeeper update src 10.0.0.7 --mark 0x10                 asks if several
  ctkeeper update tcp dport 443 --mark 0x20/0xf0 --yes     only the mask's bits
  ctkeeper update 'udp timeout > 1h' --timeout 30s --dry-run
  ctkeeper update src 10.0.0.7 --status assured --label-add 7

A timeout holds until the connection's next packet, which sets that of its state again, unless the
entry has FIXED_TIMEOUT; that one can never be changed again. Status bits can be added, none can be removed. Labels stick only on entries
made while a rule of the namespace uses `ct label`.
The kernel finds the entry by its tuple alone: a connection that ends, and begins again with the same
tuple, in the instant between reading and changing is changed in its place.";

/// Options of `ctkeeper update`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}\n\n{FILTER_HELP}"),
    mut_arg("words", |filter| filter.help(
        "Which entries to change, such as `tcp dport 443 not assured`; required: `ipv4` or `ipv6` is every one of a family"
    ))
)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Set the mark; with a mask, these bits of it
    #[arg(long, value_name = "MARK[/MASK]", value_parser = values::masked_mark)]
    mark: Option<(Mark, u32)>,

    /// Set the timeout: 30s, 5m, 2h, 5d
    #[arg(long, value_name = "TIME", value_parser = values::lifetime)]
    timeout: Option<Duration>,

    /// Add status bits: assured, seen_reply, fixed_timeout
    #[arg(long, value_name = "BIT,…", value_delimiter = ',', value_parser = values::status)]
    status: Vec<Status>,

    /// Set labels, by their bits
    #[arg(long, value_name = "BIT,…", value_delimiter = ',', value_parser = values::label())]
    label_add: Vec<u8>,

    /// Clear labels, by their bits
    #[arg(long, value_name = "BIT,…", value_delimiter = ',', value_parser = values::label())]
    label_remove: Vec<u8>,

    #[command(flatten)]
    agreement: AgreementArgs,
}

/// Changes the entries that match.
pub(crate) fn run(args: &UpdateArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let instead = "`'ipv4 or ipv6'` means all of them";
    let filter = filter_that_says(&args.filter, instead)?;
    let change = args.change()?;
    let mut table = Selection::of(global)?.only_table(ONE_NAMESPACE)?;
    let standing = table.count_and_limit()?.entries;
    let mut matching = Matching::read(&mut table, &filter)?;
    let mut outcome = Outcome::of("update", matching.count()).with_sample(&matching.sample);
    if matching.found.is_empty() {
        outcome.end = End::NothingToDo;
        matching.carried.warn(&filter);
        return outcome.tell("updated: none matches", global.json);
    }
    let count = units::counted(matching.count(), "entry", "entries");
    let proposal = Proposal {
        what: format!("{count} of {} will be changed:", units::count(standing.into())),
        sample: &matching.sample,
        count: matching.count(),
        scope: Scope::These,
        consequences: args.consequences(),
        question: "Change?",
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
    change.make(&mut table, &matching, &mut outcome)?;
    change.look_at_timeout(&mut table, &matching)?;
    outcome.tell("updated", global.json)
}

const ONE_NAMESPACE: &str = "update works in one namespace: name it with --netns";

impl UpdateArgs {
    fn change(&self) -> Result<Change, UsageError> {
        let status = self.status.iter().fold(Status::default(), |all, bit| all | *bit);
        let touched = self.label_add.iter().chain(&self.label_remove).copied();
        if self.label_add.iter().any(|bit| self.label_remove.contains(bit)) {
            return Err(UsageError("the same label cannot be set and cleared".to_owned()));
        }
        let change = Change {
            mark: self.mark,
            timeout: self.timeout.map(values::seconds),
            status,
            labels: Labels::from_bits(self.label_add.iter().copied()),
            touched_labels: Labels::from_bits(touched),
        };
        let nothing = Change::default();
        if change == nothing {
            return Err(UsageError(
                "what is to change? --mark, --timeout, --status, --label-add or --label-remove"
                    .to_owned(),
            ));
        }
        Ok(change)
    }

    fn consequences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.mark.is_some() {
            sentences
                .push("Rules and routes that look at the mark follow it from the next packet on.");
        }
        if self.timeout.is_some() {
            sentences.push(
                "The timeout holds until a connection's next packet; an idle connection ends with it.",
            );
        }
        if self.status.contains(&Status::ASSURED) {
            sentences.push("Assured entries are never evicted when the table is full.");
        }
        sentences.into_iter().map(str::to_owned).collect()
    }
}

/// What is to be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Change {
    mark: Option<(Mark, u32)>,
    timeout: Option<u32>,
    status: Status,
    labels: Labels,
    touched_labels: Labels,
}

impl Change {
    /// Labels first: the kernel makes them last, and were they refused then, the rest would have been
    /// done without a word.
    fn make(
        self,
        table: &mut Conntrack,
        matching: &Matching,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let rest = Self { labels: Labels::default(), touched_labels: Labels::default(), ..self };
        if rest == Self::default() || rest == self {
            outcome.done = self.make_all(table, &matching.found, outcome)?.len() as u64;
            return Ok(());
        }
        let labels =
            Self { labels: self.labels, touched_labels: self.touched_labels, ..Self::default() };
        let labelled = labels.make_all(table, &matching.found, outcome)?;
        outcome.done = rest.make_all(table, &labelled, outcome)?.len() as u64;
        Ok(())
    }

    /// Says so where the kernel holds a shorter timeout than the one asked for.
    fn look_at_timeout(self, table: &mut Conntrack, matching: &Matching) -> anyhow::Result<()> {
        // Only these can be too long at any rate of the kernel's clock.
        const LONG: u32 = u32::MAX / 2 / 1000;
        let changed = matching.found.iter().find(|found| !found.is_fixed());
        if let (Some(asked @ LONG..), Some(found)) = (self.timeout, changed) {
            let flow = found.flow();
            let made = table.get(&flow.original, flow.zone)?.and_then(|made| made.timeout);
            if let Some(text) = values::shortened(asked, made) {
                say!("{text}");
            }
        }
        Ok(())
    }

    /// Changes them; returns those that are changed.
    fn make_all(
        self,
        table: &mut Conntrack,
        found: &[Found],
        outcome: &mut Outcome,
    ) -> anyhow::Result<Vec<Found>> {
        let requests = found.iter().map(|found| (Verb::Update, self.request(found)));
        let (mut moved, mut refused) = (Vec::new(), Vec::new());
        table.request_batch(requests, |index, error| {
            refused.push(index);
            let errno = error.errno();
            // Its status has changed since it was read: a bit that the request lacks.
            if errno == Some(Errno(Number::BUSY.raw_os_error())) {
                moved.extend(found.get(index));
            } else {
                self.refused(found.get(index), &error, outcome);
            }
            ControlFlow::Continue(())
        })?;
        let mut refused = refused.into_iter().peekable();
        let numbered = found.iter().enumerate();
        let changed = numbered.filter(|(index, _)| refused.next_if_eq(index).is_none());
        let mut done: Vec<Found> = changed.map(|(_, found)| *found).collect();
        for found in moved {
            if self.make_anew(table, found, outcome)? {
                done.push(*found);
            }
        }
        Ok(done)
    }

    fn make_anew(
        self,
        table: &mut Conntrack,
        found: &Found,
        outcome: &mut Outcome,
    ) -> anyhow::Result<bool> {
        let flow = found.flow();
        let Some(now) = table.get(&flow.original, flow.zone)? else {
            outcome.gone += 1;
            return Ok(false);
        };
        let answer = table.request_entry(Verb::Update, &self.request_of(&flow, now.status));
        let is_done = answer.is_ok();
        if let Err(error) = answer {
            self.refused(Some(found), &error, outcome);
        }
        Ok(is_done)
    }

    /// Whoever could read the table may change it: what is not permitted then is the fixed timeout.
    fn refused(self, found: Option<&Found>, error: &Error, outcome: &mut Outcome) {
        match found.filter(|found| error.is_permission() && found.is_fixed()) {
            Some(found) if self.timeout.is_some() => outcome.failed_for(format!(
                "cannot change the entry {}: its timeout is fixed (FIXED_TIMEOUT) and can never be \
                 changed again",
                found.flow().original
            )),
            _ => outcome.refused(error),
        }
    }

    fn request(&self, found: &Found) -> EntryRequest {
        let flow = found.flow();
        self.request_of(&flow, flow.status)
    }

    /// The kernel refuses a status that lacks a bit which the entry has.
    fn request_of(&self, flow: &ctkeeper_flow::Flow, status: Status) -> EntryRequest {
        let labels = self.touched_labels != Labels::default();
        EntryRequest {
            timeout: self.timeout,
            mark: self.mark.map(|(mark, _)| mark),
            mark_mask: self.mark.map(|(_, mask)| mask),
            status: (self.status != Status::default()).then_some(status | self.status),
            labels: labels.then_some(self.labels),
            labels_mask: labels.then_some(self.touched_labels),
            ..EntryRequest::naming(flow)
        }
    }
}
