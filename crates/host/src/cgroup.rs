//! Whom a process belongs to by its control group: runtimes put a container's id into the path,
//! kubelet its pod's, systemd the unit's.
//!
//! A path is read from its root on. Down to the first container it is the host's choice; what
//! follows the container's own users may have made (Docker in Docker, but also a name that is
//! another's), so that it stands apart, in [`Membership::nested`]. What is below a user's service
//! manager is that user's choice: [`Membership::user`]. Every name is hostile input.

use std::path::Path;

use crate::read;

/// Least characters of a container's id behind the prefix that a runtime gives it.
const SHORTEST_ID: usize = 12;

/// Characters of a container's id where nothing but the id says that it is one. All runtimes that
/// do so use 256 bits; shorter ones stand in other programs' groups too.
const WHOLE_ID: usize = 64;

/// Containers inside containers that are followed.
const DEPTH: usize = 4;

/// Prefixes of a container's group, and whose they are.
const PREFIXES: [(&str, Option<&str>, Role); 12] = [
    ("libpod-conmon-", Some("podman"), Role::Monitor),
    ("libpod-payload-", Some("podman"), Role::Container),
    ("libpod-", Some("podman"), Role::Container),
    ("crio-conmon-", Some("cri-o"), Role::Monitor),
    ("crio-", Some("cri-o"), Role::Container),
    ("cri-containerd-", Some("containerd"), Role::Container),
    ("cri-containerd:", Some("containerd"), Role::Container),
    ("crio:", Some("cri-o"), Role::Container),
    ("docker-", Some("docker"), Role::Container),
    ("docker:", Some("docker"), Role::Container),
    ("nerdctl-", Some("containerd"), Role::Container),
    ("runc-", None, Role::Container),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Container,
    Monitor,
}

/// What a control group's path says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// The path, as the kernel gives it.
    pub path: String,
    /// The outermost container.
    pub container: Option<Member>,
    /// The UID of the pod around that container, with dashes.
    pub pod: Option<String>,
    /// The innermost systemd unit around the container; of login sessions and of service managers
    /// themselves, none.
    pub unit: Option<String>,
    /// The virtual machine, or machine container, that systemd or libvirt made the group for.
    pub machine: Option<Machine>,
    /// In whose slice it stands: below that user's service manager the path is the user's own choice.
    pub user: Option<u32>,
    /// What the container's own groups say.
    pub nested: Option<Box<Self>>,
}

/// A container, by its group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its id, as the path has it; of LXC its name.
    pub id: String,
    /// Who runs it, where the path tells: `docker`, `podman`, `containerd`, `cri-o`, `lxc`.
    pub runtime: Option<&'static str>,
    /// Whether the process is the runtime's own beside the container (conmon, and what forwards a
    /// rootless container's ports): not in its namespaces, but there for nothing else.
    pub is_monitor: bool,
}

/// A machine, by its group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Machine {
    /// What it goes by.
    pub name: String,
    /// Whether it has a kernel of its own (QEMU), so that its sockets are not this kernel's.
    pub is_virtual: bool,
}

/// What a process's control group says; `None` when the process has gone or cannot be looked at.
pub fn of_process(pid: u32) -> Option<Membership> {
    in_proc(Path::new("/proc"), pid)
}

pub(crate) fn in_proc(proc: &Path, pid: u32) -> Option<Membership> {
    let text = read::text(&proc.join(pid.to_string()).join("cgroup")).ok()?;
    Membership::of(&text)
}

impl Membership {
    /// What a `/proc/PID/cgroup` says (cgroups(7)): of its hierarchies the one that tells most, the
    /// unified one first, then systemd's, then the memory controller's.
    pub fn of(text: &str) -> Option<Self> {
        let mut paths = paths(text);
        let told = paths.iter().copied().map(Self::from_path);
        // The first of equals: `max_by_key` would take the last.
        let best = told.rev().max_by_key(Self::weight)?;
        if best.weight() > 0 {
            return Some(best);
        }
        let sorted = paths.iter().position(|path| *path != "/").unwrap_or(0);
        Some(Self { path: paths.swap_remove(sorted).to_owned(), ..Self::default() })
    }

