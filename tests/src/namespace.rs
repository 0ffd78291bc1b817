//! Network namespaces with names of their own, removed when their guard goes.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};

use crate::binary::{Output, run};

const FOLDER: &str = "/run/netns";
const PREFIX: &str = "ctk";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A named network namespace (`/run/netns/ctk-PID-N`); its loopback is up.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one.
    pub fn create() -> anyhow::Result<Self> {
        let mut made = Self::create_many(1)?;
        made.pop().context("no namespace was made")
    }

    /// Makes `count` of them in one go.
    pub fn create_many(count: u32) -> anyhow::Result<Vec<Self>> {
        let pid = std::process::id();
        let number = || NEXT.fetch_add(1, Ordering::Relaxed);
        let names: Vec<_> = (0..count).map(|_| format!("{PREFIX}-{pid}-{}", number())).collect();
        // The guards come first, so that a failure half-way leaves nothing behind.
        let made: Vec<_> = names.iter().map(|name| Self { name: name.clone() }).collect();
        ip_batch(names.iter().map(|name| format!("netns add {name}")))?;
        if let [only] = made.as_slice() {
            only.run("ip", &["link", "set", "lo", "up"])?;
        }
        Ok(made)
    }

    /// One that is there already; it too is removed with the guard.
    pub fn existing(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Its name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(FOLDER).join(&self.name)
    }

    /// Its inode, as the kernel's log names it.
    pub fn inode(&self) -> anyhow::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(fs::metadata(self.path()).with_context(|| format!("looking at {}", self.name))?.ino())
    }

    /// A command that will run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).stdin(Stdio::null());
        command
    }

    /// Runs a program inside and fails unless it succeeds; its standard output comes back.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let Output { code, stdout, stderr } = run(self.command(program).args(arguments))?;
        ensure!(code == Some(0), "{program} {arguments:?} in {}: {code:?}: {stderr}", self.name);
        Ok(stdout)
    }

    /// Loads nftables rules inside.
    pub fn nft(&self, rules: &str) -> anyhow::Result<()> {
        let mut child = self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("nft without standard input")?.write_all(rules.as_bytes())?;
        ensure!(child.wait()?.success(), "nft refused these rules in {}:\n{rules}", self.name);
        Ok(())
    }

    /// Turns tracking on inside: a rule that looks at the state of every packet.
    pub fn track(&self) -> anyhow::Result<()> {
        self.nft(
            "table inet track {\n\
             chain in { type filter hook input priority 0; ct state invalid counter; }\n\
             chain out { type filter hook output priority 0; ct state invalid counter; }\n\
             chain through { type filter hook forward priority 0; ct state invalid counter; }\n}\n",
        )
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Whether a namespace of this name is a test's.
pub(crate) fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('-'))
}

/// Removes namespaces of test runs that ended without their guards (kill -9).
pub(crate) fn remove_leftovers() {
    let Ok(folder) = fs::read_dir(FOLDER) else { return };
    for entry in folder.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    if PathBuf::from(FOLDER).join(name).exists() {
        // A guard must not panic, and the next run removes what is left.
        let _ = Command::new("ip").args(["netns", "del", name]).status();
    }
}

fn ip_batch(lines: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("ip without standard input")?;
    for line in lines {
        writeln!(input, "{line}")?;
    }
    drop(input);
    ensure!(child.wait()?.success(), "ip -batch failed to make namespaces (is this root?)");
    Ok(())
}
