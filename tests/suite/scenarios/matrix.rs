//! Every scenario against every finding that names a cause: only the diagonal.

use std::collections::BTreeSet;

use anyhow::ensure;
use ctkeeper_lab::scenario::{Scenario, embedded};
use ctkeeper_tests::{Matrix, ctkeeper, run};

pub(crate) fn only_the_diagonal() -> anyhow::Result<()> {
    let _alone = crate::alone();
    let runs = number("CTKEEPER_LAB_RUNS").unwrap_or(1);
    let mut matrix = Matrix::default();
    for name in wanted() {
        for _ in 0..runs {
            if !matrix.take(&name, &run(&mut ctkeeper(&["lab", "run", &name, "--json"]))?)? {
                break;
            }
        }
    }
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        println!("{matrix}");
    }
    // Few buckets are a virtual machine's: the suite `vm` has that scenario.
    matrix.ensure_all_ran_but(&["chain-wall"])?;
    matrix.ensure_only_the_diagonal()?;
    ensure!(matrix.unmet().is_empty(), "not as expected:\n{}", matrix.unmet().join("\n"));
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

/// Scenarios are read here as the binary reads them.
pub(crate) fn all() -> anyhow::Result<Vec<Scenario>> {
    Ok(embedded()
        .iter()
        .map(|(name, text)| Scenario::parse(name, text))
        .collect::<Result<_, _>>()?)
}
