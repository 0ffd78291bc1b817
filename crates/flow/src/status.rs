//! The status bits of an entry.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

use serde::{Deserialize, Serialize};

/// The `IPS_*` bits of `include/uapi/linux/netfilter/nf_conntrack_common.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Status(pub u32);

impl Status {
    /// A child of an expectation.
    pub const EXPECTED: Self = Self(1);
    /// An answer has been seen.
    pub const SEEN_REPLY: Self = Self(1 << 1);
    /// Never evicted by early drop.
    pub const ASSURED: Self = Self(1 << 2);
    /// Its first packet left the host or reached a socket: it stands in the table.
    pub const CONFIRMED: Self = Self(1 << 3);
    /// Its source is translated.
    pub const SRC_NAT: Self = Self(1 << 4);
    /// Its destination is translated.
    pub const DST_NAT: Self = Self(1 << 5);
    /// TCP sequence numbers are adjusted.
    pub const SEQ_ADJUST: Self = Self(1 << 6);
    /// Source translation has been set up, be it to itself.
    pub const SRC_NAT_DONE: Self = Self(1 << 7);
    /// Destination translation has been set up, be it to itself.
    pub const DST_NAT_DONE: Self = Self(1 << 8);
    /// On its way out of the table.
    pub const DYING: Self = Self(1 << 9);
    /// Its timeout is never refreshed.
    pub const FIXED_TIMEOUT: Self = Self(1 << 10);
    /// Made from a template.
    pub const TEMPLATE: Self = Self(1 << 11);
    /// Lost a clash of tuples and rides along (called UNTRACKED before Linux 5.8).
    pub const NAT_CLASH: Self = Self(1 << 12);
    /// A helper is attached by rule.
    pub const HELPER: Self = Self(1 << 13);
    /// Handled by a flow table.
    pub const OFFLOAD: Self = Self(1 << 14);
    /// Handled by the network card.
    pub const HW_OFFLOAD: Self = Self(1 << 15);

    /// Every bit with its name, lowest first.
    pub const NAMES: [(Self, &'static str); 16] = [
        (Self::EXPECTED, "EXPECTED"),
        (Self::SEEN_REPLY, "SEEN_REPLY"),
        (Self::ASSURED, "ASSURED"),
        (Self::CONFIRMED, "CONFIRMED"),
        (Self::SRC_NAT, "SRC_NAT"),
        (Self::DST_NAT, "DST_NAT"),
        (Self::SEQ_ADJUST, "SEQ_ADJUST"),
        (Self::SRC_NAT_DONE, "SRC_NAT_DONE"),
        (Self::DST_NAT_DONE, "DST_NAT_DONE"),
        (Self::DYING, "DYING"),
        (Self::FIXED_TIMEOUT, "FIXED_TIMEOUT"),
        (Self::TEMPLATE, "TEMPLATE"),
        (Self::NAT_CLASH, "NAT_CLASH"),
        (Self::HELPER, "HELPER"),
        (Self::OFFLOAD, "OFFLOAD"),
        (Self::HW_OFFLOAD, "HW_OFFLOAD"),
    ];

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bit of a name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(bit, _)| *bit)
    }

    /// The names of the bits that are set, lowest first; unknown bits have none.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(bit, _)| self.contains(*bit)).map(|(_, name)| name)
    }
}

impl BitOr for Status {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Status {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Status {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Status {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// `SEEN_REPLY,ASSURED`, or `-` when no named bit is set.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for name in self.names() {
            if !first {
                f.write_str(",")?;
            }
            f.write_str(name)?;
            first = false;
        }
        if first { f.write_str("-") } else { Ok(()) }
    }
}
