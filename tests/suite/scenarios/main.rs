//! `ctkeeper lab` as a user runs it: the confusion matrix of causes and scenarios, what happens to a
//! run that is ended, what is refused.
//!
//! `CTKEEPER_SHOW=1 CTKEEPER_LAB_RUNS=20 cargo test -p ctkeeper-tests --test scenarios matrix` prints
//! the matrix of twenty runs; `CTKEEPER_LAB_SCENARIOS=full,invalid` takes some scenarios only.

mod ended;
mod matrix;
mod refused;

use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ctkeeper_tests::{Case, Need, main as harness};

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("ip", "iproute2"),
    Need::Program("nft", "nftables"),
    Need::Program("haproxy", "haproxy"),
];

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Load that others make at the same time is not what these tests are about.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    harness(&[
        Case { name: "matrix", needs: NEEDS, run: matrix::only_the_diagonal },
        Case { name: "ended::interrupted", needs: NEEDS, run: ended::interrupted },
        Case { name: "ended::killed", needs: NEEDS, run: ended::killed },
        Case { name: "ended::killed_anywhere", needs: NEEDS, run: ended::killed_anywhere },
        Case { name: "ended::unread", needs: NEEDS, run: ended::unread },
        Case { name: "refused::files", needs: &[], run: refused::files },
        Case { name: "refused::names", needs: &[], run: refused::names },
        Case { name: "listed", needs: &[], run: refused::listed },
    ])
}
