//! What the tests need from Debian, installed without starting any service.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// A program or file that a test uses, and Debian's package that brings it.
const NEEDED: [(&str, &str); 14] = [
    ("/usr/sbin/conntrack", "conntrack"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/bin/strace", "strace"),
    ("/bin/ip", "iproute2"),
    ("/usr/bin/unshare", "util-linux"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/sbin/mkfs.ext4", "e2fsprogs"),
    ("/sbin/sysctl", "procps"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("/usr/sbin/dockerd", "docker.io"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/bin/podman", "podman"),
    ("/bin/busybox", "busybox-static"),
    ("/lib/systemd/systemd-sysctl", "systemd"),
];

/// Debian's way to forbid that installing a package starts its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing. Without root or apt it only says what that is: tests that need it
/// then show as ignored, and fail in CI.
pub(crate) fn install() -> anyhow::Result<()> {
    let mut missing: Vec<_> =
        NEEDED.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, p)| *p).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        eprintln!("xtask: missing, and not installed without root: {}", missing.join(" "));
        return Ok(());
    }
    let _policy = Policy::forbid_services()?;
    apt(&["update", "--quiet"])?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(missing);
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("running apt-get")?;
    ensure!(status.success(), "apt-get {} failed", arguments.join(" "));
    Ok(())
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
    })
}

/// While it lives, no package starts a service; somebody else's policy is left alone.
struct Policy {
    ours: bool,
}

impl Policy {
    fn forbid_services() -> anyhow::Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").context(POLICY)?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)).context(POLICY)?;
        Ok(Self { ours: true })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            // Left behind it would only keep services from starting; nothing better can be done.
            let _ = fs::remove_file(POLICY);
        }
    }
}
