//! `ctkeeper conntrack` beside Debian's `conntrack`, word for word, in one run.
//!
//! `cargo build --release && cargo run --release -p ctkeeper-bench --bin conntrack -- [ENTRIES [PART]]`
//!
//! Makes namespaces, fills one by netlink to so many entries (100,000; limit and buckets of the host
//! are raised under the lab's lock and put back), and runs the same words through both, in turns,
//! output to /dev/null. PART is `lists`, `changes`, `events` or `small`; all of them without it.

mod changes;
mod events;
mod lists;
mod pair;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use anyhow::{Context, ensure};
use ctkeeper_flow::{Flow, Mark, Protocol, ProtocolState, Status, TcpState, Tuple, Zone};
use ctkeeper_tests::{Filling, HostValues, Namespace, ensure_harmless, filled};

/// One entry in so many has each of the rare properties.
const RARE: u64 = 100;
const MARK: u32 = 77;
const ZONE: u16 = 5;
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("--floor") {
        return ctkeeper_bench::walk_headers();
    }
    let mut arguments = std::env::args().skip(1);
    let entries: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse().context(text))?;
    let part = arguments.next();
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let host = HostValues::lock()?;
    // A bucket for each entry, not more: every dump walks through the empty ones too.
    host.raise_limit(host.limit().max((entries + changes::MOST).next_power_of_two()))?;
    host.raise_buckets(host.buckets().max(entries.next_power_of_two()))?;
    let namespace = Namespace::create()?;
    if wanted("small") {
        namespace.enter(pair::small)??;
    }
    if wanted("events") {
        events::compare()?;
    }
    if wanted("lists") || wanted("changes") {
        fill(&namespace, entries)?;
    }
    if wanted("lists") {
        namespace.enter(|| lists::compare(entries))??;
    }
    if wanted("changes") {
        changes::compare(&namespace, entries)?;
    }
    drop(namespace);
    Ok(host.put_back()?)
}

fn fill(namespace: &Namespace, entries: u64) -> anyhow::Result<()> {
    ensure_harmless(entries)?;
    let mut refusal = None;
    let batch = namespace.conntrack()?.create_batch((0..entries).map(entry), |at, error| {
        refusal.get_or_insert((at, error));
        ControlFlow::Continue(())
    })?;
    ensure!(batch.failed == 0, "{} of {entries} entries refused: {refusal:?}", batch.failed);
    Ok(())
}

/// Entry `number`: an established TCP connection, but for the rare ones.
fn entry(number: u64) -> Flow {
    let mut flow = filled(number, Filling::Established { timeout: 431_000 });
    // Ports come again after some: the destination keeps the entries apart.
    let [.., a, b, c] = (number as u32 / RARE as u32).to_be_bytes();
    match number % RARE {
        0 => flow.mark = Some(Mark(MARK)),
        1 => between(&mut flow, SOURCE.into(), Ipv4Addr::new(172, a, b, c).into()),
        2 => flow.zone = Zone::both(ZONE),
        3 => {
            flow.status = Status::CONFIRMED;
            flow.state = ProtocolState::tcp(TcpState::SynSent);
        }
        4 => {
            flow.state = ProtocolState::None;
            flow.original.protocol = Protocol::UDP;
            flow.reply = flow.original.inverted().unwrap_or_default();
        }
        5 => {
            let far = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, a.into(), b.into(), c.into());
            between(&mut flow, SOURCE_V6.into(), far.into());
        }
        _ => {}
    }
    flow
}

fn between(flow: &mut Flow, source: IpAddr, destination: IpAddr) {
    let Tuple { protocol, .. } = flow.original;
    let (from, to) = (flow.original.source_port(), flow.original.destination_port());
    let ends = ((source, from.unwrap_or(0)), (destination, to.unwrap_or(0)));
    flow.original = Tuple::with_ports(protocol, ends.0, ends.1);
    flow.reply = flow.original.inverted().unwrap_or_default();
}
