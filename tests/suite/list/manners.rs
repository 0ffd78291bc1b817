//! How `list` behaves toward pipes, terminals, namespaces and those without privilege.

use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use ctkeeper_tests::{Filling, Namespace, ctkeeper, ctkeeper_path, fill, run};

use super::support::{in_namespace, lines};

const ESTABLISHED: Filling = Filling::Established { timeout: 4000 };

pub(crate) fn a_broken_pipe_is_success() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 20_000, ESTABLISHED)?;
    for format in ["text", "json", "columns"] {
        let mut child = in_namespace(&namespace, &["list", "-o", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut first = [0; 100];
        child.stdout.take().context("no standard output")?.read_exact(&mut first)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.code() == Some(0), "{format}: {}", output.status);
        ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

pub(crate) fn the_limit_stops() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 2000, ESTABLISHED)?;
    for (limit, expected) in [("0", 0), ("1", 1), ("7", 7), ("99999", 2000)] {
        let output = run(&mut in_namespace(&namespace, &["list", "--limit", limit]))?;
        ensure!(output.code == Some(0) && output.stdout.lines().count() == expected, "{output:?}");
    }
    let output = run(&mut in_namespace(&namespace, &["list", "--limit", "7"]))?;
    ensure!(output.stderr.contains("the table holds 2,000"), "{}", output.stderr);
    Ok(())
}

pub(crate) fn memory_does_not_grow() -> anyhow::Result<()> {
    let (few, many) = (Namespace::create()?, Namespace::create()?);
    fill(&few, 0, 4000, ESTABLISHED)?;
    fill(&many, 0, 60_000, ESTABLISHED)?;
    for format in ["text", "json", "columns"] {
        let (few, many) = (peak_kibibytes(&few, format)?, peak_kibibytes(&many, format)?);
        // 56,000 entries more, kept, would be some 20 MiB; pages of the program come and go.
        ensure!(few > 0 && many <= few + 1024, "{format}: {few} KiB, then {many} KiB");
    }
    Ok(())
}

/// The largest resident memory of a list while it writes.
fn peak_kibibytes(namespace: &Namespace, format: &str) -> anyhow::Result<u64> {
    let mut child = in_namespace(namespace, &["list", "-o", format])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut output = child.stdout.take().context("no standard output")?;
    let (mut buffer, mut peak) = (vec![0; 1 << 16], 0);
    while output.read(&mut buffer)? > 0 {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("");
        peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0));
    }
    ensure!(child.wait()?.success());
    Ok(peak)
}

pub(crate) fn unknown_namespaces_are_errors() -> anyhow::Result<()> {
    for command in ["list", "count", "stats", "watch"] {
        let output = run(&mut ctkeeper(&[command, "--netns", "no-such-namespace"]))?;
        ensure!(output.code == Some(1) && output.stdout.is_empty(), "{command}: {output:?}");
        ensure!(output.stderr.contains("no-such-namespace"), "{}", output.stderr);
        let output = run(&mut ctkeeper(&[command, "--netns", "net:[x]"]))?;
        ensure!(output.code == Some(64), "{command}: {output:?}");
    }
    let mut ended = Command::new("true").spawn()?;
    let pid = ended.id().to_string();
    ended.wait()?;
    let output = run(&mut ctkeeper(&["list", "--netns", &pid]))?;
    ensure!(output.code == Some(1) && output.stderr.contains("process"), "{output:?}");
    let output = run(&mut ctkeeper(&["watch", "--netns", "all"]))?;
    ensure!(output.code == Some(64) && output.stderr.contains("one namespace"), "{output:?}");
    Ok(())
}

pub(crate) fn without_privilege_it_says_so() -> anyhow::Result<()> {
    for command in ["list", "count --exact", "stats", "watch"] {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
        setpriv.arg(ctkeeper_path()).args(command.split(' ')).stdin(Stdio::null());
        let output = run(&mut setpriv)?;
        ensure!(output.code == Some(1) && output.stdout.is_empty(), "{command}: {output:?}");
        ensure!(output.stderr.contains("CAP_NET_ADMIN"), "{command}: {}", output.stderr);
    }
    Ok(())
}

