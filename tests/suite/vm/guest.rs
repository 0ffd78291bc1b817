//! The guest: a disk with Debian's own programs, and an initramfs that mounts it.

use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, ensure};
use ctkeeper_tests::run;

/// A kernel of Debian, by the package that `cargo xtask setup` unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Debian 12's own: 6.1.
    Stable,
    /// The newer one that Debian 12's security updates offer: 6.12.
    Newer,
}

/// What the guest runs that is not linked statically.
const PROGRAMS: [&str; 5] = [
    "usr/bin/kmod",
    "usr/lib/systemd/systemd-modules-load",
    "usr/lib/systemd/systemd-sysctl",
    "usr/sbin/sysctl",
    "usr/sbin/nft",
];

/// The kernel's folders of modules that the initramfs needs to find the disk.
const DISK_MODULES: &[&str] = &["drivers/block", "drivers/virtio", "fs", "crypto", "lib"];

/// And those of the disk, for the life after it.
const MODULES: &[&str] = &["arch/x86/crypto", "crypto", "lib", "net"];

const ARCHITECTURE: &str = "x86_64-linux-gnu";

impl Kernel {
    pub(crate) const fn package(self) -> &'static str {
        match self {
            Self::Stable => "linux-image-cloud-amd64",
            Self::Newer => "linux-image-6.12-cloud-amd64",
        }
    }

    fn folder(self) -> PathBuf {
        store().join(self.package())
    }

    /// `6.1.0-56-cloud-amd64`.
    fn release(self) -> anyhow::Result<String> {
        let modules = self.folder().join("lib/modules");
        let mut releases = fs::read_dir(&modules).with_context(|| modules.display().to_string())?;
        let release = releases.next().context("a kernel package without modules")??;
        Ok(release.file_name().to_string_lossy().into_owned())
    }

    pub(crate) fn image(self) -> anyhow::Result<PathBuf> {
        Ok(self.folder().join(format!("boot/vmlinuz-{}", self.release()?)))
    }
}

/// `target/vm` of the workspace: what `cargo xtask setup` has fetched, and what is made of it.
pub(crate) fn store() -> PathBuf {
    workspace().join("target/vm")
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The disk of a kernel's guest, made anew once in each run of the suite.
pub(crate) fn disk(kernel: Kernel) -> anyhow::Result<PathBuf> {
    static MADE: Mutex<Vec<Kernel>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().map_err(|_| anyhow::anyhow!("making a disk has failed before"))?;
    let image = store().join(format!("{}.disk", kernel.package()));
    if !made.contains(&kernel) {
        make_disk(kernel, &image)?;
        made.push(kernel);
    }
    Ok(image)
}

fn make_disk(kernel: Kernel, image: &Path) -> anyhow::Result<()> {
    let stage = tempfile::tempdir_in(store())?;
    let root = stage.path();
    lay_out(root)?;
    copy_debian(root)?;
    copy_libraries(root, &PROGRAMS)?;
    copy_modules(kernel, MODULES, root)?;
    for program in build()? {
        let name = program.file_name().context("a program without a name")?;
        fs::copy(&program, root.join("usr/bin").join(name)).context("copying our programs")?;
    }
    script(&root.join("usr/sbin/boot"), include_str!("boot.sh"))?;
    fs::write(root.join("etc/nftables.conf"), include_str!("firewall.nft"))?;
    let mut format = Command::new("mkfs.ext4");
    format.args(["-q", "-F", "-d"]).arg(root).arg(image).arg("256M");
    let _ = fs::remove_file(image);
    expect_success(&mut format)
}

/// Debian's merged /usr, and the folders that programs expect.
fn lay_out(root: &Path) -> anyhow::Result<()> {
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        symlink(format!("usr/{folder}"), root.join(folder))?;
    }
    for folder in ["dev", "proc", "sys", "run", "tmp", "etc", "var/lib", "root"] {
        fs::create_dir_all(root.join(folder))?;
    }
    Ok(symlink("../run", root.join("var/run"))?)
}

