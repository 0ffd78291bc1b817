//! Whose an entry is, case by case.

mod common;

use common::{
    CART, DATABASE, HAPROXY, HOST, NOW_MS, RESOLVER, WEB, WEB_NETNS, end, ip, masqueraded, roster,
    tcp, timeouts, to, udp,
};
use ctkeeper_census::{Attribution, Attributor, Clock, HolderRef, PeerRef, Way};
use ctkeeper_flow::{
    Flow, Layer4, Protocol, ProtocolState, Status, TcpState, Timestamps, Tuple, Zone,
};
use ctkeeper_snapshot::{Roster, Service, SocketHolder, Unattributed};

fn clock() -> Clock {
    Clock::new(NOW_MS, Some(NOW_MS), Some(&timeouts()))
}

fn of(flow: &Flow) -> Attribution {
    Attributor::new(&roster(), HOST, clock()).attribute(flow)
}

fn service(text: &str) -> Service {
    let at = end(text);
    Service { address: at.ip(), protocol: Protocol::TCP, port: Some(at.port()) }
}

const CLIENT: &str = "192.0.2.8:5000";

#[test]
fn a_published_port_is_its_containers() {
    let found = of(&to(tcp(CLIENT, "198.51.100.1:8080"), "172.17.0.2:80"));
    assert_eq!((found.holder, found.way), (HolderRef::Known(WEB), Way::Incoming));
    assert_eq!(found.service, Some(service("198.51.100.1:8080")));
    assert_eq!(found.peer, PeerRef::Address(ip("192.0.2.8")));
    assert!(!found.is_masqueraded);
}

#[test]
fn who_goes_out_by_masquerade_holds_the_entry() {
    let out = masqueraded(tcp("172.17.0.2:4000", "203.0.113.9:443"), "198.51.100.1:4000");
    let found = of(&out);
    assert_eq!((found.holder, found.way), (HolderRef::Known(WEB), Way::Outgoing));
    assert!(found.is_masqueraded);
    assert_eq!(found.service, None);
    assert_eq!(found.peer, PeerRef::Service(service("203.0.113.9:443")));
}

#[test]
fn both_translations_at_once() {
    // A Service whose back end is another pod, masqueraded by the node.
    let asked = tcp("172.17.0.2:4000", "10.96.0.10:80");
    let found = of(&masqueraded(to(asked, "10.1.0.9:8080"), "10.1.0.1:61000"));
    assert_eq!((found.holder, found.way), (HolderRef::Known(WEB), Way::Local));
    assert_eq!(found.service, Some(service("10.96.0.10:80")));
    assert_eq!(found.peer, PeerRef::Holder(CART));
    assert!(found.is_masqueraded);
}

#[test]
fn a_hairpin_is_the_containers_with_itself() {
    let asked = to(tcp("172.17.0.2:4000", "198.51.100.1:8080"), "172.17.0.2:80");
    let found = of(&masqueraded(asked, "172.17.0.1:4000"));
    assert_eq!((found.holder, found.way), (HolderRef::Known(WEB), Way::Local));
    assert_eq!(found.peer, PeerRef::Holder(WEB));
}

#[test]
fn a_redirect_leads_to_who_listens() {
    let found = of(&to(tcp(CLIENT, "203.0.113.99:8443"), "198.51.100.1:443"));
    assert_eq!((found.holder, found.way), (HolderRef::Known(HAPROXY), Way::Incoming));
    assert_eq!(found.service, Some(service("203.0.113.99:8443")));
}

