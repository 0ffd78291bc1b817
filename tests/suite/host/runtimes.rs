//! Runtimes asked what runs: Docker's own daemon and containerd, held against what their own clients
//! say.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_flow::Protocol;
use ctkeeper_host::cgroup;
use ctkeeper_host::runtimes::{
    Answers, BUDGET, Interface, Names, Published, Running, RunningContainer, Socket, ask, find,
};
use ctkeeper_snapshot::{Container, Holder, Pod};
use ctkeeper_tests::{Docker, IMAGE, PodConfig, Podman, Pods};
use rustix::process::{Pid, Signal, kill_process};

/// How long a runtime that answers may take in a test: the machine may be busy.
const PATIENT: Duration = Duration::from_secs(10);

const PORT: u16 = 18_090;

fn asked(path: &Path, interface: Interface) -> Answers {
    ask(&[Socket { path: path.to_owned(), interface, user: None }], PATIENT)
}

fn the_only(answers: &Answers) -> anyhow::Result<&Running> {
    let [running] = answers.running.as_slice() else { anyhow::bail!("{answers:?}") };
    ensure!(answers.gaps.is_empty() && running.complete, "{answers:?}");
    show(running);
    Ok(running)
}

/// With `CTKEEPER_SHOW` set, what was told.
fn show(running: &Running) {
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        let (runtime, took) = (&running.runtime, running.took);
        let (containers, pods) = (running.containers.len(), running.pods.len());
        println!("| {runtime} | {containers} containers | {pods} pods | {took:?} |");
    }
}

fn named<'a>(running: &'a Running, name: &str) -> anyhow::Result<&'a RunningContainer> {
    let found = running.containers.iter().find(|it| it.name.as_deref() == Some(name));
    found.with_context(|| format!("no {name} in {running:?}"))
}

pub(crate) fn docker_is_asked() -> anyhow::Result<()> {
    let mut docker = Docker::start_with(&["--live-restore"])?;
    docker.docker(&["network", "create", "lab"])?;
    let sleep = ["sleep", "600"];
    let published = format!("{PORT}:80/udp");
    let user = ["--name", "user", "--network", "lab", "-p", &published];
    let ids = [
        docker.container(&user, &sleep)?,
        docker.container(&["--name", "host", "--network", "host"], &sleep)?,
        // A label of a pod is anybody's: this is no pod's container.
        docker.container(&["--name", "liar", "--label", "io.kubernetes.pod.uid=0f3c"], &sleep)?,
    ];
    let gone = docker.container(&["--name", "gone"], &["true"])?;
    docker.docker(&["wait", &gone])?;

    let answers = asked(&docker.socket(), Interface::Unknown);
    let running = the_only(&answers)?;
    ensure!(running.runtime == "docker", "{running:?}");
    let version = docker.docker(&["version", "-f", "{{.Server.Version}}"])?;
    ensure!(running.version.as_ref() == Some(&version), "{version}: {running:?}");
    let told: BTreeSet<_> = running.containers.iter().map(|it| it.id.clone()).collect();
    ensure!(told == ids.iter().cloned().collect(), "{running:?}, without {gone}");
    ensure!(running.containers.iter().all(|it| it.pod.is_none()), "{running:?}");
    let told = named(running, "user")?;
    let address =
        docker.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.lab.IPAddress}}", "user"])?;
    ensure!(told.addresses == [address.parse::<IpAddr>()?], "{told:?}");
    let port = Published { protocol: Protocol::UDP, address: None, port: PORT, inside: 80 };
    ensure!(told.published.contains(&port), "{told:?}");
    ensure!(told.image.as_deref() == Some(IMAGE), "{told:?}");
    ensure!(named(running, "host")?.addresses.is_empty());

    groups_lead_to_names(&docker, &answers, &ids)?;
    at_the_usual_place(&docker)?;
    silent_and_stopped(&mut docker, &ids)
}

/// The processes of containers, by their control groups.
fn groups_lead_to_names(docker: &Docker, answers: &Answers, ids: &[String]) -> anyhow::Result<()> {
    let (with, without) = (Names::new(answers), Names::default());
    for (id, name) in ids.iter().zip(["user", "host", "liar"]) {
        let pid = docker.pid_of(id)?;
        let group = cgroup::of_process(pid).context("no group")?;
        let known = Container {
            id: id.clone(),
            name: Some(name.to_owned()),
            image: Some(IMAGE.to_owned()),
            runtime: Some("docker".to_owned()),
        };
        ensure!(with.holder(&group) == Some(Holder::Container(known)), "{group:?}");
        let Some(Holder::Container(unknown)) = without.holder(&group) else {
            anyhow::bail!("{group:?}")
        };
        ensure!(unknown.id == *id && unknown.name.is_none(), "{unknown:?}");
    }
    let daemon = cgroup::of_process(docker.pid()?).context("no group")?;
    ensure!(with.holder(&daemon).is_none(), "{daemon:?}");
    Ok(())
}

