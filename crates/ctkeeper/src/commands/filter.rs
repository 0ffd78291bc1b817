//! The filter on a command line, and its translation for the kernel.

use std::net::IpAddr;

use clap::Args;
use ctkeeper_flow::{Filter, Mark};
use ctkeeper_netlink::DumpFilter;

use crate::exit::UsageError;

/// What the help of each command with a filter says about it.
pub(crate) const FILTER_HELP: &str = "\
Filter:
  Terms, all of which must hold; `or`, `not` and ( ) as usual. Quote what the shell would take.
  Addresses   src, dst, reply-src, reply-dst, host  10.0.0.1 or 10.0.0.0/8 or fd00::/8
  Ports       sport, dport, reply-sport, reply-dport, port  443 or 80,443 or 8000-8100
  Protocol    tcp udp icmp icmpv6 sctp gre udplite dccp, proto 47; ipv4 ipv6
  State       state ESTABLISHED,TIME_WAIT; closing
  Status      assured unreplied replied snat dnat nat offload fixed_timeout dying
  Numbers     timeout < 5m, age > 1h, bytes > 1MiB, packets > 10k, mark 0x10/0xf0, zone 5
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
    }
}
