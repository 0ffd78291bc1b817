//! Plans and changes as people read them.

use std::io::{self, Write};

use anstyle::Style;
use ctkeeper_flow::units;
use ctkeeper_remedy::{
    About, Change, ChangeState, FileStep, MemoryProof, Plan, Progress, Recovered, readable_time,
};
use ctkeeper_snapshot::SettingKey;

use crate::ui::{Screen, printable, wrap};

/// Columns of what stands before a reason.
const LABEL: usize = 10;

/// The plan: what changes, and why each number.
pub(super) fn plan(
    out: &mut impl Write,
    screen: &Screen,
    plan: &Plan,
    hostname: &str,
) -> io::Result<()> {
    let host = printable(hostname);
    if plan.is_nothing() {
        writeln!(out, "{}  {host}: nothing to do\n", screen.paint(Screen::GOOD, "OK"))?;
    } else {
        let title = screen.paint(Screen::STRONG, "PLAN");
        headline(out, screen, &title, &format!("{host}: {}", verdict(plan)))?;
        writeln!(out)?;
    }
    let before = plan.before;
    value(out, screen, plan, About::Limit, before.map(|b| b.limit.0), plan.after.limit.0)?;
    value(out, screen, plan, About::Buckets, before.map(|b| b.buckets), plan.after.buckets)?;
    memory(out, screen, &plan.memory)?;
    for (index, why) in plan.why(About::Files).enumerate() {
        labelled(out, screen, if index == 0 { "files" } else { "" }, why)?;
    }
    for step in &plan.files {
        file(out, screen, step)?;
    }
    for note in &plan.notes {
        labelled(out, screen, "note", note)?;
    }
    writeln!(out)
}

/// A painted word of four letters, and what it says, folded beside it.
fn headline(out: &mut impl Write, screen: &Screen, title: &str, text: &str) -> io::Result<()> {
    const TITLE: usize = 4 + 2;
    let lines = wrap(text, screen.width().saturating_sub(TITLE).max(30));
    for (index, line) in lines.iter().enumerate() {
        if index == 0 {
            writeln!(out, "{title}  {line}")?;
        } else {
            writeln!(out, "{:TITLE$}{line}", "")?;
        }
    }
    Ok(())
}

fn value(
    out: &mut impl Write,
    screen: &Screen,
    plan: &Plan,
    about: About,
    before: Option<u64>,
    after: u64,
) -> io::Result<()> {
    let text = match before {
        Some(before) => change_of(before, after),
        None => units::count(after),
    };
    let why: Vec<_> = plan.why(about).collect();
    let line = format!("{}  {}", screen.paint(Screen::STRONG, &text), why.join("; "));
    labelled(out, screen, &about.to_string(), &line)
}

/// `262,144 → 524,288`, or the number alone where nothing changes.
fn change_of(before: u64, after: u64) -> String {
    if before == after {
        return units::count(after);
    }
    let shown = if before == 0 { "unlimited".to_owned() } else { units::count(before) };
    format!("{shown} → {}", units::count(after))
}

fn memory(out: &mut impl Write, screen: &Screen, proof: &MemoryProof) -> io::Result<()> {
    let reserved = match proof.reserved {
        0 => String::new(),
        bytes => format!(" ({} more are reserved by others)", units::mebibytes(bytes)),
    };
    let of_free = match proof.free() {
        0 => format!("none is free{reserved}"),
        free => format!(
            "{} of the {} free{reserved}, of which {} may be taken",
            units::percent(proof.share_needed()),
            units::mebibytes(free),
            units::percent(proof.share)
        ),
    };
    let text = format!(
        "{} at the limit, {} with 1.5 times what other namespaces hold: {of_free}; {} bytes an \
         entry, 8 a bucket",
        units::mebibytes(proof.at_limit),
        units::mebibytes(proof.needed),
        proof.entry_bytes,
    );
    labelled(out, screen, "memory", &text)?;
    let worst = match proof.namespaces {
        0 | 1 => return Ok(()),
        namespaces => format!(
            "worst case, each of {} namespaces at the limit: {}",
            units::count(namespaces),
            units::mebibytes(proof.worst_case)
        ),
    };
    labelled(out, screen, "", &worst)
}

fn file(out: &mut impl Write, screen: &Screen, step: &FileStep) -> io::Result<()> {
    let path = printable(&step.path().display().to_string());
    let path = screen.paint(Screen::STRONG, &path);
    let text = match step {
        FileStep::Write { why, .. } => format!("write {path}: {why}"),
        FileStep::CommentOut { line, why, .. } => {
            format!("comment out line {line} of {path}: it {why}")
        }
    };
    labelled(out, screen, "", &text)
}

/// A paragraph beside a label.
fn labelled(out: &mut impl Write, screen: &Screen, label: &str, text: &str) -> io::Result<()> {
    let width = screen.width().saturating_sub(LABEL + 2).max(30);
    let mut label = label;
    for line in wrap(text, width) {
        let padding = LABEL.saturating_sub(label.len());
        writeln!(out, "  {}{:padding$}{line}", screen.paint(Screen::NOTE, label), "")?;
        label = "";
    }
    Ok(())
}

