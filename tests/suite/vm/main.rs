//! ctkeeper on Debian's own kernels, where connection tracking is a module, in virtual machines
//! whose processor is emulated: what a host's built-in tracking cannot show, and what only a
//! reboot shows.
//!
//! Real: the kernels (6.1 and 6.12, with their modules), kmod with modprobe.d, systemd-modules-load,
//! systemd-sysctl, procps' sysctl, nft, the files that Debian ships for them, a disk with ext4 that
//! outlives reboots, packets over loopback. Stands in: a script for systemd as PID 1, which runs
//! these programs in the order of their units.

mod engine;
mod fix;
mod matrix;
mod namespaces;
mod sampling;
mod seed;
mod story;
mod wall;

use std::process::ExitCode;
use std::sync::LazyLock;

use ctkeeper_tests::{Case, Need, main as harness};

const LINUX_6_1: &[Need] = &needs("target/vm/linux-6.1");
const LINUX_6_12: &[Need] = &needs("target/vm/linux-6.12");

const fn needs(kernel: &'static str) -> [Need; 5] {
    [
        Need::Fetched(kernel),
        Need::Fetched("target/vm/guest"),
        Need::Fetched("target/vm/qemu"),
        Need::Program("mkfs.ext4", "e2fsprogs"),
        Need::Program("setpriv", "util-linux"),
    ]
}

fn main() -> ExitCode {
    LazyLock::force(&story::BEGIN);
    // Two run side by side; this order keeps the longest from coming last, and the two matrices, of
    // two processors each, from meeting.
    harness(&[
        Case { name: "6.1/matrix", needs: LINUX_6_1, run: matrix::on_6_1 },
        Case { name: "6.12/fix", needs: LINUX_6_12, run: fix::on_6_12 },
        Case { name: "6.12/seed", needs: LINUX_6_12, run: seed::on_6_12 },
        Case { name: "6.12/matrix", needs: LINUX_6_12, run: matrix::on_6_12 },
        Case { name: "6.1/seed", needs: LINUX_6_1, run: seed::on_6_1 },
        Case { name: "6.1/fix", needs: LINUX_6_1, run: fix::on_6_1 },
        Case { name: "6.12/engine", needs: LINUX_6_12, run: engine::on_6_12 },
        Case { name: "6.1/engine", needs: LINUX_6_1, run: engine::on_6_1 },
        Case { name: "6.12/walls", needs: LINUX_6_12, run: wall::on_6_12 },
        Case { name: "6.1/walls", needs: LINUX_6_1, run: wall::on_6_1 },
        Case { name: "6.12/sampling", needs: LINUX_6_12, run: sampling::on_6_12 },
        Case { name: "6.1/sampling", needs: LINUX_6_1, run: sampling::on_6_1 },
        Case { name: "6.12/namespaces", needs: LINUX_6_12, run: namespaces::on_6_12 },
        Case { name: "6.1/namespaces", needs: LINUX_6_1, run: namespaces::on_6_1 },
    ])
}
