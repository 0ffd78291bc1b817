//! Snapshots to change a little.

use ctkeeper_diagnosis::{Severity, Thresholds, diagnose};
use ctkeeper_snapshot::*;

/// A host without a care: 1,000 of 262,144 entries, everything at the kernel's defaults.
pub(crate) fn healthy() -> Snapshot {
    let value = |value| ForecastValue {
        value: Some(value),
        source: ForecastSource::KernelDefault,
        lost: None,
    };
    let forecast = |reader| Forecast { reader, limit: value(262_144), buckets: value(262_144) };
    let limits = Limits { limit: Limit(262_144), buckets: 262_144 };
    Snapshot {
        schema: SCHEMA.to_owned(),
        taken: Taken {
            boottime_ms: 90_000_000,
            hostname: "web-lb-3".to_owned(),
            in_initial_namespace: true,
            ..Taken::default()
        },
        module: ModuleState::Loaded,
        limits: Some(limits),
        memory: Memory { total: 16 << 30, available: 12 << 30, ..Memory::default() },
        namespaces: vec![namespace(1000)],
        settings: Settings {
            assignments: Vec::new(),
            early_load: EarlyLoad::Nothing,
            forecasts: vec![forecast(Reader::Systemd), forecast(Reader::Procps)],
            kernel_default: Some(limits),
            limit_origin: Origin::KernelDefault,
            buckets_origin: Origin::KernelDefault,
            other_writers: Vec::new(),
        },
        log: KernelLog { readable: true, ..KernelLog::default() },
        unfinished_change: None,
        gaps: Vec::new(),
    }
}

pub(crate) fn namespace(count: u64) -> Namespace {
    Namespace {
        inode: 4_026_531_833,
        initial: true,
        count,
        limit: Limit(262_144),
        ..Namespace::default()
    }
}

/// A snapshot with one namespace as told, else healthy.
pub(crate) fn with(change: impl Fn(&mut Namespace)) -> Snapshot {
    let mut snapshot = healthy();
    change(&mut snapshot.namespaces[0]);
    snapshot
}

#[expect(clippy::unnecessary_wraps, reason = "it fills an optional field")]
pub(crate) fn moved(counters: &[(Statistic, u64)]) -> Option<Rates> {
    let mut statistics = Statistics::default();
    for (statistic, value) in counters {
        statistics.set(*statistic, *value);
    }
    Some(Rates { since: EvidenceSource::Window, window_ms: 2000, count_change: 0, statistics })
}

pub(crate) fn ids(snapshot: &Snapshot) -> Vec<(&'static str, Severity)> {
    let report = diagnose(snapshot, &Thresholds::default());
    report.findings.iter().map(|finding| (finding.id, finding.severity)).collect()
}
