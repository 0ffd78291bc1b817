//! Talks to the kernel about connection tracking, in any network namespace.
//!
//! * [`Conntrack`] is a socket to one namespace's table: count and limit, statistics, whole,
//!   filtered and sampled dumps; creating, changing and deleting entries.
//! * [`EntryRequest`] and [`ExpectationRequest`] name, make and change one entry or expectation
//!   with exactly the attributes given.
//! * [`Events`] are a namespace's events, with exact account of losses; [`ExpectationEvents`] those
//!   of its expectations.
//! * [`timeout_policies`] are its timeouts by protocol and state.
//! * [`nftables`] summarises a namespace's rules.
//! * [`sockets`] are a namespace's TCP and UDP sockets, by which an entry's process is found.
//! * [`links`] are a namespace's interfaces and addresses.
//! * [`netns`] names, holds, lists and visits network namespaces without moving the caller's thread.
//! * [`Availability`] tells, without changing anything, whether there is something to talk to:
//!   a netlink request can load modules, so nothing is opened unless it is [`Availability::Ready`].
//!
//! The netlink codec is our own: it reads in place, checks every length and never panics on what it
//! receives.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use ctkeeper_netlink::netns::Namespace;
//! use ctkeeper_netlink::{Conntrack, DumpFilter};
//!
//! # fn main() -> Result<(), ctkeeper_netlink::Error> {
//! let namespace = Namespace::open(&"blue".parse()?)?;
//! let mut table = Conntrack::open_in(&namespace)?;
//! println!("{} entries", table.count_and_limit()?.entries);
//! table.dump(&DumpFilter::ALL, |flow| {
//!     println!("{}", flow.original);
//!     ControlFlow::Continue(())
//! })?;
//! # Ok(())
//! # }
//! ```

mod attribute;
mod availability;
mod change;
mod ctnetlink;
mod decode;
mod encode;
mod entry_request;
mod enumerate;
mod error;
mod events;
mod expectation_request;
mod expectations;
mod filter;
mod helpers;
pub mod links;
pub mod netns;
pub mod nftables;
mod socket;
pub mod sockets;
mod sys;
pub mod timeout_policies;
mod wire;

pub use availability::{Availability, Module, ModulePresence};
pub use change::Batch;
pub use ctkeeper_flow::EventKind;
pub use ctnetlink::{Conntrack, Dump, GlobalStatistics, List};
pub use encode::Change;
pub use entry_request::{EntryRequest, TrackerRequest, Translation, Verb};
pub use error::{Errno, Error, Operation};
pub use events::{Event, Events, ExpectationEvent, ExpectationEvents, Groups, Reading};
pub use expectation_request::ExpectationRequest;
pub use expectations::ExpectationStatistics;
pub use filter::DumpFilter;
pub use helpers::UserspaceHelper;
pub use timeout_policies::{StateTimeouts, TimeoutPolicy};
pub use wire::Malformed;