#[test]
fn local_processes_by_their_sockets() {
    let out = of(&tcp("198.51.100.1:40000", "203.0.113.7:443"));
    assert_eq!((out.holder, out.way), (HolderRef::Known(HAPROXY), Way::Outgoing));
    let hidden = of(&tcp("198.51.100.1:40001", "203.0.113.7:443"));
    assert_eq!(hidden.holder, HolderRef::Unattributed(Unattributed::Hidden));
    let none = of(&tcp("198.51.100.1:40002", "203.0.113.7:443"));
    assert_eq!(none.holder, HolderRef::Unattributed(Unattributed::NoSocket));
    assert_eq!(none.way, Way::Outgoing);
    let within = of(&tcp("127.0.0.1:41000", "127.0.0.1:9000"));
    assert_eq!((within.holder, within.way), (HolderRef::Known(HAPROXY), Way::Local));
    assert_eq!(within.peer, PeerRef::Holder(RESOLVER));
    let closed = of(&tcp("127.0.0.1:41001", "127.0.0.1:9000"));
    assert_eq!((closed.holder, closed.way), (HolderRef::Known(RESOLVER), Way::Local));
}

/// Its socket has gone before its entry: whoever alone has others to the same end had it.
#[test]
fn a_closed_connection_is_whose_the_open_ones_are() {
    let closed = |remote: &str| Flow {
        state: ProtocolState::tcp(TcpState::TimeWait),
        timeout: Some(100),
        ..tcp("198.51.100.1:40002", remote)
    };
    let mut roster = roster();
    let of = |roster: &Roster, flow: &Flow| {
        Attributor::new(roster, HOST, clock()).attribute(flow).holder
    };
    let nobody = HolderRef::Unattributed(Unattributed::NoSocket);
    // One of the open ones is hidden.
    assert_eq!(of(&roster, &closed("203.0.113.7:443")), nobody);
    let host = roster.views.get_mut(&HOST).unwrap();
    host.connected.retain(|_, holder| *holder != SocketHolder::Hidden);
    assert_eq!(of(&roster, &closed("203.0.113.7:443")), HolderRef::Known(HAPROXY));
    assert_eq!(of(&roster, &closed("203.0.113.8:443")), nobody);
    assert_eq!(of(&roster, &tcp("198.51.100.1:40002", "203.0.113.7:443")), nobody, "it is open");
}

/// A port that somebody listens at is no sign that it opened a connection from there.
#[test]
fn a_listener_opens_no_stream() {
    let found = of(&tcp("198.51.100.1:443", "203.0.113.7:9"));
    assert_eq!(found.holder, HolderRef::Unattributed(Unattributed::NoSocket));
    let datagram = of(&udp("198.51.100.1:53", "203.0.113.53:53"));
    assert_eq!(datagram.holder, HolderRef::Known(RESOLVER));
}

#[test]
fn sockets_that_were_not_all_seen_prove_nothing() {
    let mut roster = roster();
    roster.views.get_mut(&HOST).unwrap().sockets_complete = false;
    let flow = tcp("198.51.100.1:40002", "203.0.113.7:443");
    let found = Attributor::new(&roster, HOST, clock()).attribute(&flow);
    assert_eq!(found.holder, HolderRef::Unattributed(Unattributed::Hidden));
}

#[test]
fn what_passes_through_is_outsides() {
    let found = of(&tcp(CLIENT, "203.0.113.7:443"));
    assert_eq!((found.holder, found.way), (HolderRef::Outside, Way::Forwarded));
    // Another machine of the host's own network is outside as well.
    let neighbour = of(&tcp("198.51.100.77:1", "203.0.113.7:443"));
    assert_eq!(neighbour.holder, HolderRef::Outside);
}

#[test]
fn an_address_without_tenant_has_gone() {
    let gone = |address: &str| Unattributed::Gone { address: ip(address) };
    let out = of(&tcp("172.17.0.99:4000", "203.0.113.9:443"));
    assert_eq!(out.holder, HolderRef::Unattributed(gone("172.17.0.99")));
    let inward = of(&to(tcp(CLIENT, "198.51.100.1:8080"), "172.17.0.98:80"));
    assert_eq!(inward.holder, HolderRef::Unattributed(gone("172.17.0.98")));
    assert_eq!((inward.way, inward.peer), (Way::Incoming, PeerRef::Address(ip("192.0.2.8"))));
    // Whoever is left holds it.
    let left = of(&tcp("172.17.0.99:4000", "172.17.0.2:80"));
    assert_eq!((left.holder, left.way), (HolderRef::Known(WEB), Way::Local));
}

