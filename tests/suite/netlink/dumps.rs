//! Dumps whole, filtered and sampled; count and statistics.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::ControlFlow;
use std::process::Stdio;

use anyhow::{Context, ensure};
use ctkeeper_flow::{Family, Flow, Mark, Protocol, Statistic, Status, Zone, ZoneDirection};
use ctkeeper_netlink::{Conntrack, DumpFilter, List};

use crate::support::{entry, plain, table, tcp, udp, v4, v6};

/// A table of much variety.
fn fill(table: &mut Conntrack) -> anyhow::Result<Vec<Flow>> {
    let mut flows = Vec::new();
    for number in 0..400 {
        let mut flow = if number % 3 == 0 { udp(number % 40) } else { tcp(number) };
        flow.original.source = v4(number % 7);
        flow.mark = Some(Mark(number % 5));
        flow.status =
            if number % 2 == 0 { Status::ASSURED | Status::SEEN_REPLY } else { Status(0) };
        flow.zone = Zone::both((number % 4) as u16);
        flows.push(flow);
        let mut six = flows[flows.len() - 1].clone();
        six.original.source = v6(number % 7);
        six.original.destination = v6(0xffff);
        flows.push(six);
        flows.push(Flow {
            zone: Zone::both((number / 7) as u16),
            ..entry(plain(Protocol(50), v4(number % 7), v4(9)))
        });
    }
    for flow in &mut flows {
        flow.reply = flow.original.inverted().unwrap_or(flow.reply);
    }
    for (number, direction) in
        (0..60).zip([ZoneDirection::Original, ZoneDirection::Reply].iter().cycle())
    {
        let zone = Zone { id: number % 5, direction: *direction };
        let zone = if zone.id == 0 { Zone::DEFAULT } else { zone };
        flows.push(Flow { zone, ..tcp(10_000 + u32::from(number)) });
    }
    let mut unique = BTreeSet::new();
    flows.retain(|flow| unique.insert(format!("{} {}", flow.original, flow.zone.id)));
    let batch = table.create_batch(&flows, |index, error| {
        eprintln!("{index}: {error}");
        ControlFlow::Continue(())
    })?;
    ensure!(batch.failed == 0, "{batch:?}");
    Ok(flows)
}

fn ids(flows: &[Flow]) -> BTreeSet<u32> {
    flows.iter().filter_map(|flow| flow.id).collect()
}

pub(crate) fn count_and_statistics() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    let before = table.statistics()?;
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let highest: usize = cpus.trim().rsplit(['-', ',']).next().unwrap_or("0").parse()?;
    ensure!(before.len() == highest + 1, "{} CPUs told, {cpus}", before.len());
    ensure!(before.iter().all(|cpu| cpu.get(Statistic::Drop) == Some(0)), "{before:?}");
    let limit = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    for number in 1..=20 {
        table.create(&tcp(number))?;
        let told = table.count_and_limit()?;
        ensure!(told.entries == number && told.limit == Some(limit.trim().parse()?), "{told:?}");
    }
    let inserted: u64 = table.statistics()?.iter().map(|cpu| cpu.value(Statistic::Insert)).sum();
    ensure!(inserted == 20, "{inserted} insertions counted");
    Ok(())
}

