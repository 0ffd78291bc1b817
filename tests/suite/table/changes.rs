//! Several entries: deleted, changed, all of them flushed.

use anyhow::ensure;
use ctkeeper_tests::{Filling, Namespace, fill};

use super::support::{
    LABELLING, count, ensure_same, load, object, output, picture, table_of_everything, tell,
};

/// What matches goes, everything else stays.
pub(crate) fn a_filter_says_what_goes() -> anyhow::Result<()> {
    for filter in [
        "tcp dport 443",
        "src 10.0.0.4",
        "ipv6",
        "src fd77:1::/32",
        "not assured",
        "zone 5",
        "mark 16 or state SYN_SENT",
        "nat",
        "helper ftp",
        "label 7",
        "proto 200",
        "timeout > 1h",
    ] {
        let namespace = table_of_everything()?;
        let (all, meant) = (picture(&namespace)?, count(&namespace, filter)?);
        let rest = output(&namespace, &["list", "-o", "json", &format!("not ({filter})")])?;
        let output = tell(&namespace, &["delete", filter, "--yes"])?;
        let noun = if meant == 1 { "entry" } else { "entries" };
        ensure!(meant > 0 && output.code == Some(0), "{filter}: {output:?}");
        ensure!(output.stderr.trim() == format!("{meant} {noun} deleted."), "{filter}: {output:?}");
        let left = picture(&namespace)?;
        // A master takes its child along.
        let follower = usize::from(filter == "helper ftp");
        ensure!(left.len() + follower >= rest.lines().count(), "{filter}");
        ensure!(left.iter().all(|entry| all.contains(entry)), "{filter}: others were changed");
        ensure!(count(&namespace, filter)? == 0, "{filter}");
    }
    Ok(())
}

pub(crate) fn thousands_go_in_one_call() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 3000, Filling::Established { timeout: 4000 })?;
    fill(&namespace, 3000, 5000, Filling::HalfOpen)?;
    let half_open = count(&namespace, "not assured")?;
    let (code, told) = object(&namespace, &["delete", "not assured", "--yes", "--json"])?;
    ensure!(half_open > 0 && code == Some(0) && told["done"] == half_open, "{told}");
    ensure!(told["matched"] == half_open && told["failed"] == 0 && told["gone"] == 0, "{told}");
    ensure!(count(&namespace, "")? == 5000 - half_open);
    Ok(())
}

pub(crate) fn marks_timeouts_and_bits_change() -> anyhow::Result<()> {
    let namespace = table_of_everything()?;
    let changed = |arguments: &[&str], filter: &str, expected: usize| -> anyhow::Result<()> {
        let output = tell(&namespace, &[&["update", "--yes"], arguments].concat())?;
        ensure!(output.code == Some(0) && output.stdout.is_empty(), "{arguments:?}: {output:?}");
        let found = count(&namespace, filter)?;
        ensure!(found == expected, "{arguments:?}: {found} of {expected}: {output:?}");
        Ok(())
    };
    let https = count(&namespace, "tcp dport 443")?;
    changed(&["tcp dport 443", "--mark", "0x35"], "mark 0x35", https)?;
    changed(&["mark 0x35", "--mark", "0x40/0xf0"], "mark 0x45", https)?;
    let untimed = "tcp dport 443 not fixed_timeout";
    changed(&[untimed, "--timeout", "10m"], "tcp dport 443 timeout < 601", https - 1)?;
    let udp = count(&namespace, "udp")?;
    changed(&["udp", "--status", "assured,seen_reply"], "udp assured replied", udp)?;
    changed(&["zone 5", "--mark", "9"], "mark 9 zone 5", 1)?;
    changed(&["orig-zone 7", "--mark", "9"], "mark 9 orig-zone 7", 1)?;
    changed(&["reply-zone 65535", "--mark", "9"], "mark 9 reply-zone 65535", 1)?;
    let output = tell(&namespace, &["update", "fixed_timeout", "--timeout", "1m"])?;
    ensure!(
        output.code == Some(1) && output.stderr.contains("0 entries updated, 1 failed."),
        "{output:?}"
    );
    ensure!(output.stderr.contains("its timeout is fixed (FIXED_TIMEOUT)"), "{output:?}");
    ensure!(!output.stderr.contains("run as root"), "root is told to be root: {output:?}");
    let output = tell(&namespace, &["update", "dport 1 dport 2", "--mark", "1", "--yes"])?;
    ensure!(
        output.code == Some(0) && output.stderr.contains("0 entries updated: none matches."),
        "{output:?}"
    );
    Ok(())
}

