//! What the engine says of a packet.

use ctkeeper_flow::Direction;
use serde::{Deserialize, Serialize};

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is dropped, by the tracker or by a rule.
    Drop,
}

/// How the packet stands to the table: `ct state` of nftables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// First packets of a connection, until the other side answers.
    New,
    /// Of a connection that both sides have spoken on.
    Established,
    /// Of an expected connection, or an ICMP error about a known one.
    Related,
    /// Belongs to no connection and cannot start one.
    Invalid,
    /// Kept away from tracking.
    Untracked,
}

/// Why a packet is invalid or was dropped.
///
/// Each stands for one place in the kernel's sources (Linux 6.12, `net/netfilter/nf_conntrack_*`)
/// where a packet is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[repr(u8)]
pub enum Reason {
    /// The network header is cut short or contradicts itself: the IP stack drops the packet before
    /// any hook sees it (`ip_rcv_core`, `ip6_rcv_core`).
    NetworkHeader,
    /// IPv6: the chain of extension headers is cut short, or ends without a protocol.
    ExtensionHeader,
    /// A fragment that is not the first.
    Fragment,
    /// The layer 4 header is cut short before its ports or ids.
    Layer4Short,
    /// An ICMP message without an answer where a connection would begin, or a tuple that cannot
    /// be turned round.
    NotInvertible,
    /// TCP: header cut short or data offset out of range.
    TcpHeader,
    /// TCP: checksum wrong.
    TcpChecksum,
    /// TCP: a combination of flags that no stack sends.
    TcpFlags,
    /// TCP: a packet that cannot begin a connection.
    TcpNew,
    /// TCP: picking up in the middle is off.
    TcpNotLoose,
    /// TCP: the state has no place for this packet.
    TcpState,
    /// TCP: a reset older than what the other side has acknowledged.
    TcpResetOld,
    /// TCP: sequence beyond the window's upper edge.
    TcpSequenceAbove,
    /// TCP: acknowledges data never sent.
    TcpAckAbove,
    /// UDP: header cut short.
    UdpHeader,
    /// UDP: length field out of range.
    UdpLength,
    /// UDP: checksum wrong.
    UdpChecksum,
    /// UDP-Lite: header cut short.
    UdpliteHeader,
    /// UDP-Lite: coverage out of range.
    UdpliteCoverage,
    /// UDP-Lite: checksum missing.
    UdpliteChecksumMissing,
    /// UDP-Lite: checksum wrong.
    UdpliteChecksum,
    /// ICMP: header cut short.
    IcmpHeader,
    /// ICMP: checksum wrong.
    IcmpChecksum,
    /// ICMP: type unknown.
    IcmpType,
    /// ICMP: a type that cannot begin a connection.
    IcmpNew,
    /// ICMP error: the packet inside is cut short, a fragment, or cannot be turned round.
    IcmpInner,
    /// ICMP error about a connection that is not in the table.
    IcmpInnerUnknown,
    /// ICMP error sent to somebody else than the sender of the packet inside.
    IcmpOuterDestination,
    /// ICMPv6: header cut short.
    Icmpv6Header,
    /// ICMPv6: checksum wrong.
    Icmpv6Checksum,
    /// ICMPv6: a type that cannot begin a connection.
    Icmpv6New,
    /// ICMPv6 redirect that a host must not send.
    Icmpv6Redirect,
    /// SCTP: header cut short.
    SctpHeader,
    /// SCTP: CRC32c wrong.
    SctpChecksum,
    /// SCTP: no chunk, a chunk of length zero, or chunks in a forbidden company.
    SctpChunks,
    /// SCTP: cannot begin an association.
    SctpNew,
    /// SCTP: verification tag wrong.
    SctpVerificationTag,
    /// SCTP: the state has no place for this chunk.
    SctpState,
    /// GRE: version or protocol that has no tuple.
    Gre,
    /// Dropped: the namespace is at its limit and nothing could be evicted.
    TableFull,
    /// Dropped: no memory set aside for more entries.
    NoMemory,
    /// Dropped: the hash chain is too long.
    ChainTooLong,
    /// Dropped: another connection has the tuple.
    Clash,
    /// Dropped: the connection ended under the packet.
    Dying,
    /// Dropped: a header that translation must change is cut short, or an ICMP error's checksum
    /// is wrong.
    Untranslatable,
    /// Dropped by a helper.
    Helper,
    /// Dropped by a rule.
    Rule,
}

impl Reason {
    /// Every reason, in their order.
    pub const ALL: [Self; 47] = [
        Self::NetworkHeader,
        Self::ExtensionHeader,
        Self::Fragment,
        Self::Layer4Short,
        Self::NotInvertible,
        Self::TcpHeader,
        Self::TcpChecksum,
        Self::TcpFlags,
        Self::TcpNew,
        Self::TcpNotLoose,
        Self::TcpState,
        Self::TcpResetOld,
        Self::TcpSequenceAbove,
        Self::TcpAckAbove,
        Self::UdpHeader,
        Self::UdpLength,
        Self::UdpChecksum,
        Self::UdpliteHeader,
        Self::UdpliteCoverage,
        Self::UdpliteChecksumMissing,
        Self::UdpliteChecksum,
        Self::IcmpHeader,
        Self::IcmpChecksum,
        Self::IcmpType,
        Self::IcmpNew,
        Self::IcmpInner,
        Self::IcmpInnerUnknown,
        Self::IcmpOuterDestination,
        Self::Icmpv6Header,
        Self::Icmpv6Checksum,
        Self::Icmpv6New,
        Self::Icmpv6Redirect,
        Self::SctpHeader,
        Self::SctpChecksum,
        Self::SctpChunks,
        Self::SctpNew,
        Self::SctpVerificationTag,
        Self::SctpState,
        Self::Gre,
        Self::TableFull,
        Self::NoMemory,
        Self::ChainTooLong,
        Self::Clash,
        Self::Dying,
        Self::Untranslatable,
        Self::Helper,
        Self::Rule,
    ];
}

const _: () = {
    let mut place = 0;
    while place < Reason::ALL.len() {
        assert!(Reason::ALL[place] as usize == place, "every reason in its place");
        place += 1;
    }
};

/// What the engine says of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of it.
    pub verdict: Verdict,
    /// How it stands to the table.
    pub class: Class,
    /// Which direction of its connection it goes in.
    pub direction: Direction,
    /// Why it is invalid or dropped.
    pub reason: Option<Reason>,
    /// Its connection.
    pub connection: Option<Handle>,
}

/// Names a connection of one engine. A handle of a connection that has ended names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    pub(crate) line: u32,
    pub(crate) id: u32,
}

impl Outcome {
    /// Whether the packet goes on.
    pub const fn is_accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Accept)
    }

    /// A packet without connection that goes on.
    pub const fn loose(class: Class, reason: Option<Reason>) -> Self {
        let (verdict, direction) = (Verdict::Accept, Direction::Original);
        Self { verdict, class, direction, reason, connection: None }
    }

    /// A packet that is dropped.
    pub const fn dropped(class: Class, reason: Reason) -> Self {
        let (verdict, direction) = (Verdict::Drop, Direction::Original);
        Self { verdict, class, direction, reason: Some(reason), connection: None }
    }
}
