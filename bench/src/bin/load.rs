//! The lab's load generator beside `wrk` and `hping3`, on the same target in the same run.
//!
//! `cargo run --release -p ctkeeper-bench --bin load -- [SECONDS] [kept|each|syn|bars]…`
//!
//! Two namespaces joined by a link, tracking on in the target's; the target is the lab's own HTTP
//! server in a process of its own. Each figure is the median of three runs of so many seconds (3),
//! in turns. CPU is that of the generator alone, with what the kernel does in its name: over a link
//! of this sort that is also the receiving side of every packet it sends. On a busy machine CPU is
//! the honest number, not the rate.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_bench::children_cpu;
use ctkeeper_flow::units;
use ctkeeper_lab::load::{
    Closing, ErrorKind, Held, Http, Load, Profile, Report, Server, Service, Sources, SynFlood,
    Traffic,
};
use ctkeeper_lab::{End, Link, Namespace, Process, require};
use ctkeeper_netlink::netns;

const ROUNDS: usize = 3;
/// A schedule that is not kept may be the neighbours' doing: it has so many tries.
const TRIES: usize = 3;
const TARGET: &str = "10.99.0.2:80";
/// Connections that are kept alive, ours and wrk's.
const KEPT: u32 = 50;
/// A schedule is kept if no more of its arrivals were late or failed than this.
const LATE: f64 = 0.01;
const FAILED: f64 = 0.001;
/// The bars: connections that one process holds, and opens a second.
const HOLD: u64 = 19_000;
const OPEN: f64 = 5_000.0;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--serve") {
        return serve();
    }
    let seconds = arguments.iter().find_map(|text| text.parse::<u64>().ok()).unwrap_or(3);
    let named = |part: &str| arguments.iter().any(|text| text == part);
    let all = !["kept", "each", "syn", "bars"].into_iter().any(named);
    for program in ["wrk", "hping3", "nft"] {
        require(program)?;
    }
    let length = Duration::from_secs(seconds);
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("medians of {ROUNDS} runs of {seconds} s, in turns; CPU of the generator alone");
    println!("{} CPUs, load average {busy}", std::thread::available_parallelism()?);
    if all || named("kept") {
        keep_alive(length)?;
    }
    if all || named("each") {
        connection_per_request(length)?;
    }
    if all || named("syn") {
        syns(length)?;
    }
    if all || named("bars") {
        bars()?;
    }
    Ok(())
}

/// The target, in a process of its own: descriptors are counted by process.
fn serve() -> anyhow::Result<()> {
    let here = netns::Namespace::current()?;
    let _server = Server::start(&here, Service::Http { body_bytes: 3 }, &["0.0.0.0:80".parse()?])?;
    loop {
        std::thread::park();
    }
}

/// Clients and target; everything is gone with it, so that each part begins with an empty table.
struct Ground {
    _server: Process,
    _link: Link,
    clients: Namespace,
    target: Namespace,
}

impl Ground {
    fn make() -> anyhow::Result<Self> {
        let (clients, target) = (Namespace::create()?, Namespace::create()?);
        let link = Link::create(
            End { namespace: &clients, interface: "c0", addresses: &["10.99.0.1/16"] },
            End { namespace: &target, interface: "s0", addresses: &["10.99.0.2/16"] },
        )?;
        clients.own_addresses("10.99.16.0/22")?;
        target.track()?;
        let this = std::env::current_exe()?;
        let server = Process::start(&target, &this.to_string_lossy(), &["--serve"])?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(Self { _server: server, _link: link, clients, target })
    }

    fn start(&self, profile: &Profile) -> anyhow::Result<Load> {
        Ok(Load::start(&self.clients.open()?, profile)?)
    }

    /// Runs a load for its time and stops it.
    fn run(&self, profile: &Profile) -> anyhow::Result<Figure> {
        let load = self.start(profile)?;
        std::thread::sleep(profile.span());
        let report = load.report();
        load.stop(Closing::Reset);
        Ok(Figure::own(report))
    }

