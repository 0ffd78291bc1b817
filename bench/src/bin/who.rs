//! `ctkeeper who` of a table whose holders are known, beside what people run today and beside the
//! bare cost of the kernel's dump.
//!
//! `cargo build --release && cargo run --release -p ctkeeper-bench --bin who -- [ENTRIES [NAMESPACES]]`
//!
//! Makes a host and twelve containers behind it, each a namespace with a process in a control group as
//! Docker names them; fills the host's table by netlink to so many entries (262,144, within what leaves
//! the host unharmed), held by them in known shares; and measures, in turns, the sampled answer, the
//! exact one, `conntrack -L | awk | sort | uniq -c` and the bare dump. Each sampled answer is held
//! against the truth, over several tables: each table is a new draw. Then so many namespaces of one
//! container each (300), with entries of their own, cold.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_bench::{Cost, measure, median};
use ctkeeper_flow::{Flow, Protocol, ProtocolState, Status, TcpState, Tuple};
use ctkeeper_netlink::netns;
use ctkeeper_snapshot::{Counted, Holder, Value, Who};
use ctkeeper_tests::{
    Filling, HostValues, NamedGroup, Namespace, ctkeeper, ctkeeper_path, ensure_harmless, fill, run,
};

const RUNS: usize = 11;
/// Runs of what takes seconds.
const FEW: usize = 3;
/// Tables: the sample of one table is always the same.
const TABLES: u64 = 5;
/// Of 1,000 entries, those of each container; the rest passes through.
const SHARES: [u64; 12] = [310, 180, 120, 80, 60, 51, 40, 30, 20, 10, 5, 4];
const ENTRIES_OF_EACH: u64 = 100;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|argument| argument == "--floor") {
        return ctkeeper_bench::walk_headers();
    }
    let entries = number(arguments.next(), 262_144)?;
    let namespaces = number(arguments.next(), 300)?;
    let _host = HostValues::lock()?;
    if entries > 0 {
        one_table(entries)?;
    }
    if namespaces > 0 {
        many_namespaces(namespaces)?;
    }
    Ok(())
}

fn number(argument: Option<String>, default: u64) -> anyhow::Result<u64> {
    argument.map_or(Ok(default), |text| text.parse().with_context(|| text.clone()))
}

fn one_table(entries: u64) -> anyhow::Result<()> {
    let site = Site::build()?;
    let mut worst = Worst::default();
    println!("{entries} entries of a host and {} containers", SHARES.len());
    for table in 0..TABLES {
        site.fill(entries, table)?;
        worst.hold_against(&site, entries)?;
        if table + 1 < TABLES {
            site.host.conntrack()?.flush()?;
        }
    }
    println!(
        "over {TABLES} tables: holders above 5 %: worst error {:.2} points (goal 1), {} of {} \
         intervals hold the truth; exact: {} wrong; sampled {} entries, {:.0} ms elapsed",
        worst.points,
        worst.covered,
        worst.intervals,
        worst.exact_wrong,
        worst.sampled,
        worst.elapsed,
    );
    compare(&site, entries)
}

/// A container as it looks from the host: a namespace behind a link, a process, a group.
struct Container {
    id: String,
    address: Ipv4Addr,
    _process: Ended,
    link: Option<ctkeeper_lab::Link>,
    _group: NamedGroup,
    namespace: Namespace,
}

/// A process that ends with its guard.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Container {
    fn build(namespace: Namespace, number: u64) -> anyhow::Result<Self> {
        let id = format!("{:064x}", 0x5eed_0000_0000_0000_u64 + number);
        let group = NamedGroup::create(&format!("docker/{id}"))?;
        let mut command = namespace.command("sleep");
        let process = Ended(command.arg("100000").stdout(Stdio::null()).spawn()?);
        group.add(process.0.id())?;
        let address = Ipv4Addr::from(0x0a5a_0002 + (number as u32) * 256);
        Ok(Self { id, address, _process: process, link: None, _group: group, namespace })
    }
}

struct Site {
    containers: Vec<Container>,
    host: Namespace,
}

impl Site {
    fn build() -> anyhow::Result<Self> {
        let host = Namespace::create()?;
        let mut containers = Vec::new();
        for number in 0..SHARES.len() as u64 {
            let mut container = Container::build(Namespace::create()?, number)?;
            let own = format!("{}/24", container.address);
            let gateway = format!("{}/24", Ipv4Addr::from(u32::from(container.address) - 1));
            let name = format!("veth{number}");
            let end = |namespace, interface, addresses| ctkeeper_lab::End {
                namespace,
                interface,
                addresses,
            };
            container.link = Some(ctkeeper_lab::Link::create(
                end(&container.namespace, "eth0", &[&own]),
                end(&host, &name, &[&gateway]),
            )?);
            containers.push(container);
        }
        Ok(Self { containers, host })
    }

