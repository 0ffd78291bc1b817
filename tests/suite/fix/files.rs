//! Files: written, put back to the byte, left alone where a write fails.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use ctkeeper_tests::{Output, ctkeeper, ctkeeper_path, run};
use rustix::fs::{FlockOperation, flock};

use crate::tree::{Tree, ensure_code};

/// A target that the seed's line contradicts: four files change.
pub(crate) const TARGET: &[&str] = &["--target", "524288", "--yes"];

pub(crate) fn fix_then_undo() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    ensure_code(tree.fix(&["--undo"])?, 1)?;
    ensure!(!tree.path("var").exists(), "an undo of nothing wrote something");
    let before = tree.picture()?;
    let output = ensure_code(tree.fix(TARGET)?, 0)?;
    ensure!(output.stdout.contains("undo with `ctkeeper fix --undo"), "{output:?}");
    let sysctl = tree.read("etc/sysctl.d/zz-ctkeeper.conf")?;
    let lines: Vec<_> = sysctl.lines().filter(|line| !line.starts_with('#')).collect();
    ensure!(
        lines
            == [
                "net.netfilter.nf_conntrack_buckets = 524288",
                "net.netfilter.nf_conntrack_max = 524288"
            ]
    );
    ensure!(tree.read("etc/modules-load.d/zz-ctkeeper.conf")?.ends_with("\nnf_conntrack\n"));
    let option = "\noptions nf_conntrack hashsize=524288\n";
    ensure!(tree.read("etc/modprobe.d/zz-ctkeeper.conf")?.ends_with(option));
    let seed = tree.read("etc/sysctl.conf")?;
    let line = seed.lines().nth(1).context("the line is there still")?;
    ensure!(line.starts_with("# commented out by ctkeeper") && line.ends_with("= 600000"));
    ensure!(fs::symlink_metadata(tree.path("etc/sysctl.d/99-sysctl.conf"))?.is_symlink());
    ensure_code(tree.fix(&["--undo"])?, 0)?;
    ensure!(tree.picture()? == before, "undo left a trace");
    ensure!(!tree.path("etc/modprobe.d").exists(), "a folder made for a file stayed");
    ensure_code(tree.fix(&["--undo"])?, 1)?;
    Ok(())
}

pub(crate) fn nothing_left_to_do() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    ensure_code(tree.fix(TARGET)?, 0)?;
    let after = tree.picture()?;
    let again = ensure_code(tree.fix(TARGET)?, 0)?;
    ensure!(again.stdout.contains("nothing to do"), "{again:?}");
    ensure!(tree.picture()? == after && tree.changes()?.len() == 1);
    Ok(())
}

/// Bytes that are no UTF-8, no end of line, a link in the place of our own file, a file of another
/// owner: all come back.
pub(crate) fn odd_files_survive() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    tree.write("etc/sysctl.conf", b"# \xff\xfe\r\nnet/netfilter/nf_conntrack_max=600000\r\n\x00")?;
    std::os::unix::fs::chown(tree.path("etc/sysctl.conf"), Some(4242), Some(4243))?;
    fs::set_permissions(tree.path("etc/sysctl.conf"), fs::Permissions::from_mode(0o606))?;
    symlink("/dev/null", tree.path("etc/sysctl.d/zz-ctkeeper.conf"))?;
    let label = rustix::fs::setxattr(
        tree.path("etc/sysctl.conf"),
        "user.note",
        b"kept",
        rustix::fs::XattrFlags::empty(),
    );
    let before = tree.picture()?;
    ensure_code(tree.fix(TARGET)?, 0)?;
    let after = tree.picture()?;
    let (content, mode, owner, group, _) = &after[&tree.path("etc/sysctl.conf")];
    ensure!(
        content.contains("commented out") && (mode & 0o777, *owner, *group) == (0o606, 4242, 4243)
    );
    if label.is_ok() {
        ensure!(attribute(&tree.path("etc/sysctl.conf"))? == b"kept");
    }
    ensure_code(tree.fix(&["--undo"])?, 0)?;
    ensure!(tree.picture()? == before, "{:#?}", tree.picture()?);
    if label.is_ok() {
        ensure!(attribute(&tree.path("etc/sysctl.conf"))? == b"kept");
    }
    Ok(())
}

