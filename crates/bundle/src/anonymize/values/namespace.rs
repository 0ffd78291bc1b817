//! Namespaces, what their entries have in common, and what tracks.

use std::net::IpAddr;

use ctkeeper_snapshot::{
    Container, Doubles, Expectations, Holder, HolderShare, Largest, Namespace, NamespaceProcess,
    Network, Pod, PortGroup, Proxy, Rates, Sample, Service, Timeouts, Tracker, Tracking,
    Unanswered, Unattributed,
};

use super::{Anonymize, plain};
use crate::anonymize::address;
use crate::anonymize::pseudonym::Pseudonyms;

/// Its inode is a number that the kernel counts up to: it stays, as the log's lines mean it.
impl Anonymize for Namespace {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self {
            inode,
            initial,
            names,
            processes,
            count,
            limit,
            statistics,
            statistics_per_cpu,
            rates,
            sample,
            timeouts,
            tracking,
            expectations,
            doubles,
            holders,
        } = self;
        Self {
            inode: plain(inode),
            initial: plain(initial),
            names: names.iter().map(|name| pseudonyms.namespace_name(name)).collect(),
            processes: processes.anonymized(pseudonyms),
            count: plain(count),
            limit: plain(limit),
            statistics: plain(statistics),
            statistics_per_cpu: statistics_per_cpu.into_iter().map(plain).collect(),
            rates: rates.anonymized(pseudonyms),
            sample: sample.anonymized(pseudonyms),
            timeouts: timeouts.anonymized(pseudonyms),
            tracking: tracking.anonymized(pseudonyms),
            expectations: expectations.anonymized(pseudonyms),
            doubles: doubles.anonymized(pseudonyms),
            holders: holders.anonymized(pseudonyms),
        }
    }
}

impl Anonymize for HolderShare {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { holder, share, margin } = self;
        Self { holder: holder.anonymized(pseudonyms), share: plain(share), margin: plain(margin) }
    }
}

impl Anonymize for Holder {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        match self {
            Self::Container(container) => Self::Container(container.anonymized(pseudonyms)),
            Self::Pod(pod) => Self::Pod(pod.anonymized(pseudonyms)),
            Self::Unit { name } => Self::Unit { name: pseudonyms.name(&name) },
            Self::Process { name, pid } => {
                Self::Process { name: pseudonyms.command(&name), pid: plain(pid) }
            }
            Self::Namespace { inode, name } => {
                Self::Namespace { inode: plain(inode), name: pseudonyms.namespace_name(&name) }
            }
            Self::Outside => Self::Outside,
            Self::Unattributed(why) => Self::Unattributed(why.anonymized(pseudonyms)),
        }
    }
}

impl Anonymize for Container {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { id, name, image, runtime } = self;
        Self {
            id: pseudonyms.name(&id),
            name: name.map(|name| pseudonyms.name(&name)),
            image: image.map(|image| pseudonyms.name(&image)),
            runtime: runtime.map(|runtime| pseudonyms.command(&runtime)),
        }
    }
}

impl Anonymize for Pod {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { namespace, name, uid, container } = self;
        Self {
            namespace: namespace.map(|name| pseudonyms.name(&name)),
            name: name.map(|name| pseudonyms.name(&name)),
            uid: pseudonyms.name(&uid),
            container: container.anonymized(pseudonyms),
        }
    }
}

impl Anonymize for Unattributed {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        match self {
            Self::Gone { address } => Self::Gone { address: address::address(pseudonyms, address) },
            Self::NoSocket => Self::NoSocket,
            Self::Hidden => Self::Hidden,
            Self::Ambiguous { address } => {
                Self::Ambiguous { address: address::address(pseudonyms, address) }
            }
        }
    }
}

impl Anonymize for Expectations {
    fn anonymized(self, _pseudonyms: &mut Pseudonyms) -> Self {
        let Self { count, limit } = self;
        Self { count: plain(count), limit: plain(limit) }
    }
}

