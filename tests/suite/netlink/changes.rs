//! Creating, reading back, changing and deleting.

use std::net::IpAddr;
use std::ops::ControlFlow;

use anyhow::{Context, ensure};
use ctkeeper_flow::{
    Flow, Helper, Labels, Layer4, Mark, Protocol, ProtocolState, SctpState, SctpTracking, Status,
    TcpState, Tuple, Zone, ZoneDirection,
};
use ctkeeper_netlink::{Change, Conntrack, DumpFilter, Errno};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::support::{entry, plain, table, tcp, udp, v4, v6};

const ENOENT: Errno = Errno(2);
const EEXIST: Errno = Errno(17);

fn only_entry(table: &mut Conntrack) -> anyhow::Result<Flow> {
    let mut flows = table.collect(&DumpFilter::ALL)?;
    ensure!(flows.len() == 1, "{} entries: {flows:#?}", flows.len());
    flows.pop().context("no entry")
}

/// What was asked for stands in the table: compared are the parts that a creator chooses.
fn same(asked: &Flow, stands: &Flow) -> anyhow::Result<()> {
    ensure!(stands.original == asked.original, "{stands:?}");
    ensure!(stands.reply == asked.reply, "asked {}, stands {}", asked.reply, stands.reply);
    ensure!(stands.zone == asked.zone, "{:?}", stands.zone);
    ensure!(stands.status.contains(asked.status | Status::CONFIRMED), "{}", stands.status);
    ensure!(stands.mark.unwrap_or_default() == asked.mark.unwrap_or_default(), "{:?}", stands.mark);
    ensure!(stands.state.name() == asked.state.name(), "{:?}", stands.state);
    let (asked, stands) = (asked.timeout.unwrap_or(0), stands.timeout.unwrap_or(0));
    ensure!(asked - 2 <= stands && stands <= asked, "timeout {stands} of {asked}");
    Ok(())
}

fn tuples() -> Vec<Tuple> {
    let families = [(v4(1), v4(2)), (v6(1), v6(2))];
    let with_ports =
        [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::UDPLITE, Protocol::GRE];
    let mut tuples = Vec::new();
    for (source, destination) in families {
        for protocol in with_ports {
            tuples.push(Tuple::with_ports(protocol, (source, 4000), (destination, 80)));
        }
        tuples.push(plain(Protocol(200), source, destination));
    }
    let echo = |kind| Layer4::Icmp { kind, code: 0, id: 77 };
    tuples.push(Tuple { layer4: echo(8), ..plain(Protocol::ICMP, v4(1), v4(2)) });
    tuples.push(Tuple { layer4: echo(128), ..plain(Protocol::ICMPV6, v6(1), v6(2)) });
    tuples
}

fn with_state(mut flow: Flow) -> Flow {
    if flow.protocol() == Protocol::SCTP {
        let (state, verification_tags) = (SctpState::Established, Some((17, 18)));
        flow.state = ProtocolState::Sctp(SctpTracking { state, verification_tags });
    }
    flow
}

pub(crate) fn every_protocol_round_trips() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    for tuple in tuples() {
        let asked = Flow { mark: Some(Mark(0xdead_beef)), ..with_state(entry(tuple)) };
        table.create(&asked).with_context(|| tuple.to_string())?;
        let dumped = only_entry(&mut table)?;
        same(&asked, &dumped).with_context(|| tuple.to_string())?;
        if let ProtocolState::Sctp(tracking) = dumped.state {
            ensure!(tracking.verification_tags == Some((17, 18)), "{tracking:?}");
        }
        for direction in [dumped.original, dumped.reply] {
            let got = table.get(&direction, Zone::DEFAULT)?.context("not found")?;
            ensure!(got.id == dumped.id && got.original == dumped.original, "{got:?}");
        }
        let change = Change { mark: Some((Mark(5), u32::MAX)), ..Change::default() };
        table.update(&tuple, Zone::DEFAULT, &change)?;
        ensure!(only_entry(&mut table)?.mark == Some(Mark(5)));
        ensure!(table.delete(&dumped)?, "{tuple}: gone before its deletion");
        ensure!(!table.delete(&dumped)?, "{tuple}: deleted twice");
        ensure!(table.get(&tuple, Zone::DEFAULT)?.is_none(), "{tuple}");
    }
    ensure!(table.count_and_limit()?.entries == 0);
    Ok(())
}

