//! Floods that live on evictions, and packets of no connection.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_tests::{Filling, HostValues, Namespace, fill};

use crate::ground::{
    Background, SERVER, clients_and_servers, ensure_none, ensure_only, evidence, look, sink,
    udp_flows,
};

const LIVING: Filling = Filling::Established { timeout: 431_990 };
const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER), 53);

/// Half-open connections at the limit, and new flows.
pub(crate) fn early_drop() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    let namespace = clients_and_servers()?;
    namespace.track()?;
    let _sink = sink(&namespace, DNS)?;
    let limit = host.limit();

    // Healthy neighbour: as many flows while there is room.
    fill(&namespace, 0, limit - 10_000, Filling::HalfOpen)?;
    let flows = udp_flows(&namespace, 1000, std::slice::from_ref(&DNS))?;
    ensure_none(&look(&namespace)?)?;
    drop(flows);

    let (standing, _) = namespace.count_and_limit()?;
    fill(&namespace, limit, 2 * limit - standing, Filling::HalfOpen)?;
    let _flows = udp_flows(&namespace, 1000, std::slice::from_ref(&DNS))?;
    let report = look(&namespace)?;
    ensure_only(&report, "early-drop", "warning")?;
    let evicted = evidence(&report, "early-drop", "evicted_entries");
    ensure!(evicted.and_then(serde_json::Value::as_u64) > Some(50), "{:#}", report.0);
    let to = evidence(&report, "early-drop", "destination").context("no destination")?;
    ensure!(to == "tcp 10.77.0.1:443", "{:#}", report.0);
    Ok(())
}

/// Refusals beside evictions: a table of established connections, one in ten of them half-open.
pub(crate) fn refusals_beside_evictions() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    let namespace = clients_and_servers()?;
    namespace.track()?;
    let _sink = sink(&namespace, DNS)?;
    let limit = host.limit();
    fill(&namespace, 0, limit - limit / 10, LIVING)?;
    fill(&namespace, limit, limit + limit / 10, Filling::HalfOpen)?;
    let _flows = udp_flows(&namespace, 1000, std::slice::from_ref(&DNS))?;
    let report = look(&namespace)?;
    report.ensure("table-full", "critical")?;
    report.ensure("early-drop", "warning")
}

/// A server that answers each byte, over loopback.
struct Echo {
    _accepting: Background,
    clients: Vec<TcpStream>,
}

const ECHO: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER), 7);

impl Echo {
    /// A server, and so many clients that have connected or try to.
    fn start(namespace: &Namespace, clients: u8) -> anyhow::Result<Self> {
        let listener = namespace.enter(|| TcpListener::bind(ECHO))??;
        listener.set_nonblocking(true)?;
        let mut accepted: Vec<TcpStream> = Vec::new();
        let accepting = Background::start(namespace, 500, move |_| {
            while let Ok((stream, _)) = listener.accept() {
                accepted.push(stream);
            }
            for stream in &mut accepted {
                let mut byte = [0];
                // Nothing has come, or the connection hangs: the next round looks again.
                let _ = stream.set_nonblocking(true);
                if stream.read(&mut byte).is_ok() {
                    let _ = stream.write(&byte);
                }
            }
        })?;
        let connect = || TcpStream::connect_timeout(&ECHO, Duration::from_secs(5));
        let clients = (0..clients).map(|_| namespace.enter(connect)?.map_err(anyhow::Error::from));
        Ok(Self { _accepting: accepting, clients: clients.collect::<Result<_, _>>()? })
    }

    /// Every client sends a byte now and then.
    fn talk(&self, namespace: &Namespace) -> anyhow::Result<Background> {
        let mut streams: Vec<_> =
            self.clients.iter().map(TcpStream::try_clone).collect::<Result<_, _>>()?;
        Background::start(namespace, 1000, move |number| {
            let which = number as usize % streams.len();
            // A full buffer is what comes of a connection that hangs.
            let _ = streams[which].set_nonblocking(true);
            let _ = streams[which].write(b"x");
        })
    }
}

/// The answers take a way that connection tracking does not see.
pub(crate) fn invalid_packets() -> anyhow::Result<()> {
    let namespace = clients_and_servers()?;
    namespace.nft(
        "table ip filter {\n chain raw {\n type filter hook output priority raw\n }\n \
         chain out {\n type filter hook output priority filter\n ct state invalid counter drop\n }\n}\n",
    )?;
    // Healthy neighbour: both directions are seen.
    let echo = Echo::start(&namespace, 200)?;
    let talking = echo.talk(&namespace)?;
    ensure_none(&look(&namespace)?)?;
    drop((talking, echo));

    // Connections that were set up before would be picked up, with no window checked (tcp_loose);
    // a handshake of which one side is not seen comes to nothing.
    namespace.nft("add rule ip filter raw tcp sport 7 notrack\n")?;
    let echo = Echo::start(&namespace, 200)?;
    let _talking = echo.talk(&namespace)?;
    thread::sleep(Duration::from_millis(100));
    let report = look(&namespace)?;
    ensure_only(&report, "invalid-packets", "warning")?;
    Ok(())
}
