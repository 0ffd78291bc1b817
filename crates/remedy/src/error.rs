//! Why a change was not made, or not taken back.

use std::path::PathBuf;

use ctkeeper_flow::units;
use ctkeeper_host::SysctlError;
use thiserror::Error;

use crate::plan::Refusal;
use crate::root::FileError;

/// Why a change was not made, or not taken back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Another change is being made.
    #[error("another ctkeeper is making a change right now; wait for it, then try again")]
    Busy,
    /// Something changed between planning and applying.
    #[error(
        "{what} changed since this was planned ({was} then, {is} now): run `ctkeeper fix` again"
    )]
    Stale {
        /// What.
        what: String,
        /// What the plan starts from.
        was: String,
        /// What is there now.
        is: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A running value could not be read or written.
    #[error(transparent)]
    Running(#[from] SysctlError),
    /// The kernel made something else of a value.
    #[error("{key} was set to {wanted} and reads {found}: somebody else may be writing it")]
    ReadBack {
        /// Which.
        key: &'static str,
        /// What was written.
        wanted: u64,
        /// What it reads.
        found: u64,
    },
    /// A line of somebody else's file cannot be commented out.
    #[error("{} line {line}: {cause}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u32,
        /// Why, and what to do.
        cause: String,
    },
    /// After all steps the host is not as planned.
    #[error("the change was made and does not hold: {0}")]
    NotVerified(String),
    /// The host could not be looked at.
    #[error("looking at the host: {0}")]
    Observing(String),
    /// A journal file cannot be read or written.
    #[error(
        "the journal {} cannot be used: {cause}; it holds what is needed to undo a change: repair \
         it, or move it away to give that up", path.display()
    )]
    Journal {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A step failed, and everything is as before.
    #[error("{cause}\nNothing changed: what had been done was rolled back (change {id}){left}")]
    RolledBack {
        /// Name of the change.
        id: String,
        /// The failure.
        cause: Box<Self>,
        /// What was left raised, and why; empty or a sentence that begins with a separator.
        left: String,
    },
    /// A step failed, and so did rolling back.
    #[error(
        "{cause}\nRolling back failed as well: {rollback}\nThe next `ctkeeper fix` goes on with it; \
         what it needs is in {}", journal.display()
    )]
    Stuck {
        /// The failure.
        cause: Box<Self>,
        /// Why rolling back failed.
        rollback: Box<Self>,
        /// The journal file.
        journal: PathBuf,
    },
    /// There is no change to undo, or none of that name.
    #[error("{0}; `ctkeeper fix --history` lists the changes")]
    NothingToUndo(String),
    /// A later change stands on this one.
    #[error("change {later} came after {id}: undo it first (`ctkeeper fix --undo {later}`)")]
    LaterChange {
        /// Name of the change.
        id: String,
        /// Name of the later one.
        later: String,
    },
    /// Somebody else changed what would be put back.
    #[error(
        "since change {id}, somebody else changed {}; look at it, then `ctkeeper fix --undo {id} \
         --force` keeps a copy and puts back what was before", what.join(" and ")
    )]
    ChangedSince {
        /// Name of the change.
        id: String,
        /// What.
        what: Vec<String>,
    },
    /// The old limit is below what a namespace holds now.
    #[error(
        "before change {id} the limit was {}, and {namespace} holds {} entries now: it would refuse \
         every new connection at once; free entries first",
        units::count(*.limit), units::count(*.count)
    )]
    UndoBelowCount {
        /// Name of the change.
        id: String,
        /// The limit before it.
        limit: u64,
        /// The fullest namespace.
        namespace: String,
        /// What it holds.
        count: u64,
    },
    /// The old buckets are too few for the entries that stand now.
    #[error(
        "before change {id} there were {} buckets, and {} entries stand now: with so many a bucket \
         the kernel would refuse new flows silently; free entries first",
        units::count(*.buckets), units::count(*.entries)
    )]
    UndoCrowdsBuckets {
        /// Name of the change.
        id: String,
        /// The buckets before it.
        buckets: u64,
        /// The entries of all namespaces.
        entries: u64,
    },
    /// The change is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}