/// Among the daemon's own mounts `/run/docker.sock` is its socket, and it is found.
fn at_the_usual_place(docker: &Docker) -> anyhow::Result<()> {
    let seen = format!("/proc/{}/root/run/docker.sock", docker.pid()?);
    let found = find(&[format!("unix://{seen}"), seen.clone()]);
    let [first, ..] = found.sockets.as_slice() else { anyhow::bail!("{found:?}") };
    ensure!(first.path == Path::new(&seen) && found.gaps.is_empty(), "{found:?}");
    ensure!(found.sockets.iter().filter(|socket| socket.path == first.path).count() == 1);
    the_only(&asked(&first.path, Interface::Docker)).map(drop)
}

/// Whether every thread of a process has: a signal reaches them one after the other.
fn has_stopped(pid: u32) -> anyhow::Result<bool> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let states = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("stat")));
    let is_stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, s)| s.starts_with('T'));
    Ok(states.flatten().all(is_stopped))
}

/// A daemon that hangs, one that is stopped, and one that has come back.
fn silent_and_stopped(docker: &mut Docker, ids: &[String]) -> anyhow::Result<()> {
    let socket = docker.socket();
    let daemon = Pid::from_raw(docker.pid()?.cast_signed()).context("no daemon")?;
    kill_process(daemon, Signal::STOP)?;
    while !has_stopped(docker.pid()?)? {
        std::thread::sleep(Duration::from_millis(1));
    }
    let begun = Instant::now();
    let own = Socket { path: socket.clone(), interface: Interface::Docker, user: None };
    let silent = ask(&[own], BUDGET);
    kill_process(daemon, Signal::CONT)?;
    ensure!(begun.elapsed() < BUDGET + Duration::from_secs(1), "took {:?}", begun.elapsed());
    ensure!(silent.running.is_empty() && silent.gaps.len() == 1, "{silent:?}");
    ensure!(silent.gaps[0].cause.contains("no answer in time"), "{silent:?}");

    let pid = docker.pid_of(&ids[0])?;
    docker.stop_daemon();
    let stopped = asked(&socket, Interface::Docker);
    ensure!(stopped.running.is_empty() && stopped.gaps.len() == 1, "{stopped:?}");
    let group = cgroup::of_process(pid).context("the container ended with the daemon")?;
    let Some(Holder::Container(unknown)) = Names::new(&stopped).holder(&group) else {
        anyhow::bail!("{group:?}")
    };
    ensure!(unknown.id == ids[0] && unknown.name.is_none(), "{unknown:?}");

    docker.start_daemon()?;
    let answers = asked(&socket, Interface::Docker);
    named(the_only(&answers)?, "user").map(drop)
}

const CART: PodConfig<'_> = PodConfig {
    namespace: "shop",
    name: "cart-7d9",
    uid: "0f3c2a1b-1111-2222-3333-444455556666",
    on_host_network: false,
    ports: &[],
};

const AGENT: PodConfig<'_> = PodConfig {
    namespace: "kube-system",
    name: "agent",
    uid: "0f3c2a1b111122223333444455556666",
    on_host_network: true,
    ports: &[],
};

pub(crate) fn containerd_is_asked() -> anyhow::Result<()> {
    let mut pods = Pods::start(("10.88.1.10", "10.88.1.200"))?;
    let (cart, agent) = (pods.sandbox(CART)?, pods.sandbox(AGENT)?);
    let sleep = ["/bin/busybox", "sleep", "600"];
    let web = pods.container(&cart, "web", &[], &sleep)?;
    let log = pods.container(&cart, "log", &[], &sleep)?;
    let main = pods.container(&agent, "main", &[], &sleep)?;
    let removed = pods.sandbox(PodConfig { name: "removed", uid: "0f3c", ..CART })?;
    pods.remove(&removed)?;

    let answers = asked(&pods.socket(), Interface::Unknown);
    let running = the_only(&answers)?;
    ensure!(running.runtime == "containerd" && running.version.is_some(), "{running:?}");
    let told: BTreeSet<_> = running.containers.iter().map(|it| &it.id).collect();
    ensure!(told == BTreeSet::from([&web, &log, &main]), "{running:?}");
    let told: BTreeSet<_> = running.pods.iter().map(|it| &it.sandbox).collect();
    ensure!(told == BTreeSet::from([&cart.id, &agent.id]), "{running:?}");
    ensure!(named(running, "web")?.image.as_deref() == Some("lab.local/lab:1"), "{running:?}");

    let names = Names::new(&answers);
    for (id, name, pod) in [(&web, "web", CART), (&log, "log", CART), (&main, "main", AGENT)] {
        let holder = names.holder(&group_of(&pods, id)?);
        ensure!(holder == Some(pod_of(pod, Some((id, name)))), "{holder:?}");
    }
    for (sandbox, pod) in [(&cart, CART), (&agent, AGENT)] {
        let group = cgroup::of_process(pods.pid_of(sandbox)?).context("no group")?;
        let holder = names.holder(&group);
        ensure!(holder == Some(pod_of(pod, None)), "{holder:?}");
    }

    let (socket, group) = (pods.socket(), group_of(&pods, &web)?);
    pods.stop_daemon();
    let stopped = asked(&socket, Interface::Cri);
    ensure!(stopped.running.is_empty() && stopped.gaps.len() == 1, "{stopped:?}");
    let Some(Holder::Pod(unknown)) = Names::new(&stopped).holder(&group) else {
        anyhow::bail!("{group:?}")
    };
    ensure!(unknown.uid == CART.uid && unknown.name.is_none(), "{unknown:?}");
    ensure!(unknown.container.is_some_and(|container| container.id == web));
    pods.start_daemon()?;
    let answers = asked(&socket, Interface::Cri);
    named(the_only(&answers)?, "web").map(drop)
}