    fn fill(&self, entries: u64, table: u64) -> anyhow::Result<()> {
        ensure_harmless(entries)?;
        let mut refusal = None;
        let flows = (0..entries).map(|number| self.entry(number, table));
        let batch = self.host.conntrack()?.create_batch(flows, |at, error| {
            refusal.get_or_insert((at, error));
            ControlFlow::Continue(())
        })?;
        ensure!(batch.failed == 0, "{} of {entries} entries refused: {refusal:?}", batch.failed);
        Ok(())
    }

    /// Half of a container's go out by masquerade, half come in by a published port.
    fn entry(&self, number: u64, table: u64) -> Flow {
        let host = IpAddr::V4(Ipv4Addr::new(10, 91, 0, 1));
        let [.., a, b, c] = (number as u32 / 4 + table as u32 * 0x0020_0000).to_be_bytes();
        let outside = IpAddr::V4(Ipv4Addr::new(100, a, b, c));
        let port = 20_000 + (number % 40_000) as u16;
        let ports = |source, destination| Tuple::with_ports(Protocol::TCP, source, destination);
        let (original, reply) = match self.holder(number) {
            None => {
                let to = (IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 443);
                (ports((outside, port), to), ports(to, (outside, port)))
            }
            Some(container) if number.is_multiple_of(2) => {
                let from = IpAddr::V4(container.address);
                (ports((from, port), (outside, 443)), ports((outside, 443), (host, port)))
            }
            Some(container) => {
                let to = IpAddr::V4(container.address);
                (ports((outside, port), (host, 8080)), ports((to, 80), (outside, port)))
            }
        };
        Flow {
            original,
            reply,
            status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED,
            state: ProtocolState::tcp(TcpState::Established),
            timeout: Some(431_000),
            ..Flow::default()
        }
    }

    fn holder(&self, number: u64) -> Option<&Container> {
        // Pairs, so that either direction has the same shares.
        let mut place = number / 2 % 1000;
        for (container, share) in self.containers.iter().zip(SHARES) {
            match place.checked_sub(share) {
                None => return Some(container),
                Some(rest) => place = rest,
            }
        }
        None
    }

    /// How many entries a container has.
    fn truth(&self, id: &str, entries: u64) -> u64 {
        let is_own = |container: &&Container| container.id == id;
        (0..entries).filter(|&number| self.holder(number).as_ref().is_some_and(is_own)).count()
            as u64
    }
}

/// How far the answers were from the truth.
#[derive(Default)]
struct Worst {
    points: f64,
    covered: u64,
    intervals: u64,
    exact_wrong: u64,
    sampled: u64,
    elapsed: f64,
}

impl Worst {
    fn hold_against(&mut self, site: &Site, entries: u64) -> anyhow::Result<()> {
        let inode = site.host.inode()?;
        let (sampled, exact) = (ask(&[])?, ask(&["--exact"])?);
        let table = sampled.tables.iter().find(|table| table.inode == inode);
        if let Some(Counted::Sampled { entries }) = table.map(|table| table.counted) {
            self.sampled = entries;
        }
        self.elapsed = sampled.elapsed_ms;
        for container in &site.containers {
            let truth = site.truth(&container.id, entries) as f64;
            let of = |who: &Who| figure(who, &container.id, inode).unwrap_or((0.0, 0.0, 0.0));
            let (value, low, high) = of(&sampled);
            self.exact_wrong += u64::from((of(&exact).0 - truth).abs() > 0.5);
            if truth > 0.05 * entries as f64 {
                self.points = self.points.max((value - truth).abs() / entries as f64 * 100.0);
                self.intervals += 1;
                self.covered += u64::from((low..=high).contains(&truth));
            }
        }
        Ok(())
    }
}

fn ask(arguments: &[&str]) -> anyhow::Result<Who> {
    let output = run(ctkeeper(&["who", "--json", "--top", "1000"]).args(arguments))?;
    serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
}

fn figure(who: &Who, id: &str, inode: u64) -> Option<(f64, f64, f64)> {
    let row = who.rows.iter().find(|row| {
        matches!(row.values.first(),
            Some(Value::Holder(Holder::Container(container))) if container.id == id)
    })?;
    let part = row.parts.iter().find(|part| part.inode == inode)?;
    Some((part.entries.value, part.entries.low, part.entries.high))
}

