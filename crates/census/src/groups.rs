//! Who sends, and what translated sources compete for.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use ctkeeper_flow::{Flow, Layer4};
use ctkeeper_snapshot::{Largest, Network, PortGroup, Sample, Service, Unanswered};

use crate::Estimate;

/// Port groups that a sample keeps.
const KEPT: usize = 8;
/// Ports that there are.
const PORTS: u64 = 1 << 16;
/// A group with fewer ports says nothing about how many there are.
const TELLING: u64 = 8;

/// Counts flows by group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    sources: HashMap<IpAddr, u64>,
    destinations: HashMap<Service, u64>,
    ports: HashMap<(IpAddr, Service), Vec<u16>>,
}

impl Groups {
    /// Counts one flow.
    pub(crate) fn add(&mut self, flow: &Flow) {
        if !flow.is_replied() {
            let to = &flow.original;
            let service = Service {
                address: to.destination,
                protocol: to.protocol,
                port: to.destination_port(),
            };
            *self.sources.entry(to.source).or_default() += 1;
            *self.destinations.entry(service).or_default() += 1;
        }
        if flow.is_source_translated() {
            self.add_translated(flow);
        }
    }

    /// What the kernel keeps unique is the tuple of the answers.
    fn add_translated(&mut self, flow: &Flow) {
        let back = &flow.reply;
        if let Layer4::Ports { source, destination } = back.layer4 {
            let service =
                Service { address: back.source, protocol: back.protocol, port: Some(source) };
            self.ports.entry((back.destination, service)).or_default().push(destination);
        }
    }

    /// Puts what was counted into a sample.
    pub(crate) fn finish(self, sample: &mut Sample) {
        let mut networks: HashMap<Network, u64> = HashMap::new();
        for (source, entries) in &self.sources {
            *networks.entry(Network::around(*source)).or_default() += entries;
        }
        sample.unanswered = Unanswered {
            source: largest(self.sources),
            network: largest(networks),
            destination: largest(self.destinations),
        };
        let mut groups: Vec<_> = self.ports.into_iter().filter_map(port_group).collect();
        let used_up = |group: &PortGroup| sample.exact && is_tight(group);
        groups.sort_by_key(|group| {
            (!used_up(group), u64::MAX - group.entries, group.translated_to, group.destination)
        });
        groups.truncate(KEPT);
        sample.port_groups = groups;
    }
}

/// The largest group; of equal ones always the same.
fn largest<T: Copy + Eq + Hash + Ord>(groups: HashMap<T, u64>) -> Option<Largest<T>> {
    let (what, entries) = groups.into_iter().max_by_key(|(what, entries)| (*entries, *what))?;
    Some(Largest { what, entries })
}

fn port_group(
    ((translated_to, destination), mut ports): ((IpAddr, Service), Vec<u16>),
) -> Option<PortGroup> {
    let entries = ports.len() as u64;
    ports.sort_unstable();
    ports.dedup();
    let (lowest, highest) = (*ports.first()?, *ports.last()?);
    let ports = ports.len() as u64;
    Some(PortGroup { translated_to, destination, entries, ports, lowest, highest })
}

/// Whether nearly every port between a group's lowest and highest is in it.
fn is_tight(group: &PortGroup) -> bool {
    let span = u64::from(group.highest.abs_diff(group.lowest)) + 1;
    group.ports >= TELLING && group.ports * 20 >= span * 19
}

/// How many ports of an address translation has in use for one destination, of how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PortUse {
    /// Ports in use.
    pub used: u64,
    /// The most that may be in use, by the sample's 95 % interval.
    pub used_at_most: u64,
    /// Ports that there are for it, as far as those in use tell.
    pub available: u64,
}

impl PortUse {
    /// The use of a sampled group in a namespace with `count` entries. `None` where too few of the
    /// group were sampled to say.
    ///
    /// Which ports a rule allows is read from those in use: translation keeps the client's own port
    /// or takes one at random (`nf_nat_l4proto_unique_tuple`, `nf_nat_core.c`, Linux 6.12), so the
    /// lowest and the highest are close to the range's ends when it is nearly used up.
    pub fn of(group: &PortGroup, sample: &Sample, count: u64) -> Option<Self> {
        if group.ports < TELLING {
            return None;
        }
        let width = u64::from(group.highest.abs_diff(group.lowest));
        if sample.exact {
            return Some(Self {
                used: group.ports,
                used_at_most: group.ports,
                available: width + 1,
            });
        }
        // The spread of so many drawn numbers falls short of the range's by this factor.
        let spread = width * (group.ports + 1) / (group.ports - 1) + 1;
        let available = spread.min(PORTS);
        let share = Estimate::of(group.entries, sample)?;
        let ports = |share| crate::entries(share, count).min(available);
        Some(Self { used: ports(share.share), used_at_most: ports(share.high), available })
    }

