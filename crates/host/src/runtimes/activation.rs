//! Sockets that systemd holds for a runtime which does not run: to ask there would start it, with
//! all its containers. Looking does not do that.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::{PODMAN, Socket};

/// Services that are started by a connection to their socket, and the sockets' names.
const STARTED: [(&str, &str); 2] = [("docker.sock", "docker.service"), ("podman.sock", PODMAN)];

/// Where systemd puts a running service's processes, in each kind of hierarchy.
const GROUPS: [&str; 3] = ["sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/systemd"];

/// Bytes read of `/proc/net/unix`, at most.
const LISTING: u64 = 32 << 20;

/// The service that a connection to this socket would start; `None` when nothing would be started,
/// as far as can be seen.
pub(super) fn would_start(socket: &Socket) -> Option<&'static str> {
    would_start_in(Path::new("/"), socket)
}

fn would_start_in(root: &Path, socket: &Socket) -> Option<&'static str> {
    let name = socket.path.file_name()?.to_str()?;
    let (_, service) = STARTED.iter().find(|(socket, _)| *socket == name)?;
    // sd_booted(3)
    let is_systemd = root.join("run/systemd/system").is_dir();
    let Some(user) = socket.user else {
        let runs = |group| root.join(group).join("system.slice").join(service).is_dir();
        let is_asleep =
            is_systemd && !GROUPS.iter().any(runs) && is_held_by_init(root, &socket.path);
        return is_asleep.then_some(*service);
    };
    // Of a user's service managers' sockets only Podman's starts something.
    let manager = format!("user.slice/user-{user}.slice/user@{user}.service");
    let runs = |group: &&str| {
        let manager = root.join(group).join(&manager);
        [manager.join("app.slice"), manager].iter().any(|slice| slice.join(service).is_dir())
    };
    let is_asleep = is_systemd && *service == PODMAN && !GROUPS.iter().any(runs);
    is_asleep.then_some(*service)
}

/// Whether process 1 has the listening socket open. Where that cannot be seen, a socket that systemd
/// may hold counts as held.
fn is_held_by_init(root: &Path, socket: &Path) -> bool {
    let Some(inodes) = listening(root, socket) else { return true };
    let Ok(descriptors) = fs::read_dir(root.join("proc/1/fd")) else { return true };
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let held = |target: &Path| {
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(inodes.iter().any(|listening| listening == inode))
    };
    inodes.is_empty() || targets.into_iter().any(|target| held(&target).unwrap_or(false))
}

/// `/var/run` is `/run`.
fn below_run(path: &str) -> &str {
    path.strip_prefix("/var").filter(|rest| rest.starts_with("/run/")).unwrap_or(path)
}

/// Inodes of the sockets bound at a path, by whichever name `/run` goes there (`unix_seq_show`,
/// `net/unix/af_unix.c`, Linux 6.12: the path is the eighth field).
fn listening(root: &Path, socket: &Path) -> Option<Vec<String>> {
    let file = File::open(root.join("proc/thread-self/net/unix")).ok()?;
    let wanted = below_run(socket.to_str()?);
    let mut inodes = Vec::new();
    for line in BufReader::new(file.take(LISTING)).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.split_ascii_whitespace().skip(6);
        let (inode, path) = (fields.next(), fields.next());
        if path.map(below_run) == Some(wanted) {
            inodes.extend(inode.map(str::to_owned));
        }
    }
    Some(inodes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::Interface;
    use super::*;

    /// A host as systemd has it: the socket's inode is 4711.
    fn host(folder: &Path, held: &str) {
        fs::create_dir_all(folder.join("run/systemd/system")).unwrap();
        fs::create_dir_all(folder.join("proc/thread-self/net")).unwrap();
        fs::create_dir_all(folder.join("proc/1/fd")).unwrap();
        let unix = "Num RefCount Protocol Flags Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/docker.sock\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 4712\n";
        fs::write(folder.join("proc/thread-self/net/unix"), unix).unwrap();
        symlink(held, folder.join("proc/1/fd/3")).unwrap();
    }

    fn starts(root: &Path, path: &str) -> Option<&'static str> {
        let socket = Socket { path: path.into(), interface: Interface::Docker, user: None };
        would_start_in(root, &socket)
    }

    #[test]
    fn a_socket_that_systemd_holds_alone_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        host(folder.path(), "socket:[4711]");
        assert_eq!(starts(folder.path(), "/run/docker.sock"), Some("docker.service"));
        assert_eq!(starts(folder.path(), "/var/run/docker.sock"), Some("docker.service"));
        assert_eq!(starts(folder.path(), "/run/containerd/containerd.sock"), None);
        fs::create_dir_all(folder.path().join(GROUPS[1]).join("system.slice/docker.service"))
            .unwrap();
        assert_eq!(starts(folder.path(), "/run/docker.sock"), None);
    }

    #[test]
    fn a_socket_of_the_daemons_own_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        host(folder.path(), "socket:[4712]");
        assert_eq!(starts(folder.path(), "/run/docker.sock"), None);
        fs::remove_dir_all(folder.path().join("run")).unwrap();
        fs::remove_file(folder.path().join("proc/1/fd/3")).unwrap();
        symlink("socket:[4711]", folder.path().join("proc/1/fd/3")).unwrap();
        assert_eq!(starts(folder.path(), "/run/docker.sock"), None, "without systemd");
    }

    #[test]
    fn a_users_podman_is_asked_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        host(folder.path(), "socket:[4712]");
        let of_user = |path: &str| {
            let socket =
                Socket { path: path.into(), interface: Interface::Docker, user: Some(1000) };
            would_start_in(folder.path(), &socket)
        };
        let podman = "/run/user/1000/podman/podman.sock";
        assert_eq!(of_user(podman), Some("podman.service"));
        assert_eq!(of_user("/run/user/1000/docker.sock"), None);
        let manager = "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice";
        fs::create_dir_all(folder.path().join(manager).join("podman.service")).unwrap();
        assert_eq!(of_user(podman), None);
    }

    #[test]
    fn what_cannot_be_seen_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        host(folder.path(), "socket:[4712]");
        fs::remove_dir_all(folder.path().join("proc/1")).unwrap();
        assert_eq!(starts(folder.path(), "/run/docker.sock"), Some("docker.service"));
    }
}