    /// What a group's path says.
    pub fn from_path(path: &str) -> Self {
        // The kernel's mark of a group that has been removed under its processes.
        let parts = path.strip_suffix(" (deleted)").unwrap_or(path).split('/');
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        Self { path: path.to_owned(), ..Self::of_parts(&parts, DEPTH) }
    }

    /// The same for somebody who is in the container `own` himself: to him what is nested there is
    /// no less than the host's.
    #[must_use]
    pub fn seen_from(self, own: Option<&Self>) -> Self {
        let of = |membership: &Self| membership.container.as_ref().map(|member| member.id.clone());
        match (of(&self), own.and_then(of), self.nested) {
            (Some(container), Some(own), Some(nested)) if container == own => *nested,
            (_, _, nested) => Self { nested, ..self },
        }
    }

    fn of_parts(parts: &[&str], depth: usize) -> Self {
        let mut told = Self::default();
        for (index, part) in parts.iter().enumerate() {
            let parent = index.checked_sub(1).and_then(|parent| parts.get(parent)).copied();
            told.pod = told.pod.or_else(|| pod_uid(part));
            if let Some(container) = member(part, parent) {
                told.container = Some(container);
                let rest = parts.get(index + 1..).unwrap_or_default();
                told.nested = nested(rest, depth);
                break;
            }
            told.machine = told.machine.or_else(|| machine(part, parent));
            told.user = user(part).or(told.user);
            told.unit = unit(part).or(told.unit);
        }
        told
    }

    fn weight(&self) -> u8 {
        if self.container.is_some() || self.pod.is_some() {
            return 2;
        }
        u8::from(self.unit.is_some() || self.machine.is_some())
    }
}

