//! `save`, `flush`, `restore`: the table is as it was, but for timeouts and ids.

use anyhow::ensure;
use ctkeeper_tests::Namespace;

use super::support::{
    count, ensure_same, fed, in_namespace, output, picture, table_of_everything, tell,
};

/// Restores from standard input, which has to make all.
fn restore(namespace: &Namespace, saved: &str, entries: usize) -> anyhow::Result<()> {
    let output = fed(&mut in_namespace(namespace, &["restore", "-"]), saved)?;
    ensure!(output.code == Some(0) && output.stdout.is_empty(), "{output:?}");
    let expected = format!("{entries} made of {entries} entries.");
    ensure!(output.stderr.trim() == expected, "{output:?}");
    Ok(())
}

pub(crate) fn everything_comes_back() -> anyhow::Result<()> {
    for format in [&[][..], &["-o", "save"], &["-o", "json"], &["--json"]] {
        let namespace = table_of_everything()?;
        let before = picture(&namespace)?;
        ensure!(before.iter().any(|entry| entry.contains("\"master\"")), "{before:#?}");
        ensure!(before.iter().any(|entry| entry.contains("\"labels\":[0,7,127]")), "{before:#?}");
        ensure!(
            before.iter().any(|entry| entry.contains("\"tcp_window_scale\":[7,9]")),
            "{before:#?}"
        );
        let saved = output(&namespace, &[&["save"], format].concat())?;
        ensure!(saved.lines().filter(|line| !line.starts_with('#')).count() == before.len());
        output(&namespace, &["flush", "--yes"])?;
        ensure!(count(&namespace, "")? == 0);
        restore(&namespace, &saved, before.len())?;
        ensure_same(&before, &picture(&namespace)?)?;
        // And into another namespace, which has no rules that use labels.
        let other = Namespace::create()?;
        let output = fed(&mut in_namespace(&other, &["restore", "-"]), &saved)?;
        ensure!(output.stderr.contains("Labels of 1 entry did not stick"), "{output:?}");
        let unlabelled = |entries: &[String]| {
            entries.iter().filter(|entry| !entry.contains("labels")).cloned().collect::<Vec<_>>()
        };
        let after = picture(&other)?;
        ensure!(unlabelled(&before).iter().all(|entry| after.contains(entry)));
        ensure!(after.len() == before.len());
    }
    Ok(())
}

/// What conntrack has no word for is missing then: labels, helper and master, window scales.
pub(crate) fn conntrack_loads_it() -> anyhow::Result<()> {
    let namespace = table_of_everything()?;
    let saved = output(&namespace, &["save", "not (label 7 or helper ftp or sport 1002)"])?;
    output(&namespace, &["delete", "label 7 or helper ftp or sport 1002", "--yes"])?;
    let before = picture(&namespace)?;
    output(&namespace, &["flush", "--yes"])?;
    let loaded = fed(namespace.command("conntrack").args(["-R", "-"]), &saved)?;
    ensure!(loaded.code == Some(0), "{loaded:?}");
    ensure_same(&before, &picture(&namespace)?)?;
    let all = table_of_everything()?;
    let (saved, before) = (output(&all, &["save"])?, count(&all, "")?);
    output(&all, &["flush", "--yes"])?;
    let loaded = fed(all.command("conntrack").args(["-R", "-"]), &saved)?;
    ensure!(loaded.code == Some(0) && count(&all, "")? == before, "{loaded:?}");
    Ok(())
}

/// Text carries all but labels, masters and TCP's flags; `-o save` marks and helpers neither.
pub(crate) fn conntracks_lists_come_back() -> anyhow::Result<()> {
    let plain = "not (label 7 or helper ftp or sport 1002)";
    let namespace = table_of_everything()?;
    output(&namespace, &["delete", "label 7 or helper ftp or sport 1002", "--yes"])?;
    let text = namespace.run("conntrack", &["-L"])?;
    let (before, entries) = (picture(&namespace)?, count(&namespace, plain)?);
    output(&namespace, &["flush", "--yes"])?;
    restore(&namespace, &text, entries)?;
    ensure_same(&without_tracking(&before), &without_tracking(&picture(&namespace)?))?;
    let namespace = table_of_everything()?;
    output(&namespace, &["delete", "not mark 0 or helper ftp", "--yes"])?;
    let commands = namespace.run("conntrack", &["-L", "-o", "save"])?;
    let (before, entries) = (picture(&namespace)?, count(&namespace, "")?);
    output(&namespace, &["flush", "--yes"])?;
    restore(&namespace, &commands, entries)?;
    ensure_same(&without_tracking(&before), &without_tracking(&picture(&namespace)?))?;
    Ok(())
}

/// Without what those forms do not carry.
fn without_tracking(picture: &[String]) -> Vec<String> {
    let strip = |entry: &String| -> String {
        let mut entry: serde_json::Value = serde_json::from_str(entry).unwrap_or_default();
        if let Some(object) = entry.as_object_mut() {
            for key in ["tcp_flags", "tcp_window_scale", "sctp_verification_tags"] {
                object.remove(key);
            }
            // Nor do they tell it from one that is refreshed.
            if let Some(status) = object.get_mut("status").and_then(|status| status.as_array_mut())
            {
                status.retain(|bit| bit != "FIXED_TIMEOUT");
            }
        }
        entry.to_string()
    };
    let mut stripped: Vec<_> = picture.iter().map(strip).collect();
    stripped.sort();
    stripped
}

pub(crate) fn a_filter_saves_some() -> anyhow::Result<()> {
    let namespace = table_of_everything()?;
    let https = count(&namespace, "tcp dport 443")?;
    let told = tell(&namespace, &["save", "tcp", "dport", "443"])?;
    ensure!(told.code == Some(0), "{told:?}");
    ensure!(told.stderr.trim() == format!("{https} entries saved."), "{told:?}");
    ensure!(told.stdout.lines().filter(|line| line.contains("--dport 443")).count() == https);
    output(&namespace, &["delete", "tcp dport 443", "--yes"])?;
    let restored = fed(&mut in_namespace(&namespace, &["restore", "-"]), &told.stdout)?;
    ensure!(
        restored.code == Some(0) && count(&namespace, "tcp dport 443")? == https,
        "{restored:?}"
    );
    Ok(())
}
