//! `netlink` on the real kernel.

use std::process::ExitCode;

use ctkeeper_tests::main as harness;

fn main() -> ExitCode {
    harness(&[])
}
