//! What fails: each kind of failure, made, and counted as what it is.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_lab::load::{
    Closing, ErrorKind, Exchange, Held, Http, PortRange, Report, Service, Short, Sources, Traffic,
};
use ctkeeper_lab::{Filling, HostValues, fill};
use ctkeeper_tests::run;
use rustix::process::{Resource, getrlimit};

use crate::ground::{Ground, profile, settle, show};

/// Set in the process that runs one test alone.
const ALONE: &str = "CTKEEPER_TEST_ALONE";
const ECHO: Exchange = Exchange::Echo { bytes: 10 };

fn short(exchange: Option<Exchange>) -> Traffic {
    Traffic::TcpShort(Short { exchange, reset: false })
}

/// Fails unless this many arrivals failed, all in this way.
fn ensure_only(report: &Report, kind: ErrorKind, number: u64) -> anyhow::Result<()> {
    show(report);
    ensure!(report.error(kind) == number && report.failed == number, "{report:?}");
    ensure!(report.started == report.succeeded + report.failed, "{report:?}");
    Ok(())
}

pub(crate) fn refused() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let _server = ground.serve(Service::TcpEcho {}, "0.0.0.0:7")?;
    // Every second arrival goes to a port that nobody listens on.
    let report = ground.run(&profile(short(Some(ECHO)), "10.99.0.2:7-8", 200)?)?;
    ensure_only(&report, ErrorKind::Refused, 100)?;
    ensure!(report.succeeded == 100 && (report.failed_share() - 0.5).abs() < 1e-9);
    Ok(())
}

pub(crate) fn silent() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let _server = ground.serve(Service::TcpHold {}, "0.0.0.0:7")?;
    let report = ground.run(&profile(short(Some(ECHO)), "10.99.0.2:7", 100)?)?;
    ensure_only(&report, ErrorKind::AnswerTimeout, 100)?;
    ensure!(report.connect.count == 100 && report.answer.count == 0, "{report:?}");
    // Requests that wait for the one connection are given up too.
    let http = Http { connections: Some(1), ..Http::default() };
    let report = ground.run(&profile(Traffic::Http(http), "10.99.0.2:7", 100)?)?;
    ensure_only(&report, ErrorKind::AnswerTimeout, 100)
}

pub(crate) fn blackhole() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::TcpHold {}, "0.0.0.0:7")?;
    ground.drop_at_servers("tcp flags syn")?;
    let load = ground.start(&profile(short(None), "10.99.0.2:7", 100)?)?;
    settle(&load)?;
    let report = load.report();
    ensure_only(&report, ErrorKind::ConnectTimeout, 100)?;
    // The last of them came after half a second and was given up 0.7 s later.
    ensure!((1.1..1.6).contains(&report.elapsed.as_secs_f64()), "{report:?}");
    ensure!(server.served().accepted == 0);
    Ok(())
}

/// The seed's failure: at the limit, new connections hang and old ones work.
pub(crate) fn full_table() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let ground = Ground::make()?;
    ground.servers.track()?;
    let _server = ground.serve(Service::TcpEcho {}, "0.0.0.0:7")?;
    let held = Held { exchange: Some(ECHO), ..Held::default() };
    let old = ground.start(&profile(Traffic::TcpHeld(held.clone()), "10.99.0.2:7", 100)?)?;
    settle(&old)?;
    let (count, limit) = ground.servers.count_and_limit()?;
    ensure!(count == 100, "{count}");
    // 40 places are left.
    fill(&ground.servers, 0, limit - count - 40, Filling::Established { timeout: 3600 })?;
    let new = ground.start(&profile(Traffic::TcpHeld(held), "10.99.0.2:7", 200)?)?;
    settle(&new)?;
    let report = new.report();
    ensure_only(&report, ErrorKind::ConnectTimeout, 160)?;
    ensure!(report.succeeded == 40 && report.open == 40, "{report:?}");
    old.probe(None);
    settle(&old)?;
    ensure!(old.report().probes.ok == 100, "{:?}", old.report());
    Ok(())
}

