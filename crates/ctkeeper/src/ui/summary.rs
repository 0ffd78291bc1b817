//! What is in a bundle, for whoever has just made it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use ctkeeper_bundle::Bundle;
use ctkeeper_flow::units::{count, counted};
use ctkeeper_snapshot::{Namespace, Snapshot};

use super::{Screen, printable, wrap};

/// Where the texts begin.
const INDENT: usize = 14;

/// Draws it.
pub(crate) fn draw(
    out: &mut impl Write,
    screen: &Screen,
    bundle: &Bundle,
    file: &Path,
    bytes: usize,
) -> io::Result<()> {
    let name = printable(&file.to_string_lossy());
    writeln!(
        out,
        "{} {name}: {} KiB, readable by you alone (mode 0600)",
        screen.paint(Screen::GOOD, "WRITTEN"),
        count(bytes.div_ceil(1024) as u64),
    )?;
    writeln!(out)?;
    for (label, text) in contents(bundle) {
        row(out, screen, label, &text)?;
    }
    writeln!(out)?;
    row(out, screen, "names", names(bundle.anonymized))?;
    writeln!(out, "  {:1$}→ ctkeeper doctor --from {2}", "read it", INDENT - 2, quoted(&name))
}

fn row(out: &mut impl Write, screen: &Screen, label: &str, text: &str) -> io::Result<()> {
    let mut lead = format!("  {label:0$}", INDENT - 2);
    for line in wrap(&printable(text), screen.width().saturating_sub(INDENT).max(20)) {
        writeln!(out, "{lead}{line}")?;
        lead = " ".repeat(INDENT);
    }
    Ok(())
}

fn contents(bundle: &Bundle) -> Vec<(&'static str, String)> {
    let snapshot = &bundle.snapshot;
    let mut rows = vec![
        ("found", found(bundle)),
        ("versions", versions(bundle)),
        ("namespaces", namespaces(snapshot)),
        ("settings", settings(bundle)),
        ("kernel log", kernel_log(bundle)),
    ];
    if let Some(gap) = snapshot.gaps.first() {
        let more = match snapshot.gaps.len() {
            1 => String::new(),
            gaps => format!(" and {} more", gaps - 1),
        };
        rows.push(("not seen", format!("{}: {} ({}){more}", gap.what, gap.cause, gap.remedy)));
    }
    rows
}

/// `WARNING: lost-at-boot, second-wall (exit code 1)`.
fn found(bundle: &Bundle) -> String {
    let (verdict, ids) = bundle.recorded().unwrap_or_default();
    let mut distinct: Vec<&str> = Vec::new();
    for id in ids {
        if !distinct.contains(&id) {
            distinct.push(id);
        }
    }
    let ids = if distinct.is_empty() { "no finding".to_owned() } else { distinct.join(", ") };
    format!("{}: {ids}", verdict.to_uppercase())
}

fn versions(bundle: &Bundle) -> String {
    let (taken, system) = (&bundle.snapshot.taken, &bundle.system);
    let distribution = system.distribution.as_deref().unwrap_or("unknown distribution");
    let cpus = counted(u64::from(taken.cpus), "CPU", "CPUs");
    format!(
        "{distribution}, Linux {} {}, {cpus}, ctkeeper {}",
        taken.kernel, system.architecture, taken.ctkeeper
    )
}

fn namespaces(snapshot: &Snapshot) -> String {
    let all = snapshot.namespaces.len() as u64;
    if all == 0 {
        return "none could be looked into".to_owned();
    }
    let of = |has: fn(&Namespace) -> bool| snapshot.namespaces.iter().filter(|n| has(n)).count();
    let close = of(|namespace| namespace.tracking.is_some()) as u64;
    let closely = match close {
        0 => "none looked at closely, as they are empty or could not be entered".to_owned(),
        1 if all > 1 => "what turned tracking on in the fullest".to_owned(),
        close if close == all => "what turned tracking on in each".to_owned(),
        close => format!("what turned tracking on in the {} fullest", count(close)),
    };
    format!(
        "{} with {}: counters per CPU; {closely}",
        counted(all, "namespace", "namespaces"),
        counted(snapshot.total_entries(), "entry", "entries"),
    )
}

fn settings(bundle: &Bundle) -> String {
    let files: BTreeSet<_> = bundle.settings_lines.iter().map(|line| &line.file).collect();
    let lines = bundle.settings_lines.len() as u64;
    match lines {
        0 => "no line of sysctl.d, modprobe.d, modules-load.d or udev concerns connection tracking"
            .to_owned(),
        lines => format!(
            "{} in {}",
            counted(lines, "line", "lines"),
            counted(files.len() as u64, "file", "files")
        ),
    }
}

fn kernel_log(bundle: &Bundle) -> String {
    if !bundle.snapshot.log.readable {
        return "could not be read".to_owned();
    }
    let lines = counted(bundle.kernel_log.lines.len() as u64, "line", "lines");
    match bundle.kernel_log.left_out {
        0 => format!("{lines} about connection tracking"),
        older => {
            format!("the last {lines} about connection tracking, {} older left out", count(older))
        }
    }
}

const fn names(anonymized: bool) -> &'static str {
    if anonymized {
        "pseudonyms stand for names, addresses, paths and ids; times, numbers and versions are \
         real. Look through it before it leaves the house."
    } else {
        "as they are: of hosts, namespaces, processes, rules and files, and the addresses of the \
         largest senders and of log lines. --anonymize puts pseudonyms in their place."
    }
}

/// A file name as a shell takes it.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./+:@,".contains(c);
    if name.chars().all(is_plain) && !name.starts_with('-') {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_the_shell() {
        assert_eq!(quoted("ctkeeper-web-3.json"), "ctkeeper-web-3.json");
        assert_eq!(quoted("a b'c"), "'a b'\\''c'");
    }
}
