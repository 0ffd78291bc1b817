//! What a run has seen, as plain values.

use std::path::PathBuf;
use std::time::Duration;

use ctkeeper_flow::Statistics;
use serde::Serialize;

use crate::Clashed;
use crate::load::{self, time};

/// Name and version of a [`RunReport`] as JSON.
pub(crate) const SCHEMA: &str = "ctkeeper.lab/1";

/// What doctor said about a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The namespace's role in the scenario.
    pub namespace: String,
    /// doctor's exit code: 0 ok, 1 warning, 2 critical, 3 could not tell.
    pub exit_code: u8,
    /// What it found.
    pub findings: Vec<Finding>,
    /// The causes that the scenario expects it to name, and no other.
    pub expected: Vec<String>,
}

/// A finding of doctor's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub id: String,
    /// `critical`, `warning`, `unknown`, `note`.
    pub severity: String,
    /// What it says in a sentence. Names in it may come from others.
    pub summary: String,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The scenario's name.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// Whether every expectation was met.
    pub met: bool,
    /// Its phases.
    pub phases: Vec<PhaseReport>,
    /// Where statistics, rules and logs are kept of a run whose expectations were not met.
    pub artefacts: Option<PathBuf>,
    /// What could not be removed or put back, if anything: namespaces, the host's values.
    pub left: Vec<String>,
    /// How long it took, in seconds, without what the guards take to clean up.
    #[serde(rename = "seconds", serialize_with = "time::seconds")]
    pub took: Duration,
}

/// A phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PhaseReport {
    /// Its heading.
    pub title: String,
    /// How long it took, in seconds.
    #[serde(rename = "seconds", serialize_with = "time::seconds")]
    pub took: Duration,
    /// The namespaces at its end.
    pub namespaces: Vec<NamespaceFigures>,
    /// The loads of this phase.
    pub loads: Vec<LoadFigures>,
    /// Datagrams that were sent in pairs in this phase.
    pub clashes: Vec<Clashed>,
    /// What doctor said.
    pub judgements: Vec<Judgement>,
    /// Lines of the kernel's log in this phase about tables that are full: those that name one of
    /// this run's namespaces, and those that name none.
    pub kernel_log_lines: u64,
    /// Lines that HAProxy logged in this phase.
    pub proxy_log_lines: u64,
    /// Expectations that were not met, each in a sentence.
    pub unmet: Vec<String>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamespaceFigures {
    /// Its role in the scenario.
    pub namespace: String,
    /// Its entries, with expired ones that are not collected yet.
    pub count: u64,
    /// The limit; 0 is none.
    pub limit: u64,
    /// How much its counters grew in this phase.
    pub moved: Statistics,
}

/// A load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadFigures {
    /// Its name.
    pub name: String,
    /// What it saw in this phase.
    pub report: load::Report,
}

impl Judgement {
    /// The causes it names, sorted, each once.
    pub fn causes(&self) -> Vec<&str> {
        let named = super::CAUSES.into_iter();
        let mut causes: Vec<_> =
            named.filter(|id| self.findings.iter().any(|finding| finding.id == *id)).collect();
        causes.sort_unstable();
        causes
    }
}

impl PhaseReport {
    /// A namespace's figures.
    pub fn namespace(&self, role: &str) -> Option<&NamespaceFigures> {
        self.namespaces.iter().find(|figures| figures.namespace == role)
    }

    /// A load's figures.
    pub fn load(&self, name: &str) -> Option<&load::Report> {
        self.loads.iter().find(|figures| figures.name == name).map(|figures| &figures.report)
    }
}
