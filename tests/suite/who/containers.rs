//! Docker's containers under load.

use anyhow::{Context, ensure};
use ctkeeper_flow::Protocol;
use ctkeeper_snapshot::{Counted, Holder, Row, Service, Unattributed, Value};
use ctkeeper_tests::{Docker, ctkeeper, ctkeeper_path};

use crate::answer::{Answer, answer_of, ensure_directions, ensure_entries, part, show, who};
use crate::load::{self, leave_entries};
use crate::site::Site;

const WEB: u64 = 900;
const API: u64 = 400;
const CRAWLER: u64 = 700;
const MINER: u64 = 250;
const WEB_PORT: u16 = 18_080;
const API_PORT: u16 = 18_081;

fn site() -> anyhow::Result<Site> {
    let mut site = Site::build()?;
    site.published("web", "bridge", WEB_PORT, WEB)?;
    site.published("api", "lab", API_PORT, API)?;
    site.outgoing("crawler", "bridge", 9000, CRAWLER)?;
    site.outgoing("miner", "lab", 9001, MINER)?;
    Ok(site)
}

/// Each is named, and has what the load has opened, in the right direction; what is tracked twice is
/// told.
pub(crate) fn named_and_counted() -> anyhow::Result<()> {
    let site = site()?;
    let answer = who(&[&site.runtime()])?;
    show(&answer);
    all_is_true(&site, &answer)?;
    by_service(&site)?;
    by_what_they_have(&site)?;
    every_way_to_the_runtime(&site)
}

fn all_is_true(site: &Site, answer: &Answer) -> anyhow::Result<()> {
    answer.ensure_whole(site.host)?;
    let [web, api, crawler, miner] =
        ["web", "api", "crawler", "miner"].map(|n| answer.container(n));
    let (web, api, crawler, miner) = (web?, api?, crawler?, miner?);
    for (row, entries, shares) in [
        (web, WEB, [1.0, 0.0, 0.0]),
        (api, API, [1.0, 0.0, 0.0]),
        (crawler, CRAWLER, [0.0, 1.0, 0.0]),
        (miner, MINER, [0.0, 1.0, 0.0]),
    ] {
        ensure_entries(row, site.host, entries)?;
        ensure_directions(row, shares)?;
    }
    for (name, row, entries) in [("api", api, API), ("miner", miner, MINER)] {
        let own = site.namespace_of(name)?;
        // The name server of Docker's own may have been asked: nothing else is between.
        ensure!((entries..entries + 10).contains(&(part(row, own) as u64)), "{name}: {row:#?}");
        ensure!(row.twice == Some(entries), "{name} is tracked twice: {row:#?}");
        // A namespace of one container's is not dumped.
        ensure!(answer.table(own)?.counted == Counted::Owned, "{answer}");
    }
    for (name, row) in [("web", web), ("crawler", crawler)] {
        ensure!(row.twice.is_none() && row.parts.len() == 1, "{name}: {row:#?}");
    }
    ensure!(part(web, site.host) as u64 == WEB);
    described(site, "web", web)
}

fn described(site: &Site, name: &str, row: &Row) -> anyhow::Result<()> {
    let Some(Value::Holder(Holder::Container(container))) = row.values.first() else {
        anyhow::bail!("{row:#?}")
    };
    let id = site.docker.docker(&["inspect", "-f", "{{.Id}}", name])?;
    ensure!(container.id == id, "{container:?}, not {id}");
    ensure!(container.image.as_deref() == Some("lab:1"), "{container:?}");
    ensure!(container.runtime.as_deref() == Some("docker"), "{container:?}");
    Ok(())
}

/// The published address is the service, before the destination was translated.
fn by_service(site: &Site) -> anyhow::Result<()> {
    let service = |port| Service {
        address: Docker::HOST.parse().expect("an address"),
        protocol: Protocol::TCP,
        port: Some(port),
    };
    let netns = site.docker.host().name();
    let answer = who(&[&site.runtime(), "--netns", netns, "--by", "service,container"])?;
    for (port, name, entries) in [(WEB_PORT, "web", WEB), (API_PORT, "api", API)] {
        let row = answer.row(port, |value| *value == Value::Service(service(port)))?;
        ensure_entries(row, site.host, entries)?;
        let Some(Value::Holder(Holder::Container(container))) = row.values.get(1) else {
            anyhow::bail!("{row:#?}")
        };
        ensure!(container.name.as_deref() == Some(name), "{row:#?}");
    }
    answer.ensure_whole(site.host)
}

