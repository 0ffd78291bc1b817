//! Filling a namespace's table without hurting its neighbours.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;

use ctkeeper_flow::{Flow, Protocol, ProtocolState, Status, TcpState, Tuple, units};
use ctkeeper_netlink::{Conntrack, netns};

use crate::{LabError, Namespace, namespace};

/// Bytes of an entry on Linux 6.x: a 256-byte slab object and 128 bytes of extensions.
const ENTRY_BYTES: u64 = 384;
/// Numbers that [`filled`] tells apart.
const MOST: u64 = 50_000 << 23;
/// How often [`Filler::leave_free`] looks again: traffic may come and go meanwhile.
const ROUNDS: usize = 20;
/// Entries made between two looks for a signal.
const PIECE: u64 = 50_000;

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
    let [_, high, middle, low] = ((number / 50_000) as u32).to_be_bytes();
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

/// Makes entries `from` up to `to` in a namespace by netlink, all of them or an error.
pub fn fill(namespace: &Namespace, from: u64, to: u64, filling: Filling) -> Result<(), LabError> {
    let wanted = to.saturating_sub(from);
    ensure_harmless(wanted)?;
    let Made { refused, first } = make(&mut namespace.conntrack()?, from..to, filling)
        .map_err(|error| namespace.netlink(error))?;
    match first {
        None => Ok(()),
        Some(first) => Err(LabError::Refused {
            namespace: namespace.name().to_owned(),
            refused,
            wanted,
            first,
        }),
    }
}

/// Makes entries that are all different, piece by piece.
#[derive(Debug)]
pub struct Filler<'a> {
    namespace: &'a Namespace,
    filling: Filling,
    next: u64,
}

impl<'a> Filler<'a> {
    /// One that begins with entry number `first`; others of the same namespace begin elsewhere.
    pub fn new(namespace: &'a Namespace, filling: Filling, first: u64) -> Self {
        Self { namespace, filling, next: first }
    }

    /// The number of the next entry.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Makes so many more.
    pub fn add(&mut self, entries: u64) -> Result<(), LabError> {
        let end = self.next.saturating_add(entries);
        while self.next < end {
            crate::check_interrupted()?;
            // Before each piece: another run may be filling at the same time.
            ensure_harmless(end - self.next)?;
            let piece = self.next..end.min(self.next + PIECE);
            self.next = piece.end;
            self.fill(piece)?;
        }
        Ok(())
    }

    /// Makes entries until exactly `places` are left free below the limit, and returns how many
    /// that took. Traffic that comes and goes meanwhile is reckoned with.
    pub fn leave_free(&mut self, places: u64) -> Result<u64, LabError> {
        let first = self.next;
        for _ in 0..ROUNDS {
            let (count, limit) = self.namespace.count_and_limit()?;
            if limit == 0 {
                return Err(self.cannot("there is no limit: nf_conntrack_max is 0"));
            }
            let missing = limit.saturating_sub(places).saturating_sub(count);
            let made = self.next - first;
            if missing == 0 && count + places > limit && made == 0 {
                return Err(self.cannot("there are more entries than that already"));
            }
            // Traffic may have taken a few places more by now.
            if missing == 0 {
                return Ok(made);
            }
            match self.add(missing) {
                // Traffic took the last places first.
                Err(LabError::Refused { .. }) if places == 0 => return Ok(self.next - first),
                done => done?,
            }
        }
        Err(self.cannot("the number of entries does not stand still"))
    }

    fn fill(&self, numbers: std::ops::Range<u64>) -> Result<(), LabError> {
        let wanted = numbers.end - numbers.start;
        let made = make(&mut self.namespace.conntrack()?, numbers, self.filling)
            .map_err(|error| self.namespace.netlink(error))?;
        let Some(first) = made.first else { return Ok(()) };
        let namespace = self.namespace.name().to_owned();
        Err(LabError::Refused { namespace, refused: made.refused, wanted, first })
    }

    fn cannot(&self, reason: &str) -> LabError {
        let source = std::io::Error::other(reason.to_owned());
        LabError::system("fill the table of", self.namespace.name())(source)
    }
}

struct Made {
    refused: u64,
    first: Option<String>,
}

