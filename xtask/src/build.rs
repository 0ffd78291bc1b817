//! Calling cargo, and binaries without shared libraries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// The folder of the root manifest.
pub fn workspace() -> &'static Path {
    // The parent of this package's folder; a manifest always has one.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("/"))
}

/// The cargo that runs this, to be called in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Builds without shared libraries, so that the binaries run on any Linux of this architecture,
/// into a target folder of its own. Returns the folder of the target's profiles.
pub fn build_static(target_folder: &Path, arguments: &[&str]) -> anyhow::Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo();
    command.arg("build").args(arguments).args(["--target", &target]);
    command.arg("--target-dir").arg(target_folder);
    // At fixed addresses, for relocating thousands of pointers is a fifth of what `conntrack -C` takes.
    command.env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    // Of use to the dev profile only: an emulated processor is slow enough.
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    let status = command.stdin(Stdio::null()).status().context("running cargo build")?;
    ensure!(status.success(), "the static build failed");
    Ok(target_folder.join(target))
}
