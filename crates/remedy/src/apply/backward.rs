//! Taking a change back, step by step.

use ctkeeper_flow::units;

use super::{Hands, Progress, values, would_refuse};
use crate::error::Error;
use crate::journal::{Change, ChangeState, FileChange, Journal};
use crate::plan::RunningStep;
use crate::time;

/// Takes every step back that was made; what is left as it is comes back, with the reason.
pub(super) fn backward(
    change: &Change,
    force: bool,
    journal: &Journal<'_>,
    hands: &mut Hands<'_>,
) -> Result<Vec<String>, Error> {
    for file in change.files.iter().rev() {
        file_backward(file, change, force, journal, hands)?;
    }
    values_backward(change, force, hands)
}

fn file_backward(
    file: &FileChange,
    change: &Change,
    force: bool,
    journal: &Journal<'_>,
    hands: &mut Hands<'_>,
) -> Result<(), Error> {
    let (root, path) = (hands.root, &file.path);
    root.clean(path, &change.id)?;
    let now = root.state(path)?;
    if !now.reads_like(&file.before) {
        if !now.reads_like(&file.after) {
            if !force {
                let what = vec![path.display().to_string()];
                return Err(Error::ChangedSince { id: change.id.clone(), what });
            }
            journal.keep(&change.id, path, &now)?;
        }
        root.put(path, &file.before, &change.id)?;
        (hands.progress)(&Progress::Restored(path.clone()));
    }
    file.made_folders.iter().rev().try_for_each(|made| Ok(root.remove_empty_folder(made)?))
}

fn values_backward(
    change: &Change,
    force: bool,
    hands: &mut Hands<'_>,
) -> Result<Vec<String>, Error> {
    if change.running.is_empty() {
        return Ok(Vec::new());
    }
    let interrupted = change.state == ChangeState::Applying;
    if interrupted && change.boot_id != time::boot_id() {
        return Ok(vec!["the running values: the host has restarted since".to_owned()]);
    }
    let made = |step: &&RunningStep| values::is_at(**step, step.to);
    let made: Vec<_> = change.running.iter().filter(made).copied().collect();
    if let Some((namespace, count)) = would_refuse(&made, |s| (s.to, s.from), hands) {
        return Ok(vec![format!(
            "limit and buckets as they run: {namespace} holds {} entries now, more than the limit \
             was",
            units::count(count)
        )]);
    }
    let mut left = Vec::new();
    for step in change.running.iter().rev() {
        let now = values::read(step.key)?;
        if values::is_at(*step, step.from) {
            continue;
        }
        if values::is_at(*step, step.to) || force {
            values::write(step.key, step.from)?;
            let back = RunningStep { from: now, to: step.from, ..*step };
            (hands.progress)(&Progress::Value(back));
        } else {
            left.push(format!(
                "{} = {}: somebody else set it",
                step.key.sysctl(),
                units::count(now)
            ));
        }
    }
    Ok(left)
}