pub(crate) fn zones_keep_equal_tuples_apart() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    let zones = [
        Zone::DEFAULT,
        Zone::both(5),
        Zone { id: 6, direction: ZoneDirection::Original },
        Zone { id: 7, direction: ZoneDirection::Reply },
    ];
    for (number, zone) in zones.into_iter().enumerate() {
        // Two entries of the default zone in one direction must differ in the other.
        let mut flow = Flow { zone, ..tcp(number as u32) };
        flow.mark = Some(Mark(number as u32));
        table.create(&flow).with_context(|| format!("{zone:?}"))?;
    }
    // The same tuple in another whole zone is another connection.
    table.create(&Flow { zone: Zone::both(9), ..tcp(0) })?;
    ensure!(table.count_and_limit()?.entries == 5);
    for (number, zone) in zones.into_iter().enumerate() {
        let flow = tcp(number as u32);
        let got = table.get(&flow.original, zone)?.with_context(|| format!("{zone:?}"))?;
        ensure!(got.zone == zone && got.mark == Some(Mark(number as u32)), "{got:?}");
    }
    let wrong = table.get(&tcp(1).original, Zone::both(8))?;
    ensure!(wrong.is_none(), "{wrong:?}");
    ensure!(table.delete(&Flow { zone: Zone::both(9), ..tcp(0) })?);
    ensure!(table.get(&tcp(0).original, Zone::DEFAULT)?.is_some());
    Ok(())
}

pub(crate) fn translations_round_trip() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    let cases: [(Protocol, IpAddr, IpAddr, IpAddr, IpAddr); 3] = [
        (Protocol::TCP, v4(1), v4(2), v4(0x100), v4(0x200)),
        (Protocol::UDP, v4(3), v4(4), v4(0x101), v4(0x201)),
        (Protocol::TCP, v6(1), v6(2), v6(0x100), v6(0x200)),
    ];
    for (protocol, client, front, outside, server) in cases {
        let original = Tuple::with_ports(protocol, (client, 4000), (front, 80));
        let reply = Tuple::with_ports(protocol, (server, 8080), (outside, 5000));
        let both = Status::SRC_NAT | Status::DST_NAT;
        let asked = Flow { reply, status: Status::SEEN_REPLY | both, ..entry(original) };
        table.create(&asked)?;
        let stands = only_entry(&mut table)?;
        same(&asked, &stands)?;
        ensure!(stands.is_source_translated() && stands.is_destination_translated());
        // What was read can be put back as it was.
        ensure!(table.delete(&stands)?);
        table.create(&stands)?;
        same(&asked, &only_entry(&mut table)?)?;
        table.flush()?;
    }
    Ok(())
}

pub(crate) fn labels_stick() -> anyhow::Result<()> {
    let (namespace, mut table) = table()?;
    namespace.nft(
        "table inet t {\n\
         chain c {\ntype filter hook input priority 0;\nct label set 3\n}\n\
         }\n",
    )?;
    let mut labels = Labels::default();
    labels.0[0] = 0b0001_0000;
    table.create(&Flow { labels: Some(labels), ..tcp(1) })?;
    ensure!(only_entry(&mut table)?.labels == Some(labels));
    let (mut added, mut mask) = (Labels::default(), Labels::default());
    added.0[15] = 0x80;
    mask.0[15] = 0x80;
    let change = Change { labels: Some((added, mask)), ..Change::default() };
    table.update(&tcp(1).original, Zone::DEFAULT, &change)?;
    labels.0[15] = 0x80;
    ensure!(only_entry(&mut table)?.labels == Some(labels));
    Ok(())
}

pub(crate) fn a_change_touches_only_what_it_names() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    let unanswered = Flow { status: Status::default(), mark: Some(Mark(0xff00)), ..tcp(1) };
    table.create(&unanswered)?;
    let before = only_entry(&mut table)?;
    ensure!(!before.is_assured() && !before.is_replied());
    let tuple = before.original;

    let change = Change { mark: Some((Mark(0x01), 0x0f)), ..Change::default() };
    table.update(&tuple, Zone::DEFAULT, &change)?;
    let after = only_entry(&mut table)?;
    ensure!(after.mark == Some(Mark(0xff01)) && after.id == before.id, "{after:?}");
    ensure!(after.status == before.status && after.state == before.state, "{after:?}");

    let add_status = Status::SEEN_REPLY | Status::ASSURED;
    let change = Change { timeout: Some(5000), add_status, ..Change::default() };
    table.update(&tuple, Zone::DEFAULT, &change)?;
    let after = only_entry(&mut table)?;
    ensure!(after.is_assured() && after.is_replied() && after.timeout > Some(4990), "{after:?}");

    let state = Some(ProtocolState::tcp(TcpState::TimeWait));
    table.update(&tuple, Zone::DEFAULT, &Change { state, ..Change::default() })?;
    ensure!(only_entry(&mut table)?.state.name() == Some("TIME_WAIT"));

    let change = Change { add_status, ..Change::default() };
    let missing = table.update(&udp(9).original, Zone::DEFAULT, &change).unwrap_err();
    ensure!(missing.errno() == Some(ENOENT), "{missing}");
    Ok(())
}

