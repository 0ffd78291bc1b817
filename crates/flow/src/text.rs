//! The text form: one line an entry, as `conntrack -L` prints it, both ways.
//!
//! ```text
//! tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=4000 dport=80 src=10.0.0.2 dst=10.0.0.1 sport=80 dport=4000 [ASSURED] mark=0 use=1
//! ```
//!
//! [`write()`] gives the bytes of conntrack-tools 1.4.7 with libnetfilter_conntrack 1.0.9, with these
//! differences: a DCCP state has its own name (theirs shows an SCTP one), a negative `delta-time=`
//! is 0, and bytes that could break a line or a terminal (blanks, controls, everything but
//! ASCII, the backslash) stand as `\xNN` in the fields that hold free text, `secctx=`, `helper=` and
//! our own `netns=`.
//!
//! [`parse`] reads such lines back, those of `conntrack -E` and `-o extended`, and those of
//! `/proc/net/nf_conntrack`.

mod parse;
mod write;

pub use parse::{TextError, TextLine, parse, parse_line};
pub(crate) use parse::{translation, unescape};
pub(crate) use write::free_byte;
pub use write::{TextOptions, write, write_expectation, write_expectation_stamp, write_stamp};

use crate::{EventKind, Status};

/// The tags of status bits in a line. At most one of the first three is shown, the first that
/// applies.
const STATUS_TAGS: [(Status, &str); 3] = [
    (Status::HW_OFFLOAD, "[HW_OFFLOAD]"),
    (Status::OFFLOAD, "[OFFLOAD]"),
    (Status::ASSURED, "[ASSURED]"),
];
const UNREPLIED: &str = "[UNREPLIED]";

/// The tag of an event, right-aligned in nine columns as `conntrack -E` prints it.
const fn event_tag(event: EventKind) -> &'static str {
    match event {
        EventKind::New => "    [NEW]",
        EventKind::Update => " [UPDATE]",
        EventKind::Destroy => "[DESTROY]",
    }
}
