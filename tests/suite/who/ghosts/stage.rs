//! The stage of the ghosts' experiment: a host that tracks and translates, with programs of its
//! own, a pod that is routed to, a container behind masquerade and a published port, and clients
//! outside.
//!
//! ```text
//! outside 198.51.100.2 ── 10.81.1.1 host 10.81.2.1 ── 10.81.2.2 pod (routed)
//!                                     10.81.3.1 ── 10.81.3.2 container (masqueraded, published)
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Context;
use ctkeeper_census::{BETWEEN_LOOKS_MS, Spared};
use ctkeeper_flow::{Flow, Protocol};
use ctkeeper_lab::{End, Link};
use ctkeeper_netlink::DumpFilter;
use ctkeeper_observe::GhostSearch;
use ctkeeper_tests::Namespace;

use crate::actor::Actor;

/// Who plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// A program of the host's.
    Home,
    /// A second one, which some case ends.
    Doomed,
    /// One outside.
    Outside,
    /// One in the routed pod.
    Pod,
    /// One in the container behind masquerade.
    Container,
    /// One in a pod that goes away.
    Leaving,
    /// One in a container behind masquerade that goes away.
    LeavingMasked,
    /// One in a routed pod that has a network stack of its own, as gVisor does.
    Sandboxed,
    /// One in a routed pod that makes its packets itself.
    Crafting,
    /// One in a routed pod whose address a virtual machine has, as Kata does.
    Machine,
}

pub(crate) struct Stage {
    actors: BTreeMap<Who, Actor>,
    places: BTreeMap<Who, Namespace>,
    /// Links go before their namespaces.
    _links: Vec<Link>,
    pub(crate) host: Namespace,
    pub(crate) outside: Namespace,
}

/// Only a route makes it the outside's own: no interface of this machine has it, so that nobody can
/// look for its sockets.
pub(crate) const OUTSIDE: &str = "198.51.100.2";
/// The outside's own end of the link.
pub(crate) const NEIGHBOUR: &str = "10.81.1.2";
pub(crate) const HOST: &str = "10.81.1.1";
pub(crate) const OUTSIDE_SIX: &str = "[fd98::2]";
/// An address that only a route makes the host's own.
pub(crate) const ANY: &str = "203.0.113.5";
pub(crate) const POD: &str = "10.81.2.2";

/// Where those behind the host stand: their network's third octet, and whether it is masqueraded.
const BEHIND: [(Who, &str, u8); 7] = [
    (Who::Pod, "pod", 2),
    (Who::Container, "container", 3),
    (Who::Leaving, "leaving", 4),
    (Who::LeavingMasked, "masked", 5),
    (Who::Sandboxed, "sandbox", 6),
    (Who::Crafting, "crafting", 7),
    (Who::Machine, "machine", 8),
];

/// Ports that the host publishes for the container, the same inside.
pub(crate) const PUBLISHED: &str = "20500-20599";
/// A port of the host's that is redirected to another of its own.
pub(crate) const REDIRECTED: (u16, u16) = (20_600, 20_601);
/// Ports that nothing leaves the host for from now on, once [`Stage::cut`] has been called.
const CUT: &str = "20700-20799";

impl Stage {
    pub(crate) fn build() -> anyhow::Result<Self> {
        let (host, outside) = (Namespace::create()?, Namespace::create()?);
        let mut links = vec![link(&outside, &["10.81.1.2/24", "fd81::2/64"], &host, "front", 1)?];
        host.forward()?;
        host.own_addresses("203.0.113.0/24")?;
        outside.own_addresses("198.51.100.0/24")?;
        outside.own_addresses("fd98::/64")?;
        outside.sysctl("ipv6/ip_nonlocal_bind", "1")?;
        outside.route(&format!("default via {HOST} src {OUTSIDE}"))?;
        outside.route(&format!("{HOST} dev eth0 src {OUTSIDE}"))?;
        host.route(&format!("198.51.100.0/24 via {NEIGHBOUR}"))?;
        host.route("fd98::/64 via fd81::2")?;
        let mut places = BTreeMap::new();
        for (who, name, net) in BEHIND {
            let place = Namespace::create()?;
            let address = format!("10.81.{net}.2/24");
            links.push(link(&place, &[&address], &host, name, net)?);
            place.route(&format!("default via 10.81.{net}.1"))?;
            places.insert(who, place);
        }
        host.track()?;
        host.nft(&rules())?;
        patient(&host)?;
        let mut stage = Self { actors: BTreeMap::new(), places, _links: links, host, outside };
        for who in [Who::Home, Who::Doomed, Who::Outside].into_iter().chain(BEHIND.map(|b| b.0)) {
            let actor = Actor::start(stage.place(who))?;
            stage.actors.insert(who, actor);
        }
        Ok(stage)
    }

