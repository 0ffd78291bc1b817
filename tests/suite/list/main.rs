//! `list`, `count`, `stats` and `watch` on the real kernel, beside Debian's conntrack.

use std::process::ExitCode;

use ctkeeper_tests::{Case, KERNEL, Need, main as harness};

mod beside_conntrack;
mod counts;
mod events;
mod filters;
mod manners;
mod saved;
mod support;

const PEER: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("ip", "iproute2"),
    Need::Program("conntrack", "conntrack"),
    Need::Program("nft", "nftables"),
];
const TERMINAL: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("script", "bsdutils")];
const UNPRIVILEGED: &[Need] =
    &[Need::Root, Need::Conntrack, Need::Program("setpriv", "util-linux")];

const fn case(name: &'static str, needs: &'static [Need], run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, needs, run }
}

fn main() -> ExitCode {
    harness(&[
        case("text_is_conntracks_to_the_byte", PEER, beside_conntrack::text_is_conntracks),
        case("text_with_counters_and_times", PEER, beside_conntrack::with_counters_and_times),
        case("text_of_real_traffic_and_nat", PEER, beside_conntrack::of_real_traffic),
        case("json_carries_what_text_does", PEER, beside_conntrack::json_carries_the_same),
        case("proc_reads_back", PEER, beside_conntrack::proc_reads_back),
        case("filters_give_what_a_full_list_holds", PEER, filters::give_what_a_full_list_holds),
        case("a_typo_points_at_its_column", KERNEL, filters::a_typo_points_at_its_column),
        case("absent_counters_are_named", KERNEL, filters::absent_counters_are_named),
        case("a_broken_pipe_is_success", KERNEL, manners::a_broken_pipe_is_success),
        case("the_limit_stops", KERNEL, manners::the_limit_stops),
        case("memory_does_not_grow", KERNEL, manners::memory_does_not_grow),
        case("unknown_namespaces_are_errors", KERNEL, manners::unknown_namespaces_are_errors),
        case("without_privilege_it_says_so", UNPRIVILEGED, manners::without_privilege_it_says_so),
        case("all_namespaces_with_their_names", KERNEL, manners::all_namespaces_with_their_names),
        case("host_is_the_initial_namespace", KERNEL, manners::host_is_the_initial_namespace),
        case("shared_causes_are_named_once", UNPRIVILEGED, manners::shared_causes_are_named_once),
        case("namespaces_may_come_and_go", KERNEL, manners::namespaces_may_come_and_go),
        case("a_terminal_gets_columns", TERMINAL, manners::a_terminal_gets_columns),
        case("a_narrow_terminal_folds_words", TERMINAL, manners::a_narrow_terminal_folds_words),
        case("hostile_names_stay_harmless", TERMINAL, manners::hostile_names_stay_harmless),
        case("the_seeds_list_reads", &[], saved::the_seeds_list_reads),
        case("saved_lists_read_back", KERNEL, saved::saved_lists_read_back),
        case("lines_that_are_no_entries_are_named", &[], saved::others_are_named),
        case("files_that_are_no_lists_are_refused", &[], saved::other_files_are_refused),
        case("a_limit_reads_a_list_no_further", &[], saved::a_limit_reads_no_further),
        case("count_is_the_kernels", PEER, counts::count_is_the_kernels),
        case("expired_entries_are_counted_apart", PEER, counts::expired_entries_are_counted_apart),
        case("stats_are_conntracks", PEER, counts::stats_are_conntracks),
        case("events_are_conntracks", PEER, events::are_conntracks),
        case("events_end_when_told", KERNEL, events::end_when_told),
        case("event_losses_are_exact", KERNEL, events::losses_are_exact),
    ])
}
