//! Fuzzing the engine's packet path: libFuzzer on every core, on the stable toolchain, then the
//! lines of the engine that its corpus reaches.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::build::{cargo, workspace};

/// Fuzzes for so many minutes on so many cores, then says which lines the inputs reach, all those
/// kept from earlier runs among them.
///
/// # Errors
/// When it can not be built or run, and when an input makes the engine err; the input is kept then.
pub fn run(minutes: u32, cores: usize) -> anyhow::Result<()> {
    let folders = Folders::new()?;
    folders.fuzz(minutes, cores)?;
    folders.report()
}

struct Folders {
    /// Inputs that reach something new, kept from run to run.
    corpus: PathBuf,
    /// Inputs that once failed: they come first.
    cases: PathBuf,
    /// Inputs that fail.
    failures: PathBuf,
    target: PathBuf,
    triple: String,
}

impl Folders {
    fn new() -> anyhow::Result<Self> {
        let target = workspace().join("target/fuzz");
        let folders = Self {
            corpus: target.join("corpus"),
            cases: workspace().join("fuzz/cases"),
            failures: target.join("failures"),
            target,
            triple: format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
        };
        for folder in [&folders.corpus, &folders.failures] {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(folders)
    }

    fn fuzz(&self, minutes: u32, cores: usize) -> anyhow::Result<()> {
        let mut build = self.build("fuzz", "instrumented");
        build.args(["--features", "libfuzzer"]);
        build.env("RUSTC_WORKSPACE_WRAPPER", workspace().join("fuzz/instrument"));
        build.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
        build.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
        let program = self.built("fuzz", "instrumented", build)?;
        let mut command = Command::new(program);
        command.arg(format!("-fork={cores}")).arg(format!("-max_total_time={}", minutes * 60));
        command.args(["-max_len=4096", "-timeout=10", "-print_final_stats=1"]);
        command.arg(format!("-artifact_prefix={}/", self.failures.display()));
        command.arg(&self.corpus).arg(&self.cases).current_dir(&self.target);
        let status = command.status().context("running libFuzzer")?;
        ensure!(status.success(), "an input fails; it is in {}", self.failures.display());
        Ok(())
    }

    /// Runs all inputs once and prints which of the engine's lines they reach.
    fn report(&self) -> anyhow::Result<()> {
        let mut build = self.build("replay", "covered");
        build.env("RUSTFLAGS", "-Cinstrument-coverage");
        let program = self.built("replay", "covered", build)?;
        let profile = self.target.join("replay.profraw");
        let mut command = Command::new(&program);
        command.args([&self.corpus, &self.cases]).env("LLVM_PROFILE_FILE", &profile);
        let status = command.status().context("replaying the corpus")?;
        ensure!(status.success(), "an input of the corpus fails");
        let merged = self.target.join("replay.profdata");
        let mut merge = tool("llvm-profdata")?;
        merge.args(["merge", "--sparse"]).arg(&profile).arg("--output").arg(&merged);
        ensure!(merge.status()?.success(), "llvm-profdata failed");
        let mut show = tool("llvm-cov")?;
        show.arg("report").arg(&program).arg("--instr-profile").arg(&merged);
        show.arg("--sources").arg(workspace().join("crates/engine/src"));
        ensure!(show.status()?.success(), "llvm-cov failed");
        Ok(())
    }

    /// A build of one binary into a folder of its own.
    fn build(&self, binary: &str, folder: &str) -> Command {
        let mut command = cargo();
        // Naming the target keeps flags away from build scripts.
        command.args(["build", "--release", "--package", "ctkeeper-fuzz", "--bin", binary]);
        command.args(["--target", &self.triple, "--target-dir"]).arg(self.target.join(folder));
        command.env("CARGO_PROFILE_RELEASE_LTO", "off");
        command
    }

    fn built(&self, binary: &str, folder: &str, mut build: Command) -> anyhow::Result<PathBuf> {
        let status = build.status().context("running cargo build")?;
        ensure!(status.success(), "building {binary} failed; libFuzzer needs a C++ compiler");
        Ok(self.target.join(folder).join(&self.triple).join("release").join(binary))
    }
}

/// A program of the toolchain's own LLVM: others do not read its profiles.
fn tool(name: &str) -> anyhow::Result<Command> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir"]).output()?;
    let libraries = String::from_utf8(output.stdout).context("rustc --print target-libdir")?;
    let path = Path::new(libraries.trim()).with_file_name("bin").join(name);
    if !path.exists() {
        bail!("{name} is missing: rustup component add llvm-tools");
    }
    Ok(Command::new(path))
}
