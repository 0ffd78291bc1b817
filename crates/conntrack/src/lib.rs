//! The `conntrack` command of conntrack-tools 1.4.7, replaced: its words, its bytes, its exit codes.
//!
//! Arguments become an [`Invocation`], a plain value; a command is then run for it. Where 1.4.7 has
//! a fault that later releases mended, the later behaviour is taken.

pub mod invocation;

pub use invocation::{Command, Invocation, Table};
