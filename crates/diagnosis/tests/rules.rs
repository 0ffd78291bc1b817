//! Each rule: the snapshot that raises it, and the nearest healthy one that must not.
//!
//! The experiments on the real kernel stand in the repository's `tests/`; these pin the numbers at
//! which the rules turn.

mod common;

use common::{healthy, ids, moved, namespace, with};
use ctkeeper_diagnosis::{RULES, Severity, Thresholds, Verdict, diagnose, rule};
use ctkeeper_snapshot::*;

fn line(value: u64, file: &str) -> Assignment {
    Assignment {
        key: SettingKey::Limit,
        text: value.to_string(),
        value: Some(value),
        file: file.into(),
        line: 3,
        module_option: false,
        readers: vec![Reader::Systemd, Reader::Procps],
    }
}

#[test]
fn a_healthy_host_has_no_findings() {
    assert_eq!(ids(&healthy()), []);
    let report = diagnose(&healthy(), &Thresholds::default());
    assert_eq!((report.verdict, report.exit_code), (Verdict::Ok, 0));
}

#[test]
fn full_is_drops_at_the_limit() {
    let full = with(|n| {
        n.count = 262_144;
        n.rates = moved(&[(Statistic::Drop, 624)]);
    });
    assert_eq!(ids(&full), [("table-full", Severity::Critical)]);
    let report = diagnose(&full, &Thresholds::default());
    assert_eq!(report.exit_code, 2);
    assert!(report.findings[0].headline.contains("312 packets/s"), "{report:?}");
}

#[test]
fn a_table_that_was_full_is_a_warning() {
    let was = with(|n| n.rates = moved(&[(Statistic::Drop, 5)]));
    assert_eq!(ids(&was), [("table-full", Severity::Warning)]);
}

#[test]
fn nearly_full_turns_at_its_thresholds() {
    for (count, expected) in [
        (209_000, None),
        (210_000, Some(Severity::Warning)),
        (250_000, Some(Severity::Critical)),
        (262_144, Some(Severity::Critical)),
    ] {
        let found: Vec<_> = ids(&with(|n| n.count = count)).into_iter().map(|f| f.1).collect();
        assert_eq!(found.first().copied(), expected, "{count}");
    }
}

#[test]
fn growth_warns_before_the_ratio_does() {
    let growing = |per_window| {
        with(|n| {
            n.count = 140_000;
            n.rates = moved(&[]);
            n.rates.as_mut().unwrap().count_change = per_window;
        })
    };
    assert_eq!(ids(&growing(500)), [("nearly-full", Severity::Warning)]);
    assert_eq!(ids(&growing(10)), []);
}

#[test]
fn a_soft_table_is_no_cliff() {
    let soft = |count| {
        with(|n| {
            n.count = count;
            n.sample = Some(Sample { size: 5000, assured: 100, locked: 50, ..Sample::default() });
        })
    };
    let soft_and = |nearly_full| [("nearly-full", nearly_full), ("soft", Severity::Note)];
    let mut near = ids(&soft(260_000));
    near.sort_unstable();
    assert_eq!(near, soft_and(Severity::Warning));
    assert_eq!(ids(&soft(215_000)), soft_and(Severity::Note));
    let half = with(|n| {
        n.count = 260_000;
        n.sample = Some(Sample { size: 5000, assured: 2600, locked: 2600, ..Sample::default() });
    });
    assert!(!ids(&half).iter().any(|(id, _)| ["soft", "locked"].contains(id)));
}

#[test]
fn a_locked_table_is() {
    let locked = |count| {
        with(|n| {
            n.count = count;
            n.sample =
                Some(Sample { size: 5000, assured: 4950, locked: 4900, ..Sample::default() });
        })
    };
    assert_eq!(
        ids(&locked(260_000)),
        [("nearly-full", Severity::Critical), ("locked", Severity::Warning)]
    );
    assert_eq!(ids(&locked(140_000)), [("locked", Severity::Note)]);
    assert_eq!(ids(&locked(100_000)), []);
}

#[test]
fn the_seeds_fix_builds_the_second_wall() {
    // The seed: 65,536 entries by default, raised to 600,000; the buckets stay.
    let mut snapshot = healthy();
    snapshot.limits = Some(Limits { limit: Limit(600_000), buckets: 65_536 });
    assert!(ids(&snapshot).contains(&("second-wall", Severity::Warning)));
    snapshot.limits = Some(Limits { limit: Limit(600_000), buckets: 600_064 });
    assert!(!ids(&snapshot).iter().any(|(id, _)| *id == "second-wall"));
}

#[test]
fn chains_that_refuse_are_critical() {
    let refused = [(Statistic::ChainTooLong, 40), (Statistic::InsertFailed, 40)];
    let wall = with(|n| n.rates = moved(&refused));
    assert_eq!(ids(&wall), [("second-wall", Severity::Critical)]);
}

