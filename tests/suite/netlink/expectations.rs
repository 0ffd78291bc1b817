//! Expectations in a namespace of their own, with masters that have the FTP helper.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_flow::{Expectation, Family, Flow, Helper, Protocol, Tuple};
use ctkeeper_netlink::{
    Conntrack, Errno, EventKind, ExpectationEvents, ExpectationRequest, Groups, Verb,
};

use crate::support::{entry, held, table, v4};

/// The control connection of FTP session `number`.
pub(crate) fn control(number: u32) -> Flow {
    let client = (v4(number), 40_000);
    let original = Tuple::with_ports(Protocol::TCP, client, (v4(0xff_0003), 21));
    let helper = Some(Box::new(Helper { name: "ftp".into(), info: Box::default() }));
    Flow { helper, ..entry(original) }
}

/// The data connection that session `number` announces.
pub(crate) fn data(number: u32) -> Expectation {
    let master = control(number).original;
    let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
    let all: IpAddr = Ipv4Addr::BROADCAST.into();
    Expectation {
        expected: Tuple::with_ports(
            Protocol::TCP,
            (master.source, 0),
            (master.destination, 50_000),
        ),
        mask: Tuple::with_ports(Protocol::TCP, (all, 0), (any, u16::MAX)),
        master,
        timeout: Some(300),
        ..Expectation::default()
    }
}

fn list(table: &mut Conntrack) -> anyhow::Result<Vec<Expectation>> {
    let mut found = Vec::new();
    let whole = table.expectations(|expectation| {
        found.push(expectation);
        ControlFlow::Continue(())
    })?;
    ensure!(whole);
    Ok(found)
}

pub(crate) fn expectations_come_and_go() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    ensure!(list(&mut table)?.is_empty() && table.expectation_count()? == 0);
    for number in 0..3 {
        table.create(&control(number))?;
        table.expect(&data(number))?;
    }
    let found = list(&mut table)?;
    ensure!(found.len() == 3 && table.expectation_count()? == 3, "{found:?}");
    let first = found.iter().find(|e| e.master == control(1).original).context("of session 1")?;
    ensure!(first.expected == data(1).expected, "{first:?}");
    ensure!(first.timeout.is_some_and(|left| left <= 300), "{first:?}");
    // A dump that is left early leaves the socket fit for the next request.
    ensure!(!table.expectations(|_| ControlFlow::Break(()))?);
    ensure!(table.expectation_count()? == 3);
    // They go with their master.
    ensure!(table.delete(&control(0))?);
    ensure!(table.expectation_count()? == 2);
    table.flush_expectations()?;
    ensure!(list(&mut table)?.is_empty() && table.expectation_count()? == 0);
    ensure!(table.count_and_limit()?.entries == 2);
    Ok(())
}

pub(crate) fn one_expectation_is_read_changed_and_deleted() -> anyhow::Result<()> {
    let (namespace, mut table) = table()?;
    let mut events = ExpectationEvents::subscribe_in(&held(&namespace)?, Groups::ALL, 1 << 20)?;
    for number in [1, 2] {
        table.create(&control(number))?;
        table.expect(&data(number))?;
    }
    let six = table.expectations_of(Some(Family::Ipv6), |_| ControlFlow::Break(()))?;
    ensure!(six, "an expectation of IPv6");
    let four = table.expectations_of(Some(Family::Ipv4), |_| ControlFlow::Break(()))?;
    ensure!(!four, "no expectation of IPv4");

    let naming = |number| {
        let expected = Some(data(number).expected);
        ExpectationRequest { expected, ..ExpectationRequest::default() }
    };
    let first = table.look_up_expectation(&naming(1))?;
    ensure!(first.master == data(1).master && first.id.is_some(), "{first:?}");
    let longer = ExpectationRequest {
        timeout: Some(3000),
        master: Some(first.master),
        mask: Some(first.mask),
        ..naming(1)
    };
    table.request_expectation(Verb::Update, &longer)?;
    let longer = table.look_up_expectation(&naming(1))?.timeout;
    ensure!(longer.is_some_and(|left| left > 2990), "{longer:?}");

    let other = Expectation { id: first.id.map(|id| !id), ..first.clone() };
    ensure!(!table.delete_expectation(&other)?, "deleted although the id differs");
    ensure!(table.delete_expectation(&first)? && !table.delete_expectation(&first)?);
    let gone = table.request_expectation(Verb::Delete, &naming(1)).unwrap_err();
    ensure!(gone.errno() == Some(Errno(2)) && gone.to_string().contains("no such"), "{gone}");
    // What names nothing would delete all: it is not sent.
    let nothing = table.request_expectation(Verb::Delete, &ExpectationRequest::default());
    ensure!(nothing.is_err() && table.expectation_count()? == 1, "{nothing:?}");
    table.request_expectation(Verb::Delete, &naming(2))?;

    let mut told = Vec::new();
    let reading = events.read(Duration::from_millis(200), |event| {
        told.push((event.kind, event.expectation.expected, event.port != 0));
    })?;
    let (new, destroy) = (EventKind::New, EventKind::Destroy);
    let expected: Vec<_> = [(new, 1), (new, 2), (destroy, 1), (destroy, 2)]
        .map(|(kind, number)| (kind, data(number).expected, true))
        .into();
    ensure!(told == expected && reading.events == 4 && !reading.is_lossy(), "{told:?} {reading:?}");
    Ok(())
}

pub(crate) fn refused_expectations_say_why() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    let missing = table.expect(&data(1)).err().context("made without master")?.to_string();
    ensure!(missing.contains("master connection does not exist"), "{missing}");
    table.create(&Flow { helper: None, ..control(1) })?;
    let helpless = table.expect(&data(1)).err().context("made without helper")?.to_string();
    ensure!(helpless.contains("no helper"), "{helpless}");
    let limit = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_expect_max")?;
    let limit: u32 = limit.trim().parse()?;
    let sessions = || (2..limit + 2).map(control);
    table.create_batch(sessions(), |_, _| ControlFlow::Break(()))?;
    (2..limit + 2).try_for_each(|number| table.expect(&data(number)))?;
    ensure!(table.expectation_count()? == limit);
    table.create(&control(limit + 2))?;
    let full = table.expect(&data(limit + 2)).err().context("made beyond the limit")?.to_string();
    ensure!(full.contains("expectation table is full") && full.contains("expect_max"), "{full}");
    Ok(())
}
