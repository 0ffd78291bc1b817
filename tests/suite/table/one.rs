//! One entry: looked up, made.

use anyhow::{Context, ensure};
use ctkeeper_tests::Namespace;

use super::support::{fed, in_namespace, object, output, table_of_everything, tell};

pub(crate) fn either_direction_finds_the_entry() -> anyhow::Result<()> {
    let namespace = table_of_everything()?;
    for (words, mark) in [
        ("tcp 10.0.0.1:4003 10.0.0.2:443", 18),
        ("tcp 10.0.0.2:443 → 10.0.0.1:4003", 18),
        ("tcp src 10.0.0.1 dst 10.0.0.2 sport 4003 dport 443", 18),
        ("proto 6 10.0.0.9:11 10.0.0.2:80", 3),
        ("tcp 192.0.2.7:8081 192.0.2.8:61000", 3),
        ("udp [2001:db8::1:0:0:1]:1 [fe80::1:0:0:5]:2", 16),
    ] {
        let words: Vec<_> = words.split(' ').collect();
        let (code, entry) = object(&namespace, &[&["get", "--json"], &words[..]].concat())?;
        ensure!(code == Some(0) && entry["mark"] == mark, "{words:?}: {entry}");
    }
    let text = output(&namespace, &["get", "udp", "10.0.0.4:1", "10.0.0.53:65535", "zone", "5"])?;
    ensure!(text.starts_with("udp      17 ") && text.contains(" zone=5 "), "{text}");
    let output = tell(&namespace, &["get", "udp", "10.0.0.4:1", "10.0.0.53:65535"])?;
    ensure!(output.code == Some(1), "the same tuple in the default zone: {output:?}");
    Ok(())
}

/// Each entry of the list, named by what the list says of it, is the entry that comes.
pub(crate) fn every_entry_is_found() -> anyhow::Result<()> {
    let namespace = table_of_everything()?;
    let list = output(&namespace, &["list", "-o", "json"])?;
    for line in list.lines() {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        let original = &entry["original"];
        let mut words = vec!["proto".to_owned(), entry["protocol_number"].to_string()];
        for (key, word) in [
            ("source", "src"),
            ("destination", "dst"),
            ("source_port", "sport"),
            ("destination_port", "dport"),
            ("source_key", "sport"),
            ("destination_key", "dport"),
            ("icmp_type", "icmp-type"),
            ("icmp_code", "icmp-code"),
            ("icmp_id", "icmp-id"),
        ] {
            if let Some(value) = original.get(key) {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                words.extend([word.to_owned(), value]);
            }
        }
        let zone = match entry["zone_direction"].as_str() {
            Some("original") => "orig-zone",
            Some("reply") => "reply-zone",
            _ => "zone",
        };
        words.extend([zone.to_owned(), entry["zone"].to_string()]);
        if entry["protocol"] == "dccp" {
            // A kernel that does not track it knows no ports of it.
            words.extend(["sport".to_owned(), "0".to_owned(), "dport".to_owned(), "0".to_owned()]);
        }
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (code, found) = object(&namespace, &[&["get", "--json"], &words[..]].concat())?;
        ensure!(code == Some(0) && found["id"] == entry["id"], "{words:?}: {line}\n{found}");
    }
    ensure!(list.lines().count() > 30, "{list}");
    Ok(())
}

pub(crate) fn an_absent_entry() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    for extra in [&[][..], &["--json"], &["-o", "xml"]] {
        let words = ["get", "tcp", "10.0.0.1:1", "10.0.0.2:2", "zone", "7"];
        let output = tell(&namespace, &[&words[..], extra].concat())?;
        ensure!(output.code == Some(1) && output.stdout.is_empty(), "{output:?}");
        ensure!(
            output.stderr.trim() == "There is no entry 10.0.0.1:1 → 10.0.0.2:2 (tcp) in zone 7.",
            "{output:?}"
        );
    }
    Ok(())
}