    /// Runs another program; what it said, and its CPU time.
    fn peer(&self, program: &str, arguments: &[&str]) -> anyhow::Result<(String, Duration)> {
        let before = children_cpu()?;
        let mut command = self.clients.command(program);
        command.args(arguments).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("running {program}"))?;
        let cpu = children_cpu()?.saturating_sub(before);
        let said = [output.stdout, output.stderr].concat();
        Ok((String::from_utf8_lossy(&said).into_owned(), cpu))
    }

    fn wrk(&self, length: Duration, closes: bool) -> anyhow::Result<Figure> {
        let (connections, length) = (KEPT.to_string(), format!("{}s", length.as_secs()));
        let url = format!("http://{TARGET}/");
        let mut arguments = vec!["-t1", "-c", &connections, "-d", &length];
        if closes {
            arguments.extend(["-H", "Connection: close"]);
        }
        arguments.push(&url);
        let (said, cpu) = self.peer("wrk", &arguments)?;
        let number = |before: &str, after: &str| -> Option<f64> {
            said.split_once(before)?.1.split_once(after)?.0.trim().parse().ok()
        };
        let rate = number("Requests/sec:", "\n").with_context(|| said.clone())?;
        let whole = said.split_once(" requests in").and_then(|(before, _)| before.lines().last());
        let done = whole.and_then(|text| text.trim().parse().ok()).with_context(|| said.clone())?;
        Ok(Figure { rate, done, cpu, report: None })
    }

    fn hping(&self, length: Duration, pace: &[&str]) -> anyhow::Result<Figure> {
        let length = length.as_secs().to_string();
        let mut arguments = vec!["-s", "INT", &length, "hping3", "-q", "-S", "-p", "80"];
        arguments.extend(pace);
        arguments.push("10.99.0.2");
        let (said, cpu) = self.peer("timeout", &arguments)?;
        let line = said.lines().find(|line| line.contains("packets transmitted"));
        let done: f64 = line
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .with_context(|| said.clone())?;
        let seconds: f64 = length.parse()?;
        Ok(Figure { rate: done / seconds, done, cpu, report: None })
    }
}

/// What one run came to.
#[derive(Clone, Debug)]
struct Figure {
    /// Done a second.
    rate: f64,
    /// Done in all.
    done: f64,
    cpu: Duration,
    report: Option<Report>,
}

impl Figure {
    fn own(report: Report) -> Self {
        let done = report.succeeded as f64;
        let rate = done / report.elapsed.as_secs_f64();
        Self { rate, done, cpu: report.cpu, report: Some(report) }
    }

    /// CPU for each, in microseconds.
    fn each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.done.max(1.0)
    }

    fn kept(&self) -> bool {
        let kept = |r: &Report| r.late_share() <= LATE && r.failed_share() <= FAILED;
        self.report.as_ref().is_some_and(kept)
    }
}

/// The run whose value is the median.
fn median(mut runs: Vec<Figure>, value: impl Fn(&Figure) -> f64) -> anyhow::Result<Figure> {
    runs.sort_by(|one, other| value(one).total_cmp(&value(other)));
    let middle = runs.len() / 2;
    runs.into_iter().nth(middle).context("no runs")
}

/// Runs several programs in turns; the median run of each, by CPU.
fn in_turns<const N: usize>(
    mut run: [&mut dyn FnMut() -> anyhow::Result<Figure>; N],
) -> anyhow::Result<[Figure; N]> {
    let mut runs: [Vec<Figure>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (runs, run) in runs.iter_mut().zip(&mut run) {
            runs.push(run()?);
        }
    }
    let medians: Vec<_> =
        runs.into_iter().map(|runs| median(runs, Figure::each)).collect::<Result<_, _>>()?;
    medians.try_into().ok().context("as many medians as programs")
}

fn row(name: &str, figure: &Figure) {
    let rate = units::count(figure.rate.round() as u64);
    print!("  {name:42} {rate:>9}/s   CPU {:6.2} us each", figure.each());
    if let Some(report) = &figure.report {
        print!("   late or not begun {:>6}", units::percent(report.late_share()));
        // What was asked for beyond what there is shows as late or as overrun: no failure.
        let overrun = report.error(ErrorKind::Overrun) + report.error(ErrorKind::Stopped);
        if report.failed > overrun {
            print!(", failed {}", units::percent(report.failed_share()));
        }
    }
    println!();
}

fn ratio(what: &str, own: &Figure, peer: &Figure) {
    let (cpu, rate) = (own.each() / peer.each(), own.rate / peer.rate);
    println!("  => {what}: CPU each {cpu:.2} of its, rate {rate:.2} of its\n");
}

fn http(connections: Option<u32>, rate: f64, length: Duration) -> anyhow::Result<Profile> {
    let traffic = Traffic::Http(Http { connections, ..Http::default() });
    let mut profile = Profile::new(traffic, target()?, rate);
    profile.duration = Some(length);
    Ok(profile)
}

fn target() -> anyhow::Result<ctkeeper_lab::load::Target> {
    TARGET.parse().map_err(anyhow::Error::msg)
}

fn keep_alive(length: Duration) -> anyhow::Result<()> {
    println!("HTTP/1.1, {KEPT} connections kept alive");
    let ground = Ground::make()?;
    let first = ground.wrk(length, false)?.rate;
    // More than can be answered: as in wrk's closed loop, every connection is always busy.
    let flood = http(Some(KEPT), first * 1.3, length)?;
    let [wrk, own] = in_turns([&mut || ground.wrk(length, false), &mut || ground.run(&flood)])?;
    row("wrk -t1 (closed loop)", &wrk);
    row("ours, asked for more than there is", &own);
    ratio("ours and wrk", &own, &wrk);
    highest_kept("ours, highest rate with its schedule kept", &wrk, |rate| {
        ground.run(&http(Some(KEPT), rate, length)?)
    })
}

