//! `engine-differential [sequences=N] [seed=N] [first=N] [only=THEME]`: plays sequences on this
//! kernel and with the engine, as the suite `engine` does, but as many as one likes.

use std::process::ExitCode;

use anyhow::Context;
use ctkeeper_tests::engine::{Plan, coverage};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("engine-differential: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<bool> {
    let mut plan = Plan { sequences: 2000, seed: 1, only: None, first: 0 };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').context("arguments are NAME=VALUE")?;
        match name {
            "sequences" => plan.sequences = value.parse()?,
            "seed" => plan.seed = value.parse()?,
            "first" => plan.first = value.parse()?,
            "only" => plan.only = Some(value.to_owned()),
            _ => anyhow::bail!("{name}: sequences, seed, first and only are known"),
        }
    }
    let campaign = plan.run()?;
    println!("{campaign}{}", coverage(&campaign.coverage));
    Ok(campaign.found.is_empty())
}