pub(crate) fn what_is_added_is_there() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let add = |words: &str| -> anyhow::Result<serde_json::Value> {
        let words: Vec<_> = words.split(' ').collect();
        let (code, entry) = object(&namespace, &[&["add", "--json"], &words[..]].concat())?;
        ensure!(code == Some(0), "{words:?}: {entry}");
        Ok(entry)
    };
    let entry =
        add("tcp 10.0.0.1:4000 10.0.0.2:80 --timeout 1h --status assured,replied --mark 0x10")?;
    ensure!(entry["state"] == "ESTABLISHED" && entry["assured"] == true, "{entry}");
    ensure!(
        entry["mark"] == 16 && entry["timeout"].as_u64().context("a timeout")? > 3590,
        "{entry}"
    );
    let entry = add(
        "tcp 10.0.0.1:4001 10.0.0.2:80 --timeout 5m --state SYN_SENT --dnat 192.0.2.2:8080 --snat 192.0.2.1:61000",
    )?;
    ensure!(
        entry["reply"]["source_port"] == 8080 && entry["reply"]["destination"] == "192.0.2.1",
        "{entry}"
    );
    ensure!(
        entry["state"] == "SYN_SENT" && entry["status"].to_string().contains("DST_NAT"),
        "{entry}"
    );
    let entry = add("udp [fd00::1]:1 [fd00::2]:2 zone 5 --timeout 2m --status fixed_timeout")?;
    ensure!(entry["zone"] == 5 && entry["status"].to_string().contains("FIXED_TIMEOUT"), "{entry}");
    let entry = add("icmp 10.0.0.1 10.0.0.2 icmp-id 9 --timeout 30s")?;
    ensure!(entry["reply"]["icmp_type"] == 0 && entry["reply"]["icmp_id"] == 9, "{entry}");
    let entry = add("sctp 10.0.0.1:1 10.0.0.2:2 --timeout 30s --state COOKIE_WAIT")?;
    ensure!(entry["state"] == "COOKIE_WAIT", "{entry}");
    let entry = add("tcp 10.0.0.1:4021 10.0.0.2:21 --timeout 1h --helper ftp")?;
    ensure!(entry["helper"] == "ftp", "{entry}");
    let arguments = ["add", "udp", "10.0.0.1:8", "10.0.0.2:8", "--timeout", "300d"];
    let output = tell(&namespace, &arguments)?;
    ensure!(output.code == Some(0) && output.stderr.contains("holds no longer"), "{output:?}");
    let arguments = ["add", "udp", "10.0.0.1:7", "10.0.0.2:7", "--timeout", "1m", "--label", "5"];
    let output = tell(&namespace, &arguments)?;
    ensure!(output.code == Some(0) && output.stderr.contains("labels did not stick"), "{output:?}");
    Ok(())
}

pub(crate) fn an_existing_entry_is_left_alone() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let words = ["add", "udp", "10.0.0.1:1", "10.0.0.2:2", "--timeout", "1h", "--mark"];
    ensure!(tell(&namespace, &[&words[..], &["1"]].concat())?.code == Some(0));
    let output = tell(&namespace, &[&words[..], &["2"]].concat())?;
    ensure!(output.code == Some(1) && output.stdout.is_empty(), "{output:?}");
    ensure!(output.stderr.contains("exists already"), "{output:?}");
    let (_, entry) = object(&namespace, &["get", "--json", "udp", "10.0.0.1:1", "10.0.0.2:2"])?;
    ensure!(entry["mark"] == 1, "{entry}");
    // What a helper's name may be is the kernel's to say.
    let mut command = in_namespace(&namespace, &words[..6]);
    command.args(["--helper", "no-such-helper", "zone", "3"]);
    let output = fed(&mut command, "")?;
    ensure!(
        output.code == Some(1) && output.stderr.contains("no helper `no-such-helper` for udp"),
        "{output:?}"
    );
    Ok(())
}