fn filters() -> Vec<DumpFilter> {
    let all = DumpFilter::ALL;
    let (v4, v6) = (Some(Family::Ipv4), Some(Family::Ipv6));
    let source = Some(Ipv4Addr::new(10, 0, 0, 3));
    let destination = Some(Ipv4Addr::new(10, 255, 0, 1));
    let (tcp, udp) = (Some(Protocol::TCP), Some(Protocol::UDP));
    let assured = Some((Status::ASSURED, Status::ASSURED));
    let mut filters = vec![
        all,
        DumpFilter { family: v4, ..all },
        DumpFilter { family: v6, ..all },
        DumpFilter { mark: Some((Mark(3), u32::MAX)), ..all },
        DumpFilter { mark: Some((Mark(1), 1)), ..all },
        DumpFilter { mark: Some((Mark(0), u32::MAX)), ..all },
        DumpFilter { mark: Some((Mark(3), 1)), ..all },
        DumpFilter { status: assured, ..all },
        DumpFilter { status: Some((Status(0), Status::ASSURED)), ..all },
        DumpFilter { status: Some((Status(0), Status(0))), ..all },
        DumpFilter { protocol: tcp, ..all },
        DumpFilter { protocol: udp, family: v6, ..all },
        DumpFilter { protocol: Some(Protocol(50)), family: v4, ..all },
        DumpFilter { source, ..all },
        DumpFilter { source, family: v6, ..all },
        DumpFilter { destination, ..all },
        DumpFilter { source, destination, protocol: tcp, ..all },
        DumpFilter { destination_port: Some(443), ..all },
        DumpFilter { destination_port: Some(443), family: v4, ..all },
        DumpFilter { destination_port: Some(443), protocol: tcp, family: v4, ..all },
        DumpFilter { destination_port: Some(443), protocol: tcp, family: v6, ..all },
        DumpFilter { destination_port: Some(0), protocol: tcp, source, ..all },
        DumpFilter { source_port: Some(1024 + 8), protocol: udp, family: v4, ..all },
        DumpFilter { source_port: Some(1024 + 8), protocol: udp, source, ..all },
    ];
    for zone in 0..5 {
        filters.push(DumpFilter { zone: Some(zone), ..all });
        filters.push(DumpFilter { zone: Some(zone), source, status: assured, ..all });
        filters.push(DumpFilter { zone: Some(zone), mark: Some((Mark(2), 7)), family: v6, ..all });
    }
    filters
}

/// The kernel's filters must leave out nothing that a full dump, filtered here, gives.
pub(crate) fn every_filter_is_right() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    let made = fill(&mut table)?;
    let everything = table.collect(&DumpFilter::ALL)?;
    ensure!(everything.len() == made.len(), "{} of {}", everything.len(), made.len());
    let mut selective = 0;
    for filter in filters() {
        let expected: Vec<_> =
            everything.iter().filter(|flow| filter.matches(flow)).cloned().collect();
        let mut got = Vec::new();
        let dump = table.dump(&filter, |flow| {
            got.push(flow.clone());
            ControlFlow::Continue(())
        })?;
        ensure!(ids(&got) == ids(&expected), "{filter:?}: {} of {}", got.len(), expected.len());
        ensure!(dump.complete && dump.undecodable == 0 && dump.interruptions == 0, "{dump:?}");
        ensure!(dump.entries == expected.len() as u64, "{dump:?}");
        selective += u32::from(dump.filtered_out == 0 && got.len() < everything.len());
    }
    // Where the kernel knows the filters, most leave nothing to us.
    println!("{selective} of {} filters were exact in the kernel", filters().len());
    Ok(())
}

pub(crate) fn counters_are_zeroed_as_they_are_read() -> anyhow::Result<()> {
    let (namespace, mut table) = table()?;
    namespace.sysctl("net.netfilter.nf_conntrack_acct", "1")?;
    namespace.track()?;
    namespace.enter(|| -> std::io::Result<()> {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        for _ in 0..3 {
            client.send_to(b"four", server.local_addr()?)?;
        }
        Ok(())
    })??;
    let packets = |flow: &Flow| flow.counters_original.map(|counters| counters.packets);
    let mut told = Vec::new();
    for family in [Some(Family::Ipv6), None, Some(Family::Ipv4)] {
        table.dump_and_zero(family, |flow| {
            told.push(packets(flow));
            ControlFlow::Continue(())
        })?;
    }
    // The dump of the other family told nothing and left the counters alone.
    ensure!(told == [Some(3), Some(0)], "{told:?}");
    let flow = &table.collect(&DumpFilter::ALL)?[0];
    ensure!(table.get_and_zero(&flow.original, flow.zone)?.is_some_and(|f| packets(&f) == Some(0)));
    Ok(())
}

