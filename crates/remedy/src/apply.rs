//! Making a plan true, taking it back, and going on after a crash.

mod backward;
mod draft;
mod undo;
mod values;

use std::path::{Path, PathBuf};

use ctkeeper_flow::units;
use ctkeeper_snapshot::{SettingKey, Snapshot};

use backward::backward;

use crate::error::Error;
use crate::journal::{Change, ChangeState, FOLDER, Journal, changes, needs_recovery};
use crate::plan::{Plan, Refusal, RunningStep, unsettled};
use crate::root::Root;
use crate::time;
use ctkeeper_flow::hostile::masked;

/// What a change is made with.
pub struct Hands<'a> {
    /// Where files are; `/` is the host, whose running values are changed as well.
    pub root: &'a Root,
    /// For whom: `root (sudo by alice)`.
    pub by: String,
    /// Looks at the host anew; under another root, with the settings of the files there.
    pub observe: &'a mut dyn FnMut() -> Result<Snapshot, String>,
    /// Is told of each step.
    pub progress: &'a mut dyn FnMut(&Progress),
}

impl Hands<'_> {
    /// The steps of a change that are about the host's running values: none where the files of
    /// another root are changed, whatever its journal says.
    fn running<'s>(&self, steps: &'s [RunningStep]) -> &'s [RunningStep] {
        if self.root.is_host() { steps } else { &[] }
    }
}

impl std::fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands")
            .field("root", &self.root)
            .field("by", &self.by)
            .finish_non_exhaustive()
    }
}

/// A step, just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything needed to take the change back is on disk.
    Journalled {
        /// Name of the change.
        id: String,
    },
    /// A running value was written and read back.
    Value(RunningStep),
    /// A file was written.
    Written(PathBuf),
    /// A file is as it was before.
    Restored(PathBuf),
    /// A fresh look shows what was planned.
    Verified,
    /// A step failed; what was done is being taken back.
    RollingBack {
        /// The failure.
        cause: String,
    },
}

/// What became of a change that was found unfinished.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// The change, in its new state.
    pub change: Change,
}

/// Makes a plan true: journals, writes running values and files, looks whether it holds. A failure
/// takes everything back.
pub fn apply(plan: &Plan, hands: &mut Hands<'_>) -> Result<Change, Error> {
    let journal = Journal::open(hands.root)?;
    recover_all(&journal, hands, false)?;
    let mut change = draft::draft(plan, &journal, hands)?;
    check_start(plan, hands)?;
    journal.save(&change)?;
    (hands.progress)(&Progress::Journalled { id: change.id.clone() });
    match forward(&change, hands).and_then(|()| settle(&mut change, &journal, hands)) {
        Ok(()) => Ok(change),
        Err(cause) => Err(roll_back(change, cause, &journal, hands)),
    }
}

/// Takes a change back, the last one that was made if none is named: files and running values
/// become exactly what they were. `force` does so over changes of others, and keeps a copy of them.
pub fn undo(id: Option<&str>, force: bool, hands: &mut Hands<'_>) -> Result<Change, Error> {
    if !needs_recovery(hands.root)? {
        // Where nothing can be undone, no journal is made either.
        undo::find_done(id, changes(hands.root)?)?;
    }
    let journal = Journal::open(hands.root)?;
    recover_all(&journal, hands, force)?;
    let mut change = undo::find_done(id, journal.changes()?)?;
    undo::check_unchanged(&change, force, hands)?;
    let back = backward::way_back(&change, force, hands)?;
    undo::check_above_count(&change, &back.steps, hands)?;
    undo::check_buckets(&change, &back.steps, hands)?;
    change.state = ChangeState::Undoing;
    journal.save(&change)?;
    let taken_back = backward(&change, force, &journal, hands).and_then(|left| {
        let undone = Change { state: ChangeState::Undone, left, ..change.clone() };
        journal.save(&undone)?;
        Ok(undone)
    });
    taken_back.map_err(|cause| restore_done(change, cause, &journal, hands))
}

