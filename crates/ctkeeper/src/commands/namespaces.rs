//! Which network namespaces a command looks into.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ctkeeper_host::sysctl;
use ctkeeper_netlink::netns::{
    self, Enumeration, FoundNamespace, NAME_FOLDERS, Namespace, NamespaceSelector, enumerate,
};
use ctkeeper_netlink::{Conntrack, Error};

use crate::cli::Global;
use crate::exit::UsageError;
use crate::ui::printable;

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
    /// result says whether all could be visited.
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
    let initial = initial_inode();
    let label_of = |inode| enumeration.find(inode).map_or_else(String::new, |n| label(n, initial));
    let mut unopened = Vec::new();
    let opened = enumeration
        .namespaces
        .iter()
        .filter_map(|found| found.open().map_err(|error| unopened.push((found.inode, error))).ok());
    // A failed write, say, ends the whole; what concerns one namespace does not.
    let mut fatal = None;
    let visited = netns::visit(opened, |namespace| {
        if fatal.is_some() {
            return Ok(());
        }
        let mut table = match Conntrack::open() {
            Err(error) if !matches!(error, Error::Unavailable { .. }) => {
                return Err((namespace.inode(), error));
            }
            table => match table.map_err(anyhow::Error::from) {
                Ok(table) => table,
                Err(error) => {
                    fatal = Some(error);
                    return Ok(());
                }
            },
        };
        let label = label_of(namespace.inode());
        if let Err(error) = f(&mut table, Some(&label)) {
            fatal = Some(error.context(format!("namespace {}", printable(&label))));
        }
        Ok(())
    })?;
    if let Some(error) = fatal {
        return Err(error);
    }
    let mut failures = unopened;
    for visit in visited {
        match visit {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => failures.push(failure),
            Err(error) => failures.push((0, error)),
        }
    }
    for (inode, error) in &failures {
        eprintln!("ctkeeper: namespace {}: {error}", printable(&label_of(*inode)));
    }
    Ok(failures.is_empty())
}

fn warn_of_unreadable(enumeration: &Enumeration) {
    let processes = enumeration.unreadable_processes;
    if processes > 0 {
        eprintln!(
            "ctkeeper: {processes} processes do not show their namespace (seeing all of them needs \
             root): there may be more than are listed"
        );
    }
}

/// What to call a namespace: `host` for the initial one, its name, else what `--netns` takes.
fn label(found: &FoundNamespace, initial: Option<u64>) -> String {
    if initial == Some(found.inode) {
        return "host".to_owned();
    }
    let in_name_folder = |path: &&std::path::PathBuf| {
        path.parent()
            .is_some_and(|folder| NAME_FOLDERS.iter().any(|name| Path::new(name) == folder))
    };
    let name = found.paths.iter().find(in_name_folder).and_then(|path| path.file_name());
    match name {
        Some(name) => name.to_string_lossy().into_owned(),
        None => format!("net:[{}]", found.inode),
    }
}

/// The initial namespace's inode: ours if we are in it, else process 1's if it may be looked at.
fn initial_inode() -> Option<u64> {
    if sysctl::in_initial_namespace() == Some(true) {
        return Namespace::current().ok().map(|namespace| namespace.inode());
    }
    fs::metadata("/proc/1/ns/net").ok().map(|metadata| metadata.ino())
}
