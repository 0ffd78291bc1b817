//! `ctkeeper fix`: to the byte, through failures and kills at every system call that changes
//! something, and on the running kernel.

mod crash;
mod files;
mod readers;
mod running;
mod tree;
mod view;

use std::process::ExitCode;

use ctkeeper_tests::{Case, MOUNTS, NOBODY, Need, main as harness};

const ROOT: &[Need] = &[Need::Root, Need::Conntrack];
const ATTRIBUTES: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("chattr", "e2fsprogs")];
const STRACE: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("strace", "strace"),
    Need::Program("unshare", "util-linux"),
];
const READERS: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("unshare", "util-linux"),
    Need::Program("sysctl", "procps"),
];
const SPACES: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("ip", "iproute2"),
    Need::Program("unshare", "util-linux"),
];
const TERMINAL: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("script", "bsdutils")];

fn main() -> ExitCode {
    harness(&[
        Case { name: "fix_then_undo", needs: ROOT, run: files::fix_then_undo },
        Case { name: "nothing_left_to_do", needs: ROOT, run: files::nothing_left_to_do },
        Case { name: "odd_files_survive", needs: ROOT, run: files::odd_files_survive },
        Case { name: "module_options", needs: ROOT, run: files::module_options },
        Case { name: "a_folder_in_the_way", needs: ROOT, run: files::a_folder_in_the_way },
        Case { name: "immutable_file", needs: ATTRIBUTES, run: files::immutable_file },
        Case { name: "read_only_folder", needs: MOUNTS, run: files::read_only_folder },
        Case { name: "real_etc_in_private", needs: MOUNTS, run: files::real_etc_in_private },
        Case { name: "changed_by_others", needs: ROOT, run: files::changed_by_others },
        Case { name: "values_of_another_host", needs: MOUNTS, run: files::values_of_another_host },
        Case { name: "the_note_is_left_alone", needs: MOUNTS, run: files::the_note_is_left_alone },
        Case { name: "odd_lines", needs: ROOT, run: files::odd_lines },
        Case { name: "early_or_late", needs: ROOT, run: files::early_or_late },
        Case { name: "undo_in_order", needs: ROOT, run: files::undo_in_order },
        Case { name: "one_at_a_time", needs: ROOT, run: files::one_at_a_time },
        Case { name: "readers_obey", needs: READERS, run: readers::readers_obey },
        Case { name: "killed_while_applying", needs: STRACE, run: crash::killed_while_applying },
        Case { name: "killed_while_undoing", needs: STRACE, run: crash::killed_while_undoing },
        Case {
            name: "killed_while_recovering",
            needs: STRACE,
            run: crash::killed_while_recovering,
        },
        Case { name: "failing_once", needs: STRACE, run: crash::failing_once },
        Case { name: "failing_for_good", needs: STRACE, run: crash::failing_for_good },
        Case { name: "running_values", needs: MOUNTS, run: running::running_values },
        Case {
            name: "running_then_read_only",
            needs: MOUNTS,
            run: running::running_then_read_only,
        },
        Case { name: "running_killed", needs: STRACE, run: running::running_killed },
        Case { name: "undo_below_the_count", needs: SPACES, run: running::undo_below_the_count },
        Case {
            name: "the_seeds_fix_made_good",
            needs: MOUNTS,
            run: running::the_seeds_fix_made_good,
        },
        Case { name: "child_namespace", needs: SPACES, run: view::child_namespace },
        Case { name: "read_only_proc_sys", needs: MOUNTS, run: view::read_only_proc_sys },
        Case { name: "no_privilege", needs: NOBODY, run: view::no_privilege },
        Case { name: "refusals", needs: ROOT, run: view::refusals },
        Case { name: "asks_on_a_terminal", needs: TERMINAL, run: view::asks_on_a_terminal },
        Case { name: "nobody_listens", needs: ROOT, run: view::nobody_listens },
        Case { name: "broken_journal", needs: ROOT, run: view::broken_journal },
        Case { name: "json_and_codes", needs: ROOT, run: view::json_and_codes },
        Case { name: "emits", needs: ROOT, run: view::emits },
        Case { name: "emits_from_a_part", needs: MOUNTS, run: view::emits_from_a_part },
        Case { name: "wrong_command_lines", needs: ROOT, run: view::wrong_command_lines },
    ])
}
