//! The report: every finding, and the verdict they add up to.

use std::fmt;

use ctkeeper_snapshot::{Snapshot, Taken};
use serde::Serialize;

use crate::context::Context;
use crate::{Finding, RULES, Severity, Thresholds};

/// Name and version of the report's serialised form.
pub const REPORT_SCHEMA: &str = "ctkeeper.report/1";

/// What all findings add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing wants attention.
    Ok,
    /// Something wants attention.
    Warning,
    /// New connections are refused, or soon will be.
    Critical,
    /// What would have to be seen could not be.
    Unknown,
}

impl Verdict {
    /// The exit code: 0 ok, 1 warning, 2 critical, 3 could not tell.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// The gravest finding decides. Not having seen enough outweighs a warning: something worse
    /// may hide there.
    fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|finding| finding.severity).max() {
            Some(Severity::Critical) => Self::Critical,
            Some(Severity::Unknown) => Self::Unknown,
            Some(Severity::Warning) => Self::Warning,
            Some(Severity::Note) | None => Self::Ok,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// The judged snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// What it adds up to.
    pub verdict: Verdict,
    /// The exit code of doctor.
    pub exit_code: u8,
    /// When and where the snapshot was taken.
    pub taken: Taken,
    /// The numbers that one wants to see also when all is well.
    pub overview: Overview,
    /// What was found, gravest first.
    pub findings: Vec<Finding>,
}

/// The host in a few numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// The running limit; absent when not known, 0 when unlimited.
    pub limit: Option<u64>,
    /// The running number of buckets.
    pub buckets: Option<u64>,
    /// Namespaces seen.
    pub namespaces: u64,
    /// Entries of all of them.
    pub entries: u64,
    /// Entries a bucket.
    pub load: Option<f64>,
    /// The namespace with the most entries: hostile text.
    pub fullest: Option<String>,
    /// Its count.
    pub fullest_count: u64,
    /// Its share of the limit.
    pub fullest_share: Option<f64>,
}

/// Judges a snapshot by every rule.
pub fn diagnose(snapshot: &Snapshot, thresholds: &Thresholds) -> Report {
    let context = Context { snapshot, thresholds };
    let mut findings: Vec<_> = RULES.iter().flat_map(|rule| (rule.judge)(&context)).collect();
    // Stable: within a severity the rules' own order stays, which puts causes before details.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let verdict = Verdict::of(&findings);
    Report {
        schema: REPORT_SCHEMA,
        verdict,
        exit_code: verdict.exit_code(),
        taken: snapshot.taken.clone(),
        overview: Overview::of(snapshot),
        findings,
    }
}

impl Overview {
    fn of(snapshot: &Snapshot) -> Self {
        let fullest = snapshot.fullest();
        Self {
            limit: snapshot.limits.map(|limits| limits.limit.0),
            buckets: snapshot.limits.map(|limits| limits.buckets),
            namespaces: snapshot.namespaces.len() as u64,
            entries: snapshot.total_entries(),
            load: snapshot.load(),
            fullest: fullest.map(ctkeeper_snapshot::Namespace::label),
            fullest_count: fullest.map_or(0, |namespace| namespace.count),
            fullest_share: fullest.and_then(ctkeeper_snapshot::Namespace::share),
        }
    }
}
