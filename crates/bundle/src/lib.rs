//! The bundle: one file for a colleague or a ticket, with the snapshot of a host, what was found in
//! it, and the lines of files and log that it rests on.
//!
//! [`Bundle::anonymized`] gives the same with pseudonyms in place of everything that names somebody;
//! numbers stay, so that it is judged as the original is. [`Saved::from_json`] reads whatever
//! ctkeeper has saved to be judged elsewhere. No I/O here, and no clock.

mod anonymize;

use std::collections::BTreeMap;

use ctkeeper_diagnosis::{Report, Thresholds, diagnose};
use ctkeeper_snapshot::{LogExcerpt, SettingsLine, Snapshot, SnapshotError, System};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

pub use anonymize::Key;

/// Name and version of the serialised form. A reader refuses any other major version.
pub const SCHEMA: &str = "ctkeeper.bundle/1";

/// Everything for somebody else to judge a host by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whether names and addresses are pseudonyms.
    pub anonymized: bool,
    /// What runs the host.
    pub system: System,
    /// What was found when the bundle was made: a report as doctor prints it
    /// ([`REPORT_SCHEMA`](ctkeeper_diagnosis::REPORT_SCHEMA)). Kept as JSON, as reports of other
    /// versions may hold more.
    pub report: Value,
    /// The thresholds it was judged by. Kept by name, as other versions may have others.
    pub thresholds: BTreeMap<String, Value>,
    /// Lines of settings files that have to do with connection tracking.
    pub settings_lines: Vec<SettingsLine>,
    /// Lines of the kernel log that have to do with connection tracking.
    pub kernel_log: LogExcerpt,
    /// What was judged.
    pub snapshot: Snapshot,
}

/// What stands in a bundle beside snapshot and findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// What runs the host.
    pub system: System,
    /// Lines of settings files.
    pub settings_lines: Vec<SettingsLine>,
    /// Lines of the kernel log.
    pub kernel_log: LogExcerpt,
}

impl Bundle {
    /// Judges a snapshot and puts everything together.
    pub fn new(
        snapshot: Snapshot,
        thresholds: &Thresholds,
        details: Details,
    ) -> Result<Self, BundleError> {
        let Details { system, settings_lines, kernel_log } = details;
        Ok(Self {
            schema: SCHEMA.to_owned(),
            anonymized: false,
            system,
            report: to_value(&diagnose(&snapshot, thresholds))?,
            thresholds: by_name(thresholds)?,
            settings_lines,
            kernel_log,
            snapshot,
        })
    }

    /// The same with pseudonyms in place of names and addresses (`docs/bundle.md` says of which).
    /// The findings are those of the snapshot with pseudonyms. Whoever does not know `key` cannot
    /// lead them back: make it at random and throw it away.
    pub fn anonymized(self, key: &Key) -> Result<Self, BundleError> {
        let thresholds = self.thresholds();
        let mut bundle = anonymize::bundle(self, key);
        // Those that this version knows, as it cannot say what others hold.
        bundle.thresholds = by_name(&thresholds)?;
        bundle.report = to_value(&diagnose(&bundle.snapshot, &thresholds))?;
        Ok(bundle)
    }

    /// The thresholds that it was judged by, as far as this version knows them.
    pub fn thresholds(&self) -> Thresholds {
        let default = Thresholds::default();
        let Ok(Value::Object(mut known)) = serde_json::to_value(&default) else { return default };
        for (name, value) in &mut known {
            if let Some(kept) = self.thresholds.get(name) {
                *value = kept.clone();
            }
        }
        serde_json::from_value(Value::Object(known)).unwrap_or(default)
    }

    /// What was found when it was made: verdict, and the id of each finding.
    pub fn recorded(&self) -> Option<(&str, Vec<&str>)> {
        let verdict = self.report.get("verdict")?.as_str()?;
        let findings = self.report.get("findings")?.as_array()?;
        Some((verdict, findings.iter().filter_map(|finding| finding.get("id")?.as_str()).collect()))
    }

    /// Its JSON form, indented.
    pub fn to_json(&self) -> Result<String, BundleError> {
        serde_json::to_string_pretty(self).map_err(BundleError::Unwritable)
    }
}

