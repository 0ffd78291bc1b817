//! What container runtimes say of what runs: names, images, pods.
//!
//! Runtimes are found by their sockets ([`find`]) and asked all at once, each within one budget of
//! time ([`ask`]): Docker and Podman over HTTP (`GET /containers/json`), containerd and CRI-O over
//! the Container Runtime Interface (`ListPodSandbox`, `ListContainers`, `Version`). Nothing but
//! lists is asked for, and a socket behind which systemd would have to start the runtime first is
//! left alone. Podman without a socket is known by its files. Answers are bounded in size; a runtime that is silent or talks junk is a [`Gap`].
//! [`Names`] leads from control groups to holders; [`Directory`] keeps them between looks.
//!
//! Everything in an answer is somebody else's choice: hostile input, not safe for a terminal.

mod activation;
mod bounded;
mod connection;
mod cri;
mod directory;
mod docker;
mod grpc;
mod http;
mod names;
mod protobuf;
mod socket;
mod store;

use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ctkeeper_flow::Protocol;
use ctkeeper_snapshot::{Gap, GapKind};

pub use directory::Directory;
pub use names::Names;
pub use socket::{Found, Interface, Socket, find};

/// How long a runtime has for its answers, connecting included.
pub const BUDGET: Duration = Duration::from_millis(250);

/// Bytes of one answer, at most.
const ANSWER: usize = 64 << 20;

/// Podman's service, which systemd starts when it is asked and which ends soon afterwards.
const PODMAN: &str = "podman.service";

/// Containers, and pods, of one runtime, at most.
const CONTAINERS: usize = 10_000;

/// Everybody's answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Of those that answered, in the order of their sockets.
    pub running: Vec<Running>,
    /// What was not answered, and why.
    pub gaps: Vec<Gap>,
}

/// A runtime's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// What the runtime calls itself: `docker`, `podman`, `containerd`, `cri-o`.
    pub runtime: String,
    /// Its version, where it told.
    pub version: Option<String>,
    /// The socket that it was asked at.
    pub socket: PathBuf,
    /// Whose runtime it is, when it was found in a user's folder: it may speak of that user's
    /// containers only. `None` is the host's.
    pub user: Option<u32>,
    /// Containers that run; by [`Interface::Store`], all that there are.
    pub containers: Vec<RunningContainer>,
    /// Pods that run.
    pub pods: Vec<RunningPod>,
    /// Whether these are all that it has.
    pub complete: bool,
    /// How long it took.
    pub took: Duration,
}

/// A container that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningContainer {
    /// Its whole id.
    pub id: String,
    /// Its name; in a pod, the container's name there.
    pub name: Option<String>,
    /// Its image, as it was asked for.
    pub image: Option<String>,
    /// The pod it is in.
    pub pod: Option<PodIdentity>,
    /// Its addresses on the runtime's networks, where they were told (Docker, Podman).
    pub addresses: Vec<IpAddr>,
    /// Its ports that the host publishes, where they were told (Docker, Podman).
    pub published: Vec<Published>,
}

/// A pod that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningPod {
    /// Id of its sandbox: that of the container which holds the pod's namespaces.
    pub sandbox: String,
    /// Which pod.
    pub identity: PodIdentity,
}

/// Which pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodIdentity {
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A port of the host that leads to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Protocol.
    pub protocol: Protocol,
    /// The host's address; `None` means any.
    pub address: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
    /// The container's port.
    pub inside: u16,
}

