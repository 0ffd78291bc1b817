//! What a guest has told: boots with steps, and what each of them said.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ctkeeper_tests::{Output, Report};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use xtask::vm::{self, Bounds, Guest, Hardware, Kernel, Machine};

/// For one boot with its steps: the longest takes 100 seconds here.
const BOOT: Duration = Duration::from_secs(240);
/// For one machine.
const MACHINE: Duration = Duration::from_secs(300);
/// For the whole suite, whatever its machines do.
const SUITE: Duration = Duration::from_secs(600);

/// When the suite began: called first by `main`.
pub(crate) static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What the guest reported, step by step.
#[derive(Debug)]
pub(crate) struct Story {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    boot: usize,
    name: String,
    output: Output,
}

/// Boots a kernel on a disk of its own once for each script of steps, with that much memory and no
/// network, and hands back what was reported.
pub(crate) fn play(
    name: &str,
    kernel: Kernel,
    mebibytes: u32,
    boots: &[&str],
) -> anyhow::Result<Story> {
    play_with(name, kernel, Hardware { mebibytes, processors: 1 }, boots)
}

/// The same on other hardware.
pub(crate) fn play_with(
    name: &str,
    kernel: Kernel,
    hardware: Hardware,
    boots: &[&str],
) -> anyhow::Result<Story> {
    let (folder, guest) = guest(kernel)?;
    let start = Instant::now();
    let files = folder.join(format!("{name}-{kernel}"));
    let machine = Machine::start(&guest, hardware, boots, &files)?;
    let bounds = Bounds { boot: BOOT, whole: MACHINE, end: *BEGIN + SUITE };
    let report = machine.wait(bounds, &mut |step| progress(kernel, name, start, step))?;
    println!("{kernel}/{name}: {} boots in {:.0} s", boots.len(), start.elapsed().as_secs_f32());
    Story::parse(&report)
}

fn progress(kernel: Kernel, name: &str, start: Instant, step: &str) {
    if std::env::var_os("CTKEEPER_VM_PROGRESS").is_some() {
        println!("{kernel}/{name} {:>5.1} s  {step}", start.elapsed().as_secs_f32());
    }
}

/// The folder of this run, which no other run may have at the same time, and the kernel's guest,
/// made once in each run.
fn guest(kernel: Kernel) -> anyhow::Result<(PathBuf, Guest)> {
    static RUN: Mutex<Option<Run>> = Mutex::new(None);
    let mut run = RUN.lock().map_err(|_| anyhow::anyhow!("making a disk has failed before"))?;
    let run = match &mut *run {
        Some(run) => run,
        none => none.insert(Run::begin()?),
    };
    let made = run.guests.iter().find(|guest| guest.kernel() == kernel).cloned();
    let guest = if let Some(guest) = made {
        guest
    } else {
        let guest = Guest::make(kernel, &run.programs, &run.folder)?;
        run.guests.push(guest.clone());
        guest
    };
    Ok((run.folder.clone(), guest))
}

struct Run {
    folder: PathBuf,
    programs: [PathBuf; 4],
    guests: Vec<Guest>,
    _lock: File,
}

impl Run {
    fn begin() -> anyhow::Result<Self> {
        let folder = vm::store().join("run");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join("lock"))?;
        let busy = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err();
        ensure!(!busy, "another run of this suite is under way in {}", folder.display());
        Ok(Self { folder, programs: vm::build_programs()?, guests: Vec::new(), _lock: lock })
    }
}

impl Story {
    /// `@@begin BOOT NAME`, output, `@@errors`, errors, `@@end CODE`.
    fn parse(report: &str) -> anyhow::Result<Self> {
        let mut steps = Vec::new();
        let mut rest = report;
        while let Some((_, after)) = rest.split_once("@@begin ") {
            let (heading, after) = after.split_once('\n').context("a step without heading")?;
            let (body, after) = after.split_once("@@end ").context("a step without end")?;
            ensure!(!body.contains("@@begin "), "a step's end is missing: {heading}");
            let (stdout, stderr) = body.split_once("@@errors\n").context("a step cut short")?;
            let (code, after) = after.split_once('\n').context("a step without exit code")?;
            let (boot, name) = heading.split_once(' ').context("a step without name")?;
            let code = Some(code.trim().parse()?);
            let output = Output { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
            steps.push(Step { boot: boot.parse()?, name: name.to_owned(), output });
            rest = after;
        }
        Ok(Self { steps })
    }

    /// What a step said.
    pub(crate) fn output(&self, boot: usize, name: &str) -> anyhow::Result<&Output> {
        let mut steps = self.steps.iter();
        let step = steps.find(|step| step.boot == boot && step.name == name);
        Ok(&step.with_context(|| format!("no step {name} in boot {boot}"))?.output)
    }

    /// What a step said that had to succeed.
    pub(crate) fn success(&self, boot: usize, name: &str) -> anyhow::Result<&str> {
        let output = self.output(boot, name)?;
        ensure!(output.code == Some(0), "{name} in boot {boot}: {output:?}");
        Ok(&output.stdout)
    }

    /// The report of a step `doctor`; the exit code must be the report's.
    pub(crate) fn report(&self, boot: usize, name: &str) -> anyhow::Result<Report> {
        let output = self.output(boot, name)?;
        let json: Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("no report from {name} in boot {boot}: {output:?}"))?;
        let expected = json["exit_code"].as_i64().map(|code| code as i32);
        if output.code != expected {
            bail!("{name} in boot {boot} ended with {:?}, not {expected:?}", output.code);
        }
        Ok(Report(json))
    }

    /// Limit and buckets, as a step `values` read them.
    pub(crate) fn values(&self, boot: usize, name: &str) -> anyhow::Result<(u64, u64)> {
        let text = self.success(boot, &format!("values-{name}"))?;
        let mut numbers = text.split_whitespace().map(str::parse);
        let mut next = || anyhow::Ok(numbers.next().context("a value is missing")??);
        Ok((next()?, next()?))
    }
}
