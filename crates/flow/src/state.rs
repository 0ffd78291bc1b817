//! The states of the protocol trackers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A state enum whose variants stand in the kernel's order, with the names that tools print.
macro_rules! states {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every state in the kernel's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The kernel's number.
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The state of the kernel's number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// The name that tools print, upper case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The state of a name, in any case.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|s| s.name().eq_ignore_ascii_case(name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

states! {
    /// `enum tcp_conntrack`, `include/uapi/linux/netfilter/nf_conntrack_tcp.h`.
    TcpState {
        /// No packet seen.
        None = 0 "NONE",
        /// SYN seen.
        SynSent = 1 "SYN_SENT",
        /// SYN and SYN/ACK seen.
        SynRecv = 2 "SYN_RECV",
        /// Handshake complete, or picked up in the middle.
        Established = 3 "ESTABLISHED",
        /// FIN seen.
        FinWait = 4 "FIN_WAIT",
        /// FIN answered by ACK.
        CloseWait = 5 "CLOSE_WAIT",
        /// FIN from both sides.
        LastAck = 6 "LAST_ACK",
        /// Last ACK seen.
        TimeWait = 7 "TIME_WAIT",
        /// Reset.
        Close = 8 "CLOSE",
        /// SYN from both sides (called LISTEN by older kernels).
        SynSent2 = 9 "SYN_SENT2",
    }
}

impl TcpState {
    /// Whether the connection is on its way out: the collector may take such entries near the
    /// limit even when assured (`tcp_can_early_drop`, `nf_conntrack_proto_tcp.c`, Linux 6.12).
    pub const fn is_closing(self) -> bool {
        matches!(
            self,
            Self::FinWait | Self::CloseWait | Self::LastAck | Self::TimeWait | Self::Close
        )
    }
}

states! {
    /// `enum sctp_conntrack`, `include/uapi/linux/netfilter/nf_conntrack_sctp.h`.
    SctpState {
        /// No chunk seen.
        None = 0 "NONE",
        /// Closed.
        Closed = 1 "CLOSED",
        /// INIT seen.
        CookieWait = 2 "COOKIE_WAIT",
        /// COOKIE ECHO seen.
        CookieEchoed = 3 "COOKIE_ECHOED",
        /// COOKIE ACK seen.
        Established = 4 "ESTABLISHED",
        /// SHUTDOWN from the originator.
        ShutdownSent = 5 "SHUTDOWN_SENT",
        /// SHUTDOWN from the other side.
        ShutdownRecd = 6 "SHUTDOWN_RECD",
        /// SHUTDOWN ACK seen.
        ShutdownAckSent = 7 "SHUTDOWN_ACK_SENT",
        /// HEARTBEAT of a path not yet set up.
        HeartbeatSent = 8 "HEARTBEAT_SENT",
        /// HEARTBEAT answered (kernels before 6.0 only).
        HeartbeatAcked = 9 "HEARTBEAT_ACKED",
    }
}

impl SctpState {
    /// Whether the association is being shut down (`sctp_can_early_drop`).
    pub const fn is_closing(self) -> bool {
        matches!(self, Self::ShutdownSent | Self::ShutdownRecd | Self::ShutdownAckSent)
    }
}

states! {
    /// `enum ct_dccp_states`, `include/uapi/linux/netfilter/nf_conntrack_dccp.h`; kernels since
    /// 6.16 do not track DCCP.
    DccpState {
        /// No packet seen.
        None = 0 "NONE",
        /// REQUEST seen.
        Request = 1 "REQUEST",
        /// RESPONSE seen.
        Respond = 2 "RESPOND",
        /// Handshake's ACK seen.
        PartOpen = 3 "PARTOPEN",
        /// Data flows.
        Open = 4 "OPEN",
        /// CLOSEREQ seen.
        CloseReq = 5 "CLOSEREQ",
        /// CLOSE seen.
        Closing = 6 "CLOSING",
        /// Closed.
        TimeWait = 7 "TIMEWAIT",
        /// A packet that changes nothing.
        Ignore = 8 "IGNORE",
        /// Not a valid packet.
        Invalid = 9 "INVALID",
    }
}

/// Which side a DCCP endpoint plays in the original direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DccpRole {
    /// The originator is the client.
    Client,
    /// The originator is the server.
    Server,
}

/// Flags of one TCP direction with the mask of those that are meant
/// (`struct nf_ct_tcp_flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpFlags {
    /// `IP_CT_TCP_FLAG_*`.
    pub flags: u8,
    /// Which bits of `flags` are meant when written to the kernel.
    pub mask: u8,
}

/// What the TCP tracker tells of an entry. Pairs are original, reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpTracking {
    /// The state.
    pub state: TcpState,
    /// Window scale; absent in destroy events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_scale: Option<(u8, u8)>,
    /// Tracker's flags; absent in destroy events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<(TcpFlags, TcpFlags)>,
}

/// What the SCTP tracker tells of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SctpTracking {
    /// The state.
    pub state: SctpState,
    /// Verification tags, original and reply; absent in destroy events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_tags: Option<(u32, u32)>,
}

/// The protocol's own part of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtocolState {
    /// A protocol without states.
    #[default]
    None,
    /// TCP.
    Tcp(TcpTracking),
    /// SCTP.
    Sctp(SctpTracking),
    /// DCCP.
    Dccp {
        /// The state.
        state: DccpState,
        /// Role of the originator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<DccpRole>,
        /// Initial sequence number of the handshake.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handshake_sequence: Option<u64>,
    },
}

impl ProtocolState {
    /// A TCP state and nothing else.
    pub const fn tcp(state: TcpState) -> Self {
        Self::Tcp(TcpTracking { state, window_scale: None, flags: None })
    }

    /// The state's name, if the protocol has states.
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Tcp(tcp) => Some(tcp.state.name()),
            Self::Sctp(sctp) => Some(sctp.state.name()),
            Self::Dccp { state, .. } => Some(state.name()),
        }
    }

    /// Whether the connection is on its way out.
    pub const fn is_closing(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.state.is_closing(),
            Self::Sctp(sctp) => sctp.state.is_closing(),
            Self::Dccp { state, .. } => {
                matches!(state, DccpState::CloseReq | DccpState::Closing | DccpState::TimeWait)
            }
            Self::None => false,
        }
    }
}
