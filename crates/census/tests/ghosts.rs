//! What is a ghost and what is not, case by case.

mod common;

use std::collections::BTreeMap;

use common::{
    CART, DATABASE, HAPROXY, HOST, NOW_MS, WEB_NETNS, end, ip, masqueraded, roster, tcp, timeouts,
    to, udp,
};
use ctkeeper_census::{Clock, GhostLook, Inhabitants, Spared, Suspects};
use ctkeeper_flow::{Counters, Flow, Protocol, ProtocolState, Status, TcpState, Zone};
use ctkeeper_snapshot::{Connection, Roster, SocketHolder, Tenant, View};

const CART_NETNS: u64 = 3;

/// What both looks see, and what stands in the table.
struct Case {
    roster: Roster,
    inhabitants: BTreeMap<u64, Inhabitants>,
    flow: Flow,
}

/// A connection from a local address to outside, idle for ten minutes, without a socket; in a host
/// where everything can be seen.
fn dead() -> Case {
    let mut roster = roster();
    let host = roster.views.get_mut(&HOST).unwrap();
    let tenant = |holder, namespace| vec![Tenant { holder, namespace, since_ms: Some(1000) }];
    host.tenants.insert(ip("10.1.0.9"), tenant(CART, CART_NETNS));
    host.tenants.insert(ip("172.17.0.3"), tenant(DATABASE, 99));
    let view = View { sockets_complete: true, ..View::default() };
    roster.views.insert(CART_NETNS, View { owner: Some(CART), ..view.clone() });
    roster.views.insert(WEB_NETNS, view);
    let alone = Inhabitants { sockets_alone: true, ..Inhabitants::default() };
    let inhabitants = [HOST, WEB_NETNS, CART_NETNS].map(|inode| (inode, alone.clone())).into();
    Case { roster, inhabitants, flow: idle(tcp("198.51.100.1:45000", "203.0.113.9:443"), 600) }
}

fn idle(flow: Flow, seconds: u32) -> Flow {
    let full = match flow.state {
        ProtocolState::Tcp(tcp) if tcp.state == TcpState::Established => 432_000,
        _ => 120,
    };
    Flow { id: Some(7), timeout: Some(full - seconds), ..flow }
}

fn closing(flow: Flow) -> Flow {
    idle(Flow { state: ProtocolState::tcp(TcpState::TimeWait), ..flow }, 20)
}

impl Case {
    fn of(flow: Flow) -> Self {
        Self { flow, ..dead() }
    }

    fn host(&mut self) -> &mut View {
        self.roster.views.get_mut(&HOST).unwrap()
    }

