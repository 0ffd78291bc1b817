//! Entries to make, and a table to make them in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ctkeeper_flow::{Flow, Layer4, Protocol, ProtocolState, Status, TcpState, Tuple};
use ctkeeper_netlink::Conntrack;
use ctkeeper_netlink::netns;
use ctkeeper_tests::Namespace;

/// A namespace and its table.
pub(crate) fn table() -> anyhow::Result<(Namespace, Conntrack)> {
    let namespace = Namespace::create()?;
    let table = Conntrack::open_in(&held(&namespace)?)?;
    Ok((namespace, table))
}

/// The handle of a test's namespace.
pub(crate) fn held(namespace: &Namespace) -> anyhow::Result<netns::Namespace> {
    Ok(netns::Namespace::open(&namespace.name().parse()?)?)
}

/// `10.number` as an address.
pub(crate) fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

/// `fd00::number`.
pub(crate) fn v6(number: u32) -> IpAddr {
    Ipv6Addr::from((0xfd << 120) + u128::from(number)).into()
}

/// An entry with answers, as `tuple` leads to.
pub(crate) fn entry(original: Tuple) -> Flow {
    let state = match original.protocol {
        Protocol::TCP => ProtocolState::tcp(TcpState::Established),
        _ => ProtocolState::None,
    };
    Flow {
        original,
        reply: original.inverted().expect("a tuple that can be answered"),
        status: Status::SEEN_REPLY | Status::ASSURED,
        state,
        timeout: Some(600),
        ..Flow::default()
    }
}

/// The `number`th of many different TCP connections.
pub(crate) fn tcp(number: u32) -> Flow {
    let client = (v4(number / 50_000), (number % 50_000 + 1024) as u16);
    entry(Tuple::with_ports(Protocol::TCP, client, (v4(0xff_0001), 443)))
}

/// The `number`th of many different UDP flows.
pub(crate) fn udp(number: u32) -> Flow {
    let client = (v4(number / 50_000), (number % 50_000 + 1024) as u16);
    entry(Tuple::with_ports(Protocol::UDP, client, (v4(0xff_0002), 53)))
}

/// A tuple of a protocol without ports.
pub(crate) fn plain(protocol: Protocol, source: IpAddr, destination: IpAddr) -> Tuple {
    Tuple { source, destination, protocol, layer4: Layer4::None }
}
