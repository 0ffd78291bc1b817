//! Restoring what is not as it should be.

use std::io::Write;

use anyhow::ensure;
use ctkeeper_tests::{Filling, Namespace, Output, fill};

use super::support::{count, fed, in_namespace, load, object, output, tell};

const GOOD: &str = "-A -t 4000 -s 10.0.0.1 -d 10.0.0.2 -p udp --sport 1 --dport 2";

fn restore(namespace: &Namespace, extra: &[&str], lines: &str) -> anyhow::Result<Output> {
    fed(&mut in_namespace(namespace, &[&["restore", "-"], extra].concat()), lines)
}

pub(crate) fn bad_lines_are_named() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let lines = format!(
        "# a comment\n\n{GOOD}\n-A -t x\n{{\"family\":1}}\nnonsense\n-F\n-A -p tcp -s ::1 -d ::2 \
         --sport 1 --dport 2\nudp 17 30 src=10.0.0.1\n\x1b[31m\n{}\n",
        "-A ".repeat(40_000)
    );
    let told = restore(&namespace, &[], &lines)?;
    ensure!(told.code == Some(1) && count(&namespace, "")? == 0, "{told:?}");
    for line in [4, 5, 6, 7, 8, 9, 10, 11] {
        let named = format!("standard input, line {line}: ");
        ensure!(told.stderr.contains(&named), "line {line}: {}", told.stderr);
    }
    ensure!(!told.stderr.contains('\x1b'), "{}", told.stderr);
    ensure!(
        told.stderr.contains("1 entry read, ") && told.stderr.contains("nothing was made."),
        "{}",
        told.stderr
    );
    ensure!(told.stderr.contains("-F` makes no entry"), "{}", told.stderr);
    let told = restore(&namespace, &["--skip-unreadable"], &lines)?;
    ensure!(told.code == Some(1) && count(&namespace, "")? == 1, "{told:?}");
    ensure!(told.stderr.contains("1 made of 1 entry, "), "{}", told.stderr);
    let many = "nonsense\n".repeat(500);
    let told = restore(&namespace, &[], &many)?;
    ensure!(
        told.stderr.contains("490 lines more") && told.stderr.lines().count() < 15,
        "{}",
        told.stderr
    );
    let told = restore(&namespace, &[], "")?;
    ensure!(told.code == Some(0) && told.stderr.trim() == "0 made of 0 entries.", "{told:?}");
    Ok(())
}

pub(crate) fn what_exists_is_counted() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let other = GOOD.replace("--sport 1", "--sport 7");
    let lines = format!("{GOOD}\n{other}\n{GOOD}\n");
    let told = restore(&namespace, &["--dry-run"], &lines)?;
    ensure!(told.code == Some(4) && count(&namespace, "")? == 0, "{told:?}");
    ensure!(told.stderr.trim() == "3 entries read; nothing was made.", "{told:?}");
    let told = restore(&namespace, &[], &lines)?;
    ensure!(told.code == Some(0), "{told:?}");
    ensure!(told.stderr.trim() == "2 made of 3 entries, 1 existed already.", "{told:?}");
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(lines.as_bytes())?;
    let path = file.path().to_string_lossy().into_owned();
    let (code, told) = object(&namespace, &["restore", "--json", &path])?;
    ensure!(code == Some(0) && told["schema"] == "ctkeeper.restore/1", "{told}");
    ensure!(told["existed"] == 3 && told["made"] == 0 && told["outcome"] == "done", "{told}");
    Ok(())
}

pub(crate) fn refusals_are_named_by_line() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let mut lines = String::new();
    for port in 1..=400 {
        let helper = if port == 150 || port == 399 { " helper=no-such-helper" } else { "" };
        lines.push_str(&format!(
            "{}{helper}\n",
            GOOD.replace("--sport 1", &format!("--sport {port}"))
        ));
    }
    // A child whose master is nowhere.
    lines.push_str("-A -t 9 -s 10.0.0.1 -d 10.0.0.2 -p udp --sport 500 --dport 2 master=17,10.9.9.9,10.9.9.8,1,2\n");
    let told = restore(&namespace, &[], &lines)?;
    ensure!(told.code == Some(1) && count(&namespace, "")? == 398, "{told:?}");
    for line in ["line 150: ", "line 399: ", "line 401: "] {
        ensure!(told.stderr.contains(line), "{}", told.stderr);
    }
    ensure!(told.stderr.contains("398 made of 401 entries, 3 failed."), "{}", told.stderr);
    Ok(())
}

pub(crate) fn thousands_are_restored() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 20_000, Filling::Established { timeout: 4000 })?;
    for format in ["save", "json"] {
        let saved = output(&namespace, &["save", "-o", format])?;
        output(&namespace, &["flush", "--yes"])?;
        let told = restore(&namespace, &[], &saved)?;
        ensure!(told.stderr.trim() == "20,000 made of 20,000 entries.", "{told:?}");
        ensure!(count(&namespace, "assured")? == 20_000, "{format}");
    }
    Ok(())
}

pub(crate) fn what_cannot_come_back_is_said() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    for name in ["acct", "timestamp"] {
        namespace.run("sysctl", &["-qw", &format!("net.netfilter.nf_conntrack_{name}=1")])?;
    }
    load(&namespace, &format!("{}\n", GOOD.replace("-A", "-I")))?;
    let saved = output(&namespace, &["save", "-o", "json"])?;
    output(&namespace, &["flush", "--yes"])?;
    let told = restore(&namespace, &[], &saved)?;
    ensure!(told.code == Some(0), "{told:?}");
    let expected =
        "The kernel takes no counters of 1 entry, start times of 1 entry: they begin anew.";
    ensure!(told.stderr.contains(expected), "{}", told.stderr);
    let told = tell(&namespace, &["restore", "/no/such/file"])?;
    ensure!(told.code == Some(1) && told.stderr.contains("/no/such/file"), "{told:?}");
    let told = tell(&namespace, &["restore", "/"])?;
    ensure!(told.code == Some(1), "{told:?}");
    Ok(())
}
