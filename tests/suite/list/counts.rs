//! `count` and `stats` beside `conntrack -C` and `-S`.

use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;
use ctkeeper_tests::{Filling, Namespace, fill};

use super::support::{lines, load, traffic};

pub(crate) fn count_is_the_kernels() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 1234, Filling::HalfOpen)?;
    let theirs = namespace.run("conntrack", &["-C"])?;
    ensure!(lines(&namespace, &["count"])? == [theirs.trim()]);
    ensure!(lines(&namespace, &["count", "--exact"])? == ["1234"]);
    ensure!(lines(&namespace, &["count", "tcp", "unreplied"])? == ["1234"]);
    ensure!(lines(&namespace, &["count", "udp"])? == ["0"]);
    let limit = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let object: serde_json::Value =
        serde_json::from_str(&lines(&namespace, &["count", "--json"])?.join(""))?;
    ensure!(object["entries"] == 1234 && object["includes_expired"] == true, "{object}");
    ensure!(object["limit"].as_u64() == limit.trim().parse().ok(), "{object}");
    Ok(())
}

/// The kernel's count holds expired entries until they are collected; a dump collects them.
pub(crate) fn expired_entries_are_counted_apart() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let one = |port: u16, timeout: u8| {
        format!("-I -t {timeout} -p udp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 9\n")
    };
    load(&namespace, &(1..=20).map(|port| one(port, 1)).collect::<String>())?;
    load(&namespace, &one(99, 100))?;
    sleep(Duration::from_millis(2100));
    // The collector comes by itself within a minute: then there is nothing to tell apart.
    let by_kernel: u64 = lines(&namespace, &["count"])?.join("").parse()?;
    ensure!((1..=21).contains(&by_kernel), "{by_kernel}");
    ensure!(lines(&namespace, &["count", "--exact"])? == ["1"]);
    ensure!(lines(&namespace, &["count"])? == ["1"], "a dump collects what has expired");
    Ok(())
}

pub(crate) fn stats_are_conntracks() -> anyhow::Result<()> {
    let (namespace, _sockets) = traffic()?;
    fill(&namespace, 0, 7, Filling::HalfOpen)?;
    let theirs = namespace.run("conntrack", &["-S"])?;
    let ours = lines(&namespace, &["stats", "-o", "text"])?;
    ensure!(theirs.lines().eq(&ours), "{theirs}\n{ours:#?}");
    let object: serde_json::Value =
        serde_json::from_str(&lines(&namespace, &["stats", "--json"])?.join(""))?;
    let cpus = object["cpus"].as_array().map_or(0, Vec::len);
    ensure!(cpus == theirs.lines().count(), "{object}");
    ensure!(object["total"]["insert"] == 7, "{object}");
    let columns = lines(&namespace, &["stats", "-o", "columns"])?;
    ensure!(columns.iter().any(|line| line.starts_with("insert ") && line.contains(" 7 ")));
    Ok(())
}
