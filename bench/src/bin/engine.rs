//! What the engine costs a packet, a new connection and in memory, beside its bound and its peers.
//!
//! `cargo run --release -p ctkeeper-bench --bin engine -- [quick] [SECTION…]`, sections as in
//! [`SECTIONS`]
//!
//! From the bytes of a packet to the outcome: header, tuple, lookup, tracker with TCP's windows,
//! deadline, and the collector's share. Packets are real ones: TCP of 64 bytes with timestamps, each
//! side sending in turn; UDP of 40 bytes. A chunk of 2,048 is made outside the measured time, so
//! that its bytes are in the second level cache, as a network card's would be. Connections differ
//! in address and in port, and come in random order. CPU time of the thread, on one processor;
//! medians of several runs. Peers' figures are quoted with where they were measured: nothing of
//! theirs runs here.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_bench::{
    CHUNK, Kind, PerItem, Step, Traffic, pin, resident, shuffled, summary, thread_cpu,
};
use ctkeeper_engine::bound::{BATCH, Bound};
use ctkeeper_engine::{Class, Config, Engine, Mode, Outcome, Settings, Time, Verdict};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "quick");
    let scale = if quick { Scale::QUICK } else { Scale::FULL };
    let wanted: Vec<_> = arguments.iter().filter(|argument| *argument != "quick").collect();
    pin(LAST).or_else(|_| pin(0))?;
    println!("ns an item: median of {} runs (best)", scale.runs);
    println!(
        "peer: Open vSwitch's userspace tracker (d6a632a9), batch 32, UDP, no expiry; quoted from"
    );
    println!("an idle machine of another kind (AMD Zen 3), not run here");
    for (name, section) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name) {
            println!();
            section(&scale)?;
        }
    }
    Ok(())
}

/// A part of the table.
type Section = fn(&Scale) -> anyhow::Result<()>;

/// Memory first: what others have given back would hide what is taken.
const SECTIONS: [(&str, Section); 6] = [
    ("memory", memory),
    ("hot", |scale| packets(scale, &ROWS[..1])),
    ("random", |scale| packets(scale, &ROWS[1..])),
    ("prices", prices),
    ("churn", churn),
    ("threads", threads),
];

/// A row of packets: name, connections, what the peer takes, what is wanted.
type Row = (&'static str, u32, &'static str, u32);

const ROWS: [Row; 4] = [
    ("hot connection", 1, "110-135", 25),
    ("random over 64 Ki", 1 << 16, "426-472", 35),
    ("random over 1 M", 1_000_000, "666-767", 60),
    ("random over 10 M", 10_000_000, "-", 90),
];

/// The processor that is measured.
const LAST: usize = 1;

/// How much is done.
#[derive(Clone, Copy)]
struct Scale {
    runs: usize,
    most: u32,
}

impl Scale {
    const FULL: Self = Self { runs: 7, most: 10_000_000 };
    const QUICK: Self = Self { runs: 3, most: 1_000_000 };
}

/// Packets of established TCP connections, by the number of connections.
fn packets(scale: &Scale, rows: &[Row]) -> anyhow::Result<()> {
    println!(
        "{:20} {:>13} {:>13} {:>13} {:>13} {:>13} {:>8} {:>5}",
        "TCP packet, IPv4",
        "fast, batch",
        "fast, single",
        "exact, batch",
        "exact, single",
        "bound",
        "peer",
        "goal"
    );
    for &(name, connections, peer, goal) in rows {
        if connections > scale.most {
            continue;
        }
        let bound = bound(connections, scale.runs)?;
        let mut costs = Vec::new();
        for mode in [Mode::Fast, Mode::Exact] {
            let mut table = Table::established(mode, Kind::TCP, connections, Settings::default())?;
            for by_batch in [true, false] {
                costs.push(show(table.packets(by_batch, scale.runs)?));
            }
        }
        println!(
            "{name:20} {:>13} {:>13} {:>13} {:>13} {:>13} {peer:>8} {goal:>5}",
            costs[0],
            costs[1],
            costs[2],
            costs[3],
            show(bound)
        );
    }
    println!("bound: hash, index and record alone, by batches, tuples made ({BATCH} at once)");
    Ok(())
}