/// `limit 262,144 → 524,288, buckets …, now and after reboot`.
fn verdict(plan: &Plan) -> String {
    let place = match (plan.running.is_empty(), plan.files.is_empty()) {
        (false, false) => "now and after reboot",
        (false, true) => "until the next reboot",
        (true, _) => "after reboot",
    };
    let change = |key, after| match plan.running.iter().find(|step| step.key == key) {
        Some(step) => change_of(step.from, after),
        None => units::count(after),
    };
    format!(
        "limit {}, buckets {}, {place}",
        change(SettingKey::Limit, plan.after.limit.0),
        change(SettingKey::Buckets, plan.after.buckets)
    )
}

/// A step, just made.
pub(super) fn progress(out: &mut impl Write, screen: &Screen, step: &Progress) -> io::Result<()> {
    let (style, text): (Style, String) = match step {
        Progress::Journalled { id } => {
            (Screen::FAINT, format!("journal: change {id} can be taken back"))
        }
        Progress::Value(step) => {
            (Screen::FAINT, format!("{}: {}", step.key, change_of(step.from, step.to)))
        }
        Progress::Written(path) => {
            (Screen::FAINT, format!("wrote {}", printable(&path.display().to_string())))
        }
        Progress::Restored(path) => {
            (Screen::FAINT, format!("put back {}", printable(&path.display().to_string())))
        }
        Progress::Verified => (Screen::FAINT, "looked again: it holds".to_owned()),
        Progress::RollingBack { cause } => {
            (Screen::WARNING, format!("failed, rolling back: {}", printable(cause)))
        }
    };
    writeln!(out, "  {}", screen.paint(style, &text))
}

/// The verdict, last.
pub(super) fn end(
    out: &mut impl Write,
    screen: &Screen,
    plan: &Plan,
    change: Option<&Change>,
    asked: bool,
) -> io::Result<()> {
    match change {
        Some(change) => {
            let done = screen.paint(Screen::GOOD, "DONE");
            let undo = format!("ctkeeper fix --undo {}", change.id);
            headline(out, screen, &done, &format!("{}; undo with `{undo}`", verdict(plan)))
        }
        None if plan.is_nothing() => Ok(()),
        None if asked => writeln!(out, "Not applied."),
        None => {
            writeln!(out, "Not applied: no terminal to ask on.\n→ ctkeeper fix --yes   apply it")
        }
    }
}

/// What became of a change that was found unfinished.
pub(super) fn recovered(
    out: &mut impl Write,
    screen: &Screen,
    recovered: &Recovered,
) -> io::Result<()> {
    let Change { id, began, summary, state, left, .. } = &recovered.change;
    let what = match state {
        ChangeState::Done => "was complete and holds: marked as done",
        ChangeState::Undone => "was being undone: undone to the end",
        _ => "was interrupted: rolled back",
    };
    let title = screen.paint(Screen::WARNING, "RECOVERED");
    writeln!(out, "{title}  change {id} of {} {what}", readable_time(*began))?;
    writeln!(out, "           {}", printable(summary))?;
    self::left(out, left)?;
    writeln!(out)
}

/// A change that was just undone.
pub(super) fn undone(out: &mut impl Write, screen: &Screen, change: &Change) -> io::Result<()> {
    let title = screen.paint(Screen::GOOD, "UNDONE");
    let began = readable_time(change.began);
    writeln!(out, "{title}  change {} of {began}: as before it", change.id)?;
    left(out, &change.left)
}

fn left(out: &mut impl Write, left: &[String]) -> io::Result<()> {
    left.iter().try_for_each(|what| writeln!(out, "  left: {}", printable(what)))
}

/// The changes that were made, newest last.
pub(super) fn history(out: &mut impl Write, screen: &Screen, changes: &[Change]) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "No changes yet.");
    }
    for change in changes {
        let style = match change.state {
            ChangeState::Done => Screen::GOOD,
            ChangeState::Applying | ChangeState::Undoing => Screen::WARNING,
            ChangeState::RolledBack | ChangeState::Undone => Screen::FAINT,
        };
        let state = screen.paint(style, &format!("{:<11}", change.state.to_string()));
        let (id, began, by) = (&change.id, readable_time(change.began), printable(&change.by));
        writeln!(out, "{id:<17} {began}  {state}  {by}")?;
        writeln!(out, "                  {}", printable(&change.summary))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headline_is_folded_between_words() {
        let text = "limit 262,144 → 524,288, buckets 524,288, now and after reboot; undo with it";
        for width in [60, 80] {
            let mut out = Vec::new();
            headline(&mut out, &Screen::plain(width), "DONE", text).unwrap();
            let shown = String::from_utf8(out).unwrap();
            assert!(shown.lines().all(|line| line.chars().count() <= width), "{shown}");
            let words: Vec<_> = shown.split_whitespace().skip(1).collect();
            assert_eq!(words.join(" "), text);
        }
    }
}
