//! `ctkeeper who` on the real kernel: real containers, pods, units and processes under load, whose
//! counts are held against what the load itself has opened.

mod actor;
mod answer;
mod containers;
mod ghosts;
mod load;
mod manners;
mod pods;
mod site;

use std::process::ExitCode;

use ctkeeper_tests::{Case, DOCKER, KERNEL, NOBODY, PODS, RULES, main as harness};

fn main() -> ExitCode {
    actor::play().unwrap_or_else(|| {
        harness(&[
            Case { name: "containers", needs: DOCKER, run: containers::named_and_counted },
            Case { name: "docker_stopped", needs: DOCKER, run: containers::daemon_stopped },
            Case { name: "docker_restart", needs: DOCKER, run: containers::restarted },
            Case {
                name: "removed_with_entries_left",
                needs: DOCKER,
                run: containers::removed_with_entries_left,
            },
            Case { name: "pods_units_and_processes", needs: PODS, run: pods::named_and_counted },
            Case { name: "containerd_stopped", needs: PODS, run: pods::daemon_stopped },
            Case { name: "pod_gone_and_its_heir", needs: PODS, run: pods::gone_and_its_heir },
            Case { name: "without_privileges", needs: NOBODY, run: manners::without_privileges },
            Case { name: "without_tracking", needs: RULES, run: manners::without_tracking },
            Case { name: "hostile_names", needs: PODS, run: manners::hostile_names },
            Case { name: "forms_agree", needs: KERNEL, run: manners::forms_agree },
            Case { name: "closed_pipe", needs: KERNEL, run: manners::closed_pipe },
            Case { name: "ghosts", needs: RULES, run: ghosts::experiment },
        ])
    })
}
