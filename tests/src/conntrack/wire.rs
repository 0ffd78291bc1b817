//! Conversations of hand-made packets: a router sees them arrive and passes them on.
//!
//! `wire PROTOCOL CLIENT > SERVER STAGE [reply FROM > TO]`, where addresses of 10.77/16 and fd77::/16
//! are on the wire; `reply` names the ends as the server has them where they are translated.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};
use ctkeeper_differential::sequence::{
    Chunk, Datagram, Defects, Gre, Message, SctpPacket, Segment, Transport, flag,
};
use ctkeeper_differential::wire::{Endpoint, Ends, datagram};
use ctkeeper_lab::Namespace;
use tappers::{Interface, Tun};

/// The interface's name.
const NAME: &str = "wire0";

/// An interface whose packets are ours.
pub(super) struct Wire {
    device: Tun,
    buffer: Vec<u8>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Wire")
    }
}

/// Who sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Client,
    Server,
}
use Sender::{Client, Server};

impl Wire {
    /// Lays it into a namespace, which then routes.
    pub(super) fn lay(namespace: &Namespace) -> anyhow::Result<Self> {
        for (name, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
            ("ipv6/conf/all/forwarding", "1"),
            // The router says nothing of its own.
            ("ipv6/conf/default/addr_gen_mode", "1"),
            ("ipv6/conf/default/accept_dad", "0"),
        ] {
            namespace.sysctl(name, value)?;
        }
        let device = namespace.enter(|| -> anyhow::Result<Tun> {
            let mut device =
                Tun::new_named(Interface::new(NAME)?).context("making a TUN device")?;
            device.set_nonblocking(true)?;
            Ok(device)
        })??;
        namespace.run("ip", &["link", "set", NAME, "up"])?;
        for network in ["10.77.0.0/16", "fd77::/16"] {
            namespace.run("ip", &["route", "add", network, "dev", NAME])?;
        }
        Ok(Self { device, buffer: vec![0; 65_536] })
    }

    /// Plays a conversation.
    pub(super) fn play(&mut self, line: &str) -> anyhow::Result<()> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [protocol, client, ">", server, stage, ref rest @ ..] = words[..] else {
            bail!("not PROTOCOL CLIENT > SERVER STAGE: {line}");
        };
        let there = Ends { source: endpoint(client)?, destination: endpoint(server)? };
        let back = match *rest {
            [] => there.turned(),
            ["reply", from, ">", to] => {
                Ends { source: endpoint(from)?, destination: endpoint(to)? }
            }
            _ => bail!("not `reply FROM > TO`: {line}"),
        };
        for (from, transport) in packets(protocol, stage, there).with_context(|| line.to_owned())? {
            let ends = if from == Client { there } else { back };
            self.arrive(&datagram(ends, &transport, &Defects::default(), &[]))?;
        }
        Ok(())
    }

    /// A packet arrives, and has gone its way when this returns.
    fn arrive(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        self.device.send(packet).context("writing a packet")?;
        loop {
            match self.device.recv(&mut self.buffer) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reading a packet"),
            }
        }
    }
}

/// `10.77.1.2:80`, `[fd77::2]:80`, or an address alone.
fn endpoint(text: &str) -> anyhow::Result<Endpoint> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Endpoint { address, port: 0 });
    }
    let whole: SocketAddr = text.parse().with_context(|| format!("no address: {text}"))?;
    Ok(Endpoint { address: whole.ip(), port: whole.port() })
}

type Packets = Vec<(Sender, Transport)>;

/// The packets up to a stage.
fn packets(protocol: &str, stage: &str, ends: Ends) -> anyhow::Result<Packets> {
    if protocol == "tcp" {
        return tcp(stage);
    }
    if protocol == "sctp" {
        return sctp(stage);
    }
    let directions: &[Sender] = match stage {
        "new" => &[Client],
        "answered" => &[Client, Server],
        "stream" => &[Client, Server, Client, Server, Client],
        _ => bail!("new, answered and stream are the stages of {protocol}"),
    };
    let is_v6 = ends.source.address.is_ipv6();
    let each = directions.iter().map(|&from| Ok((from, plain(protocol, from, is_v6)?)));
    each.collect()
}

fn plain(protocol: &str, from: Sender, is_v6: bool) -> anyhow::Result<Transport> {
    let payload = if from == Client { 20 } else { 60 };
    let datagram = Datagram { payload, as_udp: true, ..Datagram::default() };
    Ok(match protocol {
        "udp" => Transport::Udp(datagram),
        "udplite" => Transport::Udplite(datagram),
        "icmp" => {
            let kind = match (is_v6, from) {
                (false, Client) => 8,
                (false, Server) => 0,
                (true, Client) => 128,
                (true, Server) => 129,
            };
            Transport::Icmp(Message { kind, code: 0, payload: 56 })
        }
        "gre" => Transport::Gre(Gre { flags: 0, protocol: 0x0800, call: 0, payload: 40 }),
        number => Transport::Other {
            protocol: number.parse().context("no protocol")?,
            payload: vec![0; usize::from(payload)],
        },
    })
}

