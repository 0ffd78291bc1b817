//! The engine against older kernels, packet by packet, as the suite `engine` does on this one.

use anyhow::ensure;
use xtask::vm::Kernel;

use crate::story::play;

pub(crate) fn on_6_1() -> anyhow::Result<()> {
    on(Kernel::Linux6_1)
}

pub(crate) fn on_6_12() -> anyhow::Result<()> {
    on(Kernel::Linux6_12)
}

/// An emulated processor plays a tenth of what a real one does in the time, and a busy one less.
const STEPS: &str = "
modprobe -a nf_conntrack nf_conntrack_netlink tun
step differential timeout 220 engine-differential sequences=900 seconds=45
";

fn on(kernel: Kernel) -> anyhow::Result<()> {
    let story = play("engine", kernel, 512, &[STEPS])?;
    let output = story.output(1, "differential")?;
    println!("{}", output.stdout);
    ensure!(output.code == Some(0), "{:?}: {}", output.code, output.stderr);
    Ok(())
}
