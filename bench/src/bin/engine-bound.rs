//! What the memory of the engine's table costs by itself: the bound that no engine on it passes.
//!
//! `cargo run --release -p ctkeeper-bench --bin engine-bound -- [quick]`
//!
//! Hash, index and records as the engine has them, no packets, no protocols: random lookups that
//! write to every line of the record, and churn (one record out, one in), by batches of 32 with
//! all lines asked for beforehand, and one by one. CPU time of the thread, on one core.

use anyhow::{Context, ensure};
use ctkeeper_bench::{Kind, PerItem, per_item, pin, resident, shuffled};
use ctkeeper_engine::Tuple;
use ctkeeper_engine::bound::{BATCH, Bound};

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().nth(1).is_some_and(|argument| argument == "quick");
    pin(1).or_else(|_| pin(0))?;
    let sizes: &[u32] =
        if quick { &[1 << 16, 1_000_000] } else { &[1 << 16, 1_000_000, 10_000_000] };
    let runs = if quick { 3 } else { 7 };
    println!(
        "ns an item, median of {runs} runs (best); bytes a connection by the process's memory"
    );
    println!(
        "{:>10} {:>4}  {:>14} {:>14} {:>14} {:>6}",
        "records", "", "batch of 32", "one by one", "churn, batch", "bytes"
    );
    for &records in sizes {
        for kind in [Kind::UDP, Kind::TCP] {
            row(records, kind, runs)?;
        }
    }
    Ok(())
}

fn row(records: u32, kind: Kind, runs: usize) -> anyhow::Result<()> {
    let tuple = |number| kind.tuple(number);
    let order = shuffled(records, 7);
    let order: Vec<_> = order.into_iter().cycle().take(records.max(1 << 20) as usize).collect();
    let before = resident()?;
    let mut bound = Bound::new(records)?;
    for number in 0..records {
        ensure!(bound.insert(&tuple(number)), "record {number} found no place");
    }
    let bytes = (resident()? - before) as f64 / f64::from(records);
    let mut tick = 0;
    let batched = per_item(runs, || {
        tick += 1;
        let (batches, _) = order.as_chunks::<BATCH>();
        let found: usize =
            batches.iter().map(|batch| bound.touch_batch(&batch.map(tuple), tick)).sum();
        ensure!(found == batches.len() * BATCH, "{found} found");
        Ok(found as u64)
    })?;
    let single = per_item(runs, || {
        tick += 1;
        let found = order.iter().filter(|&&number| bound.touch(&tuple(number), tick)).count();
        ensure!(found == order.len(), "{found} found");
        Ok(found as u64)
    })?;
    let churn = churn(&mut bound, records, runs, tuple)?;
    println!(
        "{records:>10} {:>4}  {:>14} {:>14} {:>14} {bytes:>6.1}",
        if kind.tcp { "TCP" } else { "UDP" },
        show(batched),
        show(single),
        show(churn)
    );
    Ok(())
}

/// The oldest records go, in the order in which they came; as many stay.
fn churn(
    bound: &mut Bound,
    records: u32,
    runs: usize,
    tuple: impl Fn(u32) -> Tuple + Copy,
) -> anyhow::Result<PerItem> {
    let (mut oldest, mut next) = (0, records);
    per_item(runs, || {
        let batches = (1u32 << 19) / BATCH as u32;
        for _ in 0..batches {
            let some = |from: u32| std::array::from_fn(|at| tuple(from + at as u32));
            let (left, came) = bound.churn_batch(&some(oldest), &some(next));
            ensure!((left, came) == (BATCH, BATCH), "{left} left, {came} came");
            oldest = oldest.checked_add(BATCH as u32).context("too many runs")?;
            next += BATCH as u32;
        }
        Ok(u64::from(batches) * BATCH as u64)
    })
}

fn show(cost: PerItem) -> String {
    format!("{:.1} ({:.1})", cost.median, cost.best)
}
