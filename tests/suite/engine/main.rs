//! The engine against the kernel, packet by packet.

mod full;
mod ground;

use std::process::ExitCode;

use ctkeeper_tests::{Case, RULES, main as harness};

const fn case(name: &'static str, run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, needs: RULES, run }
}

fn main() -> ExitCode {
    harness(&[
        case(
            "early_drop_strikes_as_often_as_the_kernels",
            full::early_drop_strikes_as_often_as_the_kernels,
        ),
        case("every_packet_tells_its_class", ground::every_packet_tells_its_class),
    ])
}