pub(crate) fn a_deletion_by_id_spares_a_later_entry() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    table.create(&tcp(1))?;
    let first = only_entry(&mut table)?;
    ensure!(table.delete(&first)?);
    table.create(&tcp(1))?;
    let second = only_entry(&mut table)?;
    // An id is a hash of the entry's place and tuples, so the second may have the first's again:
    // take one that is surely another.
    let other = Flow { id: Some(!second.id.context("an entry without id")?), ..second.clone() };
    ensure!(!table.delete(&other)?, "deleted although the id differs");
    ensure!(table.delete(&second)?);
    Ok(())
}

pub(crate) fn a_batch_names_what_was_refused() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    for number in [3, 130, 299] {
        table.create(&tcp(number))?;
    }
    let mut too_long = tcp(1000);
    too_long.helper = Some(Box::new(Helper { name: "x".repeat(70_000).into(), info: [].into() }));
    let flows = (0..300).map(tcp).chain([too_long, tcp(301)]);
    let mut refused = Vec::new();
    let batch = table.create_batch(flows, |index, error| {
        refused.push((index, error.errno(), error.to_string()));
        ControlFlow::Continue(())
    })?;
    refused.sort_by_key(|(index, ..)| *index);
    let indices: Vec<_> = refused.iter().map(|(index, ..)| *index).collect();
    ensure!(indices == [3, 130, 299, 300], "{refused:?}");
    ensure!(refused[..3].iter().all(|(_, errno, _)| *errno == Some(EEXIST)), "{refused:?}");
    ensure!(refused[1].2.contains(&tcp(130).original.to_string()), "{}", refused[1].2);
    ensure!((batch.done, batch.failed, batch.stopped) == (298, 4, false), "{batch:?}");
    ensure!(table.count_and_limit()?.entries == 301);

    let all = table.collect(&DumpFilter::ALL)?;
    let twice = all.iter().chain(all.iter().take(10));
    let mut missing = 0;
    let batch = table.delete_batch(twice, |_, error| {
        missing += u32::from(error.errno() == Some(ENOENT));
        ControlFlow::Continue(())
    })?;
    ensure!((batch.done, batch.failed, missing) == (301, 10, 10), "{batch:?}");
    ensure!(table.count_and_limit()?.entries == 0);
    Ok(())
}

pub(crate) fn a_batch_stops_when_told() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    table.create(&tcp(0))?;
    let batch = table.create_batch((0..10_000).map(tcp), |_, _| ControlFlow::Break(()))?;
    ensure!(batch.stopped && batch.failed == 1 && batch.done < 200, "{batch:?}");
    ensure!(u64::from(table.count_and_limit()?.entries) == batch.done + 1);
    Ok(())
}

pub(crate) fn a_flush_empties_its_namespace_only() -> anyhow::Result<()> {
    let ((_a, mut first), (_b, mut second)) = (table()?, table()?);
    for table in [&mut first, &mut second] {
        table.create(&tcp(1))?;
        table.create(&entry(tuples().pop().context("no tuple")?))?;
    }
    first.flush()?;
    ensure!(first.count_and_limit()?.entries == 0);
    ensure!(second.count_and_limit()?.entries == 2);
    Ok(())
}

pub(crate) fn refusals_are_in_plain_words() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    table.create(&tcp(1))?;
    let again = table.create(&tcp(1)).unwrap_err();
    ensure!(again.errno() == Some(EEXIST), "{again}");
    ensure!(again.to_string().contains("exists already; change it"), "{again}");

    let helper = Some(Box::new(Helper { name: "no-such-helper".into(), info: [].into() }));
    let error = table.create(&Flow { helper, ..tcp(2) }).unwrap_err();
    ensure!(error.to_string().contains("does not support"), "{error}");

    let master = Some(Box::new(udp(77).original));
    let error = table.create(&Flow { master, ..tcp(2) }).unwrap_err();
    ensure!(error.to_string().contains("master"), "{error}");
    Ok(())
}

pub(crate) fn without_privilege_the_error_says_so() -> anyhow::Result<()> {
    let (_namespace, mut opened_as_root) = table()?;
    // Capabilities are a thread's own: this one ends with the test.
    let unprivileged = std::thread::spawn(move || -> anyhow::Result<()> {
        let mut sets = capabilities(None)?;
        sets.effective = CapabilitySet::empty();
        sets.permitted = CapabilitySet::empty();
        set_capabilities(None, sets)?;
        let error = Conntrack::open()?.count_and_limit().unwrap_err();
        ensure!(error.is_permission() && error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        // A socket keeps the rights of its opener only together with those of its user.
        let error = opened_as_root.count_and_limit().unwrap_err();
        ensure!(error.is_permission(), "{error}");
        Ok(())
    });
    unprivileged.join().map_err(|_| anyhow::anyhow!("panicked"))?
}