/// What else a packet may cost: a million connections, by batches.
fn prices(scale: &Scale) -> anyhow::Result<()> {
    const CONNECTIONS: u32 = 1_000_000;
    let accounting = Settings { accounting: true, ..Settings::default() };
    let rows = [
        ("TCP, IPv4", Kind::TCP, Settings::default()),
        ("UDP, IPv4", Kind::UDP, Settings::default()),
        ("TCP, IPv6", Kind { wide: true, ..Kind::TCP }, Settings::default()),
        ("UDP, IPv6", Kind { wide: true, ..Kind::UDP }, Settings::default()),
        ("TCP, IPv4, checksum", Kind { unverified: true, ..Kind::TCP }, Settings::default()),
        ("TCP, IPv4, accounting", Kind::TCP, accounting),
    ];
    println!("{:24} {:>13} {:>13}", "random over 1 M, batch", "fast", "exact");
    for (name, kind, settings) in rows {
        let mut costs = Vec::new();
        for mode in [Mode::Fast, Mode::Exact] {
            let mut table = Table::established(mode, kind, CONNECTIONS, settings.clone())?;
            costs.push(show(table.packets(true, scale.runs)?));
        }
        println!("{name:24} {:>13} {:>13}", costs[0], costs[1]);
    }
    Ok(())
}

/// New connections and the expiry of old ones, a million live: as many come as expire.
fn churn(scale: &Scale) -> anyhow::Result<()> {
    const LIVE: u32 = 1_000_000;
    println!(
        "{:24} {:>13} {:>13} {:>8} {:>5}",
        "new and its expiry, 1 M", "fast", "exact", "peer", "goal"
    );
    for (name, kind, seconds) in [("UDP, IPv4", Kind::UDP, 30), ("TCP, IPv4 (SYN)", Kind::TCP, 120)]
    {
        let mut costs = Vec::new();
        for mode in [Mode::Fast, Mode::Exact] {
            costs.push(show(churn_of(mode, kind, LIVE, seconds, scale.runs)?));
        }
        println!("{name:24} {:>13} {:>13} {:>8} {:>5}", costs[0], costs[1], "963", 200);
    }
    println!("peer: without expiry");
    Ok(())
}

fn churn_of(
    mode: Mode,
    kind: Kind,
    live: u32,
    seconds: u64,
    runs: usize,
) -> anyhow::Result<PerItem> {
    // So many come while one lives that `live` are there at a time.
    let gap = seconds * 1_000_000_000 / u64::from(live);
    let config = Config { mode, limit: 0, capacity: live * 2, buckets: live, ..Config::default() };
    let mut table = Table::empty(config, kind, Settings::default())?;
    table.gap = gap;
    let mut next = 0;
    // Twice a lifetime: what comes first has gone.
    let mut open = |table: &mut Table, count: u32| {
        let cost = table.pass(Step::OPEN, next..next + count, true, Class::New);
        next += count;
        cost
    };
    open(&mut table, live * 2)?;
    let costs = (0..runs).map(|_| open(&mut table, live)).collect::<anyhow::Result<Vec<_>>>()?;
    let held = table.engine.count(0);
    // Expired ones may wait for the collector, not for ever.
    ensure!((live..live * 3 / 2).contains(&held), "{held} connections instead of {live}");
    summary(costs.into_iter().map(|cost| cost.as_nanos() as f64 / f64::from(live)).collect())
}

