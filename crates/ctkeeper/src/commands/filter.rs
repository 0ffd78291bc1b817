//! The filter on a command line, and its translation for the kernel.

use std::net::IpAddr;

use clap::Args;
use ctkeeper_flow::{Filter, Flow, Mark};
use ctkeeper_netlink::DumpFilter;

use crate::exit::UsageError;
use crate::ui::say;

/// What the help of each command with a filter says about it.
pub(crate) const FILTER_HELP: &str = "\
Filter:
  Terms, all of which must hold; `or`, `not` and ( ) as usual. Quote what the
  shell would take.
  Addresses   src, dst, reply-src, reply-dst, host
              10.0.0.1 or 10.0.0.0/8 or fd00::/8
  Ports       sport, dport, reply-sport, reply-dport, port
              443 or 80,443 or 8000-8100
  Protocol    tcp udp icmp icmpv6 sctp gre udplite dccp, proto 47; ipv4 ipv6
  State       state ESTABLISHED,TIME_WAIT; closing
  Status      assured unreplied replied snat dnat nat offload fixed_timeout
              dying
  Numbers     timeout < 5m, age > 1h, bytes > 1MiB, packets > 10k,
              mark 0x10/0xf0, zone 5
  Others      icmp-type 8, helper ftp, label 7, use, id
  The whole language: docs/filter.md";

/// The filter of a command.
#[derive(Clone, Debug, Args)]
pub(crate) struct FilterArgs {
    /// Which entries are meant, such as `tcp dport 443 not assured`; all if left out
    #[arg(value_name = "FILTER")]
    words: Vec<String>,
}

impl FilterArgs {
    /// Compiles the filter.
    pub(crate) fn compile(&self) -> anyhow::Result<Filter> {
        let expression = self.words.join(" ");
        Ok(Filter::parse(&expression).map_err(|error| UsageError(error.to_string()))?)
    }
}

/// What the entries that were read carried, of what a filter may ask for and the kernel need not
/// keep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    any: bool,
    counters: bool,
    times: bool,
}

impl Carried {
    /// Looks at an entry, whether it matches or not.
    #[inline]
    pub(crate) fn look(&mut self, flow: &Flow) {
        self.any = true;
        self.counters |= flow.counters_original.is_some();
        self.times |= flow.timestamps.is_some();
    }

    /// Adds what was seen elsewhere.
    pub(crate) const fn add(&mut self, other: Self) {
        self.any |= other.any;
        self.counters |= other.counters;
        self.times |= other.times;
    }

    /// Says so if the filter asks for what no entry carried: that nothing matched means nothing.
    pub(crate) fn warn(self, filter: &Filter) {
        if filter.needs_accounting() && self.any && !self.counters {
            say!(
                "No entry that was read carries counters: net.netfilter.nf_conntrack_acct is 0, or \
                 was when they were made."
            );
        }
        if filter.needs_clock() && self.any && !self.times {
            say!(
                "No entry that was read carries times: net.netfilter.nf_conntrack_timestamp is 0, \
                 or was when they were made."
            );
        }
    }
}

/// What the kernel can leave out of a dump: entries that lack what every match has.
pub(crate) fn kernel_filter(filter: &Filter) -> DumpFilter {
    let necessary = filter.necessary();
    let status = (necessary.status_set, necessary.status_set | necessary.status_clear);
    let ipv4 = |address| match address {
        Some(IpAddr::V4(v4)) => Some(v4),
        _ => None,
    };
    DumpFilter {
        family: necessary.family,
        mark: necessary.mark.map(|(value, mask)| (Mark(value), mask)),
        status: (status.1.0 != 0).then_some(status),
        zone: necessary.zone,
        protocol: necessary.protocol,
        source: ipv4(necessary.original.source),
        destination: ipv4(necessary.original.destination),
        source_port: necessary.original.source_port,
        destination_port: necessary.original.destination_port,
        reply_source: ipv4(necessary.reply.source),
        reply_destination: ipv4(necessary.reply.destination),
    }
}
