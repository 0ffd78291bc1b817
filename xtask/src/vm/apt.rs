//! Asking apt: which packages, in which versions, and their files.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::cache::{Cache, NEWS_LAST};

/// Renews apt's lists once a day. Without root, or offline, they are used as they are.
pub(super) fn update_now_and_then(cache: &Cache) -> anyhow::Result<()> {
    let stamp = cache.folder().join("lists-updated");
    let age = fs::metadata(&stamp).and_then(|metadata| metadata.modified()).ok();
    if age.and_then(|time| time.elapsed().ok()).is_some_and(|age| age < NEWS_LAST) {
        return Ok(());
    }
    if update() {
        fs::write(&stamp, "").with_context(|| stamp.display().to_string())?;
    }
    Ok(())
}

/// Whether apt has renewed its lists.
pub(super) fn update() -> bool {
    run(Command::new("apt-get").args(["update", "--quiet"])).is_ok()
}

/// `linux-image-6.1.0-56-cloud-amd64` of `linux-image-cloud-amd64`.
pub(super) fn newest_kernel(meta: &[&str]) -> anyhow::Result<Vec<String>> {
    let text = run(Command::new("apt-cache").args(["depends", "--important"]).args(meta))?;
    let mut depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let kernel = depends.find(|package| package.starts_with("linux-image-"));
    Ok(vec![kernel.with_context(|| format!("apt knows no {meta:?}"))?.to_owned()])
}

/// Packages and the libraries that they need, whatever this host has installed.
pub(super) fn with_libraries(packages: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut closure = installs(&["-o", "Dir::State::status=/dev/null"], packages)?;
    let is_library = |name: &str| name.starts_with("lib") && !name.starts_with("libperl");
    closure.retain(|name| packages.contains(&name.as_str()) || is_library(name));
    Ok(closure)
}

/// Packages, and what they need that this host has not, or has in an unfit version.
pub(super) fn what_is_missing(packages: &[&str]) -> anyhow::Result<Vec<String>> {
    let missing = installs(&[], packages)?;
    // What is installed has everything it needs.
    let installed = packages.iter().filter(|package| !missing.iter().any(|m| m == *package));
    let installed: Vec<_> = installed.map(|&package| package.to_owned()).collect();
    Ok([missing, installed].concat())
}

/// What apt would install.
fn installs(options: &[&str], packages: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut simulation = Command::new("apt-get");
    simulation.args(options).args(["install", "--simulate", "--no-install-recommends"]);
    let text = run(simulation.args(packages))?;
    let names = text.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    Ok(names.map(str::to_owned).collect())
}

/// The files of packages, one a line, sorted: name with version, size, checksum. A newer version is
/// another line.
pub(super) fn manifest(packages: &[String]) -> anyhow::Result<String> {
    let text = run(Command::new("apt-get").args(["download", "--print-uris"]).args(packages))?;
    // 'http://mirror/pool/k/kmod/kmod_30_amd64.deb' kmod_30_amd64.deb 95180 SHA256:…
    let mut files: Vec<_> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    files.sort_unstable_by_key(|&(_, file)| file);
    ensure!(files.len() == packages.len(), "apt names {} of {packages:?}", files.len());
    let lines: Vec<_> = files.iter().map(|(_, file)| *file).collect();
    Ok(lines.join("\n") + "\n")
}

/// Downloads packages, whose checksums apt verifies, and unpacks them into a folder.
pub(super) fn unpack(packages: &[String], folder: &Path) -> anyhow::Result<()> {
    let archives = folder.with_extension("archives");
    for folder in [folder, &archives] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let mut download = Command::new("apt-get");
    // As its own user apt could not write into our folder, and would only warn of it.
    download.args(["download", "--quiet", "-o", "APT::Sandbox::User=root"]);
    run(download.args(packages).current_dir(&archives))?;
    for archive in fs::read_dir(&archives)? {
        run(Command::new("dpkg").arg("-x").arg(archive?.path()).arg(folder))?;
    }
    Ok(fs::remove_dir_all(&archives)?)
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
