//! Scenarios: what is built, what happens in which order, and what must be seen. Written as TOML,
//! every unknown field an error.
//!
//! ```toml
//! title = "A table that is full"
//! about = "Every place is taken; new connections are refused, old ones live on."
//! finds = ["table-full"]              # the causes that doctor must name, and no other
//!
//! [[namespace]]
//! name = "box"
//! track = true                        # a rule that looks at every packet's state
//!
//! [[phase]]
//! title = "Full"
//! do = [{ fill = { namespace = "box", leave_free = 0 } }]
//! judge = [{ namespace = "box" }]
//! ```

mod check;
mod embedded;
pub(crate) mod figures;
pub(crate) mod ground;
mod run;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ctkeeper_flow::units::count;
use serde::Deserialize;

pub use embedded::embedded;
pub use figures::{Finding, Judgement, LoadFigures, NamespaceFigures, PhaseReport, RunReport};
pub use run::{CallerError, Event, Hands, run};

use crate::load::{self, Profile, time};
use crate::{Clash, LabError};

/// The ids of findings that name a cause: in a judged phase, exactly those that the scenario says
/// must be there. Others (remarks about the host's files, say) are free to speak.
pub const CAUSES: [&str; 9] = [
    "table-full",
    "second-wall",
    "snat-ports",
    "clash",
    "early-drop",
    "invalid-packets",
    "expectations-full",
    "two-entries",
    "tracked-twice",
];

/// A scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name: that of its file, without the ending.
    #[serde(skip)]
    pub name: String,
    /// One line.
    pub title: String,
    /// What it shows, in a few sentences.
    pub about: String,
    /// The causes that doctor must name where a phase judges and says nothing of its own.
    #[serde(default)]
    pub finds: Vec<String>,
    /// What it needs of the host.
    #[serde(default)]
    pub host: Host,
    /// The namespaces.
    #[serde(default, rename = "namespace")]
    pub namespaces: Vec<NamespaceSpec>,
    /// Cables between them.
    #[serde(default, rename = "link")]
    pub links: Vec<LinkSpec>,
    /// Switches inside them.
    #[serde(default, rename = "bridge")]
    pub bridges: Vec<BridgeSpec>,
    /// Servers of the lab's own.
    #[serde(default, rename = "server")]
    pub servers: Vec<ServerSpec>,
    /// HAProxy, from the system's package.
    #[serde(default, rename = "haproxy")]
    pub proxies: Vec<HaProxySpec>,
    /// What happens, in this order.
    #[serde(rename = "phase")]
    pub phases: Vec<PhaseSpec>,
}

/// What a scenario needs of the host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// It shows itself only where there are so few buckets: in a virtual machine.
    pub buckets_at_most: Option<u64>,
    /// The limit must be at least so high.
    pub limit_at_least: Option<u64>,
    /// Buckets are raised to so many times the limit, and put back at the end.
    pub buckets_per_place: Option<u64>,
}

/// A namespace; `/run/netns/ctk-PID-NAME`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceSpec {
    /// Its role: lower-case letters, digits, dashes.
    pub name: String,
    /// Whether a rule looks at every packet's state, which is what turns tracking on.
    #[serde(default)]
    pub track: bool,
    /// Whether it passes packets on.
    #[serde(default)]
    pub forward: bool,
    /// nftables rules.
    #[serde(default)]
    pub rules: Option<String>,
    /// Values below /proc/sys/net.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Routes: `default via 10.77.1.1`.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Networks every address of which is its own, so that load comes from many clients.
    #[serde(default)]
    pub own: Vec<String>,
}

/// A cable.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// Its two ends.
    pub ends: [EndSpec; 2],
}

/// An end of a cable.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndSpec {
    /// In which namespace.
    pub namespace: String,
    /// The interface's name there.
    pub interface: String,
    /// Its addresses with prefix lengths.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// A switch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeSpec {
    /// In which namespace.
    pub namespace: String,
    /// Its name there.
    pub interface: String,
    /// Its addresses with prefix lengths.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Interfaces that are plugged into it.
    #[serde(default)]
    pub ports: Vec<String>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSpec {
    /// In which namespace.
    pub namespace: String,
    /// What it does.
    pub kind: ServerKind,
    /// Its addresses and ports.
    pub listen: Vec<SocketAddr>,
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    /// Answers each HTTP/1.1 request with 200.
    Http,
    /// Takes TCP connections and says nothing.
    TcpHold,
    /// Sends back what comes over TCP.
    TcpEcho,
    /// Sends back each datagram.
    UdpEcho,
    /// Takes datagrams and says nothing.
    UdpSink,
}

