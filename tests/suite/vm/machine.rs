//! A virtual machine's life: started, watched, ended; what it reported.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ctkeeper_tests::{Output, Report};
use serde_json::Value;

use crate::guest::{self, Kernel};

/// The time that one boot with its steps may take, on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

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
    let disk = guest::disk(kernel)?;
    let files = Files::of(&format!("{name}-{}", kernel.package()));
    guest::initramfs(kernel, boots, &files.initramfs)?;
    let mut machine = Machine::start(kernel, mebibytes, &disk, &files)?;
    machine.wait(&files).with_context(|| files.advice())?;
    let over = files.boots_over();
    ensure!(over == boots.len(), "{over} of {} boots ended; {}", boots.len(), files.advice());
    Story::parse(&text(&files.report)).with_context(|| files.advice())
}

/// The files of one machine, kept for whoever looks into a failure.
struct Files {
    initramfs: PathBuf,
    console: PathBuf,
    report: PathBuf,
}

impl Files {
    fn of(name: &str) -> Self {
        let file = |kind: &str| guest::store().join(format!("{name}.{kind}"));
        Self {
            initramfs: file("initramfs"),
            console: file("console.log"),
            report: file("report.log"),
        }
    }

    fn advice(&self) -> String {
        format!("see {} and {}", self.console.display(), self.report.display())
    }

    fn boots_over(&self) -> usize {
        text(&self.report).lines().filter(|line| line.starts_with("@@over ")).count()
    }

    /// The kernel has given up: nothing more will come.
    fn has_panicked(&self) -> bool {
        text(&self.console).contains("Kernel panic")
    }
}

/// A log as far as it is written.
fn text(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

impl Drop for Files {
    fn drop(&mut self) {
        // It can be made again; the logs stay.
        let _ = fs::remove_file(&self.initramfs);
    }
}

/// QEMU, ended with this guard; the kernel ends it when the test's process dies before.
struct Machine(Child);

impl Machine {
    fn start(kernel: Kernel, mebibytes: u32, disk: &Path, files: &Files) -> anyhow::Result<Self> {
        let mut command = Command::new("nice");
        command.args(["-n", "10", "setpriv", "--pdeathsig", "KILL"]);
        with_qemu(&mut command);
        command.args(["-accel", "tcg", "-cpu", "max", "-smp", "1", "-display", "none"]);
        command.args(["-no-user-config", "-nodefaults", "-m", &mebibytes.to_string()]);
        command.arg("-kernel").arg(kernel.image()?).arg("-initrd").arg(&files.initramfs);
        command.args(["-append", "console=ttyS0 loglevel=5 panic=0"]);
        for log in [&files.console, &files.report] {
            command.arg("-serial").arg(format!("file:{}", log.display()));
        }
        // Written blocks live as long as this process, over the guest's reboots.
        let drive = format!("file={},format=raw,if=virtio,snapshot=on", disk.display());
        command.arg("-drive").arg(drive).args(["-nic", "none"]);
        let child = command.stdin(Stdio::null()).spawn().context("starting QEMU")?;
        Ok(Self(child))
    }

    fn wait(&mut self, files: &Files) -> anyhow::Result<()> {
        let (mut over, mut deadline) = (0, Instant::now() + PATIENCE);
        loop {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "QEMU ended with {status}");
                return Ok(());
            }
            if files.boots_over() > over {
                (over, deadline) = (over + 1, Instant::now() + PATIENCE);
            }
            ensure!(Instant::now() < deadline, "boot {} did not end in time", over + 1);
            ensure!(!files.has_panicked(), "the guest's kernel gave up");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // nice and setpriv have become QEMU: this is the process that was started.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The QEMU that was unpacked, with its libraries and firmware; else the installed one.
fn with_qemu(command: &mut Command) {
    let root = guest::store().join("qemu");
    let unpacked = root.join("usr/bin/qemu-system-x86_64");
    if !unpacked.exists() {
        command.arg("qemu-system-x86_64");
        return;
    }
    let libraries = ["lib", "usr/lib"]
        .map(|folder| root.join(folder).join("x86_64-linux-gnu").display().to_string());
    command.env("LD_LIBRARY_PATH", libraries.join(":")).arg(unpacked);
    for folder in ["qemu", "seabios"] {
        command.arg("-L").arg(root.join("usr/share").join(folder));
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
