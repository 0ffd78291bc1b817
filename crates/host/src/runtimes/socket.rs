//! Where runtimes listen.

use std::env;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ctkeeper_snapshot::{Gap, GapKind};

use super::store;

/// Sockets asked, at most.
const SOCKETS: usize = 16;

/// Users whose folders are looked into, at most.
const USERS: usize = 256;

/// Where runtimes listen unless they are told otherwise, below the root.
const USUAL: [(&str, Interface); 8] = [
    ("run/docker.sock", Interface::Docker),
    ("var/run/docker.sock", Interface::Docker),
    ("run/podman/podman.sock", Interface::Docker),
    ("run/containerd/containerd.sock", Interface::Cri),
    ("run/k3s/containerd/containerd.sock", Interface::Cri),
    ("run/k0s/containerd.sock", Interface::Cri),
    ("run/crio/crio.sock", Interface::Cri),
    ("run/cri-dockerd.sock", Interface::Cri),
];

/// The same in a user's folder, for runtimes without privileges.
const ROOTLESS: [&str; 2] = ["docker.sock", "podman/podman.sock"];

/// Environment variables that name sockets for the runtimes' own clients.
const VARIABLES: [(&str, Interface); 3] = [
    ("DOCKER_HOST", Interface::Docker),
    ("CONTAINER_HOST", Interface::Docker),
    ("CONTAINER_RUNTIME_ENDPOINT", Interface::Cri),
];

/// Where a runtime is asked: a socket at which it listens, perhaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where it is.
    pub path: PathBuf,
    /// What is spoken there.
    pub interface: Interface,
    /// The user whose folder it was found in; `None` for the host's, and for those that were named.
    pub user: Option<u32>,
}

/// What is spoken at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Docker's API over HTTP, which Podman speaks too.
    Docker,
    /// Kubernetes' Container Runtime Interface, over gRPC.
    Cri,
    /// One of them: both are tried.
    Unknown,
    /// No socket, but the file in which Podman keeps its containers.
    Store,
}

/// The sockets that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// They, named ones first.
    pub sockets: Vec<Socket>,
    /// Named ones that are no sockets.
    pub gaps: Vec<Gap>,
}

/// The sockets of this host's runtimes: those that are named (`unix:///path` or a path), those of the
/// environment, and the usual places. Each counts once, whatever paths lead to it.
pub fn find(named: &[String]) -> Found {
    let variables = VARIABLES.map(|(name, interface)| (name, env::var(name).ok(), interface));
    find_in(Path::new("/"), named, &variables)
}

fn find_in(
    root: &Path,
    named: &[String],
    variables: &[(&str, Option<String>, Interface)],
) -> Found {
    let mut found = Found::default();
    let mut seen = Vec::new();
    let asked = named.iter().map(|text| ("--runtime", text.as_str(), Interface::Unknown));
    let set = variables.iter().filter_map(|(name, value, interface)| {
        Some((*name, value.as_deref().filter(|value| !value.is_empty())?, *interface))
    });
    for (origin, text, interface) in asked.chain(set) {
        match named_socket(text) {
            Ok((path, identity)) => found.add(&mut seen, identity, path, interface, None),
            Err(cause) => found.gaps.push(unusable(origin, text, &cause)),
        }
    }
    for (path, interface) in USUAL {
        let path = root.join(path);
        if let Ok((identity, _)) = identity(&path) {
            found.add(&mut seen, identity, path, interface, None);
        }
    }
    for (path, user) in rootless(&root.join("run/user")) {
        // Only what is the user's own: a link could lead to somebody else's.
        if let Ok((identity, owner)) = identity(&path)
            && owner == user
        {
            found.add(&mut seen, identity, path, Interface::Docker, Some(user));
        }
    }
    // Last: what a runtime says itself goes before its files.
    for path in store::USUAL {
        let path = root.join(path);
        if let Ok(file) = fs::metadata(&path) {
            found.add(&mut seen, (file.dev(), file.ino()), path, Interface::Store, None);
        }
    }
    found
}

impl Found {
    fn add(
        &mut self,
        seen: &mut Vec<(u64, u64)>,
        identity: (u64, u64),
        path: PathBuf,
        interface: Interface,
        user: Option<u32>,
    ) {
        if !seen.contains(&identity) && self.sockets.len() < SOCKETS {
            seen.push(identity);
            self.sockets.push(Socket { path, interface, user });
        }
    }
}

/// Path and identity of a socket that somebody named.
fn named_socket(text: &str) -> Result<(PathBuf, (u64, u64)), String> {
    let path = match text.split_once("://") {
        Some(("unix", path)) => path,
        Some(_) => return Err("only unix sockets are asked".to_owned()),
        None => text,
    };
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        return Err("the path is not absolute".to_owned());
    }
    identity(&path).map(|(identity, _)| (path, identity)).map_err(|error| error.to_string())
}

