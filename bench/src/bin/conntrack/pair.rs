//! The same words through both programs, in turns.

use std::process::Command;
use std::time::Duration;

use ctkeeper_bench::{Cost, measure, median};
use ctkeeper_tests::ctkeeper_path;

/// Runs of each program; the medians count.
pub(crate) const RUNS: usize = 5;
/// Runs of what takes a millisecond.
const SMALL_RUNS: usize = 201;

/// Debian's program.
pub(crate) fn peer(arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/sbin/conntrack");
    command.args(arguments);
    command
}

/// Ours.
pub(crate) fn own(arguments: &[&str]) -> Command {
    let mut command = Command::new(ctkeeper_path());
    command.arg("conntrack").args(arguments);
    command
}

/// What the same words cost both.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) peer: Vec<Cost>,
    pub(crate) own: Vec<Cost>,
}

impl Pair {
    /// Runs both, in turns; `prepare` comes before each run and is not measured.
    pub(crate) fn run(
        runs: usize,
        arguments: &[&str],
        mut prepare: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut pair = Self::default();
        for _ in 0..runs {
            prepare()?;
            pair.peer.push(measure(&mut peer(arguments), &[0])?);
            prepare()?;
            pair.own.push(measure(&mut own(arguments), &[0])?);
        }
        Ok(pair)
    }

    /// Ours by the peer's, of medians.
    pub(crate) fn ratio(&self, value: fn(&Cost) -> Duration) -> f64 {
        seconds(&self.own, value) / seconds(&self.peer, value)
    }

    /// A line of the table; `goal` is of the CPU time.
    pub(crate) fn print(&self, name: &str, goal: f64) {
        let row = |runs: &[Cost]| {
            let milliseconds = |value: fn(&Cost) -> Duration| seconds(runs, value) * 1e3;
            format!(
                "user {:7.1} kernel {:7.1} CPU {:7.1} ms",
                milliseconds(|cost| cost.user),
                milliseconds(|cost| cost.kernel),
                milliseconds(Cost::cpu)
            )
        };
        let (cpu, user) = (self.ratio(Cost::cpu), self.ratio(|cost| cost.user));
        println!("{name:34} conntrack {}", row(&self.peer));
        println!(
            "{:34} ctkeeper  {}   CPU {cpu:.3} of it (goal {goal}), user {user:.3}",
            "",
            row(&self.own)
        );
    }
}

/// The median in seconds.
pub(crate) fn seconds(runs: &[Cost], value: fn(&Cost) -> Duration) -> f64 {
    median(runs, value).as_secs_f64()
}

/// What is over in a millisecond: wall time, for that is what a loop of them feels.
pub(crate) fn small() -> anyhow::Result<()> {
    println!("small commands, medians of {SMALL_RUNS} runs, wall time");
    for arguments in [["-C"].as_slice(), &["-S"], &["-V"], &["-C", "expect"]] {
        let pair = Pair::run(SMALL_RUNS, arguments, || Ok(()))?;
        let wall = |runs| seconds(runs, |cost| cost.wall) * 1e6;
        println!(
            "{:34} conntrack {:7.0} us  ctkeeper {:7.0} us   wall {:.3} of it (goal 0.5)",
            arguments.join(" "),
            wall(&pair.peer),
            wall(&pair.own),
            pair.ratio(|cost| cost.wall)
        );
    }
    println!();
    Ok(())
}
