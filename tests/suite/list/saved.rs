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
    let output = fed(&["count", "--from", "-"], &vec![b'x'; 10_000_000])?;
    ensure!(output.code == Some(1) && output.stdout == "0\n", "{output:?}");
    let output = run(&mut ctkeeper(&["list", "--from", "/no/such/file"]))?;
    ensure!(output.code == Some(1) && output.stderr.contains("/no/such/file"), "{output:?}");
    let output = run(&mut ctkeeper(&["list", "--from", "-", "--netns", "all"]))?;
    ensure!(output.code == Some(64), "{output:?}");
    Ok(())
}

/// Runs ctkeeper with something on standard input.
fn fed(arguments: &[&str], input: &[u8]) -> anyhow::Result<Output> {
    let mut child = ctkeeper(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no standard input")?.write_all(input)?;
    let output = child.wait_with_output()?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
