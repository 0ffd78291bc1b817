//! Runs that are ended before their end.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_tests::{ctkeeper, run};

/// A scenario that raises limit and buckets, fills, loads, and runs HAProxy: whatever can be left behind.
const WHOLE: &str = r#"
title = "Everything that can be left behind"
about = "For ending."
[host]
buckets_per_place = 2
[[namespace]]
name = "client"
[[namespace]]
name = "server"
track = true
[[link]]
ends = [
    { namespace = "client", interface = "eth0", addresses = ["10.77.1.2/24"] },
    { namespace = "server", interface = "eth0", addresses = ["10.77.1.1/24"] },
]
[[haproxy]]
name = "proxy"
namespace = "server"
processes = 2
config = """
global
    maxconn 100
defaults
    mode http
    timeout client 5s
    timeout connect 1s
    timeout server 5s
frontend f
    bind :80
    http-request return status 200
"""
[[phase]]
title = "Long"
do = [
    { fix = { target = 300_000 } },
    { fill = { namespace = "server", entries = 20_000 } },
    { load = { name = "new", namespace = "client", profile = { targets = ["10.77.1.1:80"], rate = 50.0, traffic = { kind = "http" } } } },
    { wait = "60s" },
]
expect = [{ entries = { namespace = "server", at_least = 20_000 } }]
"#;

const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const JOURNAL: &str = "/var/lib/ctkeeper/journal";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// A run in its long phase.
struct Run {
    child: Child,
    journal: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Run {
    fn start(output: Stdio) -> anyhow::Result<Self> {
        let started = Self::begin(output)?;
        // Another run may have the host's limit to itself first.
        let end = Instant::now() + Duration::from_secs(300);
        while started.entries() < 20_000 {
            ensure!(Instant::now() < end, "it does not fill: {:?}", started.namespaces());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(started)
    }

    fn begin(output: Stdio) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("whole.toml");
        fs::write(&file, WHOLE)?;
        let mut command = ctkeeper(&["lab", "run", &file.display().to_string()]);
        let child = command.stdout(output).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, journal: journal(), _folder: folder })
    }

    fn entries(&self) -> u64 {
        let name = format!("ctk-{}-server", self.child.id());
        let count = ["netns", "exec", &name, "cat", "/proc/sys/net/netfilter/nf_conntrack_count"];
        let Ok(output) = run(Command::new("ip").args(count)) else { return 0 };
        output.stdout.trim().parse().unwrap_or(0)
    }

    fn namespaces(&self) -> Vec<String> {
        let prefix = format!("ctk-{}-", self.child.id());
        let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&prefix)).collect()
    }

    /// HAProxy processes that were started for this run's configuration.
    fn proxies(&self) -> usize {
        let mark = format!("/run/ctkeeper-lab/{}/haproxy-", self.child.id());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines =
            entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(&mark)).count()
    }

    fn signal(&mut self, signal: &str) -> anyhow::Result<Option<i32>> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args([signal, &pid]).status()?.success());
        Ok(self.child.wait()?.code())
    }

    /// Where another run comes first after a kill, it is the one that removes and puts back, and may
    /// still be at it.
    fn ensure_nothing_left(&self, before: (u64, u64)) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        while self.look_for_leftovers(before).is_err() && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        self.look_for_leftovers(before)
    }

    fn look_for_leftovers(&self, before: (u64, u64)) -> anyhow::Result<()> {
        ensure!(self.namespaces().is_empty(), "left: {:?}", self.namespaces());
        ensure!(self.proxies() == 0, "{} HAProxy processes are left", self.proxies());
        let folder = format!("/run/ctkeeper-lab/{}", self.child.id());
        ensure!(!Path::new(&folder).exists(), "{folder} is left");
        ensure!(journal() == self.journal, "fix left a journal");
        ensure!(values()? == before, "limit and buckets are {:?}, were {before:?}", values()?);
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = ctkeeper_lab::clean();
    }
}

/// The changes that the host's own journal tells of.
fn journal() -> Vec<String> {
    let entries = fs::read_dir(JOURNAL).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn values() -> anyhow::Result<(u64, u64)> {
    let number = |file| -> anyhow::Result<u64> { Ok(fs::read_to_string(file)?.trim().parse()?) };
    Ok((number(LIMIT)?, number(BUCKETS)?))
}

/// The values while nobody holds them.
fn values_at_rest() -> anyhow::Result<(u64, u64)> {
    let held = ctkeeper_lab::HostValues::lock()?;
    Ok((held.limit(), held.buckets()))
}

pub(crate) fn interrupted() -> anyhow::Result<()> {
    let _alone = crate::alone();
    for signal in ["-INT", "-TERM", "-HUP"] {
        let before = values_at_rest()?;
        let mut run = Run::start(Stdio::null())?;
        let (limit, buckets) = values()?;
        ensure!(limit > before.0 && buckets > before.1, "limit and buckets were not raised");
        let began = Instant::now();
        ensure!(run.signal(signal)? == Some(1), "{signal}");
        ensure!(began.elapsed() < Duration::from_secs(10), "{signal}: {:?}", began.elapsed());
        run.ensure_nothing_left(before)?;
    }
    Ok(())
}

/// Any run of the lab on this host may come first and clean; what is gone is gone either way.
const TRIES: usize = 5;

pub(crate) fn killed() -> anyhow::Result<()> {
    let _alone = crate::alone();
    for _ in 0..TRIES {
        if kill_and_clean()? {
            return Ok(());
        }
    }
    anyhow::bail!("lab clean never says what it has removed")
}

/// Whether it was this `lab clean` that cleaned.
fn kill_and_clean() -> anyhow::Result<bool> {
    let before = values_at_rest()?;
    let mut started = Run::start(Stdio::null())?;
    ensure!(started.proxies() == 2, "{} HAProxy processes", started.proxies());
    started.signal("-KILL")?;
    let cleaned = run(&mut ctkeeper(&["lab", "clean"]))?;
    ensure!(cleaned.code == Some(0), "{cleaned:?}");
    started.ensure_nothing_left(before)?;
    let names = format!("ctk-{0}-client, ctk-{0}-server", started.child.id());
    Ok(cleaned.stdout.contains(&names) && cleaned.stdout.contains("Put back the limit"))
}

/// Wherever it is killed, the next one cleans: while namespaces are made, HAProxy starts, `fix`
/// raises the limit, the table is filled.
pub(crate) fn killed_anywhere() -> anyhow::Result<()> {
    let _alone = crate::alone();
    let before = values_at_rest()?;
    for milliseconds in (0..1200).step_by(75) {
        let mut started = Run::begin(Stdio::null())?;
        thread::sleep(Duration::from_millis(milliseconds));
        started.signal("-KILL")?;
        let cleaned = run(&mut ctkeeper(&["lab", "clean"]))?;
        ensure!(cleaned.code == Some(0), "{cleaned:?}");
        started.ensure_nothing_left(before).with_context(|| format!("after {milliseconds} ms"))?;
    }
    // What was on its way when its owner was killed has had time to arrive.
    thread::sleep(Duration::from_millis(300));
    ensure!(values_at_rest()? == before, "limit and buckets are {:?}", values_at_rest()?);
    Ok(())
}

/// Nobody reads what it prints any more: it runs on, and cleans up.
pub(crate) fn unread() -> anyhow::Result<()> {
    let _alone = crate::alone();
    let before = values_at_rest()?;
    let mut run = Run::start(Stdio::piped())?;
    drop(run.child.stdout.take());
    ensure!(run.signal("-TERM")? == Some(1));
    run.ensure_nothing_left(before)
}
