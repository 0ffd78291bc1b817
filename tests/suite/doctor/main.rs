//! `ctkeeper doctor` on the real kernel: for every finding the experiment that raises it, and the
//! nearest healthy state, which must not.

mod docker;
mod expectations;
mod files;
mod host;
mod pairs;
mod table;
mod view;

use std::process::ExitCode;

use ctkeeper_tests::{Case, DOCKER, KERNEL, MOUNTS, NOBODY, Need, RULES, main as harness};

const LOOKING: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("nft", "nftables"),
    Need::Program("conntrack", "conntrack"),
];
const PROXY: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("nft", "nftables"),
    Need::Program("haproxy", "haproxy"),
    Need::Program("conntrack", "conntrack"),
];
fn main() -> ExitCode {
    harness(&[
        Case { name: "table_full", needs: RULES, run: table::table_full },
        Case { name: "nearly_full_and_locked", needs: KERNEL, run: table::nearly_full_and_locked },
        Case { name: "soft", needs: KERNEL, run: table::soft },
        Case { name: "idle_established", needs: KERNEL, run: table::idle_established },
        Case { name: "why_tracked", needs: RULES, run: table::why_tracked },
        Case { name: "expectations_full", needs: RULES, run: expectations::expectations_full },
        Case { name: "tracked_twice", needs: DOCKER, run: docker::tracked_twice },
        Case { name: "two_entries", needs: PROXY, run: pairs::two_entries },
        Case { name: "second_wall_and_memory", needs: KERNEL, run: host::second_wall_and_memory },
        Case { name: "unlimited", needs: KERNEL, run: host::unlimited },
        Case { name: "not_persisted", needs: KERNEL, run: host::not_persisted },
        Case { name: "the_seeds_fix", needs: KERNEL, run: host::the_seeds_fix },
        Case { name: "differs_from_persisted", needs: KERNEL, run: files::differs_from_persisted },
        Case { name: "readers_disagree", needs: KERNEL, run: files::readers_disagree },
        Case { name: "broken_file", needs: KERNEL, run: files::broken_file },
        Case { name: "broken_values", needs: KERNEL, run: files::broken_values },
        Case { name: "privilege_missing", needs: NOBODY, run: view::privilege_missing },
        Case { name: "masked_proc", needs: MOUNTS, run: view::masked_proc },
        Case { name: "container_view", needs: MOUNTS, run: view::container_view },
        Case { name: "unknown_namespace", needs: KERNEL, run: view::unknown_namespace },
        Case { name: "snapshots", needs: KERNEL, run: view::snapshots },
        Case { name: "closed_pipes", needs: KERNEL, run: view::closed_pipes },
        Case { name: "thresholds", needs: KERNEL, run: view::thresholds },
        Case {
            name: "looking_changes_nothing",
            needs: LOOKING,
            run: view::looking_changes_nothing,
        },
    ])
}
