//! Connections that helpers expect, and no room for them.

use ctkeeper_flow::units::{count, counted, percent};
use ctkeeper_snapshot::{Expectations, Namespace};

use super::{Explanation, Rule};
use crate::context::{Context, run_in};
use crate::{Finding, Severity};

pub(super) const EXPECTATIONS_FULL: Rule = Rule {
    id: "expectations-full",
    title: "helpers cannot announce further connections",
    judge: expectations_full,
    explanation: Explanation {
        why: "Protocols such as FTP, SIP, H.323, IRC or TFTP agree on a second connection inside \
              the first. A helper reads that and leaves an expectation, so that the second \
              connection counts as related. Expectations have a table and a limit of their own, \
              nf_conntrack_expect_max, one number for all namespaces, compared with each one's \
              own count. At the limit the helper drops the packet that announces the connection: \
              an FTP session hangs at PASV or PORT until it times out, a call is not set up. All \
              other connections are fine.",
        evidence: "The number of expectations, which is what the namespace's CPUs counted as \
                   made less those gone, against net.netfilter.nf_conntrack_expect_max: a warning \
                   from 80 % on, critical at the limit. The kernel logs `nf_conntrack: \
                   expectation table full` without a namespace (see kernel-log). No counter \
                   moves: drop and insert_failed stay still (measured).",
        remedies: "Look who expects so much: conntrack -L expect, in the namespace, names the \
                   master of each. Raise the limit on the host, live:\
                   \n    sysctl -w net.netfilter.nf_conntrack_expect_max=16384\
                   \n    echo net.netfilter.nf_conntrack_expect_max=16384 > /etc/sysctl.d/91-expect.conf\
                   \n(the file works where the module is there early: see lost-at-boot). An \
                   expectation takes about a quarter of a KiB. The default is four for each \
                   bucket of the table of expectations (module option expect_hashsize, by \
                   default a 256th of nf_conntrack_buckets): far above it lookups slow down. \
                   Or assign helpers only where they are needed, by a rule for the servers \
                   meant (nft: ct helper set; iptables: -j CT --helper).",
        traps: "conntrack -F expect makes room at once, and cuts data connections that are \
                agreed on but not yet open. Raising nf_conntrack_max does nothing here. The limit \
                cannot be changed from inside another namespace. On kernels before 6.0, \
                net.netfilter.nf_conntrack_helper=1 assigns helpers to all traffic: anybody who \
                is let through to port 21 can then fill this table. An expectation lives up to \
                five minutes for FTP, longer than most sessions that leave it.",
    },
};

fn expectations_full(context: &Context<'_>) -> Vec<Finding> {
    let namespaces = context.snapshot.namespaces.iter();
    namespaces
        .filter_map(|namespace| crowded(context, namespace, namespace.expectations?))
        .collect()
}

fn crowded(
    context: &Context<'_>,
    namespace: &Namespace,
    expectations: Expectations,
) -> Option<Finding> {
    let Expectations { count: number, limit } = expectations;
    let share = number as f64 / limit.max(1) as f64;
    if share < context.thresholds.expectations_warning {
        return None;
    }
    let is_full = number >= limit;
    let severity = if is_full { Severity::Critical } else { Severity::Warning };
    let headline = if is_full {
        "FTP, SIP and the like cannot open further connections".to_owned()
    } else {
        format!("the table of expected connections is {} full", percent(share))
    };
    let finding = Finding::new(EXPECTATIONS_FULL.id, severity, namespace.into())
        .headline(headline)
        .summary(format!(
            "namespace {}: {} of {} (nf_conntrack_expect_max), announced by helpers for FTP, SIP \
             and the like.",
            namespace.label(),
            counted(number, "expected connection", "expected connections"),
            count(limit),
        ))
        .meaning(meaning(is_full))
        .evidence("expectations", number)
        .evidence("limit", limit);
    let raise = format!(
        "sysctl -w net.netfilter.nf_conntrack_expect_max={}",
        limit.saturating_mul(4).max(4096)
    );
    Some(
        finding
            .remedy_if(run_in(namespace, "conntrack -L expect"), "who announced them (master-src)")
            .remedy(raise, "on the host: at once, for all namespaces, until the next boot")
            .remedy("ctkeeper explain expectations-full", "keep it at boot, and the traps"),
    )
}

const fn meaning(is_full: bool) -> &'static str {
    if is_full {
        "The packet that announces one more is dropped: FTP hangs at PASV or PORT, calls are not \
         set up. All other connections are fine."
    } else {
        "At the limit FTP hangs at PASV or PORT and calls are not set up; other connections stay \
         fine."
    }
}
