//! The census' promises about samples, on the kernel's own dumps: intervals cover the truth as often
//! as they say, whatever the table is made of; a sample that is said to be enough is; sums over
//! namespaces are as honest; growth is told from two looks at a table that changes, also when the
//! hash table is resized between them.
//!
//! Each prints its table: `cargo test -p ctkeeper-tests --test sampling -- --nocapture`.

mod coverage;
mod growth;

use std::process::ExitCode;

use ctkeeper_tests::{Case, KERNEL, main as harness};

fn main() -> ExitCode {
    harness(&[
        Case {
            name: "intervals_cover_the_truth_in_small_tables",
            needs: KERNEL,
            run: coverage::small_tables,
        },
        Case {
            name: "intervals_cover_the_truth_in_large_tables",
            needs: KERNEL,
            run: coverage::large_tables,
        },
        Case {
            name: "a_sum_over_namespaces_covers_the_truth",
            needs: KERNEL,
            run: coverage::several_namespaces,
        },
        Case { name: "enough_is_enough", needs: KERNEL, run: coverage::enough },
        Case { name: "growth_of_a_panel", needs: KERNEL, run: growth::of_a_panel },
    ])
}
