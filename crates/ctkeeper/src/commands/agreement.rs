//! What is shown and asked before several entries are changed at once.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use ctkeeper_flow::{Flow, units};

use crate::ui::{EntryWriter, Extras, Format, Screen, wrap};

/// Entries of a proposal that are shown.
pub(super) const SAMPLE: usize = 5;

/// What the help of each such command says of it.
pub(super) const EXIT_CODES: &str = "\
Exit codes: 0 done, or nothing to do; 1 failed, wholly or in part; 4 shown and not done; 64 wrong
command line. More than one entry is asked about on a terminal; elsewhere nothing is done without
--yes.";

/// Options of commands that may change several entries at once.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct AgreementArgs {
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,

    /// Show what would be done, do nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// What is to be agreed to.
pub(super) struct Proposal<'a> {
    /// What will be done, as a sentence: `12 entries of 300 will be deleted:`.
    pub(super) what: String,
    /// Some of the entries.
    pub(super) sample: &'a [Flow],
    /// How many there are.
    pub(super) count: u64,
    /// Which will be done.
    pub(super) scope: Scope,
    /// What that does to live connections.
    pub(super) consequences: Vec<String>,
    /// `Delete them?`
    pub(super) question: &'a str,
}

/// What an agreement goes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The entries that were found: a single one needs no question.
    These,
    /// Whatever there is when it is done, be it more than was found.
    Whatever,
}

/// Whether what was proposed may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// Said beforehand, or not needed.
    Given,
    /// Said now, which took its time.
    Asked,
    /// It was not asked for, or refused.
    NotGiven,
}

impl AgreementArgs {
    /// Whether anything may be done without a word more.
    pub(super) const fn is_given(self) -> bool {
        !self.dry_run && self.yes
    }

    /// Whether so many entries may be changed without a word.
    pub(super) const fn is_given_for(self, count: u64) -> bool {
        !self.dry_run && (self.yes || count <= 1)
    }

    /// Shows the proposal where anybody is to read it, and asks where anybody can answer.
    pub(super) fn reach(
        self,
        proposal: &Proposal<'_>,
        json: bool,
        screen: Screen,
    ) -> io::Result<Agreement> {
        let is_given = match proposal.scope {
            Scope::These => self.is_given_for(proposal.count),
            Scope::Whatever => self.is_given(),
        };
        if is_given {
            return Ok(Agreement::Given);
        }
        if json {
            return Ok(Agreement::NotGiven);
        }
        proposal.show(screen)?;
        if self.dry_run {
            return Ok(Agreement::NotGiven);
        }
        if !(screen.is_terminal() && io::stdin().is_terminal()) {
            writeln!(
                io::stdout().lock(),
                "Nothing was done: say --yes, or run this on a terminal."
            )?;
            return Ok(Agreement::NotGiven);
        }
        let mut out = io::stdout().lock();
        write!(out, "{} [y/N] ", proposal.question)?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(match answer.trim() {
            "y" | "Y" | "yes" => Agreement::Asked,
            _ => Agreement::NotGiven,
        })
    }
}

/// Whether a question may do without a column.
fn may_be_left_out(heading: &&str) -> bool {
    !["TRANSLATED", "MARK", "ZONE"].contains(heading)
}

impl Proposal<'_> {
    /// The entries, held back until the writer is done with: they are few.
    fn entries(&self, format: Format, screen: Screen) -> io::Result<EntryWriter> {
        let mut writer = EntryWriter::new(format, Extras::default(), screen);
        self.sample.iter().try_for_each(|flow| writer.entry(flow, None, None))?;
        Ok(writer)
    }

    fn show(&self, screen: Screen) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{}", self.what)?;
        let columns = screen.is_terminal().then(|| self.entries(Format::Columns, screen));
        // Whether an entry is translated, and in which zone, is part of the question.
        match columns.transpose()?.filter(|writer| writer.left_out().iter().all(may_be_left_out)) {
            Some(mut writer) => writer.finish()?,
            None => self.entries(Format::Text, screen)?.finish()?,
        }
        let mut out = io::stdout().lock();
        let more = self.count.saturating_sub(self.sample.len() as u64);
        if more > 0 && !self.sample.is_empty() {
            writeln!(out, "… and {} more", units::count(more))?;
        }
        for line in self.consequences.iter().flat_map(|text| wrap(text, screen.width())) {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}
