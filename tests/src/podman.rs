//! Podman with everything of its own: network namespace, mounts, storage, control group.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_lab::Namespace;
use tempfile::TempDir;

use crate::{ControlGroup, Need, run};

/// What [`Podman`] needs.
pub const PODMAN: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("podman", "podman"),
    Need::Program("runc", "runc"),
    Need::Program("/usr/lib/cni/bridge", "containernetworking-plugins"),
    Need::Program("busybox", "busybox-static"),
];

/// Storage that works on every file system, and nothing that would need a systemd.
const OPTIONS: [&str; 4] = [
    "--cgroup-manager=cgroupfs",
    "--events-backend=file",
    "--storage-driver=vfs",
    "--runtime=runc",
];

/// The mounts, kept by a process that sleeps in them.
const SCRIPT: &str = "set -e; cd \"$0\"; mkdir -p run lib; \
     for tree in etc var/lib; do mkdir -p \"upper/$tree\" \"work/$tree\"; \
     mount -t overlay -o \"lowerdir=/$tree,upperdir=upper/$tree,workdir=work/$tree\" overlay \"/$tree\"; \
     done; mkdir -p /var/lib/containers; mount --bind lib /var/lib/containers; \
     mount --bind run /run; touch mounted; exec sleep 100000";

const SERVICE: &str = "/run/podman/podman.sock";

/// A host that runs Podman. When it goes, so do the containers.
#[derive(Debug)]
pub struct Podman {
    service: Option<Child>,
    mounts: Child,
    // In the order of their going: containers before the namespace that their monitors stand in.
    group: ControlGroup,
    host: Namespace,
    folder: TempDir,
}

impl Podman {
    /// Makes the host, with [`crate::IMAGE`] in Podman's storage. Its service does not run yet.
    pub fn start() -> anyhow::Result<Self> {
        let host = Namespace::create_for("podman")?;
        let (group, folder) = (ControlGroup::reserve("podman"), tempfile::tempdir()?);
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", host.path().display()))
            .args(["unshare", "--mount", "--propagation", "slave", "sh", "-c", SCRIPT])
            .arg(folder.path())
            .stdin(Stdio::null());
        let mounts = command.spawn().context("making mounts")?;
        let podman = Self { service: None, mounts, group, host, folder };
        wait_for("Podman's mounts", || podman.folder.path().join("mounted").exists())?;
        podman.import()?;
        Ok(podman)
    }

    /// Runs `podman` and fails unless it succeeds; what it wrote, trimmed.
    pub fn podman(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = run(self.command("podman").args(OPTIONS).args(arguments))?;
        ensure!(output.code == Some(0), "podman {arguments:?}: {}", output.stderr);
        Ok(output.stdout.trim().to_owned())
    }

    /// Starts a container, `podman run -d OPTIONS lab:1 /bin/busybox COMMAND`; its whole id.
    pub fn container(&self, options: &[&str], command: &[&str]) -> anyhow::Result<String> {
        let group = format!("--cgroup-parent={}", self.group.path());
        let begin = ["run", "-d", &group];
        self.podman(&[&begin, options, &[crate::IMAGE, "/bin/busybox"], command].concat())
    }

    /// The first process of a container, by its id or name.
    pub fn pid_of(&self, container: &str) -> anyhow::Result<u32> {
        Ok(self.podman(&["inspect", "-f", "{{.State.Pid}}", container])?.parse()?)
    }

    /// Starts the service behind the socket.
    pub fn start_service(&mut self) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.seen("/run/podman"))?;
        let mut command = self.command("podman");
        command.args(OPTIONS).args(["system", "service", "--time=0"]);
        let service = command.arg(format!("unix://{SERVICE}")).stderr(Stdio::null()).spawn();
        self.service = Some(service.context("starting Podman's service")?);
        wait_for("Podman's service", || self.socket().exists())
    }

    /// The service's socket: on its own host `/run/podman/podman.sock`.
    pub fn socket(&self) -> PathBuf {
        self.seen(SERVICE)
    }

    /// A file of its host, as it is reached from here.
    pub fn seen(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.mounts.id()))
    }

    /// The host.
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// A command that will run as on that host: in its network namespace, among its mounts.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.mounts.id().to_string(), "--net", "--mount", program]);
        command.stdin(Stdio::null());
        command
    }

    fn import(&self) -> anyhow::Result<()> {
        let script = "cd \"$0\"; mkdir -p image/bin; cp \"$(command -v busybox)\" image/bin/; \
                      tar -C image -c . > image.tar";
        let packed = Command::new("sh").args(["-c", script]).arg(self.folder.path()).status()?;
        ensure!(packed.success(), "no image");
        let archive = self.folder.path().join("image.tar").display().to_string();
        self.podman(&["import", "--quiet", &archive, crate::IMAGE]).map(drop)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.podman(&["rm", "--all", "--force", "--time=0"]);
        for process in self.service.iter_mut().chain([&mut self.mounts]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) -> anyhow::Result<()> {
    for _ in 0..200 {
        if is_there() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("{what} did not come")
}
