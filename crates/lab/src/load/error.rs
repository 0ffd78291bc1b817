//! Why a load or a server cannot start.

use std::fmt::Display;
use std::io;

/// Why a load or a server cannot start. What goes wrong later, during a load, is counted in its
/// [`Report`](super::Report) instead.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A field of the profile makes no sense, or goes beyond the lab's bounds.
    #[error("the load's {field} is {value}: {advice}")]
    Profile {
        /// The field, as TOML names it.
        field: &'static str,
        /// Its value.
        value: String,
        /// What to write instead.
        advice: String,
    },
    /// The lab's law: load goes to loopback, or stays within namespaces that the lab made.
    #[error(
        "a load on {target} from {namespace}: that is the host's own namespace, and the lab loads \
         nobody but itself; give a namespace of the lab, or a loopback address"
    )]
    NotInLab {
        /// The first target outside.
        target: String,
        /// Where the load would have come from.
        namespace: String,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] ctkeeper_netlink::Error),
    /// A call of the kernel failed.
    #[error("{operation} {object}: {error}; {advice}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// The kernel's answer.
        #[source]
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

impl LoadError {
    pub(super) fn profile(field: &'static str, value: impl Display, advice: impl Display) -> Self {
        Self::Profile { field, value: value.to_string(), advice: advice.to_string() }
    }

    /// For `map_err` of a call on an object.
    pub(super) fn kernel<E: Into<io::Error>>(
        operation: &'static str,
        object: impl Display,
        advice: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::Kernel {
            operation,
            object: object.to_string(),
            error: error.into(),
            advice,
        }
    }
}
