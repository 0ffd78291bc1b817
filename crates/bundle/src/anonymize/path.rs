//! Paths: folders that every host has stay, others get pseudonyms.

use super::pseudonym::{Pseudonyms, is_id};
use super::words;

/// Endings that tell what a file is.
const ENDINGS: [&str; 15] = [
    ".automount",
    ".conf",
    ".json",
    ".ko",
    ".mount",
    ".rules",
    ".scope",
    ".service",
    ".slice",
    ".sock",
    ".socket",
    ".swap",
    ".target",
    ".toml",
    ".yaml",
];

/// What stands before an id in the control groups of runtimes and of kubelet.
const BEFORE_IDS: [&str; 12] = [
    "cri-containerd-",
    "cri-containerd:",
    "crio-conmon-",
    "crio-",
    "docker-",
    "libpod-conmon-",
    "libpod-",
    "kubepods-besteffort-pod",
    "kubepods-burstable-pod",
    "kubepods-pod",
    "pod",
    "lxc-",
];

impl Pseudonyms {
    /// A path that stands alone in a field; looked for in texts from now on where those would not
    /// be taken apart in the same way.
    pub(super) fn path(&mut self, path: &str) -> String {
        let given = self.path_of(path);
        if path.contains(|c: char| !c.is_ascii_graphic()) {
            self.learn(path, &given);
        }
        given
    }

    /// A path, absolute or not, without anything behind it.
    pub(super) fn path_of(&self, path: &str) -> String {
        let mut before = "";
        let parts = path.split('/').map(|part| {
            let given = self.component(part, before);
            before = part;
            given
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// A part of a path, below the part `before`.
    fn component(&self, part: &str, before: &str) -> String {
        let is_pid = before == "proc" && part.bytes().all(|byte| byte.is_ascii_digit());
        if matches!(part, "" | "." | "..") || is_pid {
            return part.to_owned();
        }
        let (order, rest) = split_order(part);
        let ending = ENDINGS.into_iter().find(|ending| rest.ends_with(ending)).unwrap_or("");
        let stem = rest.strip_suffix(ending).unwrap_or(rest);
        format!("{order}{}{ending}", self.stem(stem))
    }

    fn stem(&self, stem: &str) -> String {
        if words::is_known(stem) {
            return stem.to_owned();
        }
        for prefix in BEFORE_IDS {
            if let Some(id) = stem.strip_prefix(prefix).filter(|id| is_id(id)) {
                return format!("{prefix}{}", self.of(id));
            }
        }
        self.of(stem)
    }
}

/// The number by which drop-in files are ordered, `50-`, and the rest of the name.
fn split_order(name: &str) -> (&str, &str) {
    match name.find('-') {
        Some(at @ 1..=2) if name.bytes().take(at).all(|byte| byte.is_ascii_digit()) => {
            name.split_at(at + 1)
        }
        _ => ("", name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pseudonym::Key;
    use super::*;

    fn given(path: &str) -> String {
        Pseudonyms::new(&Key::new([1; 32])).path(path)
    }

    fn name(original: &str) -> String {
        Pseudonyms::new(&Key::new([1; 32])).of(original)
    }

    #[test]
    fn standard_folders_stay() {
        for same in [
            "/etc/sysctl.conf",
            "/etc/sysctl.d/99-sysctl.conf",
            "/proc/cmdline",
            "/proc/12/ns/net",
            "/etc/modprobe.d/nf_conntrack.conf",
            "/var/lib/kubelet/config.yaml",
            "/dev/kmsg",
            "/system.slice/haproxy.service",
            "/sys/fs/cgroup/kubepods.slice/memory.max",
            "/",
            "",
            "/user.slice/user-1000.slice/session-2.scope",
            "/usr/lib/sysctl.d/50-default.conf",
        ] {
            assert_eq!(given(same), same);
        }
    }

    #[test]
    fn other_parts_get_pseudonyms() {
        let acme = name("acme");
        assert_eq!(given("/etc/sysctl.d/99-acme.conf"), format!("/etc/sysctl.d/99-{acme}.conf"));
        assert_eq!(given("/srv/acme/etc/x y"), format!("/srv/{acme}/etc/{}", name("x y")));
        assert_eq!(given("/system.slice/acme.service"), format!("/system.slice/{acme}.service"));
        assert_eq!(given("/srv/4711/etc"), format!("/srv/{}/etc", name("4711")));
        assert_eq!(given("/srv/4711.conf"), format!("/srv/{}.conf", name("4711")));
        assert_eq!(given("/srv/10-4711.conf"), format!("/srv/10-{}.conf", name("4711")));
        assert_eq!(given("/srv/ip-10-0-0-1"), format!("/srv/{}", name("ip-10-0-0-1")));
    }

    #[test]
    fn ids_are_the_same_wherever_they_stand() {
        let id = "3f2a9c1b7d04e5a69788b0c1d2e3f4053f2a9c1b7d04e5a69788b0c1d2e3f405";
        let (short, uid) = (name(&id[..12]), "0f3c2a1b_1111_2222_3333_444455556666");
        assert_eq!(given(&format!("/docker/{id}")), format!("/docker/{short}"));
        assert_eq!(
            given(&format!("/system.slice/docker-{id}.scope")),
            format!("/system.slice/docker-{short}.scope")
        );
        assert_eq!(
            given(&format!("/kubepods.slice/kubepods-burstable-pod{uid}.slice")),
            format!("/kubepods.slice/kubepods-burstable-pod{}.slice", name(uid))
        );
    }

    #[test]
    fn a_path_with_blanks_is_found_in_texts() {
        let mut pseudonyms = Pseudonyms::new(&Key::new([1; 32]));
        let path = pseudonyms.path("/srv/log and file/x");
        assert_eq!(
            pseudonyms.text("reading /srv/log and file/x: denied").matches(&path).count(),
            1
        );
    }
}
