//! Programs that are known to set limit or buckets themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::sysctl_files;
use crate::read;

/// Processes looked at.
const PROCESSES: usize = 32_768;

/// Command names and what writes under them. kube-proxy sets limit, buckets and two timeouts from
/// its configuration (`pkg/proxy/conntrack/sysctls.go`); k3s, RKE2 and MicroK8s have it built in;
/// tuned applies its profiles' `[sysctl]` sections.
const WRITERS: [(&str, &str); 9] = [
    ("kube-proxy", "kube-proxy"),
    ("k3s", "k3s"),
    ("k3s-server", "k3s"),
    ("k3s-agent", "k3s"),
    ("rke2", "rke2"),
    ("kubelite", "microk8s"),
    ("k0s", "k0s"),
    ("tuned", "tuned"),
    ("kube-router", "kube-router"),
];

/// ufw writes the lines of its own file whenever it starts.
const UFW: (&str, &str) = ("etc/ufw/ufw.conf", "etc/ufw/sysctl.conf");

/// The names of the writers that run on this host, or will at boot.
pub(super) fn find(root: &Path) -> Vec<String> {
    let mut found: BTreeSet<&str> = running(root);
    if ufw_writes(root) {
        found.insert("ufw");
    }
    found.into_iter().map(str::to_owned).collect()
}

fn running(root: &Path) -> BTreeSet<&'static str> {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let processes = entries.filter(|entry| {
        entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
    });
    let commands =
        processes.take(PROCESSES).filter_map(|p| read::value(p.path().join("comm")).ok());
    commands.filter_map(|command| writer(&command)).collect()
}

fn writer(command: &str) -> Option<&'static str> {
    WRITERS.iter().find(|(name, _)| *name == command).map(|(_, writer)| *writer)
}

fn ufw_writes(root: &Path) -> bool {
    let (switch, settings) = UFW;
    let enabled = read::text(&root.join(switch))
        .is_ok_and(|text| text.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes")));
    enabled
        && read::text(&root.join(settings))
            .is_ok_and(|text| sysctl_files::mentions_conntrack(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_told_by_their_names() {
        let root = tempfile::tempdir().unwrap();
        for (pid, command) in
            [("7", "kube-proxy"), ("8", "k3s-server"), ("9", "bash"), ("x", "tuned")]
        {
            fs::create_dir_all(root.path().join("proc").join(pid)).unwrap();
            fs::write(root.path().join("proc").join(pid).join("comm"), format!("{command}\n"))
                .unwrap();
        }
        assert_eq!(find(root.path()), ["k3s", "kube-proxy"]);
    }

    #[test]
    fn ufw_counts_when_it_is_on_and_has_a_line() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/ufw")).unwrap();
        let put = |name: &str, text: &str| {
            fs::write(root.path().join("etc/ufw").join(name), text).unwrap();
        };
        put("ufw.conf", "ENABLED=yes\n");
        put("sysctl.conf", "#net/netfilter/nf_conntrack_max=5\n");
        assert!(find(root.path()).is_empty());
        put("sysctl.conf", "net/netfilter/nf_conntrack_max=5\n");
        assert_eq!(find(root.path()), ["ufw"]);
        put("ufw.conf", "ENABLED=no\n");
        assert!(find(root.path()).is_empty());
    }
}