fn compare(site: &Site, entries: u64) -> anyhow::Result<()> {
    let own = |arguments: &[&str]| {
        let mut command = Command::new(ctkeeper_path());
        command.args(arguments);
        command
    };
    let name = site.host.name();
    let this = std::env::current_exe()?;
    let today = "conntrack -L 2>/dev/null | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^src=/) \
                 { print $i; next } }' | sort | uniq -c | sort -rn | head";
    let inside = |command: Command| -> anyhow::Result<Command> {
        let mut entered = Command::new("nsenter");
        entered.arg(format!("--net={}", site.host.path().display()));
        entered.arg(command.get_program()).args(command.get_args());
        Ok(entered)
    };
    let mut shell = Command::new("sh");
    shell.args(["-c", today]);
    let mut floor = Command::new(this);
    floor.arg("--floor");
    let rows = [
        Row::run("ctkeeper who", own(&["who"]), RUNS)?,
        Row::run("ctkeeper who --netns HOST", own(&["who", "--netns", name]), RUNS)?,
        Row::run(
            "ctkeeper who --exact --netns HOST",
            own(&["who", "--exact", "--netns", name]),
            FEW,
        )?,
        Row::run("kernel's dump, headers only", inside(floor)?, FEW)?,
        Row::run("conntrack -L | awk | sort | uniq -c", inside(shell)?, FEW)?,
    ];
    for row in &rows {
        row.print(entries);
    }
    let [all, one, exact, floor, today] = rows.map(|row| row.cpu());
    println!();
    println!(
        "sampled, every namespace: {:.1} ms of CPU (goal 70 at 262,144, 91 at 2,000,000)",
        all * 1e3
    );
    println!("sampled, this namespace: {:.1} ms of CPU", one * 1e3);
    println!("exact: {:.2} times the dump (goal 1.3)", exact / floor);
    println!("what people run today takes {:.0} times the CPU of the sampled answer", today / all);
    println!("and {:.1} times that of the exact one", today / exact);
    Ok(())
}

struct Row {
    name: String,
    runs: Vec<Cost>,
}

impl Row {
    fn run(name: &str, mut command: Command, times: usize) -> anyhow::Result<Self> {
        measure(&mut command, &[0])?;
        let runs = (0..times).map(|_| measure(&mut command, &[0])).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), runs })
    }

    fn cpu(&self) -> f64 {
        median(&self.runs, Cost::cpu).as_secs_f64()
    }

    fn print(&self, entries: u64) {
        let milliseconds = |value: fn(&Cost) -> Duration| {
            format!("{:8.1} ms", median(&self.runs, value).as_secs_f64() * 1000.0)
        };
        println!(
            "{:36} wall {}  cpu {}  user {}  kernel {}  {:5.0} ns of CPU an entry",
            self.name,
            milliseconds(|cost| cost.wall),
            milliseconds(Cost::cpu),
            milliseconds(|cost| cost.user),
            milliseconds(|cost| cost.kernel),
            self.cpu() * 1e9 / entries as f64,
        );
    }
}

/// Namespaces of one container each: none of them is dumped.
fn many_namespaces(namespaces: u64) -> anyhow::Result<()> {
    let mut containers = Vec::new();
    for (number, namespace) in Namespace::create_many(namespaces as u32)?.into_iter().enumerate() {
        fill(&namespace, 0, ENTRIES_OF_EACH, Filling::Established { timeout: 431_000 })?;
        containers.push(Container::build(namespace, 1000 + number as u64)?);
    }
    println!("\n{namespaces} namespaces of one container each, {ENTRIES_OF_EACH} entries in each");
    let who = ask(&[])?;
    let owned = who.tables.iter().filter(|table| table.counted == Counted::Owned).count();
    let wrong = containers.iter().filter(|container| {
        let inode =
            netns::Namespace::open(&netns::NamespaceSelector::Path(container.namespace.path()))
                .map_or(0, |namespace| namespace.inode());
        let found = figure(&who, &container.id, inode).unwrap_or_default();
        found.0 as u64 != ENTRIES_OF_EACH
    });
    println!("{owned} owned, {} containers with another count than theirs", wrong.count());
    let mut whole = Command::new(ctkeeper_path());
    whole.arg("who");
    let row = Row::run("ctkeeper who", whole, RUNS)?;
    row.print(namespaces * ENTRIES_OF_EACH);
    println!("cold: {:.1} ms of CPU (goal 150)", row.cpu() * 1e3);
    Ok(())
}