fn attribute(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut value = vec![0; 16];
    let length = rustix::fs::getxattr(path, "user.note", &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// A later module option would win; other options of its line stay.
pub(crate) fn module_options() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    tree.write("etc/modprobe.d/zzz.conf", "options nf_conntrack hashsize=1000 acct=1\n")?;
    let before = tree.picture()?;
    ensure_code(tree.fix(TARGET)?, 0)?;
    let lines = tree.read("etc/modprobe.d/zzz.conf")?;
    ensure!(lines.ends_with("\noptions nf_conntrack acct=1\n"), "{lines}");
    ensure_code(tree.fix(&["--undo"])?, 0)?;
    ensure!(tree.picture()? == before);
    Ok(())
}

/// Whatever the readers take for a line of ours to win over is edited, and then all is done.
pub(crate) fn odd_lines() -> anyhow::Result<()> {
    for (file, line) in [
        ("etc/sysctl.d/zzz.conf", "net.netfilter.nf_conntrack_ma? = 77\n"),
        ("etc/sysctl.d/zzz.conf", "net/*/nf_conntrack_m[!b]x = 77\r\n"),
        ("etc/modprobe.d/zzz.conf", "options nf_conntrack hashsize=\"512\"\n"),
        ("etc/modprobe.d/zzz.conf", "options nf-conntrack hashsize=1 hashsize='2'\n"),
        ("proc/cmdline", "quiet nf_conntrack.hashsize=512\n"),
    ] {
        let tree = Tree::new()?;
        tree.write(file, line)?;
        let before = tree.picture()?;
        let output = ensure_code(tree.fix(TARGET)?, 0).with_context(|| line.to_owned())?;
        if file == "proc/cmdline" {
            ensure!(output.stdout.contains("boot loader") && tree.read(file)? == line);
        } else {
            ensure!(tree.read(file)?.starts_with("# commented out by"), "{}", tree.read(file)?);
        }
        let again = ensure_code(tree.fix(TARGET)?, 0)?;
        ensure!(again.stdout.contains("nothing to do"), "{line}: {again:?}");
        ensure_code(tree.fix(&["--undo"])?, 0)?;
        ensure!(tree.picture()? == before, "{line}");
    }
    Ok(())
}

/// A line that only a kernel with connection tracking built in takes at boot is no line to leave:
/// what doctor says of these files, fix sees to.
pub(crate) fn early_or_late() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    tree.write("etc/sysctl.conf", "")?;
    tree.write("etc/sysctl.d/10-a.conf", "net.netfilter.nf_conntrack_max=77\n")?;
    let output = ensure_code(tree.fix(&["--yes"])?, 0)?;
    ensure!(output.stdout.contains("a limit of 77"), "{output:?}");
    let kept = tree.read("etc/sysctl.d/zz-ctkeeper.conf")?;
    ensure!(kept.contains("nf_conntrack_max = "), "{kept}");
    let root = tree.root().display().to_string();
    let doctor = run(&mut ctkeeper(&["doctor", "--root", &root]))?;
    ensure!(!doctor.stdout.contains("after a reboot"), "{doctor:?}");
    let again = ensure_code(tree.fix(&["--yes"])?, 0)?;
    ensure!(again.stdout.contains("nothing to do"), "{again:?}");
    Ok(())
}

/// The second file cannot be written: nothing changes.
pub(crate) fn a_folder_in_the_way() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    fs::create_dir_all(tree.path("etc/modprobe.d/zz-ctkeeper.conf"))?;
    let before = tree.picture()?;
    let output = ensure_code(tree.fix(TARGET)?, 1)?;
    ensure!(output.stderr.contains("zz-ctkeeper.conf"), "{output:?}");
    ensure!(tree.picture()? == before);
    Ok(())
}

