//! What kernel and engine once disagreed about, each with the reason why.

use anyhow::ensure;
use ctkeeper_differential::sequence::Sequence;
use ctkeeper_engine::Settings;
use ctkeeper_tests::engine::{Router, alone};
use serde::Deserialize;

/// One of them.
#[derive(Deserialize)]
struct Known {
    /// What it shows.
    name: String,
    /// Who was wrong, and why.
    why: String,
    /// The sysctls, where they are not the defaults.
    #[serde(default)]
    settings: Settings,
    /// Whether events are listened to.
    #[serde(default)]
    listens: bool,
    sequence: Sequence,
}

pub(crate) fn what_they_once_disagreed_about() -> anyhow::Result<()> {
    let cases: Vec<Known> = serde_json::from_str(include_str!("cases.json"))?;
    let mut failed = Vec::new();
    for case in &cases {
        let mut router = Router::create(&case.settings, &[case.sequence.treatment], case.listens)?;
        match alone(&mut router, &case.sequence)? {
            None => println!("{}: agree ({})", case.name, case.why),
            Some(text) => failed.push(format!("{}: {text}", case.name)),
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
