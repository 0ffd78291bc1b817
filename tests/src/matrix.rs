//! What doctor found in each scenario of the lab, against what it should have.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use ctkeeper_lab::scenario::CAUSES;
use serde_json::Value;

use crate::Output;

/// The confusion matrix: scenarios against the findings that name a cause.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    rows: BTreeMap<(String, Vec<String>), Row>,
    not_run: BTreeMap<String, String>,
    unmet: Vec<String>,
}

/// What doctor said in the judged moments of a scenario that expect the same.
#[derive(Clone, Debug, Default)]
struct Row {
    judged: u32,
    /// How often each cause was named.
    found: BTreeMap<String, u32>,
}

impl Matrix {
    /// Takes what `ctkeeper lab run NAME --json` has said; false if it cannot run there.
    pub fn take(&mut self, name: &str, output: &Output) -> anyhow::Result<bool> {
        if output.stderr.contains("cannot run here") {
            self.not_run.insert(name.to_owned(), output.stderr.trim().to_owned());
            return Ok(false);
        }
        let report: Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("no report of {name}: {output:?}"))?;
        ensure!(output.code == Some(i32::from(report["met"] != true)), "{name}: {output:?}");
        self.take_report(name, &report);
        Ok(true)
    }

    fn take_report(&mut self, name: &str, report: &Value) {
        for phase in report["phases"].as_array().into_iter().flatten() {
            let unmet = phase["unmet"].as_array().into_iter().flatten();
            self.unmet.extend(unmet.map(|text| format!("{name}: {}: {text}", phase["title"])));
            for judgement in phase["judgements"].as_array().into_iter().flatten() {
                self.judged(name, judgement);
            }
        }
    }

    fn judged(&mut self, name: &str, judgement: &Value) {
        let expected = judgement["expected"].as_array().into_iter().flatten();
        let expected = expected.filter_map(Value::as_str).map(str::to_owned).collect();
        let row = self.rows.entry((name.to_owned(), expected)).or_default();
        row.judged += 1;
        let findings = judgement["findings"].as_array().into_iter().flatten();
        let ids: BTreeSet<_> = findings.filter_map(|finding| finding["id"].as_str()).collect();
        for id in ids.into_iter().filter(|id| CAUSES.contains(id)) {
            *row.found.entry(id.to_owned()).or_default() += 1;
        }
    }

    /// Every expectation that was not met, each in a sentence.
    pub fn unmet(&self) -> &[String] {
        &self.unmet
    }

    /// Fails if a scenario could not run, but for those that may not be able to.
    pub fn ensure_all_ran_but(&self, excused: &[&str]) -> anyhow::Result<()> {
        let missing = self.not_run.iter().filter(|(name, _)| !excused.contains(&name.as_str()));
        let missing: Vec<_> = missing.map(|(name, why)| format!("{name}: {why}")).collect();
        ensure!(missing.is_empty(), "not run:\n{}", missing.join("\n"));
        Ok(())
    }

    /// Fails unless every judgement of every scenario named the causes it should, and no other.
    pub fn ensure_only_the_diagonal(&self) -> anyhow::Result<()> {
        ensure!(!self.rows.is_empty(), "nothing was run");
        let wrong = |((name, expected), row): &(&(String, Vec<String>), &Row)| {
            let all = |id: &str| row.found.get(id).is_some_and(|times| *times == row.judged);
            let right = expected.iter().all(|id| all(id))
                && row.found.keys().all(|found| expected.contains(found));
            (!right).then(|| format!("{name}: {:?} instead of {expected:?}", row.found))
        };
        let wrong: Vec<_> = self.rows.iter().filter_map(|row| wrong(&row)).collect();
        ensure!(wrong.is_empty(), "not only the diagonal:\n{}\n{self}", wrong.join("\n"));
        Ok(())
    }
}

impl std::fmt::Display for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let heads = CAUSES.map(|id| format!("{id:>19}")).concat();
        writeln!(f, "{:27} {:>6}  {heads}", "SCENARIO", "JUDGED")?;
        for ((name, expected), row) in &self.rows {
            let cell = |id: &str| match (row.found.get(id), expected.iter().any(|e| e == id)) {
                (Some(found), true) => format!("{found:>19}"),
                (Some(found), false) => format!("{:>19}", format!("WRONG {found}")),
                (None, true) => format!("{:>19}", "MISSED"),
                (None, false) => format!("{:>19}", "."),
            };
            let state = if expected.is_empty() { " (healthy)" } else { "" };
            let name = format!("{name}{state}");
            writeln!(f, "{name:27} {:>6}  {}", row.judged, CAUSES.map(cell).concat())?;
        }
        for (name, why) in &self.not_run {
            writeln!(f, "{name:27}      -  {why}")?;
        }
        Ok(())
    }
}
