//! `ctkeeper who`: who holds the entries.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ctkeeper_flow::units;
use ctkeeper_observe::{Watcher, WhoOptions};
use ctkeeper_snapshot::{Counted, Key, Who};

use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{Output, Screen, say, who};

const EXAMPLES: &str = "\
Examples:
  ctkeeper who                          containers, pods, units, processes
  ctkeeper who --window 2s              and how fast each grows
  ctkeeper who --by destination         where the entries lead to
  ctkeeper who --by holder,destination  whose, and where to
  ctkeeper who --by source --netns web --exact
  ctkeeper who --json | jq '.rows[0]'

A table of which one container or pod has the whole namespace is not read: its count is the holder's. \
Of the others the first entries of a dump are read, which are a fair sample of the table, with the 95 % \
interval of each figure beside it; --exact reads every entry, at 3 µs of the kernel's time each.
A holder is whoever opened the connection, if that is on this host, else who answers it. Runtimes only add \
names: without Docker, Podman, containerd or CRI-O a container goes by its id. What cannot be told stands in \
a row `unattributed`, with the reason.

Exit codes: 0 counted; 1 no table could be read; 64 wrong command line.";

/// Options of `ctkeeper who`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WhoArgs {
    /// What a row stands for, one or two of: holder, container, pod, process, service, netns,
    /// source, destination, port, protocol, state, zone, mark
    #[arg(long, value_name = "KEY[,KEY]", value_delimiter = ',', value_parser = key)]
    #[arg(default_value = "holder", hide_default_value = true)]
    by: Vec<Key>,

    /// Rows to show; the rest is summed up as `other`
    #[arg(long, short = 'n', value_name = "N", default_value = "20")]
    top: usize,

    /// Read every entry instead of a sample
    #[arg(long)]
    exact: bool,

    /// Look twice, so far apart: how fast rows grow
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    window: Option<Duration>,

    /// Ask this container runtime too: unix:///path/of/socket
    #[arg(long, value_name = "SOCKET")]
    runtime: Vec<String>,

    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

fn key(name: &str) -> Result<Key, String> {
    Key::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Key::ALL.iter().map(|(_, name)| *name).collect();
        format!("the keys are {}", names.join(", "))
    })
}

/// Counts and shows it.
pub(crate) fn run(args: &WhoArgs, global: &Global) -> anyhow::Result<ExitCode> {
    if args.csv && global.json {
        return Err(UsageError("--json or --csv: give one of them".to_owned()).into());
    }
    let options = args.options(global)?;
    let mut watcher = Watcher::new(options);
    let who = match args.window {
        Some(window) => watcher.look_twice(window)?,
        None => watcher.look()?,
    };
    let mut out = Output::new();
    if global.json {
        serde_json::to_writer_pretty(&mut out, &who)?;
        writeln!(out)?;
    } else if args.csv {
        who::csv(&mut out, &who)?;
        // Whoever reads the values looks for no words among them.
        for gap in who::gaps(&who) {
            say!("{gap}");
        }
    } else {
        who::draw(&mut out, Screen::stdout(global.color), &who)?;
    }
    out.flush()?;
    Ok(ExitCode::from(if is_told(&who) { exit::OK } else { exit::FAILURE }))
}

/// Whether any table with entries was counted, if there is one.
fn is_told(who: &Who) -> bool {
    let mut tables = who.tables.iter().filter(|table| table.count > 0).peekable();
    if tables.peek().is_none() {
        return !who.tables.is_empty() || who.gaps.is_empty();
    }
    tables.any(|table| table.counted != Counted::Not)
}

impl WhoArgs {
    fn options(&self, global: &Global) -> anyhow::Result<WhoOptions> {
        let twice = self.by.len() == 2 && self.by[0] == self.by[1];
        if self.by.len() > 2 || twice {
            return Err(UsageError("--by takes one key, or two different ones".to_owned()).into());
        }
        Ok(WhoOptions {
            namespaces: global.selection()?,
            by: self.by.clone(),
            top: self.top,
            exact: self.exact,
            runtimes: self.runtime.clone(),
            ..WhoOptions::default()
        })
    }
}
