//! The command `conntrack` beside Debian's: cases as data, tables that come about the same way for
//! both, and a comparison that says what it leaves out.
//!
//! * [`Case`] is one command line (or several in a row) on one [`TableSpec`]; both are TOML.
//! * [`Stage`] is such a table, standing in a namespace of its own: entries that the reference has
//!   inserted, conversations of hand-made packets, real sockets.
//! * [`Program`] is the reference, or a candidate.
//! * [`Suite`] runs a case: the reference, the candidate, and again whatever the reference changed,
//!   so that both meet the same table; it compares standard output, standard error, how they ended,
//!   and the table left behind.
//!
//! What is not compared is stated in [`mask`].

mod case;
mod events;
mod look;
pub mod mask;
mod outcome;
mod program;
mod sockets;
mod stage;
mod suite;
mod traffic;
mod wire;

pub use case::{Case, Correction, Difference, Expected, File, Stdout, TableSpec, User, words};
pub use outcome::{Outcome, differences};
pub use program::{Program, REFERENCE, Said};
pub use stage::{Look, Stage};
pub use suite::{Judgement, Suite, cases_folder};
