//! Where a load goes, where it comes from, and in which order.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::profile::Sources;

/// An address with a port or a range of ports: `10.77.1.1:80`, `10.77.1.1:8000-8009`,
/// `[fd00::1]:80`. Each port is a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// Its ports.
    pub ports: PortRange,
}

/// Ports from the first to the last, both included: `80`, `20000-40000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// From the first to the last; `None` if that is none, or holds port 0.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last { None } else { Some(Self { first, last }) }
    }

    /// The first.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// How many.
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// The port so far above the first, going round.
    pub(super) fn port(self, offset: u64) -> u16 {
        self.first + (offset % u64::from(self.count())) as u16
    }
}

impl From<SocketAddr> for Target {
    /// Port 0, which nothing listens on, becomes 1.
    fn from(address: SocketAddr) -> Self {
        let port = address.port().max(1);
        Self { address: address.ip(), ports: PortRange { first: port, last: port } }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no port range: write 80 or 8000-8009");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        Self::new(port(first)?, port(last)?).ok_or_else(wrong)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no target: write 10.0.0.1:80, 10.0.0.1:80-89 or [fd00::1]:80");
        let (address, ports) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let parsed: IpAddr = bare.unwrap_or(address).parse().map_err(|_| wrong())?;
        if parsed.is_ipv6() != bare.is_some() {
            return Err(wrong());
        }
        Ok(Self { address: parsed, ports: ports.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:{}", self.ports),
            IpAddr::V6(address) => write!(f, "[{address}]:{}", self.ports),
        }
    }
}

macro_rules! by_text {
    ($($type:ty),+) => {$(
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )+};
}

by_text!(Target, PortRange);

/// Which source and target each arrival has: a function of its number alone.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    targets: Vec<SocketAddr>,
    sources: Option<Sources>,
    /// After so many arrivals the same source would meet the same target again.
    period: u64,
}

/// The most targets: ports of all ranges together.
pub(super) const MAX_TARGETS: u64 = 1 << 20;

impl Routes {
    pub(super) fn new(targets: &[Target], sources: Option<Sources>) -> Self {
        let each = |target: &Target| {
            let (address, ports) = (target.address, target.ports);
            (0..u64::from(ports.count())).map(move |n| SocketAddr::new(address, ports.port(n)))
        };
        let targets: Vec<_> = targets.iter().flat_map(each).take(MAX_TARGETS as usize).collect();
        let addresses = sources.map_or(1, |sources| u64::from(sources.count.max(1)));
        let count = targets.len().max(1) as u64;
        Self { period: addresses / greatest_divisor(addresses, count) * count, targets, sources }
    }

    /// The target of an arrival. Sources and targets are both taken in turns; the turns shift
    /// whenever they would repeat, so that in the long run every source meets every target.
    pub(super) fn target(&self, arrival: u64) -> Option<SocketAddr> {
        let turn = arrival.wrapping_add(arrival / self.period.max(1));
        let count = self.targets.len() as u64;
        self.targets.get(turn.checked_rem(count)? as usize).copied()
    }

    /// The source to bind, if the profile names any; port 0 leaves the choice to the kernel.
    pub(super) fn source(&self, arrival: u64) -> Option<SocketAddr> {
        let sources = self.sources?;
        let count = u64::from(sources.count.max(1));
        let port = sources.ports.map_or(0, |ports| ports.port(arrival / count));
        Some(SocketAddr::new(sources.address(arrival % count)?, port))
    }

    /// After how many arrivals the addresses come round.
    pub(super) fn source_count(&self) -> u64 {
        self.sources.map_or(1, |sources| u64::from(sources.count.max(1)))
    }

    pub(super) fn targets(&self) -> &[SocketAddr] {
        &self.targets
    }
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn targets_read_as_they_are_written() {
        for text in ["10.0.0.1:80", "10.0.0.1:80-89", "[fd00::1]:80", "[::1]:1-65535"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in
            ["", "10.0.0.1", "fd00::1:80", "[10.0.0.1]:80", "10.0.0.1:0", "10.0.0.1:9-8", "a:80"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_source_meets_every_target() {
        for (sources, ports) in [(1, 2), (2, 2), (6, 4), (5, 3), (4, 4), (1, 1)] {
            let target = Target {
                address: "10.0.0.1".parse().unwrap(),
                ports: PortRange::new(100, 99 + ports).unwrap(),
            };
            let first = "10.1.0.1".parse().unwrap();
            let routes = Routes::new(&[target], Some(Sources::range(first, sources)));
            let all = u64::from(sources) * u64::from(ports);
            let met: HashSet<_> = (0..all).map(|n| (routes.source(n), routes.target(n))).collect();
            assert_eq!(met.len() as u64, all, "{sources} sources, {ports} targets");
        }
    }

    #[test]
    fn ports_move_on_when_the_addresses_come_round() {
        let target = "10.0.0.1:80".parse().unwrap();
        let sources = Sources {
            first: "fd00::ff".parse().unwrap(),
            count: 2,
            ports: PortRange::new(5000, 5001),
        };
        let routes = Routes::new(&[target], Some(sources));
        let shown: Vec<_> = (0..5).map(|n| routes.source(n).unwrap().to_string()).collect();
        assert_eq!(
            shown,
            [
                "[fd00::ff]:5000",
                "[fd00::100]:5000",
                "[fd00::ff]:5001",
                "[fd00::100]:5001",
                "[fd00::ff]:5000",
            ]
        );
    }
}