/// Ends every change that was begun and not ended, as a crash leaves it: one that holds is marked
/// as done, any other is taken back, one half undone is undone.
///
/// Where nothing is unfinished, nothing is written.
pub fn recover(force: bool, hands: &mut Hands<'_>) -> Result<Vec<Recovered>, Error> {
    if !needs_recovery(hands.root)? {
        return Ok(Vec::new());
    }
    let journal = Journal::open(hands.root)?;
    recover_all(&journal, hands, force)
}

fn recover_all(
    journal: &Journal<'_>,
    hands: &mut Hands<'_>,
    force: bool,
) -> Result<Vec<Recovered>, Error> {
    let unfinished = journal.changes()?.into_iter().filter(|change| change.state.is_unfinished());
    unfinished.map(|change| recover_one(change, journal, hands, force)).collect()
}

fn recover_one(
    mut change: Change,
    journal: &Journal<'_>,
    hands: &mut Hands<'_>,
    force: bool,
) -> Result<Recovered, Error> {
    let complete = change.state == ChangeState::Applying && is_complete(&change, hands)?;
    if complete && verify(&change, hands).is_ok() {
        clean_temporaries(&change, hands.root)?;
        change.state = ChangeState::Done;
    } else {
        change.left = backward(&change, force, journal, hands)?;
        change.state = match change.state {
            ChangeState::Undoing => ChangeState::Undone,
            _ => ChangeState::RolledBack,
        };
    }
    journal.save(&change)?;
    Ok(Recovered { change })
}

/// Whether every step of a change was made.
fn is_complete(change: &Change, hands: &Hands<'_>) -> Result<bool, Error> {
    for file in &change.files {
        if !hands.root.state(&file.path)?.reads_like(&file.after) {
            return Ok(false);
        }
    }
    let running = hands.running(&change.running);
    let same_boot = running.is_empty() || change.boot_id == time::boot_id();
    Ok(same_boot && running.iter().all(|step| values::is_at(*step, step.to)))
}

fn clean_temporaries(change: &Change, root: &Root) -> Result<(), Error> {
    change.files.iter().try_for_each(|file| Ok(root.clean(&file.path, &change.id)?))
}

/// The host must still be what the plan starts from.
fn check_start(plan: &Plan, hands: &mut Hands<'_>) -> Result<(), Error> {
    let running = hands.running(&plan.running);
    for step in running {
        let now = values::read(step.key)?;
        if now != step.from {
            return Err(stale(step.key.sysctl(), &units::count(step.from), &units::count(now)));
        }
    }
    let Some((namespace, count)) = would_refuse(running, hands) else {
        return Ok(());
    };
    let target = plan.after.limit.0;
    Err(Refusal::BelowRunningCount { target, namespace, count }.into())
}

fn stale(what: &str, was: &str, is: &str) -> Error {
    Error::Stale { what: what.to_owned(), was: was.to_owned(), is: is.to_owned() }
}

/// The namespace that holds more than the limit that these steps, about to be made, would lower to.
fn would_refuse(steps: &[RunningStep], hands: &mut Hands<'_>) -> Option<(String, u64)> {
    let limit = steps.iter().find(|step| step.key == SettingKey::Limit)?;
    let (from, to) = (limit.from, limit.to);
    let lowers = to != 0 && (from == 0 || to < from);
    if !lowers {
        return None;
    }
    let (namespace, count) = fullest(hands);
    (count > to).then_some((namespace, count))
}

/// The fullest namespace; where the host cannot be looked at, the one that this process is in.
fn fullest(hands: &mut Hands<'_>) -> (String, u64) {
    if let Ok(snapshot) = (hands.observe)()
        && let Some(fullest) = snapshot.fullest()
    {
        return (masked(&fullest.label()), fullest.count);
    }
    ("this namespace".to_owned(), ctkeeper_host::sysctl::read("nf_conntrack_count").unwrap_or(0))
}

