//! Findings about settings files, below a root of their own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ctkeeper_tests::{HostValues, Report, doctor};

fn write(root: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    Ok(fs::write(path, text)?)
}

fn doctor_below(root: &Path) -> anyhow::Result<Report> {
    let root = root.display().to_string();
    doctor(&["--root", &root])
}

pub(crate) fn differs_from_persisted() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    let root = tempfile::tempdir()?;
    let line = |value| format!("net.netfilter.nf_conntrack_max = {value}\n");
    write(root.path(), "etc/sysctl.d/90-conntrack.conf", &line(host.limit()))?;
    doctor_below(root.path())?.ensure_silent("differs-from-persisted")?;
    write(root.path(), "etc/sysctl.d/90-conntrack.conf", &line(host.limit() + 512))?;
    doctor_below(root.path())?.ensure("differs-from-persisted", "warning")?;
    // A later file that agrees with what runs wins.
    write(root.path(), "etc/sysctl.d/91-conntrack.conf", &line(host.limit()))?;
    doctor_below(root.path())?.ensure_silent("differs-from-persisted")
}

pub(crate) fn readers_disagree() -> anyhow::Result<()> {
    let host = HostValues::lock()?;
    let root = tempfile::tempdir()?;
    let line = format!("net.netfilter.nf_conntrack_max = {}\n", host.limit() + 512);
    // procps reads /etc/sysctl.conf, systemd only through a link.
    write(root.path(), "etc/sysctl.conf", &line)?;
    doctor_below(root.path())?.ensure("readers-disagree", "warning")?;
    fs::create_dir_all(root.path().join("etc/sysctl.d"))?;
    symlink("../sysctl.conf", root.path().join("etc/sysctl.d/99-sysctl.conf"))?;
    let linked = doctor_below(root.path())?;
    linked.ensure_silent("readers-disagree")?;
    linked.ensure("differs-from-persisted", "warning")
}

pub(crate) fn broken_file() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let root = tempfile::tempdir()?;
    write(root.path(), "etc/sysctl.d/50-fine.conf", "# nothing here\n\nkernel.panic = 10\n")?;
    doctor_below(root.path())?.ensure_silent("broken-file")?;
    // A link that leads to itself: neither absent nor readable.
    symlink("60-loop.conf", root.path().join("etc/sysctl.d/60-loop.conf"))?;
    doctor_below(root.path())?.ensure("broken-file", "warning")
}
