//! Files that size connection tracking, and what they give after a reboot.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the kernel has connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// Compiled in.
    BuiltIn,
    /// A module, loaded.
    Loaded,
    /// A module that is not loaded, or not there at all: nothing is tracked.
    Absent,
    /// Could not be told (`/proc` and `/sys` masked).
    Unknown,
}

impl ModuleState {
    /// Whether the kernel tracks now.
    pub const fn is_present(self) -> bool {
        matches!(self, Self::BuiltIn | Self::Loaded)
    }
}

/// The settings that this crate follows through files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingKey {
    /// `net.netfilter.nf_conntrack_max` (and its alias `net.nf_conntrack_max`).
    Limit,
    /// `net.netfilter.nf_conntrack_buckets`, and the module parameter `hashsize`.
    Buckets,
}

impl SettingKey {
    /// Its sysctl name.
    pub const fn sysctl(self) -> &'static str {
        match self {
            Self::Limit => "net.netfilter.nf_conntrack_max",
            Self::Buckets => "net.netfilter.nf_conntrack_buckets",
        }
    }
}

impl fmt::Display for SettingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.sysctl())
    }
}

/// Who reads sysctl files at boot. They differ in which files, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// `systemd-sysctl`: sysctl.d folders by file name; `/etc/sysctl.conf` only through a link.
    Systemd,
    /// `sysctl --system` of procps: the same folders, then `/etc/sysctl.conf` last.
    Procps,
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Systemd => "systemd-sysctl",
            Self::Procps => "sysctl --system",
        })
    }
}

/// One line of a file that gives a followed setting a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which setting.
    pub key: SettingKey,
    /// The value as written; kept even when it is no number.
    pub text: String,
    /// The value, if it is a number that the kernel takes.
    pub value: Option<u64>,
    /// The file, as a path on the host (without any `--root` prefix). The real file, not a link.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// Whether it is a module option (modprobe.d) rather than a sysctl line.
    pub module_option: bool,
    /// Which readers come to this line at boot (empty for module options).
    pub readers: Vec<Reader>,
}

/// What makes the module be there before `systemd-sysctl` runs (or sysctls be set again after).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum EarlyLoad {
    /// It is compiled in.
    BuiltIn,
    /// A line of modules-load.d names it, or a module that needs it.
    ModulesLoad {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u32,
        /// The module named there.
        module: String,
    },
    /// A udev rule sets the sysctls when the module is loaded.
    UdevRule {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u32,
    },
    /// Nothing: sysctl lines for it are lost at boot.
    Nothing,
}

/// Everything that files say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Every line found that sets a followed setting, in the order in which systemd comes to them.
    pub assignments: Vec<Assignment>,
    /// What makes the module be there early.
    pub early_load: EarlyLoad,
    /// What each reader gives after a reboot; where it is not known how the kernel that boots has
    /// connection tracking, more than one of a reader.
    pub forecasts: Vec<Forecast>,
    /// The kernel's own choice for this memory and version.
    pub kernel_default: Option<ctkeeper_flow::Limits>,
    /// Where the running limit comes from.
    pub limit_origin: Origin,
    /// Where the running number of buckets comes from.
    pub buckets_origin: Origin,
    /// Programs seen that are known to write these settings: `kube-proxy`, `tuned`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_writers: Vec<String>,
}

impl Settings {
    /// What `reader` gives after a reboot: the first forecast of it.
    pub fn forecast(&self, reader: Reader) -> Option<&Forecast> {
        self.forecasts.iter().find(|forecast| forecast.reader == reader)
    }
}

/// What one reader gives after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// The reader.
    pub reader: Reader,
    /// The limit then.
    pub limit: ForecastValue,
    /// The buckets then.
    pub buckets: ForecastValue,
}

/// A value after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastValue {
    /// The value; absent when it cannot be told.
    pub value: Option<u64>,
    /// Why.
    pub source: ForecastSource,
    /// A line that was meant to set it and is lost because the module is not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Assignment>,
}

/// Why a value is what it is after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum ForecastSource {
    /// The kernel's own choice.
    KernelDefault,
    /// A sysctl line.
    Sysctl {
        /// The line that wins.
        assignment: Assignment,
    },
    /// A module option, directly or (the limit, 8 entries a bucket) by what follows from it.
    ModuleOption {
        /// The option that wins.
        assignment: Assignment,
    },
    /// The kernel refuses the winning line (no number, out of range); what was before stays.
    Refused {
        /// The line.
        assignment: Assignment,
    },
}

/// Where a running value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Origin {
    /// It equals the kernel's own choice.
    KernelDefault,
    /// It equals what a file says.
    File {
        /// The line.
        assignment: Assignment,
    },
    /// Neither: somebody set it by hand, or a program did.
    SomebodyElse,
    /// Could not be told.
    Unknown,
}
