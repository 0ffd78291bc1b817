//! Events: what a reader costs, and what it loses.
//!
//! Flows are made and ended at a steady pace while one program listens, with the buffer that it has
//! by itself; then the other listens to the same.

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_bench::children_cpu;
use ctkeeper_flow::Flow;
use ctkeeper_netlink::Conntrack;
use ctkeeper_tests::{Filling, Namespace, filled};

use crate::pair;

/// Made, and as many ended.
const FLOWS: u64 = 200_000;
/// Made in one go, ended in one go.
const STRIDE: u64 = 100;
/// Flows a second; 0 is as fast as it goes.
const PACES: [u64; 4] = [10_000, 25_000, 50_000, 0];
const RUNS: usize = 3;

/// One reader's run.
#[derive(Clone, Copy, Debug)]
struct Heard {
    events: u64,
    cpu: Duration,
    /// How long the load took.
    load: Duration,
}

pub(crate) fn compare() -> anyhow::Result<()> {
    println!("{FLOWS} flows made and ended, events of both, medians of {RUNS} runs in turns");
    for pace in PACES {
        let (mut peers, mut owns) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            peers.push(listen(pair::peer(&["-E"]), pace)?);
            owns.push(listen(pair::own(&["-E"]), pace)?);
        }
        let (peer, own) = (middle(&mut peers)?, middle(&mut owns)?);
        let asked = if pace == 0 { "unpaced".to_owned() } else { format!("{pace} flows/s") };
        print("conntrack -E", &asked, peer);
        print("ctkeeper conntrack -E", "", own);
        let each = |heard: Heard| heard.cpu.as_secs_f64() / heard.events.max(1) as f64;
        println!("{:34} CPU an event {:.3} of it (goal 0.3)", "", each(own) / each(peer));
    }
    println!();
    Ok(())
}

fn middle(runs: &mut [Heard]) -> anyhow::Result<Heard> {
    runs.sort_by_key(|heard| heard.events);
    runs.get(runs.len() / 2).copied().context("no runs")
}

fn print(program: &str, pace: &str, heard: Heard) {
    let lost = 1.0 - heard.events as f64 / (2 * FLOWS) as f64;
    println!(
        "{program:24}{pace:>14} {:8} of {} events, {:5.1} % lost, reader's CPU {:6.0} ms, load {:.2} s",
        heard.events,
        2 * FLOWS,
        lost * 100.0,
        heard.cpu.as_secs_f64() * 1e3,
        heard.load.as_secs_f64()
    );
}

fn listen(mut command: Command, pace: u64) -> anyhow::Result<Heard> {
    let namespace = Namespace::create()?;
    let before = children_cpu()?;
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = namespace.enter(|| command.spawn())??;
    let output = child.stdout.take().context("no standard output")?;
    let counter = thread::spawn(move || count_lines(output));
    wait_for_listener(&namespace)?;
    let start = Instant::now();
    load(&mut namespace.conntrack()?, pace)?;
    let load = start.elapsed();
    // What waits in the buffer is read in no time.
    thread::sleep(Duration::from_millis(500));
    end(&mut child)?;
    let events = counter.join().map_err(|_| anyhow::anyhow!("the counter panicked"))??;
    Ok(Heard { events, cpu: children_cpu()?.saturating_sub(before), load })
}

fn count_lines(output: impl std::io::Read) -> std::io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 16, output);
    let mut lines = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(lines);
        }
        lines += buffer.split(|byte| *byte == b'\n').count() as u64 - 1;
        let length = buffer.len();
        reader.consume(length);
    }
}

/// Until a netlink socket of the namespace listens to groups of connection tracking.
fn wait_for_listener(namespace: &Namespace) -> anyhow::Result<()> {
    const NETFILTER: &str = "12";
    let is_listening = || -> anyhow::Result<bool> {
        let sockets =
            namespace.enter(|| std::fs::read_to_string("/proc/thread-self/net/netlink"))??;
        Ok(sockets.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (protocol, _, groups) = (fields.next(), fields.next(), fields.next());
            protocol == Some(NETFILTER) && groups.is_some_and(|groups| groups != "00000000")
        }))
    };
    for _ in 0..500 {
        if is_listening()? {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("nobody listens after 5 s")
}

fn load(table: &mut Conntrack, pace: u64) -> anyhow::Result<()> {
    let start = Instant::now();
    for from in (0..FLOWS).step_by(STRIDE as usize) {
        let flows: Vec<Flow> = (from..from + STRIDE).map(flow).collect();
        let made = table.create_batch(&flows, |_, _| ControlFlow::Continue(()))?;
        let ended = table.delete_batch(&flows, |_, _| ControlFlow::Continue(()))?;
        ensure!(made.done == STRIDE && ended.done == STRIDE, "{made:?} {ended:?}");
        if pace > 0 {
            let due = Duration::from_secs_f64((from + STRIDE) as f64 / pace as f64);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    Ok(())
}

fn flow(number: u64) -> Flow {
    filled(number, Filling::Established { timeout: 600 })
}

fn end(child: &mut Child) -> anyhow::Result<()> {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    child.wait()?;
    Ok(())
}
