//! Missing privilege, masked files, saved snapshots, wrong command lines.

use std::fs;
use std::process::Command;

use anyhow::ensure;
use ctkeeper_tests::{Namespace, ctkeeper, ctkeeper_path, doctor, report_of, run};

pub(crate) fn privilege_missing() -> anyhow::Result<()> {
    doctor(&[])?.ensure_silent("privilege-missing")?;
    let binary = tempfile::tempdir()?;
    let copy = binary.path().join("ctkeeper");
    fs::copy(ctkeeper_path(), &copy)?;
    open_to_all(binary.path())?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let report = report_of(command.arg(&copy).args(["doctor", "--json", "--no-note"]))?;
    report.ensure("privilege-missing", "unknown")?;
    ensure!(report.0["exit_code"] == 3, "{report:?}");
    Ok(())
}

fn open_to_all(folder: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?)
}

/// In a private mount namespace the kernel log and the slab are hidden: named, and judged without.
pub(crate) fn masked_proc() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    doctor(&["--netns", namespace.name()])?.ensure_silent("incomplete-view")?;
    let script = "mount -t tmpfs none /proc/sys/net && exec \"$0\" doctor --json --no-note";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    let report = report_of(command.arg(ctkeeper_path()))?;
    ensure!(
        report.0["verdict"] != "ok" || report.finding("incomplete-view").is_some(),
        "{report:?}"
    );
    Ok(())
}

pub(crate) fn unknown_namespace() -> anyhow::Result<()> {
    let output = run(&mut ctkeeper(&["doctor", "--no-note", "--netns", "no-such-namespace"]))?;
    ensure!(output.code == Some(1) && output.stdout.is_empty(), "{output:?}");
    ensure!(output.stderr.contains("no-such-namespace"), "{output:?}");
    // Healthy neighbour: every way to name one that is there.
    let namespace = Namespace::create()?;
    let (inode, path) = (namespace.inode()?.to_string(), namespace.path().display().to_string());
    for selector in [namespace.name(), &inode, &format!("net:[{inode}]"), &path] {
        let report = doctor(&["--netns", selector])?;
        ensure!(report.0["overview"]["namespaces"] == 1, "{selector}: {report:?}");
    }
    Ok(())
}

pub(crate) fn snapshots() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("snapshot.json");
    let path = file.display().to_string();
    let live = doctor(&["--save", &path])?;
    let saved = report_of(&mut ctkeeper(&["doctor", "--json", "--from", &path]))?;
    ensure!(saved.0 == live.0, "a saved snapshot is judged otherwise");
    let text = fs::read_to_string(&file)?;
    for (damage, word) in [
        (text.replace("ctkeeper.snapshot/1", "ctkeeper.snapshot/9"), "schema"),
        (text[..text.len() / 2].to_owned(), "snapshot"),
        ("{}".to_owned(), "snapshot"),
        (String::new(), "snapshot"),
    ] {
        fs::write(&file, damage)?;
        let output = run(&mut ctkeeper(&["doctor", "--from", &path]))?;
        ensure!(output.code == Some(1) && output.stdout.is_empty(), "{output:?}");
        ensure!(output.stderr.contains(word) && output.stderr.contains(&path), "{output:?}");
    }
    Ok(())
}

pub(crate) fn thresholds() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("thresholds.toml");
    let path = file.display().to_string();
    fs::write(&file, "load_note = 0.5\n")?;
    doctor(&["--thresholds", &path])?.ensure("second-wall", "note")?;
    fs::write(&file, "load_nte = 0.5\n")?;
    let output = run(&mut ctkeeper(&["doctor", "--no-note", "--thresholds", &path]))?;
    ensure!(output.code == Some(1) && output.stderr.contains("load_nte"), "{output:?}");
    Ok(())
}

/// Both streams go to somebody who has stopped reading: that is success, or the command's own
/// verdict on its command line, and never a panic.
pub(crate) fn closed_pipes() -> anyhow::Result<()> {
    for (arguments, code) in [
        ("list", 0),
        ("count", 0),
        ("stats", 0),
        ("doctor --no-note", 0),
        ("explain", 0),
        ("fix --dry-run --target 300000", 0),
        ("--help", 0),
        ("list no-such-term", 64),
    ] {
        let script =
            format!("(sleep 0.1; \"$0\" {arguments} 2>&1) | true; exit ${{PIPESTATUS[0]}}");
        let output = run(Command::new("bash").args(["-c", &script]).arg(ctkeeper_path()))?;
        ensure!(output.code == Some(code), "{arguments}: {output:?}");
    }
    Ok(())
}

/// Settings, rules and tables are the same after every look, and a namespace that tracked nothing
/// tracks nothing still.
pub(crate) fn looking_changes_nothing() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let state = || -> anyhow::Result<String> {
        let hooks = "sysctl -a 2>/dev/null | grep -v -e random -e count -e dentry -e inode -e file \
                     -e ns_last_pid -e pty; cat /proc/net/ip_tables_names /proc/net/netfilter/*";
        Ok(namespace.run("bash", &["-c", hooks])? + &fs::read_to_string("/proc/mounts")?)
    };
    let before = state()?;
    doctor(&[])?;
    doctor(&["--netns", namespace.name(), "--window", "50ms"])?;
    ensure!(before == state()?, "looking changed something");
    Ok(())
}
