//! A namespace that forwards between two interfaces of our own, with tracking, rules and sysctls.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use ctkeeper_differential::addresses::{Place, network, networks, translated};
use ctkeeper_differential::ground::{self, Ground, INTERFACES};
use ctkeeper_differential::sequence::{Host, Side, Treatment};
use ctkeeper_engine::Settings;
use ctkeeper_flow::{Family, Statistics};
use ctkeeper_lab::Namespace;
use ctkeeper_netlink::{Conntrack, Events, Groups};

use super::devices::Devices;
use super::own::Own;

/// Forwarding between two interfaces that are files.
#[derive(Debug)]
pub struct Router {
    pub(super) devices: Devices,
    pub(super) table: Conntrack,
    pub(super) ground: Ground,
    pub(super) own: Own,
    pub(super) events: Option<Events>,
    pub(super) clock: Instant,
    /// Next free place of each network.
    next: BTreeMap<(Family, Treatment), u16>,
    /// Where the statistics stood at the beginning.
    pub(super) before: Statistics,
    namespace: Namespace,
}

/// What makes the router pass on what a host would not, and say nothing itself.
const SYSCTLS: [(&str, &str); 9] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
];

impl Router {
    /// Makes one.
    pub fn create(ground: &Ground) -> anyhow::Result<Self> {
        let namespace = Namespace::create_for("router")?;
        for (name, value) in SYSCTLS {
            namespace.sysctl(name, value)?;
        }
        let devices = namespace.enter(Devices::create)??;
        lay_routes(&namespace)?;
        namespace.nft(&ground::rules(&ground.treatments))?;
        let table = namespace.conntrack()?;
        let own = namespace.enter(Own::open)??;
        let events = if ground.listens { Some(listen(&namespace)?) } else { None };
        let mut router = Self {
            devices,
            table,
            own,
            events,
            ground: ground.clone(),
            clock: Instant::now(),
            next: BTreeMap::new(),
            before: Statistics::default(),
            namespace,
        };
        router.set(&ground.settings)?;
        Ok(router)
    }

    /// Changes the sysctls.
    pub(super) fn set(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let lines = ground::sysctls(settings);
        self.namespace.enter(|| {
            lines.iter().try_for_each(|(name, value)| {
                let file = Path::new("/proc/sys/net").join(name);
                fs::write(&file, value).with_context(|| format!("{name} = {value}"))
            })
        })?
    }

    /// A place that no sequence has had; after [`Place::SLOTS`] of them the first come again.
    pub(super) fn place(&mut self, family: Family, treatment: Treatment) -> Place {
        let next = self.next.entry((family, treatment)).or_insert(0);
        let slot = *next % Place::SLOTS;
        *next = slot + 1;
        Place { family, treatment, slot }
    }

    pub(super) fn statistics(&mut self) -> anyhow::Result<Statistics> {
        let mut sum = Statistics::default();
        self.table.statistics()?.iter().for_each(|cpu| sum.add(cpu));
        Ok(sum)
    }
}

fn listen(namespace: &Namespace) -> anyhow::Result<Events> {
    let mut events = Events::subscribe_in(&namespace.open()?, Groups::ALL, 4 << 20)?;
    events.set_gathering(Duration::ZERO);
    Ok(events)
}

fn lay_routes(namespace: &Namespace) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for (interface, side) in INTERFACES.into_iter().zip([Side::Client, Side::Server]) {
        lines.push(format!("link set {interface} mtu 65535 up"));
        for family in [Family::Ipv4, Family::Ipv6] {
            let routes = networks(family, side).iter();
            lines.extend(routes.map(|network| format!("route add {network} dev {interface}")));
        }
    }
    for (family, prefix) in [(Family::Ipv4, 32), (Family::Ipv6, 128)] {
        let network = network(family, Treatment::Local, Host::Server);
        lines.push(format!("route add local {network} dev lo"));
        let address = translated(family, Treatment::Redirect, Side::Server);
        lines.push(format!("address add {address}/{prefix} dev {}", INTERFACES[0]));
        let address = translated(family, Treatment::Masquerade, Side::Client);
        lines.push(format!("address add {address}/{prefix} dev {}", INTERFACES[1]));
    }
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        namespace.run("ip", &words)?;
    }
    Ok(())
}
