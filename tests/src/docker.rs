//! Docker's own daemon, with everything of its own: network namespace, mounts, folders, control
//! group. The host that runs the tests is left alone.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_lab::{End, Link, Namespace};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{ControlGroup, Need, run};

/// What [`Docker`] needs.
pub const DOCKER: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("nft", "nftables"),
    Need::Program("conntrack", "conntrack"),
    Need::Program("dockerd", "docker.io"),
    Need::Program("busybox", "busybox-static"),
];

/// The image that every [`Docker`] has: `/bin/busybox` and nothing else.
pub const IMAGE: &str = "lab:1";

/// It writes a key into /etc/docker and sockets into /run, whatever it is told: both are its own, and
/// stay when it is stopped.
const SCRIPT: &str = "set -e; cd \"$0\"; mkdir -p upper work run; \
     mount -t overlay -o lowerdir=/etc,upperdir=upper,workdir=work overlay /etc; \
     mount --bind run /run; group=$1; shift; \
     exec dockerd --data-root \"$0/data\" --exec-root \"$0/exec\" --pidfile \"$0/pid\" \
     -H \"unix://$0/socket\" -H unix:///run/docker.sock --cgroup-parent \"$group\" \
     --userland-proxy=false \"$@\" > log 2>&1";

/// A host that runs Docker, and clients that reach it over a link.
///
/// Containers are on the host's default bridge or on networks that [`Docker::docker`] makes. When it
/// goes, so do the daemon and the containers.
#[derive(Debug)]
pub struct Docker {
    daemon: Option<Child>,
    options: Vec<String>,
    // In the order of their going: containers before the namespaces that their shims stand in.
    group: ControlGroup,
    _front: Link,
    clients: Namespace,
    host: Namespace,
    folder: TempDir,
}

impl Docker {
    /// The host's address on the link to the clients; published ports are reached there.
    pub const HOST: &str = "10.79.1.1";
    /// The clients' address.
    pub const CLIENTS: &str = "10.79.1.2";

    /// Starts it, with [`IMAGE`] imported.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// Starts it with options of dockerd: `--live-restore` leaves containers running while the
    /// daemon is stopped.
    pub fn start_with(options: &[&str]) -> anyhow::Result<Self> {
        let mut made = Namespace::create_many(2)?.into_iter();
        let (host, clients) = (made.next().context("host")?, made.next().context("clients")?);
        for namespace in [&host, &clients] {
            namespace.run("ip", &["link", "set", "lo", "up"])?;
        }
        let link = |namespace, interface, address| End { namespace, interface, addresses: address };
        let front = Link::create(
            link(&clients, "eth0", &[&format!("{}/24", Self::CLIENTS)]),
            link(&host, "front", &[&format!("{}/24", Self::HOST)]),
        )?;
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let (group, folder) = (ControlGroup::reserve("docker"), tempfile::tempdir()?);
        let mut docker =
            Self { daemon: None, options, group, _front: front, clients, host, folder };
        docker.start_daemon()?;
        docker.import()?;
        Ok(docker)
    }

    /// Starts the daemon again after [`Docker::stop_daemon`].
    pub fn start_daemon(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.host.path().display()))
            .args(["unshare", "--mount", "--propagation", "slave", "sh", "-c", SCRIPT])
            .arg(self.folder.path())
            .arg(self.group.path())
            .args(&self.options)
            .stdin(Stdio::null());
        self.daemon = Some(command.spawn().context("starting dockerd")?);
        for _ in 0..120 {
            if self.docker(&["version"]).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(250));
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        anyhow::bail!("dockerd does not answer: {log}")
    }

    /// Stops the daemon and waits for its end. Without `--live-restore` its containers end as well.
    pub fn stop_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        // It ends its containers and its containerd when it is asked to, not when it is killed.
        if let Some(pid) = Pid::from_raw(daemon.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..200 {
            if matches!(daemon.try_wait(), Ok(Some(_))) {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let _ = daemon.kill();
        let _ = daemon.wait();
    }

    /// The host that the daemon runs on.
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The clients.
    pub fn clients(&self) -> &Namespace {
        &self.clients
    }

    /// The daemon's socket. (Within its mounts it listens at `/run/docker.sock` as well:
    /// [`Docker::command`].)
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Where files for it can stand.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The group that its containers' groups are in.
    pub fn control_group(&self) -> &ControlGroup {
        &self.group
    }

    /// The daemon's process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.daemon.as_ref().context("dockerd is stopped")?.id())
    }

    /// A command that will run as on that host: in its network namespace, among the daemon's mounts.
    pub fn command(&self, program: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid()?.to_string(), "--net", "--mount"]);
        command.arg(program).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `docker` and fails unless it succeeds; what it wrote, trimmed.
    pub fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let socket = format!("unix://{}", self.socket().display());
        let output = run(Command::new("docker").args(["-H", &socket]).args(arguments))?;
        ensure!(output.code == Some(0), "docker {arguments:?}: {}", output.stderr);
        Ok(output.stdout.trim().to_owned())
    }

    /// Starts a container from [`IMAGE`], `docker run -d OPTIONS lab:1 /bin/busybox COMMAND`; its
    /// whole id.
    pub fn container(&self, options: &[&str], command: &[&str]) -> anyhow::Result<String> {
        let whole = [&["run", "-d"], options, &[IMAGE, "/bin/busybox"], command].concat();
        self.docker(&whole)
    }

    /// Starts an HTTP server on a network, published at a port of the host; its whole id.
    pub fn serve(&self, network: &str, port: u16) -> anyhow::Result<String> {
        let published = format!("{port}:80");
        self.container(&["--network", network, "-p", &published], &["httpd", "-f", "-p", "80"])
    }

    /// The first process of a container, by its id or name.
    pub fn pid_of(&self, container: &str) -> anyhow::Result<u32> {
        Ok(self.docker(&["inspect", "-f", "{{.State.Pid}}", container])?.parse()?)
    }

    /// So many short connections from the clients to a port of the host, each with an answer.
    pub fn call(&self, port: u16, times: u64) -> anyhow::Result<()> {
        let to: SocketAddr = format!("{}:{port}", Self::HOST).parse()?;
        self.clients
            .enter(|| (0..times).try_for_each(|_| crate::ask(to)))?
            .with_context(|| format!("connecting to port {port}"))
    }

    fn import(&self) -> anyhow::Result<()> {
        let script = "cd \"$0\"; mkdir -p image/bin; cp \"$(command -v busybox)\" image/bin/; \
                      tar -C image -c . > image.tar";
        let packed = Command::new("sh").args(["-c", script]).arg(self.folder.path()).status()?;
        ensure!(packed.success(), "no image");
        let archive = self.folder.path().join("image.tar").display().to_string();
        self.docker(&["import", &archive, IMAGE]).map(drop)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.stop_daemon();
    }
}
