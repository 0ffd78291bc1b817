//! The repository's chores: `cargo xtask ci|setup|dist|help`.

mod packages;
mod vm;

use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};

const HELP: &str = "\
cargo xtask COMMAND

  ci      install what the tests need, then formatting, lints, docs and every test (CI runs this)
  setup   only install what the tests need (Debian packages, no service is started), and fetch
          what the suite `vm` boots into target/vm
  guest   build the static binaries that run in the suite's virtual machines (the suite does)
  dist    build the static binary: target/dist/ctkeeper, with man pages and shell completions
";

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let result = match command.as_deref() {
        Some("ci") => ci(),
        Some("setup") => setup(),
        Some("guest") => guest(),
        Some("dist") => dist(),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => Err(anyhow::anyhow!("no command {other:?}\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What CI runs. The suites on the real kernel come last, so that their result is what one reads.
fn ci() -> anyhow::Result<()> {
    setup()?;
    lint(&["fmt", "--all", "--check"], "rustfmt")?;
    lint(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], "clippy")?;
    cargo(&["doc", "--workspace", "--no-deps", "--quiet"])?;
    cargo(&["build", "--package", "ctkeeper"])?;
    cargo(&["test", "--workspace", "--exclude", "ctkeeper-tests"])?;
    cargo(&["test", "--package", "ctkeeper-tests", "--tests", "--no-fail-fast"])
}

fn setup() -> anyhow::Result<()> {
    packages::install()?;
    if let Err(error) = vm::fetch() {
        // Those tests show as ignored then, with the reason, and fail in CI.
        eprintln!("xtask: no virtual machines: {error:#}");
    }
    Ok(())
}

/// A static binary that runs on any Linux of this architecture, with its pages.
fn dist() -> anyhow::Result<()> {
    let built = build_static("target", &["--release", "--package", "ctkeeper"])?;
    let folder = "target/dist";
    std::fs::create_dir_all(folder).context(folder)?;
    let binary = format!("{folder}/ctkeeper");
    std::fs::copy(format!("{built}/release/ctkeeper"), &binary).context("copying")?;
    let status = Command::new(&binary).args(["generate", "all", folder]).status()?;
    ensure!(status.success(), "{binary} could not write its pages");
    println!("{binary}");
    Ok(())
}

/// Static as `dist`, in a target folder of its own: the tests' own build may be under way.
fn guest() -> anyhow::Result<()> {
    let packages = ["--package", "ctkeeper", "--package", "ctkeeper-tests", "--bins", "--quiet"];
    let built = build_static("target/vm/build", &packages)?;
    println!("{built}/debug");
    Ok(())
}

/// Builds without shared libraries; returns the folder of the target's profiles.
fn build_static(target_folder: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new(cargo_program())
        .arg("build")
        .args(arguments)
        .args(["--target", &target, "--target-dir", target_folder])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Of use to the dev profile only: an emulated processor is slow enough.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .status()
        .context("running cargo build")?;
    ensure!(status.success(), "the static build failed");
    Ok(format!("{target_folder}/{target}"))
}

/// A lint whose component may be missing from a minimal toolchain; in CI it may not.
fn lint(arguments: &[&str], component: &str) -> anyhow::Result<()> {
    let probe = Command::new(cargo_program()).args([arguments[0], "--version"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return cargo(arguments);
    }
    if std::env::var_os("CI").is_some() {
        bail!("{component} is missing: rustup component add {component}");
    }
    eprintln!("xtask: {component} is not installed, left out (rustup component add {component})");
    Ok(())
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    println!("+ cargo {}", arguments.join(" "));
    let status = Command::new(cargo_program()).args(arguments).status().context("running cargo")?;
    ensure!(status.success(), "`cargo {}` failed", arguments.join(" "));
    Ok(())
}

fn cargo_program() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}
