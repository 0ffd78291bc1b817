//! What a rule finds.

use std::fmt;

use ctkeeper_snapshot::Namespace;
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing has to be done.
    Note,
    /// Something wants attention before it becomes an incident.
    Warning,
    /// What would have to be seen to judge the host could not be.
    Unknown,
    /// New connections are refused, or soon will be.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "NOTE",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        })
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "of")]
pub enum Scope {
    /// The whole host.
    Host,
    /// One network namespace.
    Namespace {
        /// Its inode.
        inode: u64,
        /// What it is called; may come from a container: hostile input.
        label: String,
    },
}

impl From<&Namespace> for Scope {
    fn from(namespace: &Namespace) -> Self {
        Self::Namespace { inode: namespace.inode, label: namespace.label() }
    }
}

/// One number or text that a finding rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// What it is: `count`, `drop`, `locked_share`.
    pub name: &'static str,
    /// Its value.
    pub value: EvidenceValue,
}

/// The value of a piece of evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EvidenceValue {
    /// A number of things.
    Number(u64),
    /// A share, a ratio or a rate.
    Real(f64),
    /// Anything else; may hold hostile text.
    Text(String),
}

impl From<u64> for EvidenceValue {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<f64> for EvidenceValue {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

impl From<String> for EvidenceValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Something to do about a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// The exact command.
    pub command: String,
    /// What it does.
    pub effect: String,
}

/// Something that a rule found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The rule's id.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub scope: Scope,
    /// The verdict in a few words, for a headline: `new connections are being refused`.
    pub headline: String,
    /// The facts in a sentence or two, with numbers.
    pub summary: String,
    /// What that means for whoever runs the host.
    pub meaning: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What to do, best first.
    pub remedies: Vec<Remedy>,
}

impl Finding {
    /// A finding about `scope`, to be filled in.
    pub(crate) fn new(id: &'static str, severity: Severity, scope: Scope) -> Self {
        Self {
            id,
            severity,
            scope,
            headline: String::new(),
            summary: String::new(),
            meaning: String::new(),
            evidence: Vec::new(),
            remedies: Vec::new(),
        }
    }

    pub(crate) fn headline(mut self, text: impl Into<String>) -> Self {
        self.headline = text.into();
        self
    }

    pub(crate) fn summary(mut self, text: impl Into<String>) -> Self {
        self.summary = text.into();
        self
    }

    pub(crate) fn meaning(mut self, text: impl Into<String>) -> Self {
        self.meaning = text.into();
        self
    }

    pub(crate) fn evidence(mut self, name: &'static str, value: impl Into<EvidenceValue>) -> Self {
        self.evidence.push(Evidence { name, value: value.into() });
        self
    }

    /// A remedy whose command could not always be made out.
    pub(crate) fn remedy_if(self, command: Option<String>, effect: &str) -> Self {
        match command {
            Some(command) => self.remedy(command, effect),
            None => self,
        }
    }

    pub(crate) fn remedy(mut self, command: impl Into<String>, effect: impl Into<String>) -> Self {
        self.remedies.push(Remedy { command: command.into(), effect: effect.into() });
        self
    }
}
