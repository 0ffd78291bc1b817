//! kill -9 at every system call that changes something, and errors from them: the next run finds
//! everything as it was before, or a change that is complete.

use anyhow::{Context, ensure};
use ctkeeper_tests::Output;

use crate::files::TARGET;
use crate::tree::{Picture, Tree, ensure_code};

/// Every kind of call by which `fix` changes something. Between two of them the disk is the same,
/// so that a kill at the entry of each stands for a kill anywhere. The last three are here for
/// good measure: they open, lock and look.
const CALLS: [&str; 11] = [
    "write",
    "fsync",
    "renameat",
    "unlinkat",
    "mkdirat",
    "fchmod",
    "fchown",
    "utimensat",
    "flock",
    "openat2",
    "openat",
];

/// More calls of one kind than a run makes.
const MANY: u32 = 2000;

/// Which of the calls of one kind to die at: every one, but of those that mostly look.
fn numbers(call: &str) -> impl Iterator<Item = u32> {
    (1..MANY).step_by(if call == "openat" { 9 } else { 1 })
}

/// What became of a run.
enum End {
    /// It was killed at the call.
    Killed,
    /// It made fewer such calls and came to its end.
    Complete(Output),
}

fn killed_at(tree: &Tree, arguments: &[&str], call: &str, number: u32) -> anyhow::Result<End> {
    let output = tree.fix_injected(arguments, &format!("{call}:signal=SIGKILL:when={number}"))?;
    match output.code {
        None => Ok(End::Killed),
        Some(_) => Ok(End::Complete(output)),
    }
}

/// The next run of any form ends what the crash left; then all is as before, or the change is
/// complete and an undo brings the very same before back.
fn ensure_before_or_after(tree: &Tree, before: &Before, what: &str) -> anyhow::Result<()> {
    let output = tree.fix(&[])?;
    ensure!(matches!(output.code, Some(0 | 4)), "{what}: {output:?}");
    let changes = tree.changes()?;
    let unfinished = changes.iter().any(|(_, state)| state == "applying" || state == "undoing");
    ensure!(!unfinished, "{what}: {changes:?}");
    let stray = stray_files(tree)?;
    ensure!(stray.is_empty(), "{what}: left behind {stray:?}");
    if changes.last().is_some_and(|(_, state)| state == "done") {
        let again = tree.fix(TARGET)?;
        let complete = again.stdout.contains("nothing to do");
        // The files follow the running values, which another test may just have raised.
        let comparable = running()? == before.running;
        ensure!(complete || !comparable, "{what}: not complete: {again:?}");
        ensure_code(tree.fix(&["--undo"])?, 0).with_context(|| what.to_owned())?;
        // What values that were raised meanwhile asked for lay on top.
        if !complete {
            ensure_code(tree.fix(&["--undo"])?, 0).with_context(|| what.to_owned())?;
        }
    }
    let now = tree.picture()?;
    ensure!(now == before.files, "{what}: not as before\n{:#?}\n{now:#?}", before.files);
    Ok(())
}

/// What there was before a run.
struct Before {
    files: Picture,
    running: [String; 2],
}

impl Before {
    fn look(tree: &Tree) -> anyhow::Result<Self> {
        Ok(Self { files: tree.picture()?, running: running()? })
    }
}

/// The host's limit and buckets.
fn running() -> anyhow::Result<[String; 2]> {
    let value = |name| std::fs::read_to_string(format!("/proc/sys/net/netfilter/{name}"));
    Ok([value("nf_conntrack_max")?, value("nf_conntrack_buckets")?])
}

fn stray_files(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let names = tree.picture()?.into_keys().map(|path| path.display().to_string());
    let mut stray: Vec<_> = names.filter(|name| name.contains("ctkeeper-new")).collect();
    for entry in std::fs::read_dir(tree.path("var/lib/ctkeeper/journal")).into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        stray.extend(name.contains("ctkeeper-new").then_some(name));
    }
    Ok(stray)
}

