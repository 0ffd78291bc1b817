//! What the face promises beyond the reference, which no comparison shows.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use ctkeeper_tests::{Filling, Namespace, ctkeeper_path, fill, run};
use rustix::process::{Pid, Signal, kill_process};

/// More than the entries that fit the pieces which are written at a time.
const ENTRIES: u64 = 5000;

/// A runbook that logs to a full disk still clears its entries.
pub(crate) fn a_full_disk_stops_no_deletion() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, ENTRIES, Filling::Established { timeout: 4000 })?;
    let mut command = face(&namespace);
    command.args(["-D", "-p", "tcp"]).stdout(File::options().write(true).open("/dev/full")?);
    let output = command.stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(said.contains(&format!("{ENTRIES} flow entries have been deleted")), "{said}");
    ensure!(said.contains("Can't write: No space left on device"), "{said}");
    let left = run(face(&namespace).arg("-C"))?;
    ensure!(left.stdout.trim() == "0", "{left:?}");
    Ok(())
}

/// Nobody takes what is printed, and somebody wants it to end.
pub(crate) fn a_stalled_listener_can_be_ended() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let mut listening = face(&namespace);
    listening.arg("-E").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut listening = listening.spawn()?;
    thread::sleep(Duration::from_millis(300));
    fill(&namespace, 0, ENTRIES, Filling::Established { timeout: 4000 })?;
    thread::sleep(Duration::from_secs(1));
    let pid = Pid::from_child(&listening);
    let begin = Instant::now();
    for signal in [Signal::TERM, Signal::INT] {
        kill_process(pid, signal)?;
        thread::sleep(Duration::from_millis(200));
    }
    while listening.try_wait()?.is_none() && begin.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(20));
    }
    let ended = listening.try_wait()?;
    listening.kill()?;
    listening.wait()?;
    ensure!(ended.is_some(), "it goes on for ever");
    Ok(())
}

/// The time of an event is when it came, not when the last one was read.
pub(crate) fn stamps_are_of_their_moment() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let mut listening = face(&namespace);
    listening.args(["-E", "-e", "NEW", "-o", "timestamp"]).stdout(Stdio::piped());
    let mut listening = listening.stderr(Stdio::null()).spawn()?;
    let mut lines = BufReader::new(listening.stdout.take().context("no output")?).lines();
    thread::sleep(Duration::from_millis(300));
    let outcome = (1..=6).try_for_each(|port: u64| {
        thread::sleep(Duration::from_millis(70 * port));
        let before = SystemTime::now();
        let made = run(face(&namespace).args(insertion(port)))?;
        ensure!(made.code == Some(0), "{made:?}");
        let line = lines.next().context("no event")??;
        let stamp = line.trim_start_matches('[').split(']').next().unwrap_or_default();
        let stamp = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(stamp.trim().parse()?);
        let microsecond = Duration::from_micros(2);
        ensure!(stamp + microsecond >= before && stamp <= SystemTime::now(), "{line}");
        Ok(())
    });
    listening.kill()?;
    listening.wait()?;
    outcome
}

/// Without privilege the kernel answers the first request of many, and no other.
pub(crate) fn many_requests_are_refused_at_once() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 200, Filling::Established { timeout: 4000 })?;
    let folder = tempfile::tempdir()?;
    let saved = folder.path().join("table");
    let output = run(namespace.command(&ctkeeper_path().display().to_string()).arg("save"))?;
    std::fs::write(&saved, &output.stdout)?;
    for restore in [&["restore"][..], &["conntrack", "-R"]] {
        let begin = Instant::now();
        let mut command = namespace.command("setpriv");
        command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
        let told = run(command.arg(ctkeeper_path()).args(restore).arg(&saved))?;
        ensure!(told.code == Some(1), "{told:?}");
        ensure!(told.stderr.contains("CAP_NET_ADMIN"), "{}", told.stderr);
        ensure!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
    Ok(())
}

fn face(namespace: &Namespace) -> Command {
    let mut command = namespace.command(&ctkeeper_path().display().to_string());
    command.arg("conntrack");
    command
}

fn insertion(port: u64) -> Vec<String> {
    let line = format!("-I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 53 -t 60");
    line.split(' ').map(str::to_owned).collect()
}