/// TCP's stages, and who sends what to get there; bytes of text count.
fn tcp(until: &str) -> anyhow::Result<Packets> {
    const SAID: u8 = flag::ACK | flag::PSH;
    let ftp: &[(&str, Sender, u8, &str)] = match until {
        "ftp-passive" => &[
            ("", Server, SAID, "220 ready\r\n"),
            ("", Client, SAID, "PASV\r\n"),
            ("ftp-passive", Server, SAID, "227 Entering Passive Mode (10,77,2,2,20,5)\r\n"),
        ],
        "ftp-extended" => &[
            ("", Server, SAID, "220 ready\r\n"),
            ("", Client, SAID, "EPSV\r\n"),
            ("ftp-extended", Server, SAID, "229 Entering Extended Passive Mode (|||5125|)\r\n"),
        ],
        "ftp-active" => &[
            ("", Client, SAID, "USER anonymous\r\n"),
            ("", Server, SAID, "230 come in\r\n"),
            ("ftp-active", Client, SAID, "PORT 10,77,1,2,20,6\r\n"),
        ],
        "reset" => &[("reset", Client, flag::RST | flag::ACK, "")],
        _ => &[],
    };
    let opening = [
        ("syn", Client, flag::SYN, ""),
        ("syn-ack", Server, flag::SYN | flag::ACK, ""),
        ("established", Client, flag::ACK, ""),
    ];
    let closing = [
        ("data", Client, SAID, "a request of some bytes\n"),
        ("answered", Server, SAID, "an answer of some more bytes, as answers are\n"),
        ("fin-wait", Client, flag::FIN | flag::ACK, ""),
        ("close-wait", Server, flag::ACK, ""),
        ("last-ack", Server, flag::FIN | flag::ACK, ""),
        ("time-wait", Client, flag::ACK, ""),
    ];
    let (mut made, mut said) = (Vec::new(), [1000_u32, 5000]);
    let closing = if ftp.is_empty() { &closing[..] } else { ftp };
    for &(stage, from, flags, text) in opening.iter().chain(closing) {
        let (own, other) = if from == Client { (0, 1) } else { (1, 0) };
        let acknowledgement = if flags & flag::ACK == 0 { 0 } else { said[other] };
        let text = text.to_owned();
        let payload = text.len() as u16;
        let sequence = said[own];
        said[own] += u32::from(payload) + u32::from(flags & (flag::SYN | flag::FIN) != 0);
        let window = 65_535;
        let segment = Segment {
            flags,
            sequence,
            acknowledgement,
            window,
            payload,
            text,
            ..Segment::default()
        };
        made.push((from, Transport::Tcp(segment)));
        if stage == until {
            return Ok(made);
        }
    }
    bail!("TCP has no stage {until}")
}

fn sctp(until: &str) -> anyhow::Result<Packets> {
    const TAGS: [u32; 2] = [0x1122_3344, 0x5566_7788];
    // Tag, credit, streams out and in, first TSN (RFC 9260, 3.3.2).
    let init =
        |tag: u32| [&tag.to_be_bytes()[..], &[0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]].concat();
    let cookie = vec![7; 16];
    let data = [&[0; 12][..], b"some"].concat();
    let stages: [(&str, Sender, u8, Vec<u8>); 8] = [
        ("init", Client, 1, init(TAGS[0])),
        ("init-ack", Server, 2, init(TAGS[1])),
        ("cookie-echo", Client, 10, cookie),
        ("established", Server, 11, Vec::new()),
        ("data", Client, 0, data),
        ("shutdown", Client, 7, vec![0; 4]),
        ("shutdown-ack", Server, 8, Vec::new()),
        ("closed", Client, 14, Vec::new()),
    ];
    let mut made = Vec::new();
    for (stage, from, kind, body) in stages {
        let flags = if kind == 0 { 3 } else { 0 };
        let tag = match (kind, from) {
            (1, _) => 0,
            (_, Client) => TAGS[1],
            (_, Server) => TAGS[0],
        };
        let chunks = vec![Chunk { kind, flags, body, length: None }];
        made.push((from, Transport::Sctp(SctpPacket { tag, chunks })));
        if stage == until {
            return Ok(made);
        }
    }
    bail!("SCTP has no stage {until}")
}
