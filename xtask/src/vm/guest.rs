//! The guest: a disk with Debian's own programs, and an initramfs that mounts it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::{Kernel, cpio, store};

/// Modules that the initramfs needs to find the disk: folders of the kernel's.
const DISK_MODULES: &[&str] = &["drivers/block", "drivers/virtio", "fs", "crypto", "lib"];

/// And those of the disk, for the life after it; a name without folder behind it is one module.
const MODULES: &[&str] = &[
    "arch/x86/crypto",
    "crypto",
    "lib",
    "net",
    "drivers/net/dummy",
    "drivers/net/ifb",
    "drivers/net/macvlan",
    "drivers/net/tun",
    "drivers/net/veth",
];

/// Busybox as the programs that Debian's packages in the guest do not bring.
const APPLETS: &str = "awk basename cat chmod clear cp cut date dd df diff dirname dmesg du echo \
     env expr false find free getopt grep head hostname id kill less ln ls mkdir mktemp more mount \
     mv nc nsenter pidof poweroff printf ps pwd readlink realpath reboot rm rmdir sed seq setsid \
     sha256sum sleep sort stat stty sync tail tee test time timeout top touch tr true umount uname \
     uniq unshare uptime usleep vi watch wc wget which xargs yes cttyhack strings taskset nproc";

/// Programs whose libraries must all be there.
const LINKED: [&str; 8] = [
    "bin/bash",
    "bin/dash",
    "bin/ip",
    "bin/kmod",
    "sbin/sysctl",
    "lib/systemd/systemd-sysctl",
    "usr/sbin/nft",
    "usr/sbin/haproxy",
];

const ARCHITECTURE: &str = "x86_64-linux-gnu";

/// The disk of a kernel's guests. Machines write to copies of their own, so that it can be shared.
#[derive(Clone, Debug)]
pub struct Guest {
    kernel: Kernel,
    disk: PathBuf,
}

impl Guest {
    /// Makes the disk in a folder, with these programs of ours in its /usr/bin.
    pub fn make(kernel: Kernel, programs: &[PathBuf], folder: &Path) -> anyhow::Result<Self> {
        let stage = tempfile::tempdir_in(folder)?;
        let root = stage.path();
        ensure_libraries()?;
        lay_out(root)?;
        copy_debian(root)?;
        copy_modules(kernel, MODULES, root)?;
        for program in programs {
            let name = program.file_name().context("a program without a name")?;
            fs::copy(program, root.join("usr/bin").join(name)).context("copying our programs")?;
        }
        script(&root.join("usr/sbin/boot"), include_str!("boot.sh"))?;
        fs::write(root.join("etc/nftables.conf"), include_str!("firewall.nft"))?;
        let disk = folder.join(format!("linux-{kernel}.disk"));
        let mut format = Command::new("mkfs.ext4");
        format.args(["-q", "-F", "-d"]).arg(root).arg(&disk).arg("512M");
        let _ = fs::remove_file(&disk);
        expect_success(&mut format)?;
        Ok(Self { kernel, disk })
    }

    /// The kernel that it boots.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub(super) fn disk(&self) -> &Path {
        &self.disk
    }

    /// The initramfs of one machine: what mounts the disk, and the files that it puts into the
    /// disk's `/scenario`, by name.
    pub(super) fn initramfs(&self, scenario: &[(String, &str)], to: &Path) -> anyhow::Result<()> {
        let stage = tempfile::tempdir()?;
        let root = stage.path();
        lay_out(root)?;
        fs::copy(store().join("guest/bin/busybox"), root.join("usr/bin/busybox"))?;
        copy_kmod(root)?;
        copy_modules(self.kernel, DISK_MODULES, root)?;
        script(&root.join("init"), include_str!("mount.sh"))?;
        fs::create_dir(root.join("scenario"))?;
        for (name, text) in scenario {
            fs::write(root.join("scenario").join(name), text)?;
        }
        let mut archive = BufWriter::new(File::create(to)?);
        cpio::write(root, &mut archive)?;
        Ok(archive.flush()?)
    }
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
    for folder in ["bin", "sbin", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib", "etc"] {
        copy_folder(&store().join("guest").join(folder), &root.join(folder))?;
    }
    // Busybox's own shell would prefer its own applets to the programs on the PATH.
    let shell = [("sh", "dash")];
    let applets = APPLETS.split_whitespace().map(|applet| (applet, "busybox"));
    for (name, target) in shell.into_iter().chain(applets) {
        let program = root.join("usr/bin").join(name);
        // A program of Debian's own goes before.
        if fs::symlink_metadata(&program).is_err() {
            symlink(target, program).with_context(|| format!("{target} as {name}"))?;
        }
    }
    Ok(())
}

