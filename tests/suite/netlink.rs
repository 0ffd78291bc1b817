//! `netlink` on the real kernel.

use std::process::ExitCode;

use ctkeeper_tests::{Case, Need, main as harness};

#[path = "netlink/changes.rs"]
mod changes;
#[path = "netlink/dumps.rs"]
mod dumps;
#[path = "netlink/events.rs"]
mod events;
#[path = "netlink/expectations.rs"]
mod expectations;
#[path = "netlink/links.rs"]
mod links;
#[path = "netlink/namespaces.rs"]
mod namespaces;
#[path = "netlink/requests.rs"]
mod requests;
#[path = "netlink/rules.rs"]
mod rules;
#[path = "netlink/support.rs"]
mod support;
#[path = "netlink/timeouts.rs"]
mod timeouts;

const KERNEL: &[Need] = &[Need::Root, Need::Conntrack];
const RULES: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("nft", "nftables")];

const PYTHON: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("python3", "python3")];

const fn case(name: &'static str, run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, needs: KERNEL, run }
}

const fn with_rules(name: &'static str, run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, needs: RULES, run }
}

fn main() -> ExitCode {
    harness(&[
        case("every_protocol_round_trips", changes::every_protocol_round_trips),
        case("zones_keep_equal_tuples_apart", changes::zones_keep_equal_tuples_apart),
        case("translations_round_trip", changes::translations_round_trip),
        with_rules("labels_stick_where_a_rule_uses_them", changes::labels_stick),
        case("a_change_touches_only_what_it_names", changes::a_change_touches_only_what_it_names),
        case(
            "a_deletion_by_id_spares_a_later_entry",
            changes::a_deletion_by_id_spares_a_later_entry,
        ),
        case("a_batch_names_what_was_refused", changes::a_batch_names_what_was_refused),
        case("a_batch_stops_when_told", changes::a_batch_stops_when_told),
        case("a_flush_empties_its_namespace_only", changes::a_flush_empties_its_namespace_only),
        case("refusals_are_in_plain_words", changes::refusals_are_in_plain_words),
        case("without_privilege_the_error_says_so", changes::without_privilege_the_error_says_so),
        case("count_and_statistics", dumps::count_and_statistics),
        case("every_filter_gives_what_a_full_dump_gives", dumps::every_filter_is_right),
        case("counters_are_zeroed_as_they_are_read", dumps::counters_are_zeroed_as_they_are_read),
        case("links_tie_namespaces_together", links::links_tie_namespaces_together),
        Case {
            name: "sockets_tell_their_control_group",
            needs: PYTHON,
            run: links::sockets_tell_their_control_group,
        },
        Case { name: "lists_are_told_apart", needs: PYTHON, run: dumps::lists_are_told_apart },
        case("refusals_carry_the_kernels_number", requests::refusals_carry_the_kernels_number),
        with_rules("every_attribute_arrives", requests::every_attribute_arrives),
        case("a_batch_mixes_verbs_in_order", requests::a_batch_mixes_verbs_in_order),
        case("timeouts_are_set_and_read", timeouts::defaults_are_set_and_read),
        case("timeout_policies_come_and_go", timeouts::policies_come_and_go),
        case(
            "helpers_are_listed_or_said_not_to_be",
            timeouts::helpers_are_listed_or_said_not_to_be,
        ),
        case("a_sample_stops_and_the_socket_lives_on", dumps::a_sample_stops),
        case("a_sample_is_a_prefix_of_the_dump", dumps::a_sample_is_a_prefix),
        case("a_namespace_may_vanish_during_a_dump", dumps::a_namespace_may_vanish),
        case("events_tell_what_happened", events::events_tell_what_happened),
        case("groups_deliver_only_what_was_asked", events::groups_deliver_only_what_was_asked),
        case("losses_are_counted_exactly", events::losses_are_counted_exactly),
        case("a_dump_makes_good_a_loss", events::a_dump_makes_good_a_loss),
        case("expectations_come_and_go", expectations::expectations_come_and_go),
        case(
            "one_expectation_is_read_changed_and_deleted",
            expectations::one_expectation_is_read_changed_and_deleted,
        ),
        case("refused_expectations_say_why", expectations::refused_expectations_say_why),
        case("a_namespace_opens_by_every_name", namespaces::opens_by_every_name),
        case("the_callers_thread_is_not_moved", namespaces::the_callers_thread_is_not_moved),
        case(
            "its_own_namespace_needs_no_right_to_enter",
            namespaces::its_own_needs_no_right_to_enter,
        ),
        case("vanished_namespaces_are_said_to_be", namespaces::vanished_ones_are_said_to_be),
        case("every_namespace_is_enumerated", namespaces::every_one_is_enumerated),
        case("a_held_namespace_outlives_its_name", namespaces::a_held_one_outlives_its_name),
        case("five_hundred_namespaces", namespaces::five_hundred),
        with_rules("rules_are_summarised", rules::rules_are_summarised),
        case("no_rules_are_no_error", rules::no_rules_are_no_error),
    ])
}
