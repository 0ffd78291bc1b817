//! What network namespaces are called, and who is in them.
//!
//! Names come from bind mounts (`ip netns`, CNI, Docker's sandboxes) and from the control group of a
//! process: runtimes put a container's id, Kubernetes its pod's id into the path. No runtime is
//! asked. All of it is others' choice: hostile input.

use std::path::Path;

use ctkeeper_netlink::netns::FoundNamespace;
use ctkeeper_snapshot::NamespaceProcess;

use crate::cgroup::{self, Membership, is_hexadecimal};
use crate::read;

/// Processes described on the whole host: `/proc` is read twice for each.
const PROCESSES: usize = 512;

/// Processes described of one namespace, at most.
const PROCESSES_EACH: usize = 5;

/// Characters of a container's id that are shown, as the runtimes' own tools do.
const SHORT_ID: usize = 12;

/// Names and processes of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its names, best first: those that people gave, then container or pod, then sandboxes'.
    pub names: Vec<String>,
    /// Some of its processes, lowest pid first.
    pub processes: Vec<NamespaceProcess>,
}

/// Describes a namespace, with as many of its processes as [`processes_each`] allows. What has ended
/// meanwhile is left out.
pub fn describe(found: &FoundNamespace, processes: usize) -> Description {
    describe_in(Path::new("/proc"), found, processes)
}

/// Processes to describe of each namespace, so that the cost stays within bounds on a host of
/// `namespaces` of them: five of a few, one of many.
pub fn processes_each(namespaces: usize) -> usize {
    (PROCESSES / namespaces.max(1)).clamp(1, PROCESSES_EACH)
}

fn describe_in(proc: &Path, found: &FoundNamespace, processes: usize) -> Description {
    let pids = found.processes.iter().copied();
    let described = pids.filter_map(|pid| process(proc, pid)).take(processes);
    let (processes, groups): (Vec<_>, Vec<_>) = described.unzip();
    let holder = groups.iter().flatten().find_map(holder);
    let (mut given, generated): (Vec<_>, Vec<_>) =
        found.paths.iter().map(|path| mount_name(path)).partition(|(_, given)| *given);
    given.extend(holder.map(|name| (name, true)));
    given.extend(generated);
    let mut names: Vec<String> = Vec::new();
    for (name, _) in given {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Description { names, processes }
}

fn process(proc: &Path, pid: u32) -> Option<(NamespaceProcess, Option<Membership>)> {
    let comm = read::text(&proc.join(pid.to_string()).join("comm")).ok()?;
    let command = comm.trim_end_matches('\n').to_owned();
    let group = cgroup::in_proc(proc, pid);
    let path = group.as_ref().map(|group| group.path.clone());
    Some((NamespaceProcess { pid, command, cgroup: path }, group))
}

/// The name of a bind mount, and whether somebody gave it (rather than a program made it up).
fn mount_name(path: &Path) -> (String, bool) {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let folder = path.parent().and_then(Path::file_name).is_some_and(|folder| folder == "netns");
    if path.parent().is_some_and(|folder| folder.ends_with("docker/netns")) {
        return (format!("docker sandbox {name}"), false);
    }
    let is_made_up = name.starts_with("cni-") || name.starts_with("netns-") || is_id(&name);
    if folder { (name, !is_made_up) } else { (path.to_string_lossy().into_owned(), false) }
}

/// The container or pod that a control group names: `pod UID`, `container ID`.
fn holder(group: &Membership) -> Option<String> {
    let pod = group.pod.as_ref().map(|uid| format!("pod {uid}"));
    pod.or_else(|| {
        let id = &group.container.as_ref()?.id;
        Some(format!("container {}", id.get(..SHORT_ID).unwrap_or(id)))
    })
}

fn is_id(text: &str) -> bool {
    text.len() >= SHORT_ID && is_hexadecimal(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    const ID: &str = "3f2a9c1b7d04e5a69788b0c1d2e3f4053f2a9c1b7d04e5a69788b0c1d2e3f405";

    #[test]
    fn containers_and_pods_are_named_by_their_groups() {
        let uid = "0f3c2a1b-1111-2222-3333-444455556666";
        let cases = [
            (format!("/docker/{ID}"), Some("container 3f2a9c1b7d04".to_owned())),
            (format!("/kubepods/burstable/pod{uid}/{ID}"), Some(format!("pod {uid}"))),
            ("/lxc.payload.web".to_owned(), Some("container web".to_owned())),
            ("/system.slice/haproxy.service".to_owned(), None),
        ];
        for (path, expected) in cases {
            assert_eq!(holder(&Membership::from_path(&path)), expected, "{path}");
        }
    }

    #[test]
    fn given_names_come_before_made_up_ones() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("31")).unwrap();
        fs::write(proc.path().join("31/comm"), "haproxy\n").unwrap();
        fs::write(proc.path().join("31/cgroup"), format!("0::/docker/{ID}\n")).unwrap();
        let found = FoundNamespace {
            paths: ["/run/docker/netns/0a1b2c3d4e5f", "/run/netns/cni-77", "/run/netns/front"]
                .map(PathBuf::from)
                .into(),
            processes: vec![30, 31],
            ..FoundNamespace::default()
        };
        let described = describe_in(proc.path(), &found, 5);
        let expected = ["front", "container 3f2a9c1b7d04", "docker sandbox 0a1b2c3d4e5f", "cni-77"];
        assert_eq!(described.names, expected);
        assert_eq!(described.processes.len(), 1);
        assert_eq!(described.processes[0].command, "haproxy");
    }

    #[test]
    fn many_namespaces_get_fewer_processes_each() {
        assert_eq!([0, 1, 100, 200, 500, 5000].map(processes_each), [5, 5, 5, 2, 1, 1]);
    }

    proptest! {
        #[test]
        fn hostile_paths_do_no_harm(path in ".{0,80}") {
            let _ = mount_name(Path::new(&path));
        }
    }
}
