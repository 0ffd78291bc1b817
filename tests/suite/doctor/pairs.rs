//! Proxies that hold two entries for a connection: HAProxy between clients and back ends, each in a
//! namespace of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_host::sockets;
use ctkeeper_netlink::netns;
use ctkeeper_netlink::sockets::SocketStates;
use ctkeeper_tests::{HostValues, Namespace, Report, doctor, ensure_harmless};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const BALANCER: &str = "10.78.1.1";
const BACK: &str = "10.78.2.2";
const CLIENTS: usize = 5600;

/// A program in a namespace, ended with its guard.
struct Running(Child);

impl Running {
    fn start(namespace: &Namespace, program: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = namespace.command(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("starting {program}"))?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // `ip netns exec` has become the program: this is the process that was started.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Clients, a load balancer behind a stateful firewall, and a back end.
struct Site {
    clients: Namespace,
    balancer: Namespace,
    _back: Namespace,
    folder: tempfile::TempDir,
    _programs: Vec<Running>,
}

/// Ports of the balancer: mode http with reuse and without, mode tcp, an ordinary server.
const REUSE: u16 = 80;
const NEVER: u16 = 81;
const TCP: u16 = 82;
const SERVER: u16 = 90;

impl Site {
    fn build() -> anyhow::Result<Self> {
        let mut made = Namespace::create_many(3)?.into_iter();
        let mut next = || made.next().context("a namespace");
        let (clients, balancer, back) = (next()?, next()?, next()?);
        link(&clients, "10.78.1.2/24", &balancer, "10.78.1.1/24", "front")?;
        link(&back, "10.78.2.2/24", &balancer, "10.78.2.1/24", "back")?;
        balancer.nft(
            "table inet balancer { chain in { type filter hook input priority 0; policy drop;\n\
             ct state established,related accept\n tcp dport 80-90 accept\n iif lo accept\n}\n}\n",
        )?;
        let folder = tempfile::tempdir()?;
        let server = haproxy(folder.path(), &back, "back", &answering(80))?;
        let proxy = haproxy(folder.path(), &balancer, "balancer", &balancing())?;
        let site = Self { clients, balancer, _back: back, folder, _programs: vec![server, proxy] };
        wait_for(|| site.connect(REUSE, 1))?;
        Ok(site)
    }

    /// Opens connections to a port of the balancer, has one request answered on each, and keeps them.
    fn connect(&self, port: u16, count: usize) -> anyhow::Result<Vec<TcpStream>> {
        let to = format!("{BALANCER}:{port}").parse()?;
        connect_from(&self.clients, to, count)
    }

    /// Waits until the clients' connections are closed, and empties the balancer's table, in which
    /// they linger.
    fn forget(&self) -> anyhow::Result<()> {
        let handle = netns::Namespace::open(&self.balancer.name().parse()?)?;
        let fronts = || {
            let listing = sockets::tcp(SocketStates::CONNECTED, usize::MAX);
            listing.sockets.iter().filter(|socket| socket.local.port() < 100).count()
        };
        for _ in 0..100 {
            if netns::enter(&handle, |_| fronts())? == 0 {
                self.balancer.run("conntrack", &["-F"])?;
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("HAProxy does not close its clients' connections")
    }

    fn look(&self) -> anyhow::Result<Report> {
        doctor(&["--netns", self.balancer.name()])
    }
}

/// Waits until a program answers.
fn wait_for(ask: impl Fn() -> anyhow::Result<Vec<TcpStream>>) -> anyhow::Result<()> {
    for _ in 0..100 {
        if ask().is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    ask().map(drop).context("HAProxy does not answer")
}

fn connect_from(
    namespace: &Namespace,
    to: SocketAddr,
    count: usize,
) -> anyhow::Result<Vec<TcpStream>> {
    let handle = netns::Namespace::open(&namespace.name().parse()?)?;
    netns::enter(&handle, |_| (0..count).map(|_| ask(to)).collect())?
}

fn ask(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
    let mut answer = [0; 512];
    let length = stream.read(&mut answer)?;
    ensure!(answer[..length].starts_with(b"HTTP/1.1 200"), "no answer: {length} bytes");
    Ok(stream)
}

/// A cable between two namespaces.
pub(crate) fn link(
    a: &Namespace,
    at_a: &str,
    b: &Namespace,
    at_b: &str,
    name: &str,
) -> anyhow::Result<()> {
    let peer = ["type", "veth", "peer", "name", name, "netns", b.name()];
    a.run("ip", &[&["link", "add", "eth0"], &peer[..]].concat())?;
    for (namespace, device, address) in [(a, "eth0", at_a), (b, name, at_b)] {
        namespace.run("ip", &["addr", "add", address, "dev", device])?;
        namespace.run("ip", &["link", "set", device, "up"])?;
        namespace.run("ip", &["link", "set", "lo", "up"])?;
    }
    Ok(())
}

fn haproxy(
    folder: &Path,
    namespace: &Namespace,
    name: &str,
    sections: &str,
) -> anyhow::Result<Running> {
    let file = folder.join(format!("{name}.cfg"));
    let defaults = "global\n maxconn 9000\ndefaults\n mode http\n timeout connect 2s\n \
                    timeout client 60s\n timeout server 60s\n";
    std::fs::write(&file, format!("{defaults}{sections}"))?;
    Running::start(namespace, "haproxy", &["-db", "-f", &file.display().to_string()])
}

fn answering(port: u16) -> String {
    format!(
        "listen answering\n bind :{port}\n http-request return status 200 content-type text/plain string fine\n"
    )
}

fn balancing() -> String {
    let listen = |port: u16, how: &str| {
        format!("listen p{port}\n bind :{port}\n {how}\n server back {BACK}:80\n")
    };
    [listen(TCP, "mode tcp"), listen(REUSE, "http-reuse always"), listen(NEVER, "http-reuse never")]
        .concat()
}

/// The test holds the clients' ends itself.
fn raise_descriptors() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn evidence(report: &Report, name: &str) -> anyhow::Result<f64> {
    let finding = report.finding("two-entries").context("two-entries")?;
    let of = |item: &&serde_json::Value| item["name"] == name;
    let item = finding["evidence"].as_array().into_iter().flatten().find(of).context("evidence")?;
    item["value"].as_f64().with_context(|| format!("{name} is no number"))
}

pub(crate) fn two_entries() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    raise_descriptors()?;
    ensure_harmless(3 * CLIENTS as u64)?;
    let site = Site::build()?;
    // Healthy neighbour: as many clients over few connections to the back end.
    let clients = site.connect(REUSE, CLIENTS)?;
    let report = site.look()?;
    report.ensure_only(&[])?;
    drop(clients);
    for port in [TCP, NEVER] {
        site.forget()?;
        let clients = site.connect(port, CLIENTS)?;
        let report = site.look()?;
        report.ensure("two-entries", "note")?;
        report.ensure_only(&["two-entries"])?;
        let ratio = evidence(&report, "entries_per_connection")?;
        ensure!((1.9..=2.1).contains(&ratio), "{ratio} entries for each connection");
        let saved = evidence(&report, "entries_saved_by_reuse")?;
        let off = (saved - CLIENTS as f64).abs() / CLIENTS as f64;
        ensure!(off < 0.05, "{saved} saved of {CLIENTS}");
        drop(clients);
    }
    an_ordinary_server(&site)
}

/// Healthy neighbour: a server with as many clients, and another process beside it that opens as many
/// connections.
fn an_ordinary_server(site: &Site) -> anyhow::Result<()> {
    let server = haproxy(site.folder.path(), &site.balancer, "server", &answering(SERVER))?;
    wait_for(|| site.connect(SERVER, 1))?;
    site.forget()?;
    let served = site.connect(SERVER, CLIENTS)?;
    let called = connect_from(&site.balancer, format!("{BACK}:80").parse()?, CLIENTS)?;
    let report = site.look()?;
    report.ensure_only(&[])?;
    let entries = report.0["overview"]["entries"].as_u64();
    ensure!(entries >= Some(2 * CLIENTS as u64), "{entries:?} entries are no such load");
    drop((served, called, server));
    Ok(())
}
