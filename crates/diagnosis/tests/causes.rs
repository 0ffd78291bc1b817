//! Causes that counters and entries tell apart: what raises each rule, and its neighbours, which
//! must not. The numbers are those of experiments on Linux 6.18.

mod common;

use common::{healthy, ids, moved, with};
use ctkeeper_diagnosis::{Finding, Severity, Thresholds, diagnose};
use ctkeeper_snapshot::*;

const GATEWAY: &str = "192.0.2.1";

/// Translated entries to one destination, seen in a sample.
fn group(entries: u64, lowest: u16, highest: u16) -> PortGroup {
    let protocol = ctkeeper_flow::Protocol::TCP;
    let address = "203.0.113.7".parse().unwrap();
    PortGroup {
        translated_to: GATEWAY.parse().unwrap(),
        destination: Service { address, protocol, port: Some(443) },
        entries,
        ports: entries,
        lowest,
        highest,
    }
}

#[test]
fn a_container_may_track_what_its_host_tracks() {
    let doubled = |count, found| {
        let mut snapshot = healthy();
        let rule = |place: &str| {
            let (place, what) = (place.to_owned(), "dnat".to_owned());
            Tracker { place, what, needed: true, drops: false }
        };
        let trackers = vec![rule("nftables ip nat DOCKER_OUTPUT handle 4")];
        let mut container = snapshot.namespaces[0].clone();
        (container.inode, container.initial, container.count) = (7, false, count);
        container.doubles = Some(Doubles { other: snapshot.namespaces[0].inode, asked: 64, found });
        container.tracking = Some(Tracking { trackers, complete: true });
        snapshot.namespaces.push(container);
        snapshot
    };
    assert_eq!(ids(&doubled(2000, 62)), [("tracked-twice", Severity::Note)]);
    let crowded = ids(&doubled(150_000, 62));
    assert!(crowded.contains(&("tracked-twice", Severity::Warning)), "{crowded:?}");
    // Too few, or mostly its own.
    assert_eq!(ids(&doubled(900, 62)), []);
    assert_eq!(ids(&doubled(10_000, 20)), []);
    let report = diagnose(&doubled(2000, 62), &Thresholds::default());
    let text = &report.findings[0].summary;
    assert!(text.contains("host") && text.contains("embedded DNS"), "{text}");
}

#[test]
fn expectations_have_a_limit_of_their_own() {
    let expecting = |count| with(|n| n.expectations = Some(Expectations { count, limit: 4096 }));
    assert_eq!(ids(&expecting(4096)), [("expectations-full", Severity::Critical)]);
    assert_eq!(ids(&expecting(3300)), [("expectations-full", Severity::Warning)]);
    assert_eq!(ids(&expecting(3200)), []);
}

#[test]
fn logged_expectations_warn_until_the_table_itself_speaks() {
    let lines =
        FullReports { namespace: None, lines: 4, first_ms: None, last_ms: Some(89_990_000) };
    let mut logged = healthy();
    logged.log.expectations_full = vec![lines.clone()];
    assert_eq!(ids(&logged), [("kernel-log", Severity::Warning)]);
    logged.namespaces[0].expectations = Some(Expectations { count: 4096, limit: 4096 });
    let known = [("expectations-full", Severity::Critical), ("kernel-log", Severity::Note)];
    assert_eq!(ids(&logged), known);
    let mut old = healthy();
    old.log.expectations_full = vec![FullReports { last_ms: Some(1000), ..lines }];
    assert_eq!(ids(&old), [("kernel-log", Severity::Note)]);
}

#[expect(clippy::unnecessary_wraps, reason = "it fills an optional field")]
fn sample(size: u64, exact: bool, port_groups: &[PortGroup]) -> Option<Sample> {
    Some(Sample {
        size,
        exact,
        port_groups: port_groups.to_vec(),
        assured: size,
        ..Sample::default()
    })
}

/// Packets that found their place taken, after so many searches.
fn refused(packets: u64, found: u64) -> Option<Rates> {
    moved(&[
        (Statistic::Drop, packets),
        (Statistic::InsertFailed, packets),
        (Statistic::Found, found),
    ])
}

fn finding(snapshot: &Snapshot, id: &str) -> Finding {
    let report = diagnose(snapshot, &Thresholds::default());
    report.findings.into_iter().find(|finding| finding.id == id).unwrap()
}

