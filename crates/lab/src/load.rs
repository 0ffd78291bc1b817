//! Load: arrivals that come when they are due, whatever becomes of those before them.
//!
//! # Open loop
//!
//! A [`Profile`] says what an arrival does and how many come a second. Arrival `n` is due at
//! `n / rate` seconds, and every latency counts from then: a target that stalls is seen stalling, and
//! its slowness does not slow the load (no coordinated omission). Where the *generator* is too slow,
//! it says so: arrivals that begin over 10 ms late are counted ([`Report::late`],
//! [`Report::late_share`]). Figures with a late share that is not nearly 0 are the generator's own.
//!
//! # Use
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use ctkeeper_lab::load::{Closing, Held, Load, Profile, Traffic};
//! use ctkeeper_netlink::netns::{Namespace, NamespaceSelector};
//!
//! let clients = Namespace::open(&NamespaceSelector::Name("ctk-lab-clients".to_owned()))?;
//! let mut profile = Profile::new(Traffic::TcpHeld(Held::default()), "10.77.1.1:80".parse()?, 500.0);
//! profile.count = Some(4_000);
//! let load = Load::start(&clients, &profile)?;
//! load.wait_settled(Duration::from_secs(15));   // every arrival has succeeded or failed
//! println!("{}", load.mark());                  // this phase; the next one begins
//! load.probe(Some(500));                        // do those that stand still work?
//! load.wait_settled(Duration::from_secs(5));
//! println!("{}", load.mark().probes.ok);
//! let whole = load.stop(Closing::Close);
//! # Ok(()) }
//! ```
//!
//! # Traffic in TOML
//!
//! Every field of a `kind` may be left out; unknown ones are errors. [`Profile`] has the rest.
//!
//! | `traffic =` | an arrival succeeds when |
//! |---|---|
//! | `{ kind = "tcp_held" }` | it is connected; it then stays (`stay = "10m"`) |
//! | `{ kind = "tcp_held", exchange = { echo = { bytes = 64 } }, greet = true, probe_every = "1s" }` | its first answer is whole; probed ever after |
//! | `{ kind = "tcp_short", exchange = { http = { path = "/" } }, reset = false }` | its answer is whole (without `exchange`: it is connected) |
//! | `{ kind = "http", path = "/", host = "shop", connections = 100 }` | the response is whole and its status below 400; without `connections`, a connection a request |
//! | `{ kind = "udp", bytes = 32, burst = 1 }` | as many datagrams came back |
//! | `{ kind = "udp_one_way", bytes = 32 }` | it is sent |
//! | `{ kind = "syn_flood" }` | it is sent |
//! | `{ kind = "tcp_packets", flags = ["ack"], sequence = 1, acknowledgement = 2, window = 64240, bytes = 0, wrong_checksum = false }` | it is sent |
//!
//! The last three are made by hand: their sources may be addresses that are nobody's, and nothing
//! here answers what comes back to those. (What comes back to an address of the namespace's own is
//! answered by its kernel, with a RST.) Servers: [`Service`], `{ service = "http", body_bytes = 3 }`.
//!
//! # Threads
//!
//! A load runs on one thread of its own, in the namespace it was given; the caller's thread is never
//! moved. The handle is a guard: dropping it closes every connection and ends the thread. The thread
//! also ends by itself, when no arrival will come any more and no connection is open.
//!
//! A load holds as many sockets as the process may have descriptors, less 400 that are left to the
//! rest of it: the soft limit is raised to the hard one at start (see `ulimit -Hn`). Whatever goes
//! beyond is counted (`no_descriptors`). Several loads of a process share what there is.
//!
//! # The lab's law
//!
//! Rate, count and times are bounded ([`profile`]). A load on anything but loopback is refused in
//! the host's initial namespace and in that of process 1 (which in a container is the container's).

mod answer;
mod error;
mod meter;
mod packet;
mod pool;
pub mod profile;
mod raw;
mod report;
mod schedule;
mod server;
mod target;
mod tcp;
pub(crate) mod time;
mod traffic;
mod udp;
mod worker;

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ctkeeper_netlink::netns::{self, Namespace};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::net::SocketType;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

pub use error::LoadError;
pub use profile::{Profile, Sources};
pub use report::{ErrorKind, Latency, Probes, Report};
pub use server::{Served, Server, Service};
pub use target::{PortRange, Target};
pub use traffic::{
    Exchange, Held, Http, Short, SynFlood, TcpFlag, TcpPackets, Traffic, Udp, UdpOneWay,
};

