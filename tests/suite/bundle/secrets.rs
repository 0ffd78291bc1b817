//! What names a customer is not in a bundle with pseudonyms.

use std::fs;
use std::process::{Child, Command};

use anyhow::{Context, ensure};
use ctkeeper_tests::{Filling, HostValues, Namespace, fill};
use serde_json::Value;

use crate::verdict::made;

/// A namespace, a process in it, a table and a chain, and files, all called after somebody.
const NAMES: [&str; 6] =
    ["acmeworker", "acme_firewall", "acme_incoming", "acme-limits", "acmegroup", "acmeroot"];

/// Ends the process it holds.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn no_secret_is_left() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let namespace = Namespace::create()?;
    namespace.nft(
        "table inet acme_firewall { chain acme_incoming {\n\
         type filter hook input priority 0; ct state invalid counter; }\n}\n",
    )?;
    fill(&namespace, 0, 2000, Filling::HalfOpen)?;
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("acmeworker");
    fs::copy("/bin/sleep", &program)?;
    let program = program.display().to_string();
    let _running = Running(namespace.command(&program).arg("30").spawn()?);
    let root = folder.path().join("acmeroot");
    write_files(&root)?;
    let root = root.display().to_string();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();

    wait_for(&namespace, "acmeworker")?;
    let (_folder, _, named) = made(&["--root", &root])?;
    let (_folder, _, anonymous) = made(&["--root", &root, "--anonymize"])?;
    let (named, hidden) = (named.to_string(), anonymous.to_string());
    // `acmeroot` is no path of the host that is described: it is in neither.
    for name in NAMES.iter().filter(|name| **name != "acmeroot") {
        ensure!(named.contains(name), "{name} is not even in the bundle with names");
    }
    ensure!(named.contains(namespace.name()) && named.contains(&boot_id), "{named}");
    // The filling's server, whom half-open connections wait for.
    ensure!(named.contains("\"10.77.0.1\""), "no address in {named}");
    let others = [namespace.name(), boot_id.as_str(), "acme", "\"10.77.0.1\"", "10.77.0.1:"];
    for secret in NAMES.iter().copied().chain(others) {
        ensure!(!hidden.contains(secret), "{secret} is left in {anonymous:#}");
    }
    ensure!(!has_text(&anonymous, &hostname), "{hostname} is left in {anonymous:#}");
    // What helps and names nobody stays.
    for word in ["/etc/sysctl.d/90-name-", "net.nf_conntrack_max = 4711", "inet name-"] {
        ensure!(hidden.contains(word), "no {word} in {anonymous:#}");
    }
    Ok(())
}

fn write_files(root: &std::path::Path) -> anyhow::Result<()> {
    for (file, text) in [
        ("etc/sysctl.d/90-acme-limits.conf", "net.nf_conntrack_max = 4711\n"),
        ("etc/modprobe.d/acme-limits.conf", "options nf_conntrack hashsize=acmegroup\n"),
        ("etc/os-release", "PRETTY_NAME=\"Debian 12 acmegroup\"\n"),
    ] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(path, text)?;
    }
    Ok(())
}

/// A host may be called something short that stands in any long text: only whole values count.
fn has_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(values) => values.iter().any(|value| has_text(value, text)),
        Value::Object(values) => values.values().any(|value| has_text(value, text)),
        _ => false,
    }
}

/// `ip netns exec` becomes the program after a moment.
fn wait_for(namespace: &Namespace, command: &str) -> anyhow::Result<()> {
    for _ in 0..100 {
        let output = Command::new("ip").args(["netns", "pids", namespace.name()]).output()?;
        let pids = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut names =
            pids.lines().filter_map(|p| fs::read_to_string(format!("/proc/{p}/comm")).ok());
        if names.any(|name| name.trim() == command) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::bail!("{command} does not run in {}", namespace.name())
}

pub(crate) fn new_each_time() -> anyhow::Result<()> {
    let (_folder, _, one) = made(&["--anonymize"])?;
    let (_folder, _, other) = made(&["--anonymize"])?;
    let name = |bundle: &Value| bundle["snapshot"]["taken"]["hostname"].to_string();
    ensure!(name(&one).starts_with("\"name-") && name(&one) != name(&other), "{}", name(&one));
    Ok(())
}
