//! What becomes of every field of a bundle.
//!
//! Every struct is taken apart by name and without `..`: a field added to the snapshot does not
//! compile here. Say what becomes of it: [`plain`] for numbers and the like (it takes neither
//! texts nor addresses), [`Pseudonyms::name`] for a name that somebody chose, [`Pseudonyms::path`] for a path,
//! [`Pseudonyms::text`] for a sentence. Then put a secret into it in `tests/secrets.rs`.

use std::net::IpAddr;
use std::path::PathBuf;

use ctkeeper_flow::Protocol;
use ctkeeper_snapshot::{
    Assignment, EarlyLoad, EntrySize, EvidenceSource, Forecast, ForecastSource, ForecastValue,
    FullReports, Gap, GapKind, KernelLog, Largest, Limit, Limits, LogExcerpt, LogLine, Memory,
    ModuleState, Namespace, NamespaceProcess, Network, Origin, PortGroup, Proxy, Rates, Reader,
    Reservation, Sample, Service, SettingKey, Settings, SettingsFile, SettingsLine, Snapshot,
    Statistics, System, Taken, Timeouts, Tracker, Tracking, Unanswered,
};

use super::pseudonym::Pseudonyms;
use super::{address, words};
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

impl Anonymize for PathBuf {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        pseudonyms.path(&self.to_string_lossy()).into()
    }
}

/// What says nothing of anybody and stays.
fn plain<T: Plain>(value: T) -> T {
    value
}

/// Numbers and choices. An address is none of them.
trait Plain {}

impl<T: Plain> Plain for Option<T> {}
impl Plain for bool {}
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

/// Its inode is a number that the kernel counts up to: it stays, as the log's lines mean it.
impl Anonymize for Namespace {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self {
            inode,
            initial,
            names,
            processes,
            count,
            limit,
            statistics,
            statistics_per_cpu,
            rates,
            sample,
            timeouts,
            tracking,
        } = self;
        Self {
            inode: plain(inode),
            initial: plain(initial),
            names: names.iter().map(|name| pseudonyms.namespace_name(name)).collect(),
            processes: processes.anonymized(pseudonyms),
            count: plain(count),
            limit: plain(limit),
            statistics: plain(statistics),
            statistics_per_cpu: statistics_per_cpu.into_iter().map(plain).collect(),
            rates: rates.anonymized(pseudonyms),
            sample: sample.anonymized(pseudonyms),
            timeouts: timeouts.anonymized(pseudonyms),
            tracking: tracking.anonymized(pseudonyms),
        }
    }
}

impl Anonymize for NamespaceProcess {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { pid, command, cgroup } = self;
        Self {
            pid: plain(pid),
            command: pseudonyms.command(&command),
            cgroup: cgroup.map(|path| pseudonyms.path(&path)),
        }
    }
}

impl Anonymize for Rates {
    fn anonymized(self, _pseudonyms: &mut Pseudonyms) -> Self {
        let Self { since, window_ms, count_change, statistics } = self;
        Self {
            since: plain(since),
            window_ms: plain(window_ms),
            count_change: plain(count_change),
            statistics: plain(statistics),
        }
    }
}

impl Anonymize for Sample {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self {
            size,
            exact,
            assured,
            locked,
            established,
            established_idle,
            established_idle_median,
            closing,
            unreplied,
            unanswered,
            port_groups,
            proxies,
        } = self;
        Self {
            size: plain(size),
            exact: plain(exact),
            assured: plain(assured),
            locked: plain(locked),
            established: plain(established),
            established_idle: plain(established_idle),
            established_idle_median: plain(established_idle_median),
            closing: plain(closing),
            unreplied: plain(unreplied),
            unanswered: unanswered.anonymized(pseudonyms),
            port_groups: port_groups.anonymized(pseudonyms),
            proxies: proxies.anonymized(pseudonyms),
        }
    }
}

impl Anonymize for Unanswered {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { source, network, destination } = self;
        Self {
            source: source.anonymized(pseudonyms),
            network: network.anonymized(pseudonyms),
            destination: destination.anonymized(pseudonyms),
        }
    }
}

impl<T: Anonymize> Anonymize for Largest<T> {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { what, entries } = self;
        Self { what: what.anonymized(pseudonyms), entries: plain(entries) }
    }
}

impl Anonymize for PortGroup {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { translated_to, destination, entries, ports, lowest, highest } = self;
        Self {
            translated_to: translated_to.anonymized(pseudonyms),
            destination: destination.anonymized(pseudonyms),
            entries: plain(entries),
            ports: plain(ports),
            lowest: plain(lowest),
            highest: plain(highest),
        }
    }
}

