//! Every scenario against every finding that names a cause: only the diagonal.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use ctkeeper_lab::scenario::{CAUSES, Scenario, embedded};
use ctkeeper_tests::{ctkeeper, run};
use serde_json::Value;

/// What doctor said in the judged moments of a scenario that expect the same.
#[derive(Default)]
struct Row {
    judged: u32,
    found: BTreeMap<String, u32>,
}

/// Rows by scenario and expected causes.
#[derive(Default)]
struct Matrix {
    rows: BTreeMap<(String, Vec<String>), Row>,
    not_run: BTreeMap<String, String>,
    unmet: Vec<String>,
}

pub(crate) fn only_the_diagonal() -> anyhow::Result<()> {
    let _alone = crate::alone();
    let runs = number("CTKEEPER_LAB_RUNS").unwrap_or(1);
    let mut matrix = Matrix::default();
    for name in wanted() {
        for _ in 0..runs {
            if !matrix.run(&name)? {
                break;
            }
        }
    }
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        matrix.print();
    }
    ensure!(!matrix.rows.is_empty(), "nothing was run");
    ensure!(matrix.unmet.is_empty(), "not as expected:\n{}", matrix.unmet.join("\n"));
    Ok(())
}

fn number(variable: &str) -> Option<u32> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The scenarios that come along and judge something, or those that are asked for.
fn wanted() -> Vec<String> {
    let asked = std::env::var("CTKEEPER_LAB_SCENARIOS").unwrap_or_default();
    let asked: BTreeSet<_> = asked.split(',').filter(|name| !name.is_empty()).collect();
    let all = embedded().iter().map(|(name, _)| *name);
    all.filter(|name| asked.is_empty() || asked.contains(name)).map(str::to_owned).collect()
}

impl Matrix {
    /// Runs a scenario once; false if it cannot run here.
    fn run(&mut self, name: &str) -> anyhow::Result<bool> {
        let output = run(&mut ctkeeper(&["lab", "run", name, "--json"]))?;
        if output.stderr.contains("cannot run here") {
            self.not_run.insert(name.to_owned(), output.stderr.trim().to_owned());
            return Ok(false);
        }
        let report: Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("no report of {name}: {output:?}"))?;
        ensure!(output.code == Some(i32::from(report["met"] != true)), "{output:?}");
        for phase in report["phases"].as_array().into_iter().flatten() {
            self.take(name, phase);
        }
        Ok(true)
    }

    fn take(&mut self, name: &str, phase: &Value) {
        let unmet = phase["unmet"].as_array().into_iter().flatten();
        self.unmet.extend(unmet.map(|text| format!("{name}: {}: {text}", phase["title"])));
        for judgement in phase["judgements"].as_array().into_iter().flatten() {
            let expected = strings(&judgement["expected"]);
            let row = self.rows.entry((name.to_owned(), expected)).or_default();
            row.judged += 1;
            let findings = judgement["findings"].as_array().into_iter().flatten();
            let ids: BTreeSet<_> = findings.filter_map(|finding| finding["id"].as_str()).collect();
            for id in ids.into_iter().filter(|id| CAUSES.contains(id)) {
                *row.found.entry(id.to_owned()).or_default() += 1;
            }
        }
    }

    fn print(&self) {
        println!(
            "{:27} {:>6}  {}",
            "SCENARIO",
            "JUDGED",
            CAUSES.map(|id| format!("{id:>19}")).concat()
        );
        for ((name, expected), row) in &self.rows {
            let cell = |id: &str| match (row.found.get(id), expected.iter().any(|e| e == id)) {
                (Some(found), true) => format!("{found:>19}"),
                (Some(found), false) => format!("{:>19}", format!("WRONG {found}")),
                (None, true) => format!("{:>19}", "MISSED"),
                (None, false) => format!("{:>19}", "."),
            };
            let cells = CAUSES.map(cell).concat();
            let state = if expected.is_empty() { " (healthy)" } else { "" };
            println!("{:27} {:>6}  {cells}", format!("{name}{state}"), row.judged);
        }
        for (name, why) in &self.not_run {
            println!("{name:27}      -  {why}");
        }
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Scenarios are read here as the binary reads them.
pub(crate) fn all() -> anyhow::Result<Vec<Scenario>> {
    Ok(embedded()
        .iter()
        .map(|(name, text)| Scenario::parse(name, text))
        .collect::<Result<_, _>>()?)
}