#[test]
fn memory_is_held_against_what_is_free() {
    let mut snapshot = healthy();
    for (available, expected) in [
        (2 << 30, None),
        (900 << 20, Some(Severity::Note)),
        (150 << 20, Some(Severity::Warning)),
        (90 << 20, Some(Severity::Critical)),
    ] {
        snapshot.memory.available = available;
        let found = ids(&snapshot).into_iter().find(|(id, _)| *id == "memory-at-limit");
        assert_eq!(found.map(|f| f.1), expected, "{available}");
    }
}

#[test]
fn the_worst_case_alone_is_no_finding() {
    let mut snapshot = healthy();
    // 500 namespaces at the limit would take 47 GiB: printed, never judged.
    snapshot.namespaces = (0..500).map(|_| namespace(10)).collect();
    assert_eq!(ids(&snapshot), []);
}

#[test]
fn no_limit_is_noted() {
    let mut snapshot = healthy();
    snapshot.limits = Some(Limits { limit: Limit::UNLIMITED, buckets: 262_144 });
    snapshot.namespaces[0].limit = Limit::UNLIMITED;
    snapshot.settings.forecasts.clear();
    assert_eq!(ids(&snapshot), [("unlimited", Severity::Note)]);
}

#[test]
fn a_value_that_no_file_holds_is_not_persisted() {
    let mut snapshot = healthy();
    snapshot.limits = Some(Limits { limit: Limit(400_000), buckets: 262_144 });
    snapshot.settings.limit_origin = Origin::SomebodyElse;
    assert_eq!(ids(&snapshot), [("not-persisted", Severity::Warning)]);
}

#[test]
fn a_line_read_too_early_is_lost() {
    let mut snapshot = healthy();
    snapshot.limits = Some(Limits { limit: Limit(400_000), buckets: 262_144 });
    let lost = line(400_000, "/etc/sysctl.conf");
    snapshot.settings.forecasts[0].limit.lost = Some(lost);
    assert_eq!(ids(&snapshot), [("lost-at-boot", Severity::Warning)]);
}

#[test]
fn a_line_that_says_otherwise_differs() {
    let mut snapshot = healthy();
    let held = |value| ForecastValue {
        value: Some(value),
        source: ForecastSource::Sysctl { assignment: line(value, "/etc/sysctl.d/90-ct.conf") },
        lost: None,
    };
    for forecast in &mut snapshot.settings.forecasts {
        forecast.limit = held(400_000);
    }
    assert_eq!(ids(&snapshot), [("differs-from-persisted", Severity::Warning)]);
    snapshot.limits = Some(Limits { limit: Limit(400_000), buckets: 262_144 });
    assert_eq!(ids(&snapshot), []);
    snapshot.settings.forecasts[1].limit = held(500_000);
    assert_eq!(ids(&snapshot), [("readers-disagree", Severity::Warning)]);
}

#[test]
fn a_containers_files_say_nothing_about_the_host() {
    let mut snapshot = healthy();
    snapshot.taken.in_initial_namespace = false;
    snapshot.limits = Some(Limits { limit: Limit(400_000), buckets: 262_144 });
    assert_eq!(ids(&snapshot), []);
}

#[test]
fn idle_connections_need_a_long_timeout_and_a_large_share() {
    let idle = |timeout, idle| {
        with(|n| {
            n.count = 50_000;
            n.timeouts = Some(Timeouts([("tcp_timeout_established".to_owned(), timeout)].into()));
            n.sample = Some(Sample {
                size: 1000,
                assured: 600,
                established: 600,
                established_idle: idle,
                ..Sample::default()
            });
        })
    };
    assert_eq!(ids(&idle(432_000, 500)), [("idle-established", Severity::Note)]);
    assert_eq!(ids(&idle(432_000, 100)), []);
    assert_eq!(ids(&idle(7440, 500)), []);
}

#[test]
fn tracking_that_nothing_needs_is_noted() {
    let tracked = |needed, complete| {
        let place = "nftables inet filter input handle 4".to_owned();
        let tracker = Tracker { place, what: "ct state".to_owned(), needed, drops: false };
        with(|n| n.tracking = Some(Tracking { trackers: vec![tracker.clone()], complete }))
    };
    assert_eq!(ids(&tracked(false, true)), [("why-tracked", Severity::Note)]);
    assert_eq!(ids(&tracked(true, true)), []);
    assert_eq!(ids(&tracked(false, false)), []);
}

