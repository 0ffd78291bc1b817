//! Pods through containerd's CRI, and beside them on the same node a unit and a process.

use std::fs;

use anyhow::{Context, ensure};
use ctkeeper_lab::load::{Load, Server};
use ctkeeper_snapshot::{Holder, Row, Value};
use ctkeeper_tests::{NamedGroup, PodConfig, Pods, Sandbox};

use crate::actor::{self, Actor};
use crate::answer::{Answer, ensure_directions, ensure_entries, is_gone, part, show, who};
use crate::load;

const CART: u64 = 500;
const CART_SIDECAR: u64 = 80;
const SEARCH: u64 = 300;
const AGENT: u64 = 150;
const UNIT: u64 = 60;
const PROCESS: u64 = 40;

const CART_UID: &str = "0d1c7a52-6f43-4c0e-9a15-7e41c6c1a001";
const SEARCH_UID: &str = "0d1c7a52-6f43-4c0e-9a15-7e41c6c1a002";
const AGENT_UID: &str = "0d1c7a52-6f43-4c0e-9a15-7e41c6c1a003";

/// A node, and what is held open through it.
pub(crate) struct Site {
    loads: Vec<Load>,
    servers: Vec<Server>,
    pub(crate) node: Pods,
    pub(crate) host: u64,
}

impl Site {
    pub(crate) fn build(addresses: (&str, &str)) -> anyhow::Result<Self> {
        let node = Pods::start(addresses)?;
        load::move_outside(node.clients(), node.host(), Pods::CLIENTS)?;
        let host = node.host().inode()?;
        Ok(Self { loads: Vec::new(), servers: Vec::new(), node, host })
    }

    /// A container that serves, and so many connections to it through a port of the node's.
    pub(crate) fn serve(
        &mut self,
        pod: &Sandbox,
        name: &str,
        port: u16,
        count: u64,
    ) -> anyhow::Result<()> {
        self.container(pod, name, &actor::serving("0.0.0.0:80"), "serves")?;
        self.load(port, count)
    }

    fn load(&mut self, port: u16, count: u64) -> anyhow::Result<()> {
        let target = format!("{}:{port}", Pods::HOST);
        self.loads.push(load::held(self.node.clients(), &target, count)?);
        Ok(())
    }

    /// A container that holds so many connections to a server outside.
    fn hold(&mut self, pod: &Sandbox, name: &str, port: u16, count: u64) -> anyhow::Result<()> {
        let address = self.outside(port)?;
        self.container(pod, name, &actor::holding(count, &address), &format!("holds {count}"))?;
        load::ensure_open(self.servers.last().context("the server")?, count)
    }

    pub(crate) fn outside(&mut self, port: u16) -> anyhow::Result<String> {
        let address = format!("{}:{port}", load::SERVER);
        self.servers.push(load::server(self.node.clients(), &address)?);
        Ok(address)
    }

