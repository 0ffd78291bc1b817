//! Walls other than the limit.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use ctkeeper_lab::{Clash, Clashed, Rivals};
use ctkeeper_tests::{HostValues, Namespace, ensure_harmless};

use crate::ground::{
    SERVER, client, clients_and_servers, ensure_none, ensure_only, evidence, look, one_flow, sink,
    udp_flows,
};

const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER), 53);
const MANY: [SocketAddr; 8] = {
    let mut many = [DNS; 8];
    let mut last = 0;
    while last < 8 {
        many[last] = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 10 + last as u8)), 53);
        last += 1;
    }
    many
};

/// A hundred ports of one address for all clients.
fn narrow(namespace: &Namespace) -> anyhow::Result<()> {
    Ok(namespace.nft(
        "table ip translation {\n chain out {\n type nat hook postrouting priority srcnat\n \
         ip saddr 10.8.0.0/24 meta l4proto udp snat to 10.9.0.1:20000-20099\n }\n}\n",
    )?)
}

pub(crate) fn snat_ports() -> anyhow::Result<()> {
    let namespace = clients_and_servers()?;
    narrow(&namespace)?;
    let _sink = sink(&namespace, SocketAddr::from(([0, 0, 0, 0], 53)))?;

    // Healthy neighbour: as many flows to eight destinations, for each of which the ports suffice.
    let flows = udp_flows(&namespace, 600, &MANY)?;
    ensure_none(&look(&namespace)?)?;
    drop(flows);

    let _flows = udp_flows(&namespace, 600, std::slice::from_ref(&DNS))?;
    thread::sleep(Duration::from_millis(300));
    let report = look(&namespace)?;
    ensure_only(&report, "snat-ports", "critical")?;
    let named = |name| evidence(&report, "snat-ports", name).cloned().unwrap_or_default();
    ensure!(named("translated_to") == "10.9.0.1", "{:#}", report.0);
    ensure!(named("destination") == "udp 10.9.0.2:53", "{:#}", report.0);
    ensure!(named("ports_used") == 100 && named("ports_available") == 100, "{:#}", report.0);
    Ok(())
}

/// Every port of an address towards one destination, among as many flows to others: what a sample
/// of one entry in twenty tells of it.
pub(crate) fn snat_ports_of_a_busy_gateway() -> anyhow::Result<()> {
    const OTHERS: u32 = 40_000;
    let _host = HostValues::lock()?;
    ensure_harmless(u64::from(OTHERS) + 66_000)?;
    let namespace = clients_and_servers()?;
    namespace.nft(
        "table ip translation {\n chain out {\n type nat hook postrouting priority srcnat\n \
         ip saddr 10.8.0.0/24 snat to 10.9.0.1\n }\n}\n",
    )?;
    let _sink = sink(&namespace, SocketAddr::from(([0, 0, 0, 0], 53)))?;
    namespace.enter(|| (0..OTHERS).for_each(|number| drop(one_flow(number, &MANY))))?;
    // Healthy neighbour: a busy gateway, whose search meets taken ports.
    let flows = udp_flows(&namespace, 1000, &MANY)?;
    ensure_none(&look(&namespace)?)?;
    drop(flows);

    // The search gives up long before the end.
    until_refused(&namespace, 50)?;
    let flows = udp_flows(&namespace, 1000, std::slice::from_ref(&DNS))?;
    let report = look(&namespace)?;
    ensure_only(&report, "snat-ports", "warning")?;
    let used = evidence(&report, "snat-ports", "ports_used").and_then(serde_json::Value::as_u64);
    ensure!(used > Some(35_000) && used < Some(58_000), "{:#}", report.0);
    drop(flows);

    until_refused(&namespace, 2000)?;
    let _flows = udp_flows(&namespace, 1000, std::slice::from_ref(&DNS))?;
    let report = look(&namespace)?;
    ensure_only(&report, "snat-ports", "critical")?;
    let named = |name| evidence(&report, "snat-ports", name).cloned().unwrap_or_default();
    ensure!(named("destination") == "udp 10.9.0.2:53", "{:#}", report.0);
    let used = named("ports_used").as_u64().unwrap_or_default();
    let available = named("ports_available").as_u64().unwrap_or_default();
    ensure!((57_000..=65_536).contains(&used), "{:#}", report.0);
    ensure!((64_000..=65_536).contains(&available), "{:#}", report.0);
    Ok(())
}

