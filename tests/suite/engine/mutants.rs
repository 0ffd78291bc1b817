//! Wrong engines: each is the engine but for one small error, and each must be caught by going
//! through what the kernel has just done.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use ctkeeper_differential::transcript::Transcript;
use ctkeeper_tests::engine::Plan;
use xtask::build::workspace;

use crate::errors::{MUTANTS, Mutant};

/// Crates that a replay is made of.
const CRATES: [&str; 3] = ["flow", "engine", "differential"];

/// What is played for them; a longer run catches more, and they are to be caught by little.
const PLAN: Plan = Plan { sequences: 2000, seed: 20, only: None, first: 0, listens: false };

pub(crate) fn every_mutant_is_caught() -> anyhow::Result<()> {
    let folder = workspace().join("target/engine-mutants");
    let transcripts = folder.join("transcripts");
    fs::create_dir_all(&folder)?;
    write(&PLAN.record()?, &transcripts)?;
    let copy = Copy::make(&folder)?;
    let (agrees, told) = copy.replay(&transcripts)?.context("the engine itself did not build")?;
    ensure!(agrees, "the engine itself disagrees with the kernel:\n{told}");
    let mut survivors = Vec::new();
    for mutant in MUTANTS {
        let begin = Instant::now();
        let verdict = copy.verdict(mutant, &transcripts)?;
        let seconds = begin.elapsed().as_secs_f64();
        println!("mutant {:38} {verdict} ({seconds:.1} s)", mutant.name);
        if !verdict.starts_with("caught") {
            survivors.push(mutant.name);
        }
    }
    let caught = MUTANTS.len() - survivors.len();
    println!("mutants: {caught} of {} caught", MUTANTS.len());
    ensure!(survivors.is_empty(), "not caught: {}", survivors.join(", "));
    Ok(())
}

/// One to a line, so that a replay ends with the first that disagrees.
fn write(recorded: &[Transcript], file: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(file)?);
    for transcript in recorded {
        serde_json::to_writer(&mut file, transcript)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

/// The workspace's crates, copied, so that errors can be made.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn make(folder: &Path) -> anyhow::Result<Self> {
        let root = folder.join("workspace");
        let _ = fs::remove_dir_all(&root);
        for name in CRATES {
            copy_folder(&workspace().join("crates").join(name), &root.join("crates").join(name))?;
        }
        let manifest = fs::read_to_string(workspace().join("Cargo.toml"))?;
        let (head, rest) = manifest.split_once("[workspace.package]").context("the manifest")?;
        ensure!(head.contains("members"), "the manifest's head");
        let (rest, _) = rest.split_once("[profile.release]").context("the manifest's profiles")?;
        let manifest = format!(
            "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n\n[workspace.package]{rest}\
             [profile.dev]\ndebug = false\n\n[profile.dev.package.\"*\"]\nopt-level = 1\n"
        );
        fs::write(root.join("Cargo.toml"), manifest)?;
        fs::copy(workspace().join("Cargo.lock"), root.join("Cargo.lock"))?;
        Ok(Self { root })
    }

    /// Makes the error, sees whether it is caught, and takes it back.
    fn verdict(&self, mutant: &Mutant, transcripts: &Path) -> anyhow::Result<String> {
        let file = self.root.join("crates/engine/src").join(mutant.file);
        let right = fs::read_to_string(&file).with_context(|| mutant.file.to_owned())?;
        let places = right.matches(mutant.text).count();
        if places != 1 {
            return Ok(format!("NOT MADE: its text stands {places} times in {}", mutant.file));
        }
        fs::write(&file, right.replace(mutant.text, mutant.replacement))?;
        let outcome = self.replay(transcripts);
        fs::write(&file, right)?;
        Ok(match outcome? {
            None => "NOT BUILT".to_owned(),
            Some((true, _)) => "SURVIVED".to_owned(),
            Some((false, told)) => format!("caught: {}", told.lines().next().unwrap_or_default()),
        })
    }

    /// Builds and replays: whether engine and kernel agree, and what was said; `None` if it does
    /// not build.
    fn replay(&self, transcripts: &Path) -> anyhow::Result<Option<(bool, String)>> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).args(["build", "--quiet", "--offline"]);
        cargo.args(["--package", "ctkeeper-differential", "--bin", "engine-replay"]);
        cargo.env("CARGO_TARGET_DIR", self.root.join("../build"));
        cargo.env_remove("RUSTFLAGS");
        let built = cargo.output().context("running cargo")?;
        if !built.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&built.stderr));
            return Ok(None);
        }
        let program = self.root.join("../build/debug/engine-replay");
        let output = Command::new(program).arg(transcripts).output().context("replaying")?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) => Ok(Some((true, told))),
            // A panic (101) is an engine that has been caught as well.
            Some(1 | 101) => Ok(Some((false, told))),
            _ => bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
        }
    }
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
