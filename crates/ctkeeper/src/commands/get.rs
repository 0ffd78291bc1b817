//! `ctkeeper get`: one entry.

use std::process::ExitCode;

use clap::Args;
use ctkeeper_flow::filter::Naming;

use super::namespaces::Selection;
use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{EntryWriter, Extras, Format, Screen, printable, say};

const EXAMPLES: &str = "\
Examples:
  ctkeeper get tcp 10.0.0.1:4000 10.0.0.2:80
  ctkeeper get udp src 10.0.0.1 sport 5000 dst 10.0.0.53 dport 53 zone 5
  ctkeeper get icmp 10.0.0.1 10.0.0.2 icmp-id 77
  ctkeeper get tcp [fd00::1]:4000 [fd00::2]:80 --json

The kernel looks the tuple up as it does for a packet: the original direction's or the reply's, whole.
`ctkeeper list` finds entries by parts of it.

Exit codes: 0 shown; 1 there is no such entry, or failed; 64 wrong command line.";

/// Words that name an entry.
#[derive(Clone, Debug, Args)]
pub(crate) struct TupleArgs {
    /// Protocol, source and destination with their ports, zone: `tcp 10.0.0.1:4000 10.0.0.2:80`
    #[arg(value_name = "TUPLE", required = true)]
    words: Vec<String>,
}

impl TupleArgs {
    /// Reads the words.
    pub(crate) fn read(&self) -> Result<Naming, UsageError> {
        Naming::parse(&self.words.join(" ")).map_err(|error| UsageError(error.to_string()))
    }
}

/// Options of `ctkeeper get`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    tuple: TupleArgs,

    /// How to write it
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    /// Show the kernel's id of the entry
    #[arg(long)]
    id: bool,
}

/// Shows the entry.
pub(crate) fn run(args: &GetArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Naming { tuple, zone } = args.tuple.read()?;
    let screen = Screen::stdout(global.color);
    let format = Format::choose(args.output, global.json, &screen)?;
    let mut table = Selection::of(global)?.only_table(ONE_NAMESPACE)?;
    let Some(flow) = table.get(&tuple, zone)? else {
        let zone = if zone.id == 0 { String::new() } else { format!(" in zone {}", zone.id) };
        say!("There is no entry {}{zone}.", printable(&tuple.to_string()));
        return Ok(ExitCode::from(exit::FAILURE));
    };
    let extras = Extras { id: args.id, ..Extras::default() };
    let mut writer = EntryWriter::new(format, extras, screen);
    writer.entry(&flow, None, None)?;
    writer.finish()?;
    Ok(ExitCode::from(exit::OK))
}

const ONE_NAMESPACE: &str = "get looks into one namespace: name it with --netns; `ctkeeper list \
                             --netns all` looks into all of them";