pub(crate) fn all_namespaces_with_their_names() -> anyhow::Result<()> {
    let (one, other) = (Namespace::create()?, Namespace::create()?);
    fill(&one, 0, 3, ESTABLISHED)?;
    fill(&other, 0, 5, Filling::HalfOpen)?;
    for (format, tag) in [("text", "netns="), ("json", "\"namespace\":\"")] {
        let output = run(&mut ctkeeper(&["list", "-o", format, "--netns", "all"]))?;
        ensure!(output.code == Some(0), "{}", output.stderr);
        for (namespace, entries) in [(&one, 3), (&other, 5)] {
            let tag = format!("{tag}{}", namespace.name());
            let listed = output.stdout.lines().filter(|line| line.contains(&tag)).count();
            ensure!(listed == entries, "{format}: {listed} of {entries}");
        }
    }
    let output = run(&mut ctkeeper(&["count", "--netns", "all", "--json"]))?;
    // Root sees all that can be seen: there is nothing to advise. Other tests' namespaces may end.
    let advice = output.stderr.lines().any(|line| !line.contains("has ended since it was seen"));
    ensure!(!advice, "{}", output.stderr);
    let counts = output.stdout;
    let expected = format!("{{\"namespace\":\"{}\",\"entries\":5,\"table\":5,", other.name());
    ensure!(counts.lines().any(|line| line.starts_with(&expected)), "{counts}");
    Ok(())
}

/// `host` is the initial namespace from anywhere, unless something else was given that name.
pub(crate) fn host_is_the_initial_namespace() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 3, ESTABLISHED)?;
    let count = format!("{} count --netns host src 10.128.0.0/16", ctkeeper_path().display());
    let named = format!(
        "mount -t tmpfs none /run/netns && touch /run/netns/host && \
         mount --bind /proc/self/ns/net /run/netns/host && {count}"
    );
    for (script, expected) in [(&count, "0\n"), (&named, "3\n")] {
        let output = namespace.run("unshare", &["-m", "sh", "-c", script])?;
        ensure!(output == expected, "{script}: {output}");
    }
    let output = run(&mut ctkeeper(&["count", "--netns", "net:[x]"]))?;
    ensure!(output.stderr.contains("current, host or all"), "{}", output.stderr);
    Ok(())
}

/// One line for all namespaces that fail alike, and a word about those that cannot be seen.
pub(crate) fn shared_causes_are_named_once() -> anyhow::Result<()> {
    let _others = Namespace::create_many(4)?;
    let without = |capability: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set", capability, "--inh-caps", capability]);
        run(setpriv.arg(ctkeeper_path()).args(["count", "--netns", "all"]))
    };
    let output = without("-sys_admin")?;
    ensure!(output.code == Some(1), "{output:?}");
    let failures: Vec<_> = output.stderr.lines().filter(|line| line.contains("enter")).collect();
    ensure!(failures.len() == 1, "{}", output.stderr);
    ensure!(
        failures[0].contains(" more): cannot enter: Operation not permitted; "),
        "{failures:?}"
    );
    ensure!(!output.stderr.contains("net:[0]"), "{failures:?}");
    let output = without("-sys_ptrace")?;
    ensure!(output.stderr.contains("hidden (seeing all of them needs root)"), "{output:?}");
    Ok(())
}

pub(crate) fn namespaces_may_come_and_go() -> anyhow::Result<()> {
    let standing = Namespace::create()?;
    fill(&standing, 0, 3, ESTABLISHED)?;
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            for _ in 0..10 {
                let namespaces = Namespace::create_many(8)?;
                fill(&namespaces[0], 0, 500, ESTABLISHED)?;
            }
            anyhow::Ok(())
        });
        let mut lists = 0;
        while !churn.is_finished() || lists < 5 {
            let output = run(&mut ctkeeper(&["list", "-o", "text", "--netns", "all"]))?;
            ensure!(output.code == Some(0), "{}", output.stderr);
            let tag = format!("netns={}", standing.name());
            ensure!(output.stdout.lines().filter(|line| line.ends_with(&tag)).count() == 3);
            lists += 1;
        }
        churn.join().map_err(|_| anyhow::anyhow!("the churn panicked"))?
    })
}

