//! Whether the engine stays as it is: millions of connections held, others coming and expiring.
//!
//! `cargo run --release -p ctkeeper-bench --bin engine-soak -- [SECONDS [HELD [RATE]]]`
//!
//! HELD established TCP connections (10 million) stay and are spoken on at random. For SECONDS
//! (300) of real time RATE (100,000) connections a second begin beside them, UDP and half-open TCP
//! in turn, and expire 30 s later. A line every ten seconds; at the end three questions: are the
//! held ones all there, did memory stay flat once the first expired, and did no expired connection
//! keep its place longer than the collector's bound?

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_bench::{CHUNK, Kind, Numbers, Step, Traffic, pin, resident, thread_cpu};
use ctkeeper_engine::{
    Class, Config, Engine, Packet, Settings, TICKS_PER_SECOND, TcpTimeout, Ticks, Time,
};

/// How long a connection of the churn lives, seconds.
const LIFE: u32 = 30;
/// Packets come in bursts so far apart: the collector works when packets come.
const BURST: Duration = Duration::from_millis(5);
/// From then on memory is to stay as it is: the first have expired and been collected.
const SETTLED: Duration = Duration::from_secs(LIFE as u64 + 15);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u32| match arguments.next() {
        Some(text) => text.parse().with_context(|| format!("{text} is no number")),
        None => Ok(default),
    };
    let (seconds, held, rate) = (number(300)?, number(10_000_000)?, number(100_000)?);
    pin(1).or_else(|_| pin(0))?;
    let mut soak = Soak::new(held, rate)?;
    soak.fill()?;
    soak.churn(Duration::from_secs(seconds.into()))
}

struct Soak {
    engine: Engine,
    begin: Instant,
    held: u32,
    rate: u32,
    /// Connections of the churn so far.
    begun: u32,
    numbers: Numbers,
    traffic: [Traffic; 2],
}

/// Packets of one kind: of a step, for connections.
type Batch<'a> = &'a mut dyn Iterator<Item = (Step, u32)>;

impl Soak {
    fn new(held: u32, rate: u32) -> anyhow::Result<Self> {
        let room =
            rate.checked_mul(LIFE + 15).context("so many come that they cannot be counted")?;
        let limit = held.checked_add(room).context("more connections than can be counted")?;
        let config = Config { limit, ..Config::default() };
        let mut engine = Engine::new(config)?;
        let mut settings = Settings::default();
        settings.timeouts.udp = LIFE;
        settings.timeouts.tcp[TcpTimeout::SynSent as usize] = LIFE;
        // Nobody answers what is said on the held ones, which shortens them to five minutes else.
        for unanswered in [TcpTimeout::MaxRetrans, TcpTimeout::Unacknowledged] {
            settings.timeouts.tcp[unanswered as usize] =
                settings.timeouts.tcp[TcpTimeout::Established as usize];
        }
        engine.add_namespace(settings).context("no namespace")?;
        Ok(Self {
            engine,
            begin: Instant::now(),
            held,
            rate,
            begun: 0,
            numbers: Numbers::new(7),
            traffic: [Traffic::new(Kind::TCP), Traffic::new(Kind::UDP)],
        })
    }

    fn now(&self) -> Time {
        // Not from zero: expiry must not hang on the epoch.
        Time(1_000_000_000_000 + self.begin.elapsed().as_nanos() as u64)
    }

    /// Sends packets and counts those of each class that is wanted.
    fn send(&mut self, udp: bool, packets: Batch<'_>, wanted: Class) -> u32 {
        let now = self.now();
        let mut count = 0;
        let mut packets = packets.peekable();
        while packets.peek().is_some() {
            let made = self.traffic[usize::from(udp)].make(packets.by_ref().take(CHUNK));
            for packet in &made {
                count += u32::from(one(&mut self.engine, now, packet) == wanted);
            }
        }
        count
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let classes = [Class::New, Class::Established, Class::Established];
        let cpu = thread_cpu();
        for first in (0..self.held).step_by(CHUNK) {
            let last = self.held.min(first + CHUNK as u32);
            for (step, class) in Step::OPENING.into_iter().zip(classes) {
                let mut packets = (first..last).map(|connection| (step, connection));
                let sent = self.send(false, &mut packets, class);
                ensure!(sent == last - first, "{sent} of {} are {class:?}", last - first);
            }
        }
        println!(
            "{} established connections in {:.1} s, {} MiB resident, {} bytes each",
            self.held,
            thread_cpu().saturating_sub(cpu).as_secs_f64(),
            resident()? >> 20,
            resident()? / u64::from(self.held.max(1)),
        );
        Ok(())
    }

