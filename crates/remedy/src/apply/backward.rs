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
                let what = vec![root.real(path).display().to_string()];
                return Err(Error::ChangedSince { id: change.id.clone(), what });
            }
            journal.keep(&change.id, path, &now)?;
        }
        root.put(path, &file.before, &change.id)?;
        (hands.progress)(&Progress::Restored(path.clone()));
    }
    file.made_folders.iter().rev().try_for_each(|made| Ok(root.remove_empty_folder(made)?))
}

/// The way back of the running values.
pub(super) struct WayBack {
    /// Steps from what runs now to what ran before, in the order in which they are to be made.
    pub(super) steps: Vec<RunningStep>,
    /// What is left as it is, and why.
    left: Vec<String>,
}

/// What taking a change back writes: values that stand as the change set them, by force also what
/// somebody else set since. Those of another host than this one are none of this host's.
pub(super) fn way_back(change: &Change, force: bool, hands: &Hands<'_>) -> Result<WayBack, Error> {
    let mut back = WayBack { steps: Vec::new(), left: Vec::new() };
    if !change.running.is_empty() && !hands.root.is_host() {
        let folder = hands.root.path().display();
        back.left.push(format!("running values: {folder} is not the root of the host that runs"));
    }
    for step in hands.running(&change.running).iter().rev() {
        if values::is_at(*step, step.from) {
            continue;
        }
        let now = values::read(step.key)?;
        if values::is_at(*step, step.to) || force {
            back.steps.push(RunningStep { from: now, to: step.from, ..*step });
        } else {
            let (name, now) = (step.key.sysctl(), units::count(now));
            back.left.push(format!("{name} = {now}: somebody else set it"));
        }
    }
    Ok(back)
}

fn values_backward(
    change: &Change,
    force: bool,
    hands: &mut Hands<'_>,
) -> Result<Vec<String>, Error> {
    let interrupted = change.state == ChangeState::Applying;
    let runs_here = !hands.running(&change.running).is_empty();
    if runs_here && interrupted && change.boot_id != time::boot_id() {
        return Ok(vec!["the running values: the host has restarted since".to_owned()]);
    }
    let WayBack { steps, left } = way_back(change, force, hands)?;
    if let Some((namespace, count)) = would_refuse(&steps, hands) {
        return Ok(vec![format!(
            "limit and buckets as they run: {namespace} holds {} entries now, more than the limit \
             was",
            units::count(count)
        )]);
    }
    for step in steps {
        values::write(step.key, step.to)?;
        (hands.progress)(&Progress::Value(step));
    }
    Ok(left)
}