/// Runs a command line on a terminal of 100 columns.
fn on_terminal(environment: &str, arguments: &str) -> anyhow::Result<String> {
    on_terminal_of(100, environment, arguments)
}

/// Runs a command line on a terminal that is so wide.
fn on_terminal_of(columns: usize, environment: &str, arguments: &str) -> anyhow::Result<String> {
    let line = format!(
        "stty rows 40 cols {columns}; {environment} {} {arguments}",
        ctkeeper_path().display()
    );
    let output =
        run(Command::new("script").args(["-qec", &line, "/dev/null"]).env("TERM", "xterm"))?;
    ensure!(output.code == Some(0), "{output:?}");
    Ok(output.stdout.replace('\r', ""))
}

pub(crate) fn a_terminal_gets_columns() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 3, ESTABLISHED)?;
    let arguments = format!("list --netns {}", namespace.name());
    let plain = on_terminal("NO_COLOR=1", &arguments)?;
    ensure!(!plain.contains('\x1b'), "{plain:?}");
    let header = plain.lines().next().unwrap_or_default();
    ensure!(header.starts_with("PROTO  STATE        EXPIRES  SOURCE"), "{plain}");
    ensure!(plain.contains("10.128.0.0:10002  10.77.0.1:443"), "{plain}");
    ensure!(plain.lines().all(|line| line.chars().count() <= 100), "{plain}");
    let coloured = on_terminal("", &arguments)?;
    ensure!(coloured.contains("\x1b["), "{coloured:?}");
    ensure!(lines(&namespace, &["list", "-o", "columns"])?.iter().all(|l| !l.contains('\x1b')));
    Ok(())
}

/// What is said, in tables and beside them, is folded between words.
pub(crate) fn a_narrow_terminal_folds_words() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 1234, Filling::HalfOpen)?;
    for arguments in ["list bytes gt 1 or age gt 1", "stats", "count"] {
        let arguments = format!("{arguments} --netns {}", namespace.name());
        let shown = on_terminal_of(50, "NO_COLOR=1", &arguments)?;
        ensure!(shown.lines().all(|line| line.chars().count() <= 50), "{shown}");
        ensure!(shown.contains("1,234"), "{shown}");
        let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        if arguments.starts_with("list") {
            ensure!(
                words.contains("nf_conntrack_acct is 0, or was when they were made."),
                "{shown}"
            );
        }
    }
    Ok(())
}

pub(crate) fn hostile_names_stay_harmless() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 2, ESTABLISHED)?;
    // A second name for the same namespace; the guard removes the first, this test the second.
    let name = format!("ctk-{}-\x1b[31mevil", std::process::id());
    let path = namespace.path().with_file_name(&name);
    std::fs::File::create(&path)?;
    let _removed = RemoveName(name);
    let mount = run(Command::new("mount").arg("--bind").arg(namespace.path()).arg(&path))?;
    ensure!(mount.code == Some(0), "{mount:?}");
    let shown = on_terminal("NO_COLOR=1", "list --netns all -o columns")?;
    ensure!(!shown.contains('\x1b'), "{shown:?}");
    for format in ["text", "json"] {
        let output = run(&mut ctkeeper(&["list", "--netns", "all", "-o", format]))?;
        ensure!(!output.stdout.contains('\x1b') && !output.stderr.contains('\x1b'), "{output:?}");
    }
    Ok(())
}

/// A name under `/run/netns`, removed when this goes.
struct RemoveName(String);

impl Drop for RemoveName {
    fn drop(&mut self) {
        // A guard must not panic; what is left the harness removes by its prefix.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
