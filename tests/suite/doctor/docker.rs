//! A container that tracks what its host tracks, with Docker's own daemon: on a user-defined network
//! it does, on the default bridge it does not.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_netlink::{Conntrack, netns};
use ctkeeper_tests::{HostValues, Namespace, Report, doctor, run};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const CONNECTIONS: u64 = 1500;

/// Ports that the host publishes for a container on each network.
const USER: u16 = 18_081;
const DEFAULT: u16 = 18_080;

/// Docker with everything of its own: network namespace, mounts, folders, control group.
struct Docker {
    host: Namespace,
    clients: Namespace,
    folder: TempDir,
    daemon: Child,
}

impl Docker {
    fn start() -> anyhow::Result<Self> {
        let mut made = Namespace::create_many(2)?.into_iter();
        let (host, clients) = (made.next().context("host")?, made.next().context("clients")?);
        super::pairs::link(&clients, "10.79.1.2/24", &host, "10.79.1.1/24", "front")?;
        let folder = tempfile::tempdir()?;
        let daemon = Self::daemon(&host, folder.path())?;
        let docker = Self { host, clients, folder, daemon };
        for _ in 0..120 {
            if docker.docker(&["version"]).is_ok() {
                return Ok(docker);
            }
            thread::sleep(Duration::from_millis(250));
        }
        let log = fs::read_to_string(docker.folder.path().join("log")).unwrap_or_default();
        anyhow::bail!("dockerd does not answer: {log}")
    }

    /// It writes a key into /etc/docker and sockets into /run, whatever it is told: both are its own.
    fn daemon(host: &Namespace, folder: &Path) -> anyhow::Result<Child> {
        let script = "set -e; cd \"$0\"; mkdir upper work run; \
             mount -t overlay -o lowerdir=/etc,upperdir=upper,workdir=work overlay /etc; \
             mount -t tmpfs none /run; \
             exec dockerd --data-root \"$0/data\" --exec-root \"$0/exec\" --pidfile \"$0/pid\" \
             -H \"unix://$0/socket\" --cgroup-parent \"$1\" --userland-proxy=false > log 2>&1";
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", host.path().display()))
            .args(["unshare", "--mount", "--propagation", "slave", "sh", "-c", script])
            .arg(folder)
            .arg(control_group())
            .stdin(Stdio::null());
        command.spawn().context("starting dockerd")
    }

    fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let socket = format!("unix://{}/socket", self.folder.path().display());
        let output = run(Command::new("docker").args(["-H", &socket]).args(arguments))?;
        ensure!(output.code == Some(0), "docker {arguments:?}: {}", output.stderr);
        Ok(output.stdout.trim().to_owned())
    }

    /// An image of a program that serves HTTP.
    fn import(&self) -> anyhow::Result<()> {
        let script = "cd \"$0\"; mkdir -p image/bin; cp \"$(command -v busybox)\" image/bin/; \
                      tar -C image -c . > image.tar";
        let packed = Command::new("sh").args(["-c", script]).arg(self.folder.path()).status()?;
        ensure!(packed.success(), "no image");
        let archive = self.folder.path().join("image.tar").display().to_string();
        self.docker(&["import", &archive, "lab:1"]).map(drop)
    }

    /// Starts a server on a network, published at a port of the host; its process id.
    fn serve(&self, network: &str, port: u16) -> anyhow::Result<u32> {
        let published = format!("{port}:80");
        let container = ["run", "-d", "--network", network, "-p", &published, "lab:1"];
        let server = ["/bin/busybox", "httpd", "-f", "-p", "80"];
        let id = self.docker(&[&container[..], &server].concat())?;
        let pid = self.docker(&["inspect", "-f", "{{.State.Pid}}", &id])?;
        Ok(pid.parse()?)
    }

    /// So many short connections to a port of the host, each with an answer.
    fn call(&self, port: u16) -> anyhow::Result<()> {
        let to: SocketAddr = format!("10.79.1.1:{port}").parse()?;
        let handle = netns::Namespace::open(&self.clients.name().parse()?)?;
        netns::enter(&handle, |_| (0..CONNECTIONS).try_for_each(|_| ask(to)))?
            .with_context(|| format!("connecting to port {port}"))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends its containers and its containerd when it is asked to, not when it is killed.
        if let Some(pid) = Pid::from_raw(self.daemon.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..200 {
            if matches!(self.daemon.try_wait(), Ok(Some(_))) {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        remove_control_groups();
    }
}

fn ask(server: SocketAddr) -> std::io::Result<()> {
    let limit = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn control_group() -> String {
    format!("/ctk-docker-{}", std::process::id())
}

fn remove_control_groups() {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    for hierarchy in hierarchies {
        let _ = fs::remove_dir(hierarchy.path().join(control_group().trim_start_matches('/')));
    }
    let _ =
        fs::remove_dir(Path::new("/sys/fs/cgroup").join(control_group().trim_start_matches('/')));
}

fn inode_of(pid: u32) -> anyhow::Result<u64> {
    Ok(netns::Namespace::of_process(pid)?.inode())
}

fn entries(pid: u32) -> anyhow::Result<u64> {
    let mut table = Conntrack::open_in(&netns::Namespace::of_process(pid)?)?;
    Ok(u64::from(table.count_and_limit()?.entries))
}

/// What the doctor says of a namespace, among all of the host's.
fn findings(report: &Report, inode: u64) -> Vec<(String, String)> {
    let about = report.findings().filter(|f| f["scope"]["inode"].as_u64() == Some(inode));
    let text = |finding: &serde_json::Value, field: &str| {
        finding[field].as_str().unwrap_or_default().to_owned()
    };
    about.map(|finding| (text(finding, "id"), text(finding, "summary"))).collect()
}

pub(crate) fn tracked_twice() -> anyhow::Result<()> {
    // Without other tests' namespaces: the doctor looks closely at the fullest only.
    let _host = HostValues::lock()?;
    let docker = Docker::start()?;
    docker.import()?;
    docker.docker(&["network", "create", "lab"])?;
    let (user, default) = (docker.serve("lab", USER)?, docker.serve("bridge", DEFAULT)?);

    // Healthy neighbour: a container on the default bridge tracks nothing.
    docker.call(DEFAULT)?;
    ensure!(entries(default)? == 0, "the default bridge tracks inside");
    docker.call(USER)?;
    ensure!(entries(user)? >= CONNECTIONS, "{} inside", entries(user)?);
    let report = doctor(&[])?;
    let found = findings(&report, inode_of(user)?);
    let [(id, summary)] = found.as_slice() else { anyhow::bail!("{found:?}: {:#}", report.0) };
    ensure!(id == "tracked-twice" && summary.contains("embedded DNS"), "{id}: {summary}");
    ensure!(summary.contains(docker.host.name()), "{summary}");
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        println!("| {id} | {summary} |");
    }
    ensure!(findings(&report, inode_of(default)?).is_empty());
    ensure!(findings(&report, docker.host.inode()?).is_empty(), "{:#}", report.0);

    the_remedy_works(&docker, user)
}

/// The rules of `ctkeeper explain tracked-twice`: nothing more is tracked inside but DNS, and the
/// container is reached as before.
fn the_remedy_works(docker: &Docker, user: u32) -> anyhow::Result<()> {
    let explained = run(&mut ctkeeper_tests::ctkeeper(&["explain", "tracked-twice"]))?.stdout;
    let begin = explained.find("table inet untracked {").context("no rules")?;
    let rules = &explained[begin..];
    let rules = &rules[..rules.find("EOF").context("no end of rules")?];
    let inside = |script: &str| {
        let entering = ["-t".to_owned(), user.to_string(), "-n".to_owned(), "sh".to_owned()];
        run(Command::new("nsenter").args(entering).args(["-c", script]))
    };
    let loaded = inside(&format!("nft '{rules}' && conntrack -F"))?;
    ensure!(loaded.code == Some(0), "{}", loaded.stderr);
    docker.call(USER)?;
    ensure!(entries(user)? == 0, "{} inside after the remedy", entries(user)?);
    let report = doctor(&[])?;
    ensure!(findings(&report, inode_of(user)?).is_empty(), "{:#}", report.0);
    let second = docker.docker(&[
        "run",
        "-d",
        "--network",
        "lab",
        "--name",
        "second",
        "lab:1",
        "/bin/busybox",
        "sleep",
        "60",
    ])?;
    let container = docker.docker(&["ps", "-q", "--filter", &format!("publish={USER}")])?;
    let answer = docker.docker(&["exec", &container, "/bin/busybox", "nslookup", "second"])?;
    ensure!(!second.is_empty() && answer.contains("Address"), "no DNS: {answer}");
    ensure!(entries(user)? > 0, "DNS is not translated any more");
    Ok(())
}