/// The group of a process of a container.
fn group_of(pods: &Pods, id: &str) -> anyhow::Result<cgroup::Membership> {
    let groups = pods.control_group().processes().into_iter().filter_map(cgroup::of_process);
    let is_its = |group: &cgroup::Membership| {
        group.container.as_ref().is_some_and(|container| container.id == id)
    };
    groups.into_iter().find(is_its).context("no process of the container")
}

fn pod_of(pod: PodConfig<'_>, container: Option<(&String, &str)>) -> Holder {
    let container = container.map(|(id, name)| Container {
        id: id.clone(),
        name: Some(name.to_owned()),
        image: Some("lab.local/lab:1".to_owned()),
        runtime: Some("containerd".to_owned()),
    });
    Holder::Pod(Pod {
        namespace: Some(pod.namespace.to_owned()),
        name: Some(pod.name.to_owned()),
        uid: pod.uid.to_owned(),
        container,
    })
}

/// Docker's own containerd has no pods to speak of, and that is no gap.
pub(crate) fn containerd_without_pods() -> anyhow::Result<()> {
    let docker = Docker::start()?;
    let socket = docker.folder().join("exec/containerd/containerd.sock");
    let answers = asked(&socket, Interface::Cri);
    let running = the_only(&answers)?;
    ensure!(running.containers.is_empty() && running.pods.is_empty(), "{running:?}");
    // Asked for the other interface, each says that it is not spoken there.
    let wrong = asked(&socket, Interface::Docker);
    ensure!(wrong.gaps.len() == 1 && wrong.gaps[0].cause.contains("no HTTP"), "{wrong:?}");
    let wrong = asked(&docker.socket(), Interface::Cri);
    ensure!(wrong.gaps.len() == 1 && wrong.running.is_empty(), "{wrong:?}");
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        println!("| Docker asked for CRI | {} |", wrong.gaps[0].cause);
    }
    Ok(())
}

/// With its service, and without: then by the file that it keeps them in.
pub(crate) fn podman_is_asked() -> anyhow::Result<()> {
    let mut podman = Podman::start()?;
    let published = format!("{PORT}:80");
    let web = podman.container(&["--name", "web", "-p", &published], &["sleep", "600"])?;
    let gone = podman.container(&["--name", "gone"], &["true"])?;
    podman.podman(&["wait", &gone])?;
    let group = cgroup::of_process(podman.pid_of(&web)?).context("no group")?;
    let image = format!("localhost/{IMAGE}");
    let holder = Holder::Container(Container {
        id: web.clone(),
        name: Some("web".to_owned()),
        image: Some(image.clone()),
        runtime: Some("podman".to_owned()),
    });

    let store = podman.seen("/var/lib/containers/storage/vfs-containers/containers.json");
    let stored = asked(&store, Interface::Store);
    let told: BTreeSet<_> = the_only(&stored)?.containers.iter().map(|it| &it.id).collect();
    ensure!(told == BTreeSet::from([&web, &gone]), "{stored:?}");
    ensure!(Names::new(&stored).holder(&group) == Some(holder.clone()), "{group:?}: {stored:?}");

    podman.start_service()?;
    let answers = asked(&podman.socket(), Interface::Unknown);
    let running = the_only(&answers)?;
    let version = podman.podman(&["version", "-f", "{{.Client.Version}}"])?;
    ensure!(running.runtime == "podman" && running.version.as_ref() == Some(&version));
    let [told] = running.containers.as_slice() else { anyhow::bail!("{running:?}") };
    ensure!(told.id == web && told.image.as_ref() == Some(&image), "{told:?}");
    let address = ["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"];
    ensure!(told.addresses == [podman.podman(&address)?.parse::<IpAddr>()?], "{told:?}");
    let port = Published { protocol: Protocol::TCP, address: None, port: PORT, inside: 80 };
    ensure!(told.published == [port], "{told:?}");
    ensure!(Names::new(&answers).holder(&group) == Some(holder), "{group:?}: {answers:?}");
    Ok(())
}
