//! `sampling-coverage [entries=N] [sizes=N,N] [runs=N] [seed=N]`: fills this namespace's table, which
//! must be empty, with known compositions, again and again, and prints how often the intervals of
//! real samples cover the truth. Ends with 1 when they do not as often as they say.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use ctkeeper_netlink::Conntrack;
use ctkeeper_tests::sampling::{COMPOSITIONS, Coverage, Dice, repeat};

fn main() -> ExitCode {
    match run() {
        Ok(coverage) => {
            println!("{coverage}");
            match coverage.check() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    println!("{error:#}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            eprintln!("sampling-coverage: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<Coverage> {
    let (mut entries, mut sizes, mut runs, mut seed) = (2000, vec![300, 1000], 5, 1);
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').context("arguments are NAME=VALUE")?;
        match name {
            "entries" => entries = value.parse()?,
            "sizes" => sizes = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "runs" => runs = value.parse()?,
            "seed" => seed = value.parse()?,
            _ => anyhow::bail!("{name}: entries, sizes, runs, seed are known"),
        }
    }
    ensure!(sizes.iter().all(|size| *size < entries), "samples are smaller than their table");
    let mut table = Conntrack::open()?;
    let standing = table.count_and_limit()?.entries;
    ensure!(standing == 0, "the table has {standing} entries, and would be emptied");
    let (mut coverage, mut dice) = (Coverage::default(), Dice::new(seed));
    for composition in COMPOSITIONS {
        coverage.merge(&repeat(&mut table, composition, (entries, &sizes), runs, &mut dice)?);
    }
    Ok(coverage)
}
