//! `ctkeeper bundle`: one file for somebody else to look at.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use ctkeeper_bundle::{Bundle, Details, Key};
use ctkeeper_host::{kernel_log, machine, settings};
use ctkeeper_observe::{DEFAULT_NOTE, Observer, Options};
use ctkeeper_remedy::compact_time;
use serde_json::json;
use tempfile::NamedTempFile;

use super::doctor::{is_stream, pause, read_thresholds, unfinished_change};
use crate::cli::Global;
use crate::exit;
use crate::ui::{Screen, printable, say, summary};

/// Lines of the kernel log that are kept: the kernel prints at most ten in five seconds.
const LOG_LINES: usize = 300;

/// Options of `ctkeeper bundle`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ctkeeper bundle                   ctkeeper-HOST-DATE.json in this folder
  ctkeeper bundle --anonymize       without names and addresses
  ctkeeper bundle -o web.json       another name
  ctkeeper bundle -o - | ssh me@desk 'cat > web.json'
  ctkeeper doctor --from web.json   what was found then

It holds the snapshot that doctor judges (limits, memory, every namespace with its counters per
CPU, sums and the largest senders of a sample of its entries, what turned tracking on), the
findings, the lines of sysctl.d, modprobe.d, modules-load.d and udev that concern connection
tracking, those of the kernel log, and versions. docs/bundle.md describes it, and what --anonymize
replaces.

The file is readable by you alone (mode 0600), written whole or not at all; one that is there
already is not replaced. Exit codes: 0 written, whatever was found; 1 failed; 64 wrong command line.")]
pub(crate) struct BundleArgs {
    /// Write it to this file or folder; `-` is standard output
    /// [default: ctkeeper-HOST-DATE.json; --anonymize leaves HOST out]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Put pseudonyms in place of names, addresses, paths and ids
    #[arg(long)]
    anonymize: bool,

    /// Look twice, this far apart, to see what moves
    #[arg(long, value_name = "TIME", value_parser = pause, default_value = "2s")]
    window: Duration,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,

    /// Read thresholds from this file [default: /etc/ctkeeper/thresholds.toml, if there]
    #[arg(long, value_name = "FILE")]
    thresholds: Option<PathBuf>,

    /// Read the host's settings files below this folder instead of /
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

/// Looks at the host, judges it and writes the file.
pub(crate) fn run(args: &BundleArgs, global: &Global) -> anyhow::Result<ExitCode> {
    if !args.root.is_dir() {
        bail!("--root {}: there is no such folder", args.root.display());
    }
    // What would go wrong after the wait goes wrong before it.
    let target = Target::of(args)?;
    let bundle = make(args, global)?;
    let json = bundle.to_json()? + "\n";
    match &target {
        Target::Stream => {
            let mut out = io::stdout().lock();
            out.write_all(json.as_bytes())?;
            out.flush()?;
            say!(
                "ctkeeper: a bundle of {} went to standard output; `ctkeeper doctor --from FILE` \
                 reads it, `--from -` from a pipe",
                printable(&bundle.snapshot.taken.hostname)
            );
        }
        Target::File(file) => {
            write(file, json.as_bytes(), args.force)?;
            tell(&bundle, file, json.len(), global)?;
        }
    }
    Ok(ExitCode::from(exit::OK))
}

fn make(args: &BundleArgs, global: &Global) -> anyhow::Result<Bundle> {
    let thresholds = read_thresholds(args.thresholds.as_deref())?;
    let mut observer = Observer::new(Options {
        namespaces: global.selection()?,
        window: Some(args.window),
        note: Some(PathBuf::from(DEFAULT_NOTE)),
        // The next doctor shall still know what it saw last.
        leave_note: false,
        root: args.root.clone(),
        ..Options::default()
    });
    let mut snapshot = observer.snapshot()?;
    snapshot.unfinished_change = unfinished_change(&args.root);
    let details = Details {
        system: machine::system(&args.root),
        settings_lines: settings::mentions(&args.root),
        kernel_log: kernel_log::excerpt(LOG_LINES),
    };
    let bundle = Bundle::new(snapshot, &thresholds, details)?;
    Ok(if args.anonymize { bundle.anonymized(&random_key()?)? } else { bundle })
}

/// A key that nobody knows, this program neither once it has ended.
fn random_key() -> anyhow::Result<Key> {
    use rustix::rand::{GetRandomFlags, getrandom};
    let mut bytes = [0; 32];
    // Up to 256 bytes come whole or not at all (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty()).context("asking the kernel for random bytes")?;
    Ok(Key::new(bytes))
}

/// Where the bundle goes.
enum Target {
    Stream,
    File(PathBuf),
}

impl Target {
    fn of(args: &BundleArgs) -> anyhow::Result<Self> {
        let file = match &args.output {
            None => PathBuf::from(default_name(args.anonymize)),
            Some(output) if is_stream(output) => return Ok(Self::Stream),
            Some(output) if output.is_dir() => output.join(default_name(args.anonymize)),
            Some(output) => output.clone(),
        };
        if !args.force && file.symlink_metadata().is_ok() {
            bail!("{}", is_there(&file));
        }
        let folder = folder_of(&file);
        if !folder.is_dir() {
            bail!("there is no folder {}", shown(folder));
        }
        rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)
            .with_context(|| format!("cannot write to {}", shown(folder)))?;
        Ok(Self::File(file))
    }
}

fn default_name(anonymize: bool) -> String {
    let taken = machine::taken();
    let date = compact_time(taken.unix_ms / 1000);
    if anonymize {
        return format!("ctkeeper-{date}.json");
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let host: String = taken.hostname.chars().map(plain).collect();
    format!("ctkeeper-{host}-{date}.json")
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes beside the file and gives it its name when it is whole. The draft is for its owner alone.
fn write(file: &Path, content: &[u8], replace: bool) -> anyhow::Result<()> {
    let writing = || format!("writing {}", shown(file));
    let mut draft = tempfile::Builder::new()
        .prefix(".ctkeeper-bundle-")
        .tempfile_in(folder_of(file))
        .with_context(writing)?;
    draft.write_all(content).with_context(writing)?;
    draft.as_file().sync_all().with_context(writing)?;
    let named = if replace { NamedTempFile::persist } else { NamedTempFile::persist_noclobber };
    match named(draft, file) {
        Ok(_) => Ok(()),
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{}", is_there(file))
        }
        Err(failed) => Err(failed.error).with_context(writing),
    }
}

fn is_there(file: &Path) -> String {
    format!("{} is there already: name another with -o, or replace it with --force", shown(file))
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

fn tell(bundle: &Bundle, file: &Path, bytes: usize, global: &Global) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if global.json {
        let (verdict, _) = bundle.recorded().unwrap_or_default();
        let json = json!({
            "file": file.to_string_lossy(), "bytes": bytes, "anonymized": bundle.anonymized,
            "verdict": verdict, "exit_code": bundle.report.get("exit_code"),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
        return Ok(());
    }
    let mut text = Vec::new();
    summary::draw(&mut text, &Screen::stdout(global.color), bundle, file, bytes)?;
    out.write_all(&text)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.json");
        write(&file, b"one", false).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write(&file, b"two", false).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"one");
        write(&file, b"two", true).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_host_name_makes_no_path() {
        assert!(
            default_name(false).chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        );
        assert_eq!(default_name(true).len(), "ctkeeper-20261122-204107.json".len());
        assert_eq!(folder_of(Path::new("b.json")), Path::new("."));
        assert_eq!(folder_of(Path::new("/b.json")), Path::new("/"));
    }
}
