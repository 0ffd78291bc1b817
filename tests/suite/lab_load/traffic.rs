//! What works: every sort of traffic does what its profile says, and is counted.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::ensure;
use ctkeeper_lab::load::{
    Closing, Exchange, Held, Http, PortRange, Profile, Report, Service, Short, Sources, Traffic,
};

use crate::ground::{CLIENTS, Ground, SERVER, profile, served_open, settle, show};

const ECHO: Exchange = Exchange::Echo { bytes: 100 };

fn held(exchange: Option<Exchange>) -> Traffic {
    Traffic::TcpHeld(Held { exchange, ..Held::default() })
}

/// Fails unless so many arrivals began and all of them succeeded.
fn ensure_all(report: &Report, count: u64) -> anyhow::Result<()> {
    ensure!(report.started == count && report.due == count, "{report:?}");
    ensure!(report.succeeded == count && report.failed == 0, "{report:?}");
    Ok(())
}

pub(crate) fn held_connections_stay() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::TcpEcho {}, "0.0.0.0:7")?;
    let load = ground.start(&profile(held(Some(ECHO)), "10.99.0.2:7", 500)?)?;
    settle(&load)?;
    let opened = load.mark();
    ensure_all(&opened, 500)?;
    ensure!(opened.open == 500 && opened.connect.count == 500, "{opened:?}");
    served_open(&server, 500)?;

    load.probe(None);
    settle(&load)?;
    let probed = load.mark();
    show(&probed);
    ensure!(probed.probes.sent == 500 && probed.probes.ok == 500, "{probed:?}");
    ensure!(probed.probes.latency.count == 500 && probed.started == 0, "{probed:?}");

    load.probe(Some(20));
    settle(&load)?;
    ensure!(load.mark().probes.ok == 20);

    let whole = load.stop(Closing::Close);
    ensure_all(&whole, 500)?;
    ensure!(whole.probes.ok == 520 && whole.lost.is_empty() && whole.open == 0, "{whole:?}");
    Ok(())
}

pub(crate) fn held_connections_leave_when_told() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::Http { body_bytes: 500 }, "0.0.0.0:80")?;
    let held = Held {
        exchange: Some(Exchange::Http { path: "/".to_owned() }),
        greet: true,
        probe_every: Some(Duration::from_millis(200)),
        stay: Duration::from_secs(1),
    };
    let load = ground.start(&profile(Traffic::TcpHeld(held), "10.99.0.2:80", 50)?)?;
    settle(&load)?;
    ensure!(load.report().answer.count == 50, "{:?}", load.report());
    std::thread::sleep(Duration::from_millis(1300));
    let report = load.report();
    show(&report);
    ensure_all(&report, 50)?;
    // Four fit for certain; a fifth may meet the end.
    ensure!((200..=250).contains(&report.probes.ok), "{report:?}");
    ensure!(report.open == 0 && report.lost.is_empty() && server.served().open == 0, "{report:?}");
    Ok(())
}

pub(crate) fn short_connections_come_and_go() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::TcpEcho {}, "0.0.0.0:7")?;
    for (exchange, reset) in [(None, false), (Some(ECHO), false), (Some(ECHO), true)] {
        let answers = if exchange.is_some() { 300 } else { 0 };
        let traffic = Traffic::TcpShort(Short { exchange, reset });
        let report = ground.run(&profile(traffic, "10.99.0.2:7", 300)?)?;
        ensure_all(&report, 300)?;
        ensure!(report.connect.count == 300 && report.answer.count == answers, "{report:?}");
        ensure!(report.open == 0, "{report:?}");
    }
    ensure!(server.served().accepted == 900, "{:?}", server.served());
    // Those that closed wait; those that reset do not.
    let waiting = ground.clients.run("ss", &["-Htan", "state", "time-wait"])?;
    ensure!(waiting.lines().count() == 600, "{} in TIME_WAIT", waiting.lines().count());
    Ok(())
}

pub(crate) fn http_both_ways() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::Http { body_bytes: 20_000 }, "0.0.0.0:80")?;
    let http = |connections| Traffic::Http(Http { connections, ..Http::default() });
    let report = ground.run(&profile(http(Some(5)), "10.99.0.2:80", 1000)?)?;
    ensure_all(&report, 1000)?;
    ensure!(report.answer.count == 1000 && report.connect.count <= 5, "{report:?}");
    ensure!(server.served().accepted == report.connect.count, "{:?}", server.served());

    let report = ground.run(&profile(http(None), "10.99.0.2:80", 400)?)?;
    ensure_all(&report, 400)?;
    ensure!(report.answer.count == 400 && report.connect.count == 400, "{report:?}");
    ensure!(server.served().requests == 1400, "{:?}", server.served());
    Ok(())
}

