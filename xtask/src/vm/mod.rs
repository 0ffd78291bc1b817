//! Virtual machines with Debian's own kernels, where connection tracking is a module: fetched by
//! name with apt, unpacked into a cache outside the tree, booted by an emulating QEMU. Nothing is
//! installed on this host.
//!
//! `target/vm` holds links into the cache (`linux-6.1`, `linux-6.12`, `guest`, `qemu`), the static
//! binaries for the guests, and the disks and logs of the machines that run.

mod apt;
mod cache;
mod cpio;
mod guest;
mod machine;
mod shell;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};

use crate::build;
use cache::{Cache, Request};
pub use guest::Guest;
pub use machine::{Bounds, Hardware, Machine};
pub use shell::shell;

/// What `cargo xtask vm --help` says at its end.
pub const HELP: &str = "\
What is fetched (about 130 MB: two kernels, the guest's programs, QEMU) stays in
$CTKEEPER_VM_CACHE, else $XDG_CACHE_HOME/ctkeeper/vm, else ~/.cache/ctkeeper/vm; newer packages
replace it. The consoles and what every step said stay in target/vm/run.

  cargo xtask vm                       every test on both kernels
  cargo xtask vm walls --kernel 6.1    one test on one kernel
  CTKEEPER_SHOW=1 cargo xtask vm       with the findings that were seen
  cargo xtask vm shell 6.12            look around in a guest";

/// What `cargo xtask vm shell --help` says at its end.
pub const SHELL_HELP: &str = "\
The guest has ctkeeper, busybox, and Debian's bash, ip, nft, sysctl, modprobe and haproxy. Nothing tracks
connections at first: `nft -f /etc/nftables.conf` loads a firewall that does. It has no network but
its own, its disk is gone afterwards, limit and buckets are its own: nothing in it can hurt this host.";

/// A kernel of Debian, as modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Debian 12's own.
    Linux6_1,
    /// The newer one that Debian 12's security updates offer.
    Linux6_12,
}

impl Kernel {
    /// Every one of them, oldest first.
    pub const ALL: [Self; 2] = [Self::Linux6_1, Self::Linux6_12];

    /// The package that always depends on the newest build.
    const fn package(self) -> &'static str {
        match self {
            Self::Linux6_1 => "linux-image-cloud-amd64",
            Self::Linux6_12 => "linux-image-6.12-cloud-amd64",
        }
    }

    fn folder(self) -> PathBuf {
        store().join(format!("linux-{self}"))
    }

    /// As `uname -r` says it: `6.1.0-56-cloud-amd64`.
    pub fn release(self) -> anyhow::Result<String> {
        let modules = self.folder().join("lib/modules");
        let mut releases = fs::read_dir(&modules).with_context(|| modules.display().to_string())?;
        let release = releases.next().context("a kernel package without modules")??;
        Ok(release.file_name().to_string_lossy().into_owned())
    }

    fn image(self) -> anyhow::Result<PathBuf> {
        Ok(self.folder().join(format!("boot/vmlinuz-{}", self.release()?)))
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Linux6_1 => "6.1",
            Self::Linux6_12 => "6.12",
        })
    }
}

impl FromStr for Kernel {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|kernel| kernel.to_string() == text);
        found.with_context(|| format!("no kernel {text}: there are 6.1 and 6.12"))
    }
}

/// The guest's own programs; their libraries come with them.
const GUEST: [&str; 10] = [
    "busybox-static",
    "dash",
    "bash",
    "kmod",
    "systemd",
    "procps",
    "nftables",
    "iproute2",
    "haproxy",
    // A library, though its name does not say so.
    "zlib1g",
];

const QEMU: &str = "qemu-system-x86";

/// `target/vm` of the workspace.
pub fn store() -> PathBuf {
    build::workspace().join("target/vm")
}

/// Fetches what is missing or has a newer version, and points `target/vm` at it. What is there
/// already is used when apt cannot be asked.
pub fn fetch() -> anyhow::Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "virtual machines need x86-64");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("virtual machines need Debian's apt-get, which fetches their kernels");
    }
    let cache = Cache::open()?;
    for kernel in Kernel::ALL {
        let name = format!("linux-{kernel}");
        let packages = apt::newest_kernel;
        cache.provide(&Request { name: &name, wanted: &[kernel.package()], packages })?;
    }
    let packages = apt::with_libraries;
    cache.provide(&Request { name: "guest", wanted: &GUEST, packages })?;
    let packages = apt::what_is_missing;
    cache.provide(&Request { name: "qemu", wanted: &[QEMU], packages })
}

/// Builds what runs in the guests: ctkeeper, the load that tests make there, what plays packet
/// sequences, and what holds samples against known tables.
pub fn build_programs() -> anyhow::Result<[PathBuf; 4]> {
    const PROGRAMS: [&str; 4] =
        ["ctkeeper", "guest-load", "engine-differential", "sampling-coverage"];
    let mut arguments = vec!["--package", "ctkeeper", "--package", "ctkeeper-tests", "--quiet"];
    arguments.extend(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
    let folder = build::build_static(&store().join("build"), &arguments)?;
    Ok(PROGRAMS.map(|name| folder.join("debug").join(name)))
}