impl Anonymize for Doubles {
    fn anonymized(self, _pseudonyms: &mut Pseudonyms) -> Self {
        let Self { other, asked, found } = self;
        Self { other: plain(other), asked: plain(asked), found: plain(found) }
    }
}

impl Anonymize for NamespaceProcess {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { pid, command, cgroup } = self;
        Self {
            pid: plain(pid),
            command: pseudonyms.command(&command),
            cgroup: cgroup.map(|path| pseudonyms.path(&path)),
        }
    }
}

impl Anonymize for Rates {
    fn anonymized(self, _pseudonyms: &mut Pseudonyms) -> Self {
        let Self { since, window_ms, count_change, statistics } = self;
        Self {
            since: plain(since),
            window_ms: plain(window_ms),
            count_change: plain(count_change),
            statistics: plain(statistics),
        }
    }
}

impl Anonymize for Sample {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self {
            size,
            exact,
            assured,
            locked,
            established,
            established_idle,
            established_idle_median,
            closing,
            unreplied,
            unanswered,
            port_groups,
            proxies,
        } = self;
        Self {
            size: plain(size),
            exact: plain(exact),
            assured: plain(assured),
            locked: plain(locked),
            established: plain(established),
            established_idle: plain(established_idle),
            established_idle_median: plain(established_idle_median),
            closing: plain(closing),
            unreplied: plain(unreplied),
            unanswered: unanswered.anonymized(pseudonyms),
            port_groups: port_groups.anonymized(pseudonyms),
            proxies: proxies.anonymized(pseudonyms),
        }
    }
}

impl Anonymize for Unanswered {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { source, network, destination } = self;
        Self {
            source: source.anonymized(pseudonyms),
            network: network.anonymized(pseudonyms),
            destination: destination.anonymized(pseudonyms),
        }
    }
}

impl<T: Anonymize> Anonymize for Largest<T> {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { what, entries } = self;
        Self { what: what.anonymized(pseudonyms), entries: plain(entries) }
    }
}

impl Anonymize for PortGroup {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { translated_to, destination, entries, ports, lowest, highest } = self;
        Self {
            translated_to: translated_to.anonymized(pseudonyms),
            destination: destination.anonymized(pseudonyms),
            entries: plain(entries),
            ports: plain(ports),
            lowest: plain(lowest),
            highest: plain(highest),
        }
    }
}

impl Anonymize for Service {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { address, protocol, port } = self;
        Self {
            address: address.anonymized(pseudonyms),
            protocol: plain(protocol),
            port: plain(port),
        }
    }
}

impl Anonymize for Network {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { address, prefix } = self;
        Self {
            address: address::prefix(pseudonyms, address, u32::from(prefix)),
            prefix: plain(prefix),
        }
    }
}

impl Anonymize for IpAddr {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        address::address(pseudonyms, self)
    }
}

/// Its ports stay: they name services, not machines.
impl Anonymize for Proxy {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { command, pid, processes, ports, front, back, back_ends } = self;
        Self {
            command: pseudonyms.command(&command),
            pid: plain(pid),
            processes: plain(processes),
            ports: ports.into_iter().map(plain).collect(),
            front: plain(front),
            back: plain(back),
            back_ends: plain(back_ends),
        }
    }
}

/// Their names are the kernel's.
impl Anonymize for Timeouts {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self(seconds) = self;
        Self(
            seconds.into_iter().map(|(name, time)| (pseudonyms.text(&name), plain(time))).collect(),
        )
    }
}

impl Anonymize for Tracking {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { trackers, complete } = self;
        Self { trackers: trackers.anonymized(pseudonyms), complete: plain(complete) }
    }
}

impl Anonymize for Tracker {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { place, what, needed, drops } = self;
        Self {
            place: pseudonyms.rule_place(&place),
            what: pseudonyms.text(&what),
            needed: plain(needed),
            drops: plain(drops),
        }
    }
}
