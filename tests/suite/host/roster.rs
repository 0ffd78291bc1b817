//! Who is in namespaces, whose addresses and sockets are, on the real kernel: namespaces wired like
//! a container host, with processes in control groups as runtimes name them.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, ensure};
use ctkeeper_flow::{Flow, Protocol, Tuple};
use ctkeeper_host::roster::{Evidence, Reader, Reading};
use ctkeeper_host::runtimes::Names;
use ctkeeper_netlink::netns::{Enumeration, enumerate};
use ctkeeper_snapshot::{Connection, Holder, Roster, SocketHolder, View};
use ctkeeper_tests::Namespace as Guard;

/// A group of the unified hierarchy; it goes with its guard, and those around it that are empty.
struct Group(PathBuf);

impl Group {
    fn create(path: &str) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let mount = mount.and_then(|line| line.split(' ').nth(1)).context("no cgroup2 mount")?;
        let path = Path::new(mount).join(path);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn container(number: u32) -> anyhow::Result<(String, Self)> {
        let id = format!("{:064x}", u64::from(std::process::id()) << 16 | u64::from(number));
        let group = Self::create(&format!("docker/{id}"))?;
        Ok((id, group))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A guard must not panic; a group that others use too stays.
        let _ = fs::remove_dir(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

/// A program in a namespace and a group, ended with its guard.
struct Program(Child);

impl Program {
    /// A python script, which begins when it is in its group, and is waited for until it writes a
    /// line.
    fn start(guard: &Guard, group: Option<&Group>, script: &str) -> anyhow::Result<Self> {
        let script = format!(
            "import socket,sys,time\ninput()\n{script}\nprint('up',flush=True)\ntime.sleep(600)"
        );
        let mut command = guard.command("python3");
        let child = command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = Self(child.spawn()?);
        if let Some(group) = group {
            fs::write(group.0.join("cgroup.procs"), program.0.id().to_string())?;
        }
        program.0.stdin.take().context("no input")?.write_all(b"\n")?;
        let mut line = String::new();
        BufReader::new(program.0.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line == "up\n", "the program in {} has failed", guard.name());
        Ok(program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A guard must not panic.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(guard: &Guard, lines: &[&str]) -> anyhow::Result<()> {
    for line in lines {
        guard.run("ip", &line.split(' ').collect::<Vec<_>>()).context((*line).to_owned())?;
    }
    Ok(())
}

/// Plugs a namespace into another one's bridge.
fn plug(
    host: &Guard,
    bridge: &str,
    guest: &Guard,
    name: &str,
    address: &str,
) -> anyhow::Result<()> {
    ip(
        host,
        &[
            &format!("link add {name} type veth peer name eth0 netns {}", guest.name()),
            &format!("link set {name} master {bridge} up"),
        ],
    )?;
    ip(guest, &[&format!("address add {address} dev eth0"), "link set eth0 up"])
}

/// A bridge of a namespace that sends packets on.
fn bridge(host: &Guard, name: &str, address: &str) -> anyhow::Result<()> {
    host.sysctl("ipv4.ip_forward", "1")?;
    ip(
        host,
        &[
            &format!("link add {name} type bridge"),
            &format!("address add {address} dev {name}"),
            &format!("link set {name} up"),
        ],
    )
}

/// Of these namespaces alone: others of the machine come and go.
fn seen(guards: &[&Guard]) -> anyhow::Result<Enumeration> {
    let inodes = guards.iter().map(|guard| guard.inode()).collect::<Result<HashSet<_>, _>>()?;
    let mut enumeration = enumerate();
    enumeration.namespaces.retain(|found| inodes.contains(&found.inode));
    Ok(enumeration)
}

fn view<'a>(reading: &'a Reading, guard: &Guard) -> anyhow::Result<&'a View> {
    reading.roster.views.get(&guard.inode()?).context("no view")
}

fn tenants(reading: &Reading, guard: &Guard, address: &str) -> anyhow::Result<Vec<Holder>> {
    let address: IpAddr = address.parse()?;
    let tenants = view(reading, guard)?.tenants.get(&address).into_iter().flatten();
    Ok(tenants.map(|tenant| holder(&reading.roster, tenant.holder.0)).collect())
}

fn holder(roster: &Roster, index: u32) -> Holder {
    roster.holders[index as usize].clone()
}

fn owner(reading: &Reading, guard: &Guard) -> anyhow::Result<Option<Holder>> {
    Ok(view(reading, guard)?.owner.map(|owner| holder(&reading.roster, owner.0)))
}

fn is_container(holder: &Holder, id: &str) -> bool {
    matches!(holder, Holder::Container(container) if container.id == id)
}

fn is_inner(reading: &Reading, guard: &Guard, interface: &str) -> anyhow::Result<bool> {
    let mut networks = view(reading, guard)?.networks.iter();
    let found = networks.find(|attached| attached.interface == interface);
    Ok(found.with_context(|| format!("no network on {interface}"))?.is_inner)
}

pub(crate) fn addresses_lead_to_who_is_behind_them() -> anyhow::Result<()> {
    let (host, web, cart) = (Guard::create()?, Guard::create()?, Guard::create()?);
    let (stranger, outside) = (Guard::create()?, Guard::create()?);
    bridge(&host, "br0", "10.9.0.1/24")?;
    bridge(&host, "br1", "10.8.0.1/24")?;
    plug(&host, "br0", &web, "web", "10.9.0.2/24")?;
    plug(&host, "br0", &cart, "cart", "10.9.0.3/24")?;
    // Somebody else's container has the same address, on a wire that does not lead here.
    bridge(&outside, "br0", "10.9.0.1/24")?;
    plug(&outside, "br0", &stranger, "web", "10.9.0.2/24")?;
    // One more network, where packets leave the host's own interface behind.
    ip(&host, &[&format!("link add link br1 name mac0 netns {} type macvlan", cart.name())])?;
    ip(&cart, &["address add 10.8.0.3/24 dev mac0"])?;
    let (web_id, web_group) = Group::container(1)?;
    let (cart_id, cart_group) = Group::container(2)?;
    let (stranger_id, stranger_group) = Group::container(3)?;
    let web_program = Program::start(&web, Some(&web_group), "")?;
    let _cart_program = Program::start(&cart, Some(&cart_group), "")?;
    let _stranger_program = Program::start(&stranger, Some(&stranger_group), "")?;
    let all = [&host, &web, &cart, &stranger, &outside];

    let mut reader = Reader::default();
    let names = Names::default();
    let first = reader.read(&seen(&all)?, &names, &[]);
    ensure!(first.gaps.is_empty(), "{:?}", first.gaps);
    for (address, id) in [("10.9.0.2", &web_id), ("10.9.0.3", &cart_id), ("10.8.0.3", &cart_id)] {
        let found = tenants(&first, &host, address)?;
        ensure!(found.len() == 1 && is_container(&found[0], id), "{address}: {found:?}");
    }
    let found = tenants(&first, &outside, "10.9.0.2")?;
    ensure!(found.len() == 1 && is_container(&found[0], &stranger_id), "{found:?}");
    ensure!(owner(&first, &web)?.is_some_and(|owner| is_container(&owner, &web_id)));
    ensure!(owner(&first, &host)?.is_none(), "packets of others go through a bridge's namespace");
    ensure!(is_inner(&first, &host, "br0")? && is_inner(&first, &host, "br1")?);
    let address: IpAddr = "10.9.0.2".parse()?;
    let since = view(&first, &host)?.tenants[&address][0].since_ms.context("no start")?;
    let now = ctkeeper_host::machine::boottime_ms();
    ensure!(since <= now && now - since < 600_000, "{since} of {now}");

    // Again: what is remembered tells the same, in the same places.
    let second = reader.read(&seen(&all)?, &names, &[]);
    ensure!(second.roster == first.roster);
    // A container's process has ended, and another one is there.
    drop(web_program);
    let (_, next_group) = Group::container(4)?;
    let _next = Program::start(&web, Some(&next_group), "")?;
    let third = reader.read(&seen(&all)?, &names, &[]);
    let found = tenants(&third, &host, "10.9.0.2")?;
    ensure!(found.len() == 1 && !is_container(&found[0], &web_id), "{found:?}");
    let newer = view(&third, &host)?.tenants[&address][0].since_ms.context("no start")?;
    ensure!(newer > since, "{newer}, {since}");
    // One more network for a container that has been seen.
    plug_second(&host, &cart)?;
    let fourth = reader.read(&seen(&all)?, &names, &[]);
    let found = tenants(&fourth, &host, "10.8.0.9")?;
    ensure!(found.len() == 1 && is_container(&found[0], &cart_id), "{found:?}");
    // A namespace that is not seen: its network may hold anybody.
    let blind = reader.read(&seen(&[&host, &cart])?, &names, &[]);
    ensure!(tenants(&blind, &host, "10.9.0.2")?.is_empty());
    ensure!(!is_inner(&blind, &host, "br0")? && is_inner(&blind, &host, "br1")?);
    Ok(())
}

fn plug_second(host: &Guard, guest: &Guard) -> anyhow::Result<()> {
    ip(
        host,
        &[
            &format!("link add cart2 type veth peer name eth1 netns {}", guest.name()),
            "link set cart2 master br1 up",
        ],
    )?;
    ip(guest, &["address add 10.8.0.9/24 dev eth1", "link set eth1 up"])
}

pub(crate) fn routes_tell_who_is_further_away() -> anyhow::Result<()> {
    let (host, router, inner) = (Guard::create()?, Guard::create()?, Guard::create()?);
    bridge(&host, "br0", "10.9.0.1/24")?;
    plug(&host, "br0", &router, "router", "10.9.0.2/24")?;
    bridge(&router, "lan", "10.7.0.1/24")?;
    plug(&router, "lan", &inner, "inner", "10.7.0.2/24")?;
    let all = [&host, &router, &inner];
    let mut reader = Reader::default();
    let names = Names::default();
    let before = reader.read(&seen(&all)?, &names, &[]);
    ensure!(tenants(&before, &host, "10.7.0.2")?.is_empty(), "nothing leads there");
    ip(&host, &["route add 10.7.0.0/24 via 10.9.0.2"])?;
    let after = reader.read(&seen(&all)?, &names, &[]);
    let found = tenants(&after, &host, "10.7.0.2")?;
    let expected = Holder::Namespace { inode: inner.inode()?, name: inner.name().to_owned() };
    ensure!(found == [expected.clone()], "{found:?}");
    ensure!(owner(&after, &inner)? == Some(expected));
    Ok(())
}

pub(crate) fn a_guest_does_not_take_a_container_over() -> anyhow::Result<()> {
    let guard = Guard::create()?;
    let (id, group) = Group::container(5)?;
    let _container = Program::start(&guard, Some(&group), "")?;
    let _guest = Program::start(&guard, None, "")?;
    let reading = Reader::default().read(&seen(&[&guard])?, &Names::default(), &[]);
    ensure!(owner(&reading, &guard)?.is_none(), "two are in it");
    let (_, other) = Group::container(6)?;
    let alone = Guard::create()?;
    let _plain = Program::start(&alone, None, "")?;
    let reading = Reader::default().read(&seen(&[&alone])?, &Names::default(), &[]);
    let found = owner(&reading, &alone)?;
    ensure!(
        matches!(&found, Some(Holder::Process { name, .. }) if name.starts_with("python")),
        "{found:?}"
    );
    drop((id, other));
    Ok(())
}

pub(crate) fn sockets_lead_to_units_and_processes() -> anyhow::Result<()> {
    let guard = Guard::create()?;
    let unit = Group::create(&format!("system.slice/ctk-{}.service", std::process::id()))?;
    let serve = |port: u16| format!("s=socket.create_server(('127.0.0.1',{port}))");
    let _web = Program::start(&guard, Some(&unit), &serve(8080))?;
    let script = format!(
        "{}\nc=socket.create_connection(('127.0.0.1',8080),source_address=('127.0.0.1',9090))\n\
                          u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nu.bind(('127.0.0.1',5353))",
        serve(8081)
    );
    let plain = Program::start(&guard, None, &script)?;
    let enumeration = seen(&[&guard])?;
    let names = Names::default();
    let mut reader = Reader::default();
    let flow = |protocol, from: u16, to: u16| {
        let local: IpAddr = [127, 0, 0, 1].into();
        let original = Tuple::with_ports(protocol, (local, from), (local, to));
        Flow { reply: original.inverted().unwrap_or_default(), original, ..Flow::default() }
    };
    let flows = [
        flow(Protocol::TCP, 9090, 8080),
        flow(Protocol::TCP, 9091, 8081),
        flow(Protocol::UDP, 1, 5353),
    ];
    for flows in [Some(&flows[..]), None] {
        let mut reading = reader.read(&enumeration, &names, &[]);
        let namespace = guard.open()?;
        let evidence = Evidence::Groups;
        let gap = reader.add_sockets(&mut reading.roster, &namespace, &names, flows, evidence);
        ensure!(gap.is_none(), "{gap:?}");
        let view = view(&reading, &guard)?;
        ensure!(view.sockets_complete);
        let whose = |holder: Option<&SocketHolder>| match holder {
            Some(SocketHolder::Of(index)) => Some(self::holder(&reading.roster, index.0)),
            _ => None,
        };
        let at = |protocol, port: u16| {
            whose(view.listening.get(&(protocol, ([127, 0, 0, 1], port).into())))
        };
        let name = unit.0.file_name().context("a name")?.to_string_lossy().into_owned();
        ensure!(
            at(Protocol::TCP, 8080) == Some(Holder::Unit { name }),
            "{:?}",
            at(Protocol::TCP, 8080)
        );
        let is_plain = |holder: &Option<Holder>| matches!(holder, Some(Holder::Process { pid, .. }) if *pid <= plain.0.id());
        ensure!(is_plain(&at(Protocol::TCP, 8081)), "{:?}", at(Protocol::TCP, 8081));
        ensure!(is_plain(&at(Protocol::UDP, 5353)), "{:?}", at(Protocol::UDP, 5353));
        let connection = Connection {
            protocol: Protocol::TCP,
            local: ([127, 0, 0, 1], 9090).into(),
            remote: ([127, 0, 0, 1], 8080).into(),
        };
        let connected = whose(view.connected.get(&connection));
        ensure!(is_plain(&connected), "{connected:?}");
    }
    Ok(())
}
