//! Expectations in a namespace of their own, with masters that have the FTP helper.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;

use anyhow::{Context, ensure};
use ctkeeper_flow::{Expectation, Flow, Helper, Protocol, Tuple};
use ctkeeper_netlink::Conntrack;

use crate::support::{entry, table, v4};

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
