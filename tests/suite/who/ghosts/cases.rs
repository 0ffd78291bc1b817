//! The labelled cases: what an entry is of, and whether anybody still has it.

use anyhow::ensure;
use ctkeeper_flow::Protocol;

use super::stage::{ANY, HOST, NEIGHBOUR, OUTSIDE, OUTSIDE_SIX, POD, REDIRECTED, Stage, Who};

/// What is true of a case's entries, and what must be said of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// Somebody has it: never a ghost.
    Lives,
    /// Nobody has it, and that must be found.
    Ghost,
    /// Nobody has it, and the rules say not to tell: why.
    Spared(&'static str),
}

type Act = fn(&mut Stage, u16) -> anyhow::Result<()>;

#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    /// The port that its client asked for, which no other case uses.
    pub(crate) port: u16,
    pub(crate) label: Label,
    /// Makes its entry.
    pub(crate) begin: Act,
    /// What happens between the looks.
    pub(crate) between: Option<Act>,
}

const fn tcp(port: u16, name: &'static str, label: Label, begin: Act) -> Case {
    Case { name, protocol: Protocol::TCP, port, label, begin, between: None }
}

const fn udp(port: u16, name: &'static str, label: Label, begin: Act) -> Case {
    Case { name, protocol: Protocol::UDP, port, label, begin, between: None }
}

const fn then(case: Case, act: Act) -> Case {
    Case { between: Some(act), ..case }
}

use Label::{Ghost, Lives, Spared};

const TRANSLATED: Label = Spared("translated and not closing");
const UNSEEN: Label = Spared("its sockets went with their namespace");