    fn container(
        &self,
        pod: &Sandbox,
        name: &str,
        part: &[String],
        says: &str,
    ) -> anyhow::Result<()> {
        let own = std::env::current_exe()?.display().to_string();
        let mut mounts = actor::LIBRARIES.to_vec();
        mounts.push((&own, "/actor"));
        let words: Vec<_> = ["/actor"].into_iter().chain(part.iter().map(String::as_str)).collect();
        self.node.container(pod, name, &mounts, &words)?;
        let mut said = String::new();
        for _ in 0..200 {
            said = self.node.said(pod, name);
            if said.contains(says) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        anyhow::bail!("container {name} does not say `{says}`: {said}")
    }

    pub(crate) fn runtime(&self) -> String {
        format!("--runtime=unix://{}", self.node.socket().display())
    }

    /// The two pods with networks of their own.
    fn cart_and_search(&mut self) -> anyhow::Result<()> {
        let ports = [(18_090, 80)];
        let cart = PodConfig {
            namespace: "shop",
            name: "cart-7d9",
            uid: CART_UID,
            ports: &ports,
            ..PodConfig::default()
        };
        let cart = self.node.sandbox(cart)?;
        self.serve(&cart, "app", 18_090, CART)?;
        self.hold(&cart, "sidecar", 9100, CART_SIDECAR)?;
        let search = PodConfig {
            namespace: "shop",
            name: "search-1",
            uid: SEARCH_UID,
            ..PodConfig::default()
        };
        let search = self.node.sandbox(search)?;
        self.hold(&search, "indexer", 9101, SEARCH)
    }
}

/// Pods by namespace and name, one of them on the node's network; a unit by its control group, a
/// process by its name.
pub(crate) fn named_and_counted() -> anyhow::Result<()> {
    let mut site = Site::build(("10.88.1.9", "10.88.1.40"))?;
    site.cart_and_search()?;
    let agent = PodConfig {
        namespace: "kube-system",
        name: "agent-x2",
        uid: AGENT_UID,
        on_host_network: true,
        ..PodConfig::default()
    };
    let agent = site.node.sandbox(agent)?;
    site.hold(&agent, "agent", 9102, AGENT)?;
    let unit_group = NamedGroup::create("system.slice/web-frontend.service")?;
    let unit = connected(&mut site, &unit_group, 9103, UNIT)?;
    let plain_group = NamedGroup::create(&format!("ctk-plain-{}", std::process::id()))?;
    let process = connected(&mut site, &plain_group, 9104, PROCESS)?;

    let answer = who(&[&site.runtime()])?;
    show(&answer);
    answer.ensure_whole(site.host)?;
    for (namespace, name, entries) in [
        ("shop", "cart-7d9", CART + CART_SIDECAR),
        ("shop", "search-1", SEARCH),
        ("kube-system", "agent-x2", AGENT),
    ] {
        let own = of_pod(&answer, namespace, name);
        ensure!(entries_of(&own, site.host) == entries, "{namespace}/{name}: {answer}");
    }
    let in_unit =
        |holder: &Holder| matches!(holder, Holder::Unit { name } if name == "web-frontend.service");
    let row = answer.holder("web-frontend.service", in_unit)?;
    ensure_entries(row, site.host, UNIT)?;
    ensure_directions(row, [0.0, 1.0, 0.0])?;
    let comm = fs::read_to_string(format!("/proc/{}/comm", process.pid()))?;
    let is_process = |holder: &Holder| matches!(holder, Holder::Process { name, pid } if name == comm.trim() && *pid == process.pid());
    let row = answer.holder((&comm, process.pid()), is_process)?;
    ensure_entries(row, site.host, PROCESS)?;
    drop(unit);
    by_container(&site)
}

/// A pod's containers each by itself.
fn by_container(site: &Site) -> anyhow::Result<()> {
    let answer = who(&[&site.runtime(), "--by", "container"])?;
    show(&answer);
    answer.ensure_whole(site.host)?;
    let agent = answer.holder("the agent's container", |holder| {
        let Holder::Pod(pod) = holder else { return false };
        let container = pod.container.as_ref().and_then(|container| container.name.as_deref());
        (pod.name.as_deref(), container) == (Some("agent-x2"), Some("agent"))
    })?;
    ensure_entries(agent, site.host, AGENT)
}

/// A program on the node, in a control group, with so many connections to a server outside.
fn connected(site: &mut Site, group: &NamedGroup, port: u16, count: u64) -> anyhow::Result<Actor> {
    let address = site.outside(port)?;
    let mut actor = Actor::start(site.node.host())?;
    group.add(actor.pid())?;
    for number in 0..count {
        actor.ask(&format!("connect {number} {address}"))?;
    }
    Ok(actor)
}

/// containerd stopped: pods by their UIDs, from the control groups, with the same numbers.
pub(crate) fn daemon_stopped() -> anyhow::Result<()> {
    let mut site = Site::build(("10.88.1.9", "10.88.1.40"))?;
    site.cart_and_search()?;
    site.node.stop_daemon();
    let answer = who(&[&site.runtime()])?;
    show(&answer);
    answer.ensure_whole(site.host)?;
    for (uid, entries) in [(CART_UID, CART + CART_SIDECAR), (SEARCH_UID, SEARCH)] {
        let own = pods(&answer, |pod| pod.uid == uid);
        ensure!(entries_of(&own, site.host) == entries, "{uid}: {answer}");
    }
    let socket = site.node.socket().display().to_string();
    let told = answer.0.gaps.iter().any(|gap| format!("{gap:?}").contains(&socket));
    ensure!(told, "no word of the silent containerd: {answer}");
    ensure!(answer.0.elapsed_ms < 2000.0, "{} ms: {answer}", answer.0.elapsed_ms);
    site.node.start_daemon()?;
    let answer = who(&[&site.runtime()])?;
    let own = of_pod(&answer, "shop", "search-1");
    ensure!(entries_of(&own, site.host) == SEARCH, "{answer}");
    Ok(())
}

/// A pod that has gone leaves entries; the next gets its address, and not them.
pub(crate) fn gone_and_its_heir() -> anyhow::Result<()> {
    let mut site = Site::build((Pods::SCARCE, Pods::SCARCE))?;
    let ports = [(18_090, 80)];
    let pod = |name, uid| PodConfig {
        namespace: "shop",
        name,
        uid,
        ports: &ports,
        ..PodConfig::default()
    };
    let first = site.node.sandbox(pod("first", CART_UID))?;
    site.serve(&first, "app", 18_090, CART)?;
    load::leave_entries(site.node.host())?;
    site.node.remove(&first)?;
    let left = site.node.host().count_and_limit()?.0;
    ensure!(left >= CART, "only {left} entries are left");
    let answer = who(&[&site.runtime()])?;
    show(&answer);
    answer.ensure_whole(site.host)?;
    ensure!(gone(&answer, site.host) == CART, "{answer}");

    // Timeouts are whole seconds: what came within one of the heir's beginning could be either's.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let heir = site.node.sandbox(pod("heir", SEARCH_UID))?;
    ensure!(site.node.address_of(&heir)? == Pods::SCARCE, "the heir has another address");
    site.serve(&heir, "app", 18_090, SEARCH)?;
    let answer = who(&[&site.runtime()])?;
    show(&answer);
    answer.ensure_whole(site.host)?;
    ensure!(entries_of(&of_pod(&answer, "shop", "heir"), site.host) == SEARCH, "{answer}");
    ensure!(gone(&answer, site.host) == CART, "{answer}");
    Ok(())
}

fn gone(answer: &Answer, inode: u64) -> u64 {
    entries_of(&answer.0.rows.iter().filter(|row| is_gone(row)).collect::<Vec<_>>(), inode)
}

fn of_pod<'a>(answer: &'a Answer, namespace: &str, name: &str) -> Vec<&'a Row> {
    let own = (Some(namespace), Some(name));
    pods(answer, |pod| (pod.namespace.as_deref(), pod.name.as_deref()) == own)
}

fn pods(answer: &Answer, is: impl Fn(&ctkeeper_snapshot::Pod) -> bool) -> Vec<&Row> {
    let is_own = |value: &Value| matches!(value, Value::Holder(Holder::Pod(pod)) if is(pod));
    answer.0.rows.iter().filter(|row| row.values.first().is_some_and(is_own)).collect()
}

fn entries_of(rows: &[&Row], inode: u64) -> u64 {
    rows.iter().map(|row| part(row, inode)).sum::<f64>() as u64
}
