//! Lists in conntrack's other forms, and of its other tables.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_flow::{Expectation, Flow, Helper, Protocol, ProtocolState, Status, TcpState, Tuple};
use ctkeeper_tests::Namespace;

use super::support::{in_namespace, output, table_of_everything, tell};

/// Timeouts tick on between two lists.
fn without_timeouts(text: &str) -> Vec<String> {
    let strip = |line: &str| {
        let Some((before, rest)) = line.split_once("<timeout>") else {
            let words = line.split(' ').collect::<Vec<_>>();
            return match words[..] {
                ["-A", "-t", _, ref rest @ ..] => rest.join(" "),
                _ => line.to_owned(),
            };
        };
        let rest = rest.split_once("</timeout>").map_or(rest, |(_, rest)| rest);
        format!("{before}{rest}")
    };
    text.lines().map(strip).collect()
}

pub(crate) fn xml_and_save_are_conntracks() -> anyhow::Result<()> {
    let namespace = table_of_everything()?;
    // Theirs has TCP's names for the states of SCTP.
    namespace.run("conntrack", &["-D", "-p", "sctp"])?;
    for format in ["xml", "save"] {
        let ours = output(&namespace, &["list", "-o", format])?;
        let theirs = namespace.run("conntrack", &["-L", "-o", format])?;
        ensure!(
            without_timeouts(&ours) == without_timeouts(&theirs),
            "{format}:\n{ours}\n{theirs}"
        );
    }
    let none = Namespace::create()?;
    for format in ["xml", "save"] {
        ensure!(output(&none, &["list", "-o", format])?.is_empty(), "{format}");
    }
    let told = tell(&namespace, &["list", "-o", "xml", "--json"])?;
    ensure!(told.code == Some(64), "{told:?}");
    Ok(())
}

/// The control connection of an FTP session, and the data connection that it announces.
fn session(number: u8) -> (Flow, Expectation) {
    let (client, server) = ([10, 2, 0, number].into(), [10, 2, 1, 1].into());
    let original = Tuple::with_ports(Protocol::TCP, (client, 40_000), (server, 21));
    let control = Flow {
        original,
        reply: original.inverted().unwrap_or(original),
        status: Status::CONFIRMED | Status::SEEN_REPLY,
        state: ProtocolState::tcp(TcpState::Established),
        timeout: Some(4000),
        helper: Some(Box::new(Helper { name: "ftp".into(), info: Box::default() })),
        ..Flow::default()
    };
    let (any, all): (IpAddr, IpAddr) = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
    let data = Expectation {
        expected: Tuple::with_ports(Protocol::TCP, (client, 0), (server, 50_000)),
        mask: Tuple::with_ports(Protocol::TCP, (all, 0), (any, u16::MAX)),
        master: original,
        timeout: Some(300),
        ..Expectation::default()
    };
    (control, data)
}

fn with_sessions(count: u8) -> anyhow::Result<Namespace> {
    let namespace = Namespace::create()?;
    let mut table = namespace.conntrack()?;
    for number in 1..=count {
        let (control, data) = session(number);
        table.create(&control)?;
        table.expect(&data)?;
    }
    Ok(namespace)
}

pub(crate) fn expectations_are_listed() -> anyhow::Result<()> {
    const LIST: [&str; 3] = ["list", "--table", "expectations"];
    let namespace = with_sessions(3)?;
    let strip = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split_once(" proto").map_or(line, |(_, rest)| rest).to_owned())
            .collect()
    };
    let (ours, theirs) =
        (output(&namespace, &LIST)?, namespace.run("conntrack", &["-L", "expect"])?);
    ensure!(strip(&ours) == strip(&theirs) && ours.lines().count() == 3, "{ours}\n{theirs}");
    let ours = output(&namespace, &[&LIST[..], &["-o", "xml"]].concat())?;
    let theirs = namespace.run("conntrack", &["-L", "expect", "-o", "xml"])?;
    ensure!(without_timeouts(&ours) == without_timeouts(&theirs), "{ours}\n{theirs}");
    let json = output(&namespace, &[&LIST[..], &["--json"]].concat())?;
    for line in json.lines() {
        let object: serde_json::Value = serde_json::from_str(line)?;
        ensure!(object["expected"]["destination_port"] == 50_000, "{object}");
        ensure!(
            object["master"]["destination_port"] == 21 && object["helper"] == "ftp",
            "{object}"
        );
        ensure!(object["flags"].is_array() && object["class"] == 0, "{object}");
    }
    ensure!(json.lines().count() == 3, "{json}");
    let told = tell(&namespace, &[&LIST[..], &["--limit", "2", "-o", "columns"]].concat())?;
    ensure!(told.stdout.lines().count() == 3 && told.stdout.contains("OF MASTER"), "{told:?}");
    ensure!(told.stderr.trim() == "2 expectations shown.", "{told:?}");
    for mistake in [&["tcp"][..], &["-o", "save"]] {
        let told = tell(&namespace, &[&LIST[..], mistake].concat())?;
        ensure!(told.code == Some(64), "{told:?}");
    }
    let told = tell(&namespace, &["flush", "--expectations", "--yes"])?;
    ensure!(told.stderr.trim() == "3 expectations deleted.", "{told:?}");
    ensure!(output(&namespace, &LIST)?.is_empty());
    ensure!(output(&namespace, &["count", "--exact"])?.trim() == "3", "entries stay");
    Ok(())
}

pub(crate) fn expectations_are_watched() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let arguments =
        ["watch", "--table", "expectations", "--count", "2", "--duration", "10s", "--json"];
    let child = in_namespace(&namespace, &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let mut table = namespace.conntrack()?;
    let (control, data) = session(1);
    table.create(&control)?;
    table.expect(&data)?;
    table.flush_expectations()?;
    let seen = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    let events: Vec<serde_json::Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(text.clone())?;
    ensure!(events.len() == 2 && events[0]["event"] == "new", "{text}");
    ensure!(events[1]["event"] == "destroy" && events[1]["helper"] == "ftp", "{text}");
    Ok(())
}

pub(crate) fn other_lists() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    for table in ["dying", "unconfirmed"] {
        let told = tell(&namespace, &["list", "--table", table])?;
        ensure!(told.code == Some(0) && told.stdout.is_empty(), "{table}: {told:?}");
        ensure!(told.stderr.trim() == "0 entries shown.", "{table}: {told:?}");
    }
    let told = tell(&namespace, &["list", "--table", "exp"])?;
    ensure!(told.code == Some(64), "{told:?}");
    Ok(())
}