fn copy_debian(root: &Path) -> anyhow::Result<()> {
    let guest = store().join("guest");
    for folder in ["bin", "sbin", "lib", "usr/bin", "usr/sbin", "usr/lib", "etc"] {
        let target = root.join(folder);
        let target = fs::canonicalize(&target).unwrap_or(target);
        let from = guest.join(folder).join(".");
        if from.exists() {
            expect_success(Command::new("cp").arg("-a").arg(from).arg(target))?;
        }
    }
    let applets = [
        "sh",
        "cat",
        "cp",
        "echo",
        "grep",
        "head",
        "hostname",
        "ip",
        "ln",
        "ls",
        "mkdir",
        "mount",
        "mv",
        "poweroff",
        "reboot",
        "rm",
        "sed",
        "sha256sum",
        "sleep",
        "stty",
        "sync",
        "tail",
        "touch",
        "umount",
        "usleep",
        "wc",
        "dmesg",
        "find",
        "seq",
        "sort",
        "test",
    ];
    for applet in applets {
        symlink("busybox", root.join("usr/bin").join(applet))
            .with_context(|| format!("busybox's {applet}"))?;
    }
    Ok(())
}

/// The shared libraries of programs below `root`: those of the packages, else this host's.
fn copy_libraries(root: &Path, programs: &[&str]) -> anyhow::Result<()> {
    let library = root.join("usr/lib").join(ARCHITECTURE);
    fs::create_dir_all(&library)?;
    for program in programs {
        let mut ldd = Command::new("ldd");
        let folders = format!("{0}:{0}/systemd", library.display());
        let output = run(ldd.arg(root.join(program)).env("LD_LIBRARY_PATH", folders))?;
        ensure!(!output.stdout.contains("not found"), "{program} lacks libraries: {output:?}");
        let paths = output.stdout.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths.map(Path::new).filter(|path| !path.starts_with(root)) {
            let name = path.file_name().context("a library without a name")?;
            let loader = name.to_string_lossy().starts_with("ld-linux");
            let target = if loader { root.join("usr/lib64") } else { library.clone() };
            fs::copy(path, target.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn copy_modules(kernel: Kernel, parts: &[&str], root: &Path) -> anyhow::Result<()> {
    let release = kernel.release()?;
    let from = kernel.folder().join("lib/modules").join(&release);
    let to = root.join("usr/lib/modules").join(&release);
    fs::create_dir_all(&to)?;
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(from.join(list), to.join(list)).context(list)?;
    }
    for part in parts.iter().map(|part| format!("kernel/{part}")) {
        let target = to.join(&part);
        fs::create_dir_all(&target)?;
        let from = from.join(&part).join(".");
        expect_success(Command::new("cp").arg("-a").arg(from).arg(target))?;
    }
    let mut depmod = Command::new(root.join("usr/bin/kmod"));
    expect_success(depmod.arg0("depmod").arg("-b").arg(root).arg(&release))
}

/// Builds ctkeeper and the load that tests make in the guest, without shared libraries.
fn build() -> anyhow::Result<[PathBuf; 2]> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut xtask = Command::new(cargo);
    xtask.args(["run", "--quiet", "--package", "xtask", "--", "guest"]).current_dir(workspace());
    let output = run(&mut xtask)?;
    ensure!(output.code == Some(0), "the guest's programs do not build: {}", output.stderr);
    let folder = workspace().join(output.stdout.trim());
    Ok(["ctkeeper", "guest-load"].map(|name| folder.join(name)))
}

/// The initramfs of one run: what mounts the disk, and the steps of each boot.
pub(crate) fn initramfs(kernel: Kernel, boots: &[&str], to: &Path) -> anyhow::Result<()> {
    let stage = tempfile::tempdir_in(store())?;
    let root = stage.path();
    lay_out(root)?;
    let guest = store().join("guest");
    fs::copy(guest.join("bin/busybox"), root.join("usr/bin/busybox"))?;
    fs::copy(guest.join("bin/kmod"), root.join("usr/bin/kmod"))?;
    symlink("../bin/kmod", root.join("usr/sbin/modprobe"))?;
    copy_libraries(root, &["usr/bin/kmod"])?;
    copy_modules(kernel, DISK_MODULES, root)?;
    script(&root.join("init"), include_str!("mount.sh"))?;
    fs::create_dir(root.join("scenario"))?;
    for (number, steps) in (1..).zip(boots) {
        fs::write(root.join(format!("scenario/boot-{number}.sh")), steps)?;
    }
    let mut archive = BufWriter::new(File::create(to)?);
    crate::cpio::write(root, &mut archive)
}

fn script(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn expect_success(command: &mut Command) -> anyhow::Result<()> {
    let output = run(command)?;
    ensure!(output.code == Some(0), "{command:?} failed: {}", output.stderr);
    Ok(())
}
