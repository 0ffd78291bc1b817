//! What a program's run costs.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::resource::{Usage, UsageWho, getrusage};

/// What one run cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Elapsed time.
    pub wall: Duration,
    /// CPU time in user space, children included.
    pub user: Duration,
    /// CPU time in the kernel, children included.
    pub kernel: Duration,
    /// Largest resident memory of any child so far in this process, KiB.
    pub resident_kib: u64,
}

impl Cost {
    /// User and kernel time together.
    pub fn cpu(&self) -> Duration {
        self.user + self.kernel
    }
}

/// Runs a command, output thrown away, and measures it; fails unless it exits with one of `codes`.
///
/// Times are the kernel's account of ended children (`getrusage`); with the usual tick accounting a
/// single short run is good to a few milliseconds: take many.
pub fn measure(command: &mut Command, codes: &[i32]) -> anyhow::Result<Cost> {
    let before = usage()?;
    let start = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("running {command:?}"))?;
    let wall = start.elapsed();
    let after = usage()?;
    ensure!(status.code().is_some_and(|c| codes.contains(&c)), "{command:?} ended with {status}");
    Ok(Cost {
        wall,
        user: time(after.user_time()).saturating_sub(time(before.user_time())),
        kernel: time(after.system_time()).saturating_sub(time(before.system_time())),
        resident_kib: after.max_rss().unsigned_abs(),
    })
}

/// CPU time of the children that have ended, user and kernel.
pub fn children_cpu() -> anyhow::Result<Duration> {
    let usage = usage()?;
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// The median of several runs' values.
pub fn median(runs: &[Cost], value: impl Fn(&Cost) -> Duration) -> Duration {
    let mut values: Vec<_> = runs.iter().map(value).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The program's largest resident memory, looked at while it writes (the peak that `getrusage`
/// tells is the largest of all children, and holds what was resident before `exec`).
///
/// The libraries' pages count, though every process shares them: to see what the program itself
/// takes, give a static one as `CTKEEPER_BIN`.
pub fn peak_resident(command: &mut Command) -> anyhow::Result<String> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut output = child.stdout.take().context("no standard output")?;
    let (mut buffer, mut peak) = (vec![0; 1 << 20], 0.0f64);
    while output.read(&mut buffer)? > 0 {
        peak = peak.max(high_water(&std::fs::read_to_string(&status).unwrap_or_default()));
    }
    ensure!(child.wait()?.success(), "{command:?} failed");
    // One that writes nothing, or a line at its end, cannot be seen so.
    Ok(if peak > 0.0 { format!("{peak:.1} MiB") } else { "-".to_owned() })
}

fn usage() -> anyhow::Result<Usage> {
    getrusage(UsageWho::RUSAGE_CHILDREN).context("asking what the children cost")
}

fn time(value: nix::sys::time::TimeVal) -> Duration {
    Duration::from_secs(value.tv_sec().unsigned_abs())
        + Duration::from_micros(value.tv_usec().unsigned_abs())
}

fn high_water(status: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<f64>();
    kibibytes.unwrap_or(0.0) / 1024.0
}