pub(crate) const CASES: &[Case] = &[
    tcp(20_001, "idle connection out", Lives, out),
    tcp(20_002, "idle connection in", Lives, incoming),
    tcp(20_003, "out, lost without a packet", Ghost, |stage, port| {
        out(stage, port)?;
        stage.tell(Who::Home, &format!("vanish {port}")).map(drop)
    }),
    tcp(20_004, "in, lost without a packet, its server listens on", Ghost, |stage, port| {
        incoming(stage, port)?;
        stage.tell(Who::Home, &format!("vanish a{port}")).map(drop)
    }),
    tcp(20_005, "in, lost, its server restarted", Ghost, |stage, port| {
        incoming(stage, port)?;
        stage.tell(Who::Home, &format!("vanish a{port}"))?;
        stage.tell(Who::Home, &format!("close {port}"))?;
        stage.tell(Who::Home, &format!("listen {port} 0.0.0.0:{port}")).map(drop)
    }),
    tcp(20_006, "in, lost, nobody listens any more", Ghost, |stage, port| {
        incoming(stage, port)?;
        stage.tell(Who::Home, &format!("vanish a{port}"))?;
        stage.tell(Who::Home, &format!("close {port}")).map(drop)
    }),
    tcp(20_007, "process killed, its peer never closes", Ghost, |stage, port| {
        between(stage, Who::Doomed, Who::Outside, OUTSIDE, port)
    }),
    tcp(20_008, "killed before it read all: closed by RST", Ghost, |stage, port| {
        between(stage, Who::Doomed, Who::Outside, OUTSIDE, port)?;
        stage.tell(Who::Outside, &format!("write a{port}")).map(drop)
    }),
    tcp(20_009, "half closed by the host", Lives, |stage, port| {
        out(stage, port)?;
        stage.tell(Who::Home, &format!("shutdown {port}")).map(drop)
    }),
    tcp(20_010, "half closed by the peer", Lives, |stage, port| {
        out(stage, port)?;
        stage.tell(Who::Outside, &format!("shutdown a{port}")).map(drop)
    }),
    tcp(
        20_011,
        "closed first by the host: its kernel remembers it (TIME_WAIT)",
        Ghost,
        |stage, port| {
            out(stage, port)?;
            stage.tell(Who::Home, &format!("close {port}"))?;
            closed(stage, &format!("a{port}"))
        },
    ),
    tcp(20_012, "closed first by the peer: TIME_WAIT is the peer's", Ghost, |stage, port| {
        incoming(stage, port)?;
        stage.tell(Who::Outside, &format!("close {port}"))?;
        stage.tell(Who::Home, &format!("read a{port}"))?;
        stage.tell(Who::Home, &format!("close a{port}")).map(drop)
    }),
    tcp(20_013, "connecting to somebody who does not answer", Lives, |stage, port| {
        stage.tell(Who::Home, &format!("begin {port} 10.81.1.77:{port}")).map(drop)
    }),
    tcp(20_014, "in the queue of a server that does not accept", Lives, |stage, port| {
        stage.tell(Who::Home, &format!("listen {port} 0.0.0.0:{port}"))?;
        stage.tell(Who::Outside, &format!("connect {port} {HOST}:{port}")).map(drop)
    }),
    tcp(20_015, "handed to another process", Lives, |stage, port| {
        out(stage, port)?;
        stage.tell(Who::Home, &format!("hand {port}")).map(drop)
    }),
    tcp(20_016, "IPv6, idle", Lives, |stage, port| {
        between(stage, Who::Home, Who::Outside, OUTSIDE_SIX, port)
    }),
    tcp(20_017, "IPv6, lost without a packet", Ghost, |stage, port| {
        between(stage, Who::Home, Who::Outside, OUTSIDE_SIX, port)?;
        stage.tell(Who::Home, &format!("vanish {port}")).map(drop)
    }),
    tcp(20_018, "IPv4 on a socket of IPv6", Lives, |stage, port| {
        stage.tell(Who::Home, &format!("listen {port} [::]:{port}"))?;
        stage.tell(Who::Outside, &format!("connect {port} {HOST}:{port}"))?;
        stage.tell(Who::Home, &format!("accept a{port} {port}")).map(drop)
    }),
    tcp(20_019, "to an address that only a route makes local", Lives, |stage, port| {
        between(stage, Who::Outside, Who::Home, ANY, port)
    }),
    tcp(20_020, "MPTCP: the kernel has the subflow's socket", Lives, |stage, port| {
        stage.tell(Who::Outside, &format!("listen {port} {OUTSIDE}:{port}"))?;
        stage.tell(Who::Home, &format!("multipath {port} {OUTSIDE}:{port}"))?;
        stage.tell(Who::Outside, &format!("accept a{port} {port}")).map(drop)
    }),
    tcp(20_021, "loopback, idle", Lives, |stage, port| {
        between(stage, Who::Home, Who::Home, "127.0.0.1", port)
    }),
    tcp(20_022, "loopback, both ends lost", Ghost, |stage, port| {
        between(stage, Who::Home, Who::Home, "127.0.0.1", port)?;
        stage.tell(Who::Home, &format!("vanish {port}"))?;
        stage.tell(Who::Home, &format!("vanish a{port}")).map(drop)
    }),
    tcp(20_023, "loopback, one end lost", Lives, |stage, port| {
        between(stage, Who::Home, Who::Home, "127.0.0.1", port)?;
        stage.tell(Who::Home, &format!("vanish {port}")).map(drop)
    }),
    tcp(20_024, "forwarded to a routed pod, idle", Lives, |stage, port| {
        between(stage, Who::Outside, Who::Pod, POD, port)
    }),
    tcp(20_025, "forwarded to a routed pod, which has lost it", Ghost, |stage, port| {
        between(stage, Who::Outside, Who::Pod, POD, port)?;
        stage.tell(Who::Pod, &format!("vanish a{port}")).map(drop)
    }),
    tcp(20_026, "of a routed pod, whose namespace has gone", UNSEEN, |stage, port| {
        between(stage, Who::Leaving, Who::Outside, OUTSIDE, port)?;
        stage.tell(Who::Leaving, &format!("vanish {port}")).map(drop)
    }),
    tcp(20_027, "masqueraded, idle", Lives, masked),
    tcp(20_028, "masqueraded, lost without a packet", TRANSLATED, |stage, port| {
        masked(stage, port)?;
        stage.tell(Who::Container, &format!("vanish {port}")).map(drop)
    }),
    tcp(20_029, "masqueraded, half closed", Lives, |stage, port| {
        masked(stage, port)?;
        stage.tell(Who::Container, &format!("shutdown {port}")).map(drop)
    }),
    tcp(20_030, "masqueraded, closed at both ends", Ghost, |stage, port| {
        masked(stage, port)?;
        stage.tell(Who::Outside, &format!("close a{port}"))?;
        stage.tell(Who::Container, &format!("read {port}"))?;
        stage.tell(Who::Container, &format!("close {port}")).map(drop)
    }),
    tcp(20_031, "masqueraded, its namespace has gone", UNSEEN, |stage, port| {
        between(stage, Who::LeavingMasked, Who::Outside, OUTSIDE, port)?;
        stage.tell(Who::LeavingMasked, &format!("vanish {port}")).map(drop)
    }),
    tcp(20_500, "published port, idle", Lives, |stage, port| {
        stage.tell(Who::Container, &format!("listen {port} 0.0.0.0:{port}"))?;
        stage.tell(Who::Outside, &format!("connect {port} {HOST}:{port}"))?;
        stage.tell(Who::Container, &format!("accept a{port} {port}")).map(drop)
    }),
    tcp(REDIRECTED.0, "redirected to another port of the host's", Lives, |stage, port| {
        let listens = REDIRECTED.1;
        stage.tell(Who::Home, &format!("listen {port} 0.0.0.0:{listens}"))?;
        stage.tell(Who::Outside, &format!("connect {port} {HOST}:{port}"))?;
        stage.tell(Who::Home, &format!("accept a{port} {port}")).map(drop)
    }),
    tcp(
        20_700,
        "killed while nothing gets out: its kernel still sends FIN",
        Lives,
        |stage, port| between(stage, Who::Doomed, Who::Outside, OUTSIDE, port),
    ),
    then(
        tcp(
            20_032,
            "lost, and opened again between the looks by the same ports",
            Lives,
            |stage, port| {
                out(stage, port)?;
                let own = stage.tell(Who::Home, &format!("where {port}"))?;
                stage.tell(Who::Home, &format!("vanish {port}"))?;
                stage.tell(Who::Home, &format!("note {port} {own}")).map(drop)
            },
        ),
        |stage, port| {
            stage.tell(Who::Outside, &format!("vanish a{port}"))?;
            stage.tell(Who::Home, &format!("again {port} {OUTSIDE}:{port}"))?;
            stage.tell(Who::Outside, &format!("accept a{port} {port}")).map(drop)
        },
    ),
    then(tcp(20_033, "lost between the looks", Spared("seen dead once"), out), |stage, port| {
        stage.tell(Who::Home, &format!("vanish {port}")).map(drop)
    }),
    then(tcp(20_034, "used between the looks", Lives, out), |stage, port| {
        stage.tell(Who::Home, &format!("write {port}")).map(drop)
    }),
    udp(20_101, "UDP, connected socket", Lives, |stage, port| {
        answered(stage, Who::Home, port)?;
        stage.tell(Who::Home, &format!("join {port} {OUTSIDE}:{port}")).map(drop)
    }),
    udp(20_102, "UDP, bound socket", Lives, |stage, port| answered(stage, Who::Home, port)),
    udp(20_103, "UDP, server's side", Lives, |stage, port| {
        stage.tell(Who::Home, &format!("udp {port} 0.0.0.0:{port}"))?;
        stage.tell(Who::Outside, &format!("udp {port} {OUTSIDE}:0"))?;
        stage.tell(Who::Outside, &format!("send {port} {HOST}:{port}"))?;
        stage.tell(Who::Home, &format!("hear {port}")).map(drop)
    }),
    udp(20_104, "UDP, socket closed", Ghost, |stage, port| {
        answered(stage, Who::Home, port)?;
        stage.tell(Who::Home, &format!("close {port}")).map(drop)
    }),
    udp(20_105, "UDP, process killed", Ghost, |stage, port| answered(stage, Who::Doomed, port)),
    udp(20_106, "UDP, server closed", Ghost, |stage, port| {
        stage.tell(Who::Home, &format!("udp {port} 0.0.0.0:{port}"))?;
        stage.tell(Who::Outside, &format!("udp {port} {OUTSIDE}:0"))?;
        stage.tell(Who::Outside, &format!("send {port} {HOST}:{port}"))?;
        stage.tell(Who::Home, &format!("hear {port}"))?;
        stage.tell(Who::Home, &format!("close {port}")).map(drop)
    }),
    udp(20_107, "UDP of IPv4 on a socket of IPv6", Lives, |stage, port| {
        stage.tell(Who::Home, &format!("udp {port} [::]:{port}"))?;
        stage.tell(Who::Outside, &format!("udp {port} {OUTSIDE}:0"))?;
        stage.tell(Who::Outside, &format!("send {port} {HOST}:{port}"))?;
        stage.tell(Who::Home, &format!("hear {port}")).map(drop)
    }),
    udp(20_108, "UDP to a group, socket bound", Lives, |stage, port| {
        stage.tell(Who::Home, &format!("udp {port} {HOST}:0"))?;
        stage.tell(Who::Home, &format!("send {port} 224.0.0.251:{port}")).map(drop)
    }),
    then(
        udp(
            20_109,
            "UDP, socket closed, its port bound again between the looks",
            Lives,
            |stage, port| {
                let own = answered_from(stage, Who::Home, port)?;
                stage.tell(Who::Home, &format!("close {port}"))?;
                stage.tell(Who::Home, &format!("note {port} {own}")).map(drop)
            },
        ),
        |stage, port| stage.tell(Who::Home, &format!("udp-again {port}")).map(drop),
    ),
    then(
        udp(20_110, "UDP, no socket, packets made by hand go on", Lives, |stage, port| {
            by_hand(stage, Who::Home, HOST, port)
        }),
        |stage, port| by_hand(stage, Who::Home, HOST, port),
    ),
    udp(20_111, "UDP of a masqueraded container, socket bound", Lives, |stage, port| {
        answered(stage, Who::Container, port)
    }),
    udp(20_112, "UDP of a masqueraded container, closed", TRANSLATED, |stage, port| {
        answered(stage, Who::Container, port)?;
        stage.tell(Who::Container, &format!("close {port}")).map(drop)
    }),
    udp(20_113, "of a pod with a network stack of its own (gVisor's way)", Lives, |stage, port| {
        stage.tell(Who::Sandboxed, "packet stack")?;
        by_hand(stage, Who::Sandboxed, "10.81.6.2", port)
    }),
    udp(20_114, "of a pod's program that makes its packets itself", Lives, |stage, port| {
        stage.tell(Who::Crafting, "raw stack")?;
        by_hand(stage, Who::Crafting, "10.81.7.2", port)
    }),
    udp(20_115, "to a virtual machine that has a pod's address (Kata's way)", Lives, to_a_machine),
    udp(VXLAN, "VXLAN: the kernel sends from ports that no socket has", Lives, vxlan),
];

