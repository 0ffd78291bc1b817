//! Interfaces, how they tie namespaces together, and routes; control groups of sockets.

use std::net::{IpAddr, TcpListener};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use ctkeeper_netlink::links::{Link, Links, PeerNamespace, Route};
use ctkeeper_netlink::sockets::{SocketStates, Transport, dump};
use ctkeeper_tests::Namespace as Guard;

use crate::support::held;

fn ip(guard: &Guard, arguments: &str) -> anyhow::Result<()> {
    guard
        .run("ip", &arguments.split(' ').collect::<Vec<_>>())
        .map(drop)
        .context(arguments.to_owned())
}

fn named(links: &[Link], name: &str) -> anyhow::Result<Link> {
    links.iter().find(|link| link.name == name).cloned().with_context(|| format!("no {name}"))
}

pub(crate) fn links_tie_namespaces_together() -> anyhow::Result<()> {
    let (host, inner) = (Guard::create()?, Guard::create()?);
    ip(&host, "link add br0 type bridge")?;
    ip(&host, &format!("link add above type veth peer name eth0 netns {}", inner.name()))?;
    ip(&host, "link set above master br0 up")?;
    ip(&host, "link set br0 up")?;
    ip(&host, "address add 10.9.0.1/24 dev br0")?;
    ip(&host, "link add low type bridge")?;
    ip(&host, &format!("link add link low name mac0 netns {} type macvlan", inner.name()))?;
    ip(&inner, "address add 10.9.0.2/24 dev eth0")?;
    ip(&inner, "link set eth0 up")?;
    ip(&inner, "route add default via 10.9.0.1")?;
    let (host, inner) = (held(&host)?, held(&inner)?);
    let (mut above, mut below) = (Links::open_in(&host)?, Links::open_in(&inner)?);
    let (of_host, of_inner) = (above.links()?, below.links()?);
    let (up, eth0) = (named(&of_host, "above")?, named(&of_inner, "eth0")?);
    ensure!(up.kind.as_deref() == Some("veth") && up.peer == Some(eth0.index), "{up:?}");
    ensure!(up.master == Some(named(&of_host, "br0")?.index), "{up:?}");
    ensure!(eth0.peer == Some(up.index), "{eth0:?}");
    let number = above.number_of(&inner)?.context("the host has no number for the inner one")?;
    ensure!(up.peer_namespace == PeerNamespace::Other(number), "{up:?}, {number}");
    let back = below.number_of(&host)?.context("the inner one has no number for the host")?;
    let (low, mac0) = (named(&of_host, "low")?, named(&of_inner, "mac0")?);
    ensure!(mac0.peer == Some(low.index), "{mac0:?}");
    ensure!(mac0.peer_namespace == PeerNamespace::Other(back), "{mac0:?}, {back}");
    ensure!(low.peer_namespace == PeerNamespace::Same && low.peer.is_none(), "{low:?}");
    ensure!(above.number_of(&held(&Guard::create()?)?)?.is_none());
    let gateway: IpAddr = "10.9.0.1".parse()?;
    let route = |gateway| Some(Route { index: eth0.index, gateway });
    ensure!(below.route_to(gateway)? == route(None));
    ensure!(below.route_to("192.0.2.9".parse()?)? == route(Some(gateway)));
    ensure!(below.route_to("2001:db8::1".parse()?)?.is_none());
    ensure!(above.route_to("192.0.2.9".parse()?)?.is_none());
    ensure!(above.addresses()?.iter().any(|held| held.address == gateway && held.prefix == 24));
    Ok(())
}

/// A group of the unified hierarchy, removed with its guard.
struct Group(PathBuf);

impl Group {
    fn create() -> anyhow::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let mount = mount.and_then(|line| line.split(' ').nth(1)).context("no cgroup2 mount")?;
        let path = Path::new(mount).join(format!("ctk-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A guard must not panic.
        let _ = std::fs::remove_dir(&self.0);
    }
}

pub(crate) fn sockets_tell_their_control_group() -> anyhow::Result<()> {
    let guard = Guard::create()?;
    let group = Group::create()?;
    let script = "import socket\ninput()\ns=socket.create_server(('127.0.0.1',8080))\n\
                  print('up',flush=True)\n\
                  import sys;sys.stdin.read()";
    let mut child = guard
        .command("python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    std::fs::write(group.0.join("cgroup.procs"), child.id().to_string())?;
    let mut input = child.stdin.take().context("no input")?;
    std::io::Write::write_all(&mut input, b"\n")?;
    let mut line = String::new();
    let output = child.stdout.take().context("no output")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
    let seen = guard.enter(|| {
        let _own = TcpListener::bind("127.0.0.1:8081");
        let mut seen = Vec::new();
        dump(Transport::Tcp, SocketStates::LISTENING, |socket| {
            seen.push((socket.local.port(), socket.cgroup));
            ControlFlow::Continue(())
        })
        .map(|_| seen)
    });
    drop(input);
    child.wait()?;
    let seen = seen??;
    let expected = Some(std::fs::metadata(&group.0)?.ino());
    ensure!(seen.contains(&(8080, expected)), "{seen:?}, {expected:?}");
    ensure!(
        seen.iter().any(|(port, group)| *port == 8081 && group.is_some() && *group != expected)
    );
    Ok(())
}
