//! Findings about settings files, below a root of their own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, ensure};
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

/// Values that the kernel refuses. Healthy neighbour: a link to nothing, as Debian ships some.
pub(crate) fn broken_values() -> anyhow::Result<()> {
    const FILE: &str = "etc/sysctl.d/50-limit.conf";
    let _host = HostValues::lock()?;
    for value in ["abc", "99999999999999"] {
        let root = tempfile::tempdir()?;
        write(root.path(), FILE, &format!("net.netfilter.nf_conntrack_max = {value}\n"))?;
        let report = doctor_below(root.path())?;
        report.ensure("broken-file", "warning")?;
        let finding = report.finding("broken-file").context("no finding")?.to_string();
        let names_all = finding.contains(&format!("/{FILE}:1")) && finding.contains(value);
        ensure!(names_all, "{finding}");
    }
    let root = tempfile::tempdir()?;
    write(root.path(), FILE, "# nothing here\n")?;
    symlink("nowhere", root.path().join("etc/sysctl.d/60-link.conf"))?;
    doctor_below(root.path())?.ensure_silent("broken-file")
}