/// HAProxy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaProxySpec {
    /// What phases call it.
    pub name: String,
    /// In which namespace.
    pub namespace: String,
    /// How many processes share its ports.
    #[serde(default = "one")]
    pub processes: u32,
    /// Its configuration; `log stdout format raw local0` makes its log visible here.
    pub config: String,
}

const fn one() -> u32 {
    1
}

/// A phase: things done one after the other, then doctor's verdicts, then what must be true.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSpec {
    /// Its heading.
    pub title: String,
    /// What happens in it, in a sentence or two.
    #[serde(default)]
    pub about: String,
    /// What is done.
    #[serde(default, rename = "do")]
    pub actions: Vec<Action>,
    /// The namespaces that doctor looks into at the end, while the loads go on.
    #[serde(default)]
    pub judge: Vec<JudgeSpec>,
    /// What must be true at the end.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// Something done.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Makes entries by netlink.
    Fill(FillSpec),
    /// Deletes every entry of a namespace.
    Flush(String),
    /// Starts a load, which goes on until it ends, is stopped, or the scenario ends.
    Load(LoadSpec),
    /// Ends a load and its connections.
    Stop(StopSpec),
    /// From now on so many arrivals of a load a second; 0 pauses.
    Rate(RateSpec),
    /// Probes connections that a load holds.
    Probe(ProbeSpec),
    /// Datagrams in pairs, each pair at one moment; they go on until the phase's end, which waits
    /// for them.
    Clash(ClashSpec),
    /// Opens connections, one after the other, that each announce a second one, as FTP clients do.
    Announce(AnnounceSpec),
    /// Waits until a load's arrivals have all come and ended.
    Finish(String),
    /// Waits.
    #[serde(with = "time")]
    Wait(Duration),
    /// Sets a value below /proc/sys/net of a namespace.
    Sysctl(SysctlSpec),
    /// Loads nftables rules.
    Rules(RulesSpec),
    /// Goes over to another configuration of HAProxy.
    Reload(ReloadSpec),
    /// Runs a program inside to its end.
    Run(RunSpec),
    /// Raises the host's limit with `ctkeeper fix`; the lab puts it back at the end.
    Fix(FixSpec),
}

/// Entries to make: so many, or until so many places are left.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FillSpec {
    /// In which namespace.
    pub namespace: String,
    /// How many.
    #[serde(default)]
    pub entries: Option<u64>,
    /// How many places stay free below the limit.
    #[serde(default)]
    pub leave_free: Option<u64>,
    /// Half-open entries, which the kernel may evict, instead of established ones.
    #[serde(default)]
    pub half_open: bool,
    /// Seconds that established entries have to live.
    #[serde(default = "four_days")]
    pub timeout: u32,
}

/// An established connection that has been idle for a day.
const fn four_days() -> u32 {
    345_600
}

/// A load with a name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadSpec {
    /// What other actions and expectations call it.
    pub name: String,
    /// Where it comes from.
    pub namespace: String,
    /// What it is.
    pub profile: Profile,
}

/// Datagrams in pairs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClashSpec {
    /// Where the rivals are.
    pub namespace: String,
    /// Who sends what, and how much of it.
    pub pairs: Clash,
}

/// Announcements for a helper of kind `ftp` to read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnounceSpec {
    /// Where the clients are.
    pub namespace: String,
    /// A server that takes what they say.
    pub target: SocketAddr,
    /// How many, as a share of nf_conntrack_expect_max.
    pub share: f64,
}

/// A load to end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopSpec {
    /// Its name.
    pub load: String,
    /// How its connections end: `close` (FIN), `reset` (RST), `vanish` (without a packet).
    #[serde(default)]
    pub end: load::Closing,
}

/// Another rate.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// The load's name.
    pub load: String,
    /// Arrivals a second.
    pub rate: f64,
}