use meter::Meter;
use packet::Form;
use raw::Packets;
use schedule::Schedule;
use target::Routes;
use tcp::{Base, Connections};
use udp::Datagrams;
use worker::{Command, Driver, Shared, WAKE, Worker, nanoseconds};

/// How connections end when a load is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closing {
    /// By FIN, as a program that closes.
    #[default]
    Close,
    /// By RST: no TIME_WAIT is left, and tracked entries go to CLOSE.
    Reset,
    /// Without a packet, as a client that lost power: the peer and every tracked entry on the way
    /// still believe in the connection. (`TCP_REPAIR`; needs `CAP_NET_ADMIN` in the namespace.)
    Vanish,
}

/// A load that runs. See the [module](self).
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts a load in a namespace. Errors: a profile out of bounds, a target that the lab's law
    /// forbids, a source that is not the namespace's own, a namespace that cannot be entered.
    pub fn start(namespace: &Namespace, profile: &Profile) -> Result<Self, LoadError> {
        profile.check()?;
        raise_descriptor_limit()?;
        // A thread starts in the namespace of the thread that starts it, and stays there.
        netns::enter(namespace, |namespace| Self::start_here(namespace, profile))?
    }

    fn start_here(namespace: &Namespace, profile: &Profile) -> Result<Self, LoadError> {
        let routes = Routes::new(&profile.targets, profile.sources);
        ensure_lawful(namespace, routes.targets())?;
        ensure_sources(profile)?;
        let schedule = Schedule::new(
            profile.rate,
            profile.count.unwrap_or(profile::MAX_COUNT),
            nanoseconds(profile.span()),
        );
        let epoll = Arc::new(new_epoll()?);
        let shared = Arc::new(Shared::new(Meter::new(schedule), new_wake(&epoll)?));
        let driver = driver(profile, routes, &epoll)?;
        let (commands, receiver) = mpsc::channel();
        let worker = Worker { shared: Arc::clone(&shared), commands: receiver, epoll, driver };
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || worker.run())
            .map_err(LoadError::kernel("starting", "a load's thread", "are there too many?"))?;
        Ok(Self { shared, commands, thread: Some(thread) })
    }

    /// What it saw since it began.
    pub fn report(&self) -> Report {
        self.shared.meter().report(self.shared.now())
    }

    /// What it saw since the last mark (or since it began); from now on a new phase is counted. What
    /// is under way counts where it ends.
    pub fn mark(&self) -> Report {
        self.shared.meter().mark(self.shared.now())
    }

    /// From now on so many arrivals a second; 0 pauses. Count and duration stay as they were.
    pub fn set_rate(&self, per_second: f64) -> Result<(), LoadError> {
        if per_second != 0.0 {
            profile::check_rate(per_second)?;
        }
        self.tell(Command::SetRate(per_second));
        Ok(())
    }

    /// Probes the connections that are held, all or so many, evenly chosen; 5,000 a second. Needs
    /// [`Held::exchange`]; without it nothing happens. The outcome is in [`Report::probes`];
    /// [`wait_settled`](Self::wait_settled) does not wait for it unless arrivals are over.
    pub fn probe(&self, most: Option<u64>) {
        let mut meter = self.shared.meter();
        // Whoever waits next waits for the probes.
        meter.now.is_settled &= meter.now.ended.is_some();
        // Told under the lock, or the thread could find itself settled once more before.
        self.tell(Command::Probe(most));
    }

    /// No arrival begins any more; connections stay and what is under way goes on.
    pub fn stop_arrivals(&self) {
        self.tell(Command::StopArrivals);
    }

    /// Whether no arrival will come any more and every one has succeeded or failed.
    pub fn is_settled(&self) -> bool {
        self.shared.meter().now.is_settled
    }

    /// Waits until it is settled, at most so long; whether it is.
    pub fn wait_settled(&self, most: Duration) -> bool {
        self.shared.wait(most, |meter| meter.now.is_settled)
    }

    /// Ends the load; what still waits fails as `stopped`. The whole report comes back.
    pub fn stop(mut self, end: Closing) -> Report {
        self.end(end);
        self.report()
    }

    fn tell(&self, command: Command) {
        // A load that has ended by itself has nothing left to be told.
        let _ = self.commands.send(command);
        self.shared.wake();
    }

    fn end(&mut self, end: Closing) {
        if let Some(thread) = self.thread.take() {
            self.tell(Command::Stop(end));
            // Its panic was told on standard error.
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end(Closing::Close);
    }
}

