//! What a piece of code costs on one core.

use std::time::Duration;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Lets the calling thread run on one processor only.
pub fn pin(processor: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).with_context(|| format!("going to processor {processor}"))
}

/// CPU time of the calling thread so far.
///
/// Others on the machine do not count; what they do to caches does.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Nanoseconds an item of several runs.
#[derive(Clone, Copy, Debug)]
pub struct PerItem {
    /// The middle one.
    pub median: f64,
    /// The best one.
    pub best: f64,
}

/// Runs a piece of work several times; it says how many items it did.
pub fn per_item(
    runs: usize,
    mut work: impl FnMut() -> anyhow::Result<u64>,
) -> anyhow::Result<PerItem> {
    let mut costs = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = thread_cpu();
        let items = work()?;
        costs.push(thread_cpu().saturating_sub(start).as_nanos() as f64 / items as f64);
    }
    summary(costs)
}

/// What several runs come to.
pub fn summary(mut costs: Vec<f64>) -> anyhow::Result<PerItem> {
    costs.sort_by(f64::total_cmp);
    let median = costs.get(costs.len() / 2).copied().context("no run")?;
    Ok(PerItem { median, best: costs[0] })
}

/// Numbers without visible order (xorshift64*; Vigna 2016).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The same sequence for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * bound as u64) >> 32) as u32
    }
}

/// The numbers below `bound` in random order.
pub fn shuffled(bound: u32, seed: u64) -> Vec<u32> {
    let mut numbers = Numbers::new(seed);
    let mut order: Vec<_> = (0..bound).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, numbers.below(at as u32 + 1) as usize);
    }
    order
}

/// Resident memory of this process that is its own, in bytes.
pub fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kibibytes.context("no RssAnon in /proc/self/status")? * 1024)
}
