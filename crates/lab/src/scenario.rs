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
mod parts;
mod phase;
mod run;

use std::io::Read;
use std::path::Path;

use ctkeeper_flow::units::{self, count};
use serde::Deserialize;

pub use embedded::embedded;
pub use figures::{Finding, Judgement, LoadFigures, NamespaceFigures, PhaseReport, RunReport};
pub use parts::{
    BridgeSpec, EndSpec, HaProxySpec, Host, LinkSpec, NamespaceSpec, ServerKind, ServerSpec,
};
pub use phase::{
    Action, AnnounceSpec, ClashSpec, CounterExpectation, EntriesExpectation, Expectation, FillSpec,
    FixSpec, JudgeSpec, LinesExpectation, LoadExpectation, LoadSpec, PhaseSpec, ProbeSpec,
    RateSpec, ReloadSpec, RulesSpec, RunSpec, StopSpec, SysctlSpec,
};
pub use run::{CallerError, Event, Hands, run};

use crate::LabError;

/// Bytes.
const LONGEST_FILE: u64 = 1 << 20;

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

impl Scenario {
    /// Reads one that comes with ctkeeper, by its name.
    pub fn named(name: &str) -> Option<Result<Self, LabError>> {
        let (name, text) = embedded().iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(name, text))
    }

    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self, LabError> {
        let shown = file.display().to_string();
        let text = read_bounded(file).map_err(LabError::system("read", shown))?;
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

    /// Whether it needs the host's limit and buckets to itself: it changes them, fills up to
    /// them exactly, or asks for it.
    pub fn needs_host_values(&self) -> bool {
        self.host.alone
            || self.host.buckets_per_place.is_some()
            || self.actions().any(|action| match action {
                Action::Fix(_) => true,
                Action::Fill(fill) => fill.leave_free.is_some(),
                _ => false,
            })
    }
}

/// Not every file has an end.
fn read_bounded(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(file)?.take(LONGEST_FILE + 1).read_to_string(&mut text)?;
    if read as u64 <= LONGEST_FILE {
        return Ok(text);
    }
    Err(std::io::Error::other(format!("over {} is no scenario", units::mebibytes(LONGEST_FILE))))
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
    fn a_file_without_an_end_is_refused() {
        let error = Scenario::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("is no scenario"), "{error}");
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
    fn a_scenario_that_looks_at_nothing_is_refused() {
        let judge = "judge = [{ namespace = \"box\" }]";
        let expect = "expect = [{ counters = { namespace = \"box\", moved = [\"drop\"] } }]";
        for either in [WHOLE.replace(judge, ""), WHOLE.replace(expect, "")] {
            Scenario::parse("mine", &either).unwrap();
        }
        let neither = WHOLE.replace(judge, "").replace(expect, "");
        assert!(refusal(&neither).contains("it would show nothing"));
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
            ("moved = [\"drop\"]", "moved = []", "expect counters: it says nothing"),
            (
                "counters = { namespace = \"box\", moved = [\"drop\"] }",
                "entries = { namespace = \"box\" }",
                "expect entries: it says nothing",
            ),
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
