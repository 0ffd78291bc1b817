//! What network namespaces are called, and who is in them.
//!
//! Names come from bind mounts (`ip netns`, CNI, Docker's sandboxes) and from the control group of a
//! process: runtimes put a container's id, Kubernetes its pod's id into the path. No runtime is
//! asked. All of it is others' choice: hostile input.

use std::path::Path;

use ctkeeper_netlink::netns::FoundNamespace;
use ctkeeper_snapshot::NamespaceProcess;

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
    let processes: Vec<_> = pids.filter_map(|pid| process(proc, pid)).take(processes).collect();
    let holder = processes.iter().find_map(|process| holder(process.cgroup.as_deref()?));
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

fn process(proc: &Path, pid: u32) -> Option<NamespaceProcess> {
    let folder = proc.join(pid.to_string());
    let command = read::text(&folder.join("comm")).ok()?.trim_end_matches('\n').to_owned();
    let cgroup = read::text(&folder.join("cgroup")).ok().and_then(|text| cgroup(&text));
    Some(NamespaceProcess { pid, command, cgroup })
}

/// The path in the unified hierarchy; where processes are not sorted into that one, in systemd's or
/// the memory controller's.
fn cgroup(text: &str) -> Option<String> {
    let of = |controller: &str| {
        text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(path)
        })
    };
    let paths = ["", "name=systemd", "memory"].into_iter().filter_map(of);
    let mut paths: Vec<_> = paths.collect();
    let sorted = paths.iter().position(|path| *path != "/");
    (!paths.is_empty()).then(|| paths.swap_remove(sorted.unwrap_or(0)).to_owned())
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

/// The container or pod that a control group's path names: `pod UID`, `container ID`.
fn holder(cgroup: &str) -> Option<String> {
    let parts = || cgroup.rsplit('/');
    let pod = parts().find_map(pod_id).map(|id| format!("pod {id}"));
    pod.or_else(|| parts().find_map(container_id).map(|id| format!("container {id}")))
}

/// The UID in `pod0f3c…` or `kubepods-burstable-pod0f3c….slice` (where systemd has underscores for
/// dashes).
fn pod_id(part: &str) -> Option<String> {
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let (before, id) = part.rsplit_once("pod")?;
    let is_pods = before.is_empty() || before.starts_with("kubepods");
    let id = id.replace('_', "-");
    let is_uid = id.len() >= 32 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    (is_pods && is_uid).then_some(id)
}

/// The id in `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID`, or a plain `ID`.
fn container_id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next()?;
    if id.len() >= 32 && is_id(id) { id.get(..SHORT_ID) } else { None }
}

fn is_id(text: &str) -> bool {
    text.len() >= SHORT_ID && text.bytes().all(|byte| byte.is_ascii_hexdigit())
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
        let systemd_uid = uid.replace('-', "_");
        let cases = [
            (format!("/docker/{ID}"), Some("container 3f2a9c1b7d04".to_owned())),
            (format!("/system.slice/docker-{ID}.scope"), Some("container 3f2a9c1b7d04".to_owned())),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                Some("container 3f2a9c1b7d04".to_owned()),
            ),
            (format!("/kubepods/burstable/pod{uid}/{ID}"), Some(format!("pod {uid}"))),
            (
                format!(
                    "/kubepods.slice/kubepods-pod{systemd_uid}.slice/cri-containerd-{ID}.scope"
                ),
                Some(format!("pod {uid}")),
            ),
            ("/system.slice/haproxy.service".to_owned(), None),
            ("/user.slice/tripod".to_owned(), None),
            ("/".to_owned(), None),
        ];
        for (path, expected) in cases {
            assert_eq!(holder(&path), expected, "{path}");
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
    fn the_hierarchy_that_sorts_processes_is_taken() {
        assert_eq!(cgroup("0::/a\n").as_deref(), Some("/a"));
        assert_eq!(cgroup("5:cpu,memory:/b\n1:name=systemd:/c\n0::/\n").as_deref(), Some("/c"));
        assert_eq!(cgroup("5:cpu,memory:/b:x\n0::/\n").as_deref(), Some("/b:x"));
        assert_eq!(cgroup("0::/\n").as_deref(), Some("/"));
        assert_eq!(cgroup("junk\n"), None);
    }

    #[test]
    fn many_namespaces_get_fewer_processes_each() {
        assert_eq!([0, 1, 100, 200, 500, 5000].map(processes_each), [5, 5, 5, 2, 1, 1]);
    }

    proptest! {
        #[test]
        fn hostile_paths_do_no_harm(path in ".{0,80}", text in ".{0,200}") {
            let _ = (holder(&path), cgroup(&text), mount_name(Path::new(&path)));
        }
    }
}