/// The paths of the hierarchies, those first that are most likely to sort processes.
fn paths(text: &str) -> Vec<&str> {
    let rank = |controllers: &str| {
        let of = |name: &str| controllers.split(',').any(|controller| controller == name);
        ["", "name=systemd", "memory"].iter().position(|name| of(name)).unwrap_or(3)
    };
    let lines = text.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        Some((rank(controllers), path))
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort_by_key(|(rank, _)| *rank);
    let mut paths = Vec::new();
    for (_, path) in lines {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

fn nested(parts: &[&str], depth: usize) -> Option<Box<Membership>> {
    if parts.is_empty() || depth == 0 {
        return None;
    }
    let told = Membership::of_parts(parts, depth - 1);
    let path = format!("/{}", parts.join("/"));
    (told.weight() > 0).then(|| Box::new(Membership { path, ..told }))
}

/// The UID in `pod0f3c…` or `kubepods-burstable-pod0f3c….slice` (where systemd has underscores for
/// dashes), also before `:cri-containerd:ID`.
fn pod_uid(part: &str) -> Option<String> {
    let part = part.split(':').next().unwrap_or(part);
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let (before, id) = part.rsplit_once("pod")?;
    // Another group may stand around: `kubelet-kubepods-burstable-pod….slice` of kind.
    let is_pods = before.is_empty() || before.split('-').any(|word| word == "kubepods");
    let id = id.replace('_', "-");
    let is_uid = id.len() >= 32 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    (is_pods && is_uid).then_some(id)
}

fn member(part: &str, parent: Option<&str>) -> Option<Member> {
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    lxc(bare, parent).or_else(|| prefixed(bare)).or_else(|| {
        let is_whole = bare.len() == WHOLE_ID && is_hexadecimal(bare);
        let runtime = parent.filter(|parent| *parent == "docker").map(|_| "docker");
        is_whole.then(|| Member { id: bare.to_owned(), runtime, is_monitor: false })
    })
}

fn prefixed(bare: &str) -> Option<Member> {
    // `kubepods-burstable-podUID.slice:cri-containerd:ID`, where systemd's names are given to a
    // runtime that makes groups itself.
    let bare = bare
        .find(':')
        .filter(|_| bare.matches(':').count() == 2)
        .map_or(bare, |colon| bare.get(colon + 1..).unwrap_or(bare));
    PREFIXES.iter().find_map(|(prefix, runtime, role)| {
        let id = bare.strip_prefix(prefix)?;
        let is_id = id.len() >= SHORTEST_ID && is_hexadecimal(id);
        is_id.then(|| Member {
            id: id.to_owned(),
            runtime: *runtime,
            is_monitor: *role == Role::Monitor,
        })
    })
}

/// `/lxc.payload.NAME`, `/lxc.monitor.NAME`, `/lxc/NAME`.
fn lxc(bare: &str, parent: Option<&str>) -> Option<Member> {
    let monitor = bare.strip_prefix("lxc.monitor.");
    let payload = bare.strip_prefix("lxc.payload.");
    let plain = parent.filter(|parent| *parent == "lxc").map(|_| bare);
    let id = monitor.or(payload).or(plain).filter(|id| !id.is_empty())?.to_owned();
    Some(Member { id, runtime: Some("lxc"), is_monitor: monitor.is_some() })
}

/// `machine-qemu\x2d1\x2dNAME.scope` and `qemu-1-NAME.libvirt-qemu` of libvirt, `ID.scope` in
/// Proxmox's `qemu.slice`, `machine-NAME.scope` and `systemd-nspawn@NAME.service` of systemd.
fn machine(part: &str, parent: Option<&str>) -> Option<Machine> {
    if let Some(name) = part.strip_suffix(".libvirt-qemu") {
        return Some(
            guest(name).unwrap_or_else(|| Machine { name: name.to_owned(), is_virtual: true }),
        );
    }
    if let Some(name) = part.strip_suffix(".scope").filter(|_| parent == Some("qemu.slice")) {
        return Some(Machine { name: name.to_owned(), is_virtual: true });
    }
    let nspawn = || part.strip_prefix("systemd-nspawn@")?.strip_suffix(".service");
    let name = part.strip_prefix("machine-").and_then(|name| name.strip_suffix(".scope"));
    let name = unescaped(name.or_else(nspawn)?);
    Some(guest(&name).unwrap_or(Machine { name, is_virtual: false }))
}

/// libvirt's `qemu-1-NAME`.
fn guest(name: &str) -> Option<Machine> {
    let (number, name) = name.strip_prefix("qemu-")?.split_once('-')?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Machine { name: name.to_owned(), is_virtual: true })
}

/// systemd writes bytes that a unit's name may not hold as `\x2d` (systemd.unit(5)).
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.extend(byte);
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The user in `user-1000.slice` and in `user@1000.service`.
fn user(part: &str) -> Option<u32> {
    let slice = || part.strip_prefix("user-")?.strip_suffix(".slice");
    manager(part).or_else(slice)?.parse().ok()
}

fn manager(part: &str) -> Option<&str> {
    part.strip_prefix("user@")?.strip_suffix(".service")
}

/// A unit that says more than that somebody has logged in.
fn unit(part: &str) -> Option<String> {
    // systemd puts an underscore before names that the kernel has a use for.
    let name = part.strip_prefix('_').unwrap_or(part);
    let has_type = [".service", ".scope", ".socket", ".mount", ".swap"]
        .iter()
        .any(|suffix| name.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty()));
    let is_session = name.starts_with("session-") && name.strip_suffix(".scope").is_some();
    let is_manager = name == "init.scope" || manager(name).is_some();
    (has_type && !is_session && !is_manager).then(|| name.to_owned())
}