#[test]
fn ports_that_are_used_up_have_a_name() {
    let snat = with(|n| {
        (n.count, n.rates) = (101, refused(600, 41_537));
        n.sample = sample(101, true, &[group(100, 20_000, 20_099)]);
    });
    assert_eq!(ids(&snat), [("snat-ports", Severity::Critical)]);
    let found = finding(&snat, "snat-ports");
    assert!(found.summary.contains("100 of 100 ports of 192.0.2.1"), "{found:?}");
    assert!(found.summary.contains("tcp 203.0.113.7:443"), "{found:?}");
    assert!(found.remedies[1].command.contains("reply-sport 443 reply-dst 192.0.2.1"), "{found:?}");
}

#[test]
fn a_whole_range_is_seen_through_a_sample() {
    let snat = with(|n| {
        (n.count, n.rates) = (200_000, refused(50, 9000));
        n.sample = sample(5000, false, &[group(1600, 1030, 65_500), group(300, 32_768, 60_999)]);
    });
    assert_eq!(ids(&snat), [("snat-ports", Severity::Critical)]);
    let found = finding(&snat, "snat-ports");
    assert!(found.summary.contains("about 64,000 of 64,600 ports"), "{found:?}");
}

/// The search gives up while a third of the ports is free.
#[test]
fn a_search_that_fails_early_is_a_warning() {
    let early = with(|n| {
        (n.count, n.rates) = (86_742, refused(12, 30_575));
        n.sample = sample(5000, false, &[group(2650, 1040, 65_500), group(280, 32_800, 60_900)]);
    });
    assert_eq!(ids(&early), [("snat-ports", Severity::Warning)]);
    assert!(finding(&early, "snat-ports").remedies[0].effect.contains("fully-random"));
}

/// A range so small that the kernel does not count its search.
#[test]
fn a_handful_of_ports_can_be_used_up() {
    let snat = with(|n| {
        (n.count, n.rates) = (10, refused(20, 0));
        n.sample = sample(10, true, &[group(10, 20_000, 20_009)]);
    });
    assert_eq!(ids(&snat), [("snat-ports", Severity::Critical)]);
}

#[test]
fn taken_places_with_ports_left_are_clashes() {
    // Two threads, source ports kept by translation: hardly any search.
    let race = with(|n| {
        (n.count, n.rates) = (5126, refused(4874, 256));
        n.sample = sample(5000, false, &[group(4900, 1100, 64_000)]);
    });
    assert_eq!(ids(&race), [("clash", Severity::Warning)]);
    // Beside the searches of a busy gateway, whose largest group has room.
    let busy = with(|n| {
        (n.count, n.rates) = (40_000, refused(3, 40_000));
        n.sample = sample(5000, false, &[group(700, 1030, 65_500)]);
    });
    assert_eq!(ids(&busy), [("clash", Severity::Note)]);
    // One client with every port of its own in use: nobody searches.
    let client = with(|n| {
        (n.count, n.rates) = (28_232, refused(30, 0));
        n.sample = sample(5000, false, &[group(5000, 32_768, 60_999)]);
    });
    assert_eq!(ids(&client), [("clash", Severity::Warning)]);
}

#[test]
fn a_group_out_of_sight_is_told_by_long_searches() {
    let hidden = with(|n| {
        (n.count, n.rates) = (120_000, refused(600, 69 * 600));
        n.sample = sample(5000, false, &[group(4, 20_000, 20_070)]);
    });
    assert_eq!(ids(&hidden), [("snat-ports", Severity::Warning)]);
    // Where every entry was seen nothing is out of sight.
    let seen = with(|n| {
        (n.count, n.rates) = (120, refused(600, 69 * 600));
        n.sample = sample(120, true, &[group(40, 1024, 65_000)]);
    });
    assert_eq!(ids(&seen), [("clash", Severity::Warning)]);
}

#[test]
fn old_refusals_are_graver_for_nobody() {
    let old = |searches: u64| {
        with(|n| {
            let mut rates = refused(9000, 9000 * searches).unwrap();
            (rates.window_ms, rates.since) = (3_600_000, EvidenceSource::LastRun);
            n.rates = Some(rates);
            n.sample = sample(1000, true, &[]);
        })
    };
    assert_eq!(ids(&old(100)), [("snat-ports", Severity::Warning)]);
    assert_eq!(ids(&old(0)), [("clash", Severity::Warning)]);
}

#[test]
fn settled_clashes_and_netlinks_failures_refuse_no_packet() {
    let settled = with(|n| n.rates = moved(&[(Statistic::ClashResolve, 4990)]));
    assert_eq!(ids(&settled), []);
    let netlink = with(|n| n.rates = moved(&[(Statistic::InsertFailed, 500)]));
    assert_eq!(ids(&netlink), []);
}

