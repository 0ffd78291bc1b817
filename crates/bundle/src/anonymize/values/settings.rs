//! What files say, and what comes of it.

use std::path::PathBuf;

use ctkeeper_snapshot::{
    Assignment, EarlyLoad, Forecast, ForecastSource, ForecastValue, Origin, Settings, SettingsLine,
};

use super::{Anonymize, plain};
use crate::anonymize::pseudonym::Pseudonyms;

impl Anonymize for Settings {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self {
            assignments,
            early_load,
            forecasts,
            kernel_default,
            limit_origin,
            buckets_origin,
            other_writers,
        } = self;
        Self {
            assignments: assignments.anonymized(pseudonyms),
            early_load: early_load.anonymized(pseudonyms),
            forecasts: forecasts.anonymized(pseudonyms),
            kernel_default: plain(kernel_default),
            limit_origin: limit_origin.anonymized(pseudonyms),
            buckets_origin: buckets_origin.anonymized(pseudonyms),
            other_writers: other_writers.iter().map(|name| pseudonyms.command(name)).collect(),
        }
    }
}

impl Anonymize for Assignment {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { key, text, value, file, line, module_option, readers } = self;
        Self {
            key: plain(key),
            text: pseudonyms.text(&text),
            value: plain(value),
            file: file.anonymized(pseudonyms),
            line: plain(line),
            module_option: plain(module_option),
            readers: readers.into_iter().map(plain).collect(),
        }
    }
}

impl Anonymize for EarlyLoad {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        match self {
            Self::ModulesLoad { file, line, module } => Self::ModulesLoad {
                file: file.anonymized(pseudonyms),
                line: plain(line),
                module: pseudonyms.text(&module),
            },
            Self::UdevRule { file, line } => {
                Self::UdevRule { file: file.anonymized(pseudonyms), line: plain(line) }
            }
            Self::BuiltIn => Self::BuiltIn,
            Self::Nothing => Self::Nothing,
        }
    }
}

impl Anonymize for Forecast {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { reader, limit, buckets } = self;
        Self {
            reader: plain(reader),
            limit: limit.anonymized(pseudonyms),
            buckets: buckets.anonymized(pseudonyms),
        }
    }
}

impl Anonymize for ForecastValue {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { value, source, lost } = self;
        Self {
            value: plain(value),
            source: source.anonymized(pseudonyms),
            lost: lost.anonymized(pseudonyms),
        }
    }
}

impl Anonymize for ForecastSource {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        match self {
            Self::KernelDefault => Self::KernelDefault,
            Self::Sysctl { assignment } => {
                Self::Sysctl { assignment: assignment.anonymized(pseudonyms) }
            }
            Self::ModuleOption { assignment } => {
                Self::ModuleOption { assignment: assignment.anonymized(pseudonyms) }
            }
            Self::Refused { assignment } => {
                Self::Refused { assignment: assignment.anonymized(pseudonyms) }
            }
        }
    }
}

impl Anonymize for Origin {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        match self {
            Self::File { assignment } => {
                Self::File { assignment: assignment.anonymized(pseudonyms) }
            }
            Self::KernelDefault => Self::KernelDefault,
            Self::SomebodyElse => Self::SomebodyElse,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl Anonymize for SettingsLine {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { file, line, kind, text, masked } = self;
        Self {
            file: file.anonymized(pseudonyms),
            line: plain(line),
            kind: plain(kind),
            text: pseudonyms.text(&text),
            masked: plain(masked),
        }
    }
}

impl Anonymize for PathBuf {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        pseudonyms.path(&self.to_string_lossy()).into()
    }
}