#[test]
fn a_reused_address_is_not_credited_to_who_came_after() {
    let at = |idle: u32| Flow { timeout: Some(432_000 - idle), ..tcp("172.17.0.3:1", CLIENT) };
    assert_eq!(of(&at(10)).holder, HolderRef::Known(DATABASE));
    let gone = HolderRef::Unattributed(Unattributed::Gone { address: ip("172.17.0.3") });
    assert_eq!(of(&at(1000)).holder, gone);
    let closing =
        Flow { state: ProtocolState::tcp(TcpState::TimeWait), timeout: Some(20), ..at(0) };
    assert_eq!(of(&closing).holder, gone);
    // Nothing is known of the last packet: who has the address now.
    let unknown = Flow { timeout: None, ..closing.clone() };
    assert_eq!(of(&unknown).holder, HolderRef::Known(DATABASE));
    let no_timeouts =
        Attributor::new(&roster(), HOST, Clock::new(NOW_MS, None, None)).attribute(&closing);
    assert_eq!(no_timeouts.holder, HolderRef::Known(DATABASE));
    // It began after: its timeout must have been changed.
    let start = (NOW_MS - 30_000) * 1_000_000;
    let younger = Flow { timestamps: Some(Timestamps { start, stop: 0 }), ..closing };
    assert_eq!(of(&younger).holder, HolderRef::Known(DATABASE));
}

#[test]
fn an_address_of_several_is_ambiguous() {
    let flow = tcp("172.17.0.50:1", CLIENT);
    let ambiguous = Unattributed::Ambiguous { address: ip("172.17.0.50") };
    assert_eq!(of(&flow).holder, HolderRef::Unattributed(ambiguous));
    // Zones tell equal tuples apart, not whose they are.
    let zoned = Flow { zone: Zone::both(7), ..flow.clone() };
    assert_eq!(of(&zoned).holder, HolderRef::Unattributed(ambiguous));
    let mut roster = roster();
    let host = roster.views.get_mut(&HOST).unwrap();
    host.tenants.get_mut(&ip("172.17.0.50")).unwrap()[0].since_ms = Some(NOW_MS - 5000);
    let earlier = Flow { timeout: Some(431_500), ..flow };
    let found = Attributor::new(&roster, HOST, clock()).attribute(&earlier);
    assert_eq!(found.holder, HolderRef::Known(DATABASE), "the other came after");
}

#[test]
fn an_owner_holds_everything_of_its_namespace() {
    let roster = roster();
    let attributor = Attributor::new(&roster, WEB_NETNS, clock());
    let of = |flow: &Flow| attributor.attribute(flow);
    let out = of(&tcp("172.17.0.2:4000", "203.0.113.9:443"));
    assert_eq!((out.holder, out.way), (HolderRef::Known(WEB), Way::Outgoing));
    let inward = of(&tcp("172.17.0.3:4000", "172.17.0.2:80"));
    assert_eq!((inward.holder, inward.way), (HolderRef::Known(WEB), Way::Incoming));
    assert_eq!(inward.peer, PeerRef::Address(ip("172.17.0.3")));
    let through = of(&tcp("10.8.0.2:4000", "203.0.113.9:443"));
    assert_eq!((through.holder, through.way), (HolderRef::Known(WEB), Way::Forwarded));
    let within = of(&tcp("127.0.0.1:1", "127.0.0.1:2"));
    assert_eq!((within.way, within.peer), (Way::Local, PeerRef::Service(service("127.0.0.1:2"))));
}