/// Connections to probe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// The load's name.
    pub load: String,
    /// How many, evenly chosen; all without it.
    #[serde(default)]
    pub most: Option<u64>,
}

/// A value below /proc/sys/net.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysctlSpec {
    /// In which namespace.
    pub namespace: String,
    /// Its name: `netfilter/nf_conntrack_tcp_timeout_established`.
    pub name: String,
    /// Its new value.
    pub value: String,
}

/// nftables rules to load.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesSpec {
    /// In which namespace.
    pub namespace: String,
    /// The rules.
    pub rules: String,
}

/// Another configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadSpec {
    /// The name of the proxy.
    pub haproxy: String,
    /// The configuration.
    pub config: String,
}

/// A program to run inside; it must succeed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// In which namespace.
    pub namespace: String,
    /// The program.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// How the host's limit is raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FixSpec {
    /// The limit wanted; chosen by `ctkeeper fix` if absent.
    pub target: Option<u64>,
}

/// A verdict wanted of doctor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSpec {
    /// The namespace that is judged.
    pub namespace: String,
    /// How long doctor watches what moves.
    #[serde(default = "one_second", with = "time")]
    pub window: Duration,
    /// Whether doctor looks at every namespace of the host, as it does without `--netns`: what holds
    /// two namespaces against each other is seen only so. What it says of others is passed over.
    #[serde(default)]
    pub whole_host: bool,
    /// The causes it must name, and no other; the scenario's if absent.
    #[serde(default)]
    pub finds: Option<Vec<String>>,
    /// Its exit code, if that matters.
    #[serde(default)]
    pub exit: Option<u8>,
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

/// Something that must be true at a phase's end.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expectation {
    /// Of a load, in this phase.
    Load(LoadExpectation),
    /// Of a namespace's counters, in this phase.
    Counters(CounterExpectation),
    /// Of a namespace's entries, now.
    Entries(EntriesExpectation),
    /// Of HAProxy's log, in this phase.
    ProxyLog(LinesExpectation),
    /// Of the kernel's log: lines about full tables, in this phase.
    KernelLog(LinesExpectation),
}

/// Shares are 0 to 1.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadExpectation {
    /// The load.
    pub name: String,
    /// Least share of its arrivals that failed.
    #[serde(default)]
    pub failed_at_least: Option<f64>,
    /// Greatest share of its arrivals that failed.
    #[serde(default)]
    pub failed_at_most: Option<f64>,
    /// Greatest share of its probes that went unanswered.
    #[serde(default)]
    pub probes_failed_at_most: Option<f64>,
    /// Connections or flows that are open.
    #[serde(default)]
    pub open_at_least: Option<u64>,
}

/// Counters by the kernel's names: `drop`, `insert_failed`, `chaintoolong`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterExpectation {
    /// In which namespace.
    pub namespace: String,
    /// Those that must have grown.
    #[serde(default)]
    pub moved: Vec<String>,
    /// Those that must stand where they stood.
    #[serde(default)]
    pub still: Vec<String>,
}

/// Bounds, both included.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntriesExpectation {
    /// In which namespace.
    pub namespace: String,
    /// Least number.
    #[serde(default)]
    pub at_least: Option<u64>,
    /// Greatest number.
    #[serde(default)]
    pub at_most: Option<u64>,
    /// Fewest free places.
    #[serde(default)]
    pub free_at_least: Option<u64>,
    /// Most free places.
    #[serde(default)]
    pub free_at_most: Option<u64>,
}

/// Bounds, both included.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinesExpectation {
    /// Fewest lines.
    #[serde(default)]
    pub at_least: Option<u64>,
    /// Most lines.
    #[serde(default)]
    pub at_most: Option<u64>,
}