/// Bytes of memory a connection, by what the process holds.
fn memory(scale: &Scale) -> anyhow::Result<()> {
    let tcp6 = Kind { wide: true, ..Kind::TCP };
    let rows = [
        ("UDP, IPv4", Kind::UDP, 1_000_000, "353-370", 80),
        ("TCP, IPv4", Kind::TCP, 10_000_000, "kernel 384", 144),
        ("TCP, IPv6", tcp6, 1_000_000, "kernel 384", 0),
    ];
    println!(
        "{:24} {:>13} {:>13} {:>10} {:>5}",
        "bytes a connection", "fast", "exact", "peer", "goal"
    );
    for (name, kind, connections, peer, goal) in rows {
        let connections = connections.min(scale.most);
        let mut bytes = Vec::new();
        for mode in [Mode::Fast, Mode::Exact] {
            let before = resident()?;
            let table = Table::established(mode, kind, connections, Settings::default())?;
            bytes.push(resident()?.saturating_sub(before) as f64 / f64::from(connections));
            drop(table);
        }
        println!(
            "{name:14} {connections:>9} {:>13.1} {:>13.1} {peer:>10} {goal:>5}",
            bytes[0], bytes[1]
        );
    }
    Ok(())
}

/// Two engines on two processors, each with half of the connections.
fn threads(scale: &Scale) -> anyhow::Result<()> {
    for (name, wall) in [("wall time", true), ("CPU time", false)] {
        let one = rate(scale, &[LAST], wall)?;
        let two = rate(scale, &[0, LAST], wall)?;
        println!(
            "1 M TCP connections, {name}: one processor {one:.1} M packets/s, two {two:.1} M: {:.2} \
             times (goal 1.9)",
            two / one
        );
    }
    println!("wall time is fair on an idle machine only; CPU time leaves out what others took");
    Ok(())
}

