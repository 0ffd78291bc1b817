//! The lab's load generator against real sockets: every kind of failure is made, and its count must
//! be right.

use std::process::ExitCode;

use ctkeeper_tests::{Case, Need, main as harness};

mod failures;
mod ground;
mod guards;
mod packets;
mod traffic;

const ROOT: &[Need] = &[Need::Root];
const RULES: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("nft", "nftables"),
    Need::Program("conntrack", "conntrack"),
];

const fn case(name: &'static str, run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, needs: ROOT, run }
}

const fn with_rules(name: &'static str, run: fn() -> anyhow::Result<()>) -> Case {
    Case { name, needs: RULES, run }
}

fn main() -> ExitCode {
    harness(&[
        case("held_connections_stay_and_answer", traffic::held_connections_stay),
        case("held_connections_leave_when_told", traffic::held_connections_leave_when_told),
        case("short_connections_come_and_go", traffic::short_connections_come_and_go),
        case("http_with_and_without_keep_alive", traffic::http_both_ways),
        case("sources_and_targets_are_as_given", traffic::sources_and_targets),
        case("ipv6_works_too", traffic::ipv6),
        with_rules(
            "a_slow_target_does_not_slow_the_load",
            traffic::a_slow_target_does_not_slow_the_load,
        ),
        case("the_rate_changes_and_phases_are_apart", traffic::the_rate_changes),
        case("refused_connects_are_counted", failures::refused),
        case("a_silent_server_is_an_answer_timeout", failures::silent),
        with_rules("a_blackhole_is_a_connect_timeout", failures::blackhole),
        with_rules("a_full_table_is_a_connect_timeout", failures::full_table),
        with_rules("probes_tell_a_cut_path", failures::cut_path),
        case("a_closing_peer_is_closed_early", failures::closed_early),
        case("no_route_is_unreachable", failures::unreachable),
        case("ports_run_out", failures::no_ports),
        case("descriptors_run_out", failures::no_descriptors),
        case("datagrams_are_answered", packets::udp_answers),
        with_rules("datagrams_fail_in_their_ways", packets::udp_failures),
        with_rules("floods_come_from_nobody", packets::floods),
        with_rules("invalid_packets_are_invalid", packets::invalid_packets),
        with_rules("packets_dropped_on_the_way_out", packets::dropped_on_the_way_out),
        with_rules("a_load_that_vanishes_leaves_its_entries", guards::vanish),
        case("dropping_a_load_closes_its_connections", guards::dropping_closes),
        case("the_hosts_own_network_is_refused", guards::the_host_is_refused),
        case("a_foreign_source_is_refused", guards::foreign_source),
    ])
}