pub(crate) fn sources_and_targets() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let ports: Vec<_> = (8000..8004).map(|port| format!("{SERVER}:{port}")).collect();
    let servers = ports.iter().map(|address| ground.serve(Service::TcpHold {}, address));
    let servers = servers.collect::<Result<Vec<_>, _>>()?;
    let mut profile = profile(held(None), "10.99.0.2:8000-8003", 400)?;
    profile.sources =
        Some(Sources { first: CLIENTS.parse()?, count: 10, ports: PortRange::new(30_000, 30_039) });
    let load = ground.start(&profile)?;
    settle(&load)?;
    ensure_all(&load.report(), 400)?;
    for server in &servers {
        served_open(server, 100)?;
    }
    let table = ground.clients.run("ss", &["-Htn", "state", "established"])?;
    let column = |line: &str, at: usize| line.split_whitespace().nth(at).map(str::to_owned);
    let own: HashSet<_> = table.lines().filter_map(|line| column(line, 2)).collect();
    ensure!(own.len() == 400, "{} sources", own.len());
    ensure!(own.contains("10.99.16.0:30000") && own.contains("10.99.16.9:30039"), "{own:?}");
    let pairs: HashSet<_> = table
        .lines()
        .filter_map(|line| {
            let (source, target) = (column(line, 2)?, column(line, 3)?);
            Some((source.split(':').next()?.to_owned(), target))
        })
        .collect();
    ensure!(pairs.len() == 40, "every source meets every target: {pairs:?}");
    Ok(())
}

pub(crate) fn ipv6() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::Http { body_bytes: 3 }, "[::]:80")?;
    let mut profile = profile(Traffic::Http(Http::default()), "[fd99::2]:80", 200)?;
    profile.sources = Some(Sources::range("fd98::10".parse()?, 16));
    ensure_all(&ground.run(&profile)?, 200)?;
    ensure!(server.served().requests == 200);
    // Whoever closed first keeps the connection in TIME_WAIT.
    let mut sources = ground.clients.run("ss", &["-H6tan", "src", "fd98::/64"])?;
    sources += &ground.servers.run("ss", &["-H6tan", "dst", "fd98::/64"])?;
    ensure!(sources.contains("fd98::1f"), "the last source is not among {sources:?}");
    Ok(())
}

/// One connection, and a target that is stopped for half a second: arrivals go on, and those that
/// waited are seen to have waited.
pub(crate) fn a_slow_target_does_not_slow_the_load() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::Http { body_bytes: 3 }, "0.0.0.0:80")?;
    let http = Http { connections: Some(1), ..Http::default() };
    let mut profile = profile(Traffic::Http(http), "10.99.0.2:80", 500)?;
    profile.rate = 250.0;
    profile.answer_timeout = Duration::from_secs(3);
    let load = ground.start(&profile)?;
    std::thread::sleep(Duration::from_millis(500));
    // Nothing passes: retransmissions come after 200 ms and then 400.
    ground.drop_at_servers("tcp dport 80")?;
    std::thread::sleep(Duration::from_millis(500));
    ground.drop_nothing()?;
    settle(&load)?;
    let report = load.report();
    show(&report);
    ensure_all(&report, 500)?;
    ensure!(report.late_share() < 0.2, "the generator itself was late: {report:?}");
    // A closed loop would have seen one slow answer; here a quarter of them were.
    ensure!(report.answer.p50 < Duration::from_millis(50), "{report:?}");
    ensure!(report.answer.p99 > Duration::from_millis(450), "{report:?}");
    ensure!(server.served().requests == 500, "{:?}", server.served());
    Ok(())
}

pub(crate) fn the_rate_changes() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let _server = ground.serve(Service::TcpHold {}, "0.0.0.0:7")?;
    let mut profile: Profile = profile(held(None), "10.99.0.2:7", 10_000)?;
    profile.rate = 100.0;
    let load = ground.start(&profile)?;
    let phase = |time| {
        std::thread::sleep(Duration::from_millis(time));
        let report = load.mark();
        show(&report);
        report
    };
    let slow = phase(1000);
    load.set_rate(1000.0)?;
    let fast = phase(1000);
    load.set_rate(0.0)?;
    phase(100);
    let paused = phase(500);
    load.set_rate(200.0)?;
    let again = phase(1000);
    ensure!((90..150).contains(&slow.started), "{slow:?}");
    ensure!((900..1100).contains(&fast.started), "{fast:?}");
    ensure!(paused.started == 0 && paused.due == 0, "{paused:?}");
    ensure!((180..230).contains(&again.started), "{again:?}");
    ensure!(load.set_rate(f64::NAN).is_err() && load.set_rate(1e12).is_err());
    load.stop_arrivals();
    settle(&load)?;
    let whole = load.stop(Closing::Reset);
    ensure!(whole.due == whole.started && whole.succeeded == whole.started, "{whole:?}");
    Ok(())
}
