//! A table that stands, in a namespace of its own.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_lab::{End, Link, Namespace};
use ctkeeper_netlink::Conntrack;
use tempfile::TempDir;

use super::case::{Case, TableSpec};
pub use super::look::Look;
use super::look::Watch;
use super::mask::Moment;
use super::program::{Place, Program, Said};
use super::sockets::Sockets;
use super::wire::Wire;

/// Entries of the shortest timeouts go; then the table is made anew.
const FRESH: Duration = Duration::from_secs(8);

const SETTLING: Duration = Duration::from_millis(60);

/// A table as a specification describes it.
#[derive(Debug)]
pub struct Stage {
    spec: TableSpec,
    pub(super) sockets: Sockets,
    wire: Option<Wire>,
    watch: Watch,
    library: Option<Conntrack>,
    peers: Option<Peers>,
    folder: TempDir,
    laid: Instant,
    making: Duration,
    called: Option<Instant>,
    at_first: Look,
    namespace: Namespace,
}

/// Where real sockets stand when packets are routed.
#[derive(Debug)]
struct Peers {
    _links: [Link; 2],
    client: Namespace,
    server: Namespace,
}

/// Addresses of the namespace itself, for sockets over the loopback.
const LOCAL: [&str; 2] = ["10.78.0.0/16", "fd78::/64"];

impl Stage {
    /// Makes one.
    pub fn make(spec: &TableSpec) -> anyhow::Result<Self> {
        let namespace = Namespace::create()?;
        for (name, value) in &spec.sysctl {
            namespace.sysctl(name, value)?;
        }
        let watch = Watch::open(&namespace)?;
        let folder = tempfile::Builder::new().prefix("ctk-case-").tempdir()?;
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let peers = if spec.routed { Some(Peers::join(&namespace)?) } else { None };
        let mut stage = Self {
            spec: spec.clone(),
            sockets: Sockets::default(),
            wire: None,
            watch,
            library: None,
            peers,
            folder,
            laid: Instant::now(),
            making: Duration::ZERO,
            called: None,
            at_first: Look::default(),
            namespace,
        };
        stage.prepare()?;
        stage.lay()?;
        Ok(stage)
    }

    fn prepare(&self) -> anyhow::Result<()> {
        if self.spec.steps.contains("socket ") && self.peers.is_none() {
            self.namespace.sysctl("ipv6/ip_nonlocal_bind", "1")?;
            for network in LOCAL {
                self.namespace.run("ip", &["route", "add", "local", network, "dev", "lo"])?;
            }
        }
        if !self.spec.rules.is_empty() {
            self.namespace.nft(&self.spec.rules)?;
        }
        Ok(())
    }

    /// Makes the table.
    fn lay(&mut self) -> anyhow::Result<()> {
        (self.laid, self.called) = (Instant::now(), None);
        let steps = self.spec.steps.clone();
        self.perform(&steps).context("making the table")?;
        self.making = self.laid.elapsed();
        self.at_first = self.look()?;
        while self.sockets.used && !self.is_quiet()? {}
        ensure!(steps.is_empty() || self.at_first.count() > 0, "the table is empty");
        Ok(())
    }

    /// Sockets acknowledge what they have read when they please.
    fn is_quiet(&mut self) -> anyhow::Result<bool> {
        std::thread::sleep(SETTLING);
        let now = self.look()?;
        let before = std::mem::replace(&mut self.at_first, now);
        Ok(before.difference(&self.at_first).is_none())
    }

    /// Makes the table again: in the same namespace, so that the order of entries stays, unless
    /// ports of the last time are still taken for a minute.
    pub(super) fn lay_again(&mut self) -> anyhow::Result<()> {
        if self.has_sockets() {
            *self = Self::make(&self.spec.clone())?;
            return Ok(());
        }
        let mut table = self.namespace.conntrack()?;
        table.flush()?;
        table.flush_expectations()?;
        self.lay()
    }

