//! Packet sequences: what two hosts, and whoever stands between them, send one after the other.

use ctkeeper_engine::Route;
use ctkeeper_flow::{Family, Protocol};
use serde::{Deserialize, Serialize};

/// What happens on a few addresses that nobody else uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// What it is about, for reports.
    pub name: String,
    /// Family of its hosts.
    pub family: Family,
    /// What the rules do with its hosts' packets.
    pub treatment: Treatment,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A packet is sent.
    Send(Packet),
    /// So many [`SLOT`](crate::SLOT)s pass.
    Pause(u8),
}

/// What the rules do with packets, by the network that their hosts are in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[repr(u8)]
pub enum Treatment {
    /// Nothing.
    #[default]
    Plain = 1,
    /// Kept away from tracking.
    Untracked = 2,
    /// In a zone of its own.
    Zone = 3,
    /// In a zone that counts for the original direction only.
    OriginalZone = 4,
    /// In a zone that counts for the reply direction only.
    ReplyZone = 5,
    /// New connections are dropped.
    DropNew = 6,
    /// What is invalid is dropped.
    DropInvalid = 7,
    /// New connections get a mark.
    Mark = 8,
    /// The client's address is replaced by one other.
    SourceNat = 9,
    /// The client's address and port are replaced.
    SourceNatPorts = 10,
    /// The virtual address is replaced by the server's.
    DestinationNat = 11,
    /// The virtual address and port are replaced by the server's.
    DestinationNatPort = 12,
    /// The client's address is replaced by the outgoing interface's.
    Masquerade = 13,
    /// Both ends are translated.
    BothNat = 14,
    /// The server is the router itself.
    Local = 15,
    /// The virtual address and port are replaced by the router's own.
    Redirect = 16,
    /// Connections to the port of FTP are given to its helper.
    Helped = 17,
    /// The client's address is replaced by one of several.
    SourceRange = 18,
    /// By one of several, whatever the server.
    SourceRangePersistent = 19,
    /// The client's address is replaced, and the port by one that is drawn.
    SourceRandom = 20,
    /// The virtual address is replaced by one of several servers'.
    DestinationRange = 21,
    /// The virtual address and port are replaced, the port by one of several.
    DestinationPorts = 22,
}

impl Treatment {
    /// Every one of them.
    pub const ALL: [Self; 22] = [
        Self::Plain,
        Self::Untracked,
        Self::Zone,
        Self::OriginalZone,
        Self::ReplyZone,
        Self::DropNew,
        Self::DropInvalid,
        Self::Mark,
        Self::SourceNat,
        Self::SourceNatPorts,
        Self::DestinationNat,
        Self::DestinationNatPort,
        Self::Masquerade,
        Self::BothNat,
        Self::Local,
        Self::Redirect,
        Self::Helped,
        Self::SourceRange,
        Self::SourceRangePersistent,
        Self::SourceRandom,
        Self::DestinationRange,
        Self::DestinationPorts,
    ];

    /// Whether addresses are translated.
    pub fn translates(self) -> bool {
        self >= Self::SourceNat && !matches!(self, Self::Local | Self::Helped)
    }

    /// Whether the servers are the router itself.
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Local | Self::Redirect)
    }

    /// Whether clients speak to a virtual address.
    pub const fn is_virtual(self) -> bool {
        matches!(
            self,
            Self::DestinationNat
                | Self::DestinationNatPort
                | Self::BothNat
                | Self::Redirect
                | Self::DestinationRange
                | Self::DestinationPorts
        )
    }

    /// The way of a packet from a side.
    pub const fn route(self, from: Side) -> Route {
        match (self.is_local(), from) {
            (false, _) => Route::Forward,
            (true, Side::Client) => Route::Input,
            (true, Side::Server) => Route::Output,
        }
    }
}

/// The side of the router on which a packet travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Where the clients are.
    Client,
    /// Where the servers are.
    Server,
}

impl Side {
    /// The other side of the router.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A host of a sequence.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Host {
    /// The client.
    #[default]
    Client,
    /// Another one.
    OtherClient,
    /// The server.
    Server,
    /// Another one.
    OtherServer,
    /// The address that destination translation replaces.
    Virtual,
    /// A router on the way, on either side.
    Router,
}

/// A conversation as the client sees it: its two ends before any translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Conversation {
    /// Who stands on the client's side.
    pub client: Host,
    /// Its port or ICMP id.
    pub client_port: u16,
    /// Who stands on the server's side.
    pub server: Host,
    /// Its port.
    pub server_port: u16,
}

impl Conversation {
    /// Between the client and the server.
    pub const fn ports(client_port: u16, server_port: u16) -> Self {
        Self { client: Host::Client, client_port, server: Host::Server, server_port }
    }
}

