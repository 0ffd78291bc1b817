//! Counting by keys: rows, parts, make-up, samples, many tables, too many keys.

mod common;

use std::net::{IpAddr, Ipv4Addr};

use common::{HOST, NOW_MS, WEB, WEB_NETNS, ip, masqueraded, roster, tcp, timeouts, to, udp};
use ctkeeper_census::{Clock, Counter, Rows, TableFacts};
use ctkeeper_flow::{Flow, Limit, Mark, Protocol, ProtocolState, Status, TcpState, Zone};
use ctkeeper_snapshot::{Counted, Figure, Holder, Key, Peer, Roster, Row, Service, Value};

fn clock() -> Clock {
    Clock::new(NOW_MS, None, Some(&timeouts()))
}

fn facts(inode: u64, count: u64) -> TableFacts {
    TableFacts { inode, name: format!("netns {inode}"), count, limit: Limit(10_000) }
}

fn count(by: &[Key], roster: &Roster, flows: &[Flow]) -> Rows {
    let mut counter = Counter::new(by, roster).unwrap();
    let mut table = counter.table(facts(HOST, flows.len() as u64), clock());
    for flow in flows {
        table.add(flow);
    }
    table.finish(true);
    counter.rows(10, None)
}

/// Three of the web container's, one of them incoming, and one of the resolver's.
fn flows() -> Vec<Flow> {
    let out = |port: u16| {
        let flow = tcp(&format!("172.17.0.2:{port}"), "203.0.113.9:443");
        masqueraded(flow, &format!("198.51.100.1:{port}"))
    };
    let closing =
        Flow { state: ProtocolState::tcp(TcpState::TimeWait), timeout: Some(100), ..out(2) };
    let half_open = Flow {
        status: Status::CONFIRMED,
        state: ProtocolState::tcp(TcpState::SynRecv),
        timeout: Some(50),
        ..to(tcp("192.0.2.8:9", "198.51.100.1:8080"), "172.17.0.2:80")
    };
    let marked =
        Flow { mark: Some(Mark(7)), zone: Zone::both(3), ..udp("192.0.2.8:9", "198.51.100.1:53") };
    vec![out(1), closing, half_open, marked]
}

#[test]
fn holders_with_their_make_up() {
    let rows = count(&[Key::Holder], &roster(), &flows());
    assert_eq!((rows.rows.len(), rows.others, rows.other.is_none()), (2, 0, true));
    let web = &rows.rows[0];
    assert_eq!(web.values, [Value::Holder(roster().holders[0].clone())]);
    assert_eq!(web.entries, Figure::exactly(3));
    let part = &web.parts[0];
    assert_eq!((part.inode, part.of_limit, part.of_limit_margin), (HOST, Some(0.0003), Some(0.0)));
    let made = web.make_up.as_ref().unwrap();
    let third = 1.0 / 3.0;
    assert_eq!((made.entries, made.locked, made.evictable), (3, third, third));
    assert_eq!((made.incoming, made.outgoing, made.local), (third, 2.0 * third, 0.0));
    // 1 and 20 seconds are known, that of the half-open one is not.
    assert_eq!(made.idle_median, Some(1));
    let https = Service { address: ip("203.0.113.9"), protocol: Protocol::TCP, port: Some(443) };
    assert_eq!(made.top_peer, Some((Peer::Service(https), 2)));
}

#[test]
fn ghosts_are_told_where_they_were_looked_for() {
    let (roster, flows) = (roster(), flows());
    let mut counter = Counter::new(&[Key::Holder], &roster).unwrap();
    counter.mark_ghosts();
    let mut table = counter.table(facts(HOST, 4), clock());
    for flow in &flows {
        table.add(flow);
    }
    table.mark_ghost(&flows[1]);
    table.finish(true);
    let rows = counter.rows(2, None).rows;
    let ghosts = |row: &Row| row.make_up.as_ref().unwrap().ghosts;
    assert_eq!((ghosts(&rows[0]), ghosts(&rows[1])), (Some(1), Some(0)));
}

