//! Asking the doctor.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{ctkeeper, run};

/// A report as `--json` prints it.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

/// Runs doctor with `--json` and whatever else, without note.
pub fn doctor(arguments: &[&str]) -> anyhow::Result<Report> {
    report_of(ctkeeper(&["doctor", "--json", "--no-note"]).args(arguments))
}

/// Runs a command that prints a report; its exit code must be the report's.
pub fn report_of(command: &mut Command) -> anyhow::Result<Report> {
    let output = run(command)?;
    let json: Value = serde_json::from_str(&output.stdout)
        .with_context(|| format!("no report from {command:?}: {output:?}"))?;
    let expected = json["exit_code"].as_i64().map(|code| code as i32);
    ensure!(output.code == expected, "exit {:?}, report says {expected:?}", output.code);
    Ok(Report(json))
}

impl Report {
    /// The severity of a rule's first finding, if it has one.
    pub fn severity(&self, id: &str) -> Option<&str> {
        self.finding(id)?["severity"].as_str()
    }

    /// A rule's first finding.
    pub fn finding(&self, id: &str) -> Option<&Value> {
        self.findings().find(|finding| finding["id"] == id)
    }

    /// Every finding.
    pub fn findings(&self) -> impl Iterator<Item = &Value> {
        self.0["findings"].as_array().into_iter().flatten()
    }

    /// Fails unless the rule has spoken with this severity.
    pub fn ensure(&self, id: &str, severity: &str) -> anyhow::Result<()> {
        ensure!(self.severity(id) == Some(severity), "{id} is not {severity}: {:#}", self.0);
        show(id, severity, self.finding(id).and_then(|f| f["summary"].as_str()));
        Ok(())
    }

    /// Fails unless these rules and no others have spoken about namespaces. (About the host others
    /// may: what its log and its files say is not the experiment's.)
    pub fn ensure_only(&self, ids: &[&str]) -> anyhow::Result<()> {
        let about_namespaces = self.findings().filter(|f| f["scope"]["of"] == "namespace");
        let spoken: BTreeSet<_> = about_namespaces.filter_map(|f| f["id"].as_str()).collect();
        let expected = ids.iter().copied().collect();
        ensure!(spoken == expected, "{spoken:?} instead of {expected:?}: {:#}", self.0);
        show(&ids.join(", "), "and nothing else", None);
        Ok(())
    }

    /// Fails if the rule has spoken.
    pub fn ensure_silent(&self, id: &str) -> anyhow::Result<()> {
        ensure!(self.finding(id).is_none(), "{id} speaks: {:#}", self.0);
        show(id, "silent", None);
        Ok(())
    }
}

/// With `CTKEEPER_SHOW` set, the experiments tell what they saw.
fn show(id: &str, severity: &str, summary: Option<&str>) {
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        println!("| {id} | {severity} | {} |", summary.unwrap_or_default());
    }
}
