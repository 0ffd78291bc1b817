//! `ctkeeper list` of a full table beside `conntrack -L`, `cat /proc/net/nf_conntrack` and the bare
//! cost of the kernel's dump.
//!
//! `cargo build --release && cargo run --release -p ctkeeper-bench --bin list -- [ENTRIES]`
//!
//! Makes a namespace, fills it by netlink to so many entries (262,144, within what leaves the host
//! unharmed), and measures each program there, output to /dev/null, in turns.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_bench::{Cost, measure, median, peak_resident};
use ctkeeper_flow::{Flow, Mark};
use ctkeeper_netlink::{Conntrack, netns};
use ctkeeper_tests::{Filling, Namespace, ctkeeper_path, ensure_harmless, filled};

const RUNS: usize = 5;
/// One entry in so many has the mark, and one the source, that the filtered lists ask for.
const RARE: u64 = 100;
const MARK: u32 = 77;
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);

fn main() -> anyhow::Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("--floor") {
        return ctkeeper_bench::walk_headers();
    }
    let entries = argument.map_or(Ok(262_144), |text| text.parse().context(text))?;
    let namespace = Namespace::create()?;
    fill(&namespace, entries)?;
    let handle = netns::Namespace::open(&netns::NamespaceSelector::Path(namespace.path()))?;
    // What a thread starts runs in the thread's namespace.
    netns::enter(&handle, |_| compare(entries))?
}

fn fill(namespace: &Namespace, entries: u64) -> anyhow::Result<()> {
    ensure_harmless(entries)?;
    let handle = netns::Namespace::open(&netns::NamespaceSelector::Path(namespace.path()))?;
    let mut refusal = None;
    let batch =
        Conntrack::open_in(&handle)?.create_batch((0..entries).map(entry), |at, error| {
            refusal.get_or_insert((at, error));
            ControlFlow::Continue(())
        })?;
    ensure!(batch.failed == 0, "{} of {entries} entries refused: {refusal:?}", batch.failed);
    Ok(())
}

fn entry(number: u64) -> Flow {
    let mut flow = filled(number, Filling::Established { timeout: 431_000 });
    match number % RARE {
        0 => flow.mark = Some(Mark(MARK)),
        1 => {
            // Ports come again after some: the destination keeps the entries apart.
            let [.., a, b, c] = (number as u32 / RARE as u32).to_be_bytes();
            flow.original.source = IpAddr::V4(SOURCE);
            flow.original.destination = IpAddr::V4(Ipv4Addr::new(172, a, b, c));
            flow.reply = flow.original.inverted().unwrap_or_default();
        }
        _ => {}
    }
    flow
}

fn compare(entries: u64) -> anyhow::Result<()> {
    println!("{entries} entries; medians of {RUNS} runs in turns; per entry of the table");
    let own = ctkeeper_path();
    let own = |arguments: &[&str]| program(&own.to_string_lossy(), arguments);
    let this = std::env::current_exe()?;
    let mut whole = [
        Row::new("conntrack -L", program("conntrack", &["-L"])),
        Row::new("cat /proc/net/nf_conntrack", program("cat", &["/proc/net/nf_conntrack"])),
        Row::new("kernel's dump, headers only", program(&this.to_string_lossy(), &["--floor"])),
        Row::new("ctkeeper list -o text", own(&["list", "-o", "text"])),
        Row::new("ctkeeper list -o json", own(&["list", "-o", "json"])),
        Row::new("ctkeeper count --exact", own(&["count", "--exact"])),
    ];
    run(&mut whole, entries)?;
    let [peer, proc, floor, text, ..] = &whole;
    println!();
    ratio("user time of conntrack -L", text, peer, |cost| cost.user, 0.1);
    ratio("whole CPU of conntrack -L", text, peer, Cost::cpu, 0.52);
    ratio("whole CPU of cat /proc", text, proc, Cost::cpu, f64::NAN);
    ratio("whole CPU of the kernel's dump", text, floor, Cost::cpu, 1.1);
    println!();
    let source = SOURCE.to_string();
    let mut filtered = [
        Row::new("conntrack -L -s (1 %)", program("conntrack", &["-L", "-s", &source])),
        Row::new("ctkeeper list src (1 %)", own(&["list", "-o", "text", "src", &source])),
        Row::new("conntrack -L -m (1 %)", program("conntrack", &["-L", "-m", &MARK.to_string()])),
        Row::new(
            "ctkeeper list mark (1 %)",
            own(&["list", "-o", "text", "mark", &MARK.to_string()]),
        ),
        Row::new(
            "conntrack -L -s NET/24 (1 %)",
            program("conntrack", &["-L", "-s", "10.1.2.0/24"]),
        ),
        Row::new("ctkeeper list src NET/24 (1 %)", own(&["list", "-o", "text", "src 10.1.2.0/24"])),
    ];
    run(&mut filtered, entries)?;
    println!();
    for (pair, goal) in filtered.chunks_exact(2).zip([0.15, 0.15, 0.52]) {
        ratio(&format!("whole CPU of {}", pair[0].name), &pair[1], &pair[0], Cost::cpu, goal);
    }
    Ok(())
}

/// A program and what its runs cost.
struct Row {
    name: String,
    command: Command,
    runs: Vec<Cost>,
}

impl Row {
    fn new(name: &str, command: Command) -> Self {
        Self { name: name.to_owned(), command, runs: Vec::new() }
    }
}

fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

fn run(rows: &mut [Row], entries: u64) -> anyhow::Result<()> {
    for _ in 0..RUNS {
        for row in &mut *rows {
            row.runs.push(measure(&mut row.command, &[0])?);
        }
    }
    for row in rows {
        let each = |value: fn(&Cost) -> Duration| {
            median(&row.runs, value).as_secs_f64() * 1e9 / entries as f64
        };
        println!(
            "{:32} user {:5.0} ns  kernel {:5.0} ns  CPU {:5.0} ns  wall {:6.2} s  resident {}",
            row.name,
            each(|cost| cost.user),
            each(|cost| cost.kernel),
            each(Cost::cpu),
            median(&row.runs, |cost| cost.wall).as_secs_f64(),
            peak_resident(&mut row.command)?,
        );
    }
    Ok(())
}

fn ratio(name: &str, own: &Row, peer: &Row, value: fn(&Cost) -> Duration, goal: f64) {
    let ratio = median(&own.runs, value).as_secs_f64() / median(&peer.runs, value).as_secs_f64();
    let goal = if goal.is_nan() { String::new() } else { format!(" (goal {goal})") };
    println!("{:>24}: {ratio:.3} of the {name}{goal}", own.name);
}
