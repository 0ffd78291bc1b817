//! Intervals of real samples, as the suite `sampling` has them on this kernel, on older ones and
//! under several keys of the hash: each boot draws its own.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use xtask::vm::Kernel;

use crate::story::play;

pub(crate) fn on_6_1() -> anyhow::Result<()> {
    on(Kernel::Linux6_1)
}

pub(crate) fn on_6_12() -> anyhow::Result<()> {
    on(Kernel::Linux6_12)
}

/// The same entries on each boot, in another order; growth is told with the hash table resized
/// between its looks, which a shared host must not have.
const STEPS: &str = "
modprobe -a nf_conntrack nf_conntrack_netlink
step coverage timeout 60 sampling-coverage entries=800 sizes=100,400 runs=6 growth=4 resize=yes
";

fn on(kernel: Kernel) -> anyhow::Result<()> {
    const BOOTS: usize = 3;
    let story = play("sampling", kernel, 512, &[STEPS; BOOTS])?;
    let (mut orders, mut intervals, mut covered) = (BTreeSet::new(), 0, 0);
    for boot in 1..=BOOTS {
        let text = story.success(boot, "coverage")?;
        println!("boot {boot}\n{text}");
        orders.insert(after(text, "order ")?.to_owned());
        intervals += after(text, "intervals ")?.parse::<u64>()?;
        covered += after(text, "covered ")?.parse::<u64>()?;
    }
    ensure!(orders.len() == BOOTS, "of {BOOTS} boots two have the same order: {orders:?}");
    let share = covered as f64 / intervals as f64;
    // Wilson's cover 94.5 % of these on average; five standard deviations less is no chance.
    ensure!(
        intervals > 1000 && share > 0.915,
        "{covered} of {intervals} intervals cover the truth"
    );
    Ok(())
}

/// The rest of the line that begins so.
fn after<'t>(text: &'t str, beginning: &str) -> anyhow::Result<&'t str> {
    let line = text.lines().find_map(|line| line.strip_prefix(beginning));
    line.with_context(|| format!("no line {beginning}in {text}"))
}
