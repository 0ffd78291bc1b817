//! Events: what happened to connections, as the kernel tells its listeners.

use ctkeeper_flow::Flow;

/// What a packet or a collector changed in a connection (`enum ip_conntrack_events`,
/// `include/uapi/linux/netfilter/nf_conntrack_common.h`): a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes(pub u16);

impl Changes {
    /// Entered the table.
    pub const NEW: Self = Self(1);
    /// Entered the table as an expected connection.
    pub const RELATED: Self = Self(1 << 1);
    /// Left the table.
    pub const DESTROY: Self = Self(1 << 2);
    /// Seen from the other side for the first time.
    pub const REPLY: Self = Self(1 << 3);
    /// Became assured.
    pub const ASSURED: Self = Self(1 << 4);
    /// The protocol's state changed.
    pub const PROTOCOL: Self = Self(1 << 5);
    /// Got a helper.
    pub const HELPER: Self = Self(1 << 6);
    /// Got another mark.
    pub const MARK: Self = Self(1 << 7);
    /// Its sequence numbers are shifted from now on.
    pub const SEQUENCE_ADJUSTMENT: Self = Self(1 << 8);
    /// Got another security mark.
    pub const SECURITY_MARK: Self = Self(1 << 9);
    /// Got other labels.
    pub const LABELS: Self = Self(1 << 10);

    /// Whether all of these happened.
    pub const fn contains(self, changes: Self) -> bool {
        self.0 & changes.0 == changes.0
    }

    /// Adds to the set.
    pub const fn add(&mut self, changes: Self) {
        self.0 |= changes.0;
    }

    /// Whether nothing happened.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// One event: what happened, and the connection as it stood then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Namespace of the connection.
    pub namespace: u16,
    /// What happened.
    pub changes: Changes,
    /// The connection.
    pub flow: Flow,
}
