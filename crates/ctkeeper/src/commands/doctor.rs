//! `ctkeeper doctor`: one Snapshot, judged.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ctkeeper_bundle::{Bundle, Saved};
use ctkeeper_diagnosis::{Report, Thresholds, diagnose};
use ctkeeper_flow::units;
use ctkeeper_observe::{DEFAULT_NOTE, Observer, Options};
use ctkeeper_snapshot::Snapshot;

use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{Screen, printable, report, say};

/// Thresholds of this host, if somebody has changed any.
const THRESHOLDS: &str = "/etc/ctkeeper/thresholds.toml";

/// A look itself takes some milliseconds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// Options of `ctkeeper doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ctkeeper                        judge this host, every network namespace
  ctkeeper doctor --window 2s     look twice: are packets being refused now?
  ctkeeper doctor --watch         look again every 2 s
  ctkeeper doctor --netns web     one namespace
  ctkeeper doctor --save f.json   keep what was seen
  ctkeeper doctor --from f.json   judge it elsewhere, or later
  ctkeeper doctor --from b.json   judge what `ctkeeper bundle` made

Exit codes: 0 ok, 1 warning, 2 critical, 3 could not tell, 64 wrong command line.
Without --window, rates are held against the last look, whose counters are kept in
/run/ctkeeper/last-look.json (--no-note: neither read nor written). Looking changes nothing else.")]
pub(crate) struct DoctorArgs {
    /// Look twice, this far apart, and judge what moved: 2s, 500ms, 1m
    #[arg(long, value_name = "TIME", value_parser = pause, conflicts_with = "from")]
    window: Option<Duration>,

    /// Look again and again, this often [default when given alone: 2s]
    #[arg(
        long, value_name = "EVERY", value_parser = pause, num_args = 0..=1,
        default_missing_value = "2s", conflicts_with = "from"
    )]
    watch: Option<Duration>,

    /// Judge a bundle or a saved snapshot instead of this host (`-` for standard input); a bundle by
    /// the thresholds it was made with
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Save the snapshot that is judged (`-` for standard output, instead of the report)
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,

    /// Read thresholds from this file [default: /etc/ctkeeper/thresholds.toml, if there]
    #[arg(long, value_name = "FILE")]
    thresholds: Option<PathBuf>,

    /// Read the host's settings files below this folder instead of /
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: PathBuf,

    /// Neither read nor leave the note of the last look
    #[arg(long)]
    no_note: bool,
}

/// Takes or loads a Snapshot, judges it, prints the findings.
pub(crate) fn run(args: &DoctorArgs, global: &Global) -> anyhow::Result<ExitCode> {
    if args.from.is_some() && global.netns.is_some() {
        let text = "--from judges the saved snapshot whole: it takes no --netns".to_owned();
        return Err(UsageError(text).into());
    }
    if let Some(file) = &args.from {
        return judge_saved(&load(file)?, args, global);
    }
    let thresholds = read_thresholds(args.thresholds.as_deref())?;
    if !args.root.is_dir() {
        anyhow::bail!("--root {}: there is no such folder", args.root.display());
    }
    let mut observer = Observer::new(options(args, global)?);
    loop {
        let mut snapshot = observer.snapshot()?;
        snapshot.unfinished_change = unfinished_change(&args.root);
        let judged = judge(&snapshot, &thresholds, args, global)?;
        match args.watch {
            Some(pause) if judged.is_read => thread::sleep(pause),
            _ => return Ok(judged.code),
        }
    }
}

/// A bundle brings the thresholds that it was made with.
fn judge_saved(saved: &Saved, args: &DoctorArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let thresholds = match (saved, &args.thresholds) {
        (Saved::Bundle(bundle), None) => bundle.thresholds(),
        (_, file) => read_thresholds(file.as_deref())?,
    };
    let judged = judge(saved.snapshot(), &thresholds, args, global)?;
    if let (Saved::Bundle(bundle), None) = (saved, &args.thresholds) {
        name_differences(bundle, &diagnose(saved.snapshot(), &thresholds));
    }
    Ok(judged.code)
}

/// Another version of ctkeeper may have other rules.
fn name_differences(bundle: &Bundle, now: &Report) {
    let Some((verdict, ids)) = bundle.recorded() else { return };
    let gone = ids.iter().filter(|id| !now.findings.iter().any(|finding| finding.id == **id));
    let new = now.findings.iter().map(|finding| finding.id).filter(|id| !ids.contains(id));
    let (gone, new): (Vec<_>, Vec<_>) = (gone.copied().collect(), new.collect());
    let was = printable(verdict).to_uppercase();
    if was == now.verdict.to_string() && gone.is_empty() && new.is_empty() {
        return;
    }
    let list = |ids: &[&str]| {
        if ids.is_empty() { "none".to_owned() } else { printable(&ids.join(", ")) }
    };
    say!(
        "ctkeeper: ctkeeper {} judged it {was} at the time; findings that are new: {}; \
         not found any more: {}",
        printable(&bundle.snapshot.taken.ctkeeper),
        list(&new),
        list(&gone),
    );
}

