//! doctor on a full table and hundreds of namespaces, beside what people run instead.
//!
//! `cargo run --release -p ctkeeper-bench --bin doctor [NAMESPACES [ENTRIES]]`
//!
//! Makes so many namespaces (500), fills one of them to so many entries (262,144, within what
//! leaves the host unharmed), and measures `ctkeeper doctor` and the peer: a loop of
//! `ip netns exec NAME conntrack -S` and `-C` over all namespaces, which answers less.

use std::process::Command;

use anyhow::Context;
use ctkeeper_bench::{Cost, measure, median};
use ctkeeper_tests::{Filling, HostValues, Namespace, ctkeeper_path, fill};

const RUNS: usize = 11;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let namespaces = number(arguments.next(), 500)?;
    let entries = number(arguments.next(), 262_144)?;
    let _host = HostValues::lock()?;
    let made = Namespace::create_many(namespaces as u32)?;
    let first = made.first().context("at least one namespace")?;
    fill(first, 0, entries, Filling::Established { timeout: 431_000 })?;
    println!("{namespaces} namespaces, one with {entries} entries; medians of {RUNS} runs");

    // The first run leaves the note that gives the next ones their rates.
    let doctor = repeat(RUNS, &mut Command::new(ctkeeper_path()), &[0, 1, 2])?;
    let names: Vec<_> = made.iter().map(Namespace::name).collect();
    let script = format!(
        "for n in {}; do ip netns exec $n conntrack -S; ip netns exec $n conntrack -C; done",
        names.join(" ")
    );
    let peer = repeat(3, Command::new("sh").args(["-c", &script]), &[0])?;
    print_row("ctkeeper doctor", &doctor);
    print_row("ip netns exec … conntrack -S, -C", &peer);
    let ratio = median(&peer, Cost::cpu).as_secs_f64() / median(&doctor, Cost::cpu).as_secs_f64();
    println!("the peer takes {ratio:.0} times the CPU");
    Ok(())
}

fn number(argument: Option<String>, default: u64) -> anyhow::Result<u64> {
    argument.map_or(Ok(default), |text| text.parse().with_context(|| text.clone()))
}

fn repeat(times: usize, command: &mut Command, codes: &[i32]) -> anyhow::Result<Vec<Cost>> {
    measure(command, codes)?;
    (0..times).map(|_| measure(command, codes)).collect()
}

fn print_row(name: &str, runs: &[Cost]) {
    let milliseconds = |value: fn(&Cost) -> std::time::Duration| {
        format!("{:8.1} ms", median(runs, value).as_secs_f64() * 1000.0)
    };
    println!(
        "{name:34} wall {}  cpu {}  user {}  kernel {}",
        milliseconds(|cost| cost.wall),
        milliseconds(Cost::cpu),
        milliseconds(|cost| cost.user),
        milliseconds(|cost| cost.kernel),
    );
}
