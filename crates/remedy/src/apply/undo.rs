//! What an undo asks before it begins.

use ctkeeper_snapshot::SettingKey;

use super::{Hands, values, would_refuse};
use crate::error::Error;
use crate::journal::{Change, ChangeState};
use crate::plan::RunningStep;
use ctkeeper_flow::hostile::masked;

/// Of `changes`, oldest first: the one of that name, or the last one in force.
pub(super) fn find_done(id: Option<&str>, mut changes: Vec<Change>) -> Result<Change, Error> {
    let index = match id {
        Some(id) => changes.iter().position(|change| change.id == id),
        None => changes.iter().rposition(|change| change.state == ChangeState::Done),
    };
    let Some(index) = index else {
        let none = "no change is in force: there is nothing to undo".to_owned();
        let unknown = |id| format!("there is no change {:?}", masked(id));
        return Err(Error::NothingToUndo(id.map_or(none, unknown)));
    };
    let later = changes.split_off(index + 1);
    let Some(change) = changes.pop() else { return Err(Error::NothingToUndo(String::new())) };
    if change.state != ChangeState::Done {
        let text = format!("change {} is {} already", change.id, change.state);
        return Err(Error::NothingToUndo(text));
    }
    match later.into_iter().rev().find(|later| later.state == ChangeState::Done) {
        Some(later) => Err(Error::LaterChange { id: change.id, later: later.id }),
        None => Ok(change),
    }
}

/// What an undo would put back must be what the change made.
pub(super) fn check_unchanged(
    change: &Change,
    force: bool,
    hands: &Hands<'_>,
) -> Result<(), Error> {
    if force {
        return Ok(());
    }
    let mut what = Vec::new();
    for file in &change.files {
        let now = hands.root.state(&file.path)?;
        if !now.reads_like(&file.after) && !now.reads_like(&file.before) {
            what.push(hands.root.real(&file.path).display().to_string());
        }
    }
    for step in hands.running(&change.running) {
        if !values::is_at(*step, step.to) && !values::is_at(*step, step.from) {
            what.push(format!("{} ({} now)", step.key.sysctl(), values::read(step.key)?));
        }
    }
    if what.is_empty() { Ok(()) } else { Err(Error::ChangedSince { id: change.id.clone(), what }) }
}

/// Entries a bucket that an undo may leave: half of where insertions begin to fail (measured).
const CROWDED: u64 = 8;

/// The buckets that come back must be enough for the entries of all namespaces that stand now.
pub(super) fn check_buckets(
    change: &Change,
    back: &[RunningStep],
    hands: &mut Hands<'_>,
) -> Result<(), Error> {
    let lowers = |step: &&RunningStep| step.key == SettingKey::Buckets && step.to < step.from;
    let Some(step) = back.iter().find(lowers) else { return Ok(()) };
    let entries = (hands.observe)().map_err(Error::Observing)?.total_entries();
    if entries <= step.to.saturating_mul(CROWDED) {
        return Ok(());
    }
    Err(Error::UndoCrowdsBuckets { id: change.id.clone(), buckets: step.to, entries })
}

/// The limit that comes back must not be below what a namespace holds now.
pub(super) fn check_above_count(
    change: &Change,
    back: &[RunningStep],
    hands: &mut Hands<'_>,
) -> Result<(), Error> {
    let Some((namespace, count)) = would_refuse(back, hands) else { return Ok(()) };
    let limit = back.iter().find(|step| step.key == SettingKey::Limit);
    let limit = limit.map_or(0, |step| step.to);
    Err(Error::UndoBelowCount { id: change.id.clone(), limit, namespace, count })
}
