//! Pods without a kubelet: containerd with its Container Runtime Interface, Debian's CNI plugins, and
//! requests as a kubelet makes them.

mod grpc;
mod protobuf;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_lab::{End, Link, Namespace};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{ControlGroup, Need, run};
use protobuf::{Message, fields};

/// What [`Pods`] needs.
pub const PODS: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("nft", "nftables"),
    Need::Program("conntrack", "conntrack"),
    Need::Program("containerd", "containerd"),
    Need::Program("/usr/lib/cni/bridge", "containernetworking-plugins"),
    Need::Program("busybox", "busybox-static"),
];

/// The image of every container; its command is a sleep, so that it is the sandbox's as well.
const IMAGE: &str = "lab.local/lab:1";

/// `NamespaceMode` of the interface.
const NODE_NETWORK: u64 = 2;

/// What a pod's interface writes outside /run and /etc goes into /var/lib.
const SCRIPT: &str = "set -e; cd \"$0\"; mkdir -p run; \
     for tree in etc var/lib; do mkdir -p \"upper/$tree\" \"work/$tree\"; \
     mount -t overlay -o \"lowerdir=/$tree,upperdir=upper/$tree,workdir=work/$tree\" overlay \"/$tree\"; \
     done; mount --bind run /run; \
     exec containerd --config \"$0/config.toml\" > log 2>&1";

/// A node: containerd on a host, and clients that reach it over a link. Pods are on a bridge behind
/// masquerade.
///
/// When it goes, so do the pods.
#[derive(Debug)]
pub struct Pods {
    daemon: Option<Child>,
    // In the order of their going: containers before the namespaces that their shims stand in.
    group: ControlGroup,
    _front: Link,
    clients: Namespace,
    host: Namespace,
    folder: TempDir,
}

/// What a pod is.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodConfig<'a> {
    /// Its Kubernetes namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Whether it is in the node's own network namespace.
    pub on_host_network: bool,
    /// Ports of the node that lead to ports of it (TCP).
    pub ports: &'a [(u16, u16)],
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    config: Message,
}

impl Pods {
    /// The node's address on the link to the clients.
    pub const HOST: &str = "10.80.1.1";
    /// The clients' address.
    pub const CLIENTS: &str = "10.80.1.2";
    /// The only address that pods get: the next pod has it when the one before has gone.
    pub const SCARCE: &str = "10.88.1.9";

    /// Starts it. With `addresses` of `10.88.1.0/24` from the first to the last one.
    pub fn start(addresses: (&str, &str)) -> anyhow::Result<Self> {
        let mut made = Namespace::create_many(2)?.into_iter();
        let (host, clients) = (made.next().context("host")?, made.next().context("clients")?);
        for namespace in [&host, &clients] {
            namespace.run("ip", &["link", "set", "lo", "up"])?;
        }
        let end = |namespace, interface, addresses| End { namespace, interface, addresses };
        let front = Link::create(
            end(&clients, "eth0", &[&format!("{}/24", Self::CLIENTS)]),
            end(&host, "front", &[&format!("{}/24", Self::HOST)]),
        )?;
        host.route(&format!("default via {}", Self::CLIENTS))?;
        let (group, folder) = (ControlGroup::reserve("pods"), tempfile::tempdir()?);
        let mut pods = Self { daemon: None, group, _front: front, clients, host, folder };
        pods.write_settings(addresses)?;
        pods.start_daemon()?;
        pods.import()?;
        Ok(pods)
    }

