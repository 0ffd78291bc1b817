//! A host as its roster tells it, and flows of its tables.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::net::{IpAddr, SocketAddr};

use ctkeeper_flow::{Flow, Protocol, ProtocolState, Status, TcpState, Timeouts, Tuple};
use ctkeeper_snapshot::{
    Attached, Connection, Container, Holder, HolderIndex, Network, Pod, Roster, SocketHolder,
    Tenant, View,
};

/// The host's namespace.
pub(crate) const HOST: u64 = 1;
/// The web container's own.
pub(crate) const WEB_NETNS: u64 = 2;
/// When the looks are, `CLOCK_BOOTTIME` milliseconds.
pub(crate) const NOW_MS: u64 = 1_000_000_000;

pub(crate) const WEB: HolderIndex = HolderIndex(0);
pub(crate) const DATABASE: HolderIndex = HolderIndex(1);
pub(crate) const CART: HolderIndex = HolderIndex(2);
pub(crate) const HAPROXY: HolderIndex = HolderIndex(3);
pub(crate) const RESOLVER: HolderIndex = HolderIndex(4);

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A host at 198.51.100.1 with a bridge of containers, a pod, a proxy and a resolver of its own.
pub(crate) fn roster() -> Roster {
    let container = |name: &str| Container {
        id: format!("{name}-id"),
        name: Some(name.to_owned()),
        ..Container::default()
    };
    let cart = Pod {
        namespace: Some("shop".to_owned()),
        name: Some("cart".to_owned()),
        uid: "uid-1".to_owned(),
        container: Some(container("app")),
    };
    let holders = vec![
        Holder::Container(container("web")),
        Holder::Container(container("database")),
        Holder::Pod(cart),
        Holder::Unit { name: "haproxy.service".to_owned() },
        Holder::Process { name: "dnsmasq".to_owned(), pid: 53 },
    ];
    let web = View { owner: Some(WEB), local: [ip("172.17.0.2")].into(), ..View::default() };
    Roster { holders, views: [(HOST, host()), (WEB_NETNS, web)].into() }
}

fn host() -> View {
    let tenant = |holder, ago_seconds: u64| {
        let since_ms = Some(NOW_MS - ago_seconds * 1000);
        vec![Tenant { holder, namespace: 7, since_ms }]
    };
    let inner = |address: &str, prefix| Attached {
        network: Network { address: ip(address), prefix },
        interface: "docker0".to_owned(),
        is_inner: true,
    };
    let outer = Attached { is_inner: false, ..inner("198.51.100.0", 24) };
    let shared = [tenant(WEB, 900), tenant(DATABASE, 900)].concat();
    let connection = |protocol, local: &str, remote: &str| Connection {
        protocol,
        local: end(local),
        remote: end(remote),
    };
    View {
        owner: None,
        local: ["198.51.100.1", "172.17.0.1", "127.0.0.1", "fd00::1"].map(ip).into(),
        tenants: [
            (ip("172.17.0.2"), tenant(WEB, 50_000)),
            (ip("172.17.0.3"), tenant(DATABASE, 60)),
            (ip("10.1.0.9"), tenant(CART, 50_000)),
            (ip("fd00::9"), tenant(CART, 50_000)),
            (ip("172.17.0.50"), shared),
        ]
        .into(),
        networks: vec![inner("172.17.0.0", 16), inner("10.1.0.0", 24), inner("fd00::", 64), outer],
        connected: [
            (
                connection(Protocol::TCP, "198.51.100.1:40000", "203.0.113.7:443"),
                SocketHolder::Of(HAPROXY),
            ),
            (
                connection(Protocol::TCP, "198.51.100.1:40001", "203.0.113.7:443"),
                SocketHolder::Hidden,
            ),
            (
                connection(Protocol::TCP, "127.0.0.1:41000", "127.0.0.1:9000"),
                SocketHolder::Of(HAPROXY),
            ),
        ]
        .into(),
        listening: [
            ((Protocol::TCP, end("0.0.0.0:443")), SocketHolder::Of(HAPROXY)),
            ((Protocol::TCP, end("127.0.0.1:9000")), SocketHolder::Of(RESOLVER)),
            ((Protocol::UDP, end("[::]:53")), SocketHolder::Of(RESOLVER)),
            ((Protocol::UDP, end("0.0.0.0:5353")), SocketHolder::Of(RESOLVER)),
            ((Protocol::ICMP, end("0.0.0.0:77")), SocketHolder::Of(RESOLVER)),
        ]
        .into(),
        sockets_complete: true,
    }
}

pub(crate) fn timeouts() -> Timeouts {
    let named = [
        ("tcp_timeout_established", 432_000),
        ("tcp_timeout_time_wait", 120),
        ("tcp_timeout_unacknowledged", 300),
        ("tcp_timeout_max_retrans", 300),
        ("udp_timeout", 30),
        ("udp_timeout_stream", 120),
        ("icmp_timeout", 30),
    ];
    Timeouts(named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// An established connection that had a packet this second.
pub(crate) fn tcp(from: &str, to: &str) -> Flow {
    let (from, to) = (end(from), end(to));
    let original = Tuple::with_ports(Protocol::TCP, (from.ip(), from.port()), (to.ip(), to.port()));
    Flow {
        original,
        reply: original.inverted().unwrap(),
        status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED,
        state: ProtocolState::tcp(TcpState::Established),
        timeout: Some(431_999),
        ..Flow::default()
    }
}

/// The same of datagrams.
pub(crate) fn udp(from: &str, to: &str) -> Flow {
    let mut flow = tcp(from, to);
    flow.state = ProtocolState::None;
    flow.timeout = Some(119);
    flow.original.protocol = Protocol::UDP;
    flow.reply.protocol = Protocol::UDP;
    flow
}

/// The flow, its destination translated.
pub(crate) fn to(mut flow: Flow, server: &str) -> Flow {
    let server = end(server);
    flow.reply = Tuple::with_ports(
        flow.reply.protocol,
        (server.ip(), server.port()),
        (flow.reply.destination, flow.reply.destination_port().unwrap()),
    );
    flow.status |= Status::DST_NAT;
    flow
}

/// The flow, its source translated.
pub(crate) fn masqueraded(mut flow: Flow, client: &str) -> Flow {
    let client = end(client);
    flow.reply = Tuple::with_ports(
        flow.reply.protocol,
        (flow.reply.source, flow.reply.source_port().unwrap()),
        (client.ip(), client.port()),
    );
    flow.status |= Status::SRC_NAT;
    flow
}
