//! The engine against the kernel, packet by packet.

mod agreement;
mod cases;
mod errors;
mod full;
mod ground;
mod mutants;

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
        case("kernel_and_engine_agree", agreement::kernel_and_engine_agree),
        case("what_they_once_disagreed_about", cases::what_they_once_disagreed_about),
        case("events_are_the_kernels", agreement::events_are_the_kernels),
        case("every_mutant_is_caught", mutants::every_mutant_is_caught),
    ])
}