impl Anonymize for Service {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { address, protocol, port } = self;
        Self {
            address: address.anonymized(pseudonyms),
            protocol: plain(protocol),
            port: plain(port),
        }
    }
}

impl Anonymize for Network {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { address, prefix } = self;
        Self {
            address: address::prefix(pseudonyms, address, u32::from(prefix)),
            prefix: plain(prefix),
        }
    }
}

impl Anonymize for IpAddr {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        address::address(pseudonyms, self)
    }
}

/// Its ports stay: they name services, not machines.
impl Anonymize for Proxy {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { command, pid, processes, ports, front, back, back_ends } = self;
        Self {
            command: pseudonyms.command(&command),
            pid: plain(pid),
            processes: plain(processes),
            ports: ports.into_iter().map(plain).collect(),
            front: plain(front),
            back: plain(back),
            back_ends: plain(back_ends),
        }
    }
}

/// Their names are the kernel's.
impl Anonymize for Timeouts {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self(seconds) = self;
        Self(
            seconds.into_iter().map(|(name, time)| (pseudonyms.text(&name), plain(time))).collect(),
        )
    }
}

impl Anonymize for Tracking {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { trackers, complete } = self;
        Self { trackers: trackers.anonymized(pseudonyms), complete: plain(complete) }
    }
}

impl Anonymize for Tracker {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { place, what, needed } = self;
        Self {
            place: pseudonyms.rule_place(&place),
            what: pseudonyms.text(&what),
            needed: plain(needed),
        }
    }
}

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

impl Anonymize for KernelLog {
    fn anonymized(self, pseudonyms: &mut Pseudonyms) -> Self {
        let Self { readable, full, suppressed } = self;
        Self {
            readable: plain(readable),
            full: full.anonymized(pseudonyms),
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

/// Names whose form is known.
impl Pseudonyms {
    /// A namespace's name: given by somebody, a path, or made from an id.
    fn namespace_name(&mut self, name: &str) -> String {
        const KINDS: [&str; 3] = ["container ", "docker sandbox ", "pod "];
        let kind = KINDS.into_iter().find(|kind| name.starts_with(kind)).unwrap_or("");
        match name.strip_prefix(kind) {
            Some(id) if !kind.is_empty() => format!("{kind}{}", self.name(id)),
            _ if name.starts_with('/') => self.path(name),
            _ => self.name(name),
        }
    }

    /// A process' command name; that of a widely used program stays.
    fn command(&mut self, command: &str) -> String {
        if words::is_program(command) { command.to_owned() } else { self.name(command) }
    }

    /// `cgroup PATH FILE`, where the path may hold blanks; `kubelet systemReserved`.
    fn reservation_owner(&mut self, owner: &str) -> String {
        match owner.strip_prefix("cgroup ").and_then(|rest| rest.rsplit_once(' ')) {
            Some((path, file)) => format!("cgroup {} {}", self.path(path), self.text(file)),
            None => self.text(owner),
        }
    }

    /// `nftables FAMILY TABLE CHAIN handle N`, where table and chain may hold blanks.
    fn rule_place(&mut self, place: &str) -> String {
        let parts = place.strip_prefix("nftables ").and_then(|rest| {
            let (names, handle) = rest.rsplit_once(" handle ")?;
            let (family, names) = names.split_once(' ')?;
            Some((family, names, handle))
        });
        let Some((family, names, handle)) = parts else { return self.text(place) };
        let names: Vec<_> = names.split(' ').map(|name| self.rule_name(name)).collect();
        let (family, handle) = (self.text(family), self.text(handle));
        format!("nftables {family} {} handle {handle}", names.join(" "))
    }

    /// The name of a table or chain; one that comes with widely used programs stays.
    fn rule_name(&mut self, name: &str) -> String {
        if words::is_rule_name(name) { name.to_owned() } else { self.name(name) }
    }

    /// A version, of a kernel or distribution: numbers and known words, part by part.
    fn version(&self, version: &str) -> String {
        let is_between = |c: char| c.is_ascii_whitespace() || "-+._/()#:~,".contains(c);
        let whole = |part: &str| {
            let word = part.trim_end_matches(is_between);
            let stays = word.bytes().all(|byte| byte.is_ascii_digit())
                || words::is_word(word.trim_end_matches(|c: char| c.is_ascii_digit()))
                || words::is_word(word);
            let given = if stays { word.to_owned() } else { self.of(word) };
            given + &part[word.len()..]
        };
        version.split_inclusive(is_between).map(whole).collect()
    }
}