impl Scenario {
    /// Reads one that comes with ctkeeper, by its name.
    pub fn named(name: &str) -> Option<Result<Self, LabError>> {
        let (name, text) = embedded().iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(name, text))
    }

    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self, LabError> {
        let shown = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(LabError::system("read", shown))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text)
    }

    /// Reads TOML, and checks that everything named is there.
    pub fn parse(name: &str, text: &str) -> Result<Self, LabError> {
        let failed = |reason: String| LabError::Scenario { name: name.to_owned(), reason };
        let mut scenario: Self =
            toml::from_str(text).map_err(|error| failed(error.to_string().trim().to_owned()))?;
        name.clone_into(&mut scenario.name);
        check::check(&scenario).map_err(failed)?;
        Ok(scenario)
    }

    /// What it needs of the host beyond root, in a few words; empty if nothing.
    pub fn needs(&self) -> String {
        let proxy =
            (!self.proxies.is_empty()).then(|| "HAProxy (Debian package haproxy)".to_owned());
        let most = self.host.buckets_at_most;
        let few =
            most.map(|most| format!("a virtual machine with at most {} buckets", count(most)));
        proxy.into_iter().chain(few).collect::<Vec<_>>().join(", ")
    }

    /// The actions of all phases.
    pub(crate) fn actions(&self) -> impl Iterator<Item = &Action> {
        self.phases.iter().flat_map(|phase| &phase.actions)
    }

    /// Whether it needs the host's limit and buckets to itself: it changes them, or fills up to
    /// them exactly.
    pub fn needs_host_values(&self) -> bool {
        self.host.buckets_per_place.is_some()
            || self.actions().any(|action| match action {
                Action::Fix(_) => true,
                Action::Fill(fill) => fill.leave_free.is_some(),
                _ => false,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        title = "t"
        about = "a"
        [[namespace]]
        name = "box"
        [[phase]]
        title = "p"
        do = [{ fill = { namespace = "box", leave_free = 0 } }, { wait = "1s" }]
        judge = [{ namespace = "box" }]
        expect = [{ counters = { namespace = "box", moved = ["drop"] } }]
    "#;

    fn refusal(text: &str) -> String {
        Scenario::parse("mine", text).unwrap_err().to_string()
    }

    #[test]
    fn those_that_come_along_can_be_read() {
        for (name, text) in embedded() {
            let scenario = Scenario::parse(name, text).unwrap();
            assert!(scenario.title.len() < 60, "{name}: the title is too long for a list");
            let judged = scenario.phases.iter().any(|phase| !phase.judge.is_empty());
            assert!(judged, "{name} judges nothing");
        }
    }

    #[test]
    fn unknown_fields_are_refused_everywhere() {
        assert_eq!(Scenario::parse("mine", WHOLE).unwrap().name, "mine");
        for (place, with) in [
            ("title = \"t\"", "title = \"t\"\ntitel = 1"),
            ("name = \"box\"", "name = \"box\"\ntrak = true"),
            ("leave_free = 0", "leave_free = 0, fre = 1"),
            ("{ wait = \"1s\" }", "{ wait = \"1s\", wiat = \"1s\" }"),
            ("{ wait = \"1s\" }", "{ dance = \"1s\" }"),
            ("judge = [{", "judge = [{ widow = \"1s\","),
            ("moved = [", "mooved = [], moved = ["),
            ("title = \"p\"", "title = \"p\"\nname = \"x\""),
        ] {
            let text = WHOLE.replacen(place, with, 1);
            assert_ne!(text, WHOLE, "{place}");
            let refusal = refusal(&text);
            assert!(refusal.starts_with("scenario mine: "), "{with}: {refusal}");
        }
    }

    #[test]
    fn what_is_named_must_be_there() {
        for (place, with, said) in [
            (
                "judge = [{ namespace = \"box\"",
                "judge = [{ namespace = \"bax\"",
                "phase 1 (p): there is no namespace \"bax\"; there is: box",
            ),
            ("\"drop\"", "\"dorp\"", "there is no counter \"dorp\""),
            ("name = \"box\"", "name = \"../box\"", "give up to 24 lower-case letters"),
            ("leave_free = 0", "leave_free = 0, entries = 1", "give either entries or leave_free"),
            ("\"1s\"", "\"1h\"", "wait: give up to 300 s"),
            ("about = \"a\"", "about = \"a\"\nfinds = [\"gremlins\"]", "\"gremlins\""),
            (
                "{ wait = \"1s\" }",
                "{ finish = \"new\" }",
                "there is no load \"new\"; there is: none",
            ),
        ] {
            let refusal = refusal(&WHOLE.replacen(place, with, 1));
            assert!(refusal.contains(said), "{refusal}");
        }
    }
}
