//! What the kernel log says about the table.

use serde::{Deserialize, Serialize};

/// What was found in the kernel log. Lines are a hint: the kernel prints at most ten in five
/// seconds for the whole host, and drops are counted elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLog {
    /// Whether the log could be read.
    pub readable: bool,
    /// `table full` lines by the namespace they name, most lines first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full: Vec<FullReports>,
    /// `expectation table full` lines, likewise. Kernels up to 6.18 name no namespace in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations_full: Vec<FullReports>,
    /// Messages of all kinds that the kernel's rate limit held back (`N callbacks suppressed`).
    #[serde(default)]
    pub suppressed: u64,
}

/// `table full` or `expectation table full` lines of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullReports {
    /// The namespace's inode; absent in the older form of the message.
    pub namespace: Option<u64>,
    /// Lines seen.
    pub lines: u64,
    /// First line, milliseconds since boot on the log's clock (which stops while the host sleeps);
    /// absent when the log has no such times.
    pub first_ms: Option<u64>,
    /// Last line, on the same clock.
    pub last_ms: Option<u64>,
}
