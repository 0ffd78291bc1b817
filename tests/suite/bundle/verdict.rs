//! What a bundle says to somebody who has nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use ctkeeper_tests::{Filling, HostValues, Namespace, Output, ctkeeper, fill, report_of, run};
use serde_json::Value;
use tempfile::TempDir;

/// A bundle made with these arguments, and its folder.
pub(crate) fn made(arguments: &[&str]) -> anyhow::Result<(TempDir, PathBuf, Value)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("b.json");
    let path = file.display().to_string();
    let output = run(ctkeeper(&["bundle", "--window", "50ms", "-o", &path]).args(arguments))?;
    ensure!(output.code == Some(0) && output.stderr.is_empty(), "{output:?}");
    ensure!(output.stdout.contains(&format!("ctkeeper doctor --from {path}")), "{output:?}");
    let bundle = serde_json::from_str(&fs::read_to_string(&file)?)?;
    Ok((folder, file, bundle))
}

/// What doctor says to it.
pub(crate) fn judged(file: &Path) -> anyhow::Result<Value> {
    let path = file.display().to_string();
    let mut command = ctkeeper(&["doctor", "--json", "--from", &path]);
    ensure!(run(&mut command)?.stderr.is_empty(), "doctor has something to say to {path}");
    Ok(report_of(&mut command)?.0)
}

/// Ids and severities, in order.
pub(crate) fn findings(report: &Value) -> Vec<(String, String)> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let all = report["findings"].as_array().into_iter().flatten();
    all.map(|finding| (text(finding, "id"), text(finding, "severity"))).collect()
}

/// With a finding of a namespace, one of a file, and an exit code that is not 0.
pub(crate) fn the_same_verdict() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    let namespace = Namespace::create()?;
    namespace.track()?;
    fill(&namespace, 0, 2000, Filling::HalfOpen)?;
    let root = tempfile::tempdir()?;
    let settings = root.path().join("etc/sysctl.d/90-acme.conf");
    fs::create_dir_all(settings.parent().context("no folder")?)?;
    fs::write(&settings, format!("net.nf_conntrack_max = {}\n", host.limit() + 512))?;
    let root = root.path().display().to_string();
    // Other tests fill other namespaces meanwhile.
    let arguments = ["--root", &root, "--netns", namespace.name()];
    let (_folder, file, bundle) = made(&arguments)?;
    ensure!(bundle["schema"] == "ctkeeper.bundle/1" && bundle["anonymized"] == false, "{bundle}");
    let line = &bundle["settings_lines"][0];
    ensure!(line["file"] == "/etc/sysctl.d/90-acme.conf" && line["line"] == 1, "{line}");
    for part in ["/system/kernel_build", "/snapshot/taken/kernel", "/snapshot/taken/ctkeeper"] {
        ensure!(bundle.pointer(part).is_some_and(Value::is_string), "no {part} in {bundle}");
    }
    let inode = namespace.inode()?;
    let all = bundle["snapshot"]["namespaces"].as_array().context("no namespaces")?;
    let seen = all.iter().find(|seen| seen["inode"] == inode).context("not the namespace")?;
    ensure!(seen["statistics_per_cpu"].as_array().is_some_and(|cpus| !cpus.is_empty()), "{seen}");
    ensure!(seen["tracking"]["trackers"][0]["what"] == "ct state", "{seen}");
    let report = judged(&file)?;
    ensure!(report == bundle["report"], "judged otherwise: {report:#}\n{:#}", bundle["report"]);
    ensure!(report["exit_code"] == 1, "{report:#}");
    let found = findings(&report);
    for id in ["differs-from-persisted", "why-tracked"] {
        ensure!(found.iter().any(|(found, _)| found == id), "no {id} in {found:?}");
    }
    let (_folder, file, anonymous) = made(&[&arguments[..], &["--anonymize"]].concat())?;
    ensure!(anonymous["anonymized"] == true && judged(&file)? == anonymous["report"]);
    // Others may be written to the log between the two looks.
    let ours = |report: &Value| {
        let mut found = findings(report);
        found.retain(|(id, _)| id != "kernel-log");
        (found, report["exit_code"].clone())
    };
    ensure!(ours(&anonymous["report"]) == ours(&report), "{anonymous:#}");
    Ok(())
}

