//! What counting an entry costs: attribution, one key, pairs, beside what reading it costs.
//!
//! `cargo run --release -p ctkeeper-bench --bin census [ENTRIES]`
//!
//! A host with 300 containers behind a bridge and 20,000 sockets of its own: published ports,
//! masqueraded connections, local processes and what passes through, 262,144 entries in random
//! order. No kernel takes part; a dump costs about 3,300 ns an entry.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ctkeeper_bench::{Numbers, per_item};
use ctkeeper_census::{Attributor, Clock, Counter, TableFacts};
use ctkeeper_flow::{Flow, Limit, Protocol, ProtocolState, Status, TcpState, Timeouts, Tuple};
use ctkeeper_snapshot::{
    Attached, Connection, Container, Holder, HolderIndex, Key, Network, Roster, SocketHolder,
    Tenant, View,
};

const HOST: u64 = 1;
const CONTAINERS: u32 = 300;
const SOCKETS: u32 = 20_000;
const NOW_MS: u64 = 1_000_000_000;
const RUNS: usize = 15;

fn main() -> anyhow::Result<()> {
    let entries = std::env::args().nth(1).map_or(Ok(262_144), |text| text.parse::<u32>())?;
    let roster = roster();
    let mut numbers = Numbers::new(7);
    let flows: Vec<_> = (0..entries).map(|_| flow(&mut numbers)).collect();
    println!("{entries} entries, medians of {RUNS} runs, ns an entry (a dump: 3,300)");
    let clock = || Clock::new(NOW_MS, None, Some(&timeouts()));
    let attributor = Attributor::new(&roster, HOST, clock());
    report("attribution alone", flows.len(), || {
        for flow in &flows {
            black_box(attributor.attribute(flow));
        }
    })?;
    let single = [Key::Holder, Key::Container, Key::Service, Key::Destination, Key::State];
    for key in single {
        report(&format!("{key:?}"), flows.len(), || count(&[key], &roster, &flows, clock()))?;
    }
    report("Source, nearly all different", flows.len(), || {
        count(&[Key::Source], &roster, &flows, clock());
    })?;
    for pair in [[Key::Holder, Key::Destination], [Key::Source, Key::Destination]] {
        report(&format!("{pair:?}"), flows.len(), || count(&pair, &roster, &flows, clock()))?;
    }
    let sample = &flows[..flows.len().min(20_000)];
    report("Holder, 20,000 with a panel", sample.len(), || {
        let mut counter = Counter::new(&[Key::Holder], &roster).expect("one key");
        counter.keep_panel(None);
        let mut table = counter.table(facts(flows.len()), clock());
        for flow in sample {
            table.add(flow);
        }
        table.finish(false);
        black_box(counter.rows(20, None));
    })
}

fn report(what: &str, entries: usize, mut run: impl FnMut()) -> anyhow::Result<()> {
    let cost = per_item(RUNS, || {
        run();
        Ok(entries as u64)
    })?;
    println!("{what:32} {:6.1}", cost.median);
    Ok(())
}

fn count(by: &[Key], roster: &Roster, flows: &[Flow], clock: Clock) {
    let mut counter = Counter::new(by, roster).expect("one or two keys");
    let mut table = counter.table(facts(flows.len()), clock);
    for flow in flows {
        table.add(flow);
    }
    table.finish(true);
    black_box(counter.rows(20, None));
}

fn facts(entries: usize) -> TableFacts {
    TableFacts {
        inode: HOST,
        name: "host".to_owned(),
        count: entries as u64,
        limit: Limit(262_144),
    }
}

fn timeouts() -> Timeouts {
    Timeouts([("tcp_timeout_established".to_owned(), 432_000)].into())
}

fn inner(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xac11_0002 + number).into()
}

fn host() -> IpAddr {
    Ipv4Addr::new(198, 51, 100, 1).into()
}

fn service(number: u32) -> (IpAddr, u16) {
    (Ipv4Addr::from_bits(0xcb00_7100 + number % 64).into(), 443)
}

fn roster() -> Roster {
    let container = |number: u32| {
        let name = Some(format!("service-{number}"));
        Holder::Container(Container { id: format!("{number:064x}"), name, ..Container::default() })
    };
    let mut holders: Vec<_> = (0..CONTAINERS).map(container).collect();
    holders.push(Holder::Unit { name: "haproxy.service".to_owned() });
    let proxy = SocketHolder::Of(HolderIndex(CONTAINERS));
    let tenant = |number| {
        let (holder, since_ms) = (HolderIndex(number), Some(NOW_MS - 500_000));
        (inner(number), vec![Tenant { holder, namespace: 2, since_ms }])
    };
    let socket = |number| {
        let local = SocketAddr::new(host(), 32_768 + number as u16);
        let (address, port) = service(number);
        (Connection { protocol: Protocol::TCP, local, remote: (address, port).into() }, proxy)
    };
    let attached = |network, prefix, is_inner| Attached {
        network: Network { address: network, prefix },
        interface: "if0".to_owned(),
        is_inner,
    };
    let view = View {
        owner: None,
        local: [host(), Ipv4Addr::LOCALHOST.into()].into(),
        tenants: (0..CONTAINERS).map(tenant).collect(),
        networks: vec![attached(inner(0), 16, true), attached(host(), 24, false)],
        connected: (0..SOCKETS).map(socket).collect(),
        listening: [((Protocol::TCP, ([0, 0, 0, 0], 80).into()), proxy)].into(),
        sockets_complete: true,
    };
    Roster { holders, views: [(HOST, view)].into() }
}

/// A tenth each to a published port, to a local listener and through; the others in equal parts out
/// of containers and out of local processes.
fn flow(numbers: &mut Numbers) -> Flow {
    let number = numbers.below(1 << 30);
    let outside = (IpAddr::V4(Ipv4Addr::from_bits(numbers.below(0x5f00_0000))), number as u16);
    let tcp = |from, to| Tuple::with_ports(Protocol::TCP, from, to);
    let plain = |from, to| (tcp(from, to), tcp(to, from));
    let container = (inner(number % CONTAINERS), (number >> 8) as u16);
    let (original, reply) = match number % 10 {
        0 => (tcp(outside, (host(), 8080)), tcp((container.0, 80), outside)),
        1 => plain(outside, (host(), 80)),
        2 => plain(outside, service(number)),
        3..=6 => (tcp(container, service(number)), tcp(service(number), (host(), container.1))),
        _ => {
            let socket = number % SOCKETS;
            plain((host(), 32_768 + socket as u16), service(socket))
        }
    };
    Flow {
        original,
        reply,
        status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED,
        state: ProtocolState::tcp(TcpState::Established),
        timeout: Some(432_000 - number % 400),
        ..Flow::default()
    }
}
