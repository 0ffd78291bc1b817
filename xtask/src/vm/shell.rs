//! A console in a guest, for whoever wants to look around.

use std::process::Command;

use anyhow::Context;
use rustix::termios::tcgetwinsize;

use super::{Guest, Hardware, Kernel, build_programs, machine, store};

/// What the shell's boot does instead of steps.
const STEPS: &str = include_str!("shell.sh");

/// Boots a guest with that many MiB of memory and gives it the terminal until it ends.
pub fn shell(kernel: Kernel, mebibytes: u32) -> anyhow::Result<()> {
    std::fs::create_dir_all(store())?;
    let folder = tempfile::Builder::new().prefix("shell-").tempdir_in(store())?;
    println!("making the guest's disk …");
    let guest = Guest::make(kernel, &build_programs()?, folder.path())?;
    let initramfs = folder.path().join("initramfs");
    guest.initramfs(&[("boot-1.sh".to_owned(), STEPS)], &initramfs)?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    let hardware = Hardware { mebibytes, processors: 1 };
    machine::qemu(&mut command, &guest, hardware, &initramfs)?;
    command.args(["-append", &machine::kernel_line(&format!("quiet {}", terminal()))]);
    command.args(["-serial", "mon:stdio", "-serial", "null"]);
    println!("booting Linux {}; Ctrl-A X leaves at any time", kernel.release()?);
    command.status().context("starting QEMU")?;
    Ok(())
}

/// The terminal as the guest's kernel hands it on to its first process: as environment.
fn terminal() -> String {
    let name = std::env::var("TERM").unwrap_or_default();
    let fit = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let name = if fit { name.as_str() } else { "linux" };
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 => {
            format!("TERM={name} terminal_rows={} terminal_columns={}", size.ws_row, size.ws_col)
        }
        _ => format!("TERM={name}"),
    }
}
