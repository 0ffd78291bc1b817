//! ctkeeper on Debian's own kernels, where connection tracking is a module, in virtual machines
//! whose processor is emulated: what a host's built-in tracking cannot show, and what only a
//! reboot shows.
//!
//! Real: the kernels (6.1 and 6.12, with their modules), kmod with modprobe.d, systemd-modules-load,
//! systemd-sysctl, procps' sysctl, nft, the files that Debian ships for them, a disk with ext4 that
//! outlives reboots, packets over loopback. Stands in: a script for systemd as PID 1, which runs
//! these programs in the order of their units.

mod cpio;
mod fix;
mod guest;
mod machine;
mod seed;
mod wall;

use std::process::ExitCode;

use ctkeeper_tests::{Case, Need, main as harness};

const STABLE: &[Need] = &[
    Need::Fetched("target/vm/linux-image-cloud-amd64"),
    Need::Fetched("target/vm/guest"),
    Need::Fetched("target/vm/qemu"),
    Need::Program("mkfs.ext4", "e2fsprogs"),
    Need::Program("setpriv", "util-linux"),
];
const NEWER: &[Need] = &[
    Need::Fetched("target/vm/linux-image-6.12-cloud-amd64"),
    Need::Fetched("target/vm/guest"),
    Need::Fetched("target/vm/qemu"),
    Need::Program("mkfs.ext4", "e2fsprogs"),
    Need::Program("setpriv", "util-linux"),
];

fn main() -> ExitCode {
    harness(&[
        Case { name: "seed_6_1", needs: STABLE, run: seed::on_stable },
        Case { name: "seed_6_12", needs: NEWER, run: seed::on_newer },
        Case { name: "fix_6_1", needs: STABLE, run: fix::on_stable },
        Case { name: "fix_6_12", needs: NEWER, run: fix::on_newer },
        Case { name: "walls_6_1", needs: STABLE, run: wall::on_stable },
        Case { name: "walls_6_12", needs: NEWER, run: wall::on_newer },
    ])
}