    /// Ports in use as a share of those that there are, as high as the sample allows.
    pub fn share_at_most(&self) -> f64 {
        self.used_at_most as f64 / self.available.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::{Protocol, Status, Tuple};

    use super::*;

    /// A client's flow to `service`, translated to 192.0.2.1 with this port.
    fn translated(client: u8, service: &str, port: u16) -> Flow {
        let source = IpAddr::from([10, 0, 0, client]);
        let (destination, gateway): (IpAddr, IpAddr) =
            (service.parse().unwrap(), [192, 0, 2, 1].into());
        Flow {
            original: Tuple::with_ports(Protocol::TCP, (source, 40_000), (destination, 443)),
            reply: Tuple::with_ports(Protocol::TCP, (destination, 443), (gateway, port)),
            status: Status::SRC_NAT | Status::SEEN_REPLY,
            ..Flow::default()
        }
    }

    fn sample(flows: impl IntoIterator<Item = Flow>, exact: bool) -> Sample {
        let (mut groups, mut sample) = (Groups::default(), Sample { exact, ..Sample::default() });
        for flow in flows {
            groups.add(&flow);
            sample.size += 1;
        }
        groups.finish(&mut sample);
        sample
    }

    #[test]
    fn groups_are_by_address_and_destination() {
        let one = (0..100).map(|n| translated(n, "203.0.113.7", 20_000 + u16::from(n)));
        let other = (0..20).map(|n| translated(n, "203.0.113.8", 1024 + 3000 * u16::from(n)));
        let sample = sample(one.chain(other), true);
        let [full, free] = sample.port_groups.as_slice() else { panic!("{sample:?}") };
        assert_eq!(full.destination.to_string(), "tcp 203.0.113.7:443");
        assert_eq!((full.ports, full.lowest, full.highest), (100, 20_000, 20_099));
        let usage = PortUse::of(full, &sample, 120).unwrap();
        assert_eq!((usage.used, usage.available), (100, 100));
        assert!(PortUse::of(free, &sample, 120).unwrap().share_at_most() < 0.01);
    }

    #[test]
    fn a_small_group_that_is_used_up_is_kept() {
        let large = (0..10).flat_map(|service| {
            (0..50).map(move |n| {
                translated(n, &format!("203.0.113.{service}"), 1024 + 1000 * u16::from(n))
            })
        });
        let small = (0..10).map(|n| translated(n, "198.51.100.1", 5000 + u16::from(n)));
        let sample = sample(large.chain(small), true);
        assert_eq!(sample.port_groups.len(), KEPT);
        assert_eq!(sample.port_groups[0].destination.address.to_string(), "198.51.100.1");
    }

    /// A full range seen through a sample of one entry in fifty.
    #[test]
    fn sampled_ports_are_scaled() {
        let ports = (0..64_512_u32).step_by(50).map(|n| 1024 + n as u16);
        let sample = sample(ports.map(|port| translated(1, "203.0.113.7", port)), false);
        let usage = PortUse::of(&sample.port_groups[0], &sample, 64_512).unwrap();
        assert!((64_300..=64_512).contains(&usage.used), "{usage:?}");
        assert!((64_400..=64_700).contains(&usage.available), "{usage:?}");
        // The same ports, in a table of which they are a fifth of what they were.
        let usage = PortUse::of(&sample.port_groups[0], &sample, 12_902).unwrap();
        assert!(usage.share_at_most() < 0.21, "{usage:?}");
    }

    #[test]
    fn the_unanswered_have_senders() {
        let flow = |last| Flow {
            original: Tuple::with_ports(
                Protocol::TCP,
                (IpAddr::from([198, 51, 100, last]), 1000),
                (IpAddr::from([192, 0, 2, 1]), 80),
            ),
            ..Flow::default()
        };
        let answered = Flow { status: Status::SEEN_REPLY, ..flow(9) };
        let sample = sample([flow(1), flow(2), flow(2), answered], true);
        let unanswered = &sample.unanswered;
        let source = unanswered.source.unwrap();
        assert_eq!((source.what.to_string(), source.entries), ("198.51.100.2".to_owned(), 2));
        assert_eq!(unanswered.network.unwrap().entries, 3);
        assert_eq!(unanswered.destination.unwrap().what.to_string(), "tcp 192.0.2.1:80");
    }
}
