//! Which network namespaces a command looks into.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
    let mut labels = Labels { enumeration, initial: initial_inode() };
    let (mut unopened, mut entered) = (Vec::new(), Vec::new());
    let opened = enumeration.namespaces.iter().filter_map(|found| {
        let opened = found.open().map_err(|error| unopened.push((found.inode, error))).ok()?;
        entered.push(found.inode);
        Some(opened)
    });
    // A failed write, say, ends the whole; what concerns one namespace does not.
    let mut fatal = None;
    let visited = netns::visit(opened, |namespace| {
        if fatal.is_some() {
            return Ok(());
        }
        let inode = namespace.inode();
        if sysctl::in_initial_namespace() == Some(true) {
            labels.initial = Some(inode);
        }
        let label = labels.of(inode);
        let visit = Conntrack::open().map_err(anyhow::Error::from);
        match visit.and_then(|mut table| f(&mut table, Some(&label))).map_err(own_failure) {
            Ok(()) => Ok(()),
            Err(Ok(failure)) => Err(failure),
            Err(Err(error)) => {
                fatal = Some(error.context(format!("namespace {}", printable(&label))));
                Ok(())
            }
        }
    })?;
    if let Some(error) = fatal {
        return Err(error);
    }
    let visited = entered.into_iter().zip(visited);
    let failed =
        visited.filter_map(|(inode, visit)| Some((inode, visit.and_then(|done| done).err()?)));
    let failures: Vec<_> = unopened.into_iter().chain(failed).collect();
    name_failures(&failures, &labels);
    // What has ended holds nothing that is missing.
    Ok(failures.iter().all(|(_, error)| matches!(error, Error::NamespaceNotFound { .. })))
}

/// An error that concerns one namespace only. Nothing to see in any is not a matter of one.
fn own_failure(error: anyhow::Error) -> Result<Error, anyhow::Error> {
    match error.downcast::<Error>() {
        Ok(error @ Error::Unavailable { .. }) => Err(error.into()),
        other => other,
    }
}

/// Says what failed on standard error, a line for all namespaces that share a cause.
fn name_failures(failures: &[(u64, Error)], labels: &Labels<'_>) {
    let mut causes: Vec<(String, Vec<String>)> = Vec::new();
    for (inode, error) in failures {
        let (cause, label) = (cause(error), printable(&labels.of(*inode)));
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, sharing)) => sharing.push(label),
            None => causes.push((cause, vec![label])),
        }
    }
    for (cause, labels) in causes {
        say!("ctkeeper: {}: {cause}", named(&labels));
    }
}

/// Why, without the namespace's own name.
fn cause(error: &Error) -> String {
    let Error::NamespaceAccess { action, errno, .. } = error else {
        return error.to_string();
    };
    let advice = error.advice().map_or_else(String::new, |advice| format!("; {advice}"));
    format!("cannot {action}: {errno}{advice}")
}

/// `namespace blue`, `17 namespaces (blue, host, red and 14 more)`.
fn named(labels: &[String]) -> String {
    const NAMED: usize = 3;
    if let [label] = labels {
        return format!("namespace {label}");
    }
    let (shown, rest) = labels.split_at(labels.len().min(NAMED));
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    format!("{} namespaces ({}{more})", labels.len(), shown.join(", "))
}

/// Says that there may be more than could be seen. A process that hides its namespace even from
/// those who may look into every process is no lack of privilege, and nothing can be done about it.
fn warn_of_unreadable(enumeration: &Enumeration) {
    let hidden = enumeration.unreadable_processes as u64;
    if hidden > 0 && !netns::may_look_into_processes() {
        let whose = match hidden {
            1 => "the namespace of 1 process is",
            _ => &format!("the namespaces of {} processes are", units::count(hidden)),
        };
        say!(
            "ctkeeper: {whose} hidden (seeing all of them needs root): there may be more than are \
             listed"
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
        if self.initial == Some(inode) && !self.names(HOST) {
            return HOST.to_owned();
        }
        let paths = self.enumeration.find(inode).into_iter().flat_map(|found| &found.paths);
        let mut names = paths.filter(|path| is_in_name_folder(path)).filter_map(|p| p.file_name());
        match names.next() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => format!("net:[{inode}]"),
        }
    }

    /// Whether some namespace was given this name: that goes before what the name means here.
    fn names(&self, name: &str) -> bool {
        let mut paths = self.enumeration.namespaces.iter().flat_map(|found| &found.paths);
        paths.any(|path| is_in_name_folder(path) && path.file_name().is_some_and(|n| n == name))
    }
}

/// What `--netns` calls the initial namespace.
const HOST: &str = "host";

fn is_in_name_folder(path: &Path) -> bool {
    path.parent().is_some_and(|folder| NAME_FOLDERS.iter().any(|name| folder == Path::new(name)))
}

/// The initial namespace's inode as far as can be told from outside: ours if we are in it, else
/// process 1's if it may be looked at.
fn initial_inode() -> Option<u64> {
    if sysctl::in_initial_namespace() == Some(true) {
        return Namespace::current().ok().map(|namespace| namespace.inode());
    }
    fs::metadata("/proc/1/ns/net").ok().map(|metadata| metadata.ino())
}