#[test]
fn protocols_without_ports() {
    let ping = |from: &str, to: &str, id| {
        let layer4 = Layer4::Icmp { kind: 8, code: 0, id };
        let original =
            Tuple { source: ip(from), destination: ip(to), protocol: Protocol::ICMP, layer4 };
        let reply = original.inverted().unwrap();
        Flow { original, reply, timeout: Some(29), ..Flow::default() }
    };
    let out = of(&ping("172.17.0.2", "203.0.113.9", 9));
    let echo = Service { address: ip("203.0.113.9"), protocol: Protocol::ICMP, port: None };
    assert_eq!((out.holder, out.peer), (HolderRef::Known(WEB), PeerRef::Service(echo)));
    assert_eq!((out.service, out.is_masqueraded), (None, false));
    let own = of(&ping("198.51.100.1", "203.0.113.9", 77));
    assert_eq!(own.holder, HolderRef::Known(RESOLVER));
    let kernels = of(&ping("203.0.113.9", "198.51.100.1", 5));
    assert_eq!(kernels.holder, HolderRef::Unattributed(Unattributed::NoSocket));
    let original = Tuple {
        source: ip("172.17.0.2"),
        destination: ip("203.0.113.9"),
        protocol: Protocol(50),
        layer4: Layer4::None,
    };
    let reply = original.inverted().unwrap();
    let esp = Flow { original, reply, ..Flow::default() };
    assert_eq!(of(&esp).holder, HolderRef::Known(WEB));
}

#[test]
fn both_families() {
    let found = of(&to(tcp("[2001:db8::8]:5000", "[fd00::1]:8080"), "[fd00::9]:80"));
    assert_eq!((found.holder, found.way), (HolderRef::Known(CART), Way::Incoming));
    let gone = of(&tcp("[fd00::77]:1", "[2001:db8::8]:5000"));
    let address = ip("fd00::77");
    assert_eq!(gone.holder, HolderRef::Unattributed(Unattributed::Gone { address }));
    // A socket of any IPv6 address serves IPv4 as well.
    assert_eq!(of(&udp(CLIENT, "198.51.100.1:53")).holder, HolderRef::Known(RESOLVER));
    assert_eq!(of(&udp("[2001:db8::8]:5", "[fd00::1]:53")).holder, HolderRef::Known(RESOLVER));
}

#[test]
fn a_group_is_whoever_listens_here() {
    let asked = of(&udp("198.51.100.9:5353", "224.0.0.251:5353"));
    assert_eq!((asked.holder, asked.way), (HolderRef::Known(RESOLVER), Way::Incoming));
    let nobody = of(&udp("198.51.100.9:1900", "239.255.255.250:1900"));
    assert_eq!((nobody.holder, nobody.way), (HolderRef::Outside, Way::Forwarded));
    let out = of(&udp("172.17.0.2:137", "172.17.255.255:137"));
    assert_eq!((out.holder, out.way), (HolderRef::Known(WEB), Way::Outgoing));
}

#[test]
fn without_a_view_everything_is_hidden() {
    let roster = Roster::default();
    let found = Attributor::new(&roster, 99, clock()).attribute(&tcp(CLIENT, "172.17.0.2:80"));
    assert_eq!(found.holder, HolderRef::Unattributed(Unattributed::Hidden));
}

#[test]
fn a_connected_socket_goes_before_a_listener() {
    let mut roster = roster();
    let host = roster.views.get_mut(&HOST).unwrap();
    let flow = tcp(CLIENT, "198.51.100.1:443");
    let connection = ctkeeper_snapshot::Connection {
        protocol: Protocol::TCP,
        local: end("198.51.100.1:443"),
        remote: end(CLIENT),
    };
    host.connected.insert(connection, SocketHolder::Of(RESOLVER));
    let found = Attributor::new(&roster, HOST, clock()).attribute(&flow);
    assert_eq!(found.holder, HolderRef::Known(RESOLVER));
    let half_open = Flow { status: Status::default(), ..tcp("192.0.2.9:1", "198.51.100.1:443") };
    let found = Attributor::new(&roster, HOST, clock()).attribute(&half_open);
    assert_eq!(found.holder, HolderRef::Known(HAPROXY));
}
