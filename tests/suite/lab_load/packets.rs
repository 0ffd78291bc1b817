//! Datagrams, and packets made by hand.

use std::time::Duration;

use anyhow::ensure;
use ctkeeper_lab::load::{
    ErrorKind, Service, Sources, SynFlood, TcpFlag, TcpPackets, Traffic, Udp, UdpOneWay,
};
use ctkeeper_lab::wait_for;

use crate::ground::{Ground, profile};

pub(crate) fn udp_answers() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::UdpEcho {}, "0.0.0.0:53")?;
    let traffic = Traffic::Udp(Udp { bytes: 50, burst: 2 });
    let report = ground.run(&profile(traffic, "10.99.0.2:53", 500)?)?;
    ensure!(report.succeeded == 500 && report.failed == 0, "{report:?}");
    ensure!(report.answer.count == 500 && report.packets == 1000, "{report:?}");
    ensure!(report.open == 0 && server.served().requests == 1000, "{:?}", server.served());
    Ok(())
}

pub(crate) fn udp_failures() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    // Otherwise one refusal a second, after six.
    ground.servers.sysctl("ipv4/icmp_ratelimit", "0")?;
    let _sink = ground.serve(Service::UdpSink {}, "0.0.0.0:53")?;
    // One port is a sink, one is closed, one is behind a rule that drops what goes out.
    ground.clients.nft(
        "table inet lab {\nchain out { type filter hook output priority 0; udp dport 55 drop; }\n}\n",
    )?;
    let traffic = Traffic::Udp(Udp::default());
    let report = ground.run(&profile(traffic, "10.99.0.2:53-55", 300)?)?;
    for kind in [ErrorKind::AnswerTimeout, ErrorKind::Refused, ErrorKind::NotPermitted] {
        ensure!(report.error(kind) == 100, "{report:?}");
    }
    ensure!(report.failed == 300, "{report:?}");
    Ok(())
}

/// Datagrams and SYNs from addresses that are nobody's: each is a flow of its own.
pub(crate) fn floods() -> anyhow::Result<()> {
    for (target, first) in [("10.99.0.2", "10.200.0.0"), ("[fd99::2]", "fd97::")] {
        let ground = Ground::make()?;
        ground.servers.track()?;
        // Answers have a way, and end at clients that know of nothing.
        ground.servers.route("10.200.0.0/16 via 10.99.0.1")?;
        ground.servers.route("fd97::/64 via fd99::1")?;
        let any = if target.starts_with('[') { "[::]" } else { "0.0.0.0" };
        let sink = ground.serve(Service::UdpSink {}, &format!("{any}:53"))?;
        let _listener = ground.serve(Service::TcpHold {}, &format!("{any}:80"))?;

        let one_way = Traffic::UdpOneWay(UdpOneWay { bytes: 20 });
        let mut datagrams = profile(one_way, &format!("{target}:53"), 2000)?;
        datagrams.sources = Some(Sources::range(first.parse()?, 100));
        let report = ground.run(&datagrams)?;
        ensure!(report.packets == 2000 && report.succeeded == 2000, "{report:?}");
        // The last ones may still be on their way.
        let all = || Ok(sink.served().requests == 2000);
        wait_for("2,000 datagrams at the sink", Duration::from_secs(2), all)?;
        let (count, _) = ground.servers.count_and_limit()?;
        ensure!((2000..2010).contains(&count), "{count} entries");

        let mut syns = profile(Traffic::SynFlood(SynFlood {}), &format!("{target}:80"), 1000)?;
        syns.sources = Some(Sources::range(first.parse()?, 100));
        let report = ground.run(&syns)?;
        ensure!(report.packets == 1000 && report.failed == 0, "{report:?}");
        let table = ground.servers.run("conntrack", &["-L", "-f", family(target), "-p", "tcp"])?;
        let half_open = table.lines().filter(|line| line.contains("SYN_RECV")).count();
        ensure!(half_open == 1000, "{half_open} half-open of {}", table.lines().count());
    }
    Ok(())
}

fn family(target: &str) -> &'static str {
    if target.starts_with('[') { "ipv6" } else { "ipv4" }
}

/// What tracking calls invalid: an answer to nothing, and a wrong checksum.
pub(crate) fn invalid_packets() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    ground.servers.track()?;
    let stray = TcpPackets { flags: vec![TcpFlag::Syn, TcpFlag::Ack], ..TcpPackets::default() };
    let wrong =
        TcpPackets { flags: vec![TcpFlag::Syn], wrong_checksum: true, ..TcpPackets::default() };
    let fine = TcpPackets { flags: vec![TcpFlag::Syn], ..TcpPackets::default() };
    let mut expected = 0;
    for (packets, invalid) in [(stray, 70), (wrong, 70), (fine, 0)] {
        let report = ground.run(&profile(Traffic::TcpPackets(packets), "10.99.0.2:80", 70)?)?;
        ensure!(report.packets == 70, "{report:?}");
        expected += invalid;
        let rules = ground.servers.run("nft", &["list", "chain", "inet", "track", "in"])?;
        ensure!(rules.contains(&format!("invalid counter packets {expected} ")), "{rules}");
    }
    Ok(())
}

pub(crate) fn dropped_on_the_way_out() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    ground.clients.nft(
        "table inet lab {\nchain out { type filter hook output priority 0; tcp dport 81 drop; }\n}\n",
    )?;
    let syns = profile(Traffic::SynFlood(SynFlood {}), "10.99.0.2:80-81", 400)?;
    let report = ground.run(&syns)?;
    ensure!(report.error(ErrorKind::NotPermitted) == 200, "{report:?}");
    ensure!(report.packets == 200 && report.succeeded == 200, "{report:?}");
    Ok(())
}
