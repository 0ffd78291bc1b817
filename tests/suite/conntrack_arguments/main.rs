//! Command lines that conntrack refuses, read by the real one and by ours: the same bytes on
//! standard error, the same exit code; and what the real one takes, ours takes.
//!
//! The real one runs without privileges in a namespace of its own: what it takes it cannot do.

mod both;
mod generated;

use std::process::ExitCode;

use ctkeeper_tests::{Case, Need, main as harness};

const CONNTRACK: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("conntrack", "conntrack"),
    Need::Program("setpriv", "util-linux"),
];

fn main() -> ExitCode {
    let case = |name, run| Case { name, needs: CONNTRACK, run };
    harness(&[
        case("conntrack::arguments::by_hand", both::lines_by_hand_are_read_alike),
        case("conntrack::arguments::generated", generated::generated_lines_are_read_alike),
        case("conntrack::arguments::addresses", generated::addresses_are_read_alike),
    ])
}
