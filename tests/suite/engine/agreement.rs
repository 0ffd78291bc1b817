//! The campaigns that CI runs.

use ctkeeper_tests::engine::{Plan, coverage};

/// Enough for every probe of the SCTP table. More on demand: `CTKEEPER_SEQUENCES=1000000 CTKEEPER_SEED=7`.
const SEQUENCES: u32 = 30_000;
/// Sequences whose events are listened to.
const LISTENED_TO: u32 = 1500;

pub(crate) fn kernel_and_engine_agree() -> anyhow::Result<()> {
    let campaign = plan(SEQUENCES, 1, false).run()?;
    println!("{campaign}{}", coverage(&campaign.coverage));
    campaign.verdict()
}

/// Of every connection, by its tuple and zone, the order of its events, and of each event what it
/// says: whether the connection is new, changed or gone, both tuples, status, mark, and what changed
/// of the protocol's state, the helper, the master; with the last, the counters. Where no time passes
/// the events of all connections come in one order, each with its packet.
pub(crate) fn events_are_the_kernels() -> anyhow::Result<()> {
    let campaign = plan(LISTENED_TO, 2, true).run()?;
    println!("{campaign}");
    campaign.verdict()
}

fn plan(sequences: u32, seed: u64, listens: bool) -> Plan {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("CTKEEPER_SEED").unwrap_or(seed);
    let sequences = number("CTKEEPER_SEQUENCES").map_or(sequences, |count| count as u32);
    Plan { sequences, seed, only: None, first: seed.wrapping_mul(1 << 20), listens }
}