/// Asks runtimes what runs, all at once, each for so long at most.
pub fn ask(sockets: &[Socket], budget: Duration) -> Answers {
    let mut answers = Answers::default();
    let started = Instant::now();
    let told = thread::scope(|scope| {
        let ask = |socket| move || (ask_one(socket, started + budget), started.elapsed());
        let begin = |socket| {
            let begun = thread::Builder::new().name("runtime".to_owned());
            begun.spawn_scoped(scope, ask(socket))
        };
        let asked: Vec<_> = sockets.iter().map(|socket| (socket, begin(socket))).collect();
        let end = |(socket, thread): (_, std::io::Result<thread::ScopedJoinHandle<'_, _>>)| {
            let told = thread.map_err(Obstacle::from).and_then(|thread| {
                let ended = thread.join();
                ended.map_err(|_| Obstacle::Answer("its reader has failed".to_owned()))
            });
            (socket, told)
        };
        asked.into_iter().map(end).collect::<Vec<_>>()
    });
    let mut missing = Vec::new();
    for (socket, told) in told {
        match told {
            Ok((Ok(told), took)) => {
                if !told.running.complete && told.obstacles.is_empty() {
                    missing.push((socket, Obstacle::Answer(format!("more than {CONTAINERS}"))));
                }
                answers.running.push(told.running.told_by(socket, took));
                missing.extend(told.obstacles.into_iter().map(|obstacle| (socket, obstacle)));
            }
            Ok((Err(obstacle), _)) | Err(obstacle) => missing.push((socket, obstacle)),
        }
    }
    // Where Podman's own file was read, nothing is missing that its service would tell.
    let has_podman = answers.running.iter().any(|told| told.runtime == "podman");
    let is_needless = |obstacle: &Obstacle| matches!(obstacle, Obstacle::Asleep(PODMAN));
    let missing = missing
        .iter()
        .filter(|(socket, it)| !(has_podman && socket.user.is_none() && is_needless(it)));
    answers.gaps = missing.map(|(socket, obstacle)| obstacle.gap(socket)).collect();
    answers
}

impl Running {
    fn told_by(self, socket: &Socket, took: Duration) -> Self {
        Self { socket: socket.path.clone(), user: socket.user, took, ..self }
    }
}

/// An answer, and what is missing of it.
#[derive(Debug, Default)]
struct Told {
    running: Running,
    obstacles: Vec<Obstacle>,
}

fn ask_one(socket: &Socket, deadline: Instant) -> Result<Told, Obstacle> {
    if let Some(service) = activation::would_start(socket) {
        return Err(Obstacle::Asleep(service));
    }
    match socket.interface {
        Interface::Docker => docker::ask(socket, deadline),
        Interface::Cri => cri::ask(socket, deadline),
        Interface::Store => store::read(socket, deadline),
        Interface::Unknown => match docker::ask(socket, deadline) {
            Err(Obstacle::OtherProtocol(_)) => cri::ask(socket, deadline),
            told => told,
        },
    }
}

/// Why a runtime has not told.
#[derive(Debug)]
enum Obstacle {
    /// It cannot be reached.
    Connection(std::io::Error),
    /// It has not answered in time.
    Silence,
    /// It would have to be started.
    Asleep(&'static str),
    /// It speaks another protocol.
    OtherProtocol(&'static str),
    /// What it says is an error, or cannot be understood.
    Answer(String),
}

impl From<std::io::Error> for Obstacle {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        if matches!(error.kind(), TimedOut | WouldBlock) {
            return Self::Silence;
        }
        Self::Connection(error)
    }
}

impl Obstacle {
    fn gap(&self, socket: &Socket) -> Gap {
        let path = socket.path.display();
        let what = format!("names of containers from the runtime at {path}");
        let is_refused =
            |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
        let (cause, remedy) = match self {
            Self::Connection(error) if is_refused(error) => {
                (format!("connecting to {path}: {error}"), "run as root".to_owned())
            }
            Self::Connection(error) => (
                format!("talking to {path}: {error}"),
                "start the runtime; until then containers go by their ids".to_owned(),
            ),
            Self::Silence => (
                format!("asking at {path} for what runs: no answer in time"),
                "run again; until it answers containers go by their ids".to_owned(),
            ),
            Self::Asleep(service) => (
                format!("{path} is systemd's, and to ask there would start {service}"),
                format!("systemctl start {service}, if it is to run"),
            ),
            Self::OtherProtocol(expected) => (
                format!("asking at {path} for what runs: the answer is no {expected}"),
                "name the socket of a container runtime: Docker, Podman, containerd, CRI-O"
                    .to_owned(),
            ),
            Self::Answer(problem) => (
                format!("asking at {path} for what runs: {problem}"),
                "look at the runtime's log; containers that are missing go by their ids".to_owned(),
            ),
        };
        let kind = match self {
            Self::Connection(error) if is_refused(error) => GapKind::Privilege,
            _ => GapKind::Unavailable,
        };
        Gap { kind, what, cause, remedy }
    }
}
