//! Expectations: connections that a helper has announced.

use serde::{Deserialize, Serialize};

use crate::{Tuple, Zone};

/// A connection that is expected because of another: the data connection of an FTP session, the
/// audio of a call. The first packet that meets it makes an entry that belongs to the master's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Expectation {
    /// What is expected, in the direction of its first packet.
    pub expected: Tuple,
    /// Which bits of the source of `expected` count: of the address, and of the port. (The
    /// destination always counts whole.)
    pub mask: Tuple,
    /// The original tuple of the connection that announced it.
    pub master: Tuple,
    /// Zone of all three.
    #[serde(default)]
    pub zone: Zone,
    /// Seconds until it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// The kernel's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The helper of the connection to come, if another than the master's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<Box<str>>,
    /// `NF_CT_EXPECT_*`, `include/uapi/linux/netfilter/nf_conntrack_common.h`.
    #[serde(default)]
    pub flags: ExpectationFlags,
    /// Which of the helper's kinds of expectation it is.
    #[serde(default)]
    pub class: u32,
}

/// How an expectation behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExpectationFlags(pub u32);

impl ExpectationFlags {
    /// Stays when a connection has met it.
    pub const PERMANENT: Self = Self(1);
    /// Made, and not met by packets yet.
    pub const INACTIVE: Self = Self(2);
    /// Made by a helper in user space.
    pub const USERSPACE: Self = Self(4);

    /// Whether all of these are set.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}