/// A port for VXLAN that is not its own.
pub(crate) const VXLAN: u16 = 20_190;

/// Everybody has begun: those whose lives end before the first look.
pub(crate) fn after_all_have_begun(stage: &mut Stage) -> anyhow::Result<()> {
    stage.cut()?;
    stage.kill(Who::Doomed)?;
    stage.remove(Who::Leaving)?;
    stage.remove(Who::LeavingMasked)
}

fn out(stage: &mut Stage, port: u16) -> anyhow::Result<()> {
    between(stage, Who::Home, Who::Outside, OUTSIDE, port)
}

fn incoming(stage: &mut Stage, port: u16) -> anyhow::Result<()> {
    between(stage, Who::Outside, Who::Home, HOST, port)
}

fn masked(stage: &mut Stage, port: u16) -> anyhow::Result<()> {
    between(stage, Who::Container, Who::Outside, OUTSIDE, port)
}

/// A connection: the client's is called by the port, the server's `a` and the port.
fn between(
    stage: &mut Stage,
    client: Who,
    server: Who,
    address: &str,
    port: u16,
) -> anyhow::Result<()> {
    let listener = if client == server { format!("l{port}") } else { port.to_string() };
    stage.tell(server, &format!("listen {listener} {address}:{port}"))?;
    stage.tell(client, &format!("connect {port} {address}:{port}"))?;
    stage.tell(server, &format!("accept a{port} {listener}")).map(drop)
}