fn make(
    table: &mut Conntrack,
    numbers: std::ops::Range<u64>,
    filling: Filling,
) -> Result<Made, ctkeeper_netlink::Error> {
    let mut first = None;
    // Beyond, numbers would begin again and every entry would be there already.
    let numbers = numbers.start..numbers.end.min(MOST);
    let batch = table.create_batch(numbers.map(|number| filled(number, filling)), |_, error| {
        first.get_or_insert_with(|| error.to_string());
        ControlFlow::Continue(())
    })?;
    Ok(Made { refused: batch.failed, first })
}

/// Refuses a fill of `entries` that others would feel: the hash table and the memory are shared by
/// every namespace of the host, and what is nearly full elsewhere is somebody's trouble already.
pub fn ensure_harmless(entries: u64) -> Result<(), LabError> {
    let harmful = |reason: String, remedy: &'static str| LabError::Harmful {
        operation: format!("make {} entries", units::count(entries)),
        reason,
        remedy,
    };
    let (standing, buckets) = (standing_entries()?, number(BUCKETS)?);
    if standing.saturating_add(entries) > buckets.saturating_mul(2) {
        let [standing, buckets] = [standing, buckets].map(units::count);
        let reason =
            format!("with the {standing} that stand they need {buckets} buckets twice over");
        return Err(harmful(
            reason,
            "end what fills the table, or raise the buckets (ctkeeper fix)",
        ));
    }
    let available = memory_available()?;
    if entries * ENTRY_BYTES >= available / 10 {
        let reason = format!("over a tenth of the {} available", units::mebibytes(available));
        return Err(harmful(reason, "run it where there is more memory"));
    }
    match fullest_foreign()? {
        (count, limit) if limit > 0 && count > limit / 2 => {
            let [count, limit] = [count, limit].map(units::count);
            let reason = format!("a namespace that is not the lab's holds {count} of {limit}");
            Err(harmful(reason, "see `ctkeeper` for what fills it"))
        }
        _ => Ok(()),
    }
}

const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";
const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Entries of the fullest namespace that the lab did not make, and the limit.
fn fullest_foreign() -> Result<(u64, u64), LabError> {
    let limit = number(LIMIT)?;
    let ours = |found: &netns::FoundNamespace| {
        let mut names = found.paths.iter().filter_map(|path| path.file_name()?.to_str());
        names.any(|name| namespace::owner(name).is_some())
    };
    let enumeration = netns::enumerate();
    let foreign = enumeration.namespaces.iter().filter(|found| !ours(found));
    // One that goes away while it is looked at is nobody's trouble.
    let handles = foreign.filter_map(|found| found.open().ok());
    let looked = netns::visit(handles, |_| Conntrack::open()?.count_and_limit());
    let looked =
        looked.map_err(|source| LabError::Netlink { namespace: "all".to_owned(), source })?;
    let counts = looked.into_iter().flatten().flatten().map(|seen| u64::from(seen.entries));
    Ok((counts.max().unwrap_or(0), limit))
}

/// Entries of all namespaces together.
pub(crate) fn standing_entries() -> Result<u64, LabError> {
    let file = "/proc/slabinfo";
    let slabs = fs::read_to_string(file).map_err(LabError::system("read", file))?;
    let line = slabs.lines().find(|line| line.starts_with("nf_conntrack "));
    let entries = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    entries.ok_or_else(|| missing(file, "it names no nf_conntrack"))
}

/// Bytes of memory that programs can have (`MemAvailable`).
pub(crate) fn memory_available() -> Result<u64, LabError> {
    let file = "/proc/meminfo";
    let meminfo = fs::read_to_string(file).map_err(LabError::system("read", file))?;
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| missing(file, "it names no MemAvailable"))
}

/// The number in a file.
pub(crate) fn number(file: &str) -> Result<u64, LabError> {
    let text = fs::read_to_string(file).map_err(LabError::system("read", file))?;
    text.trim().parse().map_err(|_| missing(file, "it holds no number"))
}

fn missing(file: &str, reason: &str) -> LabError {
    LabError::system("read", file)(std::io::Error::other(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_a_connection_of_its_own() {
        let numbers = [0, 1, 49_999, 50_000, 2_000_000, MOST - 1];
        let filling = Filling::HalfOpen;
        let tuples: std::collections::BTreeSet<_> =
            numbers.iter().map(|&n| filled(n, filling).original.to_string()).collect();
        assert_eq!(tuples.len(), numbers.len());
    }
}
