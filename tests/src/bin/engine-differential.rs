//! `engine-differential [sequences=N] [seconds=N] [seed=N] [first=N] [only=THEME]
//! [listen=yes]`: plays sequences on this kernel and with the engine, as the suite `engine` does, but
//! as many as one likes; with `seconds`, so many again and again until that time has passed; with
//! `listen`, somebody listens to the events of every theme.

use std::process::ExitCode;
use std::time::Duration;

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
    let mut plan = Plan { sequences: 2000, seed: 1, only: None, first: 0, listens: false };
    let mut seconds = None;
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').context("arguments are NAME=VALUE")?;
        match name {
            "sequences" => plan.sequences = value.parse()?,
            "seed" => plan.seed = value.parse()?,
            "first" => plan.first = value.parse()?,
            "seconds" => seconds = Some(Duration::from_secs(value.parse()?)),
            "only" => plan.only = Some(value.to_owned()),
            "listen" => plan.listens = value == "yes",
            _ => anyhow::bail!("{name}: sequences, seconds, seed, first, only, listen are known"),
        }
    }
    let campaign = match seconds {
        None => plan.run()?,
        Some(seconds) => plan.run_for(seconds)?,
    };
    println!("{campaign}{}", coverage(&campaign.coverage));
    Ok(campaign.found.is_empty())
}
