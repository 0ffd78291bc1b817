//! What fix says where it cannot or must not change anything; its forms and exit codes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use ctkeeper_tests::{HostValues, Namespace, ctkeeper, ctkeeper_path, doctor, run};
use serde_json::Value;

use crate::files::private_host;
use crate::tree::{Tree, ensure_code};

const TARGET: &[&str] = &["--target", "524288", "--yes"];

/// A host with files of its own: should a refusal fail, nothing real is written.
fn private_tree() -> anyhow::Result<Tree> {
    let tree = Tree::new()?;
    fs::create_dir_all(tree.path("var/lib"))?;
    Ok(tree)
}

pub(crate) fn child_namespace() -> anyhow::Result<()> {
    let (namespace, tree) = (Namespace::create()?, private_tree()?);
    let inside = format!("ip netns exec {}", namespace.name());
    let output = ensure_code(run(&mut private_host(&tree, &inside, TARGET))?, 1)?;
    ensure!(output.stderr.contains("on the host, run: ctkeeper fix --target 524288"), "{output:?}");
    let emit = ["--target", "524288", "--emit", "sysctl"];
    let output = run(&mut private_host(&tree, &inside, &emit))?;
    ensure!(ensure_code(output, 0)?.stdout.contains("nf_conntrack_max = 524288"));
    Ok(())
}

pub(crate) fn read_only_proc_sys() -> anyhow::Result<()> {
    let read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys &&";
    let output = run(&mut private_host(&private_tree()?, read_only, TARGET))?;
    let output = ensure_code(output, 1)?;
    ensure!(output.stderr.contains("read-only"), "{output:?}");
    ensure!(output.stderr.contains("ctkeeper fix --target 524288"), "{output:?}");
    Ok(())
}

/// Who may not see every namespace cannot plan from them, and is told what it takes.
pub(crate) fn no_privilege() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let binary = folder.path().join("ctkeeper");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    fs::copy(ctkeeper_path(), &binary)?;
    for arguments in [
        &["--target", "524288", "--yes"][..],
        &["--undo"],
        &["--persist", "--target", "524288", "--yes"],
    ] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        let output = run(command.arg(&binary).arg("fix").args(arguments).stdin(Stdio::null()))?;
        ensure!(output.stderr.contains("root") || output.stderr.contains("sudo"), "{output:?}");
        ensure_code(output, 1)?;
    }
    Ok(())
}

/// Nothing here is applied, whatever the plan says: it is a dry run.
pub(crate) fn refusals() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    let refused = |arguments: &[&str], says: &str| -> anyhow::Result<()> {
        let output = run(ctkeeper(&["fix", "--dry-run"]).args(arguments))?;
        ensure!(output.stderr.contains(says), "{arguments:?}: {output:?}");
        ensure_code(output, 1).map(drop)
    };
    let above = (2 * host.limit()).to_string();
    refused(&["--target", "2000M", "--memory-share", "0.1%"], "that is more than there is")?;
    refused(&["--target", &above, "--memory-share", "0.1%"], "`--memory-share ")?;
    refused(&["--target", "0"], "outside 1 to")?;
    refused(&["--target", "9999999999"], "outside 1 to")?;
    Ok(())
}

/// On a terminal it asks, and takes silence for no.
pub(crate) fn asks_on_a_terminal() -> anyhow::Result<()> {
    for (answer, code, changes) in [("\n", 4, 0), ("n\n", 4, 0), ("y\n", 0, 1)] {
        let tree = Tree::new()?;
        let line = format!(
            "{} fix --root {} --target 524288",
            ctkeeper_path().display(),
            tree.root().display()
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("script takes input")?.write_all(answer.as_bytes())?;
        let output = child.wait_with_output()?;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(shown.contains("Apply? [y/N]"), "{shown}");
        ensure!(output.status.code() == Some(code), "{answer:?}: {:?}\n{shown}", output.status);
        ensure!(tree.changes()?.len() == changes, "{answer:?}: {shown}");
    }
    Ok(())
}

/// What is told to nobody is done all the same; only a failure to tell it is one.
pub(crate) fn nobody_listens() -> anyhow::Result<()> {
    let gone = || -> anyhow::Result<Stdio> { Ok(std::io::pipe()?.1.into()) };
    let full = || -> anyhow::Result<Stdio> {
        Ok(fs::File::options().write(true).open("/dev/full")?.into())
    };
    for json in [&[][..], &["--json"]] {
        let fix = |tree: &Tree, arguments: &[&str], out: Stdio| -> anyhow::Result<_> {
            let mut command = tree.command(&[json, arguments].concat());
            let child = command.stdout(out).stderr(Stdio::piped()).spawn()?;
            let output = child.wait_with_output()?;
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok((output.status.code(), error))
        };
        let apply = &["--target", "524288", "--yes"][..];
        let tree = Tree::new()?;
        let before = tree.picture()?;
        let (code, error) = fix(&tree, &["--target", "524288", "--dry-run"], gone()?)?;
        ensure!(code == Some(4) && tree.picture()? == before, "{code:?}: {error}");
        let (code, error) = fix(&tree, &["--target", "524288"], full()?)?;
        ensure!(code == Some(1) && error.contains("nothing was changed"), "{code:?}: {error}");
        ensure!(tree.changes()?.is_empty());
        let (code, error) = fix(&tree, apply, gone()?)?;
        ensure!(code == Some(0) && tree.changes()?.len() == 1, "{code:?}: {error}");
        let (code, error) = fix(&tree, &["--undo"], full()?)?;
        ensure!(code == Some(1) && error.contains("is undone"), "{code:?}: {error}");
        ensure!(tree.picture()? == before, "{error}");
        let (code, error) = fix(&tree, apply, full()?)?;
        ensure!(code == Some(1) && error.contains("was made and holds"), "{code:?}: {error}");
        ensure!(tree.picture()? != before, "{error}");
        // A refusal is one, whoever listens.
        let (code, error) = fix(&tree, &["--target", "0", "--yes"], gone()?)?;
        ensure!(code == Some(1) && error.contains("outside 1 to"), "{code:?}: {error}");
    }
    Ok(())
}

/// A journal that cannot be read is shown, by its real name, and stops everything.
pub(crate) fn broken_journal() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    tree.write("var/lib/ctkeeper/journal/20260101-000000.json", "{")?;
    let before = tree.picture()?;
    let real = tree.path("var/lib/ctkeeper/journal/20260101-000000.json").display().to_string();
    for arguments in [&["--target", "524288", "--yes"][..], &["--undo"], &["--history"]] {
        let output = ensure_code(tree.fix(arguments)?, 1)?;
        ensure!(output.stderr.contains(&real), "{output:?}");
    }
    let report = doctor(&["--root", &tree.root().display().to_string()])?;
    ensure!(report.0.to_string().contains(&real), "{:#}", report.0);
    ensure!(tree.picture()? == before);
    Ok(())
}

