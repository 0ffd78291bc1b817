//! The programs that read settings at boot obey what `fix` wrote, whatever stood there before.
//!
//! `systemd-sysctl` and `sysctl --system` run in a private mount namespace with the tree's folders
//! in place of the host's, and with three plain files in place of `/proc/sys`: only the readers are
//! under test here.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::files::TARGET;
use crate::tree::{Tree, ensure_code};

/// `$1` is the tree, `$2` the folder in place of `/proc/sys`.
const SCRIPT: &str = r#"
set -eu
cd "$2"
for below in etc run usr/lib/sysctl.d usr/local/lib; do mount --bind "$1/$below" "/$below"; done
mount --bind "$2" /proc/sys
for reader in "/lib/systemd/systemd-sysctl" "sysctl --system"; do
    for value in max buckets; do echo 77 > net/netfilter/nf_conntrack_$value; done
    $reader > /dev/null 2>&1 || true
    cat net/netfilter/nf_conntrack_max net/netfilter/nf_conntrack_buckets
done
"#;

/// Files that contradict the target, each in a way of its own.
const CONTRADICTIONS: [(&str, &str); 9] = [
    ("etc/sysctl.conf", "net.netfilter.nf_conntrack_max = 600000"),
    ("etc/sysctl.d/zzz.conf", "net.netfilter.nf_conntrack_max = 1\n"),
    ("etc/sysctl.d/zzz.conf", "-net/nf_conntrack_max=1\nnet.netfilter.nf_conntrack_buckets=1\n"),
    ("etc/sysctl.d/zzz.conf", "net.netfilter.* = 1\n"),
    (
        "etc/sysctl.d/10-early.conf",
        "net.nf_conntrack_max = 1\nnet.netfilter.nf_conntrack_max = 2\n",
    ),
    ("usr/lib/sysctl.d/zzz-vendor.conf", "net.netfilter.nf_conntrack_max = 1\n"),
    ("run/sysctl.d/zz-ctkeeper.conf", "net.netfilter.nf_conntrack_max = 1\n"),
    ("etc/sysctl.d/zz-ctkeeper.conf", "net.netfilter.nf_conntrack_max = 1\n"),
    ("etc/odd/linked", "net.netfilter.nf_conntrack_max = 1\n"),
];

pub(crate) fn readers_obey() -> anyhow::Result<()> {
    for (file, content) in CONTRADICTIONS {
        let tree = Tree::new()?;
        for folder in ["run", "usr/lib/sysctl.d", "usr/local/lib"] {
            fs::create_dir_all(tree.path(folder))?;
        }
        tree.write(file, content)?;
        if file == "etc/odd/linked" {
            symlink("../odd/linked", tree.path("etc/sysctl.d/zzz-link.conf"))?;
        }
        let before = tree.picture()?;
        let what = format!("{file} says {content:?}");
        let output = tree.fix(TARGET)?;
        ensure_code(output, 0).with_context(|| what.clone())?;
        let seen = read_by_both(&tree)?;
        ensure!(seen == ["524288"; 4], "{what}: the readers leave {seen:?}");
        ensure_code(tree.fix(&["--undo"])?, 0)?;
        ensure!(tree.picture()? == before, "{what}");
        let seen = read_by_both(&tree)?;
        ensure!(seen != ["524288"; 4], "{what}: this proves nothing");
    }
    Ok(())
}

/// Limit and buckets as systemd leaves them, then as procps does.
fn read_by_both(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let values = tempfile::tempdir()?;
    let folder = values.path().join("net/netfilter");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("nf_conntrack_buckets"), "")?;
    fs::write(folder.join("nf_conntrack_max"), "")?;
    fs::hard_link(folder.join("nf_conntrack_max"), values.path().join("net/nf_conntrack_max"))?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--net", "sh", "-c", SCRIPT, "sh"]);
    let output = ensure_code(ctkeeper_tests::run(command.arg(tree.root()).arg(values.path()))?, 0)?;
    Ok(output.stdout.lines().map(str::to_owned).collect())
}