#[test]
fn every_key_has_its_values() {
    let flows = flows();
    let roster = roster();
    let values = |key| {
        let rows = count(&[key], &roster, &flows).rows;
        rows.iter().map(|row| (row.values[0].clone(), row.entries.value as u64)).collect::<Vec<_>>()
    };
    let web = Value::Holder(roster.holders[0].clone());
    let resolver = Value::Holder(roster.holders[4].clone());
    assert_eq!(values(Key::Container), [(web.clone(), 3), (Value::None, 1)]);
    assert_eq!(values(Key::Process), [(web, 3), (resolver, 1)]);
    assert_eq!(values(Key::Pod), [(Value::None, 4)]);
    let published =
        Service { address: ip("198.51.100.1"), protocol: Protocol::TCP, port: Some(8080) };
    assert_eq!(values(Key::Service), [(Value::None, 3), (Value::Service(published), 1)]);
    assert_eq!(values(Key::Netns), [(Value::Netns(HOST, "netns 1".to_owned()), 4)]);
    let address = |text| Value::Address(ip(text));
    assert_eq!(values(Key::Source), [(address("172.17.0.2"), 2), (address("192.0.2.8"), 2)]);
    assert_eq!(
        values(Key::Destination),
        [(address("198.51.100.1"), 2), (address("203.0.113.9"), 2)]
    );
    let port = |protocol, port| Value::Port(protocol, port);
    let expected = [
        (port(Protocol::TCP, 443), 2),
        (port(Protocol::TCP, 8080), 1),
        (port(Protocol::UDP, 53), 1),
    ];
    assert_eq!(values(Key::Port), expected);
    assert_eq!(
        values(Key::Protocol),
        [(Value::Protocol(Protocol::TCP), 3), (Value::Protocol(Protocol::UDP), 1)]
    );
    let state = |text: &str| (Value::State(text.to_owned()), 1);
    let states = ["ASSURED", "ESTABLISHED", "SYN_RECV", "TIME_WAIT"].map(state);
    assert_eq!(values(Key::State), states);
    assert_eq!(values(Key::Zone), [(Value::Zone(0), 3), (Value::Zone(3), 1)]);
    assert_eq!(values(Key::Mark), [(Value::Mark(Mark(0)), 3), (Value::Mark(Mark(7)), 1)]);
}

#[test]
fn pods_are_one_and_their_containers_each_themselves() {
    let mut roster = roster();
    let Holder::Pod(mut sidecar) = roster.holders[2].clone() else { panic!("no pod") };
    sidecar.container.as_mut().unwrap().name = Some("sidecar".to_owned());
    roster.holders.push(Holder::Pod(sidecar));
    let host = roster.views.get_mut(&HOST).unwrap();
    let mut tenant = host.tenants[&ip("10.1.0.9")].clone();
    tenant[0].holder.0 = 5;
    host.tenants.insert(ip("10.1.0.10"), tenant);
    let flows = ["10.1.0.9:1", "10.1.0.10:1"].map(|from| tcp(from, "203.0.113.9:443"));
    assert_eq!(count(&[Key::Container], &roster, &flows).rows.len(), 2);
    let pods = count(&[Key::Pod], &roster, &flows).rows;
    let [Row { values, entries, .. }] = pods.as_slice() else { panic!("{pods:?}") };
    let [Value::Holder(Holder::Pod(pod))] = values.as_slice() else { panic!("{values:?}") };
    assert_eq!((entries.value, &pod.container), (2.0, &None));
}

