//! Every cause's scenario against every finding that names a cause, on older kernels.
//!
//! Loads are slower here than their scenarios ask for, and some expectations of load figures go
//! unmet; what is asserted is what doctor makes of what there was.

use anyhow::{Context, ensure};
use ctkeeper_lab::scenario::{Scenario, embedded};
use ctkeeper_tests::Matrix;
use xtask::vm::{Hardware, Kernel};

use crate::story::play_with;

pub(crate) fn on_6_1() -> anyhow::Result<()> {
    on(Kernel::Linux6_1)
}

pub(crate) fn on_6_12() -> anyhow::Result<()> {
    on(Kernel::Linux6_12)
}

/// What the kernel would not load by itself.
const BEGIN: &str = "modprobe -a nf_conntrack nf_conntrack_netlink\n";

/// Places, unless a scenario needs more of them: few are soon filled.
const LIMIT: u64 = 16_384;
/// Of fewer an evicted connection is missed by its own next packet.
const FOR_EVICTIONS: u64 = 65_536;
/// Buckets for a scenario that shows itself on few only.
const FEW: u64 = 512;

fn on(kernel: Kernel) -> anyhow::Result<()> {
    let names = wanted();
    let steps = steps(&names)?;
    // Two packets at one moment need two processors.
    let hardware = Hardware { mebibytes: 768, processors: 2 };
    let story = play_with("matrix", kernel, hardware, &[&steps])?;
    let mut matrix = Matrix::default();
    for name in &names {
        matrix.take(name, story.output(1, name)?)?;
    }
    println!("Linux {kernel}, emulated:\n{matrix}");
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        println!("not met by slow loads:\n{}\n", matrix.unmet().join("\n"));
    }
    matrix.ensure_all_ran_but(&[])?;
    matrix.ensure_only_the_diagonal()
}

/// The scenarios that come with ctkeeper, or those that are asked for. The nightmare has no cause of
/// its own, only more of them.
fn wanted() -> Vec<&'static str> {
    let asked = std::env::var("CTKEEPER_LAB_SCENARIOS").unwrap_or_default();
    let asked: Vec<_> = asked.split(',').filter(|name| !name.is_empty()).collect();
    let all = embedded().iter().map(|(name, _)| *name).filter(|name| *name != "nightmare");
    all.filter(|name| asked.is_empty() || asked.contains(name)).collect()
}

/// A step for each scenario, on limit and buckets that suit it: as many as places, as the kernel
/// itself has it, or few.
fn steps(names: &[&str]) -> anyhow::Result<String> {
    let mut steps = BEGIN.to_owned();
    for name in names {
        let scenario = Scenario::named(name).context("no such scenario")??;
        let wanted = scenario.host.limit_at_least.unwrap_or(LIMIT).max(LIMIT);
        let evicts = scenario.finds.iter().any(|cause| cause == "early-drop");
        let limit = if evicts { wanted.max(FOR_EVICTIONS) } else { wanted };
        let buckets = scenario.host.buckets_at_most.map_or(limit, |most| most.min(FEW));
        let text = lighter(name)?;
        steps += &format!(
            "cat > /run/{name}.toml <<'SCENARIO'\n{text}\nSCENARIO\n\
             echo {limit} > /proc/sys/net/netfilter/nf_conntrack_max\n\
             echo {buckets} > /proc/sys/net/netfilter/nf_conntrack_buckets\n\
             step {name} timeout 100 ctkeeper lab run /run/{name}.toml --json\n"
        );
    }
    Ok(steps)
}

/// Loads that are more than an emulated processor can do in the time, and what it gets instead: of
/// 16,384 places a tenth of the connections through a proxy take the same share.
const LIGHTER: [(&str, &str, &str); 3] = [
    ("two-entries", "rate = 2000.0, count = 6000", "rate = 300.0, count = 600"),
    ("half-open-flood", "rate = 2000.0", "rate = 300.0"),
    ("half-open-flood", "rate = 500.0", "rate = 100.0"),
];

fn lighter(name: &str) -> anyhow::Result<String> {
    let text = embedded().iter().find(|(known, _)| *known == name).context("no such scenario")?.1;
    let mut text = text.to_owned();
    for (_, load, lighter) in LIGHTER.iter().filter(|(scenario, ..)| *scenario == name) {
        ensure!(text.contains(load), "{name} has another load now: make it lighter here as well");
        text = text.replace(load, lighter);
    }
    Ok(text)
}
