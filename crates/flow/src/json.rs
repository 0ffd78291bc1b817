//! The JSON form: one object a line, flat enough for `jq`, both ways. `docs/json.md` is its
//! schema.
//!
//! ```json
//! {"family":"ipv4","protocol":"tcp","protocol_number":6,"timeout":431999,"state":"ESTABLISHED",…}
//! ```
//!
//! The form is stable: keys are added, never renamed or given another meaning, and what the kernel
//! did not send is absent. It carries everything a [`Flow`](crate::Flow) holds, so that [`parse`]
//! gives back what [`write()`] was given (but for a SYNPROXY state of zeros, which says nothing). It is ASCII: whatever text others chose (helpers, security
//! contexts, names of namespaces) is escaped and cannot reach a terminal.

mod parse;
mod time;
mod write;

pub use parse::{JsonError, JsonLine, parse, parse_line};
pub use write::{JsonOptions, write, write_expectation, write_string};
