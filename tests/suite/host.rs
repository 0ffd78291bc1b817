//! `host` on the real kernel and against the real readers of settings files.

#[path = "host/kernel.rs"]
mod kernel;
#[path = "host/readers.rs"]
mod readers;
#[path = "host/roster.rs"]
mod roster;
#[path = "host/runtimes.rs"]
mod runtimes;

use std::process::ExitCode;

use ctkeeper_tests::{Case, DOCKER, KERNEL, Need, PODMAN, PODS, RULES, main as harness};

const READERS: &[Need] =
    &[Need::Root, Need::Program("unshare", "util-linux"), Need::Program("sysctl", "procps")];

const PYTHON: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("python3", "python3")];

fn main() -> ExitCode {
    if kernel::is_probe() {
        return kernel::answer_probe();
    }
    let case = |name, needs, run| Case { name, needs, run };
    harness(&[
        case("host::readers::by_hand", READERS, readers::cases_by_hand_agree_with_the_readers),
        case("host::readers::generated", READERS, readers::generated_trees_agree_with_the_readers),
        case(
            "host::readers::conntrack_key",
            READERS,
            readers::a_conntrack_key_agrees_with_the_readers,
        ),
        case(
            "host::readers::two_names",
            READERS,
            readers::two_names_of_one_value_agree_with_the_readers,
        ),
        case("host::sysctl::timeouts", KERNEL, kernel::timeouts_are_each_namespaces_own),
        case("host::sysctl::refusals", KERNEL, kernel::refusals_say_what_to_do),
        case("host::sysctl::access", KERNEL, kernel::what_bars_a_change_is_told_by_looking),
        case("host::namespaces", KERNEL, kernel::namespaces_are_named),
        case("host::memory::slab", KERNEL, kernel::entries_show_in_the_slab),
        case("host::tracking", RULES, kernel::what_turns_tracking_on_is_found),
        case("host::roster::tenants", PYTHON, roster::addresses_lead_to_who_is_behind_them),
        case("host::roster::routes", KERNEL, roster::routes_tell_who_is_further_away),
        case("host::roster::guests", PYTHON, roster::a_guest_does_not_take_a_container_over),
        case("host::roster::sockets", PYTHON, roster::sockets_lead_to_units_and_processes),
        case("host::runtimes::docker", DOCKER, runtimes::docker_is_asked),
        case("host::runtimes::containerd", PODS, runtimes::containerd_is_asked),
        case("host::runtimes::podman", PODMAN, runtimes::podman_is_asked),
        case("host::runtimes::without_pods", DOCKER, runtimes::containerd_without_pods),
        case("host::kernel_log", KERNEL, kernel::a_full_table_shows_in_the_log),
    ])
}
