//! The binary under test.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;

/// What a program said, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// Standard output; bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A call of the ctkeeper that was built with the tests, without input.
pub fn ctkeeper(arguments: &[&str]) -> Command {
    let mut command = Command::new(ctkeeper_path());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The binary: `CTKEEPER_BIN`, else the one of the same profile beside the tests.
///
/// # Panics
///
/// If neither is there: a test of nothing must not pass.
pub fn ctkeeper_path() -> PathBuf {
    if let Some(path) = std::env::var_os("CTKEEPER_BIN") {
        return PathBuf::from(path);
    }
    let own = std::env::current_exe().unwrap_or_default();
    // Tests are built into `deps/`, benches beside the binary.
    let mut beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("ctkeeper"));
    let built = beside.find(|path| path.is_file());
    built.expect("no binary to test: run `cargo build` first (or `cargo xtask ci`)")
}