/// A listener whose full buffer is an error to the sender keeps destroyed entries on the dying list.
const DEAF: &str = "import socket, sys\n\
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)\n\
    s.setsockopt(270, 4, 1)\n\
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)\n\
    s.bind((0, 4))\n\
    print('listening', flush=True)\n\
    sys.stdin.read()\n";

pub(crate) fn lists_are_told_apart() -> anyhow::Result<()> {
    let (namespace, mut table) = table()?;
    let mut command = namespace.command("python3");
    command.args(["-c", DEAF]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut deaf = command.spawn()?;
    let mut line = String::new();
    BufReader::new(deaf.stdout.take().context("no output")?).read_line(&mut line)?;
    ensure!(line == "listening\n", "{line}");
    table.create_batch((0..200).map(tcp), |_, _| ControlFlow::Continue(()))?;
    table.create(&udp(1))?;
    let half = (0..100).map(tcp);
    table.delete_batch(half, |_, _| ControlFlow::Continue(()))?;
    let mut count = |list, filter: DumpFilter| -> anyhow::Result<u64> {
        let dump = table.dump_list(list, &filter, |_| ControlFlow::Continue(()))?;
        ensure!(dump.complete && dump.undecodable == 0, "{dump:?}");
        Ok(dump.entries)
    };
    let dying = count(List::Dying, DumpFilter::ALL)?;
    let v6 = DumpFilter { family: Some(Family::Ipv6), ..DumpFilter::ALL };
    let one_port = DumpFilter { source_port: Some(1024 + 99), ..DumpFilter::ALL };
    ensure!((90..=100).contains(&dying), "{dying}");
    ensure!(count(List::Dying, v6)? == 0 && count(List::Dying, one_port)? == 1);
    ensure!(count(List::Table, DumpFilter::ALL)? == 101);
    ensure!(count(List::Unconfirmed, DumpFilter::ALL)? == 0);
    drop(deaf.stdin.take());
    deaf.wait()?;
    Ok(())
}

pub(crate) fn a_sample_stops() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    let batch = table.create_batch((0..2000).map(tcp), |_, _| ControlFlow::Continue(()))?;
    ensure!(batch.failed == 0, "{batch:?}");
    for size in [0, 1, 15, 100, 1999] {
        let mut seen = 0;
        let dump = table.sample(size, |_| seen += 1)?;
        ensure!(seen == size && dump.entries == size && !dump.complete, "{size}: {dump:?}");
        // The socket answers at once, in its own namespace.
        ensure!(table.count_and_limit()?.entries == 2000);
        ensure!(!table.statistics()?.is_empty());
    }
    let dump = table.sample(5000, |_| ())?;
    ensure!(dump.entries == 2000 && dump.complete, "{dump:?}");
    Ok(())
}

pub(crate) fn a_sample_is_a_prefix() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    table.create_batch((0..500).map(tcp), |_, _| ControlFlow::Continue(()))?;
    let everything = table.collect(&DumpFilter::ALL)?;
    for _ in 0..3 {
        let mut sampled = Vec::new();
        table.sample(50, |flow| sampled.push(flow.id))?;
        let prefix: Vec<_> = everything.iter().take(50).map(|flow| flow.id).collect();
        ensure!(sampled == prefix);
    }
    Ok(())
}

pub(crate) fn a_namespace_may_vanish() -> anyhow::Result<()> {
    let (namespace, mut table) = table()?;
    table.create_batch((0..3000).map(tcp), |_, _| ControlFlow::Continue(()))?;
    let mut guard = Some(namespace);
    let dump = table.dump(&DumpFilter::ALL, |_| {
        // Its name and its last process go; the socket still holds it.
        guard.take();
        ControlFlow::Continue(())
    })?;
    ensure!(dump.entries == 3000 && dump.complete, "{dump:?}");
    // A stopped dump reopens the socket in a namespace that nobody else has any more.
    ensure!(table.sample(10, |_| ())?.entries == 10);
    ensure!(table.count_and_limit()?.entries == 3000);
    Ok(())
}
