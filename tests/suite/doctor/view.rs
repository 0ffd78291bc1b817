//! Missing privilege, masked files, saved snapshots, wrong command lines.

use std::fs;
use std::process::Command;

use anyhow::ensure;
use ctkeeper_tests::{HostValues, Namespace, ctkeeper, ctkeeper_path, doctor, report_of, run};

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

/// In a private mount namespace parts of `/proc` are hidden: named, and judged without; with all of
/// it hidden nothing can be told.
pub(crate) fn masked_proc() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    doctor(&["--netns", namespace.name()])?.ensure_silent("incomplete-view")?;
    let masked = |mounts: &str| {
        let script = format!("{mounts} && exec \"$0\" doctor --json --no-note");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        report_of(command.arg(ctkeeper_path()))
    };
    let report = masked("mount -t tmpfs none /proc/sys/net")?;
    let gap = report.finding("incomplete-view").map(|finding| finding["evidence"].to_string());
    ensure!(gap.is_some_and(|gap| gap.contains("limit and buckets")), "{report:?}");
    masked("mount --bind /dev/null /proc/meminfo")?.ensure_silent("memory-at-limit")?;
    let blind = masked("mount -t tmpfs none /proc")?;
    blind.ensure("nothing-seen", "unknown")?;
    ensure!(blind.0["exit_code"] == 3, "{blind:?}");
    Ok(())
}

/// A container's view: its own namespace and nothing of the host, which is no green for the host.
pub(crate) fn container_view() -> anyhow::Result<()> {
    let inside = |arguments: &str| {
        let script = format!("mount -t tmpfs none /run && exec \"$0\" doctor --json {arguments}");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount", "--net", "--mount-proc", "sh", "-c", &script]);
        report_of(command.arg(ctkeeper_path()))
    };
    inside("--no-note")?.ensure("privilege-missing", "unknown")?;
    // Healthy neighbour: asked for its own namespace alone, it can answer.
    inside("--no-note --netns current")?.ensure_silent("privilege-missing")
}

pub(crate) fn unknown_namespace() -> anyhow::Result<()> {
    let output = run(&mut ctkeeper(&["doctor", "--no-note", "--netns", "no-such-namespace"]))?;
    ensure!(output.code == Some(3) && output.stdout.is_empty(), "{output:?}");
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
        ensure!(output.code == Some(3) && output.stdout.is_empty(), "{output:?}");
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
    ensure!(output.code == Some(3) && output.stderr.contains("load_nte"), "{output:?}");
    Ok(())
}

/// Both streams go to somebody who has stopped reading: that is success for what only shows, doctor
/// keeps its verdict, and nothing panics.
pub(crate) fn closed_pipes() -> anyhow::Result<()> {
    // A verdict that is not 0, wherever this runs.
    let folder = tempfile::tempdir()?;
    let snapshot = folder.path().join("snapshot.json");
    doctor(&["--save", &snapshot.display().to_string()])?;
    let unfinished = "{ \"unfinished_change\": \"a test\",";
    fs::write(&snapshot, fs::read_to_string(&snapshot)?.replacen('{', unfinished, 1))?;
    for (arguments, code) in [
        ("list", 0),
        ("count", 0),
        ("stats", 0),
        ("doctor --no-note --from \"$1\"", 1),
        ("explain", 0),
        ("--help", 0),
        ("list no-such-term", 64),
    ] {
        let script =
            format!("(sleep 0.1; \"$0\" {arguments} 2>&1) | true; exit ${{PIPESTATUS[0]}}");
        let output =
            run(Command::new("bash").args(["-c", &script]).arg(ctkeeper_path()).arg(&snapshot))?;
        ensure!(output.code == Some(code), "{arguments}: {output:?}");
    }
    Ok(())
}

/// Settings, rules, modules and tables are the same after every look, and a namespace that tracked
/// nothing tracks nothing still. Under the lock: neighbouring tests make namespaces and raise limits.
pub(crate) fn looking_changes_nothing() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let namespace = Namespace::create()?;
    let state = || -> anyhow::Result<String> {
        let facts = "sysctl -a 2>/dev/null | grep '^net' | grep -v -e count -e random -e dentry; \
                     cat /proc/net/ip_tables_names /proc/net/ip6_tables_names /proc/modules \
                     2>/dev/null; nft list ruleset; conntrack -L 2>/dev/null";
        Ok(namespace.run("bash", &["-c", facts])?)
    };
    let before = state()?;
    doctor(&[])?;
    doctor(&["--netns", namespace.name(), "--window", "50ms"])?;
    let after = state()?;
    ensure!(before == after, "looking changed something: {before}\n---\n{after}");
    Ok(())
}
