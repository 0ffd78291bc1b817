//! A host with Docker's own daemon and containers under load; what they hold is what the load has
//! opened.

use std::time::Duration;

use ctkeeper_lab::load::{Load, Server};
use ctkeeper_tests::{Docker, IMAGE};

use crate::{actor, load};

/// Docker, and what is held open through it.
pub(crate) struct Site {
    loads: Vec<Load>,
    servers: Vec<Server>,
    pub(crate) docker: Docker,
    pub(crate) host: u64,
}

impl Site {
    /// One with a network of its own, `lab`, beside the default bridge. Its containers outlive the
    /// daemon.
    pub(crate) fn build() -> anyhow::Result<Self> {
        let docker = Docker::start_with(&["--live-restore"])?;
        docker.docker(&["network", "create", "lab"])?;
        load::move_outside(docker.clients(), docker.host(), Docker::CLIENTS)?;
        let host = docker.host().inode()?;
        Ok(Self { loads: Vec::new(), servers: Vec::new(), docker, host })
    }

    /// Starts a container that plays a part of this binary's; its whole id.
    pub(crate) fn start(
        &self,
        name: &str,
        options: &[&str],
        part: &[String],
    ) -> anyhow::Result<String> {
        let actor = format!("{}:/actor:ro", std::env::current_exe()?.display());
        let mut whole = vec!["run", "-d", "--name", name, "-v", &actor];
        let libraries = actor::LIBRARIES.map(|(outside, inside)| format!("{outside}:{inside}:ro"));
        for folder in &libraries {
            whole.extend(["-v", folder]);
        }
        whole.extend(options);
        whole.extend([IMAGE, "/actor"]);
        whole.extend(part.iter().map(String::as_str));
        self.docker.docker(&whole)
    }

    /// A container that serves, published at a port of the host, and so many connections to it
    /// from outside, which stay.
    pub(crate) fn published(
        &mut self,
        name: &str,
        network: &str,
        port: u16,
        connections: u64,
    ) -> anyhow::Result<String> {
        let published = format!("{port}:80");
        let part = actor::serving("0.0.0.0:80");
        let id = self.start(name, &["--network", network, "-p", &published], &part)?;
        self.said(name, "serves")?;
        self.load(&format!("{}:{port}", Docker::HOST), connections)?;
        Ok(id)
    }

    /// So many connections from outside, which stay.
    pub(crate) fn load(&mut self, target: &str, connections: u64) -> anyhow::Result<()> {
        self.loads.push(load::held(self.docker.clients(), target, connections)?);
        Ok(())
    }

    /// A container that opens so many connections to a server outside, and keeps them.
    pub(crate) fn outgoing(
        &mut self,
        name: &str,
        network: &str,
        port: u16,
        connections: u64,
    ) -> anyhow::Result<String> {
        let address = format!("{}:{port}", load::SERVER);
        let server = load::server(self.docker.clients(), &address)?;
        let part = actor::holding(connections, &address);
        let id = self.start(name, &["--network", network], &part)?;
        self.said(name, &format!("holds {connections}"))?;
        load::ensure_open(&server, connections)?;
        self.servers.push(server);
        Ok(id)
    }

    /// Waits until a container has said something.
    fn said(&self, name: &str, what: &str) -> anyhow::Result<()> {
        let mut last = String::new();
        for _ in 0..200 {
            last = self.docker.docker(&["logs", name])?;
            if last.contains(what) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("container {name} does not say `{what}`: {last}")
    }

    /// The inode of a container's namespace.
    pub(crate) fn namespace_of(&self, container: &str) -> anyhow::Result<u64> {
        let pid = self.docker.pid_of(container)?;
        Ok(ctkeeper_netlink::netns::Namespace::of_process(pid)?.inode())
    }

    /// What names the daemon's socket to ctkeeper.
    pub(crate) fn runtime(&self) -> String {
        format!("--runtime=unix://{}", self.docker.socket().display())
    }
}