pub(crate) fn labels_stick_where_used() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let tcp = |sport| {
        format!(
            "-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport {sport} --dport 80 --state ESTABLISHED\n"
        )
    };
    load(&namespace, &tcp(1))?;
    let output = tell(&namespace, &["update", "tcp", "--label-add", "7", "--mark", "5"])?;
    ensure!(output.code == Some(1) && output.stderr.contains("`ct label`"), "{output:?}");
    ensure!(output.stderr.contains("the entry has no room for labels"), "{output:?}");
    ensure!(count(&namespace, "mark 5")? == 0, "what fails is not done in part");
    namespace.nft(LABELLING)?;
    load(&namespace, &tcp(2))?;
    let output = tell(&namespace, &["update", "sport 2", "--label-add", "7,127", "--mark", "5"])?;
    ensure!(
        output.code == Some(0) && count(&namespace, "label 7 label 127 mark 5")? == 1,
        "{output:?}"
    );
    let output =
        tell(&namespace, &["update", "sport 2", "--label-add", "1", "--label-remove", "7"])?;
    let found = count(&namespace, "label 1 label 127 not label 7 mark 5")?;
    ensure!(output.code == Some(0) && found == 1, "{output:?}");
    Ok(())
}

pub(crate) fn a_flush_empties_one_namespace() -> anyhow::Result<()> {
    let (one, other) = (table_of_everything()?, table_of_everything()?);
    let before = picture(&other)?;
    let output = tell(&one, &["flush", "--yes"])?;
    ensure!(output.code == Some(0) && output.stdout.is_empty(), "{output:?}");
    ensure!(output.stderr.trim() == format!("{} entries deleted.", before.len()), "{output:?}");
    ensure!(count(&one, "")? == 0);
    ensure_same(&before, &picture(&other)?)?;
    tell(&one, &["add", "udp", "10.0.0.1:1", "10.0.0.2:2", "--timeout", "1m"])?;
    // One entry needs no question where it alone is meant: a flush takes what has come since too.
    let output = tell(&one, &["flush"])?;
    ensure!(output.code == Some(4) && count(&one, "")? == 1, "{output:?}");
    tell(&one, &["flush", "--yes"])?;
    for empty in [&["flush"][..], &["flush", "--dry-run"], &["flush", "--expectations"]] {
        let output = tell(&one, empty)?;
        ensure!(output.code == Some(0) && output.stderr.contains("there is none"), "{output:?}");
    }
    Ok(())
}

/// As a listener sees it: what a filter does not mean sends no destroy event.
pub(crate) fn no_filtered_flush() -> anyhow::Result<()> {
    let namespace = table_of_everything()?;
    let expected = count(&namespace, "")? - count(&namespace, "tcp")?;
    let mut listener = namespace.command("timeout");
    listener.args(["5", "conntrack", "-E", "-e", "DESTROY"]);
    let child = listener
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    load(&namespace, "-I -t 4000 -p udp -s 10.9.0.1 -d 10.9.0.2 --sport 1 --dport 1\n")?;
    let output = tell(&namespace, &["delete", "tcp or src 10.9.0.1", "--yes"])?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(count(&namespace, "")? == expected, "more than the filter means has gone");
    let seen = child.wait_with_output()?;
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    ensure!(seen.lines().all(|line| line.contains("tcp ") || line.contains("10.9.0.1")), "{seen}");
    ensure!(seen.contains("10.9.0.1"), "the listener heard nothing: {seen}");
    Ok(())
}
