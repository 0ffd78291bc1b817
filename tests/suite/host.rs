//! `host` on the real kernel and against the real readers of settings files.

#[path = "host/readers.rs"]
mod readers;

use std::process::ExitCode;

use ctkeeper_tests::{Case, Need, main as harness};

const READERS: &[Need] =
    &[Need::Root, Need::Program("unshare", "util-linux"), Need::Program("sysctl", "procps")];

fn main() -> ExitCode {
    harness(&[
        Case {
            name: "host::readers::by_hand",
            needs: READERS,
            run: readers::cases_by_hand_agree_with_the_readers,
        },
        Case {
            name: "host::readers::generated",
            needs: READERS,
            run: readers::generated_trees_agree_with_the_readers,
        },
        Case {
            name: "host::readers::conntrack_key",
            needs: &[Need::Root, Need::Conntrack],
            run: readers::a_conntrack_key_agrees_with_the_readers,
        },
        Case {
            name: "host::readers::two_names",
            needs: READERS,
            run: readers::two_names_of_one_value_agree_with_the_readers,
        },
    ])
}
