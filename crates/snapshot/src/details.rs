//! What stands beside a snapshot in a bundle: lines as they were found, for people to read.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What runs the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// `PRETTY_NAME` of os-release(5): `Debian GNU/Linux 12 (bookworm)`.
    pub distribution: Option<String>,
    /// `uname -v`: which build of the kernel this is, `#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1`.
    pub kernel_build: String,
    /// `uname -m`.
    pub architecture: String,
}

/// One line of a settings file that has to do with connection tracking, set or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsLine {
    /// The real file, as a path on the host.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// What kind of file that is.
    pub kind: SettingsFile,
    /// The line without blanks around it, shortened if it is very long.
    pub text: String,
    /// Whether a file of the same name in another folder hides this one from its reader.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
}

/// Kinds of files that say how connection tracking is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingsFile {
    /// sysctl.d(5), `/etc/sysctl.conf`, and ufw's file of the same form.
    Sysctl,
    /// modprobe.d(5).
    Modprobe,
    /// modules-load.d(5).
    ModulesLoad,
    /// Rules of udev(7).
    Udev,
    /// The kernel's command line; only the words that concern connection tracking.
    CommandLine,
}

/// Lines of the kernel log that have to do with connection tracking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogExcerpt {
    /// The youngest ones, oldest first.
    pub lines: Vec<LogLine>,
    /// Older ones that were left out.
    #[serde(default)]
    pub left_out: u64,
}

/// One line of the kernel log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, milliseconds since boot on the log's clock (which stops while the host sleeps).
    pub at_ms: u64,
    /// What it says: hostile, as a rule's own `log prefix` stands in it.
    pub text: String,
}
