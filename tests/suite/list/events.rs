//! `watch` beside `conntrack -E`, and its account of losses.

use std::io::Read;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_flow::{EventKind, Mark, json};
use ctkeeper_netlink::{Change, Conntrack, DumpFilter, netns};
use ctkeeper_tests::{Filling, Namespace, fill};
use rustix::process::{Pid, Signal, kill_process};

use super::support::{in_namespace, load};

/// Longest wait for something that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn are_conntracks() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let ours = listen(in_namespace(&namespace, &["watch", "-o", "text", "--id", "--extended"]))?;
    let mut peer = namespace.command("conntrack");
    peer.args(["-E", "-o", "extended,id"]);
    let theirs = listen(peer)?;
    await_listeners(&namespace, 2)?;
    load(
        &namespace,
        "-I -t 100 -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -m 7\n\
         -I -t 100 -p tcp -s fd77:1::1 -d fd77:1::2 --sport 1 --dport 2 --state SYN_SENT\n\
         -I -t 100 -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 7\n",
    )?;
    let handle = netns::Namespace::open(&namespace.name().parse()?)?;
    let mut table = Conntrack::open_in(&handle)?;
    let change = Change { mark: Some((Mark(9), u32::MAX)), ..Change::default() };
    for flow in table.collect(&DumpFilter::ALL)? {
        table.update(&flow.original, flow.zone, &change)?;
    }
    load(&namespace, "-D -p udp -s 10.0.0.1\n-F\n")?;
    sleep(Duration::from_millis(500));
    let (ours, report) = stop(ours)?;
    let (theirs, _) = stop(theirs)?;
    // Theirs names the process that caused an event.
    let theirs: Vec<_> =
        theirs.lines().map(|line| line.split(" [USERSPACE]").next().unwrap_or_default()).collect();
    ensure!(theirs.len() == 9, "{theirs:#?}");
    ensure!(ours.lines().eq(theirs.iter().copied()), "{ours}\n{theirs:#?}");
    ensure!(report.contains(&format!("{} events shown, 0 lost", theirs.len())), "{report}");
    Ok(())
}

pub(crate) fn end_when_told() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let counting = ["watch", "--events", "new", "--count", "3", "-o", "json", "dport 443"];
    let watch = listen(in_namespace(&namespace, &counting))?;
    await_listeners(&namespace, 1)?;
    fill(&namespace, 0, 10, Filling::HalfOpen)?;
    let (shown, report) = finish(watch)?;
    ensure!(shown.lines().count() == 3, "{shown}");
    for line in shown.lines() {
        let line = json::parse_line(line)?;
        ensure!(line.event == Some(EventKind::New) && line.flow.id.is_some());
    }
    ensure!(report.contains("3 events shown"), "{report}");
    let begun = Instant::now();
    let (shown, report) =
        finish(listen(in_namespace(&namespace, &["watch", "--duration", "1s"]))?)?;
    ensure!(shown.is_empty() && report.contains("0 events shown, 0 lost."), "{report}");
    ensure!((Duration::from_secs(1)..PATIENCE).contains(&begun.elapsed()));
    // Longer than any clock holds.
    let endless = ["watch", "--duration", "18000000000000000000s", "--count", "0"];
    let (_, report) = finish(listen(in_namespace(&namespace, &endless))?)?;
    ensure!(report.contains("0 events shown"), "{report}");
    Ok(())
}

/// A reader that is held still while its buffer overflows: what it shows and what it says is lost
/// is all there was.
pub(crate) fn losses_are_exact() -> anyhow::Result<()> {
    const EVENTS: u64 = 20_000;
    let namespace = Namespace::create()?;
    let arguments = ["watch", "--events", "new", "--buffer", "1", "--resync", "-o", "text"];
    let watch = listen(in_namespace(&namespace, &arguments))?;
    await_listeners(&namespace, 1)?;
    let pid = Pid::from_child(&watch.child);
    kill_process(pid, Signal::STOP)?;
    fill(&namespace, 0, EVENTS, Filling::HalfOpen)?;
    kill_process(pid, Signal::CONT)?;
    sleep(Duration::from_millis(1500));
    let (shown, report) = stop(watch)?;
    let (events, present): (Vec<_>, Vec<_>) =
        shown.lines().partition(|line| line.starts_with("    [NEW] "));
    let lost = EVENTS - events.len() as u64;
    ensure!(lost > 0, "nothing was lost: the test tested nothing");
    let lost = ctkeeper_flow::units::count(lost);
    ensure!(report.contains(&format!("{lost} events lost")), "{lost}: {report}");
    ensure!(report.contains(&format!("shown, {lost} lost.")), "{lost}: {report}");
    ensure!(present.len() as u64 == EVENTS, "{} entries after the loss", present.len());
    Ok(())
}

/// A program whose output is read while it runs.
struct Listener {
    child: Child,
    stdout: std::thread::JoinHandle<std::io::Result<String>>,
    stderr: std::thread::JoinHandle<std::io::Result<String>>,
}

fn listen(mut command: std::process::Command) -> anyhow::Result<Listener> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("no standard output")?;
    let stderr = child.stderr.take().context("no standard error")?;
    Ok(Listener { child, stdout: reader(stdout), stderr: reader(stderr) })
}

fn reader(
    mut pipe: impl Read + Send + 'static,
) -> std::thread::JoinHandle<std::io::Result<String>> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    })
}

/// Interrupts a program as Ctrl-C does; it must end well.
fn stop(listener: Listener) -> anyhow::Result<(String, String)> {
    kill_process(Pid::from_child(&listener.child), Signal::INT)?;
    finish(listener)
}

fn finish(mut listener: Listener) -> anyhow::Result<(String, String)> {
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match listener.child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                listener.child.kill()?;
                anyhow::bail!("it did not end in {PATIENCE:?}");
            }
            None => sleep(Duration::from_millis(20)),
        }
    };
    let joined = |thread: std::thread::JoinHandle<_>| {
        thread.join().map_err(|_| anyhow::anyhow!("a reader panicked"))
    };
    let (stdout, stderr) = (joined(listener.stdout)??, joined(listener.stderr)??);
    ensure!(status.success(), "{status}: {stderr}");
    Ok((stdout, stderr))
}

/// Waits until so many sockets listen to conntrack's groups in a namespace.
fn await_listeners(namespace: &Namespace, wanted: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sockets = namespace.run("cat", &["/proc/net/netlink"])?;
        // Family 12 is netfilter's; the fourth column holds the groups.
        let listening = sockets
            .lines()
            .filter_map(|line| {
                line.split_whitespace()
                    .skip(1)
                    .step_by(2)
                    .take(2)
                    .collect::<Vec<_>>()
                    .try_into()
                    .ok()
            })
            .filter(|[family, groups]: &[&str; 2]| *family == "12" && *groups != "00000000")
            .count();
        if listening >= wanted {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "nobody listens:\n{sockets}");
        sleep(Duration::from_millis(20));
    }
}
