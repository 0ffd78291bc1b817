//! Running values of this host: raised and put back, under the lock that guards them.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use ctkeeper_tests::{Filling, HostValues, Namespace, Output, fill, run};

use crate::files::{on_private_host, private_host};
use crate::tree::{Tree, ensure_code};

const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// A host with private files, whose values are the real ones.
struct Host {
    values: HostValues,
    tree: Tree,
    target: u64,
}

impl Host {
    fn new() -> anyhow::Result<Self> {
        let values = HostValues::lock()?;
        let tree = Tree::new()?;
        // Without the seed's line, so that files and running values begin alike.
        tree.write("etc/sysctl.conf", "vm.swappiness = 60\n")?;
        fs::create_dir_all(tree.path("var/lib"))?;
        let target = 2 * values.limit().max(values.buckets());
        Ok(Self { values, tree, target })
    }

    fn fix(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        on_private_host(&self.tree, arguments)
    }

    fn fix_to_target(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let target = self.target.to_string();
        self.fix(&[&["--target", &target, "--yes"], arguments].concat())
    }

    fn ensure_before(&self) -> anyhow::Result<()> {
        let (limit, buckets) = running()?;
        let before = (self.values.limit(), self.values.buckets());
        ensure!((limit, buckets) == before, "{limit} and {buckets} run, {before:?} did");
        Ok(())
    }

    fn ensure_raised(&self) -> anyhow::Result<()> {
        let (limit, buckets) = running()?;
        ensure!(limit == self.target && buckets >= self.target, "{limit} and {buckets} run");
        Ok(())
    }
}

fn running() -> anyhow::Result<(u64, u64)> {
    let number = |file: &str| -> anyhow::Result<u64> {
        fs::read_to_string(file)?.trim().parse().context(file.to_owned())
    };
    Ok((number(LIMIT)?, number(BUCKETS)?))
}

pub(crate) fn running_values() -> anyhow::Result<()> {
    let host = Host::new()?;
    let before = host.tree.picture()?;
    for persist in [&["--no-persist"][..], &[]] {
        let output = ensure_code(host.fix_to_target(persist)?, 0)?;
        host.ensure_raised()?;
        let (buckets, limit) = (
            output.stdout.find("net.netfilter.nf_conntrack_buckets:"),
            output.stdout.find("net.netfilter.nf_conntrack_max:"),
        );
        ensure!(buckets.context("buckets")? < limit.context("limit")?, "buckets come first");
        ensure!(persist.is_empty() || host.tree.picture()? == before, "--no-persist wrote files");
        let again = ensure_code(host.fix_to_target(persist)?, 0)?;
        ensure!(again.stdout.contains("nothing to do"), "{again:?}");
        ensure_code(host.fix(&["--undo"])?, 0)?;
        host.ensure_before()?;
        ensure!(host.tree.picture()? == before);
    }
    Ok(())
}

/// The values are raised, then `/etc` turns out to be read-only: they come back.
pub(crate) fn running_then_read_only() -> anyhow::Result<()> {
    let host = Host::new()?;
    let target = host.target.to_string();
    let read_only = "mount -o remount,bind,ro /etc &&";
    let output = run(&mut private_host(&host.tree, read_only, &["--target", &target, "--yes"]))?;
    let output = ensure_code(output, 1)?;
    ensure!(output.stderr.contains("read-only") && output.stdout.contains("nf_conntrack_max:"));
    host.ensure_before()
}

/// Killed at every write, rename and sync, with running values and files: the next run brings
/// both back, or both are as planned.
pub(crate) fn running_killed() -> anyhow::Result<()> {
    let host = Host::new()?;
    let before = host.tree.picture()?;
    let target = host.target.to_string();
    for call in ["write", "fsync", "renameat"] {
        let mut complete = false;
        for number in 1..200 {
            let tracer =
                format!("strace -f -qq -o /dev/null -e inject={call}:signal=SIGKILL:when={number}");
            let output =
                run(&mut private_host(&host.tree, &tracer, &["--target", &target, "--yes"]))?;
            let what = format!("killed at {call} number {number}: {output:?}");
            let recovered = host.fix(&["--no-persist"])?;
            ensure!(matches!(recovered.code, Some(0 | 4)), "{what}: {recovered:?}");
            let changes = host.fix(&["--history", "--json"])?.stdout;
            ensure!(!changes.contains("\"applying\""), "{what}: {changes}");
            if changes.contains("\"done\"") {
                host.ensure_raised().with_context(|| what.clone())?;
                ensure_code(host.fix(&["--undo"])?, 0)?;
            }
            host.ensure_before().with_context(|| what.clone())?;
            ensure!(host.tree.picture()? == before, "{what}");
            clear(&host.tree.path("var/lib/ctkeeper"))?;
            complete = output.code == Some(0);
            if complete {
                break;
            }
        }
        ensure!(complete, "{call}: no run came to its end");
    }
    Ok(())
}

/// An undo that would refuse connections at once is refused.
pub(crate) fn undo_below_the_count() -> anyhow::Result<()> {
    let host = Host::new()?;
    ensure_code(host.fix_to_target(&["--no-persist"])?, 0)?;
    let namespace = Namespace::create()?;
    fill(&namespace, 0, host.values.limit() + 500, Filling::Established { timeout: 600 })?;
    let output = ensure_code(host.fix(&["--undo"])?, 1)?;
    ensure!(
        output.stderr.contains("holds") && output.stderr.contains(namespace.name()),
        "{output:?}"
    );
    host.ensure_raised()?;
    // Nor does force refuse connections, whoever set the limit that runs.
    host.values.raise_limit(2 * host.target)?;
    let output = ensure_code(host.fix(&["--undo", "--force"])?, 1)?;
    ensure!(output.stderr.contains(namespace.name()), "{output:?}");
    ensure!(running()?.0 == 2 * host.target);
    drop(namespace);
    // The kernel takes a namespace down after it is gone.
    let mut undone = host.fix(&["--undo", "--force"])?;
    for _ in 0..50 {
        if undone.code == Some(0) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        undone = host.fix(&["--undo", "--force"])?;
    }
    ensure_code(undone, 0)?;
    host.ensure_before()
}

/// The seed's two commands leave a limit without buckets that a reboot forgets (where the module
/// comes late); one `fix` makes them good, and doctor has no more to say about either.
pub(crate) fn the_seeds_fix_made_good() -> anyhow::Result<()> {
    let host = Host::new()?;
    host.tree.write("etc/sysctl.conf", crate::tree::SEED)?;
    host.values.raise_limit(600_000)?;
    let output = ensure_code(host.fix(&["--yes"])?, 0)?;
    let (limit, buckets) = running()?;
    ensure!((limit, buckets) == (600_000, 600_064), "{limit} and {buckets}: {output:?}");
    let kept = host.tree.read("etc/sysctl.d/zz-ctkeeper.conf")?;
    ensure!(kept.contains("nf_conntrack_buckets = 600064"), "{kept}");
    // The seed's own line says the same as ours, and stays.
    ensure!(host.tree.read("etc/sysctl.conf")? == crate::tree::SEED);
    ensure_code(host.fix(&["--undo"])?, 0)?;
    ensure!(running()? == (600_000, host.values.buckets()));
    Ok(())
}

/// A run that was killed early left no folder.
fn clear(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() { fs::remove_dir_all(folder) } else { Ok(()) }
}
