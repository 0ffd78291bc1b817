//! What a scenario stands on, built.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};

use super::{Action, Host, NamespaceSpec, Scenario, ServerKind};
use crate::load::{Load, Server, Service};
use crate::{
    Bridge, Clash, Clashed, End, HaProxy, HostValues, LabError, Link, Namespace, fill, program,
};

const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// Everything that a scenario has made. It goes in the order of the fields: traffic first, the
/// host's values last, since what the namespaces hold may need them.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) clashes: Vec<Clashing>,
    pub(crate) loads: BTreeMap<String, Load>,
    pub(crate) proxies: BTreeMap<String, (String, HaProxy)>,
    servers: Vec<Server>,
    bridges: Vec<Bridge>,
    links: Vec<Link>,
    /// By role, in the scenario's order.
    pub(crate) namespaces: Vec<(String, Namespace)>,
    /// Whether it is for a host whose buckets are few, and that is nobody else's.
    pub(crate) is_for_few_buckets: bool,
    pub(crate) host: Option<HostValues>,
}

impl Ground {
    /// Builds it. What was made until an error came goes again.
    pub(crate) fn build(scenario: &Scenario, host: Option<HostValues>) -> Result<Self, LabError> {
        host.iter().try_for_each(HostValues::expect_no_other_changes)?;
        if let (Some(values), Some(times)) = (&host, scenario.host.buckets_per_place) {
            let wanted = values.limit().saturating_mul(times);
            values.raise_buckets(wanted.max(values.buckets()))?;
        }
        let mut ground = Self {
            clashes: Vec::new(),
            loads: BTreeMap::new(),
            proxies: BTreeMap::new(),
            servers: Vec::new(),
            bridges: Vec::new(),
            links: Vec::new(),
            namespaces: Vec::new(),
            is_for_few_buckets: scenario.host.buckets_at_most.is_some(),
            host,
        };
        for spec in &scenario.namespaces {
            ground.namespaces.push((spec.name.clone(), Namespace::create_for(&spec.name)?));
        }
        ground.wire(scenario)?;
        for spec in &scenario.namespaces {
            settle(ground.namespace(&spec.name)?, spec)?;
        }
        ground.inhabit(scenario)?;
        Ok(ground)
    }

    fn wire(&mut self, scenario: &Scenario) -> Result<(), LabError> {
        for link in &scenario.links {
            let [one, other] = &link.ends;
            let (first, second) = (strs(&one.addresses), strs(&other.addresses));
            let link = Link::create(
                End {
                    namespace: self.namespace(&one.namespace)?,
                    interface: &one.interface,
                    addresses: &first,
                },
                End {
                    namespace: self.namespace(&other.namespace)?,
                    interface: &other.interface,
                    addresses: &second,
                },
            )?;
            self.links.push(link);
        }
        for spec in &scenario.bridges {
            let namespace = self.namespace(&spec.namespace)?;
            let bridge = Bridge::create(namespace, &spec.interface, &strs(&spec.addresses))?;
            spec.ports.iter().try_for_each(|port| bridge.attach(port))?;
            self.bridges.push(bridge);
        }
        Ok(())
    }

    fn inhabit(&mut self, scenario: &Scenario) -> Result<(), LabError> {
        for spec in &scenario.servers {
            let handle = self.namespace(&spec.namespace)?.open()?;
            let server = Server::start(&handle, service(spec.kind), &spec.listen)?;
            self.servers.push(server);
        }
        for spec in &scenario.proxies {
            let namespace = self.namespace(&spec.namespace)?;
            let proxy = HaProxy::start(namespace, &spec.config, spec.processes)?;
            self.proxies.insert(spec.name.clone(), (spec.namespace.clone(), proxy));
        }
        Ok(())
    }

    /// The namespace of a role. (A scenario that was read names none that is not there.)
    pub(crate) fn namespace(&self, role: &str) -> Result<&Namespace, LabError> {
        let found = self.namespaces.iter().find(|(name, _)| name == role);
        found.map(|(_, namespace)| namespace).ok_or_else(|| absent("namespace", role))
    }