pub(crate) fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "3f2a9c1b7d04e5a69788b0c1d2e3f4053f2a9c1b7d04e5a69788b0c1d2e3f405";
    const INNER: &str = "aaaa9c1b7d04e5a69788b0c1d2e3f4053f2a9c1b7d04e5a69788b0c1d2e3f405";
    const UID: &str = "0f3c2a1b-1111-2222-3333-444455556666";

    fn container(path: &str) -> Option<(String, Option<&'static str>, bool)> {
        let member = Membership::from_path(path).container?;
        Some((member.id, member.runtime, member.is_monitor))
    }

    #[test]
    fn each_runtime_and_driver_names_its_containers() {
        let uid = UID.replace('-', "_");
        let cases = [
            (format!("/docker/{ID}"), Some("docker"), false),
            (format!("/system.slice/docker-{ID}.scope"), Some("docker"), false),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Some("podman"), false),
            (format!("/machine.slice/libpod-conmon-{ID}.scope"), Some("podman"), true),
            (format!("/libpod_parent/libpod-{ID}"), Some("podman"), false),
            (format!("/system.slice/web.service/libpod-payload-{ID}"), Some("podman"), false),
            (format!("/lab_pods/{ID}"), None, false),
            (format!("/kubepods/burstable/pod{UID}/{ID}"), None, false),
            (format!("/kubepods/burstable/pod{UID}/crio-{ID}"), Some("cri-o"), false),
            (format!("/kubepods.slice/crio-conmon-{ID}.scope"), Some("cri-o"), true),
            (
                format!("/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{ID}.scope"),
                Some("containerd"),
                false,
            ),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-burstable-pod{uid}.slice:cri-containerd:{ID}"
                ),
                Some("containerd"),
                false,
            ),
            (format!("/default/{ID}"), None, false),
            (format!("/../../docker/{ID}"), Some("docker"), false),
            (format!("/docker/{ID} (deleted)"), Some("docker"), false),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"
                ),
                Some("podman"),
                false,
            ),
        ];
        for (path, runtime, is_monitor) in cases {
            assert_eq!(container(&path), Some((ID.to_owned(), runtime, is_monitor)), "{path}");
        }
    }

    #[test]
    fn lxc_goes_by_name() {
        let named = |runtime_is_monitor| Some(("web".to_owned(), Some("lxc"), runtime_is_monitor));
        assert_eq!(container("/lxc.payload.web/system.slice/nginx.service"), named(false));
        assert_eq!(container("/lxc/web/ns"), named(false));
        assert_eq!(container("/lxc.monitor.web"), named(true));
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        let short = &ID[..32];
        for path in [
            "/".to_owned(),
            String::new(),
            "/system.slice/haproxy.service".to_owned(),
            "/user.slice/tripod".to_owned(),
            format!("/process_api/{short}"),
            format!("/docker/{short}"),
            format!("/docker/{ID}0"),
            "/system.slice/docker-compose.scope".to_owned(),
            "/system.slice/docker-abc.scope".to_owned(),
            "/lxc.payload.".to_owned(),
        ] {
            assert_eq!(container(&path), None, "{path}");
        }
    }

    #[test]
    fn pods_are_named_by_every_driver() {
        let uid = UID.replace('-', "_");
        for path in [
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods.slice/kubepods-besteffort-pod{uid}.slice:cri-containerd:{ID}"),
            format!("/kubelet.slice/kubelet-kubepods-burstable-pod{uid}.slice/crio-{ID}.scope"),
            format!("/kubepods/pod{UID}"),
        ] {
            assert_eq!(Membership::from_path(&path).pod.as_deref(), Some(UID), "{path}");
        }
        // A pod of a file has a digest for its UID.
        let of_file = Membership::from_path("/kubepods/pod0f3c2a1b111122223333444455556666/x");
        assert_eq!(of_file.pod.as_deref(), Some("0f3c2a1b111122223333444455556666"));
        assert_eq!(Membership::from_path("/user.slice/tripod").pod, None);
        assert_eq!(Membership::from_path(&format!("/x-pod{UID}")).pod, None);
    }

    #[test]
    fn units_are_the_innermost_around_the_container() {
        let cases = [
            ("/system.slice/haproxy.service", Some("haproxy.service"), None),
            ("/system.slice/haproxy.service/worker/1", Some("haproxy.service"), None),
            (
                "/system.slice/system-haproxy.slice/haproxy@eu.service",
                Some("haproxy@eu.service"),
                None,
            ),
            ("/a.slice/a-b.slice/a-b-c.slice/run-r1.scope", Some("run-r1.scope"), None),
            ("/system.slice/_cpu.service", Some("cpu.service"), None),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/proxy.service",
                Some("proxy.service"),
                Some(1000),
            ),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", None, Some(1000)),
            ("/user.slice/user-1000.slice/session-3.scope", None, Some(1000)),
            ("/system.slice/user-runtime.service", Some("user-runtime.service"), None),
            ("/init.scope", None, None),
            ("/system.slice", None, None),
            ("/system.slice/.service", None, None),
        ];
        for (path, name, user) in cases {
            let told = Membership::from_path(path);
            assert_eq!((told.unit.as_deref(), told.user), (name, user), "{path}");
        }
        let quadlet = format!("/system.slice/web.service/libpod-payload-{ID}/inner.service");
        assert_eq!(Membership::from_path(&quadlet).unit.as_deref(), Some("web.service"));
        let scope = Membership::from_path(&format!("/system.slice/docker-{ID}.scope"));
        assert_eq!(scope.unit, None);
    }

    #[test]
    fn machines_are_told_from_units() {
        let machine = |path: &str| {
            Membership::from_path(path).machine.map(|machine| (machine.name, machine.is_virtual))
        };
        let cases = [
            (r"/machine.slice/machine-qemu\x2d1\x2dweb\x2d2.scope/libvirt/emulator", "web-2", true),
            ("/machine/qemu-7-web.libvirt-qemu/emulator", "web", true),
            ("/qemu.slice/100.scope", "100", true),
            ("/machine.slice/machine-build.scope/payload", "build", false),
            ("/machine.slice/systemd-nspawn@build.service/payload", "build", false),
        ];
        for (path, name, is_virtual) in cases {
            assert_eq!(machine(path), Some((name.to_owned(), is_virtual)), "{path}");
        }
        assert_eq!(machine("/system.slice/machine-x.service"), None);
    }

    #[test]
    fn a_container_cannot_pass_for_another() {
        let told = Membership::from_path(&format!("/docker/{ID}/docker/{INNER}"));
        assert_eq!(told.container.as_ref().unwrap().id, ID);
        let nested = told.nested.clone().unwrap();
        assert_eq!(nested.container.as_ref().unwrap().id, INNER);
        assert_eq!(nested.path, format!("/docker/{INNER}"));
        // Somebody who is inside himself sees what is there as the host's.
        let own = Membership::from_path(&format!("/docker/{ID}/init"));
        assert_eq!(told.clone().seen_from(Some(&own)), *nested);
        let other = Membership::from_path(&format!("/docker/{INNER}"));
        assert_eq!(told.clone().seen_from(Some(&other)), told);
        assert_eq!(told.clone().seen_from(None), told);
        let kind = format!("/docker/{ID}/kubelet/kubepods/burstable/pod{UID}/{INNER}");
        let kind = Membership::from_path(&kind);
        assert_eq!((kind.pod, kind.nested.unwrap().pod.as_deref()), (None, Some(UID)));
    }

    #[test]
    fn the_hierarchy_that_tells_most_is_taken() {
        let path = |text: &str| Membership::of(text).map(|told| told.path);
        assert_eq!(path("0::/a\n").as_deref(), Some("/a"));
        assert_eq!(path("5:cpu,memory:/b\n1:name=systemd:/c\n0::/\n").as_deref(), Some("/c"));
        assert_eq!(path("5:cpu,memory:/b:x\n0::/\n").as_deref(), Some("/b:x"));
        assert_eq!(path("0::/\n").as_deref(), Some("/"));
        assert_eq!(path("junk\n"), None);
        assert_eq!(path(""), None);
        let mixed = format!(
            "9:pids:/docker/{ID}\n4:memory:/process_api/x\n\
             1:name=systemd:/system.slice/docker.service\n0::/\n"
        );
        assert_eq!(path(&mixed), Some(format!("/docker/{ID}")));
        let unit = "9:pids:/system.slice/a.service\n1:name=systemd:/system.slice/b.service\n0::/\n";
        assert_eq!(path(unit).as_deref(), Some("/system.slice/b.service"));
    }

    #[test]
    fn escapes_are_systemds() {
        assert_eq!(unescaped(r"a\x2db"), "a-b");
        assert_eq!(unescaped(r"a\xzz\x"), "azz");
        assert_eq!(unescaped(r"\xc3\xa4"), "ä");
    }

    proptest! {
        #[test]
        fn hostile_paths_do_no_harm(path in ".{0,120}", text in "(.{0,40}:.{0,40}:.{0,80}\n){0,4}") {
            let _ = (Membership::from_path(&path), Membership::of(&text));
        }

        #[test]
        fn deep_paths_do_no_harm(parts in 0_usize..2000) {
            let path = format!("/docker/{ID}").repeat(parts);
            let _ = Membership::from_path(&path);
        }
    }
}