#[test]
fn chains_too_long_are_no_clash() {
    let chains = with(|n| {
        n.rates = moved(&[(Statistic::InsertFailed, 500), (Statistic::ChainTooLong, 500)]);
    });
    assert_eq!(ids(&chains), [("second-wall", Severity::Critical)]);
}

/// Half-open entries at the limit, from a block of sources to one service.
fn flood(n: &mut Namespace, evicted: u64, refused: u64) {
    n.count = 262_144;
    n.rates = moved(&[(Statistic::EarlyDrop, evicted), (Statistic::Drop, refused)]);
    n.sample = Some(Sample {
        size: 5000,
        unreplied: 5000,
        unanswered: Unanswered {
            source: Some(Largest { what: "198.51.100.9".parse().unwrap(), entries: 40 }),
            network: Some(Largest {
                what: Network::around("198.51.100.9".parse().unwrap()),
                entries: 4000,
            }),
            destination: Some(Largest { what: group(1, 1, 1).destination, entries: 5000 }),
        },
        ..Sample::default()
    });
}

#[test]
fn evictions_that_suffice_are_a_finding_of_their_own() {
    let flooded = with(|n| flood(n, 20_000, 0));
    assert_eq!(ids(&flooded), [("early-drop", Severity::Warning)]);
    let found = finding(&flooded, "early-drop");
    assert!(found.headline.contains("10,000 entries/s"), "{found:?}");
    assert!(found.summary.contains("from 198.51.100.0/24 to tcp 203.0.113.7:443"), "{found:?}");
    assert!(found.meaning.contains("26 s on average"), "{found:?}");
}

#[test]
fn one_refused_beside_thousands_evicted_is_no_full_table() {
    let flooded = with(|n| flood(n, 2418, 1));
    assert_eq!(ids(&flooded), [("early-drop", Severity::Warning)]);
    let one_in_fifty = with(|n| flood(n, 980, 20));
    assert_eq!(ids(&one_in_fifty)[0], ("table-full", Severity::Critical));
}

#[test]
fn a_lone_clash_is_chance() {
    let clashes = |packets| {
        let counters = [(Statistic::Drop, packets), (Statistic::InsertFailed, packets)];
        ids(&with(|n| n.rates = moved(&counters)))
    };
    assert_eq!(clashes(2), []);
    assert_eq!(clashes(3), [("clash", Severity::Note)]);
}

#[test]
fn evictions_that_do_not_suffice_stand_beside_the_refusals() {
    let flooded = with(|n| flood(n, 522, 1478));
    assert_eq!(
        ids(&flooded),
        [("table-full", Severity::Critical), ("early-drop", Severity::Warning)]
    );
    let full = finding(&flooded, "table-full");
    assert!(full.meaning.contains("about 73.9 % of the new connections"), "{full:?}");
    // A full table of established connections in which a few were evicted is full, no more.
    let full = with(|n| {
        flood(n, 3, 600);
        let sample = n.sample.as_mut().unwrap();
        (sample.assured, sample.locked, sample.unreplied) = (4990, 4990, 10);
    });
    assert_eq!(ids(&full), [("table-full", Severity::Critical)]);
}

#[test]
fn a_few_invalid_packets_are_normal() {
    let invalid = |packets, count| {
        ids(&with(|n| (n.count, n.rates) = (count, moved(&[(Statistic::Invalid, packets)]))))
    };
    assert_eq!(invalid(20, 1000), []);
    assert_eq!(invalid(60, 1000), [("invalid-packets", Severity::Note)]);
    assert_eq!(invalid(600, 1000), [("invalid-packets", Severity::Warning)]);
    // As many beside a hundred thousand connections are their usual leftovers.
    assert_eq!(invalid(180, 100_000), []);
}

#[test]
fn invalid_packets_that_nothing_acts_on_are_a_note() {
    let mut snapshot = with(|n| n.rates = moved(&[(Statistic::Invalid, 10_000)]));
    let tracker = |needed| Tracker {
        place: "nftables inet filter in handle 4".to_owned(),
        what: "ct state".to_owned(),
        needed,
        drops: needed,
    };
    let tracking = |needed| Some(Tracking { trackers: vec![tracker(needed)], complete: true });
    snapshot.namespaces[0].tracking = tracking(false);
    assert_eq!(ids(&snapshot)[0], ("invalid-packets", Severity::Note));
    snapshot.namespaces[0].tracking = tracking(true);
    assert_eq!(ids(&snapshot), [("invalid-packets", Severity::Warning)]);
    let found = finding(&snapshot, "invalid-packets");
    assert!(found.summary.contains("inet filter in handle 4 drops"), "{found:?}");
}

#[test]
fn every_cause_stays_silent_on_a_healthy_host() {
    assert_eq!(ids(&healthy()), []);
}