/// Million packets a second of an engine on each of some processors.
fn rate(scale: &Scale, processors: &[usize], wall: bool) -> anyhow::Result<f64> {
    const CONNECTIONS: u32 = 1_000_000;
    let each = CONNECTIONS / processors.len() as u32;
    let barrier = std::sync::Barrier::new(processors.len());
    let one = |processor| -> anyhow::Result<f64> {
        pin(processor)?;
        let table = Table::established(Mode::Fast, Kind::TCP, each, Settings::default());
        barrier.wait();
        let mut table = table?;
        table.wall = wall;
        Ok(1e3 / table.packets(true, scale.runs)?.median)
    };
    let one = &one;
    let rates = std::thread::scope(|scope| {
        let threads: Vec<_> =
            processors.iter().map(|&processor| scope.spawn(move || one(processor))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    rates.into_iter().sum()
}

/// An engine and the traffic through it.
struct Table {
    engine: Engine,
    traffic: Traffic,
    now: u64,
    /// Virtual time between two packets.
    gap: u64,
    /// Wall time is measured instead of the thread's.
    wall: bool,
    outcomes: Vec<Outcome>,
    order: Vec<u32>,
    sent: u32,
}

impl Table {
    fn empty(config: Config, kind: Kind, settings: Settings) -> anyhow::Result<Self> {
        let mut engine = Engine::new(config)?;
        engine.add_namespace(settings).context("no namespace")?;
        let traffic = Traffic::new(kind);
        let (now, outcomes) = (1_000_000_000, Vec::with_capacity(BATCH));
        let order = Vec::new();
        Ok(Self { engine, traffic, now, gap: 50, wall: false, outcomes, order, sent: 0 })
    }

    /// With so many established connections, each of which both sides have sent data on.
    fn established(
        mode: Mode,
        kind: Kind,
        connections: u32,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let buckets = connections.max(1024);
        let config = Config { mode, limit: 0, capacity: buckets, buckets, ..Config::default() };
        let mut table = Self::empty(config, kind, settings)?;
        let classes = [Class::New, Class::Established, Class::Established];
        for (step, class) in Step::OPENING.into_iter().zip(classes) {
            // Long enough for a UDP stream.
            table.now += 1_500_000_000;
            table.pass(step, 0..connections, true, class)?;
        }
        table.order = shuffled(connections, 7);
        Ok(table)
    }

    /// Data packets of all connections, or as many of the only one.
    fn packets(&mut self, by_batch: bool, runs: usize) -> anyhow::Result<PerItem> {
        let order = std::mem::take(&mut self.order);
        let costs = (0..runs).map(|_| self.data(&order, by_batch)).collect::<Result<_, _>>();
        self.order = order;
        summary(costs?)
    }

    fn data(&mut self, order: &[u32], by_batch: bool) -> anyhow::Result<f64> {
        const LEAST: usize = 1 << 20;
        let mut cost = Duration::ZERO;
        let mut packets = 0;
        if let [only] = order {
            let from = self.sent;
            let steps = (from..from + LEAST as u32).map(|number| (Step::data(number), *only));
            cost = self.through(steps, by_batch, Class::Established)?;
            (packets, self.sent) = (LEAST, from + LEAST as u32);
        }
        while packets < LEAST {
            let step = Step::data(self.sent);
            cost += self.pass(step, order.iter().copied(), by_batch, Class::Established)?;
            packets += order.len();
            self.sent += 1;
        }
        Ok(cost.as_nanos() as f64 / packets as f64)
    }

    /// One packet of each connection.
    fn pass(
        &mut self,
        step: Step,
        connections: impl Iterator<Item = u32>,
        by_batch: bool,
        class: Class,
    ) -> anyhow::Result<Duration> {
        self.through(connections.map(|connection| (step, connection)), by_batch, class)
    }

    /// Takes packets through the engine, measures it alone, and makes sure of the outcomes.
    fn through(
        &mut self,
        packets: impl Iterator<Item = (Step, u32)>,
        by_batch: bool,
        class: Class,
    ) -> anyhow::Result<Duration> {
        let mut packets = packets.peekable();
        let mut cost = Duration::ZERO;
        while packets.peek().is_some() {
            let chunk = self.traffic.make(packets.by_ref().take(CHUNK));
            let clock = Clock::start(self.wall);
            let mut good = 0;
            for batch in chunk.chunks(BATCH) {
                let now = Time(self.now);
                self.outcomes.clear();
                if by_batch {
                    self.engine.batch(now, batch, &mut (), &mut self.outcomes);
                } else {
                    for packet in batch {
                        self.outcomes.push(self.engine.packet(now, packet, &mut ()));
                    }
                }
                good += self.outcomes.iter().filter(|outcome| is(outcome, class)).count();
                self.now += self.gap * BATCH as u64;
            }
            cost += clock.elapsed();
            let others = self.outcomes.iter().find(|outcome| !is(outcome, class));
            ensure!(good == chunk.len(), "{good} of {} packets {class:?}: {others:?}", chunk.len());
        }
        Ok(cost)
    }
}

fn is(outcome: &Outcome, class: Class) -> bool {
    outcome.class == class && outcome.verdict == Verdict::Accept
}

/// One of two clocks.
enum Clock {
    Wall(Instant),
    Thread(Duration),
}

impl Clock {
    fn start(wall: bool) -> Self {
        if wall { Self::Wall(Instant::now()) } else { Self::Thread(thread_cpu()) }
    }

    fn elapsed(&self) -> Duration {
        match self {
            Self::Wall(start) => start.elapsed(),
            Self::Thread(start) => thread_cpu().saturating_sub(*start),
        }
    }
}

/// The table's memory alone, for as many TCP connections.
fn bound(connections: u32, runs: usize) -> anyhow::Result<PerItem> {
    let mut bound = Bound::new(connections.max(1024))?;
    for number in 0..connections {
        ensure!(bound.insert(&Kind::TCP.tuple(number)), "no place for {number}");
    }
    let order = shuffled(connections, 7);
    let order: Vec<_> = order.into_iter().cycle().take(connections.max(1 << 20) as usize).collect();
    let (batches, _) = order.as_chunks::<BATCH>();
    let costs = (0..runs as u32).map(|tick| {
        let start = thread_cpu();
        let tuples = |batch: &[u32; BATCH]| batch.map(|number| Kind::TCP.tuple(number));
        let found: usize =
            batches.iter().map(|batch| bound.touch_batch(&tuples(batch), tick)).sum();
        let cost = thread_cpu().saturating_sub(start);
        ensure!(found == batches.len() * BATCH, "{found} found");
        Ok(cost.as_nanos() as f64 / found as f64)
    });
    summary(costs.collect::<Result<_, _>>()?)
}

fn show(cost: PerItem) -> String {
    format!("{:.1} ({:.1})", cost.median, cost.best)
}