    fn churn(&mut self, length: Duration) -> anyhow::Result<()> {
        println!("SECONDS       BEGUN        LIVE  RESIDENT MiB  OVERDUE ms  CPU %");
        let (start, cpu) = (Instant::now(), thread_cpu());
        let (mut flat, mut next) = (None, Duration::from_secs(10));
        while start.elapsed() < length {
            self.burst(start.elapsed())?;
            if start.elapsed() >= next {
                next += Duration::from_secs(10);
                self.line(start, thread_cpu().saturating_sub(cpu))?;
            }
            if flat.is_none() && start.elapsed() >= SETTLED {
                flat = Some(resident()?);
            }
            std::thread::sleep(BURST);
        }
        self.verdict(flat)
    }

    /// What is due by now: new connections, and half as many packets on held ones.
    fn burst(&mut self, elapsed: Duration) -> anyhow::Result<()> {
        let due = (elapsed.as_secs_f64() * f64::from(self.rate)) as u32 - self.begun;
        for udp in [true, false] {
            let first = self.held + self.begun + if udp { 0 } else { due / 2 };
            let mut packets = (first..first + due / 2).map(|connection| (Step::OPEN, connection));
            let new = self.send(udp, &mut packets, Class::New);
            ensure!(new == due / 2, "{new} of {} begin", due / 2);
        }
        self.begun += due / 2 * 2;
        self.speak(due / 2)
    }

    /// Packets on held connections, of which every one must be known.
    fn speak(&mut self, packets: u32) -> anyhow::Result<()> {
        if self.held == 0 {
            return Ok(());
        }
        let connections: Vec<_> = (0..packets).map(|_| self.numbers.below(self.held)).collect();
        let mut steps = connections.into_iter().map(|connection| (Step::data(0), connection));
        let known = self.send(false, &mut steps, Class::Established);
        ensure!(known == packets, "{} of {packets} held connections are lost", packets - known);
        Ok(())
    }

    fn line(&self, start: Instant, cpu: Duration) -> anyhow::Result<()> {
        println!(
            "{:>7} {:>11} {:>11} {:>13} {:>11} {:>6.1}",
            start.elapsed().as_secs(),
            self.begun,
            self.engine.count(0),
            resident()? >> 20,
            overdue_ms(&self.engine),
            100.0 * cpu.as_secs_f64() / start.elapsed().as_secs_f64(),
        );
        Ok(())
    }

    fn verdict(&mut self, flat: Option<u64>) -> anyhow::Result<()> {
        for first in (0..self.held).step_by(CHUNK) {
            let last = self.held.min(first + CHUNK as u32);
            let mut packets = (first..last).map(|connection| (Step::data(0), connection));
            let known = self.send(false, &mut packets, Class::Established);
            ensure!(known == last - first, "{} held connections are lost", last - first - known);
        }
        println!("all {} held connections are there", self.held);
        let flat = flat.context("too short to tell whether memory stays flat: 45 s are needed")?;
        let grown = resident()? as f64 / flat as f64 - 1.0;
        println!("memory: {:+.2} % since the first expired", 100.0 * grown);
        ensure!(grown < 0.01, "memory grew");
        let bound = self.engine.config().sweep + Ticks(TICKS_PER_SECOND / 10);
        println!(
            "oldest expired connection that kept its place: {} ms over; bound {} ms",
            overdue_ms(&self.engine),
            self.engine.config().sweep.0 * 1000 / TICKS_PER_SECOND,
        );
        ensure!(self.engine.longest_overdue().0 <= bound.0, "it kept its place too long");
        Ok(())
    }
}

fn one(engine: &mut Engine, now: Time, packet: &Packet<'_>) -> Class {
    engine.packet(now, packet, &mut ()).class
}

fn overdue_ms(engine: &Engine) -> u32 {
    engine.longest_overdue().0 * 1000 / TICKS_PER_SECOND
}
