//! What the experiments stand on: a namespace with clients, traffic in the background, and the
//! question which causes speak.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::ensure;
use ctkeeper_lab::scenario::CAUSES;
use ctkeeper_tests::{Namespace, Report, doctor};

/// The clients' addresses: all of 10.8.0.0/24.
pub(crate) fn client(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 8, 0, number).into()
}

/// A server's socket; what it receives nobody reads.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// A namespace in which every client and the servers 10.9.0.0/24 are at home.
pub(crate) fn clients_and_servers() -> anyhow::Result<Namespace> {
    let namespace = Namespace::create()?;
    namespace.own_addresses("10.8.0.0/24")?;
    namespace.own_addresses("10.9.0.0/24")?;
    Ok(namespace)
}

/// Something that goes on inside a namespace until the guard goes, for ten seconds at most.
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Background {
    /// Calls `step` so many times a second, with 0, 1, 2, …
    pub(crate) fn start(
        namespace: &Namespace,
        rate: u32,
        mut step: impl FnMut(u32) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let inside = namespace.open()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let worker = thread::spawn(move || {
            let goes_on = |number: &u32| *number < 10 * rate && !stopped.load(Ordering::Relaxed);
            let mut work = || {
                for number in (0..).take_while(goes_on) {
                    step(number);
                    thread::sleep(Duration::from_secs(1) / rate);
                }
            };
            ctkeeper_netlink::netns::enter(&inside, |_| work()).expect("the namespace is there");
        });
        // The first packets are out before anybody looks.
        thread::sleep(Duration::from_millis(50));
        Ok(Self { stop, worker: Some(worker) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A guard must not panic; a sender that did has shown it.
        let _ = self.worker.take().map(JoinHandle::join);
    }
}

/// A socket that takes datagrams in; keep it while they come.
pub(crate) fn sink(namespace: &Namespace, address: SocketAddr) -> anyhow::Result<UdpSocket> {
    Ok(namespace.enter(|| UdpSocket::bind(address))??)
}

/// One new UDP flow from the calling thread's namespace: from the next of 200 clients, from a port
/// that the kernel chooses, to the next of the destinations.
pub(crate) fn one_flow(number: u32, destinations: &[SocketAddr]) -> io::Result<()> {
    let from = SocketAddr::new(client(1 + (number % 200) as u8), 0);
    let to = destinations[number as usize % destinations.len()];
    UdpSocket::bind(from)?.send_to(b"x", to).map(drop)
}

/// New UDP flows, so many a second.
pub(crate) fn udp_flows(
    namespace: &Namespace,
    rate: u32,
    destinations: &'static [SocketAddr],
) -> anyhow::Result<Background> {
    Background::start(namespace, rate, move |number| {
        // A refused datagram is what some experiments are about.
        let _ = one_flow(number, destinations);
    })
}

/// What doctor says of a namespace over half a second.
pub(crate) fn look(namespace: &Namespace) -> anyhow::Result<Report> {
    show(namespace)?;
    doctor(&["--netns", namespace.name(), "--window", "500ms"])
}

/// With `CKEEPER_PICTURE` set, what a person would see is printed too.
fn show(namespace: &Namespace) -> anyhow::Result<()> {
    if std::env::var_os("CTKEEPER_PICTURE").is_some() {
        let arguments = ["doctor", "--no-note", "--window", "500ms", "--netns", namespace.name()];
        let mut command = ctkeeper_tests::ctkeeper(&arguments);
        println!("{}", ctkeeper_tests::run(command.env("COLUMNS", "100"))?.stdout);
    }
    Ok(())
}

/// Fails unless this cause, with this severity, is the only one that speaks.
pub(crate) fn ensure_only(report: &Report, id: &str, severity: &str) -> anyhow::Result<()> {
    report.ensure(id, severity)?;
    let others: Vec<_> = causes(report).filter(|cause| *cause != id).collect();
    ensure!(others.is_empty(), "beside {id}: {others:?}: {:#}", report.0);
    Ok(())
}

/// Fails if any cause speaks.
pub(crate) fn ensure_none(report: &Report) -> anyhow::Result<()> {
    let causes: Vec<_> = causes(report).collect();
    ensure!(causes.is_empty(), "{causes:?} in a healthy state: {:#}", report.0);
    Ok(())
}

fn causes(report: &Report) -> impl Iterator<Item = &'static str> {
    CAUSES.into_iter().filter(|cause| report.finding(cause).is_some())
}

/// A piece of evidence of a finding.
pub(crate) fn evidence<'a>(
    report: &'a Report,
    id: &str,
    name: &str,
) -> Option<&'a serde_json::Value> {
    let evidence = report.finding(id)?["evidence"].as_array()?;
    Some(&evidence.iter().find(|piece| piece["name"] == name)?["value"])
}
