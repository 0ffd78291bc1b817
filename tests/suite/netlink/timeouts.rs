//! Timeouts by protocol and state, policies of them, helpers in user space.

use std::fs;

use anyhow::{Context, ensure};
use ctkeeper_flow::{Family, Protocol};
use ctkeeper_netlink::timeout_policies::{GENERIC, states};
use ctkeeper_netlink::{Errno, StateTimeouts, TimeoutPolicy};

use crate::support::table;

pub(crate) fn defaults_are_set_and_read() -> anyhow::Result<()> {
    let (namespace, mut table) = table()?;
    let sysctl = |name: &str| -> anyhow::Result<u32> {
        let file = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        Ok(namespace.enter(|| fs::read_to_string(file))??.trim().parse()?)
    };
    for (protocol, state, name) in [
        (Protocol::TCP, "established", "tcp_timeout_established"),
        (Protocol::TCP, "unacknowledged", "tcp_timeout_unacknowledged"),
        (Protocol::UDP, "replied", "udp_timeout_stream"),
        (Protocol::SCTP, "shutdown_ack_sent", "sctp_timeout_shutdown_ack_sent"),
        (Protocol::ICMPV6, "timeout", "icmpv6_timeout"),
        (Protocol::GRE, "unreplied", "gre_timeout"),
        (GENERIC, "timeout", "generic_timeout"),
    ] {
        let before = table.default_timeouts(protocol)?;
        ensure!(before.get(state) == Some(sysctl(name)?), "{name}: {before:?}");
        let mut change = StateTimeouts::of(protocol);
        ensure!(change.set(state, 77));
        table.set_default_timeouts(&change)?;
        ensure!(sysctl(name)? == 77, "{name}");
        // Nothing else has changed.
        let after = table.default_timeouts(protocol)?;
        ensure!(before.iter().count() == after.iter().count());
        for ((name, before), (_, after)) in before.iter().zip(after.iter()) {
            ensure!(before == after || (name, after) == (state, 77), "{name}: {before}, {after}");
        }
    }
    let untracked = table.default_timeouts(Protocol(50)).unwrap_err();
    ensure!(untracked.to_string().contains("does not track this protocol"), "{untracked}");
    Ok(())
}

pub(crate) fn policies_come_and_go() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    ensure!(table.timeout_policies()?.is_empty() && table.timeout_policy("short")?.is_none());
    let mut timeouts = StateTimeouts::of(Protocol::TCP);
    ensure!(timeouts.set("established", 60) && timeouts.set("close", 3));
    let policy = |name: &str, timeouts: &StateTimeouts| TimeoutPolicy {
        name: name.into(),
        family: Family::Ipv4,
        timeouts: timeouts.clone(),
        uses: None,
    };
    table.create_timeout_policy(&policy("short", &timeouts))?;
    let again = table.create_timeout_policy(&policy("short", &timeouts)).unwrap_err();
    ensure!(again.errno() == Some(Errno(17)) && again.to_string().contains("short"), "{again}");
    let stands = table.timeout_policy("short")?.context("not made")?;
    let defaults = table.default_timeouts(Protocol::TCP)?;
    // Every state has a timeout; what was not named has the default.
    for state in states(Protocol::TCP) {
        let expected = timeouts.get(state).or_else(|| defaults.get(state));
        ensure!(stands.timeouts.get(state) == expected, "{state}: {stands:?}");
    }
    ensure!(stands.family == Family::Ipv4 && stands.uses == Some(1), "{stands:?}");

    ensure!(timeouts.set("established", 90));
    table.replace_timeout_policy(&policy("short", &timeouts))?;
    let mut of_udp = StateTimeouts::of(Protocol::UDP);
    ensure!(of_udp.set("unreplied", 9));
    table.create_timeout_policy(&policy("quick", &of_udp))?;
    let other_kind = table.replace_timeout_policy(&policy("short", &of_udp)).unwrap_err();
    ensure!(other_kind.errno() == Some(Errno(22)), "{other_kind}");
    let listed = table.timeout_policies()?;
    let told: Vec<_> = listed.iter().map(|policy| (&*policy.name, &policy.timeouts)).collect();
    ensure!(told.len() == 2 && told[0].0 == "short" && told[1].0 == "quick", "{told:?}");
    ensure!(told[0].1.get("established") == Some(90) && told[1].1.get("unreplied") == Some(9));

    ensure!(table.delete_timeout_policy("short")? && !table.delete_timeout_policy("short")?);
    ensure!(table.timeout_policies()?.len() == 1);
    Ok(())
}

/// Kernels are built with helpers in user space or without.
pub(crate) fn helpers_are_listed_or_said_not_to_be() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    match table.userspace_helpers() {
        Ok(helpers) => ensure!(helpers.is_empty(), "{helpers:?}"),
        Err(error) => {
            let text = error.to_string();
            let is_plain =
                text.contains("CONFIG_NF_CT_NETLINK_HELPER") || text.contains("modprobe");
            ensure!(is_plain, "{text}");
            println!("{text}");
        }
    }
    ensure!(table.count_and_limit()?.entries == 0, "the socket does not live on");
    Ok(())
}
