//! What can go wrong in the lab: the operation, what it was about, the cause, what to do.

use std::io;

/// Why the lab could not do something, in this crate's one error type.
///
/// Everything the lab made until then is taken away by its guards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// Namespaces, links and rules need root.
    #[error("cannot {operation}: the lab makes network namespaces, which needs root (sudo)")]
    NotRoot {
        /// What was to be done.
        operation: String,
    },
    /// A program that is not installed.
    #[error("cannot run {program}: it is not installed; install the Debian package {package}")]
    MissingProgram {
        /// Its name.
        program: String,
        /// The package of Debian that brings it.
        package: String,
    },
    /// A program that ended without success.
    #[error("{command} failed ({status}): {said}")]
    Program {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote to standard error, or else to standard output.
        said: String,
    },
    /// A file or a process that the system refused.
    #[error("cannot {operation} {object}: {source}")]
    System {
        /// What was to be done.
        operation: &'static str,
        /// To what.
        object: String,
        /// Why it was refused.
        source: io::Error,
    },
    /// The kernel refused a request about connection tracking.
    #[error("in namespace {namespace}: {source}")]
    Netlink {
        /// The namespace's name.
        namespace: String,
        /// What was refused.
        source: ctkeeper_netlink::Error,
    },
    /// Entries that could not be made.
    #[error(
        "{refused} of {wanted} entries were refused in namespace {namespace}; the first: {first}"
    )]
    Refused {
        /// The namespace's name.
        namespace: String,
        /// Entries that were refused.
        refused: u64,
        /// Entries that were to be made.
        wanted: u64,
        /// Why the first one was.
        first: String,
    },
    /// What others on this host would feel.
    #[error("refusing to {operation}, which others on this host would feel: {reason}; {remedy}")]
    Harmful {
        /// What was to be done.
        operation: String,
        /// Why it would hurt.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Something that did not happen in time.
    #[error("waited {seconds} s for {what}: {detail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What is known.
        detail: String,
    },
    /// A scenario that cannot be read.
    #[error("scenario {name}: {reason}")]
    Scenario {
        /// Its file or name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A scenario that needs what this host has not.
    #[error("scenario {name} cannot run here: {needs}")]
    Unsuitable {
        /// Its name.
        name: String,
        /// What it needs, and where that is to be had.
        needs: String,
    },
    /// A load or a server that could not be started.
    #[error(transparent)]
    Load(#[from] crate::load::LoadError),
    /// What the caller was asked to do failed.
    #[error("cannot {operation} {object}: {source}")]
    Caller {
        /// What was to be done.
        operation: &'static str,
        /// To what.
        object: String,
        /// Why it failed.
        source: crate::scenario::CallerError,
    },
    /// A signal asked the lab to stop (control-C, or a terminal that went away).
    #[error("interrupted; what the lab made is being removed")]
    Interrupted,
}

impl LabError {
    /// An error of the system: `operation` completes "cannot …".
    pub(crate) fn system(
        operation: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let object = object.into();
        move |source| Self::System { operation, object, source }
    }
}