/// By every single property, the host's table has the same entries; some are looked at closely.
fn by_what_they_have(site: &Site) -> anyhow::Result<()> {
    let netns = site.docker.host().name();
    for key in [
        "holder",
        "container",
        "pod",
        "process",
        "service",
        "netns",
        "source",
        "destination",
        "port",
        "protocol",
        "state",
        "zone",
        "mark",
    ] {
        let answer = who(&[&site.runtime(), "--netns", netns, "--by", key])?;
        answer.ensure_whole(site.host).with_context(|| format!("--by {key}"))?;
        let all = WEB + API + CRAWLER + MINER;
        match key {
            "port" => {
                let of = |port| answer.row(port, |v| *v == Value::Port(Protocol::TCP, port));
                ensure_entries(of(WEB_PORT)?, site.host, WEB)?;
                ensure_entries(of(9000)?, site.host, CRAWLER)?;
            }
            "state" => {
                let of = |state: &str| answer.row(state, |v| *v == Value::State(state.to_owned()));
                ensure_entries(of("ESTABLISHED")?, site.host, all)?;
            }
            "destination" => {
                let to = |a: &str| answer.row(a, |v| *v == Value::Address(a.parse().expect("one")));
                ensure_entries(to(Docker::HOST)?, site.host, WEB + API)?;
                ensure_entries(to(load::SERVER)?, site.host, CRAWLER + MINER)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Named, by the environment, and at the usual path: the names are the same. Without any, ids.
fn every_way_to_the_runtime(site: &Site) -> anyhow::Result<()> {
    let words = ["who", "--json", "--exact", "--top", "1000"];
    let socket = format!("unix://{}", site.docker.socket().display());
    let by_environment = answer_of(ctkeeper(&words).env("DOCKER_HOST", &socket))?;
    all_is_true(site, &by_environment)?;
    let mut inside = site.docker.command(&ctkeeper_path())?;
    let at_the_usual_path = answer_of(inside.args(words))?;
    all_is_true(site, &at_the_usual_path)?;
    let nowhere = who(&["--runtime=unix:///nowhere/socket"])?;
    let gap = nowhere.0.gaps.iter().find(|gap| format!("{gap:?}").contains("/nowhere/socket"));
    ensure!(gap.is_some(), "no word of the runtime that is not there: {nowhere}");
    by_ids(site, &nowhere)
}

/// Without a runtime: ids instead of names, and the same numbers.
fn by_ids(site: &Site, answer: &Answer) -> anyhow::Result<()> {
    answer.ensure_whole(site.host)?;
    let listed = site.docker.docker(&["ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
    // While the daemon is stopped the test knows the ids from before.
    for line in listed?.lines() {
        let (name, id) = line.split_once(' ').context("a name and an id")?;
        let entries = match name {
            "web" => WEB,
            "api" => API,
            "crawler" => CRAWLER,
            "miner" => MINER,
            _ => continue,
        };
        ensure_entries(answer.container(id)?, site.host, entries)?;
    }
    Ok(())
}

/// The daemon stopped: ids from the control groups, the same numbers, and no waiting for it. Stopped
/// so that it takes requests and does not answer: the same, and a gap.
pub(crate) fn daemon_stopped() -> anyhow::Result<()> {
    let mut site = Site::build()?;
    let web = site.published("web", "bridge", WEB_PORT, WEB)?;
    let crawler = site.outgoing("crawler", "bridge", 9000, CRAWLER)?;
    let silent = rustix::process::Pid::from_raw(site.docker.pid()?.cast_signed()).context("pid")?;
    let signal = |signal| rustix::process::kill_process(silent, signal);
    signal(rustix::process::Signal::STOP)?;
    let asked = known_by_id(&site, &web, &crawler);
    signal(rustix::process::Signal::CONT)?;
    asked?;
    site.docker.stop_daemon();
    known_by_id(&site, &web, &crawler)?;
    // Healthy neighbour: it answers again.
    site.docker.start_daemon()?;
    let answer = who(&[&site.runtime()])?;
    ensure_entries(answer.container("web")?, site.host, WEB)
}

fn known_by_id(site: &Site, web: &str, crawler: &str) -> anyhow::Result<()> {
    let answer = who(&[&site.runtime()])?;
    answer.ensure_whole(site.host)?;
    ensure_entries(answer.container(web)?, site.host, WEB)?;
    ensure_entries(answer.container(crawler)?, site.host, CRAWLER)?;
    let socket = site.docker.socket().display().to_string();
    let told = answer.0.gaps.iter().any(|gap| format!("{gap:?}").contains(&socket));
    ensure!(told, "no word of the silent daemon: {answer}");
    // Half a second for a runtime that says nothing is twice what it is given.
    ensure!(answer.0.elapsed_ms < 2000.0, "{} ms: {answer}", answer.0.elapsed_ms);
    Ok(())
}

/// Restarted: its new connections are its own, those of its former life are not.
pub(crate) fn restarted() -> anyhow::Result<()> {
    let mut site = Site::build()?;
    site.published("web", "bridge", WEB_PORT, WEB)?;
    let before = site.docker.pid_of("web")?;
    leave_entries(site.docker.host())?;
    site.docker.docker(&["restart", "--time", "0", "web"])?;
    ensure!(site.docker.pid_of("web")? != before, "not restarted");
    site.load(&format!("{}:{WEB_PORT}", Docker::HOST), 120)?;
    let answer = who(&[&site.runtime()])?;
    show(&answer);
    answer.ensure_whole(site.host)?;
    // Docker deletes what is translated for a container that goes; whatever is left is nobody's.
    ensure_entries(answer.container("web")?, site.host, 120)?;
    let of_containers = answer
        .0
        .rows
        .iter()
        .filter(|row| matches!(row.values.first(), Some(Value::Holder(Holder::Container(_)))));
    let all: f64 = of_containers.map(|row| part(row, site.host)).sum();
    ensure!(all as u64 == 120, "{answer}");
    Ok(())
}

/// Removed with its entries left: they are of somebody who has gone; the next that gets its address
/// has its own alone.
pub(crate) fn removed_with_entries_left() -> anyhow::Result<()> {
    let mut site = Site::build()?;
    site.published("web", "bridge", WEB_PORT, WEB)?;
    let address = address_of(&site, "web")?;
    leave_entries(site.docker.host())?;
    // Docker deletes what is translated for a container that goes; a host that fails over has it
    // from its twin (conntrackd), so do others' runtimes leave it.
    let saved = site.docker.host().run("conntrack", &["-L", "-o", "save"])?;
    site.docker.docker(&["rm", "-f", "web"])?;
    restore(&site, &aged(&saved))?;
    let left = site.docker.host().count_and_limit()?.0;
    ensure!(left >= WEB, "only {left} are left");
    let host = site.host;
    let gone = |answer: &Answer| -> anyhow::Result<f64> {
        let row = answer.holder(&address, |holder| {
            matches!(holder, Holder::Unattributed(Unattributed::Gone { address: a })
                if a.to_string() == address)
        })?;
        Ok(part(row, host))
    };
    let answer = who(&[&site.runtime()])?;
    show(&answer);
    answer.ensure_whole(site.host)?;
    ensure!(gone(&answer)? as u64 == WEB, "{answer}");
    ensure!(!answer.has_container("web"), "{answer}");

    // Docker deletes them once more for whoever gets the address.
    let heir = site.published("heir", "bridge", API_PORT, API)?;
    ensure!(address_of(&site, "heir")? == address, "{heir} has another address");
    restore(&site, &aged(&saved))?;
    let answer = who(&[&site.runtime()])?;
    show(&answer);
    answer.ensure_whole(site.host)?;
    ensure_entries(answer.container("heir")?, site.host, API)?;
    ensure!(gone(&answer)? as u64 == WEB, "{answer}");
    Ok(())
}

/// Entries as they are after a minute in which nothing came.
fn aged(saved: &str) -> String {
    let older = |line: &str| {
        let mut words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        if let Some(at) = words.iter().position(|word| word == "-t") {
            let seconds: Option<u32> = words.get(at + 1).and_then(|word| word.parse().ok());
            words[at + 1] = seconds.unwrap_or(0).saturating_sub(60).to_string();
        }
        words.join(" ")
    };
    saved.lines().map(|line| older(line) + "\n").collect()
}

fn restore(site: &Site, saved: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut command = site.docker.host().command("conntrack");
    command.args(["-R", "-"]).stdin(std::process::Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("its input")?.write_all(saved.as_bytes())?;
    child.wait().map(drop).context("conntrack -R")
}

fn address_of(site: &Site, name: &str) -> anyhow::Result<String> {
    let form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    site.docker.docker(&["inspect", "-f", form, name])
}