/// The peer outside has read the end and closes too.
fn closed(stage: &mut Stage, name: &str) -> anyhow::Result<()> {
    stage.tell(Who::Outside, &format!("read {name}"))?;
    stage.tell(Who::Outside, &format!("close {name}")).map(drop)
}

/// A datagram out and its answer.
fn answered(stage: &mut Stage, who: Who, port: u16) -> anyhow::Result<()> {
    answered_from(stage, who, port).map(drop)
}

fn answered_from(stage: &mut Stage, who: Who, port: u16) -> anyhow::Result<String> {
    stage.tell(Who::Outside, &format!("udp {port} {OUTSIDE}:{port}"))?;
    let own = stage.tell(who, &format!("udp {port} 0.0.0.0:0"))?;
    stage.tell(who, &format!("send {port} {OUTSIDE}:{port}"))?;
    let from = stage.tell(Who::Outside, &format!("hear {port}"))?;
    stage.tell(Who::Outside, &format!("send {port} {from}"))?;
    stage.tell(who, &format!("hear {port}"))?;
    Ok(own)
}

/// The same datagram every time, from a port that no socket has.
fn by_hand(stage: &mut Stage, who: Who, from: &str, port: u16) -> anyhow::Result<()> {
    use ctkeeper_lab::load::{Closing, Load, PortRange, Profile, Sources, Traffic, UdpOneWay};
    let target = format!("{OUTSIDE}:{port}").parse().map_err(anyhow::Error::msg)?;
    let mut profile = Profile::new(Traffic::UdpOneWay(UdpOneWay::default()), target, 10.0);
    profile.count = Some(1);
    let ports = PortRange::new(port, port);
    profile.sources = Some(Sources { first: from.parse()?, count: 1, ports });
    let load = Load::start(&stage.place(who).open()?, &profile)?;
    load.wait_settled(std::time::Duration::from_secs(5));
    let report = load.stop(Closing::Close);
    ensure!(report.packets == 1, "{report}");
    Ok(())
}