fn driver(
    profile: &Profile,
    routes: Routes,
    epoll: &Arc<OwnedFd>,
) -> Result<Box<dyn Driver>, LoadError> {
    let packets = |form, routes| Ok(Box::new(Packets::new(form, profile, routes)?) as Box<_>);
    let base = |routes| Base { profile, routes, epoll: Arc::clone(epoll) };
    Ok(match &profile.traffic {
        Traffic::TcpHeld(held) => Box::new(Connections::held(held, base(routes))),
        Traffic::TcpShort(short) => Box::new(Connections::short(short, base(routes))),
        Traffic::Http(http) => Box::new(Connections::http(http, base(routes))),
        Traffic::Udp(udp) => Box::new(Datagrams::new(udp, base(routes))),
        Traffic::UdpOneWay(one_way) => return packets(Form::datagram(one_way.bytes), routes),
        Traffic::SynFlood(_) => return packets(Form::segment(TcpPackets::syn()), routes),
        Traffic::TcpPackets(given) => return packets(Form::segment(given.clone()), routes),
    })
}

fn new_epoll() -> Result<OwnedFd, LoadError> {
    let advice = "are there descriptors left?";
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
        .map_err(LoadError::kernel("making", "an epoll", advice))?;
    let mut none = [MaybeUninit::uninit()];
    epoll::wait(&epoll, &mut none, Some(&Timespec::default())).map_err(LoadError::kernel(
        "asking",
        "an epoll",
        "loads need Linux 5.11 or later",
    ))?;
    Ok(epoll)
}

fn new_wake(epoll: &OwnedFd) -> Result<OwnedFd, LoadError> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let advice = "are there descriptors left?";
    let wake = eventfd(0, flags).map_err(LoadError::kernel("making", "an eventfd", advice))?;
    let data = epoll::EventData::new_u64(WAKE.0);
    epoll::add(epoll, &wake, data, epoll::EventFlags::IN).map_err(LoadError::kernel(
        "watching",
        "an eventfd",
        advice,
    ))?;
    Ok(wake)
}

/// The lab's law, as far as it can be known here; the thread is in the namespace.
fn ensure_lawful(namespace: &Namespace, targets: &[SocketAddr]) -> Result<(), LoadError> {
    let Some(outside) = targets.iter().find(|target| !target.ip().is_loopback()) else {
        return Ok(());
    };
    let is_first_process =
        || Namespace::of_process(1).is_ok_and(|n| n.inode() == namespace.inode());
    if netns::in_initial() || is_first_process() {
        let (target, namespace) = (outside.to_string(), namespace.to_string());
        return Err(LoadError::NotInLab { target, namespace });
    }
    Ok(())
}

/// A source that cannot be bound would make every arrival fail.
fn ensure_sources(profile: &Profile) -> Result<(), LoadError> {
    let Some(sources) = profile.sources.filter(|_| !profile.traffic.is_packets()) else {
        return Ok(());
    };
    for offset in [0, u64::from(sources.count) - 1] {
        let Some(address) = sources.address(offset) else { continue };
        let source = SocketAddr::new(address, 0);
        pool::open(source, None, SocketType::STREAM)
            .map_err(|kind| std::io::Error::other(kind.name()))
            .and_then(|socket| pool::bind(&socket, source).map_err(Into::into))
            .map_err(LoadError::kernel(
                "binding the source",
                address,
                "make it the namespace's own: ip route add local NETWORK dev lo",
            ))?;
    }
    Ok(())
}

/// Descriptors that loads leave to the rest of the process: its files, its programs, its servers.
const SPARE_DESCRIPTORS: i32 = 400;
/// What servers leave; they come after loads, so that a load that takes all still meets a server.
const SPARE_BEYOND_SERVERS: i32 = 200;

/// The limit as it was when it was raised; none before.
static DESCRIPTOR_LIMIT: AtomicI32 = AtomicI32::new(i32::MAX);

/// Whether a new socket goes beyond what is to be left. The kernel gives the lowest free number, so
/// the number tells how many are open.
fn takes_too_much(socket: &OwnedFd, spare: i32) -> bool {
    socket.as_raw_fd() >= DESCRIPTOR_LIMIT.load(Ordering::Relaxed) - spare
}

/// Raises this process's soft descriptor limit to the hard one.
fn raise_descriptor_limit() -> Result<(), LoadError> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.and_then(|most| i32::try_from(most).ok()).unwrap_or(i32::MAX);
    // With less than twice what is spared, everything may be used.
    let most = if most > 2 * SPARE_DESCRIPTORS { most } else { i32::MAX };
    DESCRIPTOR_LIMIT.store(most, Ordering::Relaxed);
    if limit.current == limit.maximum {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .map_err(LoadError::kernel("raising", "the descriptor limit", "see ulimit -Hn"))
}
