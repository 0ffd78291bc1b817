//! Numbers of ctnetlink: message types, attributes, groups.
//!
//! Source: `include/uapi/linux/netfilter/nfnetlink_conntrack.h` and `nfnetlink.h` (Linux 6.12),
//! `CTA_TIMESTAMP_EVENT` from Linux 6.14.

/// `NFNL_SUBSYS_CTNETLINK` in the upper byte of a message's type.
pub(crate) const CONNTRACK: u16 = 1 << 8;

/// `NFNL_SUBSYS_CTNETLINK_EXP`, likewise.
pub(crate) const EXPECTATIONS: u16 = 2 << 8;

/// `NFNL_SUBSYS_CTNETLINK_TIMEOUT`, likewise.
pub(crate) const TIMEOUTS: u16 = 8 << 8;

/// `NFNL_SUBSYS_CTHELPER`, likewise.
pub(crate) const HELPERS: u16 = 9 << 8;

/// `enum ctnl_timeout_msg_types`.
pub(crate) mod timeout_operation {
    pub(crate) const NEW: u16 = 0;
    pub(crate) const GET: u16 = 1;
    pub(crate) const DELETE: u16 = 2;
    pub(crate) const DEFAULT_SET: u16 = 3;
    pub(crate) const DEFAULT_GET: u16 = 4;
}

/// `enum ctattr_timeout`.
pub(crate) mod timeout {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FAMILY: u16 = 2;
    pub(crate) const PROTOCOL: u16 = 3;
    pub(crate) const DATA: u16 = 4;
    pub(crate) const USES: u16 = 5;
}

/// `enum nfnl_cthelper_msg_types`.
pub(crate) mod helper_operation {
    pub(crate) const GET: u16 = 1;
}

/// `enum nfnl_cthelper_type`.
pub(crate) mod helper {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const TUPLE: u16 = 2;
    pub(crate) const QUEUE: u16 = 3;
    pub(crate) const STATUS: u16 = 6;
}

/// `enum nfnl_cthelper_tuple_type`.
pub(crate) mod helper_tuple {
    pub(crate) const FAMILY: u16 = 1;
    pub(crate) const PROTOCOL: u16 = 2;
}

/// `enum ctnl_exp_msg_types`.
pub(crate) mod expectation_operation {
    pub(crate) const NEW: u16 = 0;
    pub(crate) const GET: u16 = 1;
    pub(crate) const DELETE: u16 = 2;
    pub(crate) const GET_STATS_CPU: u16 = 3;
}

/// `enum ctattr_expect`.
pub(crate) mod expectation {
    pub(crate) const MASTER: u16 = 1;
    pub(crate) const TUPLE: u16 = 2;
    pub(crate) const MASK: u16 = 3;
    pub(crate) const TIMEOUT: u16 = 4;
    pub(crate) const ID: u16 = 5;
    pub(crate) const HELPER: u16 = 6;
    pub(crate) const ZONE: u16 = 7;
    pub(crate) const FLAGS: u16 = 8;
    pub(crate) const CLASS: u16 = 9;
}

/// `enum ctattr_expect_stats`.
pub(crate) mod expectation_statistics {
    pub(crate) const NEW: u16 = 1;
    pub(crate) const CREATE: u16 = 2;
    pub(crate) const DELETE: u16 = 3;
}

/// `enum cntl_msg_types`.
pub(crate) mod operation {
    pub(crate) const NEW: u16 = 0;
    pub(crate) const GET: u16 = 1;
    pub(crate) const DELETE: u16 = 2;
    pub(crate) const GET_AND_ZERO: u16 = 3;
    pub(crate) const GET_STATS_CPU: u16 = 4;
    pub(crate) const GET_STATS: u16 = 5;
    pub(crate) const GET_DYING: u16 = 6;
    pub(crate) const GET_UNCONFIRMED: u16 = 7;
}

/// `enum ctattr_type`.
pub(crate) mod entry {
    pub(crate) const TUPLE_ORIGINAL: u16 = 1;
    pub(crate) const TUPLE_REPLY: u16 = 2;
    pub(crate) const STATUS: u16 = 3;
    pub(crate) const PROTOINFO: u16 = 4;
    pub(crate) const HELP: u16 = 5;
    pub(crate) const NAT_SOURCE: u16 = 6;
    pub(crate) const TIMEOUT: u16 = 7;
    pub(crate) const MARK: u16 = 8;
    pub(crate) const COUNTERS_ORIGINAL: u16 = 9;
    pub(crate) const COUNTERS_REPLY: u16 = 10;
    pub(crate) const USE: u16 = 11;
    pub(crate) const ID: u16 = 12;
    pub(crate) const NAT_DESTINATION: u16 = 13;
    pub(crate) const TUPLE_MASTER: u16 = 14;
    pub(crate) const SEQUENCE_ORIGINAL: u16 = 15;
    pub(crate) const SEQUENCE_REPLY: u16 = 16;
    pub(crate) const ZONE: u16 = 18;
    pub(crate) const SECURITY_CONTEXT: u16 = 19;
    pub(crate) const TIMESTAMP: u16 = 20;
    pub(crate) const MARK_MASK: u16 = 21;
    pub(crate) const LABELS: u16 = 22;
    pub(crate) const LABELS_MASK: u16 = 23;
    pub(crate) const SYNPROXY: u16 = 24;
    pub(crate) const FILTER: u16 = 25;
    pub(crate) const STATUS_MASK: u16 = 26;
    pub(crate) const TIMESTAMP_EVENT: u16 = 27;
}

