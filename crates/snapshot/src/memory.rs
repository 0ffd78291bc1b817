//! Memory: what the host has, and what an entry takes.

use serde::{Deserialize, Serialize};

/// Memory of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// `MemTotal`, bytes.
    pub total: u64,
    /// `MemAvailable`, bytes.
    pub available: u64,
    /// Memory spoken for that `MemAvailable` does not know of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
    /// What one entry takes on this kernel.
    pub entry: EntrySize,
    /// Entries of all namespaces by the slab's count, if readable; lags a little behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slab_entries: Option<u64>,
}

impl Memory {
    /// Available memory less reservations, bytes.
    pub fn free_to_plan(&self) -> u64 {
        self.reservations.iter().fold(self.available, |left, r| left.saturating_sub(r.bytes))
    }
}

/// Memory that somebody has a claim on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Whose: `kubelet systemReserved`, `cgroup /system.slice memory.min`.
    pub owner: String,
    /// How much of it is counted, bytes: what is not yet in use. Limits of control groups together
    /// are counted up to half of [`Memory::available`].
    pub bytes: u64,
    /// File that says so.
    pub file: String,
}

/// Bytes of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntrySize {
    /// The `nf_conntrack` slab object, bytes.
    pub object: u64,
    /// The extension area beside it, bytes.
    pub extension: u64,
    /// Whether `object` was read from this kernel (else it is the usual size).
    pub measured: bool,
}

impl EntrySize {
    /// One bucket of the hash table, bytes (`struct hlist_nulls_head` on 64 bits).
    pub const BUCKET: u64 = 8;

    /// Bytes an entry takes.
    pub const fn bytes(&self) -> u64 {
        self.object.saturating_add(self.extension)
    }
}

/// The sizes of Linux 6.x on 64 bits: a 256-byte slab object and 128 bytes of extensions.
impl Default for EntrySize {
    fn default() -> Self {
        Self { object: 256, extension: 128, measured: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a made-up `--from` file may have it.
    #[test]
    fn absurd_amounts_do_no_harm() {
        let claim = || Reservation { owner: String::new(), bytes: u64::MAX, file: String::new() };
        let reservations = vec![claim(), claim()];
        assert_eq!(Memory { available: 5, reservations, ..Memory::default() }.free_to_plan(), 0);
        let entry = EntrySize { object: u64::MAX, extension: 1, measured: true };
        assert_eq!(entry.bytes(), u64::MAX);
    }
}
