//! A container that tracks what its host tracks, with Docker's own daemon: on a user-defined network
//! it does, on the default bridge it does not.

use std::process::Command;

use anyhow::{Context, ensure};
use ctkeeper_netlink::{Conntrack, netns};
use ctkeeper_tests::{Docker, HostValues, Report, doctor, run};

const CONNECTIONS: u64 = 1500;

/// Ports that the host publishes for a container on each network.
const USER: u16 = 18_081;
const DEFAULT: u16 = 18_080;

fn inode_of(pid: u32) -> anyhow::Result<u64> {
    Ok(netns::Namespace::of_process(pid)?.inode())
}

fn entries(pid: u32) -> anyhow::Result<u64> {
    let mut table = Conntrack::open_in(&netns::Namespace::of_process(pid)?)?;
    Ok(u64::from(table.count_and_limit()?.entries))
}

/// What the doctor says of a namespace, among all of the host's.
fn findings(report: &Report, inode: u64) -> Vec<(String, String)> {
    let about = report.findings().filter(|f| f["scope"]["inode"].as_u64() == Some(inode));
    let text = |finding: &serde_json::Value, field: &str| {
        finding[field].as_str().unwrap_or_default().to_owned()
    };
    about.map(|finding| (text(finding, "id"), text(finding, "summary"))).collect()
}

pub(crate) fn tracked_twice() -> anyhow::Result<()> {
    // Without other tests' namespaces: the doctor looks closely at the fullest only.
    let _host = HostValues::lock()?;
    let docker = Docker::start()?;
    docker.docker(&["network", "create", "lab"])?;
    let serve = |network: &str, port| docker.pid_of(&docker.serve(network, port)?);
    let (user, default) = (serve("lab", USER)?, serve("bridge", DEFAULT)?);

    // Healthy neighbour: a container on the default bridge tracks nothing.
    docker.call(DEFAULT, CONNECTIONS)?;
    ensure!(entries(default)? == 0, "the default bridge tracks inside");
    docker.call(USER, CONNECTIONS)?;
    ensure!(entries(user)? >= CONNECTIONS, "{} inside", entries(user)?);
    let report = doctor(&[])?;
    let found = findings(&report, inode_of(user)?);
    let [(id, summary)] = found.as_slice() else { anyhow::bail!("{found:?}: {:#}", report.0) };
    ensure!(id == "tracked-twice" && summary.contains("embedded DNS"), "{id}: {summary}");
    ensure!(summary.contains(docker.host().name()), "{summary}");
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        println!("| {id} | {summary} |");
    }
    ensure!(findings(&report, inode_of(default)?).is_empty());
    ensure!(findings(&report, docker.host().inode()?).is_empty(), "{:#}", report.0);

    the_remedy_works(&docker, user)
}

/// The rules of `ctkeeper explain tracked-twice`: nothing more is tracked inside but DNS, and the
/// container is reached as before.
fn the_remedy_works(docker: &Docker, user: u32) -> anyhow::Result<()> {
    let explained = run(&mut ctkeeper_tests::ctkeeper(&["explain", "tracked-twice"]))?.stdout;
    let begin = explained.find("table inet untracked {").context("no rules")?;
    let rules = &explained[begin..];
    let rules = &rules[..rules.find("EOF").context("no end of rules")?];
    let inside = |script: &str| {
        let entering = ["-t".to_owned(), user.to_string(), "-n".to_owned(), "sh".to_owned()];
        run(Command::new("nsenter").args(entering).args(["-c", script]))
    };
    let loaded = inside(&format!("nft '{rules}' && conntrack -F"))?;
    ensure!(loaded.code == Some(0), "{}", loaded.stderr);
    docker.call(USER, CONNECTIONS)?;
    ensure!(entries(user)? == 0, "{} inside after the remedy", entries(user)?);
    let report = doctor(&[])?;
    ensure!(findings(&report, inode_of(user)?).is_empty(), "{:#}", report.0);
    let second = docker.container(&["--network", "lab", "--name", "second"], &["sleep", "60"])?;
    let container = docker.docker(&["ps", "-q", "--filter", &format!("publish={USER}")])?;
    let answer = docker.docker(&["exec", &container, "/bin/busybox", "nslookup", "second"])?;
    ensure!(!second.is_empty() && answer.contains("Address"), "no DNS: {answer}");
    ensure!(entries(user)? > 0, "DNS is not translated any more");
    Ok(())
}
