//! Programs of the system that the lab stands on.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::LabError;

/// The Debian package that brings a program.
fn package_of(program: &str) -> &str {
    match program {
        "ip" | "ss" | "tc" => "iproute2",
        "nft" => "nftables",
        "unshare" | "nsenter" | "setpriv" | "chrt" => "util-linux",
        other => other,
    }
}

/// Where programs for root stand, which the `PATH` of a shell that became root may lack.
const FOR_ROOT: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Whether a program is installed.
pub fn is_installed(program: &str) -> bool {
    find(program).is_some()
}

/// What to call a program by: its path, where it is found, else its bare name.
pub(crate) fn called(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| PathBuf::from(program))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOR_ROOT.map(PathBuf::from));
    let bare = PathBuf::from(program);
    if program.contains('/') {
        return bare.is_file().then_some(bare);
    }
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Fails, naming the package to install, unless a program is installed.
pub fn require(program: &str) -> Result<(), LabError> {
    if is_installed(program) {
        return Ok(());
    }
    let package = package_of(program).to_owned();
    Err(LabError::MissingProgram { program: program.to_owned(), package })
}

/// Runs a command to its end, with this on its standard input, and fails unless it succeeds; its
/// standard output comes back.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, LabError> {
    let shown = shown(command);
    let output = output(command, input).map_err(LabError::system("run", shown.clone()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = if output.stderr.is_empty() { output.stdout } else { output.stderr };
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Err(LabError::Program { command: shown, status: output.status.to_string(), said })
}

/// A control-C at the terminal is meant for the lab, not for the helpers that it cleans up with:
/// they stand in a process group of their own.
fn output(command: &mut Command, input: &str) -> std::io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says itself why.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs lines of `ip -batch`, in a namespace if one is named.
pub(crate) fn ip_batch(namespace: Option<&str>, lines: &[String]) -> Result<(), LabError> {
    if lines.is_empty() {
        return Ok(());
    }
    require("ip")?;
    if let Some(line) = lines.iter().find(|line| !is_one_line(line)) {
        // What comes after the line's end would be a command too, and perhaps outside the lab.
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "more than one line");
        return Err(LabError::system("tell ip", line.escape_debug().to_string())(source));
    }
    let mut command = Command::new(called("ip"));
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    run(command.args(["-batch", "-"]), &(lines.join("\n") + "\n")).map(drop)
}

/// Neither a line's end nor what `ip -batch` reads as one that goes on or ends early.
fn is_one_line(line: &str) -> bool {
    !line.contains(|c: char| c.is_control() || matches!(c, '\\' | '#' | '"' | '\''))
}