fn connection_per_request(length: Duration) -> anyhow::Result<()> {
    println!("HTTP/1.1, a connection a request");
    let ground = Ground::make()?;
    let first = ground.wrk(length, true)?.rate;
    let profile = http(None, first * 1.2, length)?;
    let [wrk, own] = in_turns([&mut || ground.wrk(length, true), &mut || ground.run(&profile)])?;
    row(&format!("wrk -t1 -c{KEPT}, Connection: close"), &wrk);
    row("ours, asked for more than there is", &own);
    ratio("ours and wrk", &own, &wrk);
    highest_kept("ours, highest rate with its schedule kept", &wrk, |rate| {
        ground.run(&http(None, rate, length)?)
    })
}

/// Raises the rate by a tenth of the peer's until the schedule is not kept in [`TRIES`] tries.
fn highest_kept(
    name: &str,
    peer: &Figure,
    run: impl Fn(f64) -> anyhow::Result<Figure>,
) -> anyhow::Result<()> {
    let mut best = None;
    for tenths in 2..=15 {
        let rate = peer.rate * f64::from(tenths) / 10.0;
        let mut figure = run(rate)?;
        for _ in 1..TRIES {
            if !figure.kept() {
                figure = run(rate)?;
            }
        }
        if !figure.kept() {
            row("  (the first that was not kept)", &figure);
            break;
        }
        best = Some(figure);
    }
    match &best {
        Some(figure) => {
            row(name, figure);
            println!(
                "     (below saturation the generator sleeps between arrivals; each wake costs)\n"
            );
        }
        None => println!("  {name}: none\n"),
    }
    Ok(())
}

fn syns(length: Duration) -> anyhow::Result<()> {
    for tracked in [false, true] {
        let ground = Ground::make()?;
        println!(
            "SYNs to a target that {}",
            if tracked { "tracks and answers them" } else { "drops them before tracking" }
        );
        if !tracked {
            ground.target.nft(
                "table inet silence {\n\
                 chain in { type filter hook prerouting priority -400; tcp dport 80 drop; }\n}\n",
            )?;
        }
        let syns = |rate| -> anyhow::Result<Profile> {
            let mut profile = Profile::new(Traffic::SynFlood(SynFlood {}), target()?, rate);
            profile.duration = Some(length);
            Ok(profile)
        };
        for (name, pace, rate) in [
            ("--flood", "--flood", ctkeeper_lab::load::profile::MAX_RATE),
            ("-i u100 (10,000/s)", "-i u100", 10_000.0),
            ("-i u1000 (1,000/s)", "-i u1000", 1_000.0),
        ] {
            let profile = syns(rate)?;
            let [hping, own] = in_turns([
                &mut || ground.hping(length, &pace.split(' ').collect::<Vec<_>>()),
                &mut || ground.run(&profile),
            ])?;
            row(&format!("hping3 -S {name}"), &hping);
            row(&format!("ours, {}/s asked", units::count(rate as u64)), &own);
            ratio("ours and hping3", &own, &hping);
        }
    }
    Ok(())
}

fn bars() -> anyhow::Result<()> {
    println!("One process, tracking on in the target's namespace");
    for rate in [OPEN, 8_000.0, 10_000.0, 15_000.0] {
        let late =
            |(figure, _): &(Figure, u64)| figure.report.as_ref().map_or(1.0, Report::late_share);
        let mut best = hold(rate)?;
        for _ in 1..TRIES {
            if !best.0.kept() {
                let again = hold(rate)?;
                best = if late(&again) < late(&best) { again } else { best };
            }
        }
        let (figure, entries) = best;
        let Some(report) = &figure.report else { continue };
        let verdict = |reached| if reached { "reached" } else { "MISSED" };
        row(&format!("{} connections opened and held", units::count(report.open)), &figure);
        println!(
            "     {} entries; in {:.1} s; connect {}; hold {}: {}; open {}/s on schedule: {}",
            units::count(entries),
            report.elapsed.as_secs_f64(),
            report.connect,
            units::count(HOLD),
            verdict(report.open >= HOLD),
            units::count(rate as u64),
            verdict(figure.kept()),
        );
    }
    Ok(())
}

/// Opens connections at a rate and holds them; the target's entries then.
fn hold(rate: f64) -> anyhow::Result<(Figure, u64)> {
    let ground = Ground::make()?;
    let mut profile = Profile::new(Traffic::TcpHeld(Held::default()), target()?, rate);
    profile.sources = Some(Sources::range("10.99.16.0".parse()?, 16));
    profile.count = Some(HOLD + 500);
    let load = ground.start(&profile)?;
    ensure!(load.wait_settled(Duration::from_secs(30)), "not settled: {}", load.report());
    let report = load.report();
    let (entries, _) = ground.target.count_and_limit()?;
    load.stop(Closing::Reset);
    Ok((Figure::own(report), entries))
}
