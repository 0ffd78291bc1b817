//! The namespaces to look into, and the ways to them.

use ctkeeper_netlink::Error;
use ctkeeper_netlink::netns::{Enumeration, FoundNamespace, Namespace, NamespaceSelector};

use ctkeeper_host::namespaces::{self, Description};

use crate::Selection;

/// A namespace to look into. It is opened anew for each look: a handle held would keep a namespace
/// alive that its owner has removed.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    found: FoundNamespace,
    selector: Option<NamespaceSelector>,
}

/// The targets of a selection.
pub(crate) fn select(
    selection: &Selection,
    enumeration: &Enumeration,
) -> Result<Vec<Target>, Error> {
    match selection {
        Selection::All => {
            let target = |found: &FoundNamespace| Target { found: found.clone(), selector: None };
            Ok(enumeration.namespaces.iter().map(target).collect())
        }
        Selection::One(selector) => {
            let inode = Namespace::open(selector)?.inode();
            let unlisted = || FoundNamespace { inode, ..FoundNamespace::default() };
            let found = enumeration.find(inode).cloned().unwrap_or_else(unlisted);
            Ok(vec![Target { found, selector: Some(selector.clone()) }])
        }
    }
}

impl Target {
    pub(crate) fn inode(&self) -> u64 {
        self.found.inode
    }

    pub(crate) fn open(&self) -> Result<Namespace, Error> {
        self.selector.as_ref().map_or_else(|| self.found.open(), Namespace::open)
    }

    /// Its names, and as many of its processes.
    pub(crate) fn describe(&self, processes: usize) -> Description {
        namespaces::describe(&self.found, processes)
    }
}