/// A path that is cut and mended: probes of what stands tell.
pub(crate) fn cut_path() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::TcpEcho {}, "0.0.0.0:7")?;
    let held = Held { exchange: Some(ECHO), ..Held::default() };
    let load = ground.start(&profile(Traffic::TcpHeld(held), "10.99.0.2:7", 50)?)?;
    settle(&load)?;
    ground.drop_at_servers("tcp dport 7")?;
    load.mark();
    load.probe(None);
    settle(&load)?;
    let cut = load.mark();
    show(&cut);
    ensure!(cut.probes.timeout == 50 && cut.probes.sent == 50 && cut.open == 50, "{cut:?}");
    ground.drop_nothing()?;
    // What was said is said again by TCP itself, at the latest 1.6 s after its third try.
    std::thread::sleep(Duration::from_secs(2));
    load.probe(None);
    settle(&load)?;
    let mended = load.mark();
    show(&mended);
    ensure!(mended.probes.ok == 50, "{mended:?}");
    server.stop();
    std::thread::sleep(Duration::from_millis(100));
    let lost = load.mark();
    ensure!(lost.lost.get(&ErrorKind::ClosedEarly) == Some(&50) && lost.open == 0, "{lost:?}");
    Ok(())
}

pub(crate) fn closed_early() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::TcpHold {}, "0.0.0.0:7")?;
    let mut profile = profile(short(Some(ECHO)), "10.99.0.2:7", 100)?;
    profile.answer_timeout = Duration::from_secs(10);
    let load = ground.start(&profile)?;
    std::thread::sleep(Duration::from_millis(600));
    // It has read what was said, so that it closes by FIN.
    server.stop();
    settle(&load)?;
    ensure_only(&load.report(), ErrorKind::ClosedEarly, 100)
}

pub(crate) fn unreachable() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let report = ground.run(&profile(short(None), "192.0.2.1:7", 50)?)?;
    ensure_only(&report, ErrorKind::Unreachable, 50)
}

/// A load takes no more than leaves the process able to go on.
pub(crate) fn no_descriptors() -> anyhow::Result<()> {
    // In a process of its own: the other tests need descriptors too.
    if std::env::var_os(ALONE).is_none() {
        let mut alone = Command::new(std::env::current_exe()?);
        let output = run(alone.args(["--exact", "descriptors_run_out"]).env(ALONE, "1"))?;
        ensure!(output.code == Some(0), "{}{}", output.stdout, output.stderr);
        return Ok(());
    }
    let ground = Ground::make()?;
    let limit = getrlimit(Resource::Nofile).maximum.context("no limit of descriptors here")?;
    ensure!(limit <= 100_000, "a limit of {limit} descriptors is too high to be reached here");
    // The kernel listens; nobody accepts, which is no matter for the client's side.
    let traffic = Traffic::TcpHeld(Held::default());
    let mut profile = profile(traffic, "192.0.2.1:7", limit)?;
    ground.clients.route("default via 10.99.0.2")?;
    profile.rate = 20_000.0;
    profile.connect_timeout = Duration::from_secs(10);
    let load = ground.start(&profile)?;
    while load.report().started < limit {
        std::thread::sleep(Duration::from_millis(100));
    }
    let report = load.report();
    show(&report);
    ensure!(report.error(ErrorKind::NoDescriptors) >= 400, "{report:?}");
    ensure!(report.open > limit - 600 && report.open <= limit - 400, "{report:?}");
    // The process can still open files and run programs.
    ground.clients.run("ip", &["link"])?;
    load.stop(Closing::Reset);
    Ok(())
}

pub(crate) fn no_ports() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let _server = ground.serve(Service::TcpHold {}, "0.0.0.0:7")?;
    let held = || Traffic::TcpHeld(Held::default());
    ground.clients.sysctl("ipv4/ip_local_port_range", "40000 40019")?;
    let report = ground.run(&profile(held(), "10.99.0.2:7", 50)?)?;
    ensure_only(&report, ErrorKind::NoPorts, 30)?;
    let mut profile = profile(held(), "10.99.0.2:7", 50)?;
    let ports = PortRange::new(50_000, 50_004);
    profile.sources = Some(Sources { first: "10.99.0.1".parse()?, count: 1, ports });
    ensure_only(&ground.run(&profile)?, ErrorKind::NoPorts, 45)
}