    /// The load of a name, if it runs.
    pub(crate) fn load(&self, name: &str) -> Result<&Load, LabError> {
        self.loads.get(name).ok_or_else(|| absent("running load", name))
    }
}

/// Pairs of datagrams being sent by a thread; dropping it waits for their end, which is bounded.
#[derive(Debug)]
pub(crate) struct Clashing {
    thread: Option<JoinHandle<Result<Clashed, LabError>>>,
}

impl Clashing {
    pub(crate) fn start(namespace: &Namespace, pairs: Clash) -> Self {
        // The thread goes into the namespace by its name; the guard stays with the ground.
        let namespace = Namespace::borrowed(namespace);
        let thread = thread::spawn(move || pairs.run(&namespace));
        Self { thread: Some(thread) }
    }

    /// Waits for their end.
    pub(crate) fn finish(mut self) -> Result<Clashed, LabError> {
        let ended = self.thread.take().map(JoinHandle::join);
        ended.and_then(Result::ok).unwrap_or_else(|| Ok(Clashed::default()))
    }
}

impl Drop for Clashing {
    fn drop(&mut self) {
        // Its panic was told on standard error.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

pub(super) fn absent(what: &str, name: &str) -> LabError {
    LabError::Scenario { name: name.to_owned(), reason: format!("there is no {what} of this name") }
}

fn settle(namespace: &Namespace, spec: &NamespaceSpec) -> Result<(), LabError> {
    if spec.forward {
        namespace.forward()?;
    }
    for (name, value) in &spec.sysctls {
        namespace.sysctl(name, value)?;
    }
    spec.own.iter().try_for_each(|network| namespace.own_addresses(network))?;
    spec.routes.iter().try_for_each(|route| namespace.route(route))?;
    if spec.track {
        namespace.track()?;
    }
    spec.rules.iter().try_for_each(|rules| namespace.nft(rules))
}

fn strs(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

const fn service(kind: ServerKind) -> Service {
    match kind {
        ServerKind::Http => Service::Http { body_bytes: 3 },
        ServerKind::TcpHold => Service::TcpHold {},
        ServerKind::TcpEcho => Service::TcpEcho {},
        ServerKind::UdpEcho => Service::UdpEcho {},
        ServerKind::UdpSink => Service::UdpSink {},
    }
}

/// Fails, saying what to install or where to run it, if a scenario cannot run on this host.
pub(crate) fn ensure_suitable(scenario: &Scenario) -> Result<(), LabError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot { operation: format!("run {}", scenario.name) });
    }
    program::require("ip")?;
    program::require("nft")?;
    if !scenario.proxies.is_empty() {
        program::require("haproxy")?;
    }
    // What `fix` stands on is known before the first phase, not in the midst of them.
    if scenario.actions().any(|action| matches!(action, Action::Fix(_))) {
        program::require("unshare")?;
    }
    suits(&scenario.host)
        .map_or(Ok(()), |needs| Err(LabError::Unsuitable { name: scenario.name.clone(), needs }))
}

/// What this host lacks, if anything.
fn suits(host: &Host) -> Option<String> {
    use ctkeeper_flow::units::count;
    let Ok(buckets) = fill::number(BUCKETS) else {
        return Some("this kernel tracks no connections (modprobe nf_conntrack)".to_owned());
    };
    let limit = fill::number(LIMIT).unwrap_or(0);
    if let Some(most) = host.buckets_at_most.filter(|&most| buckets > most) {
        return Some(format!(
            "it needs at most {} buckets, and this host has {}. The lab never lowers them, since all \
             namespaces share them: run it in a virtual machine (cargo xtask vm)",
            count(most),
            count(buckets)
        ));
    }
    let least = host.limit_at_least.filter(|&least| limit > 0 && limit < least)?;
    Some(format!(
        "it needs a limit of {}, and this host has {} (ctkeeper fix --target {least})",
        count(least),
        count(limit)
    ))
}
