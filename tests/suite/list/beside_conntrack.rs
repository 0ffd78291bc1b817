//! `list -o text` is what `conntrack -L` prints.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_flow::{Flow, Protocol, Status, json, text};
use ctkeeper_tests::Namespace;

use super::support::{lines, table_of_everything, traffic};

/// Seconds that may pass between two lists on a busy machine.
const APART: u64 = 5;

pub(crate) fn text_is_conntracks() -> anyhow::Result<()> {
    same_as_conntrack(&table_of_everything(false, false)?)
}

pub(crate) fn with_counters_and_times() -> anyhow::Result<()> {
    for (counted, stamped) in [(true, false), (false, true), (true, true)] {
        let namespace = table_of_everything(counted, stamped)?;
        same_as_conntrack(&namespace)?;
        let list = lines(&namespace, &["list", "-o", "text"])?;
        ensure!(list.iter().all(|line| line.contains(" packets=") == counted));
        ensure!(list.iter().all(|line| line.contains(" delta-time=") == stamped));
    }
    Ok(())
}

pub(crate) fn of_real_traffic() -> anyhow::Result<()> {
    let (namespace, _sockets) = traffic()?;
    same_as_conntrack(&namespace)?;
    let translated = lines(&namespace, &["list", "-o", "text", "dnat"])?;
    ensure!(translated.len() == 1 && translated[0].contains("src=10.5.0.2"), "{translated:?}");
    ensure!(translated[0].contains("mark=42"), "{translated:?}");
    ensure!(lines(&namespace, &["list", "snat", "udp"])?.len() == 1);
    // A label is a bit, so its entries are those of the rule's chain: all of them.
    let labelled = lines(&namespace, &["list", "--json", "label 3"])?;
    ensure!(!labelled.is_empty() && labelled.iter().all(|line| line.contains("\"labels\":[3]")));
    ensure!(lines(&namespace, &["list", "tcp ipv6 assured"])?.len() == 1);
    Ok(())
}

pub(crate) fn json_carries_the_same() -> anyhow::Result<()> {
    let namespace = table_of_everything(true, true)?;
    let from_text: Vec<Flow> = lines(&namespace, &["list", "-o", "text", "--id"])?
        .iter()
        .map(|line| text::parse(line))
        .collect::<Result<_, _>>()?;
    let from_json: Vec<Flow> = lines(&namespace, &["list", "--json"])?
        .iter()
        .map(|line| json::parse(line))
        .collect::<Result<_, _>>()?;
    ensure!(from_text.len() == from_json.len());
    for (from_text, from_json) in from_text.iter().zip(&from_json) {
        // Text shows ports of 0 where the kernel sends none.
        if from_text.protocol() != Protocol::DCCP {
            ensure!(from_text.original == from_json.original);
            ensure!(from_text.reply == from_json.reply);
        }
        ensure!(from_text.state.name() == from_json.state.name());
        ensure!((from_text.id, from_text.mark) == (from_json.id, from_json.mark));
        ensure!(from_text.zone == from_json.zone);
        ensure!(from_text.counters_original == from_json.counters_original);
        // What the text lacks is inferred as the kernel has it.
        let inferred = Status::SEEN_REPLY | Status::CONFIRMED | Status::SRC_NAT | Status::DST_NAT;
        ensure!(from_text.status & inferred == from_json.status & inferred, "{from_json:?}");
        ensure!(from_json.timestamps.is_some());
    }
    Ok(())
}

pub(crate) fn proc_reads_back() -> anyhow::Result<()> {
    let namespace = table_of_everything(true, false)?;
    let proc = namespace.run("cat", &["/proc/net/nf_conntrack"])?;
    let mut read = tuples(proc.lines())?;
    let list = lines(&namespace, &["list", "-o", "text"])?;
    let mut listed = tuples(list.iter().map(String::as_str))?;
    // `/proc` shows no ports of a protocol that the kernel does not track.
    for set in [&mut read, &mut listed] {
        set.retain(|tuple| !tuple.contains("dccp"));
        set.sort();
    }
    ensure!(read == listed, "{read:#?}\n{listed:#?}");
    Ok(())
}

fn tuples<'a>(lines: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<String>> {
    lines
        .filter(|line| !line.contains("unknown  33 "))
        .map(|line| {
            let flow = text::parse(line).with_context(|| line.to_owned())?;
            let (zone, mark) = (flow.zone, flow.mark);
            Ok(format!("{} {} {zone:?} {mark:?} {:?}", flow.original, flow.reply, flow.status))
        })
        .collect()
}

/// Both print the same lines, with and without the family and the id.
fn same_as_conntrack(namespace: &Namespace) -> anyhow::Result<()> {
    for (theirs, ours) in [
        (&["-L"][..], &["list", "-o", "text"][..]),
        (&["-L", "-o", "extended,id"], &["list", "-o", "text", "--extended", "--id"]),
        (&["-L", "-f", "ipv6"], &["list", "ipv6"]),
    ] {
        let mut difference = String::new();
        // The two look one after the other: a state may change in between, and a neighbour may
        // have the hash table rebuilt, which any dump can miss entries in. Not time and again.
        for _ in 0..4 {
            difference = differences(namespace, theirs, ours)?;
            if difference.is_empty() {
                break;
            }
            sleep(Duration::from_millis(200));
        }
        ensure!(difference.is_empty(), "{ours:?}:\n{difference}");
    }
    Ok(())
}

/// The lines that only one of them prints, and times that are too far apart.
fn differences(namespace: &Namespace, theirs: &[&str], ours: &[&str]) -> anyhow::Result<String> {
    let peer = namespace.run("conntrack", theirs)?;
    let mut peer: Vec<_> = peer.lines().map(masked).collect();
    let own = lines(namespace, ours)?;
    let mut own: Vec<_> = own.iter().map(|line| masked(line)).collect();
    peer.sort();
    own.sort();
    ensure!(!own.is_empty());
    let only = |who: &str, these: &[Masked], those: &[Masked]| {
        let missing = these.iter().filter(|(line, _)| those.iter().all(|(other, _)| other != line));
        missing.fold(String::new(), |all, (line, _)| all + "only " + who + ": " + line + "\n")
    };
    let mut difference = only("theirs", &peer, &own) + &only("ours", &own, &peer);
    if difference.is_empty() {
        ensure!(peer.len() == own.len(), "{} and {} lines", peer.len(), own.len());
        for ((line, theirs), (_, ours)) in peer.iter().zip(&own) {
            if theirs.iter().zip(ours).any(|(a, b)| a.abs_diff(*b) > APART) {
                difference += &format!("{theirs:?} and {ours:?}: {line}\n");
            }
        }
    }
    Ok(difference)
}

type Masked = (String, Vec<u64>);

/// A line without its timeout and age, and those.
fn masked(line: &str) -> Masked {
    let mut times = Vec::new();
    // The timeout is the third word, or the fifth behind a family.
    let place = if line.starts_with("ipv") { 4 } else { 2 };
    let mut filled = 0;
    let words: Vec<String> = line
        .split(' ')
        .map(|word| {
            let is_timeout = !word.is_empty() && filled == place;
            filled += usize::from(!word.is_empty());
            let time = if is_timeout { Some(word) } else { word.strip_prefix("delta-time=") };
            match time.and_then(|time| time.parse().ok()) {
                Some(time) => {
                    times.push(time);
                    "TIME".to_owned()
                }
                None => word.to_owned(),
            }
        })
        .collect();
    (words.join(" "), times)
}