fn by_name(thresholds: &Thresholds) -> Result<BTreeMap<String, Value>, BundleError> {
    let named = serde_json::to_value(thresholds).and_then(serde_json::from_value);
    named.map_err(BundleError::Unwritable)
}

fn to_value(report: &Report) -> Result<Value, BundleError> {
    serde_json::to_value(report).map_err(BundleError::Unwritable)
}

/// Something that ctkeeper saved to be judged.
#[derive(Clone, Debug, PartialEq)]
pub enum Saved {
    /// `ctkeeper doctor --save`.
    Snapshot(Box<Snapshot>),
    /// `ctkeeper bundle`.
    Bundle(Box<Bundle>),
}

impl Saved {
    /// Reads either form, told apart by its `schema`.
    pub fn from_json(json: &str) -> Result<Self, BundleError> {
        let Probe { schema: found, snapshot } = Probe::of(json)?;
        match found.split_once('/').map_or(found.as_str(), |(name, _)| name) {
            "ctkeeper.snapshot" => Ok(Self::Snapshot(Box::new(Snapshot::from_json(json)?))),
            "ctkeeper.bundle" if found == SCHEMA => {
                // It has a version of its own.
                let inner = snapshot.map(|snapshot| snapshot.schema);
                if let Some(found) = inner.filter(|inner| inner != ctkeeper_snapshot::SCHEMA) {
                    return Err(SnapshotError::OtherSchema { found }.into());
                }
                let bundle = serde_json::from_str(json).map_err(BundleError::Damaged)?;
                Ok(Self::Bundle(Box::new(bundle)))
            }
            "ctkeeper.bundle" => Err(BundleError::OtherSchema { found }),
            _ => Err(BundleError::SomethingElse { found }),
        }
    }

    /// The snapshot in it.
    pub fn snapshot(&self) -> &Snapshot {
        match self {
            Self::Snapshot(snapshot) => snapshot,
            Self::Bundle(bundle) => &bundle.snapshot,
        }
    }
}

/// What tells one form from another.
#[derive(Deserialize)]
struct Probe {
    schema: String,
    /// That of a bundle.
    snapshot: Option<InnerProbe>,
}

#[derive(Deserialize)]
struct InnerProbe {
    schema: String,
}

impl Probe {
    /// A text that begins like one of ours and breaks off is damaged, not something else.
    fn of(json: &str) -> Result<Self, BundleError> {
        serde_json::from_str(json).map_err(|error| {
            if error.is_eof() && json.contains("\"ctkeeper.") {
                BundleError::Truncated(error)
            } else {
                BundleError::NotOurs(error)
            }
        })
    }
}

/// Why a bundle cannot be made or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not JSON, or JSON without a `schema`.
    #[error(
        "not a bundle or snapshot of ctkeeper (`ctkeeper bundle` and `ctkeeper doctor --save FILE` \
         make them)"
    )]
    NotOurs(#[source] serde_json::Error),
    /// It breaks off.
    #[error("the bundle or snapshot is cut off: copy it again, or make a new one")]
    Truncated(#[source] serde_json::Error),
    /// Something of ctkeeper, or of something else, that cannot be judged.
    #[error(
        "its schema is {found:?}: neither a bundle ({SCHEMA:?}) nor a snapshot \
         ({:?})",
        ctkeeper_snapshot::SCHEMA
    )]
    SomethingElse {
        /// The schema it names.
        found: String,
    },
    /// A bundle of another version of ctkeeper.
    #[error(
        "the bundle has schema {found:?}, this ctkeeper reads {SCHEMA:?}; \
         judge it with the ctkeeper that made it"
    )]
    OtherSchema {
        /// The schema it names.
        found: String,
    },
    /// The right schema, but a field is missing or of the wrong kind.
    #[error("the bundle is damaged: copy it again, or make a new one")]
    Damaged(#[source] serde_json::Error),
    /// The snapshot, alone or in a bundle.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A value has no JSON form.
    #[error("writing the bundle as JSON")]
    Unwritable(#[source] serde_json::Error),
}
