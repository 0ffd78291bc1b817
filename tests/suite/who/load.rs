//! Connections that stay, and how many there are.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use ctkeeper_lab::load::{Held, Load, Profile, Server, Service, Sources, Traffic};
use ctkeeper_lab::wait_for;
use ctkeeper_tests::Namespace;

/// Addresses outside: only a route makes them the clients' own, so that no interface of this machine
/// has them and to `who` they are somebody else's, as clients mostly are.
const OUTSIDE: &str = "198.51.100.0/24";
const FIRST_CLIENT: &str = "198.51.100.1";
const CLIENTS: u32 = 50;
/// The address of servers outside.
pub(crate) const SERVER: &str = "198.51.100.200";

/// Makes the addresses outside the clients' own; the host reaches them by the clients' address.
pub(crate) fn move_outside(clients: &Namespace, host: &Namespace, by: &str) -> anyhow::Result<()> {
    clients.own_addresses(OUTSIDE)?;
    Ok(host.route(&format!("{OUTSIDE} via {by}"))?)
}

/// So many connections from outside to an address, which stay.
pub(crate) fn held(from: &Namespace, target: &str, connections: u64) -> anyhow::Result<Load> {
    let target = target.parse().map_err(anyhow::Error::msg)?;
    let mut profile = Profile::new(Traffic::TcpHeld(Held::default()), target, 2000.0);
    profile.count = Some(connections);
    profile.sources = Some(Sources::range(FIRST_CLIENT.parse()?, CLIENTS));
    let load = Load::start(&from.open()?, &profile)?;
    ensure!(load.wait_settled(Duration::from_secs(20)), "not settled: {}", load.report());
    let report = load.report();
    ensure!(report.open == connections, "{} of {connections}: {report}", report.open);
    Ok(load)
}

/// A server that keeps what it accepts.
pub(crate) fn server(at: &Namespace, address: &str) -> anyhow::Result<Server> {
    let address: SocketAddr = address.parse()?;
    Ok(Server::start(&at.open()?, Service::TcpHold {}, &[address])?)
}

/// Waits until a server has so many connections open.
pub(crate) fn ensure_open(server: &Server, connections: u64) -> anyhow::Result<()> {
    let is_so = || Ok(server.served().open == connections);
    Ok(wait_for(&format!("{connections} connections"), Duration::from_secs(10), is_so)?)
}

/// From now on nobody behind a host can end a connection so that it notices: programs end without a
/// word, and their entries stay.
pub(crate) fn leave_entries(host: &Namespace) -> anyhow::Result<()> {
    Ok(host.nft(
        "table inet silence { chain before { type filter hook prerouting priority -350;\n\
         tcp flags & (fin | rst) != 0 drop\n}\n}\n",
    )?)
}