/// `enum ctattr_tuple`.
pub(crate) mod tuple {
    pub(crate) const IP: u16 = 1;
    pub(crate) const PROTO: u16 = 2;
    pub(crate) const ZONE: u16 = 3;
}

/// `enum ctattr_ip`.
pub(crate) mod ip {
    pub(crate) const V4_SOURCE: u16 = 1;
    pub(crate) const V4_DESTINATION: u16 = 2;
    pub(crate) const V6_SOURCE: u16 = 3;
    pub(crate) const V6_DESTINATION: u16 = 4;
}

/// `enum ctattr_l4proto`.
pub(crate) mod proto {
    pub(crate) const NUMBER: u16 = 1;
    pub(crate) const SOURCE_PORT: u16 = 2;
    pub(crate) const DESTINATION_PORT: u16 = 3;
    pub(crate) const ICMP_ID: u16 = 4;
    pub(crate) const ICMP_TYPE: u16 = 5;
    pub(crate) const ICMP_CODE: u16 = 6;
    pub(crate) const ICMPV6_ID: u16 = 7;
    pub(crate) const ICMPV6_TYPE: u16 = 8;
    pub(crate) const ICMPV6_CODE: u16 = 9;
}

/// `enum ctattr_protoinfo` and the three enums below it.
pub(crate) mod protoinfo {
    pub(crate) const TCP: u16 = 1;
    pub(crate) const DCCP: u16 = 2;
    pub(crate) const SCTP: u16 = 3;

    /// Of TCP, SCTP and DCCP alike.
    pub(crate) const STATE: u16 = 1;
    pub(crate) const TCP_SCALE_ORIGINAL: u16 = 2;
    pub(crate) const TCP_SCALE_REPLY: u16 = 3;
    pub(crate) const TCP_FLAGS_ORIGINAL: u16 = 4;
    pub(crate) const TCP_FLAGS_REPLY: u16 = 5;
    pub(crate) const SCTP_TAG_ORIGINAL: u16 = 2;
    pub(crate) const SCTP_TAG_REPLY: u16 = 3;
    pub(crate) const DCCP_ROLE: u16 = 2;
    pub(crate) const DCCP_HANDSHAKE: u16 = 3;
}

/// `enum ctattr_counters`.
pub(crate) mod counters {
    pub(crate) const PACKETS: u16 = 1;
    pub(crate) const BYTES: u16 = 2;
    pub(crate) const PACKETS_32: u16 = 3;
    pub(crate) const BYTES_32: u16 = 4;
}

/// `enum ctattr_tstamp`.
pub(crate) mod timestamp {
    pub(crate) const START: u16 = 1;
    pub(crate) const STOP: u16 = 2;
}

/// `enum ctattr_help`.
pub(crate) mod help {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const INFO: u16 = 2;
}

/// `enum ctattr_secctx`.
pub(crate) mod security {
    pub(crate) const NAME: u16 = 1;
}

/// `enum ctattr_seqadj`.
pub(crate) mod sequence {
    pub(crate) const CORRECTION: u16 = 1;
    pub(crate) const BEFORE: u16 = 2;
    pub(crate) const AFTER: u16 = 3;
}

/// `enum ctattr_synproxy`.
pub(crate) mod synproxy {
    pub(crate) const INITIAL_SEQUENCE: u16 = 1;
    pub(crate) const INITIAL_TIMESTAMP: u16 = 2;
    pub(crate) const TIMESTAMP_OFFSET: u16 = 3;
}

/// `enum ctattr_nat` and `enum ctattr_protonat`.
pub(crate) mod nat {
    pub(crate) const V4_MINIMUM: u16 = 1;
    pub(crate) const V4_MAXIMUM: u16 = 2;
    pub(crate) const PROTO: u16 = 3;
    pub(crate) const V6_MINIMUM: u16 = 4;
    pub(crate) const V6_MAXIMUM: u16 = 5;
    pub(crate) const PORT_MINIMUM: u16 = 1;
    pub(crate) const PORT_MAXIMUM: u16 = 2;
}

/// `enum ctattr_filter`, and which part of a tuple a filter compares (`CTA_FILTER_F_*`,
/// `net/netfilter/nf_internals.h`). These flags travel in the host's byte order.
pub(crate) mod filter {
    pub(crate) const ORIGINAL_FLAGS: u16 = 1;
    pub(crate) const REPLY_FLAGS: u16 = 2;

    pub(crate) const SOURCE: u32 = 1;
    pub(crate) const DESTINATION: u32 = 1 << 1;
    pub(crate) const PROTOCOL: u32 = 1 << 3;
    pub(crate) const SOURCE_PORT: u32 = 1 << 4;
    pub(crate) const DESTINATION_PORT: u32 = 1 << 5;
}

/// `enum ctattr_stats_global`.
pub(crate) mod global {
    pub(crate) const ENTRIES: u16 = 1;
    pub(crate) const LIMIT: u16 = 2;
}

/// `enum nfnetlink_groups`, as bits for a bind.
pub(crate) mod group {
    pub(crate) const NEW: u32 = 1;
    pub(crate) const UPDATE: u32 = 1 << 1;
    pub(crate) const DESTROY: u32 = 1 << 2;
    /// From a group of entries to the same one of expectations.
    pub(crate) const EXPECTATIONS_SHIFT: u32 = 3;
}
