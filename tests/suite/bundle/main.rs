//! `ctkeeper bundle` on the real kernel: what it holds is judged as the host was, its pseudonyms hide
//! what names somebody, and whatever goes wrong leaves no half file.

mod files;
mod secrets;
mod verdict;

use std::process::ExitCode;

use ctkeeper_tests::{Case, KERNEL, MOUNTS, NOBODY, RULES, main as harness};

fn main() -> ExitCode {
    harness(&[
        Case { name: "the_same_verdict", needs: RULES, run: verdict::the_same_verdict },
        Case { name: "its_own_thresholds", needs: KERNEL, run: verdict::its_own_thresholds },
        Case { name: "other_rules_are_named", needs: KERNEL, run: verdict::other_rules_are_named },
        Case { name: "what_is_no_bundle", needs: KERNEL, run: verdict::what_is_no_bundle },
        Case { name: "no_secret_is_left", needs: RULES, run: secrets::no_secret_is_left },
        Case { name: "new_pseudonyms_each_time", needs: KERNEL, run: secrets::new_each_time },
        Case { name: "a_file_that_is_there", needs: KERNEL, run: files::a_file_that_is_there },
        Case { name: "names_by_default", needs: KERNEL, run: files::names_by_default },
        Case { name: "a_folder_for_others", needs: NOBODY, run: files::a_folder_for_others },
        Case { name: "a_full_disk", needs: MOUNTS, run: files::a_full_disk },
        Case { name: "pipes", needs: KERNEL, run: files::pipes },
        Case {
            name: "looking_leaves_the_note",
            needs: KERNEL,
            run: files::looking_leaves_the_note,
        },
    ])
}
