//! Programs that run inside a namespace and end with their guard.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::interruption::wait_for;
use crate::owner::{self, Claim};
use crate::program::{called, is_installed, require};
use crate::{LabError, Namespace};

/// How long a program has to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// The kernel ends the program when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
const PDEATHSIG: [&str; 3] = ["--pdeathsig", "KILL", "--"];
const STEP: Duration = Duration::from_millis(5);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A program running inside a namespace. Its output goes into files. When the guard goes it gets
/// SIGTERM, and SIGKILL two seconds later; it also dies with the thread that started it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
    // The files stand in its folder.
    _claim: Arc<Claim>,
}

impl Process {
    /// Starts it.
    pub fn start(
        namespace: &Namespace,
        program: &str,
        arguments: &[&str],
    ) -> Result<Self, LabError> {
        require(program)?;
        let mut command = bound_inside(namespace, program);
        command.args(arguments);
        let name =
            Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::spawn(command, name)
    }

    fn spawn(mut command: Command, name: String) -> Result<Self, LabError> {
        let claim = Claim::take()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| claim.folder().join(format!("{name}-{number}.{kind}"));
        let (stdout, stderr) = (file("out"), file("err"));
        let create = |path: &Path| {
            File::create(path).map_err(LabError::system("write", path.display().to_string()))
        };
        let child = command
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?)
            .spawn()
            .map_err(LabError::system("start", name.clone()))?;
        let mut process = Self { child, name, stdout, stderr, _claim: claim };
        process.wait_until_inside()?;
        Ok(process)
    }

    /// The program comes after the helpers that bring it there.
    fn wait_until_inside(&mut self) -> Result<(), LabError> {
        let link = format!("/proc/{}/exe", self.child.id());
        let what = format!("{} to start", self.name);
        wait_for(&what, GRACE, || {
            let running = fs::read_link(&link).unwrap_or_default();
            let helper = running.file_name().is_none_or(|name| name == "ip" || name == "setpriv");
            Ok(!helper || self.has_ended())
        })
    }

    /// Its name, as it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that its standard output goes to.
    pub fn stdout_file(&self) -> &Path {
        &self.stdout
    }

    /// The file that its standard error goes to.
    pub fn stderr_file(&self) -> &Path {
        &self.stderr
    }

    /// What it has written so far to standard output; bytes that are not UTF-8 replaced.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// What it has written so far to standard error, likewise.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let sent =
            Pid::from_raw(self.child.id().cast_signed()).map(|pid| kill_process(pid, signal));
        let sent = sent.unwrap_or(Err(rustix::io::Errno::SRCH)).map_err(std::io::Error::from);
        sent.map_err(LabError::system("signal", &self.name))
    }

    /// Fails if it has ended, saying what it said last.
    pub fn ensure_running(&mut self) -> Result<(), LabError> {
        let Ok(Some(status)) = self.child.try_wait() else { return Ok(()) };
        let said = [self.stderr(), self.stdout()].concat().trim().to_owned();
        Err(LabError::Program { command: self.name.clone(), status: status.to_string(), said })
    }

    /// Waits for its end, so long at most and no longer than until a signal comes, and fails unless
    /// it has succeeded; its standard output comes back.
    pub fn finish(mut self, limit: Duration) -> Result<String, LabError> {
        let what = format!("{} to end", self.name);
        wait_for(&what, limit, || Ok(self.has_ended()))?;
        match self.child.try_wait() {
            Ok(Some(status)) if status.success() => Ok(self.stdout()),
            _ => self.ensure_running().map(|()| String::new()),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not yet waited for, so the number is still its own.
        if !self.has_ended() && self.signal(Signal::TERM).is_ok() {
            let end = Instant::now() + GRACE;
            while !self.has_ended() && Instant::now() < end {
                thread::sleep(STEP);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.stdout);
        let _ = fs::remove_file(&self.stderr);
    }
}

/// A command on this host that ends when the thread that starts it ends, be it by kill -9; a
/// control-C is for the lab, not for it. Where setpriv is missing, [`crate::clean`] ends it.
pub fn bound_command(program: &str) -> Command {
    let mut command = if is_installed("setpriv") {
        let mut command = Command::new(called("setpriv"));
        command.args(PDEATHSIG).arg(called(program));
        command
    } else {
        Command::new(called(program))
    };
    command.env(owner::MARK, owner::mark()).stdin(Stdio::null()).process_group(0);
    command
}

/// The same inside a namespace.
fn bound_inside(namespace: &Namespace, program: &str) -> Command {
    let mut command = if is_installed("setpriv") {
        let mut command = namespace.command("setpriv");
        command.args(PDEATHSIG).arg(called(program));
        command
    } else {
        namespace.command(program)
    };
    command.env(owner::MARK, owner::mark()).stdin(Stdio::null()).process_group(0);
    command
}
