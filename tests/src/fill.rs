//! Filling a namespace's table without hurting its neighbours.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;

use anyhow::{Context, ensure};
use ctkeeper_flow::{Flow, Protocol, ProtocolState, Status, TcpState, Tuple};
use ctkeeper_netlink::{Conntrack, netns};

use crate::Namespace;

/// Bytes of an entry on Linux 6.x: a 256-byte slab object and 128 bytes of extensions.
const ENTRY_BYTES: u64 = 384;

/// What a filled entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// An established, assured TCP connection with this many seconds to live.
    Established {
        /// Seconds until it expires; 432,000 less that is how long it has been idle.
        timeout: u32,
    },
    /// A half-open TCP connection: unassured, unanswered.
    HalfOpen,
}

/// Entry `number` of a filling: each number has its own addresses and port.
pub fn filled(number: u64, filling: Filling) -> Flow {
    let [_, high, middle, low] = (number as u32 / 50_000).to_be_bytes();
    let client = IpAddr::V4(Ipv4Addr::new(10, 128 | high, middle, low));
    let server = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
    let port = 10_000 + (number % 50_000) as u16;
    let original = Tuple::with_ports(Protocol::TCP, (client, port), (server, 443));
    let (state, status, timeout) = match filling {
        Filling::Established { timeout } => {
            (TcpState::Established, Status::SEEN_REPLY | Status::ASSURED, timeout)
        }
        Filling::HalfOpen => (TcpState::SynSent, Status::default(), 3600),
    };
    Flow {
        original,
        reply: original.inverted().unwrap_or_default(),
        status: status | Status::CONFIRMED,
        state: ProtocolState::tcp(state),
        timeout: Some(timeout),
        ..Flow::default()
    }
}

/// Makes entries `from` up to `to` in a namespace by netlink.
pub fn fill(namespace: &Namespace, from: u64, to: u64, filling: Filling) -> anyhow::Result<()> {
    ensure_harmless(to.saturating_sub(from))?;
    let handle = netns::Namespace::open(&netns::NamespaceSelector::Path(namespace.path()))?;
    let mut table = Conntrack::open_in(&handle)?;
    let mut first_refusal = None;
    let flows = (from..to).map(|number| filled(number, filling));
    let batch = table.create_batch(flows, |index, error| {
        first_refusal.get_or_insert((index, error));
        ControlFlow::Continue(())
    })?;
    ensure!(
        batch.failed == 0,
        "{} of {} entries refused: {first_refusal:?}",
        batch.failed,
        to - from
    );
    Ok(())
}

/// Refuses a fill of `entries` that others would feel: the hash table and the memory are shared by
/// every namespace of the host, and what is nearly full elsewhere is somebody's trouble already.
pub fn ensure_harmless(entries: u64) -> anyhow::Result<()> {
    let standing = slab_entries().context("/proc/slabinfo names no nf_conntrack")?;
    let buckets = number("/proc/sys/net/netfilter/nf_conntrack_buckets")?;
    ensure!(
        standing + entries <= 2 * buckets,
        "{standing} entries and {entries} more would stand in {buckets} buckets: over 2 a bucket"
    );
    let available = memory_available()?;
    ensure!(
        entries * ENTRY_BYTES < available / 10,
        "{entries} entries would take over a tenth of the {available} bytes available"
    );
    ensure_no_foreign_is_half_full()
}

fn ensure_no_foreign_is_half_full() -> anyhow::Result<()> {
    let limit = number("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let ours = |found: &netns::FoundNamespace| {
        let mut names = found.paths.iter().filter_map(|path| path.file_name()?.to_str());
        names.any(crate::namespace::is_ours)
    };
    let enumeration = netns::enumerate();
    let foreign = enumeration.namespaces.iter().filter(|found| !ours(found));
    // One that goes away while it is looked at is nobody's trouble.
    let handles = foreign.filter_map(|found| found.open().ok());
    for count in
        netns::visit(handles, |_| Conntrack::open()?.count_and_limit())?.into_iter().flatten()
    {
        let count = u64::from(count?.entries);
        ensure!(limit == 0 || count <= limit / 2, "a foreign namespace holds {count} of {limit}");
    }
    Ok(())
}

fn slab_entries() -> Option<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo").ok()?;
    let line = slabs.lines().find(|line| line.starts_with("nf_conntrack "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn memory_available() -> anyhow::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .context("/proc/meminfo names no MemAvailable")?;
    Ok(kib * 1024)
}

fn number(file: &str) -> anyhow::Result<u64> {
    fs::read_to_string(file).context(file.to_owned())?.trim().parse().context(file.to_owned())
}