#[test]
fn pairs_are_counted_together() {
    let rows = count(&[Key::Holder, Key::Destination], &roster(), &flows()).rows;
    assert_eq!(rows.iter().map(|row| row.entries.value as u64).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(rows[0].values[1], Value::Address(ip("203.0.113.9")));
    let roster = roster();
    for bad in [&[][..], &[Key::Mark; 2], &[Key::Mark, Key::Zone, Key::Port]] {
        assert!(Counter::new(bad, &roster).is_none(), "{bad:?}");
    }
}

#[test]
fn a_sample_stands_for_its_table() {
    let roster = roster();
    let mut counter = Counter::new(&[Key::Holder], &roster).unwrap();
    let mut table = counter.table(facts(HOST, 4000), clock());
    for flow in flows().iter().cycle().take(400) {
        table.add(flow);
    }
    assert_eq!((table.seen(), table.count()), (400, 4000));
    table.finish(false);
    let rows = counter.rows(1, None);
    let web = rows.rows[0].entries;
    assert_eq!(web.value as u64, 3000);
    assert!(web.low < 2850.0 && web.high > 3150.0 && web.low > 2800.0 && web.high < 3200.0);
    let other = rows.other.unwrap();
    assert_eq!((other.entries.value, rows.others), (1000.0, 1));
    assert!(other.make_up.unwrap().incoming > 0.999);
    assert_eq!(counter.tables()[0].counted, Counted::Sampled { entries: 400 });
}

#[test]
fn tables_are_added_up() {
    let roster = roster();
    let mut counter = Counter::new(&[Key::Holder], &roster).unwrap();
    assert!(counter.takes_owned());
    let mut host = counter.table(facts(HOST, 4), clock());
    for flow in &flows() {
        host.add(flow);
    }
    host.finish(true);
    counter.add_owned(facts(WEB_NETNS, 50), WEB);
    let rows = counter.rows(10, None).rows;
    assert_eq!(rows[0].entries, Figure::exactly(53));
    let parts: Vec<_> = rows[0].parts.iter().map(|p| (p.inode, p.entries.value)).collect();
    assert_eq!(parts, [(WEB_NETNS, 50.0), (HOST, 3.0)]);
    assert_eq!(counter.tables()[1].counted, Counted::Owned);
    let by_source = Counter::new(&[Key::Holder, Key::Source], &roster).unwrap();
    assert!(!by_source.takes_owned());
}

/// A table that was sampled without meeting a row may still hold some of it.
#[test]
fn what_was_not_met_is_not_excluded() {
    let roster = roster();
    let mut counter = Counter::new(&[Key::Holder], &roster).unwrap();
    let mut host = counter.table(facts(HOST, 4), clock());
    for flow in &flows() {
        host.add(flow);
    }
    host.finish(true);
    let mut other = counter.table(facts(HOST, 10_000), clock());
    (0..100).for_each(|_| other.add(&udp("192.0.2.8:9", "198.51.100.1:53")));
    other.finish(false);
    let rows = counter.rows(10, None).rows;
    let web = rows.iter().find(|row| row.values[0] == Value::Holder(roster.holders[0].clone()));
    let Figure { value, low, high } = web.unwrap().entries;
    assert_eq!((value, low), (3.0, 3.0));
    assert!((300.0..450.0).contains(&high), "{high}");
}

fn from(source: u32) -> Flow {
    let mut flow = udp("192.0.2.8:9", "198.51.100.1:53");
    flow.original.source = IpAddr::V4(Ipv4Addr::from_bits(source));
    flow
}

/// A million sources, of which a few have many entries.
#[test]
fn more_keys_than_are_kept_cost_a_known_error() {
    let roster = Roster::default();
    let mut counter = Counter::new(&[Key::Source], &roster).unwrap();
    let mut table = counter.table(facts(HOST, 1_100_000), clock());
    for number in 0..1_000_000_u32 {
        table.add(&from(number.wrapping_mul(2_654_435_761)));
        if number % 10 == 0 {
            // The last of them comes from the middle on only.
            let frequent = number / 10 % 5;
            if frequent < 4 || number > 500_000 {
                table.add(&from(1 + frequent));
            }
        }
    }
    table.finish(true);
    assert!(counter.len() <= 1 << 17);
    let rows = counter.rows(5, None);
    for row in &rows.rows {
        let truth =
            if row.values[0] == Value::Address(ip("0.0.0.5")) { 10_000.0 } else { 20_000.0 };
        let Figure { value, low, high } = row.entries;
        assert!(low <= truth && truth <= high, "{row:?}");
        assert!(value <= low && high - low <= 17.0, "{row:?}");
    }
    assert!(rows.others >= 900_000, "{}", rows.others);
    assert!((rows.other.unwrap().entries.value - 1_000_000.0).abs() < 100.0);
}

#[test]
fn up_to_the_bound_every_row_is_exact() {
    let roster = Roster::default();
    let mut counter = Counter::new(&[Key::Source], &roster).unwrap();
    let mut table = counter.table(facts(HOST, 200_000), clock());
    for number in 0..200_000_u32 {
        table.add(&from(number % 130_000));
    }
    table.finish(true);
    let rows = counter.rows(70_000, None);
    assert!(rows.rows.iter().all(|row| row.entries == Figure::exactly(2)), "the first 70,000");
    assert_eq!(rows.other.unwrap().entries, Figure::exactly(60_000));
}
