//! `get`, `add`, `update`, `delete`, `flush`, `save`, `restore`, and the other lists, on the real
//! kernel.

use std::process::ExitCode;

use ctkeeper_tests::{Case, KERNEL, Need, main as harness};

mod agreement;
mod changes;
mod lists;
mod manners;
mod one;
mod restoring;
mod round_trip;
mod support;

const PEER: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("ip", "iproute2"),
    Need::Program("conntrack", "conntrack"),
    Need::Program("nft", "nftables"),
];
const TERMINAL: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("conntrack", "conntrack"),
    Need::Program("script", "bsdutils"),
];
const UNPRIVILEGED: &[Need] =
    &[Need::Root, Need::Conntrack, Need::Program("setpriv", "util-linux")];

const fn case(name: &'static str, needs: &'static [Need], run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, needs, run }
}

fn main() -> ExitCode {
    harness(&[
        case("either_direction_finds_the_entry", PEER, one::either_direction_finds_the_entry),
        case("every_entry_is_found_by_its_tuple", PEER, one::every_entry_is_found),
        case("an_absent_entry_is_no_error_message", KERNEL, one::an_absent_entry),
        case("what_is_added_is_there", PEER, one::what_is_added_is_there),
        case("an_entry_that_exists_is_left_alone", KERNEL, one::an_existing_entry_is_left_alone),
        case("a_filter_says_what_goes", PEER, changes::a_filter_says_what_goes),
        case("thousands_go_in_one_call", KERNEL, changes::thousands_go_in_one_call),
        case("marks_timeouts_and_bits_change", PEER, changes::marks_timeouts_and_bits_change),
        case("labels_stick_where_rules_use_them", PEER, changes::labels_stick_where_used),
        case("a_flush_empties_one_namespace", PEER, changes::a_flush_empties_one_namespace),
        case("no_filter_reaches_the_kernels_flush", PEER, changes::no_filtered_flush),
        case("without_a_terminal_nothing_is_done", PEER, agreement::without_a_terminal),
        case("a_terminal_is_asked", TERMINAL, agreement::a_terminal_is_asked),
        case("what_changed_meanwhile_stays", TERMINAL, agreement::what_changed_meanwhile_stays),
        case("json_tells_what_was_done", PEER, agreement::json_tells_what_was_done),
        case("everything_comes_back", PEER, round_trip::everything_comes_back),
        case("conntrack_loads_what_is_saved", PEER, round_trip::conntrack_loads_it),
        case("conntracks_lists_come_back", PEER, round_trip::conntracks_lists_come_back),
        case("a_filter_saves_some", PEER, round_trip::a_filter_saves_some),
        case("bad_lines_are_named_and_nothing_is_made", KERNEL, restoring::bad_lines_are_named),
        case("what_exists_is_counted", KERNEL, restoring::what_exists_is_counted),
        case("refusals_are_named_by_line", KERNEL, restoring::refusals_are_named_by_line),
        case("thousands_are_restored", KERNEL, restoring::thousands_are_restored),
        case("what_cannot_come_back_is_said", PEER, restoring::what_cannot_come_back_is_said),
        case("xml_and_save_are_conntracks", PEER, lists::xml_and_save_are_conntracks),
        case("expectations_are_listed", PEER, lists::expectations_are_listed),
        case("expectations_are_watched", KERNEL, lists::expectations_are_watched),
        case("other_lists_are_empty_here", KERNEL, lists::other_lists),
        case("mistakes_are_usage_errors", KERNEL, manners::mistakes_are_usage_errors),
        case("without_privilege_it_says_so", UNPRIVILEGED, manners::without_privilege),
        case("a_vanished_namespace_is_an_error", KERNEL, manners::a_vanished_namespace),
        case("a_reader_who_goes_hides_no_deed", KERNEL, manners::a_reader_who_goes),
    ])
}