pub(crate) fn json_and_codes() -> anyhow::Result<()> {
    let tree = Tree::new()?;
    let json = |arguments: &[&str], code: i32| -> anyhow::Result<Value> {
        let output = ensure_code(tree.fix(&[&["--json"], arguments].concat())?, code)?;
        let value: Value = serde_json::from_str(&output.stdout).with_context(|| output.stdout)?;
        ensure!(value["schema"] == "ctkeeper.fix/1");
        Ok(value)
    };
    let planned = json(&["--target", "524288"], 4)?;
    ensure!(planned["outcome"] == "planned" && planned["plan"]["after"]["limit"] == 524_288);
    ensure!(planned["plan"]["memory"]["needed"].as_u64() > Some(0));
    let unharmed = tree.picture()?;
    ensure!(json(&["--target", "524288", "--dry-run"], 4)?["outcome"] == "planned");
    ensure!(tree.picture()? == unharmed && !tree.path("var").exists(), "a plan wrote something");
    ensure!(json(&["--target", "524288", "--yes"], 0)?["change"]["state"] == "done");
    ensure!(json(&["--target", "524288", "--yes"], 0)?["outcome"] == "nothing-to-do");
    ensure!(json(&["--target", "0"], 1)?["outcome"] == "refused");
    ensure!(json(&["--undo"], 0)?["outcome"] == "undone");
    ensure!(json(&["--undo"], 1)?["outcome"] == "failed");
    ensure!(json(&["--history"], 0)?["changes"].as_array().map(Vec::len) == Some(1));
    // doctor sees a change that a crash left.
    tree.fix_injected(&["--target", "524288", "--yes"], "renameat:signal=SIGKILL:when=3")?;
    let report = doctor(&["--root", &tree.root().display().to_string()])?;
    ensure!(report.0.to_string().contains("was interrupted"), "{:#}", report.0);
    Ok(())
}

pub(crate) fn emits() -> anyhow::Result<()> {
    for (format, says) in [
        ("sysctl", "net.netfilter.nf_conntrack_max = 600000\n"),
        ("cloud-init", "      net.netfilter.nf_conntrack_max = 600000\n"),
        ("ansible", "          net.netfilter.nf_conntrack_max = 600000\n"),
        ("kube-proxy", "conntrack:\n  maxPerCore: 1\n  min: 600000\n"),
    ] {
        let output = run(&mut ctkeeper(&["fix", "--target", "600k", "--emit", format]))?;
        let output = ensure_code(output, 0)?;
        ensure!(output.stdout.contains(says), "{format}: {output:?}");
        ensure!(!output.stderr.contains("partial view"), "{format}: {output:?}");
    }
    Ok(())
}

/// Inside a namespace of its own, what is chosen says so, in the file and beside it.
pub(crate) fn emits_from_a_part() -> anyhow::Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(ctkeeper_path()).args(["fix", "--emit", "sysctl"]);
    let output = ensure_code(run(&mut command)?, 0)?;
    ensure!(output.stdout.contains("# WARNING: the size was chosen from a partial"), "{output:?}");
    ensure!(output.stderr.contains("partial view"), "{output:?}");
    Ok(())
}

pub(crate) fn wrong_command_lines() -> anyhow::Result<()> {
    for arguments in [
        &["--target", "many"][..],
        &["--memory-share", "0%"],
        &["--memory-share", "400%"],
        &["--persist", "--no-persist"],
        &["--undo", "--target", "1"],
        &["--undo", ""],
        &["--undo="],
        &["--emit", "puppet"],
        &["--netns", "web"],
        &["--horizon", "soon"],
    ] {
        let output = run(ctkeeper(&["fix"]).args(arguments))?;
        ensure!(!output.stderr.is_empty(), "{arguments:?}");
        ensure_code(output, 64).with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}