    fn looked_at<T>(&self, ms: u64, f: impl FnOnce(GhostLook<'_>) -> T) -> T {
        let clock = Clock::new(ms, None, Some(&timeouts()));
        let (roster, inhabitants) = (&self.roster, &self.inhabitants);
        f(GhostLook { namespace: HOST, roster, inhabitants, clock: &clock })
    }

    fn suspects(&self) -> Suspects {
        self.looked_at(NOW_MS, |look| Suspects::of([&self.flow], look))
    }

    /// Eleven seconds later, without a packet.
    fn later(&self) -> Flow {
        Flow { timeout: self.flow.timeout.map(|left| left - 11), ..self.flow.clone() }
    }

    fn judged(&self, suspects: &Suspects, flow: &Flow, after_ms: u64) -> Result<(), Spared> {
        self.looked_at(NOW_MS + after_ms, |look| suspects.judge([flow], look)[0].1)
    }

    fn verdict(&self) -> Result<(), Spared> {
        self.judged(&self.suspects(), &self.later(), 11_000)
    }
}

#[test]
fn an_idle_connection_without_socket_is_a_ghost() {
    let case = dead();
    assert_eq!(case.verdict(), Ok(()));
    let flow = case.later();
    let confirmed =
        case.looked_at(NOW_MS + 11_000, |look| case.suspects().confirm([&flow], look).len());
    assert_eq!(confirmed, 1);
}

#[test]
fn a_server_whose_connection_has_gone_has_ghosts_though_it_listens() {
    let case = Case::of(idle(tcp("192.0.2.8:5000", "198.51.100.1:443"), 600));
    assert_eq!(case.verdict(), Ok(()));
    let mut case = case;
    let connection = Connection {
        protocol: Protocol::TCP,
        local: end("198.51.100.1:443"),
        remote: end("192.0.2.8:5000"),
    };
    case.host().connected.insert(connection, SocketHolder::Hidden);
    assert_eq!(case.verdict(), Err(Spared::Socket));
}

#[test]
fn a_tenants_sockets_are_its_namespaces() {
    let mut case = Case::of(idle(tcp("10.1.0.9:4000", "203.0.113.9:443"), 600));
    assert_eq!(case.verdict(), Ok(()));
    let connection = Connection {
        protocol: Protocol::TCP,
        local: end("10.1.0.9:4000"),
        // The Service that it asked for, translated within its namespace.
        remote: end("10.96.0.1:443"),
    };
    let cart = case.roster.views.get_mut(&CART_NETNS).unwrap();
    cart.connected.insert(connection, SocketHolder::Of(CART));
    assert_eq!(case.verdict(), Err(Spared::Socket));
}

#[test]
fn whose_sockets_cannot_be_seen_has_no_ghosts() {
    let mut incomplete = dead();
    incomplete.host().sockets_complete = false;
    assert_eq!(incomplete.verdict(), Err(Spared::Unseen));
    let mut unknown = dead();
    unknown.inhabitants.clear();
    assert_eq!(unknown.verdict(), Err(Spared::OtherStacks));
    // The database's namespace is in no view.
    let elsewhere = Case::of(idle(tcp("172.17.0.3:4000", "203.0.113.9:443"), 600));
    assert_eq!(elsewhere.verdict(), Err(Spared::Unseen));
}

#[test]
fn what_speaks_without_sockets_is_spared() {
    let mut machine = dead();
    machine.inhabitants.get_mut(&HOST).unwrap().sockets_alone = false;
    assert_eq!(machine.verdict(), Err(Spared::OtherStacks));
    let mut forwards = Case::of(idle(tcp("10.1.0.9:4000", "203.0.113.9:443"), 600));
    forwards.inhabitants.get_mut(&CART_NETNS).unwrap().forwards = true;
    assert_eq!(forwards.verdict(), Err(Spared::OtherStacks));
    // The table's own namespace may: its translations stand in the entries.
    let mut host = dead();
    host.inhabitants.get_mut(&HOST).unwrap().forwards = true;
    assert_eq!(host.verdict(), Ok(()));
    for (from, to) in [
        ("198.51.100.1:51820", "203.0.113.9:51820"),
        ("198.51.100.1:55000", "203.0.113.9:4789"),
        ("203.0.113.9:4500", "198.51.100.1:4500"),
    ] {
        assert_eq!(Case::of(idle(udp(from, to), 50)).verdict(), Err(Spared::KernelPort), "{to}");
    }
    let nfs = Case::of(idle(tcp("198.51.100.1:800", "203.0.113.9:2049"), 600));
    assert_eq!(nfs.verdict(), Err(Spared::KernelPort));
    let mut own = Case::of(idle(udp("198.51.100.1:7000", "203.0.113.9:9999"), 50));
    assert_eq!(own.verdict(), Ok(()));
    own.inhabitants.get_mut(&HOST).unwrap().kernel_ports.insert((Protocol::UDP, 9999));
    assert_eq!(own.verdict(), Err(Spared::KernelPort));
}

#[test]
fn who_has_gone_or_is_not_certain_has_no_ghosts() {
    let spared = |from: &str| Case::of(idle(tcp(from, "203.0.113.9:443"), 600)).verdict();
    assert_eq!(spared("172.17.0.99:1"), Err(Spared::NoHolder), "nobody's address");
    assert_eq!(spared("172.17.0.50:1"), Err(Spared::NoHolder), "two have it");
    assert_eq!(spared("192.0.2.8:1"), Err(Spared::NoHolder), "passes through");
    let mut reused = Case::of(idle(tcp("10.1.0.9:4000", "203.0.113.9:443"), 600));
    reused.host().tenants.get_mut(&ip("10.1.0.9")).unwrap()[0].since_ms = Some(NOW_MS - 60_000);
    assert_eq!(reused.verdict(), Err(Spared::NoHolder), "came after");
}

#[test]
fn both_ends_must_be_dead() {
    let mut case = Case::of(idle(tcp("10.1.0.9:4000", "198.51.100.1:9999"), 600));
    assert_eq!(case.verdict(), Ok(()));
    let connection = Connection {
        protocol: Protocol::TCP,
        local: end("198.51.100.1:9999"),
        remote: end("10.1.0.9:4000"),
    };
    case.host().connected.insert(connection, SocketHolder::Of(HAPROXY));
    assert_eq!(case.verdict(), Err(Spared::Socket));
}

#[test]
fn the_translated_only_when_closing() {
    let out = masqueraded(tcp("10.1.0.9:4000", "203.0.113.9:443"), "198.51.100.1:4000");
    assert_eq!(Case::of(idle(out.clone(), 600)).verdict(), Err(Spared::Translated));
    assert_eq!(Case::of(closing(out)).verdict(), Ok(()));
    let mut silent = to(tcp("192.0.2.8:5000", "198.51.100.1:8080"), "10.1.0.9:80");
    silent.status = Status::SEEN_REPLY | Status::ASSURED;
    assert_eq!(Case::of(idle(silent, 600)).verdict(), Err(Spared::Translated));
}

#[test]
fn kinds_without_ghosts() {
    let established = dead().flow;
    let state = |state| Flow { state: ProtocolState::tcp(state), ..closing(established.clone()) };
    for opening in [TcpState::SynSent, TcpState::SynRecv, TcpState::SynSent2, TcpState::None] {
        assert_eq!(Case::of(state(opening)).verdict(), Err(Spared::Opening));
    }
    let mut sctp = established.clone();
    sctp.original.protocol = Protocol::SCTP;
    assert_eq!(Case::of(sctp).verdict(), Err(Spared::Protocol));
    let zoned = Flow { zone: Zone::both(3), ..established.clone() };
    assert_eq!(Case::of(zoned).verdict(), Err(Spared::Zoned));
    for bit in [Status::OFFLOAD, Status::FIXED_TIMEOUT, Status::NAT_CLASH] {
        let kept = Flow { status: established.status | bit, ..established.clone() };
        assert_eq!(Case::of(kept).verdict(), Err(Spared::Kept), "{bit}");
    }
}

/// Any socket at the port may have sent a datagram.
#[test]
fn datagrams_have_any_socket_of_their_port() {
    let mut case = Case::of(idle(udp("198.51.100.1:7000", "203.0.113.9:9999"), 50));
    assert_eq!(case.verdict(), Ok(()));
    let any = (Protocol::UDP, end("[::]:7000"));
    case.host().listening.insert(any, SocketHolder::Hidden);
    assert_eq!(case.verdict(), Err(Spared::Socket));
}

#[test]
fn a_packet_between_the_looks_is_life() {
    let case = dead();
    let suspects = case.suspects();
    let (flow, left) = (case.later(), case.flow.timeout.unwrap());
    let verdict = |flow: &Flow, after_ms| case.judged(&suspects, flow, after_ms);
    let with = |left| Flow { timeout: Some(left), ..flow.clone() };
    assert_eq!(verdict(&flow, 9_999), Err(Spared::TooSoon));
    assert_eq!(verdict(&with(431_995), 11_000), Err(Spared::Refreshed));
    assert_eq!(verdict(&with(left - 9), 11_000), Err(Spared::Refreshed));
    assert_eq!(verdict(&with(left - 20), 11_000), Err(Spared::Refreshed));
    assert_eq!(verdict(&with(left - 12), 11_500), Ok(()), "rounded");
    let other = |change: &dyn Fn(&mut Flow)| {
        let mut other = flow.clone();
        change(&mut other);
        verdict(&other, 11_000)
    };
    assert_eq!(other(&|flow| flow.id = Some(8)), Err(Spared::New));
    assert_eq!(other(&|flow| flow.id = None), Err(Spared::New));
    assert_eq!(other(&|flow| flow.reply.destination = ip("192.0.2.77")), Err(Spared::Translated));
    assert_eq!(other(&|flow| flow.status |= Status::EXPECTED), Err(Spared::Refreshed));
    let counted = |packets| Some(Counters { packets, bytes: 1 });
    assert_eq!(other(&|flow| flow.counters_original = counted(1)), Err(Spared::Refreshed));
    assert_eq!(verdict(&tcp("198.51.100.1:45001", "203.0.113.9:443"), 11_000), Err(Spared::New));
}

/// An entry that was used a second before the first look may be used a second after it, and run down
/// to what it would have without.
#[test]
fn what_may_have_been_refreshed_unseen_is_spared() {
    let just_used = Case::of(idle(dead().flow, 1));
    assert_eq!(just_used.verdict(), Err(Spared::Refreshed));
    assert_eq!(Case::of(idle(dead().flow, 3)).verdict(), Ok(()));
    // With data unacknowledged, five seconds after the first look, it would have had 300.
    let shortened = Case::of(Flow { timeout: Some(305), ..dead().flow });
    assert_eq!(shortened.verdict(), Err(Spared::Refreshed));
    // More than the setting: lowered since, a packet would have brought it down.
    let mut lowered = dead();
    lowered.flow.timeout = Some(1_000_000);
    assert_eq!(lowered.verdict(), Ok(()));
}

#[test]
fn without_timeouts_nothing_is_certain() {
    let case = dead();
    let clock = Clock::new(NOW_MS + 11_000, None, None);
    let (roster, inhabitants) = (&case.roster, &case.inhabitants);
    let look = GhostLook { namespace: HOST, roster, inhabitants, clock: &clock };
    let flow = case.later();
    assert_eq!(case.suspects().judge([&flow], look)[0].1, Err(Spared::Refreshed));
    let elsewhere = GhostLook { namespace: CART_NETNS, ..look };
    assert!(case.suspects().confirm([&flow], elsewhere).is_empty());
}
