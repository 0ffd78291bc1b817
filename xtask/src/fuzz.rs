//! Fuzzing the engine's packet path: libFuzzer on every core, on the stable toolchain, then the
//! lines of the engine that its corpus reaches.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::build::{cargo, workspace};

/// What libFuzzer finds its way by. These are what the compiler's own flag for coverage, which only
/// nightly toolchains take, stands for.
const COUNTERS: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "--cfg=fuzzing",
];

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
        let features = ["--features", "libfuzzer"];
        let program = self.build("fuzz", &features, "instrumented", &COUNTERS.join(" "))?;
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
        let program = self.build("replay", &[], "covered", "-Cinstrument-coverage")?;
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

    fn build(
        &self,
        binary: &str,
        arguments: &[&str],
        folder: &str,
        flags: &str,
    ) -> anyhow::Result<PathBuf> {
        let folder = self.target.join(folder);
        let mut command = cargo();
        // Naming the target keeps the flags away from build scripts.
        command.args(["build", "--release", "--package", "ctkeeper-fuzz", "--bin", binary]);
        command.args(arguments).args(["--target", &self.triple]).arg("--target-dir").arg(&folder);
        command.env("RUSTFLAGS", flags).env("CARGO_PROFILE_RELEASE_LTO", "off");
        let status = command.status().context("running cargo build")?;
        ensure!(status.success(), "building {binary} failed; libFuzzer needs a C++ compiler");
        Ok(folder.join(&self.triple).join("release").join(binary))
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