/// What a machine has open, no host can see.
fn to_a_machine(stage: &mut Stage, port: u16) -> anyhow::Result<()> {
    stage.place(Who::Machine).run("ip", &["tuntap", "add", "dev", "tap0", "mode", "tap"])?;
    stage.tell(Who::Outside, &format!("udp {port} {OUTSIDE}:0"))?;
    stage.tell(Who::Outside, &format!("send {port} 10.81.8.2:{port}")).map(drop)
}

/// A tunnel to the outside, and a packet through it.
fn vxlan(stage: &mut Stage, port: u16) -> anyhow::Result<()> {
    for (place, own, peer, inside) in [
        (&stage.outside, NEIGHBOUR, HOST, "10.82.0.2/24"),
        (&stage.host, HOST, NEIGHBOUR, "10.82.0.1/24"),
    ] {
        let link = format!("link add vx type vxlan id 42 local {own} remote {peer} dstport {port}");
        place.run("ip", &link.split(' ').collect::<Vec<_>>())?;
        place.run("ip", &["address", "add", inside, "dev", "vx"])?;
        place.run("ip", &["link", "set", "vx", "up"])?;
    }
    stage.tell(Who::Home, "udp vx 10.82.0.1:0")?;
    stage.tell(Who::Home, "send vx 10.82.0.2:20199").map(drop)
}
