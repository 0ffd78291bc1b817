//! What gives nobody away and may stay.

use std::collections::HashSet;
use std::sync::LazyLock;

/// The list that stands beside this file.
static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    include_str!("words.txt").lines().filter(|line| !line.starts_with('#')).collect()
});

/// Programs that run on many hosts, by their command names (the kernel cuts them at 15 bytes). That
/// it is HAProxy tells a colleague a lot, and of nobody.
const PROGRAMS: &[&str] = &[
    "apache2",
    "bash",
    "caddy",
    "calico-node",
    "chronyd",
    "cilium-agent",
    "conmon",
    "conntrackd",
    "containerd",
    "containerd-shim",
    "coredns",
    "crio",
    "cron",
    "ctkeeper",
    "dash",
    "dnsmasq",
    "dockerd",
    "docker-proxy",
    "envoy",
    "etcd",
    "fail2ban-server",
    "firewalld",
    "flanneld",
    "haproxy",
    "httpd",
    "ip",
    "java",
    "k0s",
    "k3s",
    "k3s-agent",
    "k3s-server",
    "keepalived",
    "kubelet",
    "kubelite",
    "kube-apiserver",
    "kube-proxy",
    "kube-router",
    "libvirtd",
    "mariadbd",
    "memcached",
    "microk8s",
    "mysqld",
    "named",
    "nginx",
    "node",
    "openvpn",
    "pause",
    "podman",
    "postgres",
    "python3",
    "redis-server",
    "rke2",
    "rsyslogd",
    "runc",
    "sh",
    "sleep",
    "squid",
    "sshd",
    "systemd",
    "systemd-network",
    "systemd-resolve",
    "systemd-udevd",
    "tini",
    "traefik",
    "tuned",
    "ufw",
    "unbound",
    "varnishd",
    "zsh",
];

/// Tables and chains that come with the kernel, with iptables, or with Docker, Kubernetes, libvirt
/// and firewalld on every host that has them.
const RULE_NAMES: &[&str] = &[
    "CNI-ADMIN",
    "CNI-FORWARD",
    "DOCKER",
    "DOCKER-BRIDGE",
    "DOCKER-CT",
    "DOCKER-FORWARD",
    "DOCKER-INTERNAL",
    "DOCKER-ISOLATION-STAGE-1",
    "DOCKER-ISOLATION-STAGE-2",
    "DOCKER-USER",
    "DOCKER_OUTPUT",
    "DOCKER_POSTROUTING",
    "FORWARD",
    "INPUT",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FIREWALL",
    "KUBE-FORWARD",
    "KUBE-MARK-DROP",
    "KUBE-MARK-MASQ",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SERVICES",
    "LIBVIRT_FWI",
    "LIBVIRT_FWO",
    "LIBVIRT_FWX",
    "LIBVIRT_INP",
    "LIBVIRT_OUT",
    "LIBVIRT_PRT",
    "OUTPUT",
    "POSTROUTING",
    "PREROUTING",
    "broute",
    "egress",
    "filter",
    "firewalld",
    "forward",
    "ingress",
    "input",
    "kube-proxy",
    "mangle",
    "nat",
    "output",
    "postrouting",
    "prerouting",
    "raw",
    "security",
];

/// Parts of architectures and names of programs that are neither words nor numbers.
const MIXED: &[&str] =
    &["armv6l", "armv7l", "i386", "i586", "i686", "k0s", "k3s", "ppc64le", "s390x", "x86"];

/// Whether a command name is that of a widely used program.
pub(super) fn is_program(command: &str) -> bool {
    PROGRAMS.contains(&command)
}

/// Whether a table or chain is one that many hosts have.
pub(super) fn is_rule_name(name: &str) -> bool {
    RULE_NAMES.contains(&name)
}

/// Whether it is a word that gives nobody away.
pub(super) fn is_word(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    WORDS.contains(word.as_str()) || MIXED.contains(&word.as_str())
}

/// Whether every part of a compound is such a word, or a number that belongs to one:
/// `nf_conntrack_max`, `eth0`, `system.slice`. More than one number might be an address
/// (`ip-10-0-0-1`) and is not known.
pub(super) fn is_known(compound: &str) -> bool {
    let mut numbers = 0;
    let mut words = 0;
    for part in compound.split(['-', '_', '.', '/', ':', '@', '+', '%']) {
        if part.is_empty() {
            continue;
        }
        let stem = part.trim_end_matches(|c: char| c.is_ascii_digit());
        if stem.len() < part.len() {
            numbers += 1;
        }
        if is_program(part) || is_word(part) || is_word(stem) {
            words += 1;
        } else if !stem.is_empty() {
            return false;
        }
    }
    words > 0 && numbers <= 1
}

/// Whether it is a number as people write them: digits, grouped or with decimals, a sign, a unit
/// (`1,024`, `16.5`, `5%`, `60s`, `1Gi`), a time. What has more parts might be an address.
pub(super) fn is_number(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit() && !"., :-/".contains(c)) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let begins = number.starts_with(|c: char| c.is_ascii_digit());
    let parts = number.split(['.', ':', '-', '/', ' ']).count();
    begins && parts <= 3 && is_unit(unit)
}

fn is_unit(text: &str) -> bool {
    const UNITS: [&str; 20] = [
        "", "%", "s", "ms", "us", "ns", "m", "min", "h", "d", "k", "K", "M", "G", "Ki", "Mi", "Gi",
        "KiB", "MiB", "GiB",
    ];
    UNITS.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_lower_case() {
        let lines: Vec<_> =
            include_str!("words.txt").lines().filter(|l| !l.starts_with('#')).collect();
        assert!(lines.is_sorted() && lines.len() == WORDS.len());
        assert!(lines.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        assert!(PROGRAMS.iter().chain(RULE_NAMES).all(|name| !name.is_empty()));
    }

    #[test]
    fn compounds_of_known_words_are_known() {
        for known in [
            "net.netfilter.nf_conntrack_tcp_timeout_established",
            "eth0",
            "system.slice",
            "kube-proxy",
            "user@1000.service",
            "packets/s",
            "PREROUTING",
            "conf.d",
            "haproxy.service",
        ] {
            assert!(is_known(known), "{known}");
        }
        for unknown in [
            "acme",
            "acme.service",
            "net.acme",
            "ip-10-0-0-1",
            "node-10.0.0.1",
            "",
            "4711",
            "größe",
            "cpu1-cpu2",
            "-",
            "\u{1b}",
        ] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }

    #[test]
    fn numbers_are_told_from_addresses() {
        for number in
            ["4026532465", "1,024", "16.5", "5%", "60s", "1Gi", "-1", "12:34:56", "6.18.44"]
        {
            assert!(is_number(number), "{number}");
        }
        for other in
            ["10.0.0.1", "10-0-0-1", "00:11:22:33:44:55", "4711acme", "acme", "", "%", "0a01"]
        {
            assert!(!is_number(other), "{other}");
        }
    }
}