/// The last file cannot be written: the three before it are taken back.
pub(crate) fn immutable_file() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    let before = tree.picture()?;
    let file = tree.path("etc/sysctl.conf");
    let set = |flag: &str| run(Command::new("chattr").arg(flag).arg(&file));
    ensure_code(set("+i")?, 0)?;
    let output = tree.fix(TARGET);
    ensure_code(set("-i")?, 0)?;
    let output = ensure_code(output?, 1)?;
    ensure!(output.stderr.contains("Nothing changed"), "{output:?}");
    ensure!(output.stdout.contains("rolling back"), "{output:?}");
    ensure!(tree.picture()? == before);
    ensure!(tree.changes()?.iter().all(|(_, state)| state == "rolled-back"));
    Ok(())
}

/// The second file's folder is read-only, then all of `/etc`.
pub(crate) fn read_only_folder() -> anyhow::Result<()> {
    for folder in ["etc/modprobe.d", "etc"] {
        let tree = Tree::new()?;
        fs::create_dir_all(tree.path("etc/modprobe.d"))?;
        let before = tree.picture()?;
        let folder = tree.path(folder).display().to_string();
        let script = format!("mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}");
        let output = in_private(&script, &tree, TARGET)?;
        ensure!(output.stderr.contains("read-only"), "{output:?}");
        ensure_code(output, 1)?;
        ensure!(tree.picture()? == before);
    }
    Ok(())
}

/// The same binary on `/` itself, over a private `/etc`: the journal and the files of the host.
pub(crate) fn real_etc_in_private() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    fs::create_dir_all(tree.path("var/lib"))?;
    let before = tree.picture()?;
    let output = on_private_host(&tree, &["--persist", "--target", "524288", "--yes"])?;
    ensure_code(output, 0)?;
    ensure!(tree.read("etc/sysctl.d/zz-ctkeeper.conf")?.contains("nf_conntrack_max = 524288"));
    ensure_code(on_private_host(&tree, &["--undo"])?, 0)?;
    ensure!(tree.picture()? == before);
    ensure!(tree.path("var/lib/ctkeeper/journal").is_dir());
    Ok(())
}

/// What doctor noted to see what moves is doctor's: a plan leaves no note in its place.
pub(crate) fn the_note_is_left_alone() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    fs::create_dir_all(tree.path("var/lib"))?;
    let then_list = "both() { \"$@\"; ls -A /run/ctkeeper | sed s/^/noted:/; }; both";
    let output = run(&mut private_host(&tree, then_list, &["--dry-run", "--target", "524288"]))?;
    ensure!(output.stdout.contains("PLAN") && !output.stdout.contains("noted:"), "{output:?}");
    Ok(())
}

/// Runs `ctkeeper fix` on `/` with `etc` and `var/lib` of the tree mounted over the host's.
pub(crate) fn on_private_host(tree: &Tree, arguments: &[&str]) -> anyhow::Result<Output> {
    run(&mut private_host(tree, "", arguments))
}