/// Makes every step that is not made yet.
fn forward(change: &Change, hands: &mut Hands<'_>) -> Result<(), Error> {
    for step in hands.running(&change.running) {
        if !values::is_at(*step, step.to) {
            values::write(step.key, step.to)?;
            (hands.progress)(&Progress::Value(*step));
        }
    }
    for file in &change.files {
        let now = hands.root.state(&file.path)?;
        if now.reads_like(&file.after) {
            continue;
        }
        if !now.reads_like(&file.before) {
            let real = hands.root.real(&file.path);
            return Err(stale(&real.display().to_string(), "as journalled", "something else"));
        }
        for folder in &file.made_folders {
            hands.root.make_folder(folder, 0o755)?;
        }
        hands.root.put(&file.path, &file.after, &change.id)?;
        (hands.progress)(&Progress::Written(file.path.clone()));
    }
    Ok(())
}

/// Looks whether the change holds, and ends it.
fn settle(change: &mut Change, journal: &Journal<'_>, hands: &mut Hands<'_>) -> Result<(), Error> {
    verify(change, hands)?;
    (hands.progress)(&Progress::Verified);
    let done = Change { state: ChangeState::Done, ..change.clone() };
    journal.save(&done)?;
    *change = done;
    Ok(())
}

fn verify(change: &Change, hands: &mut Hands<'_>) -> Result<(), Error> {
    let snapshot = (hands.observe)().map_err(Error::Observing)?;
    if let Some(step) =
        hands.running(&change.running).iter().find(|step| !values::is_at(**step, step.to))
    {
        let found = values::read(step.key)?;
        return Err(Error::ReadBack { key: step.key.sysctl(), wanted: step.to, found });
    }
    if change.files.is_empty() {
        return Ok(());
    }
    match unsettled(&snapshot.settings, change.after) {
        Some(gap) => Err(Error::NotVerified(format!("{gap}, not what was planned"))),
        None => Ok(()),
    }
}

/// A failed change is taken back; the error says what the state is.
fn roll_back(
    mut change: Change,
    cause: Error,
    journal: &Journal<'_>,
    hands: &mut Hands<'_>,
) -> Error {
    (hands.progress)(&Progress::RollingBack { cause: cause.to_string() });
    let cause = Box::new(cause);
    let rolled_back = backward(&change, false, journal, hands).and_then(|left| {
        change.left = left;
        change.state = ChangeState::RolledBack;
        journal.save(&change)
    });
    let id = change.id.clone();
    match rolled_back {
        Ok(()) => Error::RolledBack { id, cause, left: left_as_is(&change.left) },
        Err(rollback) => {
            let journal = hands.root.real(&file(&id));
            Error::Stuck { cause, rollback: Box::new(rollback), journal }
        }
    }
}

/// A failed undo is taken back as well: the change stays in force.
fn restore_done(
    mut change: Change,
    cause: Error,
    journal: &Journal<'_>,
    hands: &mut Hands<'_>,
) -> Error {
    (hands.progress)(&Progress::RollingBack { cause: cause.to_string() });
    let cause = Box::new(cause);
    let restored = clean_temporaries(&change, hands.root)
        .and_then(|()| forward(&change, hands))
        .and_then(|()| {
            change.state = ChangeState::Done;
            journal.save(&change)
        });
    let id = change.id;
    match restored {
        Ok(()) => Error::RolledBack { id, cause, left: String::new() },
        Err(rollback) => {
            let journal = hands.root.real(&file(&id));
            Error::Stuck { cause, rollback: Box::new(rollback), journal }
        }
    }
}

fn left_as_is(left: &[String]) -> String {
    if left.is_empty() { String::new() } else { format!("; left: {}", left.join("; ")) }
}

fn file(id: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{id}.json"))
}
