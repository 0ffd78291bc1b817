//! Who is asked, and what is done without an answer.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_tests::{Namespace, ctkeeper_path};

use super::support::{count, ensure_same, load, object, picture, table_of_everything, tell};

/// Commands that touch several entries, and a piece of what they say.
const SEVERAL: [(&[&str], &str); 3] = [
    (&["delete", "tcp"], "will be deleted:"),
    (&["update", "tcp", "--mark", "99"], "will be changed:"),
    (&["flush"], "of this namespace will be deleted:"),
];

pub(crate) fn without_a_terminal() -> anyhow::Result<()> {
    let namespace = table_of_everything()?;
    let before = picture(&namespace)?;
    for (command, says) in SEVERAL {
        for extra in [&[][..], &["--dry-run"]] {
            let output = tell(&namespace, &[command, extra].concat())?;
            ensure!(output.code == Some(4), "{command:?}: {output:?}");
            ensure!(
                output.stdout.contains(says) && output.stdout.contains(" more\n"),
                "{output:?}"
            );
            ensure!(output.stdout.contains("--yes") == extra.is_empty(), "{output:?}");
            ensure!(output.stderr.trim() == "Nothing was changed.", "{output:?}");
        }
    }
    let output = tell(&namespace, &["delete", "nat", "--dry-run"])?;
    ensure!(output.stdout.contains("6 of them are translated (NAT: Kubernetes"), "{output:?}");
    ensure_same(&before, &picture(&namespace)?)?;
    // One entry is what was meant.
    let output = tell(&namespace, &["delete", "zone 5"])?;
    ensure!(output.code == Some(0) && output.stderr.trim() == "1 entry deleted.", "{output:?}");
    let output = tell(&namespace, &["delete", "zone 9", "--dry-run"])?;
    ensure!(output.code == Some(4) && count(&namespace, "zone 9")? == 1, "{output:?}");
    Ok(())
}

/// ctkeeper on a terminal of its own.
fn on_a_terminal(namespace: &Namespace, arguments: &str) -> anyhow::Result<std::process::Child> {
    let line = format!("{} {arguments} --netns {}", ctkeeper_path().display(), namespace.name());
    Ok(Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?)
}

pub(crate) fn a_terminal_is_asked() -> anyhow::Result<()> {
    for (arguments, question) in
        [("delete tcp", "Delete?"), ("update tcp --mark 99", "Change?"), ("flush", "Flush?")]
    {
        for (answer, code) in [("\n", 4), ("n\n", 4), ("maybe\n", 4), ("y\n", 0), ("yes\n", 0)] {
            let namespace = table_of_everything()?;
            let (before, tcp) = (picture(&namespace)?, count(&namespace, "tcp")?);
            let mut child = on_a_terminal(&namespace, arguments)?;
            child.stdin.take().context("script takes input")?.write_all(answer.as_bytes())?;
            let output = child.wait_with_output()?;
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(shown.contains(&format!("{question} [y/N]")), "{shown}");
            // Columns, or lines where those have no room for translation and zone.
            let has_entries = shown.contains("PROTO") || shown.contains(" src=10.0.0.");
            ensure!(has_entries && shown.contains(" more"), "{shown}");
            ensure!(output.status.code() == Some(code), "{answer:?}: {:?}\n{shown}", output.status);
            match (code, arguments) {
                (4, _) => ensure_same(&before, &picture(&namespace)?)?,
                (_, "delete tcp") => ensure!(count(&namespace, "tcp")? == 0, "{shown}"),
                (_, "flush") => ensure!(count(&namespace, "")? == 0, "{shown}"),
                _ => ensure!(count(&namespace, "mark 99")? == tcp, "{shown}"),
            }
        }
    }
    Ok(())
}

/// While somebody thinks, connections end, change, and begin.
pub(crate) fn what_changed_meanwhile_stays() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let entry = |sport, mark| {
        format!("-I -t 4000 -p udp -s 10.0.0.1 -d 10.0.0.2 --sport {sport} --dport 53 -m {mark}\n")
    };
    load(&namespace, &(1..=4).map(|sport| entry(sport, 5)).collect::<String>())?;
    let mut child = on_a_terminal(&namespace, "delete mark 5")?;
    let mut shown = child.stdout.take().context("script writes")?;
    let (mut text, mut piece) = (String::new(), [0; 4096]);
    while !text.contains("[y/N]") {
        let length = shown.read(&mut piece)?;
        ensure!(length > 0, "it ended without a question: {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    // One is marked anew, one ends, one begins.
    namespace
        .run("conntrack", &["-U", "-p", "udp", "--sport", "2", "-s", "10.0.0.1", "-m", "6"])?;
    namespace.run("conntrack", &["-D", "-p", "udp", "--sport", "3", "-s", "10.0.0.1"])?;
    load(&namespace, &entry(9, 5))?;
    std::thread::sleep(Duration::from_millis(50));
    child.stdin.take().context("script takes input")?.write_all(b"y\n")?;
    let status = child.wait()?;
    shown.read_to_string(&mut text)?;
    ensure!(status.code() == Some(0), "{text}");
    ensure!(text.contains("2 entries deleted, 2 no longer matched and stayed."), "{text}");
    for (sport, left) in [(1, 0), (2, 1), (3, 0), (4, 0), (9, 1)] {
        ensure!(count(&namespace, &format!("sport {sport}"))? == left, "{sport}: {text}");
    }
    Ok(())
}

pub(crate) fn json_tells_what_was_done() -> anyhow::Result<()> {
    let namespace = table_of_everything()?;
    let tcp = count(&namespace, "tcp")?;
    for (command, _) in SEVERAL {
        let (code, told) = object(&namespace, &[command, &["--json"]].concat())?;
        ensure!(code == Some(4) && told["outcome"] == "planned", "{command:?}: {told}");
        ensure!(told["schema"] == "ctkeeper.entries/1" && told["command"] == command[0], "{told}");
        ensure!(told["done"] == 0 && told["matched"].as_u64() >= Some(tcp as u64), "{told}");
    }
    let (_, told) = object(&namespace, &["delete", "tcp", "--json", "--dry-run"])?;
    let sample = told["sample"].as_array().context("a sample")?;
    ensure!(sample.len() == 5 && sample[0]["protocol"] == "tcp", "{told}");
    let (code, told) = object(&namespace, &["delete", "tcp", "--json", "--yes"])?;
    ensure!(code == Some(0) && told["outcome"] == "done" && told["done"] == tcp, "{told}");
    let (code, told) = object(&namespace, &["delete", "tcp", "--json", "--yes"])?;
    ensure!(code == Some(0) && told["outcome"] == "nothing-to-do" && told["done"] == 0, "{told}");
    Ok(())
}
