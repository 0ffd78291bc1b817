//! Rules over a Snapshot: what is wrong, how bad it is, what it means, what mends it.
//!
//! [`diagnose`] is pure: a [`Snapshot`](ctkeeper_snapshot::Snapshot) and [`Thresholds`] in, a
//! [`Report`] out; the same snapshot gives the same report on any machine at any time. Each rule
//! stands in [`RULES`] with its id, its severities and the explanation that
//! `ctkeeper explain ID` prints.

mod context;
mod finding;
mod report;
mod rules;
mod thresholds;

pub use finding::{Evidence, EvidenceValue, Finding, Remedy, Scope, Severity};
pub use report::{Overview, REPORT_SCHEMA, Report, Verdict, diagnose};
pub use rules::{Explanation, RULES, Rule, rule};
pub use thresholds::{Thresholds, ThresholdsError};