pub(crate) fn killed_while_applying() -> anyhow::Result<()> {
    let mut kills = 0;
    for call in CALLS {
        for number in numbers(call) {
            let tree = Tree::in_memory()?;
            let before = Before::look(&tree)?;
            let end = killed_at(&tree, TARGET, call, number)?;
            let what = format!("killed at {call} number {number}");
            ensure_before_or_after(&tree, &before, &what)?;
            match end {
                End::Killed => kills += 1,
                End::Complete(output) => {
                    ensure_code(output, 0)?;
                    break;
                }
            }
        }
    }
    ensure!(kills > 100, "only {kills} kills: was strace there?");
    Ok(())
}

pub(crate) fn killed_while_undoing() -> anyhow::Result<()> {
    let mut kills = 0;
    for call in CALLS {
        for number in numbers(call) {
            let tree = Tree::in_memory()?;
            let before = Before::look(&tree)?;
            ensure_code(tree.fix(TARGET)?, 0)?;
            let end = killed_at(&tree, &["--undo"], call, number)?;
            let what = format!("killed at {call} number {number}");
            ensure_before_or_after(&tree, &before, &what)?;
            match end {
                End::Killed => kills += 1,
                End::Complete(output) => {
                    ensure_code(output, 0)?;
                    break;
                }
            }
        }
    }
    ensure!(kills > 50, "only {kills} kills: was strace there?");
    Ok(())
}

/// Killed half-way, and again while the next run takes that back.
pub(crate) fn killed_while_recovering() -> anyhow::Result<()> {
    let mut kills = 0;
    for rename in [2, 5] {
        for call in ["write", "fsync", "renameat", "unlinkat"] {
            for number in 1..MANY {
                let tree = Tree::in_memory()?;
                let before = Before::look(&tree)?;
                killed_at(&tree, TARGET, "renameat", rename)?;
                let end = killed_at(&tree, &[], call, number)?;
                let what = format!("killed at rename {rename}, then at {call} number {number}");
                ensure_before_or_after(&tree, &before, &what)?;
                match end {
                    End::Killed => kills += 1,
                    End::Complete(_) => break,
                }
            }
        }
    }
    ensure!(kills > 20, "only {kills} kills: was strace there?");
    Ok(())
}

/// Errors that a disk gives, and the calls that it gives them to.
const ERRORS: [(&str, &str); 8] = [
    ("ENOSPC", "write"),
    ("ENOSPC", "mkdirat"),
    ("EDQUOT", "fsync"),
    ("EROFS", "openat2"),
    ("EROFS", "renameat"),
    ("EROFS", "unlinkat"),
    ("EIO", "fsync"),
    ("EPERM", "fchmod"),
];

/// One call fails: the same run takes everything back and says so, or what failed did not matter.
pub(crate) fn failing_once() -> anyhow::Result<()> {
    let mut failures = 0;
    for (error, call) in ERRORS {
        for number in 1..MANY {
            let tree = Tree::in_memory()?;
            let before = Before::look(&tree)?;
            let output =
                tree.fix_injected(TARGET, &format!("{call}:error={error}:when={number}"))?;
            let what = format!("{error} from {call} number {number}: {output:?}");
            // Standard output fails as well at some point: that undoes nothing.
            let told_nobody = output.stderr.contains("was made and holds");
            let done = output.code == Some(0) || told_nobody;
            ensure!(done || output.code == Some(1), "{what}");
            let now = tree.picture()?;
            ensure!(done || now == before.files, "{what}\n{now:#?}");
            failures += u32::from(!done);
            ensure_before_or_after(&tree, &before, &what)?;
            if !tree.was_injected()? {
                ensure!(done, "{what}");
                break;
            }
        }
    }
    ensure!(failures > 30, "only {failures} failures: was strace there?");
    Ok(())
}

/// From some call on everything fails, rolling back as well: the next run goes on with it.
pub(crate) fn failing_for_good() -> anyhow::Result<()> {
    for call in ["fsync", "renameat", "unlinkat"] {
        for number in 1..MANY {
            let tree = Tree::in_memory()?;
            let before = Before::look(&tree)?;
            let inject = format!("{call}:error=EIO:when={number}+");
            let output = tree.fix_injected(TARGET, &inject)?;
            let what = format!("EIO from {call} number {number} on: {output:?}");
            ensure_before_or_after(&tree, &before, &what)?;
            if output.code == Some(0) {
                break;
            }
            ensure!(output.code == Some(1), "{what}");
        }
    }
    Ok(())
}