    /// How the table looks as it was made; if a case has changed it, or time has, it is made again.
    pub(super) fn ready(&mut self) -> anyhow::Result<Look> {
        self.called = None;
        let stale = self.laid.elapsed() > FRESH && self.at_first.count() > 0;
        let now = self.look()?;
        if !stale && self.at_first.difference(&now).is_none() {
            return Ok(now);
        }
        self.lay_again()?;
        Ok(self.at_first.clone())
    }

    /// Whether a table that is made again stands elsewhere.
    pub(super) const fn has_sockets(&self) -> bool {
        self.sockets.used
    }

    pub(super) fn look(&mut self) -> anyhow::Result<Look> {
        let from = self.laid.elapsed();
        let mut look = self.watch.look()?;
        look.moment = self.moment(from);
        Ok(look)
    }

    /// From then until now.
    fn moment(&self, from: Duration) -> Moment {
        let to = self.laid.elapsed().as_secs_f64();
        // What the case's own calls have made is as old as they.
        let called = self.called.map_or(Duration::ZERO, |called| called.elapsed());
        Moment { from: from.as_secs_f64(), to, making: (self.making + called).as_secs_f64() }
    }

    /// All calls of a case, one after the other.
    pub(super) fn call(&mut self, program: &Program, case: &Case) -> anyhow::Result<Vec<Said>> {
        self.lay_files(case)?;
        let calls = case.calls()?;
        self.called = Some(Instant::now());
        let place = self.place();
        let each = calls.iter().map(|arguments| {
            let from = self.laid.elapsed();
            let said = program.call(arguments, case, &place)?;
            Ok(Said { moment: self.moment(from), ..said })
        });
        each.collect()
    }

    pub(super) fn lay_files(&self, case: &Case) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.folder.path())? {
            fs::remove_file(entry?.path())?;
        }
        for (name, text) in &case.files {
            fs::write(self.folder.path().join(name), text)?;
        }
        Ok(())
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place {
            namespace: &self.namespace,
            labels: self.spec.labels.as_deref(),
            folder: self.folder.path(),
        }
    }

    pub(super) fn wire(&mut self) -> anyhow::Result<&mut Wire> {
        if self.wire.is_none() {
            self.wire = Some(Wire::lay(&self.namespace)?);
        }
        self.wire.as_mut().context("no wire")
    }

    pub(super) fn library(&mut self) -> anyhow::Result<&mut Conntrack> {
        if self.library.is_none() {
            self.library = Some(self.namespace.conntrack()?);
        }
        self.library.as_mut().context("no socket")
    }

    /// Calls `f` where clients stand.
    pub(super) fn at_client<T: Send>(&self, f: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        Ok(self.peers.as_ref().map_or(&self.namespace, |peers| &peers.client).enter(f)?)
    }

    /// Calls `f` where servers stand.
    pub(super) fn at_server<T: Send>(&self, f: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        Ok(self.peers.as_ref().map_or(&self.namespace, |peers| &peers.server).enter(f)?)
    }
}

impl Peers {
    /// 10.79.1.2 and fd79:1::2 are the client, 10.79.2.2 and fd79:2::2 the server.
    fn join(router: &Namespace) -> anyhow::Result<Self> {
        let (client, server) = (Namespace::create()?, Namespace::create()?);
        let link = |peer: &Namespace, number: u8| -> anyhow::Result<Link> {
            let at = |host: u8| {
                [format!("10.79.{number}.{host}/24"), format!("fd79:{number}::{host}/64")]
            };
            let (own, other) = (at(1), at(2));
            let interface = format!("to{number}");
            let link = Link::create(
                End {
                    namespace: router,
                    interface: &interface,
                    addresses: &own.each_ref().map(String::as_str),
                },
                End {
                    namespace: peer,
                    interface: "eth0",
                    addresses: &other.each_ref().map(String::as_str),
                },
            )?;
            peer.route(&format!("default via 10.79.{number}.1 quickack 1"))?;
            peer.route(&format!("default via fd79:{number}::1 quickack 1"))?;
            Ok(link)
        };
        let links = [link(&client, 1)?, link(&server, 2)?];
        router.forward()?;
        Ok(Self { _links: links, client, server })
    }
}
