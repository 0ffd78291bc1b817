//! The change as the journal will have it: everything that stands there now, and what will.

use ctkeeper_flow::units;

use super::Hands;
use crate::edit::{self, Stamp};
use crate::error::Error;
use crate::journal::{CHANGE_SCHEMA, Change, ChangeState, FileChange, Journal};
use crate::plan::{FileStep, Plan};
use crate::root::{Bytes, FileState, RegularFile, Root};
use crate::time;
use ctkeeper_flow::hostile::masked;

/// Drafts it.
pub(super) fn draft(
    plan: &Plan,
    journal: &Journal<'_>,
    hands: &Hands<'_>,
) -> Result<Change, Error> {
    let began = time::now();
    let id = journal.new_id(began)?;
    let stamp = Stamp { id: id.clone(), time: time::readable(began), by: hands.by.clone() };
    Ok(Change {
        schema: CHANGE_SCHEMA.to_owned(),
        state: ChangeState::Applying,
        began,
        began_boottime_ms: time::since_boot_ms(),
        boot_id: time::boot_id(),
        by: masked(&hands.by),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: summary(plan),
        why: plan.why.iter().map(|reason| format!("{}: {}", reason.about, reason.text)).collect(),
        after: plan.after,
        running: hands.running(&plan.running).to_vec(),
        files: draft_files(plan, &stamp, hands.root)?,
        left: Vec::new(),
        id,
    })
}

fn summary(plan: &Plan) -> String {
    let moved = |what: &str, before: Option<u64>, after: u64| match before {
        Some(before) if before != after => {
            format!("{what} {} → {}", units::count(before), units::count(after))
        }
        _ => format!("{what} {}", units::count(after)),
    };
    let limit = moved("limit", plan.before.map(|limits| limits.limit.0), plan.after.limit.0);
    let buckets = moved("buckets", plan.before.map(|limits| limits.buckets), plan.after.buckets);
    let place = match (plan.running.is_empty(), plan.files.is_empty()) {
        (false, false) => "now and after reboot",
        (false, true) => "until the next reboot",
        (true, _) => "after reboot",
    };
    format!("{limit}, {buckets}, {place}")
}

fn draft_files(plan: &Plan, stamp: &Stamp, root: &Root) -> Result<Vec<FileChange>, Error> {
    let mut files: Vec<FileChange> = Vec::new();
    // Lines of one file from the last to the first, so that none moves before its turn.
    let mut steps: Vec<_> = plan.files.iter().collect();
    steps.sort_by_key(|step| match step {
        FileStep::Write { .. } => (0, u32::MAX),
        FileStep::CommentOut { line, .. } => (1, u32::MAX - line),
    });
    for step in steps {
        match files.iter_mut().find(|file| file.path == *step.path()) {
            Some(file) => file.after = stepped(step, &file.after, plan, stamp, root)?,
            None => files.push(draft_file(step, plan, stamp, root)?),
        }
    }
    Ok(files)
}

fn draft_file(
    step: &FileStep,
    plan: &Plan,
    stamp: &Stamp,
    root: &Root,
) -> Result<FileChange, Error> {
    let path = step.path().clone();
    let before = root.state(&path)?;
    let after = stepped(step, &before, plan, stamp, root)?;
    Ok(FileChange { made_folders: root.missing_folders(&path), path, before, after })
}

/// What a step makes of a file. Owner, permissions and attributes stay.
fn stepped(
    step: &FileStep,
    from: &FileState,
    plan: &Plan,
    stamp: &Stamp,
    root: &Root,
) -> Result<FileState, Error> {
    let existing = match from {
        FileState::File(file) => Some(RegularFile { modified: None, ..file.clone() }),
        FileState::Absent | FileState::Link { .. } => None,
    };
    let file = match step {
        FileStep::Write { lines, why, .. } => RegularFile {
            content: Bytes(edit::own_file(lines, why, plan, stamp)),
            ..existing.unwrap_or_else(new_file)
        },
        FileStep::CommentOut { path, line, .. } => {
            let refused = |cause: String| Error::Edit { path: root.real(path), line: *line, cause };
            let file = existing.ok_or_else(|| refused("it is no file any more".to_owned()))?;
            let edited = edit::without_line(&file.content.0, step, stamp);
            let content = edited.map_err(|cause| refused(cause.to_string()))?;
            RegularFile { content: Bytes(content), ..file }
        }
    };
    Ok(FileState::File(file))
}

fn new_file() -> RegularFile {
    RegularFile {
        mode: 0o644,
        owner: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
        ..RegularFile::default()
    }
}