    pub(crate) fn place(&self, who: Who) -> &Namespace {
        match who {
            Who::Home | Who::Doomed => &self.host,
            Who::Outside => &self.outside,
            other => self.places.get(&other).unwrap_or(&self.host),
        }
    }

    /// Tells somebody something.
    pub(crate) fn tell(&mut self, who: Who, line: &str) -> anyhow::Result<String> {
        let actor = self.actors.get_mut(&who).with_context(|| format!("{who:?} has gone"))?;
        actor.ask(line).with_context(|| format!("{who:?}"))
    }

    /// Ends somebody by SIGKILL.
    pub(crate) fn kill(&mut self, who: Who) -> anyhow::Result<()> {
        self.actors.remove(&who).map_or(Ok(()), Actor::kill)
    }

    /// A namespace with everybody in it goes.
    pub(crate) fn remove(&mut self, who: Who) -> anyhow::Result<()> {
        self.kill(who)?;
        self.places.remove(&who);
        Ok(())
    }

    /// From now on nothing leaves the host by the ports of [`CUT`], and nothing is tracked of it.
    pub(crate) fn cut(&self) -> anyhow::Result<()> {
        Ok(self.host.nft(&format!(
            "table inet cut {{ chain out {{ type filter hook output priority raw;\n\
             tcp sport {CUT} drop\n tcp dport {CUT} drop\n}}\n}}\n"
        ))?)
    }

    /// The entries of the host's table to a port that clients asked for.
    pub(crate) fn entries(&self, protocol: Protocol, port: u16) -> anyhow::Result<Vec<Flow>> {
        let mut found = Vec::new();
        self.host.conntrack()?.dump(&DumpFilter::ALL, |flow| {
            let asked = (flow.original.protocol, flow.original.destination_port());
            if asked == (protocol, Some(port)) {
                found.push(flow.clone());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}

fn link(
    one: &Namespace,
    addresses: &[&str],
    host: &Namespace,
    name: &str,
    net: u8,
) -> anyhow::Result<Link> {
    let (four, six) = (format!("10.81.{net}.1/24"), "fd81::1/64");
    let own = if net == 1 { vec![four.as_str(), six] } else { vec![four.as_str()] };
    Ok(Link::create(
        End { namespace: one, interface: "eth0", addresses },
        End { namespace: host, interface: name, addresses: &own },
    )?)
}

fn rules() -> String {
    let (from, to) = REDIRECTED;
    format!(
        "table ip nat {{\n\
         chain before {{ type nat hook prerouting priority dstnat;\n\
         ip daddr {HOST} tcp dport {PUBLISHED} dnat to 10.81.3.2\n\
         ip daddr {HOST} tcp dport {from} redirect to :{to}\n}}\n\
         chain after {{ type nat hook postrouting priority srcnat;\n\
         ip saddr {{ 10.81.3.0/24, 10.81.5.0/24 }} oif front masquerade\n}}\n}}\n"
    )
}

/// What closes or is never answered stays long enough for two looks, and what the kernel keeps of
/// a connection after its process has gone is over soon.
fn patient(host: &Namespace) -> anyhow::Result<()> {
    for (name, seconds) in [
        ("netfilter/nf_conntrack_tcp_timeout_close", "120"),
        ("netfilter/nf_conntrack_tcp_timeout_last_ack", "120"),
        ("netfilter/nf_conntrack_udp_timeout", "120"),
        ("ipv4/tcp_fin_timeout", "1"),
    ] {
        host.sysctl(name, seconds)?;
    }
    Ok(())
}

impl Stage {
    /// Looks twice; `meanwhile` happens between the looks. Of each entry of a protocol and port, the
    /// verdict.
    pub(crate) fn judged(
        &mut self,
        meanwhile: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Judged> {
        let search = GhostSearch::begin(&self.host.name().parse()?)?;
        std::thread::sleep(Duration::from_secs(5));
        meanwhile(self)?;
        std::thread::sleep(Duration::from_millis(BETWEEN_LOOKS_MS - 4_500));
        let mut judged = Judged::new();
        for (flow, verdict) in search.judge()? {
            let key = (flow.original.protocol, flow.original.destination_port().unwrap_or(0));
            judged.entry(key).or_default().push(verdict);
        }
        Ok(judged)
    }
}

pub(crate) type Judged = BTreeMap<(Protocol, u16), Vec<Result<(), Spared>>>;
