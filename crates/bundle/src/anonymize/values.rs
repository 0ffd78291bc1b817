//! What becomes of every field of a bundle.
//!
//! Every struct is taken apart by name and without `..`: a field added to the snapshot does not
//! compile here. Say what becomes of it: [`plain`] for numbers and the like (it takes neither
//! texts nor addresses), [`Pseudonyms::name`] for a name that somebody chose, [`Pseudonyms::path`] for a path,
//! [`Pseudonyms::text`] for a sentence. Then put a secret into it in `tests/secrets.rs`.

mod namespace;
mod settings;

use ctkeeper_flow::Protocol;
use ctkeeper_snapshot::{
    EntrySize, EvidenceSource, FullReports, Gap, GapKind, KernelLog, Limit, Limits, LogExcerpt,
    LogLine, Memory, ModuleState, Reader, Reservation, SettingKey, SettingsFile, Snapshot,
    Statistics, System, Taken,
};

use super::pseudonym::Pseudonyms;
use crate::Bundle;

/// A value with pseudonyms in it.
pub(super) trait Anonymize: Sized {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self;
}

impl<T: Anonymize> Anonymize for Option<T> {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        self.map(|value| value.anonymized(pseudonyms))
    }
}

impl<T: Anonymize> Anonymize for Vec<T> {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        self.into_iter().map(|value| value.anonymized(pseudonyms)).collect()
    }
}

/// What says nothing of anybody and stays.
fn plain<T: Plain>(value: T) -> T {
    value
}

/// Numbers and choices. An address is none of them, and a struct of the snapshot is taken apart
/// instead: it may get one.
trait Plain {}

impl<T: Plain> Plain for Option<T> {}
impl Plain for bool {}
impl Plain for f64 {}
impl Plain for i64 {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for EvidenceSource {}
impl Plain for GapKind {}
impl Plain for Limit {}
impl Plain for Limits {}
impl Plain for ModuleState {}
impl Plain for Protocol {}
impl Plain for Reader {}
impl Plain for SettingKey {}
impl Plain for SettingsFile {}
impl Plain for Statistics {}

impl Anonymize for Bundle {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self {
            schema: _,
            anonymized: _,
            system,
            report,
            thresholds,
            settings_lines,
            kernel_log,
            snapshot,
        } = self;
        Self {
            schema: crate::SCHEMA.to_owned(),
            anonymized: true,
            system: system.anonymized(pseudonyms),
            // The caller makes both anew.
            report,
            thresholds,
            settings_lines: settings_lines.anonymized(pseudonyms),
            kernel_log: kernel_log.anonymized(pseudonyms),
            snapshot: snapshot.anonymized(pseudonyms),
        }
    }
}

impl Anonymize for System {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { distribution, kernel_build, architecture } = self;
        Self {
            distribution: distribution.map(|text| pseudonyms.version(&text)),
            kernel_build: pseudonyms.version(&kernel_build),
            architecture: pseudonyms.version(&architecture),
        }
    }
}

impl Anonymize for LogExcerpt {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { lines, left_out } = self;
        Self { lines: lines.anonymized(pseudonyms), left_out: plain(left_out) }
    }
}

impl Anonymize for LogLine {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { at_ms, text } = self;
        Self { at_ms: plain(at_ms), text: pseudonyms.text(&text) }
    }
}

impl Anonymize for Snapshot {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self {
            schema: _,
            taken,
            module,
            limits,
            memory,
            namespaces,
            settings,
            log,
            unfinished_change,
            gaps,
        } = self;
        Self {
            schema: ctkeeper_snapshot::SCHEMA.to_owned(),
            taken: taken.anonymized(pseudonyms),
            module: plain(module),
            limits: plain(limits),
            memory: memory.anonymized(pseudonyms),
            namespaces: namespaces.anonymized(pseudonyms),
            settings: settings.anonymized(pseudonyms),
            log: log.anonymized(pseudonyms),
            unfinished_change: unfinished_change.map(|change| pseudonyms.text(&change)),
            gaps: gaps.anonymized(pseudonyms),
        }
    }
}

/// When it was stays: a ticket means nothing without.
impl Anonymize for Taken {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self {
            unix_ms,
            boottime_ms,
            boot_id,
            hostname,
            kernel,
            cpus,
            ctkeeper,
            in_initial_namespace,
        } = self;
        Self {
            unix_ms: plain(unix_ms),
            boottime_ms: plain(boottime_ms),
            boot_id: pseudonyms.name(&boot_id),
            hostname: pseudonyms.name(&hostname),
            kernel: pseudonyms.version(&kernel),
            cpus: plain(cpus),
            ctkeeper: pseudonyms.version(&ctkeeper),
            in_initial_namespace: plain(in_initial_namespace),
        }
    }
}

impl Anonymize for Memory {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { total, available, reservations, entry, slab_entries } = self;
        let EntrySize { object, extension, measured } = entry;
        Self {
            total: plain(total),
            available: plain(available),
            reservations: reservations.anonymized(pseudonyms),
            entry: EntrySize {
                object: plain(object),
                extension: plain(extension),
                measured: plain(measured),
            },
            slab_entries: plain(slab_entries),
        }
    }
}

impl Anonymize for Reservation {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { owner, bytes, file } = self;
        Self {
            owner: pseudonyms.reservation_owner(&owner),
            bytes: plain(bytes),
            // A file, or the option of a command.
            file: if file.starts_with('/') {
                pseudonyms.path(&file)
            } else {
                pseudonyms.text(&file)
            },
        }
    }
}

impl Anonymize for KernelLog {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { readable, full, expectations_full, suppressed } = self;
        Self {
            readable: plain(readable),
            full: full.anonymized(pseudonyms),
            expectations_full: expectations_full.anonymized(pseudonyms),
            suppressed: plain(suppressed),
        }
    }
}

impl Anonymize for FullReports {
    fn anonymized(self, _pseudonyms: &mut Pseudonyms) -> Self {
        let Self { namespace, lines, first_ms, last_ms } = self;
        Self {
            namespace: plain(namespace),
            lines: plain(lines),
            first_ms: plain(first_ms),
            last_ms: plain(last_ms),
        }
    }
}

impl Anonymize for Gap {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { kind, what, cause, remedy } = self;
        Self {
            kind: plain(kind),
            what: pseudonyms.text(&what),
            cause: pseudonyms.text(&cause),
            remedy: pseudonyms.text(&remedy),
        }
    }
}