    /// Starts containerd, again after [`Pods::stop_daemon`]; its pods have run on.
    pub fn start_daemon(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.host.path().display()))
            .args(["unshare", "--mount", "--propagation", "slave", "sh", "-c", SCRIPT])
            .arg(self.folder.path())
            .stdin(Stdio::null());
        self.daemon = Some(command.spawn().context("starting containerd")?);
        for _ in 0..200 {
            if self.socket().exists() && self.call("Status", &Message::new()).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("containerd does not answer: {}", self.log())
    }

    /// Stops containerd and waits for its end. Its pods run on.
    pub fn stop_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        if let Some(pid) = Pid::from_raw(daemon.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..100 {
            if matches!(daemon.try_wait(), Ok(Some(_))) {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = daemon.kill();
        let _ = daemon.wait();
    }

    /// The node.
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The clients.
    pub fn clients(&self) -> &Namespace {
        &self.clients
    }

    /// The socket of its Container Runtime Interface.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The group that its pods' groups are in.
    pub fn control_group(&self) -> &ControlGroup {
        &self.group
    }

    /// Starts a pod, as yet without containers.
    pub fn sandbox(&self, pod: PodConfig<'_>) -> anyhow::Result<Sandbox> {
        let config = self.sandbox_config(pod);
        let request = Message::new().message(1, &config);
        let answer = self.call("RunPodSandbox", &request)?;
        Ok(Sandbox { id: text(&answer, 1)?, config })
    }

    /// Starts a container in a pod, with folders or files of the host's inside, read only; its id.
    pub fn container(
        &self,
        sandbox: &Sandbox,
        name: &str,
        mounts: &[(&str, &str)],
        command: &[&str],
    ) -> anyhow::Result<String> {
        let mut config = Message::new()
            .message(1, &Message::new().text(1, name))
            .message(2, &Message::new().text(1, IMAGE));
        for word in command {
            config = config.text(3, word);
        }
        for (outside, inside) in mounts {
            config =
                config.message(7, &Message::new().text(1, inside).text(2, outside).number(3, 1));
        }
        config = config.entry(9, "io.kubernetes.container.name", name);
        let config = config.text(11, &format!("{name}.log"));
        let request =
            Message::new().text(1, &sandbox.id).message(2, &config).message(3, &sandbox.config);
        let id = text(&self.call("CreateContainer", &request)?, 1)?;
        self.call("StartContainer", &Message::new().text(1, &id))?;
        Ok(id)
    }

    /// What a container of a pod has written.
    pub fn said(&self, sandbox: &Sandbox, name: &str) -> String {
        let file = self.folder.path().join("logs").join(sandbox.uid()).join(format!("{name}.log"));
        fs::read_to_string(file).unwrap_or_default()
    }

    /// The process of a pod's sandbox.
    pub fn pid_of(&self, sandbox: &Sandbox) -> anyhow::Result<u32> {
        let request = Message::new().text(1, &sandbox.id).number(2, 1);
        let answer = self.call("PodSandboxStatus", &request)?;
        let pairs = fields(&answer, 2).into_iter();
        let mut infos = pairs.filter(|pair| fields(pair, 1).first() == Some(&&b"info"[..]));
        let info = infos.next().and_then(|pair| fields(pair, 2).first().copied());
        let info: Value = serde_json::from_slice(info.context("no info of the sandbox")?)?;
        info["pid"].as_u64().map(|pid| pid as u32).context("no pid of the sandbox")
    }

    /// A pod's own address.
    pub fn address_of(&self, sandbox: &Sandbox) -> anyhow::Result<String> {
        let answer = self.call("PodSandboxStatus", &Message::new().text(1, &sandbox.id))?;
        let status = fields(&answer, 1).first().copied().context("no status")?;
        text(fields(status, 5).first().copied().context("no network")?, 1)
    }

    /// Stops a pod and removes it.
    pub fn remove(&self, sandbox: &Sandbox) -> anyhow::Result<()> {
        self.remove_by_id(&sandbox.id)
    }

    fn remove_by_id(&self, id: &str) -> anyhow::Result<()> {
        let request = Message::new().text(1, id);
        self.call("StopPodSandbox", &request)?;
        self.call("RemovePodSandbox", &request).map(drop)
    }

    fn sandbox_config(&self, pod: PodConfig<'_>) -> Message {
        let metadata = Message::new().text(1, pod.name).text(2, pod.uid).text(3, pod.namespace);
        let logs = self.folder.path().join("logs").join(pod.uid).display().to_string();
        let mut config = Message::new().message(1, &metadata).text(3, &logs);
        for &(node, own) in pod.ports {
            let port = Message::new().number(2, own.into()).number(3, node.into());
            config = config.message(5, &port);
        }
        // As the kubelet labels them.
        for (label, value) in [
            ("io.kubernetes.pod.name", pod.name),
            ("io.kubernetes.pod.namespace", pod.namespace),
            ("io.kubernetes.pod.uid", pod.uid),
        ] {
            config = config.entry(6, label, value);
        }
        let network = if pod.on_host_network { NODE_NETWORK } else { 0 };
        let security = Message::new().message(1, &Message::new().number(1, network));
        let parent = format!("{}/kubepods/besteffort/pod{}", self.group.path(), pod.uid);
        config.message(8, &Message::new().text(1, &parent).message(2, &security))
    }

    fn call(&self, method: &str, request: &Message) -> anyhow::Result<Vec<u8>> {
        let path = format!("/runtime.v1.RuntimeService/{method}");
        grpc::call(&self.socket(), &path, request.as_bytes())
            .with_context(|| format!("containerd says: {}", last_lines(&self.log())))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn write_settings(&self, (first, last): (&str, &str)) -> anyhow::Result<()> {
        let folder = self.folder.path().display();
        let settings = format!(
            "version = 2\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\n\
             [grpc]\naddress = \"{folder}/socket\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{IMAGE}\"\n\
             restrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\n\
             conf_dir = \"{folder}/cni\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
             runtime_type = \"io.containerd.runc.v2\"\n"
        );
        fs::write(self.folder.path().join("config.toml"), settings)?;
        let network = serde_json::json!({ "cniVersion": "0.4.0", "name": "lab", "plugins": [
            { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {
                "type": "host-local", "dataDir": format!("{folder}/addresses"),
                "ranges": [[{
                    "subnet": "10.88.1.0/24", "rangeStart": first, "rangeEnd": last,
                    "gateway": "10.88.1.1",
                }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            } },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ] });
        fs::create_dir(self.folder.path().join("cni"))?;
        fs::write(self.folder.path().join("cni/10-lab.conflist"), network.to_string())?;
        Ok(())
    }

    /// An image of busybox alone, in the form of `docker save`.
    fn import(&self) -> anyhow::Result<()> {
        let script = "set -e; cd \"$0\"; mkdir -p tree/bin image; \
             cp \"$(command -v busybox)\" tree/bin/; tar -C tree -c . > image/layer.tar; \
             digest=$(sha256sum image/layer.tar | cut -d' ' -f1); \
             printf '%s' \"$2\" | sed \"s/DIGEST/$digest/\" > image/config.json; \
             printf '%s' \"$1\" > image/manifest.json; tar -C image -c . > image.tar";
        let manifest = serde_json::json!([{
            "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"],
        }]);
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux",
            "config": { "Cmd": ["/bin/busybox", "sleep", "100000"] },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:DIGEST"] },
        });
        let mut packing = Command::new("sh");
        packing.args(["-c", script]).arg(self.folder.path());
        let packed = run(packing.arg(manifest.to_string()).arg(config.to_string()))?;
        ensure!(packed.code == Some(0), "no image: {packed:?}");
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io"]);
        command.args(["images", "import"]).arg(self.folder.path().join("image.tar"));
        let imported = run(&mut command)?;
        ensure!(imported.code == Some(0), "image not imported: {imported:?}");
        Ok(())
    }
}

impl Sandbox {
    fn uid(&self) -> String {
        let metadata = fields(self.config.as_bytes(), 1).first().copied().unwrap_or_default();
        text(metadata, 2).unwrap_or_default()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        if self.daemon.is_none() {
            let _ = self.start_daemon();
        }
        let listed = self.call("ListPodSandbox", &Message::new()).unwrap_or_default();
        for sandbox in fields(&listed, 1) {
            let _ = text(sandbox, 1).and_then(|id| self.remove_by_id(&id));
        }
        self.stop_daemon();
    }
}

fn text(message: &[u8], field: u64) -> anyhow::Result<String> {
    let found = fields(message, field).first().copied().context("a field is missing")?;
    Ok(String::from_utf8_lossy(found).into_owned())
}

fn last_lines(log: &str) -> String {
    let mut lines: Vec<_> = log.lines().rev().take(3).collect();
    lines.reverse();
    lines.join("\n")
}
