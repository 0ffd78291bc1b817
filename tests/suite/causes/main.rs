//! Causes that only traffic raises, on the real kernel: for every cause the experiment that raises
//! its finding and no other cause's, and the nearest healthy state, in which no cause speaks.

mod ground;
mod traffic;
mod walls;

use std::process::ExitCode;

use ctkeeper_tests::{Case, RULES, main as harness};

fn main() -> ExitCode {
    harness(&[
        Case { name: "snat_ports", needs: RULES, run: walls::snat_ports },
        Case {
            name: "snat_ports_of_a_busy_gateway",
            needs: RULES,
            run: walls::snat_ports_of_a_busy_gateway,
        },
        Case { name: "clash", needs: RULES, run: walls::clash },
        Case { name: "settled_clashes", needs: RULES, run: walls::settled_clashes },
        Case {
            name: "refusals_beside_evictions",
            needs: RULES,
            run: traffic::refusals_beside_evictions,
        },
        Case { name: "early_drop", needs: RULES, run: traffic::early_drop },
        Case { name: "invalid_packets", needs: RULES, run: traffic::invalid_packets },
    ])
}
