//! Facts of this host.
//!
//! Everything here reads and nothing changes the host, but for [`sysctl::write`]: no module is
//! loaded, no table created, no tool run. Parsing stands apart from reading, so that each parser is
//! tested on whatever a file may hold. Values are those of `ctkeeper-snapshot`; what could not be
//! read comes back as a [`Gap`](ctkeeper_snapshot::Gap) beside the rest of the answer.
//!
//! `/proc/sys/net` and `/proc/thread-self/net` show the network namespace of the *calling thread*
//! (`/proc/net` that of the process's first one).

pub mod cgroup;
pub mod kernel_log;
pub mod machine;
pub mod memory;
pub mod module;
pub mod namespaces;
mod read;
pub mod roster;
pub mod runtimes;
pub mod settings;
pub mod sockets;
pub mod stacks;
pub mod statistics;
pub mod sysctl;
pub mod tracking;

pub use sysctl::SysctlError;
