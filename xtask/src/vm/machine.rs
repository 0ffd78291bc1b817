//! A virtual machine's life: started, watched, ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};

use super::{Guest, store};

/// What a machine may take, on a slow and busy host; a hang is a failure.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For one boot with its steps.
    pub boot: Duration,
    /// For all of its boots.
    pub whole: Duration,
    /// When it must have ended in any case.
    pub end: Instant,
}

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
pub struct Hardware {
    /// Memory in MiB.
    pub mebibytes: u32,
    /// Processors, each emulated by a thread of its own.
    pub processors: u32,
}

/// QEMU, ended with this guard; the kernel ends it when this process dies before.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    files: Files,
    boots: usize,
}

/// The files of one machine; the logs are kept for whoever looks into a failure.
#[derive(Debug)]
struct Files {
    initramfs: PathBuf,
    console: PathBuf,
    report: PathBuf,
}

impl Machine {
    /// Boots a guest once for each script of steps, without network. The logs are this path with
    /// `.console.log` and `.report.log` behind it.
    pub fn start(
        guest: &Guest,
        hardware: Hardware,
        boots: &[&str],
        path: &Path,
    ) -> anyhow::Result<Self> {
        let files = Files::of(path);
        let scenario = (1..).zip(boots).map(|(n, &steps)| (format!("boot-{n}.sh"), steps));
        let scenario: Vec<(String, &str)> = scenario.collect();
        guest.initramfs(&scenario, &files.initramfs)?;
        for log in [&files.console, &files.report] {
            fs::write(log, "").with_context(|| log.display().to_string())?;
        }
        let mut command = Command::new("nice");
        command.args(["-n", "10", "setpriv", "--pdeathsig", "KILL"]);
        qemu(&mut command, guest, hardware, &files.initramfs)?;
        command.args(["-append", &kernel_line("")]);
        for log in [&files.console, &files.report] {
            command.arg("-serial").arg(format!("file:{}", log.display()));
        }
        let qemu = command.stdin(Stdio::null()).spawn().context("starting QEMU")?;
        Ok(Self { qemu, files, boots: boots.len() })
    }

    /// Waits for the end and returns what the guest has reported. Each line that a step begins
    /// with on the console goes to `watch`.
    pub fn wait(mut self, bounds: Bounds, watch: &mut dyn FnMut(&str)) -> anyhow::Result<String> {
        // The cause comes first, then where to look.
        self.watch(bounds, watch).map_err(|error| anyhow!("{error:#}; {}", self.files.advice()))?;
        let report = text(&self.files.report);
        let over = boots_over(&report);
        ensure!(
            over == self.boots,
            "{over} of {} boots ended; {}",
            self.boots,
            self.files.advice()
        );
        Ok(report)
    }

    fn watch(&mut self, bounds: Bounds, watch: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let start = Instant::now();
        let (mut over, mut boot, mut seen) = (0, start, 0);
        loop {
            let status = self.qemu.try_wait()?;
            let console = text(&self.files.console);
            seen += new_steps(&console, seen, watch);
            if let Some(status) = status {
                ensure!(status.success(), "QEMU ended with {status}");
                return Ok(());
            }
            let now_over = boots_over(&text(&self.files.report));
            if now_over > over {
                (over, boot) = (now_over, Instant::now());
            }
            let number = over + 1;
            // The kernel has given up: nothing more will come.
            ensure!(
                !console.contains("Kernel panic"),
                "the guest's kernel gave up in boot {number}"
            );
            if boot.elapsed() > bounds.boot {
                bail!("boot {number} did not end within {} s", bounds.boot.as_secs());
            }
            if start.elapsed() > bounds.whole || Instant::now() > bounds.end {
                let seconds = start.elapsed().as_secs();
                bail!(
                    "the machine was ended after {seconds} s, in boot {number}: its time is over"
                );
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // nice and setpriv have become QEMU: this is the process that was started.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Hands on the lines `boot N: STEP` after the first `seen` of them; returns how many.
fn new_steps(console: &str, seen: usize, watch: &mut dyn FnMut(&str)) -> usize {
    // The last line may still be growing.
    let complete = console.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let steps = complete.lines().filter(|line| line.starts_with("boot ")).skip(seen);
    steps.map(|line| watch(line.trim_end())).count()
}

fn boots_over(report: &str) -> usize {
    report.lines().filter(|line| line.starts_with("@@over ")).count()
}

impl Files {
    fn of(path: &Path) -> Self {
        let file = |kind: &str| PathBuf::from(format!("{}.{kind}", path.display()));
        Self {
            initramfs: file("initramfs"),
            console: file("console.log"),
            report: file("report.log"),
        }
    }

    /// Where to look, and the console's last lines.
    fn advice(&self) -> String {
        let console = text(&self.console);
        let lines: Vec<_> = console.lines().map(printable).collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n  ");
        let (console, report) = (self.console.display(), self.report.display());
        format!("see {console} and {report}; the console's end:\n  {tail}\n")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // It can be made again.
        let _ = fs::remove_file(&self.initramfs);
    }
}

/// A log as far as it is written.
fn text(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

fn printable(line: &str) -> String {
    line.trim_end().chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

/// The guest's kernel command line.
pub(super) fn kernel_line(more: &str) -> String {
    // Mitigations cost an emulated processor a third of its time, and guard nothing here.
    format!("console=ttyS0 loglevel=5 panic=0 mitigations=off audit=0 {more}")
}

/// The unpacked QEMU with its libraries and firmware, and a machine without console or network.
pub(super) fn qemu(
    command: &mut Command,
    guest: &Guest,
    hardware: Hardware,
    initramfs: &Path,
) -> anyhow::Result<()> {
    let root = store().join("qemu");
    let libraries = ["lib", "usr/lib"]
        .map(|folder| root.join(folder).join("x86_64-linux-gnu").display().to_string());
    command.env("LD_LIBRARY_PATH", libraries.join(":"));
    command.arg(root.join("usr/bin/qemu-system-x86_64"));
    for folder in ["qemu", "seabios"] {
        command.arg("-L").arg(root.join("usr/share").join(folder));
    }
    let Hardware { mebibytes, processors } = hardware;
    command.args(["-accel", "tcg", "-cpu", "max", "-smp", &processors.to_string()]);
    command.args(["-m", &mebibytes.to_string(), "-display", "none", "-nic", "none"]);
    command.args(["-no-user-config", "-nodefaults"]);
    command.arg("-kernel").arg(guest.kernel().image()?).arg("-initrd").arg(initramfs);
    // Written blocks live as long as this process, over the guest's reboots.
    let drive = format!("file={},format=raw,if=virtio,snapshot=on", guest.disk().display());
    command.arg("-drive").arg(drive);
    Ok(())
}