pub(crate) fn its_own_thresholds() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("thresholds.toml");
    let path = file.display().to_string();
    fs::write(&file, "load_note = 0.5\n")?;
    let (_folder, bundle_file, bundle) = made(&["--thresholds", &path])?;
    ensure!(bundle["thresholds"]["load_note"] == 0.5, "{}", bundle["thresholds"]);
    let speaks = |report: &Value| findings(report).iter().any(|(id, _)| id == "second-wall");
    ensure!(speaks(&judged(&bundle_file)?), "judged by other thresholds");
    // Unless others are named.
    fs::write(&file, "load_note = 3.0\n")?;
    let bundle_path = bundle_file.display().to_string();
    let mut command = ctkeeper(&["doctor", "--json", "--from", &bundle_path]);
    let report = report_of(command.args(["--thresholds", &path]))?;
    ensure!(!speaks(&report.0), "{report:?}");
    Ok(())
}

/// As if it had been made by a ctkeeper with a rule that this one has not.
pub(crate) fn other_rules_are_named() -> anyhow::Result<()> {
    let (_folder, file, mut bundle) = made(&[])?;
    let old = serde_json::json!({ "id": "rule\u{1b}[2J-of-old", "severity": "critical" });
    bundle["report"]["findings"].as_array_mut().context("no findings")?.push(old);
    bundle["report"]["verdict"] = "critical".into();
    bundle["added_later"] = "is ignored".into();
    bundle["thresholds"]["added_later"] = 7.into();
    fs::write(&file, bundle.to_string())?;
    let Output { stderr, .. } =
        run(&mut ctkeeper(&["doctor", "--from", &file.display().to_string()]))?;
    let says = stderr.contains("CRITICAL at the time") && stderr.contains("rule\\u{1b}[2J-of-old");
    ensure!(says && !stderr.contains('\u{1b}'), "{stderr}");
    Ok(())
}

pub(crate) fn what_is_no_bundle() -> anyhow::Result<()> {
    let (_folder, file, bundle) = made(&[])?;
    let path = file.display().to_string();
    let text = fs::read_to_string(&file)?;
    let half = text.chars().take(text.len() / 2).collect();
    for (damaged, says) in [
        (text.replace("ctkeeper.bundle/1", "ctkeeper.bundle/2"), "ctkeeper.bundle/2"),
        (text.replace("ctkeeper.snapshot/1", "ctkeeper.snapshot/2"), "ctkeeper.snapshot/2"),
        (text.replace("\"module\":", "\"modula\":"), "damaged"),
        (bundle["report"].to_string(), "neither a bundle"),
        (half, "cut off"),
        ("[1, 2]".to_owned(), "not a bundle or snapshot"),
        ("\u{0}\u{ff}".to_owned(), "not a bundle or snapshot"),
        (String::new(), "not a bundle or snapshot"),
    ] {
        fs::write(&file, damaged)?;
        let output = run(&mut ctkeeper(&["doctor", "--from", &path]))?;
        ensure!(output.code == Some(3) && output.stdout.is_empty(), "{says}: {output:?}");
        let named = output.stderr.contains(says) && output.stderr.contains(&path);
        ensure!(named && output.stderr.lines().count() == 1, "{says}: {output:?}");
    }
    // Healthy neighbours: the bundle as it was, and the snapshot in it.
    for whole in [text, bundle["snapshot"].to_string()] {
        fs::write(&file, whole)?;
        ensure!(judged(&file)? == bundle["report"]);
    }
    Ok(())
}
