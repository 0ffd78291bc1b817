//! `sampling-coverage [entries=N] [sizes=N,N] [runs=N] [seed=N] [growth=RUNS] [resize=yes]`: fills
//! this namespace's table, which must be empty, with known compositions, again and again, and prints
//! how often the intervals of real samples cover the truth; with `growth`, also those of growth, with
//! `resize` resizing the host's hash table between two looks. Ends with 1 when they do not cover as
//! often as they say.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use ctkeeper_netlink::Conntrack;
use ctkeeper_tests::sampling::{COMPOSITIONS, Coverage, Dice, growing, order, repeat};

const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

fn main() -> ExitCode {
    let coverage = match run() {
        Ok(coverage) => coverage,
        Err(error) => {
            eprintln!("sampling-coverage: {error:#}");
            return ExitCode::from(2);
        }
    };
    let (intervals, covered) = coverage.counted();
    println!("{coverage}\nintervals {intervals}\ncovered {covered}");
    match coverage.check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    entries: u64,
    sizes: Vec<u64>,
    runs: u64,
    seed: u64,
    growth: u64,
    resizes: bool,
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut given = Arguments {
        entries: 2000,
        sizes: vec![300, 1000],
        runs: 5,
        seed: 1,
        growth: 0,
        resizes: false,
    };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').context("arguments are NAME=VALUE")?;
        match name {
            "entries" => given.entries = value.parse()?,
            "sizes" => given.sizes = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "runs" => given.runs = value.parse()?,
            "seed" => given.seed = value.parse()?,
            "growth" => given.growth = value.parse()?,
            "resize" => given.resizes = value == "yes",
            _ => anyhow::bail!("{name}: entries, sizes, runs, seed, growth, resize are known"),
        }
    }
    let fits = given.sizes.iter().all(|size| *size < given.entries);
    ensure!(fits, "samples are smaller than their table");
    Ok(given)
}

fn run() -> anyhow::Result<Coverage> {
    let given = arguments()?;
    let mut table = Conntrack::open()?;
    let standing = table.count_and_limit()?.entries;
    ensure!(standing == 0, "the table has {standing} entries, and would be emptied");
    println!("order {}", order(&mut table)?);
    let (mut coverage, mut dice) = (Coverage::default(), Dice::new(given.seed));
    for composition in COMPOSITIONS {
        let wanted = (given.entries, given.sizes.as_slice());
        coverage.merge(&repeat(&mut table, composition, wanted, given.runs, &mut dice)?);
    }
    let wanted = (given.entries, given.entries / 4, given.growth);
    let mut resize = || if given.resizes { resize() } else { Ok(()) };
    coverage.merge(&growing(&mut table, wanted, &mut resize, &mut dice)?);
    Ok(coverage)
}

/// Doubles the hash table, or brings it back from more than it needs.
fn resize() -> anyhow::Result<()> {
    let buckets: u64 = std::fs::read_to_string(BUCKETS)?.trim().parse()?;
    let other = if buckets > 65_536 { 4096 } else { buckets * 2 };
    std::fs::write(BUCKETS, other.to_string()).context(BUCKETS)
}