#[test]
fn two_entries_need_a_ratio_and_a_size() {
    let proxied = |count, front, back, back_ends| {
        let command = "haproxy".to_owned();
        let proxy = Proxy { command, front, back, back_ends, ..Proxy::default() };
        let assured = 1000;
        with(|n| {
            n.count = count;
            let proxies = vec![proxy.clone()];
            n.sample = Some(Sample { size: 1000, assured, proxies, ..Sample::default() });
        })
    };
    assert_eq!(ids(&proxied(12_000, 500, 500, 3)), [("two-entries", Severity::Note)]);
    let crowded = ids(&proxied(150_000, 500, 500, 3));
    assert!(crowded.contains(&("two-entries", Severity::Warning)), "{crowded:?}");
    // Too few to matter; back ends reused; a forward proxy, whose ends are all different.
    for healthy in [(10_000, 500, 500, 3), (100_000, 900, 60, 3), (12_000, 500, 500, 500)] {
        let (count, front, back, ends) = healthy;
        assert_eq!(ids(&proxied(count, front, back, ends)), [], "{healthy:?}");
    }
    let report = diagnose(&proxied(12_000, 500, 500, 3), &Thresholds::default());
    let text = &report.findings[0].summary;
    assert!(text.contains("2.0 entries") && text.contains("5,964 entries fewer"), "{text}");
    assert_eq!(report.findings[0].remedies[0].command, "mode http");
}

#[test]
fn log_lines_age() {
    let logged = |last_ms| {
        let mut snapshot = healthy();
        let namespace = Some(4_026_531_833);
        let full = FullReports { namespace, lines: 7, first_ms: None, last_ms: Some(last_ms) };
        snapshot.log.full = vec![full];
        snapshot
    };
    assert_eq!(ids(&logged(89_000_000)), [("kernel-log", Severity::Warning)]);
    assert_eq!(ids(&logged(1_000_000)), [("kernel-log", Severity::Note)]);
    // A namespace that never dropped a packet has inherited the number of one that has gone.
    let mut inherited = logged(89_000_000);
    let mut statistics = Statistics::default();
    statistics.set(Statistic::Drop, 0);
    inherited.namespaces[0].statistics = Some(statistics);
    assert_eq!(ids(&inherited), [("kernel-log", Severity::Note)]);
}

#[test]
fn what_was_not_seen_is_not_green() {
    for (kind, id, exit_code) in [
        (GapKind::Privilege, Some("privilege-missing"), 3),
        (GapKind::BrokenFile, Some("broken-file"), 1),
        (GapKind::Unavailable, Some("incomplete-view"), 0),
        (GapKind::Vanished, None, 0),
    ] {
        let mut snapshot = healthy();
        let text = String::new;
        snapshot.gaps = vec![Gap { kind, what: text(), cause: text(), remedy: text() }];
        let report = diagnose(&snapshot, &Thresholds::default());
        assert_eq!(report.findings.first().map(|f| f.id), id);
        assert_eq!(report.exit_code, exit_code, "{kind:?}");
    }
}

#[test]
fn a_host_without_the_module_is_ok() {
    let mut snapshot = healthy();
    snapshot.module = ModuleState::Absent;
    snapshot.limits = None;
    snapshot.namespaces.clear();
    assert_eq!(ids(&snapshot), [("module-absent", Severity::Note)]);
}

#[test]
fn nothing_seen_is_no_green() {
    let mut snapshot = healthy();
    snapshot.namespaces.clear();
    assert_eq!(ids(&snapshot), [("nothing-seen", Severity::Unknown)]);
    snapshot.module = ModuleState::Unknown;
    assert_eq!(diagnose(&snapshot, &Thresholds::default()).exit_code, 3);
}

#[test]
fn a_wall_of_five_days_ago_is_no_emergency() {
    let mut snapshot = with(|n| n.rates = moved(&[(Statistic::ChainTooLong, 5)]));
    snapshot.namespaces[0].rates.as_mut().unwrap().window_ms = 5 * 86_400_000;
    assert_eq!(ids(&snapshot), [("second-wall", Severity::Warning)]);
}

#[test]
fn memory_that_was_not_read_is_not_judged() {
    let mut snapshot = healthy();
    (snapshot.memory.total, snapshot.memory.available) = (0, 0);
    assert_eq!(ids(&snapshot), []);
}

#[test]
fn an_interrupted_change_is_a_warning() {
    let mut snapshot = healthy();
    snapshot.unfinished_change = Some("begun at 14:02, 2 of 5 steps".to_owned());
    assert_eq!(ids(&snapshot), [("unfinished-change", Severity::Warning)]);
}

#[test]
fn every_rule_explains_itself() {
    for rule in RULES {
        let text = rule.explanation;
        for part in [rule.title, text.why, text.evidence, text.remedies] {
            assert!(!part.is_empty(), "{}", rule.id);
        }
    }
    assert!(rule("table-full").is_some());
    assert!(rule("no-such-rule").is_none());
}

#[test]
fn a_snapshot_survives_its_json() {
    let snapshot = healthy();
    assert_eq!(Snapshot::from_json(&snapshot.to_json().unwrap()).unwrap(), snapshot);
    let other = snapshot.to_json().unwrap().replace("snapshot/1", "snapshot/9");
    assert!(matches!(Snapshot::from_json(&other), Err(SnapshotError::OtherSchema { .. })));
    assert!(matches!(Snapshot::from_json("{}"), Err(SnapshotError::NotASnapshot(_))));
    assert!(Snapshot::from_json("{\"schema\":\"ctkeeper.snapshot/1\"}").is_err());
}
