//! Two namespaces joined by a link: clients in one, servers in the other.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_lab::load::{Load, Profile, Report, Server, Service, Traffic};
use ctkeeper_lab::{End, Link, Namespace, wait_for};

/// The servers' address.
pub(crate) const SERVER: &str = "10.99.0.2";
/// The first of 1,024 addresses that are all the clients' own.
pub(crate) const CLIENTS: &str = "10.99.16.0";

pub(crate) struct Ground {
    // The link goes before the namespaces.
    _link: Link,
    pub(crate) clients: Namespace,
    pub(crate) servers: Namespace,
}

impl Ground {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let (clients, servers) = (Namespace::create()?, Namespace::create()?);
        let near = ["10.99.0.1/16", "fd99::1/64"];
        let far = ["10.99.0.2/16", "fd99::2/64"];
        let link = Link::create(
            End { namespace: &clients, interface: "c0", addresses: &near },
            End { namespace: &servers, interface: "s0", addresses: &far },
        )?;
        clients.own_addresses("10.99.16.0/22")?;
        clients.own_addresses("fd98::/64")?;
        servers.route("fd98::/64 via fd99::1")?;
        Ok(Self { _link: link, clients, servers })
    }

    /// Has the servers' namespace drop what a rule of its input chain matches; tracking is on too.
    pub(crate) fn drop_at_servers(&self, matched: &str) -> anyhow::Result<()> {
        Ok(self.servers.nft(&format!(
            "table inet lab {{\nchain in {{ type filter hook input priority 10; {matched} drop; }}\n}}\n"
        ))?)
    }

    /// Takes that rule away again.
    pub(crate) fn drop_nothing(&self) -> anyhow::Result<()> {
        Ok(self.servers.nft("delete table inet lab")?)
    }

    pub(crate) fn start(&self, profile: &Profile) -> anyhow::Result<Load> {
        Ok(Load::start(&self.clients.open()?, profile)?)
    }

    /// Runs a load until every arrival has ended.
    pub(crate) fn run(&self, profile: &Profile) -> anyhow::Result<Report> {
        let load = self.start(profile)?;
        settle(&load)?;
        let report = load.report();
        show(&report);
        Ok(report)
    }

    pub(crate) fn serve(&self, service: Service, address: &str) -> anyhow::Result<Server> {
        let address: SocketAddr = address.parse()?;
        Ok(Server::start(&self.servers.open()?, service, &[address])?)
    }
}

/// Waits until a server has so many connections open: what its kernel has accepted comes to it a
/// little later.
pub(crate) fn served_open(server: &Server, connections: u64) -> anyhow::Result<()> {
    let is_so = || Ok(server.served().open == connections);
    wait_for(&format!("{connections} open connections"), Duration::from_secs(2), is_so)
        .with_context(|| format!("{:?}", server.served()))
}

/// Waits until every arrival of a load has ended.
pub(crate) fn settle(load: &Load) -> anyhow::Result<()> {
    ensure!(load.wait_settled(Duration::from_secs(30)), "not settled: {}", load.report());
    Ok(())
}

/// A load of so many arrivals in half a second.
pub(crate) fn profile(traffic: Traffic, target: &str, count: u64) -> anyhow::Result<Profile> {
    let target = target.parse().map_err(anyhow::Error::msg)?;
    let mut profile = Profile::new(traffic, target, count as f64 * 2.0);
    profile.count = Some(count);
    profile.connect_timeout = Duration::from_millis(700);
    profile.answer_timeout = Duration::from_millis(500);
    Ok(profile)
}

pub(crate) fn show(report: &Report) {
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        println!("    {report}");
    }
}
