//! What the suite `vm` boots: Debian's kernels, the programs of the guest, QEMU. Fetched by name
//! with apt and unpacked below `target/vm`; nothing is installed on this host.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

const FOLDER: &str = "target/vm";

/// Kernels as modules, by the package that always depends on the newest one: 6.1 and 6.12.
const KERNELS: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64"];

/// The guest's own programs, and the settings files that Debian ships with them.
const GUEST: [&str; 6] =
    ["busybox-static", "kmod", "systemd", "libsystemd-shared", "procps", "nftables"];

const QEMU: &str = "qemu-system-x86";

/// Fetches what is not there yet. Where it cannot be, it says so: the suite then shows as
/// ignored, and fails in CI.
pub(crate) fn fetch() -> anyhow::Result<()> {
    if std::env::consts::ARCH != "x86_64" || !Path::new("/usr/bin/apt-get").exists() {
        eprintln!("xtask: no virtual machines here: they need apt and x86-64");
        return Ok(());
    }
    if [KERNELS[0], KERNELS[1], "guest", "qemu"].iter().all(|name| is_there(name)) {
        return Ok(());
    }
    // Without root the lists are used as they are.
    let _ = Command::new("apt-get").args(["update", "--quiet"]).status();
    for meta in KERNELS {
        provide(meta, || newest_kernel(meta))?;
    }
    provide("guest", || Ok(GUEST.map(str::to_owned).to_vec()))?;
    provide("qemu", || closure(QEMU))
}

fn is_there(name: &str) -> bool {
    Path::new(FOLDER).join(name).exists()
}

/// Unpacks packages into `target/vm/NAME`, which appears only when it is complete.
fn provide(name: &str, packages: impl Fn() -> anyhow::Result<Vec<String>>) -> anyhow::Result<()> {
    if is_there(name) {
        return Ok(());
    }
    let packages = packages()?;
    println!("+ unpacking {} into {FOLDER}/{name}", packages.join(" "));
    let work = Path::new(FOLDER).join(format!("{name}.part"));
    let archives = work.join("archives");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&archives).with_context(|| archives.display().to_string())?;
    let mut download = Command::new("apt-get");
    // As its own user apt could not write into our folder, and would only warn of it.
    download.args(["download", "--quiet", "-o", "APT::Sandbox::User=root"]);
    run(download.args(&packages).current_dir(&archives))?;
    for archive in fs::read_dir(&archives)? {
        run(Command::new("dpkg").arg("-x").arg(archive?.path()).arg(&work))?;
    }
    fs::remove_dir_all(&archives)?;
    fs::rename(&work, Path::new(FOLDER).join(name)).context(FOLDER)
}

/// `linux-image-6.1.0-56-cloud-amd64` of `linux-image-cloud-amd64`.
fn newest_kernel(meta: &str) -> anyhow::Result<Vec<String>> {
    let text = run(Command::new("apt-cache").args(["depends", "--important", meta]))?;
    let mut depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let kernel = depends.find(|package| package.starts_with("linux-image-"));
    Ok(vec![kernel.with_context(|| format!("apt knows no {meta}"))?.to_owned()])
}

/// A package and what it needs that this host has not, or has in an unfit version.
fn closure(package: &str) -> anyhow::Result<Vec<String>> {
    let mut simulation = Command::new("apt-get");
    simulation.args(["install", "--simulate", "--no-install-recommends", package]);
    let text = run(&mut simulation)?;
    let installs = text.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    let packages: Vec<_> = installs.map(str::to_owned).collect();
    // One that is installed is on the PATH, and asked for there.
    Ok(if packages.is_empty() { vec![package.to_owned()] } else { packages })
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