/// A change that `ctkeeper fix` began below `root` and that nobody finished.
pub(super) fn unfinished_change(root: &Path) -> Option<String> {
    ctkeeper_remedy::unfinished(&ctkeeper_remedy::Root::open(root).ok()?)
}

fn options(args: &DoctorArgs, global: &Global) -> anyhow::Result<Options> {
    Ok(Options {
        namespaces: global.selection()?,
        window: args.window,
        note: (!args.no_note).then(|| PathBuf::from(DEFAULT_NOTE)),
        root: args.root.clone(),
        ..Options::default()
    })
}

/// A verdict, given.
struct Judged {
    code: ExitCode,
    /// Whether anybody still reads what is printed.
    is_read: bool,
}

fn judge(
    snapshot: &Snapshot,
    thresholds: &Thresholds,
    args: &DoctorArgs,
    global: &Global,
) -> anyhow::Result<Judged> {
    let verdict = diagnose(snapshot, thresholds);
    let code = ExitCode::from(verdict.exit_code);
    if let Some(file) = &args.save {
        save(snapshot, file)?;
        if is_stream(file) {
            return Ok(Judged { code, is_read: true });
        }
    }
    match print(&verdict, args, global) {
        // The verdict stands whether or not anybody reads it to its end.
        Err(error) if exit::is_broken_pipe(&error) => Ok(Judged { code, is_read: false }),
        printed => printed.map(|()| Judged { code, is_read: true }),
    }
}

fn print(verdict: &Report, args: &DoctorArgs, global: &Global) -> anyhow::Result<()> {
    let screen = Screen::stdout(global.color);
    let mut out = io::stdout().lock();
    if global.json {
        let json = if args.watch.is_some() {
            serde_json::to_string(verdict)?
        } else {
            serde_json::to_string_pretty(verdict)?
        };
        writeln!(out, "{json}")?;
        return Ok(());
    }
    let mut text = Vec::new();
    if args.watch.is_some() && screen.is_terminal() {
        text.extend_from_slice(CLEAR);
    }
    report::draw(&mut text, &screen, verdict)?;
    // One write a picture, so that a watched screen does not flicker.
    out.write_all(&text)?;
    Ok(out.flush()?)
}

/// Cursor to the top, then erase what is below (ECMA-48, CUP and ED).
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

pub(super) fn read_thresholds(file: Option<&Path>) -> anyhow::Result<Thresholds> {
    let path = file.unwrap_or_else(|| Path::new(THRESHOLDS));
    match fs::read_to_string(path) {
        Ok(text) => Thresholds::from_toml(&text)
            .with_context(|| format!("the thresholds in {}", path.display())),
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Ok(Thresholds::default())
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn load(file: &Path) -> anyhow::Result<Saved> {
    let mut bytes = Vec::new();
    let (name, read) = if is_stream(file) {
        ("standard input".to_owned(), io::stdin().read_to_end(&mut bytes))
    } else {
        let read = fs::File::open(file).and_then(|mut open| open.read_to_end(&mut bytes));
        (printable(&file.to_string_lossy()), read)
    };
    read.with_context(|| format!("reading {name}"))?;
    Saved::from_json(&String::from_utf8_lossy(&bytes)).context(name)
}

fn save(snapshot: &Snapshot, file: &Path) -> anyhow::Result<()> {
    let json = snapshot.to_json()? + "\n";
    if is_stream(file) {
        return Ok(io::stdout().write_all(json.as_bytes())?);
    }
    fs::write(file, json).with_context(|| format!("saving the snapshot to {}", file.display()))
}

pub(super) fn is_stream(file: &Path) -> bool {
    file == Path::new("-")
}

/// The time between two looks.
pub(super) fn pause(text: &str) -> Result<Duration, String> {
    let time = units::parse_duration(text)?;
    if time < SHORTEST_PAUSE { Err("the shortest time is 10ms".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_not_too_close() {
        assert_eq!(pause("10ms"), Ok(SHORTEST_PAUSE));
        assert!(pause("9ms").is_err() && pause("0").is_err() && pause("2 parsecs").is_err());
    }
}