/// A packet, but for its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The conversation that it belongs to.
    pub conversation: Conversation,
    /// The side that it comes from.
    pub from: Side,
    /// What it carries.
    pub transport: Transport,
    /// How it is disfigured.
    #[serde(default, skip_serializing_if = "Defects::is_none")]
    pub defects: Defects,
}

/// What may be wrong with a packet, or unusual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Defects {
    /// The layer 4 checksum is wrong.
    pub checksum: bool,
    /// Only so many bytes of layer 4 are there.
    pub cut: Option<u16>,
    /// It is sent in this many fragments.
    pub fragments: u8,
    /// The last fragment comes first.
    pub reversed: bool,
    /// IPv6 extension headers or IPv4 options before layer 4.
    pub extensions: u8,
}

impl Defects {
    /// Whether nothing is.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Layer 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp(Segment),
    /// UDP.
    Udp(Datagram),
    /// UDP-Lite.
    Udplite(Datagram),
    /// An ICMP or ICMPv6 message with an id.
    Icmp(Message),
    /// An ICMP or ICMPv6 error about a packet.
    Error(IcmpError),
    /// SCTP.
    Sctp(SctpPacket),
    /// GRE.
    Gre(Gre),
    /// Anything else.
    Other {
        /// Its number.
        protocol: u8,
        /// What follows the network header.
        payload: Vec<u8>,
    },
}

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Segment {
    /// [`flag`] bits.
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Window, as the header has it.
    pub window: u16,
    /// Options as bytes; they are padded to a multiple of four.
    pub options: Vec<u8>,
    /// Bytes of payload.
    pub payload: u16,
    /// Data offset in words instead of the right one.
    pub data_offset: Option<u8>,
    /// What the payload says, filled up with line feeds. `{host}` stands for the sender's address
    /// as FTP writes it, `{address}` as everybody does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// TCP's flags.
pub mod flag {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// PSH.
    pub const PSH: u8 = 8;
    /// ACK.
    pub const ACK: u8 = 16;
    /// URG.
    pub const URG: u8 = 32;
    /// ECE.
    pub const ECE: u8 = 64;
    /// CWR.
    pub const CWR: u8 = 128;
}

/// A UDP or UDP-Lite datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Datagram {
    /// Bytes of payload.
    pub payload: u16,
    /// The length (UDP) or coverage (UDP-Lite) field, where it is not the whole.
    pub length: Option<u16>,
    /// The checksum field is zero.
    pub without_checksum: bool,
    /// UDP-Lite: the checksum is made as if it were UDP, which is what trackers ask for
    /// (`udplite_error`, `nf_conntrack_proto_udp.c`, Linux 6.12).
    pub as_udp: bool,
}

/// An ICMP message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Bytes of payload behind id and sequence.
    pub payload: u16,
}

/// An ICMP error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcmpError {
    /// Who sends it.
    pub source: Host,
    /// Who gets it, if not the sender of the packet inside.
    pub destination: Option<Host>,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The packet it is about, as it was seen on the side that the error comes from.
    pub about: Box<Packet>,
    /// How many bytes of that packet it carries.
    pub bytes: u16,
    /// The packet inside says of itself that it is a later fragment.
    pub inner_fragment: bool,
}

/// An SCTP packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SctpPacket {
    /// Verification tag.
    pub tag: u32,
    /// Its chunks.
    pub chunks: Vec<Chunk>,
}

/// An SCTP chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// What follows the four bytes of its header.
    pub body: Vec<u8>,
    /// The length field instead of the right one.
    pub length: Option<u16>,
}

/// A GRE packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gre {
    /// Flags and version, the first two bytes.
    pub flags: u16,
    /// EtherType of what is inside.
    pub protocol: u16,
    /// Call id of version 1.
    pub call: u16,
    /// Bytes behind.
    pub payload: u16,
}

impl Transport {
    /// The protocol's number.
    pub const fn protocol(&self, family: Family) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::TCP,
            Self::Udp(_) => Protocol::UDP,
            Self::Udplite(_) => Protocol::UDPLITE,
            Self::Icmp(_) | Self::Error(_) => match family {
                Family::Ipv4 => Protocol::ICMP,
                Family::Ipv6 => Protocol::ICMPV6,
            },
            Self::Sctp(_) => Protocol::SCTP,
            Self::Gre(_) => Protocol::GRE,
            Self::Other { protocol, .. } => Protocol(*protocol),
        }
    }
}

impl Packet {
    /// One without defects.
    pub fn new(conversation: Conversation, from: Side, transport: Transport) -> Self {
        Self { conversation, from, transport, defects: Defects::default() }
    }
}

impl Sequence {
    /// How many packets it sends.
    pub fn packets(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Send(_))).count()
    }

    /// Whether time matters to it.
    pub fn pauses(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Pause(_)))
    }
}
