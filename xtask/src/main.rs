//! The repository's chores: `cargo xtask ci|setup|vm|fuzz|dist|help`.

mod packages;

use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand};
use xtask::build::{build_static, cargo as cargo_command, workspace};
use xtask::vm::{self, Kernel};

/// The chores of this repository.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need, then formatting, lints, docs and every test (CI runs this)
    Ci,
    /// Only install what the tests need (Debian packages, no service is started), and fetch what
    /// the virtual machines boot
    Setup,
    /// Run the tests in virtual machines: Debian's 6.1 and 6.12 kernels under QEMU, emulated
    #[command(after_help = vm::HELP)]
    Vm(Machines),
    /// Fuzz the engine's packet path, then print which of its lines the inputs reach
    Fuzz {
        /// How long
        #[arg(long, default_value_t = 10)]
        minutes: u32,
    },
    /// Build the static binary: target/dist/ctkeeper, with man pages and shell completions
    Dist,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
struct Machines {
    #[command(subcommand)]
    command: Option<MachineCommand>,
    /// Run only tests whose name contains this, such as `walls`
    filter: Option<String>,
    /// Run only on this kernel
    #[arg(long)]
    kernel: Option<Kernel>,
    /// Only list the tests
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum MachineCommand {
    /// A console in a virtual machine with ctkeeper in it; Ctrl-A X leaves
    #[command(after_help = vm::SHELL_HELP)]
    Shell {
        /// The kernel to boot
        #[arg(default_value = "6.12")]
        kernel: Kernel,
        /// Memory in MiB
        #[arg(long, default_value_t = 1024)]
        memory: u32,
    },
    /// Only fetch what is missing, and say where it is
    Fetch,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Ci => ci(),
        Chore::Setup => setup(),
        Chore::Vm(machines) => machines.run(),
        Chore::Fuzz { minutes } => fuzz(minutes),
        Chore::Dist => dist(),
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
    // Here, not in the suite `vm`, whose time is bounded.
    vm::build_programs()?;
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

impl Machines {
    fn run(self) -> anyhow::Result<()> {
        match self.command {
            Some(MachineCommand::Fetch) => vm::fetch(),
            Some(MachineCommand::Shell { kernel, memory }) => {
                vm::fetch()?;
                vm::build_programs()?;
                vm::shell(kernel, memory)
            }
            None => self.test(),
        }
    }

    /// The suite `vm`, with a line for every step that a machine begins.
    fn test(&self) -> anyhow::Result<()> {
        let mut command = cargo_command();
        command.args(["test", "--quiet", "--package", "ctkeeper-tests", "--test", "vm", "--"]);
        if self.list {
            command.arg("--list");
        } else {
            packages::install()?;
            vm::fetch()?;
            vm::build_programs()?;
            command.env("CTKEEPER_VM_PROGRESS", "1");
        }
        command.args(&self.filter);
        let others =
            Kernel::ALL.into_iter().filter(|&kernel| self.kernel.is_some_and(|k| k != kernel));
        for other in others {
            command.args(["--skip", &format!("{other}/")]);
        }
        let status = command.status().context("running cargo test")?;
        ensure!(status.success(), "the tests in virtual machines failed");
        Ok(())
    }
}

/// On every core that this process may use.
fn fuzz(minutes: u32) -> anyhow::Result<()> {
    xtask::fuzz::run(minutes, std::thread::available_parallelism()?.get())
}

/// A static binary that runs on any Linux of this architecture, with its pages.
fn dist() -> anyhow::Result<()> {
    let target = workspace().join("target");
    let built = build_static(&target, &["--release", "--package", "ctkeeper"])?;
    let folder = target.join("dist");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let binary = folder.join("ctkeeper");
    std::fs::copy(built.join("release/ctkeeper"), &binary).context("copying")?;
    let status = Command::new(&binary).args(["generate", "all"]).arg(&folder).status()?;
    ensure!(status.success(), "{} could not write its pages", binary.display());
    println!("target/dist/ctkeeper");
    Ok(())
}

/// A lint whose component may be missing from a minimal toolchain; in CI it may not.
fn lint(arguments: &[&str], component: &str) -> anyhow::Result<()> {
    let probe = cargo_command().args([arguments[0], "--version"]).output();
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
    let status = cargo_command().args(arguments).status().context("running cargo")?;
    ensure!(status.success(), "`cargo {}` failed", arguments.join(" "));
    Ok(())
}