/// New flows until so many of them have been refused.
fn until_refused(namespace: &Namespace, refused: usize) -> anyhow::Result<()> {
    let last = namespace.enter(|| {
        let mut flows = (0..80_000).map(|number| one_flow(number, std::slice::from_ref(&DNS)));
        flows.by_ref().filter(Result::is_err).nth(refused)
    })?;
    ensure!(last.is_some(), "80,000 flows and not {refused} refused");
    Ok(())
}

/// Runs `clash` while doctor looks.
fn beside(
    namespace: &Namespace,
    clash: Clash,
) -> anyhow::Result<(Clashed, ctkeeper_tests::Report)> {
    let _sink = sink(namespace, SocketAddr::from(([0, 0, 0, 0], 53)))?;
    thread::scope(|scope| {
        let clashing = scope.spawn(|| clash.run(namespace));
        thread::sleep(Duration::from_millis(100));
        let report = look(namespace);
        let clashed = clashing.join().expect("the sender does not panic")?;
        Ok((clashed, report?))
    })
}

/// Pairs that must have met: on a busy machine the threads are kept apart.
const ENOUGH: u32 = 30;

pub(crate) fn clash() -> anyhow::Result<()> {
    let namespace = clients_and_servers()?;
    let rules = |kept| {
        format!(
            "flush ruleset\ntable ip translation {{\n chain out {{\n \
             type nat hook postrouting priority srcnat\n \
             ip saddr 10.8.0.0/24 snat to 10.9.0.1{kept}\n }}\n}}\n"
        )
    };
    let clash = Clash {
        rivals: Rivals::Clients(client(1), client(2)),
        destination: DNS,
        rate: 1000,
        pairs: 1500,
    };
    namespace.nft(&rules(""))?;
    let (clashed, report) = beside(&namespace, clash)?;
    ensure!(clashed.refused > ENOUGH, "the threads did not meet: {clashed:?}");
    ensure_only(&report, "clash", "warning")?;

    // Healthy neighbour: the remedy. Both ports are chosen at random.
    let namespace = clients_and_servers()?;
    namespace.nft(&rules(" fully-random"))?;
    let (clashed, report) = beside(&namespace, clash)?;
    ensure!(clashed.refused <= 1, "{clashed:?}");
    if clashed.refused == 0 { ensure_none(&report) } else { Ok(()) }
}

/// Two queries of one socket that are sent to different servers: this kernel loses neither.
pub(crate) fn settled_clashes() -> anyhow::Result<()> {
    let namespace = clients_and_servers()?;
    namespace.nft(
        "table ip translation {\n chain out {\n type nat hook output priority -100\n \
         ip daddr 10.9.0.100 dnat to numgen inc mod 2 map { 0 : 10.9.0.3, 1 : 10.9.0.4 }\n }\n}\n",
    )?;
    let clash = Clash {
        rivals: Rivals::Socket(client(1)),
        destination: SocketAddr::from(([10, 9, 0, 100], 53)),
        rate: 1000,
        pairs: 1500,
    };
    let (clashed, report) = beside(&namespace, clash)?;
    ensure!(clashed.refused == 0, "{clashed:?}");
    ensure_none(&report)?;
    let statistics = namespace.conntrack()?.statistics()?;
    let settled: u64 =
        statistics.iter().map(|cpu| cpu.value(ctkeeper_flow::Statistic::ClashResolve)).sum();
    ensure!(settled > u64::from(ENOUGH), "{settled} of {clashed:?} met");
    Ok(())
}
