//! The lab itself: its guards, whatever ends them.

mod guards;

use std::process::ExitCode;

use ctkeeper_tests::{Case, Need};

const NEEDS: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("nft", "nftables")];
const HAPROXY: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("nft", "nftables"),
    Need::Program("haproxy", "haproxy"),
];

const CASES: &[Case] = &[
    Case { name: "guards::clean_up_on_drop", needs: NEEDS, run: guards::clean_up_on_drop },
    Case { name: "guards::clean_up_on_panic", needs: NEEDS, run: guards::clean_up_on_panic },
    Case { name: "guards::clean_up_on_signals", needs: NEEDS, run: guards::clean_up_on_signals },
    Case {
        name: "guards::the_next_run_cleans_after_kill_9",
        needs: NEEDS,
        run: guards::the_next_run_cleans_after_kill_9,
    },
    Case {
        name: "guards::the_living_are_left_alone",
        needs: NEEDS,
        run: guards::the_living_are_left_alone,
    },
    Case {
        name: "guards::names_alone_prove_nothing",
        needs: NEEDS,
        run: guards::names_alone_prove_nothing,
    },
    Case {
        name: "guards::a_reused_process_number_is_no_owner",
        needs: NEEDS,
        run: guards::a_reused_process_number_is_no_owner,
    },
    Case {
        name: "guards::a_namespace_that_is_there_is_not_taken_over",
        needs: NEEDS,
        run: guards::a_namespace_that_is_there_is_not_taken_over,
    },
    Case {
        name: "guards::programs_in_the_background_end_too",
        needs: NEEDS,
        run: guards::programs_in_the_background_end_too,
    },
    Case {
        name: "guards::programs_are_waited_for_only_so_long",
        needs: NEEDS,
        run: guards::programs_are_waited_for_only_so_long,
    },
    Case {
        name: "guards::what_cannot_be_removed_is_said",
        needs: NEEDS,
        run: guards::what_cannot_be_removed_is_said,
    },
    Case {
        name: "guards::places_are_left_free_exactly",
        needs: NEEDS,
        run: guards::places_are_left_free_exactly,
    },
    Case { name: "guards::haproxy_takes_over", needs: HAPROXY, run: guards::haproxy_takes_over },
];

fn main() -> ExitCode {
    if guards::is_victim() {
        return guards::be_a_victim();
    }
    ctkeeper_tests::main(CASES)
}
