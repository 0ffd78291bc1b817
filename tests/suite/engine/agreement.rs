//! The campaign that CI runs.

use anyhow::ensure;
use ctkeeper_tests::engine::{Plan, coverage};

/// Enough for every probe of the SCTP table. More on demand: `CTKEEPER_SEQUENCES=1000000 CTKEEPER_SEED=7`.
const SEQUENCES: u32 = 30_000;

pub(crate) fn kernel_and_engine_agree() -> anyhow::Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("CTKEEPER_SEED").unwrap_or(1);
    let sequences = number("CTKEEPER_SEQUENCES").map_or(SEQUENCES, |count| count as u32);
    let plan = Plan { sequences, seed, only: None, first: seed.wrapping_mul(1 << 20) };
    let campaign = plan.run()?;
    println!("{campaign}{}", coverage(&campaign.coverage));
    ensure!(campaign.found.is_empty(), "{} disagreements", campaign.found.len());
    Ok(())
}