/// The command of [`on_private_host`], with something before `ctkeeper` (a tracer) or more mounts.
pub(crate) fn private_host(tree: &Tree, before: &str, arguments: &[&str]) -> Command {
    let root = tree.root().display();
    let script = format!(
        "mount --bind {root}/etc /etc && mount --bind {root}/var/lib /var/lib && \
         mkdir -p /run/ctkeeper && mount -t tmpfs none /run/ctkeeper && {before} \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(ctkeeper_path()).arg("fix").args(arguments);
    command
}

fn in_private(script: &str, tree: &Tree, arguments: &[&str]) -> anyhow::Result<Output> {
    let script = format!("{script} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(ctkeeper_path()).args(["fix", "--root"]).arg(tree.root()).args(arguments);
    run(&mut command)
}

/// What somebody else wrote since is not lost by an undo.
pub(crate) fn changed_by_others() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    let before = tree.picture()?;
    ensure_code(tree.fix(TARGET)?, 0)?;
    let edited = tree.read("etc/sysctl.d/zz-ctkeeper.conf")? + "vm.swappiness = 1\n";
    tree.write("etc/sysctl.d/zz-ctkeeper.conf", &edited)?;
    let picture = tree.picture()?;
    let output = ensure_code(tree.fix(&["--undo"])?, 1)?;
    ensure!(output.stderr.contains("/etc/sysctl.d/zz-ctkeeper.conf"), "{output:?}");
    ensure!(output.stderr.contains("--force"), "{output:?}");
    ensure!(tree.picture()? == picture, "a refused undo changed something");
    ensure_code(tree.fix(&["--undo", "--force"])?, 0)?;
    ensure!(tree.picture()? == before);
    let (id, _) = tree.changes()?.pop().context("a change")?;
    let kept = tree.read(&format!("var/lib/ctkeeper/journal/{id}.zz-ctkeeper.conf.kept"))?;
    ensure!(kept == edited, "the copy is not what stood there");
    Ok(())
}

/// A journal below a root, of a host that had running values changed as well, changes none of this
/// host's: neither as an undo nor as what a crash left. It runs where writing them is not permitted,
/// so that trying would be a failure.
pub(crate) fn values_of_another_host() -> anyhow::Result<()> {
    let limit = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let limit: u64 = limit.trim().parse()?;
    for (state, arguments, outcome) in [
        ("done", &["--undo"][..], "undone"),
        ("done", &["--undo", "--force"], "undone"),
        ("undoing", &["--undo"], "undone"),
        ("applying", &["--yes", "--target", "524288"], "done"),
    ] {
        let tree = Tree::new()?;
        let before = tree.picture()?;
        ensure_code(tree.fix(TARGET)?, 0)?;
        let (id, _) = tree.changes()?.pop().context("a change")?;
        let file = format!("var/lib/ctkeeper/journal/{id}.json");
        let mut journal: serde_json::Value = serde_json::from_str(&tree.read(&file)?)?;
        journal["state"] = state.into();
        journal["running"] =
            serde_json::json!([{"key": "limit", "from": limit + 4096, "to": limit}]);
        tree.write(&file, journal.to_string())?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--"]).arg(ctkeeper_path()).args(["fix", "--root"]);
        let output = run(command.arg(tree.root()).args(arguments))?;
        let what = format!("{state}: {output:?}");
        ensure!(tree.changes()? == [(id, outcome.to_owned())], "{what}");
        ensure!(outcome == "done" || output.stdout.contains("left: running values:"), "{what}");
        ensure!((tree.picture()? == before) == (outcome == "undone"), "{what}");
    }
    Ok(())
}

/// Changes stand on each other: the later one goes first, each brings its own before back.
pub(crate) fn undo_in_order() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    let first = tree.picture()?;
    ensure_code(tree.fix(TARGET)?, 0)?;
    let second = tree.picture()?;
    ensure_code(tree.fix(&["--target", "1Mi", "--yes"])?, 0)?;
    let ids: Vec<_> = tree.changes()?.into_iter().map(|(id, _)| id).collect();
    let [early, late] = ids.as_slice() else { anyhow::bail!("two changes, not {ids:?}") };
    let output = ensure_code(tree.fix(&["--undo", early])?, 1)?;
    ensure!(output.stderr.contains(late.as_str()), "{output:?}");
    ensure_code(tree.fix(&["--undo", late])?, 0)?;
    ensure!(tree.picture()? == second);
    ensure_code(tree.fix(&["--undo", early])?, 0)?;
    ensure!(tree.picture()? == first);
    ensure_code(tree.fix(&["--undo", "no-such-change"])?, 1)?;
    Ok(())
}

/// While one changes, another is told to wait, and touches nothing.
pub(crate) fn one_at_a_time() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    tree.write("var/lib/ctkeeper/journal/lock", "")?;
    let lock = fs::File::open(tree.path("var/lib/ctkeeper/journal/lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let before = tree.picture()?;
    let output = ensure_code(tree.fix(TARGET)?, 1)?;
    ensure!(output.stderr.contains("another ctkeeper"), "{output:?}");
    ensure!(tree.picture()? == before);
    Ok(())
}
