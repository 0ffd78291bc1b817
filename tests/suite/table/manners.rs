//! Mistakes, lacks of privilege, namespaces and readers that have gone.

use std::process::{Command, Stdio};

use anyhow::ensure;
use ctkeeper_tests::{Filling, Namespace, ctkeeper, ctkeeper_path, fill, run};

use super::support::{count, in_namespace, tell};

pub(crate) fn mistakes_are_usage_errors() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 50, Filling::Established { timeout: 4000 })?;
    for (line, says) in [
        ("get", "<TUPLE>"),
        ("get tcp 10.0.0.1", "destination address is missing"),
        ("get tcp 10.0.0.1:1 10.0.0.2", "both ports are needed"),
        ("get tcp 10.0.0.0/8 10.0.0.2", "is neither"),
        ("get tcp state ESTABLISHED", "belongs to a filter"),
        ("add udp 10.0.0.1:1 10.0.0.2:2", "--timeout"),
        ("add udp 10.0.0.1:1 10.0.0.2:2 --timeout soon", "soon"),
        ("add udp 10.0.0.1:1 10.0.0.2:2 --timeout 0s", "ctkeeper delete"),
        ("update tcp --timeout 0 --yes", "ctkeeper delete"),
        ("add udp 10.0.0.1:1 10.0.0.2:2 --timeout 1m --state ESTABLISHED", "has no states"),
        ("add tcp 10.0.0.1:1 10.0.0.2:2 --timeout 1m --state UP", "no state of tcp"),
        ("add udp 10.0.0.1:1 10.0.0.2:2 --timeout 1m --dnat ::1", "family"),
        ("add icmp 10.0.0.1 10.0.0.2 icmp-id 1 --timeout 1m --dnat 10.0.0.3:80", "has no ports"),
        ("add icmp 10.0.0.1 10.0.0.2 icmp-id 1 icmp-type 3 --timeout 1m", "no answer"),
        ("add udp 10.0.0.1:1 10.0.0.2:2 --timeout 1m --status dying", "assured, seen_reply"),
        ("add udp 10.0.0.1:1 10.0.0.2:2 --timeout 1m --label 128", "128"),
        ("delete", "flush"),
        ("delete --yes", "flush"),
        ("delete tpc --yes", "unknown term"),
        ("delete tcp --yes --dry-run", "--dry-run"),
        ("update --mark 1 --yes", "ipv4 or ipv6"),
        ("update tcp --yes", "what is to change"),
        ("update tcp --mark 0x11/0xf0 --yes", "mask"),
        ("update tcp --mark junk --yes", "junk"),
        ("update tcp --label-add 1 --label-remove 1 --yes", "same label"),
        ("save -o text", "text"),
        ("save -o save --json", "different formats"),
        ("restore", "<FILE>"),
        ("flush tcp --yes", "tcp"),
        ("delete -s 10.0.0.1 --yes", "Filters are words"),
        ("list -p tcp --dport 443", "`ctkeeper conntrack -L"),
        ("-L", "`ctkeeper conntrack -L"),
    ] {
        let told = tell(&namespace, &line.split(' ').collect::<Vec<_>>())?;
        ensure!(told.code == Some(64) && told.stdout.is_empty(), "{line}: {told:?}");
        ensure!(told.stderr.contains(says), "{line}: {}", told.stderr);
    }
    for command in [
        "get tcp 10.0.0.1:1 10.0.0.2:2",
        "delete tcp -y",
        "update tcp --mark 1 -y",
        "flush -y",
        "save",
    ] {
        let told = run(ctkeeper(&["--netns", "all"]).args(command.split(' ')))?;
        ensure!(told.code == Some(64) && told.stderr.contains("--netns"), "{command}: {told:?}");
    }
    let told = run(&mut ctkeeper(&["conntrack", "--netns", namespace.name(), "-S"]))?;
    ensure!(told.code == Some(2) && told.stderr.contains("before the word conntrack"), "{told:?}");
    ensure!(count(&namespace, "assured not mark 1")? == 50);
    Ok(())
}

pub(crate) fn without_privilege() -> anyhow::Result<()> {
    for command in [
        "get tcp 10.0.0.1:1 10.0.0.2:2",
        "add udp 10.0.0.1:1 10.0.0.2:2 --timeout 1s",
        "delete tcp --dry-run",
        "update tcp --mark 1 --dry-run",
        "flush --dry-run",
        "save",
        "list --table expectations",
    ] {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
        setpriv.arg(ctkeeper_path()).args(command.split(' ')).stdin(Stdio::null());
        let told = run(&mut setpriv)?;
        ensure!(told.code == Some(1), "{command}: {told:?}");
        ensure!(told.stderr.contains("CAP_NET_ADMIN"), "{command}: {}", told.stderr);
    }
    Ok(())
}

pub(crate) fn a_vanished_namespace() -> anyhow::Result<()> {
    let gone = Namespace::create()?.name().to_owned();
    for command in [
        "get tcp 10.0.0.1:1 10.0.0.2:2",
        "add udp 10.0.0.1:1 10.0.0.2:2 --timeout 1s",
        "delete tcp --yes",
        "update tcp --mark 1 --yes",
        "flush --yes",
        "save",
        "restore /dev/null",
        "list --table expectations",
        "watch --table expectations",
    ] {
        let told = run(ctkeeper(&["--netns", &gone]).args(command.split(' ')))?;
        ensure!(told.code == Some(1) && told.stderr.contains(&gone), "{command}: {told:?}");
    }
    Ok(())
}

/// A deed is done and no failure; half a saved table is one.
pub(crate) fn a_reader_who_goes() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 5000, Filling::Established { timeout: 4000 })?;
    let closed = |arguments: &[&str]| -> anyhow::Result<(Option<i32>, String)> {
        let out: Stdio = std::io::pipe()?.1.into();
        let child =
            in_namespace(&namespace, arguments).stdout(out).stderr(Stdio::piped()).spawn()?;
        let output = child.wait_with_output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, error) = closed(&["save"])?;
    ensure!(code == Some(1) && error.contains("roken pipe"), "{code:?}: {error}");
    let (code, error) = closed(&["delete", "assured"])?;
    ensure!(code == Some(1) && count(&namespace, "")? == 5000, "{code:?}: {error}");
    let (code, error) = closed(&["add", "udp", "10.9.0.1:1", "10.9.0.2:2", "--timeout", "1h"])?;
    ensure!(code == Some(0) && count(&namespace, "")? == 5001, "{code:?}: {error}");
    let (code, error) = closed(&["delete", "assured", "--yes", "--json"])?;
    ensure!(code == Some(0) && count(&namespace, "assured")? == 0, "{code:?}: {error}");
    Ok(())
}
