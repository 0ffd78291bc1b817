//! What kernel and engine once disagreed about, each with the reason why.

use anyhow::ensure;
use ctkeeper_differential::ground::Ground;
use ctkeeper_differential::sequence::Sequence;
use ctkeeper_tests::engine::{Router, alone};
use serde::Deserialize;

/// One of them.
#[derive(Deserialize)]
struct Known {
    /// What it shows.
    name: String,
    /// Who was wrong, and why.
    why: String,
    /// Where it is played; of what is not named, the kernel's defaults.
    #[serde(default)]
    ground: Ground,
    sequence: Sequence,
}

pub(crate) fn what_they_once_disagreed_about() -> anyhow::Result<()> {
    let cases: Vec<Known> = serde_json::from_str(include_str!("cases.json"))?;
    let mut failed = Vec::new();
    for case in &cases {
        let treatments = vec![case.sequence.treatment];
        let mut router = Router::create(&Ground { treatments, ..case.ground.clone() })?;
        match alone(&mut router, &case.sequence)? {
            None => println!("{}: agree ({})", case.name, case.why),
            Some(text) => failed.push(format!("{}: {text}", case.name)),
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
