//! Lists from files: the seed's own, saved ones, broken ones.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, ensure};
use ctkeeper_tests::{Filling, Namespace, Output, ctkeeper, fill, run};

use super::support::lines;

/// The seed's listing as it stands there, the prompt's dot and its last words included.
const SEED: &str = "\
tcp      6 1 TIME_WAIT src=150.136.89.255 dst=192.168.2.2 sport=55824 dport=22 src=192.168.2.2 dst=150.136.89.255 sport=22 dport=55824 [ASSURED] use=1
udp      17 13 src=127.0.0.1 dst=127.0.0.53 sport=59443 dport=53 [UNREPLIED] src=127.0.0.53 dst=127.0.0.1 sport=53 dport=59443 use=1
tcp      6 431999 ESTABLISHED src=192.168.2.30 dst=192.168.2.2 sport=61167 dport=22 src=192.168.2.2 dst=192.168.2.30 sport=22 dport=61167 [ASSURED] use=1
udp      17 14 src=192.168.2.2 dst=192.73.248.83 sport=41641 dport=3478 src=192.73.248.83 dst=192.168.2.2 sport=3478 dport=41641 use=1
udp      17 13 src=192.168.2.2 dst=102.67.165.90 sport=41641 dport=3478 src=102.67.165.90 dst=192.168.2.2 sport=3478 dport=41641 use=1
udp      17 13 src=127.0.0.1 dst=127.0.0.53 sport=35164 dport=53 [UNREPLIED] src=127.0.0.53 dst=127.0.0.1 sport=53 dport=35164 use=1
udp      17 13 src=127.0.0.1 dst=127.0.0.53 sport=41767 dport=53 [UNREPLIED] src=127.0.0.53 dst=127.0.0.1 sport=53 dport=41767 use=1
";

pub(crate) fn the_seeds_list_reads() -> anyhow::Result<()> {
    let Output { code, stdout, stderr } = fed(&["list", "--from", "-"], SEED.as_bytes())?;
    ensure!(code == Some(0) && stdout == SEED, "{stdout}{stderr}");
    let pasted = format!("sudo conntrack -L\n{SEED}");
    let Output { code, stdout, stderr } = fed(&["list", "--from", "-"], pasted.as_bytes())?;
    ensure!(code == Some(0) && stdout == SEED, "{stdout}{stderr}");
    for (expression, expected) in
        [("", 7), ("tcp", 2), ("dport 53 unreplied", 3), ("timeout > 1d", 1), ("nat", 0)]
    {
        let output = fed(&["count", "--from", "-", expression], SEED.as_bytes())?;
        ensure!(output.stdout == format!("{expected}\n"), "{expression}: {output:?}");
    }
    Ok(())
}

pub(crate) fn saved_lists_read_back() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 300, Filling::Established { timeout: 4000 })?;
    for format in ["text", "json"] {
        let list = lines(&namespace, &["list", "-o", format, "--id"])?;
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(list.join("\n").as_bytes())?;
        let path = file.path().to_string_lossy().into_owned();
        let output = run(&mut ctkeeper(&["list", "--id", "-o", format, "--from", &path]))?;
        ensure!(output.code == Some(0), "{}", output.stderr);
        ensure!(output.stdout.lines().eq(&list), "{format}");
    }
    Ok(())
}

pub(crate) fn others_are_named() -> anyhow::Result<()> {
    let mut text = SEED.as_bytes().to_vec();
    text.extend_from_slice(b".\ntruncate for readabilty\n{\"family\":1}\n\xff\x1b[31m\n");
    let output = fed(&["list", "--from", "-"], &text)?;
    ensure!(output.code == Some(1) && output.stdout == SEED, "{output:?}");
    for line in 8..=11 {
        ensure!(output.stderr.contains(&format!("standard input, line {line}: ")), "{output:?}");
    }
    ensure!(!output.stderr.contains('\x1b'), "{output:?}");
    let output = run(&mut ctkeeper(&["list", "--from", "/no/such/file"]))?;
    ensure!(output.code == Some(1) && output.stderr.contains("/no/such/file"), "{output:?}");
    let output = run(&mut ctkeeper(&["list", "--from", "-", "--netns", "all"]))?;
    ensure!(output.code == Some(64), "{output:?}");
    Ok(())
}

/// What is no list is said once, and read no further.
pub(crate) fn other_files_are_refused() -> anyhow::Result<()> {
    for command in ["list", "count"] {
        let output = run(&mut ctkeeper(&[command, "--from", "/bin/ls"]))?;
        ensure!(output.code == Some(1) && output.stdout.is_empty(), "{output:?}");
        let refusal = "ctkeeper: /bin/ls is not a list of connections (line 1: ";
        ensure!(output.stderr.starts_with(refusal), "{}", output.stderr);
        ensure!(output.stderr.lines().count() == 1, "{}", output.stderr);
    }
    let long = fed(&["count", "--from", "-"], &vec![b'x'; 10_000_000])?;
    ensure!(long.code == Some(1) && long.stderr.contains("is not a list"), "{long:?}");
    // `conntrack -L > FILE 2>&1` begins with conntrack's closing line.
    let text =
        format!("conntrack v1.4.7 (conntrack-tools): 7 flow entries have been shown.\n{SEED}");
    let output = fed(&["list", "--from", "-"], text.as_bytes())?;
    ensure!(output.code == Some(0) && output.stdout == SEED, "{output:?}");
    Ok(())
}

/// Asked for a few, it says that it has not seen the rest.
pub(crate) fn a_limit_reads_no_further() -> anyhow::Result<()> {
    let output = fed(&["list", "--from", "-", "--limit", "2"], SEED.as_bytes())?;
    ensure!(output.code == Some(0) && output.stdout.lines().count() == 2, "{output:?}");
    ensure!(output.stderr.contains("the rest of the list was not read"), "{output:?}");
    let output = fed(&["list", "--from", "-", "udp"], SEED.as_bytes())?;
    ensure!(output.stderr.contains("5 entries shown of 7 in the list"), "{output:?}");
    Ok(())
}

/// Runs ctkeeper with something on standard input.
fn fed(arguments: &[&str], input: &[u8]) -> anyhow::Result<Output> {
    let mut child = ctkeeper(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let written = child.stdin.take().context("no standard input")?.write_all(input);
    // One that has seen enough closes its end.
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(error.into());
    }
    let output = child.wait_with_output()?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