fn unusable(origin: &str, text: &str, cause: &str) -> Gap {
    let is_privilege = cause.contains("ermission denied");
    Gap {
        kind: if is_privilege { GapKind::Privilege } else { GapKind::Unavailable },
        what: format!("names of containers from the runtime at {text}"),
        cause: format!("{origin} names {text}: {cause}"),
        remedy: if is_privilege {
            "run as root".to_owned()
        } else {
            format!("give {origin} the path of a runtime's socket: unix:///run/docker.sock")
        },
    }
}

/// Device and inode of a socket, and its owner.
fn identity(path: &Path) -> std::io::Result<((u64, u64), u32)> {
    let found = fs::metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(std::io::Error::other("it is no socket"));
    }
    Ok(((found.dev(), found.ino()), found.uid()))
}

fn rootless(folder: &Path) -> Vec<(PathBuf, u32)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let users = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut users: Vec<_> = users.take(USERS).collect();
    users.sort_unstable();
    let sockets = |user: u32| ROOTLESS.map(|name| (folder.join(user.to_string()).join(name), user));
    users.into_iter().flat_map(sockets).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn listen(path: &Path) -> UnixListener {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        UnixListener::bind(path).unwrap()
    }

    fn shown(found: &Found, root: &Path) -> Vec<(String, Interface, Option<u32>)> {
        let relative = |socket: &Socket| {
            let path = socket.path.strip_prefix(root).unwrap().display().to_string();
            (path, socket.interface, socket.user)
        };
        found.sockets.iter().map(relative).collect()
    }

    #[test]
    fn each_socket_counts_once_and_named_ones_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let _kept = ["run/docker.sock", "run/crio/crio.sock", "own.sock"]
            .map(|path| listen(&root.join(path)));
        fs::create_dir_all(root.join(store::USUAL[1]).parent().unwrap()).unwrap();
        fs::write(root.join(store::USUAL[1]), "[]").unwrap();
        fs::create_dir_all(root.join("var")).unwrap();
        symlink("../run", root.join("var/run")).unwrap();
        fs::create_dir_all(root.join("run/containerd")).unwrap();
        fs::write(root.join("run/containerd/containerd.sock"), "no socket").unwrap();
        let named = [format!("unix://{}", root.join("own.sock").display())];
        let crio = format!("unix://{}", root.join("run/crio/crio.sock").display());
        let variables = [
            ("CONTAINER_RUNTIME_ENDPOINT", Some(crio), Interface::Cri),
            ("DOCKER_HOST", None, Interface::Docker),
            ("CONTAINER_HOST", Some(String::new()), Interface::Docker),
        ];
        let found = find_in(root, &named, &variables);
        let expected = [
            ("own.sock".to_owned(), Interface::Unknown, None),
            ("run/crio/crio.sock".to_owned(), Interface::Cri, None),
            ("run/docker.sock".to_owned(), Interface::Docker, None),
            (store::USUAL[1].to_owned(), Interface::Store, None),
        ];
        assert_eq!(shown(&found, root), expected);
        assert_eq!(found.gaps, []);
    }

    #[test]
    fn a_users_folder_gives_only_what_is_the_users() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let own = fs::metadata(root).unwrap().uid();
        let mine = root.join(format!("run/user/{own}/docker.sock"));
        let planted = root.join(format!("run/user/{}/docker.sock", own + 1));
        let _kept = (listen(&mine), listen(&root.join("elsewhere.sock")));
        fs::create_dir_all(planted.parent().unwrap()).unwrap();
        symlink(root.join("elsewhere.sock"), &planted).unwrap();
        let found = find_in(root, &[], &[]);
        let expected = [(format!("run/user/{own}/docker.sock"), Interface::Docker, Some(own))];
        assert_eq!(shown(&found, root), expected);
        if chown(&mine, Some(own + 7), None).is_ok() {
            assert_eq!(find_in(root, &[], &[]), Found::default());
        }
    }

    #[test]
    fn a_name_that_leads_nowhere_is_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display().to_string();
        let named = ["tcp://10.0.0.1:2375", "docker.sock", "/nowhere/docker.sock", here.as_str()];
        let found = find_in(folder.path(), &named.map(str::to_owned), &[]);
        assert_eq!(found.sockets, []);
        let causes: Vec<_> = found.gaps.iter().map(|gap| gap.cause.as_str()).collect();
        for (cause, expected) in
            causes.iter().zip(["only unix", "not absolute", "No such file", "no socket"])
        {
            assert!(cause.contains(expected), "{cause}");
        }
        assert_eq!(causes.len(), 4);
    }

    #[test]
    fn no_more_than_a_few_are_asked() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..40).map(|number| folder.path().join(format!("{number}"))).collect();
        let _kept: Vec<_> = paths.iter().map(|path| listen(path)).collect();
        let named: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(find_in(folder.path(), &named, &[]).sockets.len(), SOCKETS);
    }
}