fn ensure_libraries() -> anyhow::Result<()> {
    for program in LINKED {
        let libraries = expect_success(&mut of_guest(&["--list"], program))?;
        ensure!(!libraries.contains("not found"), "the guest's {program} lacks some: {libraries}");
    }
    Ok(())
}

/// Copies what is in a folder, if there is one, into another.
fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    // The links of a merged /usr are followed, those inside stay links.
    let to = fs::canonicalize(to).with_context(|| to.display().to_string())?;
    expect_success(Command::new("cp").arg("-a").arg(from.join(".")).arg(to)).map(drop)
}

/// A program of the guest's, run here with the guest's own loader (these are options for it) and
/// libraries.
fn of_guest(options: &[&str], program: &str) -> Command {
    let guest = store().join("guest");
    let libraries = ["lib", "usr/lib"].map(|lib| guest.join(lib).join(ARCHITECTURE));
    let mut command = Command::new(libraries[0].join("ld-linux-x86-64.so.2"));
    let libraries = libraries.map(|folder| folder.display().to_string()).join(":");
    command.args(["--library-path", &libraries]).args(options).arg(guest.join(program));
    command
}

/// kmod with the libraries that it needs.
fn copy_kmod(root: &Path) -> anyhow::Result<()> {
    let output = expect_success(&mut of_guest(&["--list"], "bin/kmod"))?;
    let library = root.join("usr/lib").join(ARCHITECTURE);
    fs::create_dir_all(&library)?;
    for path in output.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
        let name = path.file_name().context("a library without a name")?;
        fs::copy(path, library.join(name)).with_context(|| path.display().to_string())?;
    }
    let loader = format!("../lib/{ARCHITECTURE}/ld-linux-x86-64.so.2");
    symlink(loader, root.join("usr/lib64/ld-linux-x86-64.so.2"))?;
    fs::copy(store().join("guest/bin/kmod"), root.join("usr/bin/kmod"))?;
    Ok(symlink("../bin/kmod", root.join("usr/sbin/modprobe"))?)
}

fn copy_modules(kernel: Kernel, parts: &[&str], root: &Path) -> anyhow::Result<()> {
    let release = kernel.release()?;
    let from = kernel.folder().join("lib/modules").join(&release);
    let to = root.join("usr/lib/modules").join(&release);
    fs::create_dir_all(&to)?;
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(from.join(list), to.join(list)).context(list)?;
    }
    for part in parts.iter().map(|part| Path::new("kernel").join(part)) {
        if from.join(&part).is_dir() {
            fs::create_dir_all(to.join(&part))?;
            copy_folder(&from.join(&part), &to.join(&part))?;
        } else {
            copy_module(&from.join(&part), &to.join(&part))?;
        }
    }
    let mut depmod = of_guest(&["--argv0", "depmod"], "bin/kmod");
    expect_success(depmod.arg("-b").arg(root).arg(&release)).map(drop)
}

/// One module, compressed or not.
fn copy_module(from: &Path, to: &Path) -> anyhow::Result<()> {
    let file = |path: &Path, end: &str| PathBuf::from(format!("{}.{end}", path.display()));
    let end = ["ko", "ko.xz"].into_iter().find(|end| file(from, end).exists());
    let end = end.with_context(|| format!("this kernel has no module {}", from.display()))?;
    fs::create_dir_all(to.parent().context("a module without a folder")?)?;
    fs::copy(file(from, end), file(to, end)).with_context(|| from.display().to_string())?;
    Ok(())
}

fn script(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// What a command has printed.
fn expect_success(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
