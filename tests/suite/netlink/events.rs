//! Events and their losses.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_flow::{Mark, Zone};
use ctkeeper_netlink::{Change, Conntrack, DumpFilter, EventKind, Events, Groups, Reading, netns};
use ctkeeper_tests::Namespace;

use crate::support::{held, tcp};

const MOMENT: Duration = Duration::from_millis(200);
const SMALL: usize = 4096;

pub(crate) fn events_tell_what_happened() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let held = held(&namespace)?;
    let mut events = Events::subscribe_in(&held, Groups::ALL, 1 << 20)?;
    let mut table = Conntrack::open_in(&held)?;
    table.create(&tcp(1))?;
    let change = Change { mark: Some((Mark(9), u32::MAX)), ..Change::default() };
    table.update(&tcp(1).original, Zone::DEFAULT, &change)?;
    let stands = table.get(&tcp(1).original, Zone::DEFAULT)?.context("no entry")?;
    table.delete(&stands)?;

    let mut told = Vec::new();
    let reading = events.read(MOMENT, |event| {
        told.push((event.kind, event.flow.original, event.flow.id, event.port != 0));
    })?;
    let kinds = [EventKind::New, EventKind::Update, EventKind::Destroy];
    let expected: Vec<_> =
        kinds.iter().map(|kind| (*kind, tcp(1).original, stands.id, true)).collect();
    ensure!(told == expected, "{told:?}");
    ensure!(reading == Reading { events: 3, ..Reading::default() }, "{reading:?}");
    ensure!(events.read(Duration::ZERO, |_| ())? == Reading::default());
    Ok(())
}

pub(crate) fn groups_deliver_only_what_was_asked() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let held = held(&namespace)?;
    let mut events = Events::subscribe_in(&held, Groups::DESTROY, 1 << 20)?;
    let mut elsewhere = Events::subscribe(Groups::ALL, 1 << 20)?;
    let mut table = Conntrack::open_in(&held)?;
    table.create(&tcp(1))?;
    table.flush()?;
    let mut kinds = Vec::new();
    events.read(MOMENT, |event| kinds.push(event.kind))?;
    ensure!(kinds == [EventKind::Destroy], "{kinds:?}");
    // Another namespace's listener hears nothing of it.
    let mut heard = 0;
    elsewhere.read(Duration::from_millis(20), |event| {
        heard += u32::from(event.flow.original == tcp(1).original);
    })?;
    ensure!(heard == 0);
    Ok(())
}

/// Column 9 of `/proc/net/netlink` for a port.
fn drops_column(namespace: &netns::Namespace, port: u32) -> anyhow::Result<u64> {
    let table = netns::enter(namespace, |_| fs::read_to_string("/proc/thread-self/net/netlink"))??;
    let port = port.to_string();
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|f| f.get(1) == Some(&"12") && f.get(2) == Some(&port.as_str()));
    line.and_then(|fields| fields.get(8)?.parse().ok()).context("no such socket listed")
}

pub(crate) fn losses_are_counted_exactly() -> anyhow::Result<()> {
    const MADE: u32 = 3000;
    let namespace = Namespace::create()?;
    let held = held(&namespace)?;
    let mut events = Events::subscribe_in(&held, Groups::NEW, SMALL)?;
    let mut table = Conntrack::open_in(&held)?;
    let mut total = Reading::default();
    for round in 1..=3 {
        let batch = (0..MADE).map(|number| tcp(round * MADE + number));
        table.create_batch(batch, |_, _| ControlFlow::Continue(()))?;
        for _ in 0..3 {
            let reading = events.read(Duration::from_millis(50), |_| ())?;
            total.events += reading.events;
            total.lost += reading.lost;
            ensure!(!reading.lost_uncounted && reading.undecodable == 0, "{reading:?}");
        }
        let column = drops_column(&held, events.port())?;
        println!(
            "round {round}: {} events, {} lost, column says {column}",
            total.events, total.lost
        );
        ensure!(total.lost == column, "{} counted, the kernel says {column}", total.lost);
        ensure!(total.events + total.lost == u64::from(round * MADE), "{total:?}");
    }
    ensure!(total.events > 0 && total.lost > 0, "{total:?}");
    Ok(())
}

/// After a loss, a dump and the events that come then tell how the table stands.
pub(crate) fn a_dump_makes_good_a_loss() -> anyhow::Result<()> {
    const MADE: u32 = 2000;
    let namespace = Namespace::create()?;
    let held = held(&namespace)?;
    let mut table = Conntrack::open_in(&held)?;
    let mut events = Events::subscribe_in(&held, Groups::ALL, SMALL)?;
    // More than the buffer holds, then less of it.
    table.create_batch((0..MADE).map(tcp), |_, _| ControlFlow::Continue(()))?;
    table.delete_batch((0..500).map(tcp), |_, _| ControlFlow::Continue(()))?;
    let (mut known, mut losses) = (BTreeSet::new(), 0);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let reading = events.read(Duration::from_millis(50), |event| {
            let Some(id) = event.flow.id else { return };
            match event.kind {
                EventKind::New | EventKind::Update => known.insert(id),
                EventKind::Destroy => known.remove(&id),
            };
        })?;
        if reading == Reading::default() {
            break;
        }
        if reading.is_lossy() {
            losses += 1;
            known = ids(&mut table)?;
        }
        ensure!(Instant::now() < deadline, "events still come after 10 s");
    }
    ensure!(losses > 0, "the buffer was too large for this test");
    ensure!(known == ids(&mut table)?, "{} are known", known.len());
    ensure!(known.len() as u32 == MADE - 500, "{}", known.len());
    Ok(())
}

fn ids(table: &mut Conntrack) -> anyhow::Result<BTreeSet<u32>> {
    Ok(table.collect(&DumpFilter::ALL)?.iter().filter_map(|flow| flow.id).collect())
}
