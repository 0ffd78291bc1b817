//! Which network namespaces a command looks into.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use ctkeeper_flow::units;
use ctkeeper_host::sysctl;
use ctkeeper_netlink::netns::{
    self, Enumeration, NAME_FOLDERS, Namespace, NamespaceSelector, enumerate,
};
use ctkeeper_netlink::{Conntrack, Error};

use crate::cli::Global;
use crate::exit::UsageError;
use crate::ui::{printable, say};

/// What `--netns` selects.
pub(crate) enum Selection {
    /// The one that ctkeeper runs in.
    Own,
    /// A named one, held open.
    One(Namespace),
    /// Every one of the host.
    All(Enumeration),
}

impl Selection {
    /// Reads the option and opens what it names.
    pub(crate) fn of(global: &Global) -> anyhow::Result<Self> {
        match global.netns.as_deref() {
            None => Ok(Self::Own),
            Some("all") => Ok(Self::All(enumerate())),
            Some(name) => {
                let selector: NamespaceSelector =
                    name.parse().map_err(|error: Error| UsageError(error.to_string()))?;
                Ok(Self::One(Namespace::open(&selector)?))
            }
        }
    }

    /// Opens the table of the one namespace; refuses `all`.
    pub(crate) fn only_table(&self, why: &str) -> anyhow::Result<Conntrack> {
        match self {
            Self::Own => Ok(Conntrack::open()?),
            Self::One(namespace) => Ok(Conntrack::open_in(namespace)?),
            Self::All(_) => Err(UsageError(why.to_owned()).into()),
        }
    }

    /// Calls `f` with each table and, where there are several, with the namespace's label.
    ///
    /// One that has gone since, or cannot be entered, is named on standard error and left out; the
    /// result says whether all that are there could be visited.
    pub(crate) fn each_table(
        &self,
        mut f: impl FnMut(&mut Conntrack, Option<&str>) -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<bool> {
        match self {
            Self::Own => f(&mut Conntrack::open()?, None).map(|()| true),
            Self::One(namespace) => f(&mut Conntrack::open_in(namespace)?, None).map(|()| true),
            Self::All(enumeration) => each_of(enumeration, f),
        }
    }
}

/// One helper thread goes through all of them, each opened when its turn comes.
fn each_of(
    enumeration: &Enumeration,
    mut f: impl FnMut(&mut Conntrack, Option<&str>) -> anyhow::Result<()> + Send,
) -> anyhow::Result<bool> {
    warn_of_unreadable(enumeration);
    let labels = Labels { enumeration, initial: initial_inode() };
    let mut failures = Vec::new();
    let opened = enumeration
        .namespaces
        .iter()
        .filter_map(|found| found.open().map_err(|error| failures.push((found.inode, error))).ok());
    // A failed write, say, ends the whole; what concerns one namespace does not.
    let mut fatal = None;
    let visited = netns::visit(opened, |namespace| {
        if fatal.is_some() {
            return Ok(());
        }
        let inode = namespace.inode();
        let result = match Conntrack::open() {
            Ok(mut table) => {
                let label = labels.of(inode);
                let place = || format!("namespace {}", printable(&label));
                f(&mut table, Some(&label)).with_context(place)
            }
            // Nothing to see in any namespace is not a matter of this one.
            Err(error @ Error::Unavailable { .. }) => Err(error.into()),
            Err(error) => return Err((inode, error)),
        };
        fatal = result.err();
        Ok(())
    })?;
    if let Some(error) = fatal {
        return Err(error);
    }
    for visit in visited {
        match visit {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => failures.push(failure),
            Err(error) => failures.push((0, error)),
        }
    }
    for (inode, error) in &failures {
        say!("ctkeeper: namespace {}: {error}", printable(&labels.of(*inode)));
    }
    // What has ended holds nothing that is missing.
    Ok(failures.iter().all(|(_, error)| matches!(error, Error::NamespaceNotFound { .. })))
}

fn warn_of_unreadable(enumeration: &Enumeration) {
    let hidden = enumeration.unreadable_processes as u64;
    if hidden > 0 {
        say!(
            "ctkeeper: the namespace of {} is hidden (seeing all of them needs root): there may be \
             more than are listed",
            units::counted(hidden, "process", "processes")
        );
    }
}

/// What to call namespaces.
struct Labels<'a> {
    enumeration: &'a Enumeration,
    initial: Option<u64>,
}

impl Labels<'_> {
    /// `host` for the initial one, a name, else what `--netns` takes. A name may be hostile.
    fn of(&self, inode: u64) -> String {
        if self.initial == Some(inode) {
            return "host".to_owned();
        }
        let paths = self.enumeration.find(inode).into_iter().flat_map(|found| &found.paths);
        let mut names = paths.filter(|path| is_in_name_folder(path)).filter_map(|p| p.file_name());
        match names.next() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => format!("net:[{inode}]"),
        }
    }
}

fn is_in_name_folder(path: &Path) -> bool {
    path.parent().is_some_and(|folder| NAME_FOLDERS.iter().any(|name| folder == Path::new(name)))
}

/// The initial namespace's inode: ours if we are in it, else process 1's if it may be looked at.
fn initial_inode() -> Option<u64> {
    if sysctl::in_initial_namespace() == Some(true) {
        return Namespace::current().ok().map(|namespace| namespace.inode());
    }
    fs::metadata("/proc/1/ns/net").ok().map(|metadata| metadata.ino())
}
