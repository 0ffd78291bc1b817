//! Whatever stands in a host's names, paths, texts and addresses: nothing of it is left in a bundle
//! with pseudonyms, and it is judged as the one with names.
//!
//! The values are written out in full and without `..`, so that a new field needs its secret here.

mod dice;

use std::collections::BTreeMap;

use ctkeeper_bundle::{Bundle, Details, Key, Saved};
use ctkeeper_diagnosis::{Thresholds, diagnose};
use ctkeeper_flow::Protocol;
use ctkeeper_snapshot::{
    Assignment, Container, Doubles, EarlyLoad, EntrySize, EvidenceSource, Expectations, Forecast,
    ForecastSource, ForecastValue, FullReports, Gap, GapKind, Holder, HolderShare, KernelLog,
    Largest, Limit, Limits, LogExcerpt, LogLine, Memory, ModuleState, Namespace, NamespaceProcess,
    Network, Origin, Pod, PortGroup, Proxy, Rates, Reader, Reservation, SCHEMA, Sample, Service,
    SettingKey, Settings, SettingsFile, SettingsLine, Snapshot, Statistic, Statistics, System,
    Taken, Timeouts, Tracker, Tracking, Unanswered, Unattributed,
};
use dice::Dice;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_secret_is_left(seed in any::<u64>(), key in any::<[u8; 32]>()) {
        let mut dice = Dice::new(seed);
        let named = bundle(&mut dice);
        let original = named.to_json().unwrap();
        let anonymous = named.anonymized(&Key::new(key)).unwrap().to_json().unwrap();
        prop_assert!(dice.secrets.len() > 30);
        for secret in &dice.secrets {
            prop_assert!(original.contains(secret), "{secret} is in no field");
            prop_assert!(!anonymous.contains(secret), "{secret} is left in {anonymous}");
        }
    }

    #[test]
    fn the_diagnosis_is_the_same(seed in any::<u64>(), key in any::<[u8; 32]>()) {
        let named = bundle(&mut Dice::new(seed));
        let anonymous = named.clone().anonymized(&Key::new(key)).unwrap();
        let judged = |bundle: &Bundle| {
            let report = diagnose(&bundle.snapshot, &bundle.thresholds());
            let findings = report.findings.iter().map(|f| (f.id, f.severity)).collect::<Vec<_>>();
            (report.verdict, report.exit_code, findings)
        };
        prop_assert_eq!(judged(&named), judged(&anonymous));
        prop_assert_eq!(
            serde_json::to_value(diagnose(&anonymous.snapshot, &anonymous.thresholds())).unwrap(),
            anonymous.report
        );
    }

    #[test]
    fn a_bundle_survives_its_file(seed in any::<u64>()) {
        let named = bundle(&mut Dice::new(seed));
        let read = Saved::from_json(&named.to_json().unwrap()).unwrap();
        // Numbers with decimals lose their last digit on the way through JSON; findings do not.
        let Saved::Bundle(read) = read else { panic!("a bundle is no snapshot") };
        prop_assert_eq!(read.recorded(), named.recorded());
        prop_assert_eq!(&read.snapshot, &named.snapshot);
        prop_assert_eq!(read.thresholds(), named.thresholds());
    }
}

#[test]
fn names_of_harmless_words_go_too() {
    let mut dice = Dice::new(1);
    let mut named = bundle(&mut dice);
    named.snapshot.namespaces[0].names = vec!["the system host".to_owned()];
    named.snapshot.namespaces[1].names = vec!["default".to_owned()];
    named.snapshot.gaps[0].cause = "reading the system host: denied".to_owned();
    let anonymous = named.anonymized(&Key::new([1; 32])).unwrap();
    let given = &anonymous.snapshot.namespaces[0].names[0];
    assert!(given.starts_with("name-"));
    assert_eq!(anonymous.snapshot.gaps[0].cause, format!("reading {given}: denied"));
    assert!(anonymous.snapshot.namespaces[1].names[0].starts_with("name-"));
}

#[test]
fn the_same_name_has_the_same_pseudonym_in_every_field() {
    let mut named = bundle(&mut Dice::new(2));
    named.snapshot.taken.hostname = "acme-7".to_owned();
    named.snapshot.namespaces[0].names = vec!["acme-7".to_owned()];
    named.snapshot.namespaces[0].processes[0].command = "acme-7".to_owned();
    named.snapshot.gaps[0].what = "what acme-7 did".to_owned();
    named.kernel_log.lines[0].text = "acme-7: SRC=203.0.113.7".to_owned();
    named.kernel_log.lines[1].text = "to 203.0.113.7:53, 203.0.113.9".to_owned();
    let one = named.clone().anonymized(&Key::new([1; 32])).unwrap();
    let name = one.snapshot.taken.hostname.clone();
    assert_eq!(one.snapshot.namespaces[0].names, std::slice::from_ref(&name));
    assert_eq!(one.snapshot.namespaces[0].processes[0].command, name);
    assert_eq!(one.snapshot.gaps[0].what, format!("what {name} did"));
    let address = one.kernel_log.lines[0].text.strip_prefix(&format!("{name}: SRC=")).unwrap();
    let network = address.rsplit_once('.').unwrap().0;
    let other = &one.kernel_log.lines[1].text;
    assert!(other.starts_with(&format!("to {address}:53, {network}.")), "{other}");
    assert_ne!(named.anonymized(&Key::new([2; 32])).unwrap().snapshot.taken.hostname, name);
}

fn bundle(dice: &mut Dice) -> Bundle {
    let thresholds = Thresholds { nearly_full_warning: 0.7, ..Thresholds::default() };
    let details = Details {
        system: System {
            distribution: Some(format!("Debian {}", dice.secret())),
            kernel_build: format!("#1 SMP {}", dice.secret()),
            architecture: dice.secret(),
        },
        settings_lines: (0..3).map(|_| settings_line(dice)).collect(),
        kernel_log: LogExcerpt {
            lines: (0..4).map(|_| LogLine { at_ms: dice.number(), text: dice.text() }).collect(),
            left_out: dice.number(),
        },
    };
    Bundle::new(snapshot(dice), &thresholds, details).unwrap()
}

fn settings_line(dice: &mut Dice) -> SettingsLine {
    SettingsLine {
        file: dice.path().into(),
        line: 7,
        kind: dice.one_of(&[
            SettingsFile::Sysctl,
            SettingsFile::Modprobe,
            SettingsFile::ModulesLoad,
            SettingsFile::Udev,
            SettingsFile::CommandLine,
        ]),
        text: dice.text(),
        masked: dice.flip(),
    }
}

fn snapshot(dice: &mut Dice) -> Snapshot {
    let namespaces: Vec<_> = (0..3).map(|index| namespace(dice, index)).collect();
    Snapshot {
        schema: SCHEMA.to_owned(),
        taken: taken(dice),
        module: dice.one_of(&[ModuleState::BuiltIn, ModuleState::Loaded, ModuleState::Absent]),
        limits: Some(limits(dice)),
        memory: memory(dice),
        log: log(dice, &namespaces),
        namespaces,
        settings: settings(dice),
        unfinished_change: dice.flip().then(|| dice.text()),
        gaps: (0..3).map(|_| gap(dice)).collect(),
    }
}

fn taken(dice: &mut Dice) -> Taken {
    Taken {
        unix_ms: dice.number(),
        boottime_ms: 10_000_000,
        boot_id: dice.secret(),
        hostname: dice.secret(),
        kernel: format!("6.1.0-18-{}", dice.secret()),
        cpus: 2,
        ctkeeper: format!("0.1.0+{}", dice.secret()),
        in_initial_namespace: dice.flip(),
    }
}

fn limits(dice: &mut Dice) -> Limits {
    Limits { limit: Limit(dice.one_of(&[0, 1000, 262_144])), buckets: dice.one_of(&[64, 262_144]) }
}

fn memory(dice: &mut Dice) -> Memory {
    let owners =
        [format!("cgroup {} memory.min", dice.path()), format!("kubelet {}", dice.secret())];
    let owner = |(dice, owner): (&mut Dice, String)| Reservation {
        owner,
        bytes: dice.number(),
        file: dice.path(),
    };
    let mut reservations = Vec::new();
    for name in owners {
        reservations.push(owner((dice, name)));
    }
    Memory {
        total: 1 << 30,
        available: dice.one_of(&[1 << 20, 1 << 29]),
        reservations,
        entry: EntrySize { object: 256, extension: 128, measured: dice.flip() },
        slab_entries: Some(dice.number()),
    }
}

fn log(dice: &mut Dice, namespaces: &[Namespace]) -> KernelLog {
    let report = |namespace| FullReports {
        namespace,
        lines: 12,
        first_ms: Some(9_000_000),
        last_ms: Some(9_990_000),
    };
    let named = namespaces.first().map(|namespace| namespace.inode);
    KernelLog {
        readable: true,
        full: vec![report(named), report(None)],
        expectations_full: vec![report(None)],
        suppressed: dice.number(),
    }
}

fn namespace(dice: &mut Dice, index: u64) -> Namespace {
    let names = [
        dice.secret(),
        dice.path(),
        format!("container {}", dice.secret()),
        format!("docker sandbox {}", dice.secret()),
        format!("pod {}", dice.secret()),
    ];
    Namespace {
        inode: 4_026_531_840 + index,
        initial: index == 0,
        names: names.into(),
        processes: (0..2).map(|_| process(dice)).collect(),
        count: dice.one_of(&[0, 800, 1000, 262_144]),
        limit: Limit(dice.one_of(&[0, 1000, 262_144])),
        statistics: Some(statistics(dice)),
        statistics_per_cpu: vec![statistics(dice), statistics(dice)],
        rates: dice.flip().then(|| rates(dice)),
        sample: Some(sample(dice)),
        timeouts: Some(timeouts(dice)),
        tracking: Some(tracking(dice)),
        expectations: Some(Expectations { count: 4096, limit: 4096 }),
        doubles: Some(Doubles { other: 4_026_531_840, asked: 64, found: 60 }),
        holders: holders(dice),
    }
}

fn process(dice: &mut Dice) -> NamespaceProcess {
    NamespaceProcess { pid: 4711, command: dice.secret(), cgroup: Some(dice.path()) }
}

fn statistics(dice: &mut Dice) -> Statistics {
    let mut statistics = Statistics::default();
    for statistic in Statistic::ALL {
        statistics.set(statistic, dice.one_of(&[0, 7, 5000]));
    }
    statistics
}

fn rates(dice: &mut Dice) -> Rates {
    Rates {
        since: dice.one_of(&[EvidenceSource::Window, EvidenceSource::LastRun]),
        window_ms: dice.one_of(&[10, 2000, 700_000]),
        count_change: dice.one_of(&[-100, 0, 100]),
        statistics: statistics(dice),
    }
}

fn sample(dice: &mut Dice) -> Sample {
    Sample {
        size: 500,
        exact: dice.flip(),
        assured: dice.one_of(&[5, 490]),
        locked: dice.one_of(&[5, 490]),
        established: dice.one_of(&[5, 490]),
        established_idle: dice.one_of(&[5, 490]),
        established_idle_median: Some(7000),
        closing: dice.one_of(&[5, 490]),
        unreplied: dice.one_of(&[5, 490]),
        unanswered: Unanswered {
            source: Some(Largest { what: dice.address(), entries: dice.one_of(&[3, 400]) }),
            network: Some(Largest {
                what: Network::around(dice.address_of_a_network()),
                entries: dice.one_of(&[3, 400]),
            }),
            destination: Some(Largest { what: service(dice), entries: dice.one_of(&[3, 400]) }),
        },
        port_groups: vec![PortGroup {
            translated_to: dice.address(),
            destination: service(dice),
            entries: dice.one_of(&[3, 400]),
            ports: dice.one_of(&[3, 400]),
            lowest: 1024,
            highest: 1424,
        }],
        proxies: vec![Proxy {
            command: dice.secret(),
            pid: 4711,
            processes: 2,
            ports: vec![80, 443],
            front: dice.one_of(&[3, 240]),
            back: dice.one_of(&[3, 240]),
            back_ends: 4,
        }],
    }
}

fn holders(dice: &mut Dice) -> Vec<HolderShare> {
    let container = Container {
        id: dice.secret(),
        name: Some(dice.secret()),
        image: Some(dice.secret()),
        runtime: Some("docker".to_owned()),
    };
    let pod = Pod {
        namespace: Some(dice.secret()),
        name: Some(dice.secret()),
        uid: dice.secret(),
        container: Some(container.clone()),
    };
    let held = [
        Holder::Container(container),
        Holder::Pod(pod),
        Holder::Unit { name: dice.secret() },
        Holder::Process { name: dice.secret(), pid: 4711 },
        Holder::Namespace { inode: 4_026_531_840, name: dice.secret() },
        Holder::Unattributed(Unattributed::Gone { address: dice.address() }),
    ];
    held.map(|holder| HolderShare { holder, share: 0.16, margin: 0.01 }).into()
}

fn service(dice: &mut Dice) -> Service {
    Service { address: dice.address(), protocol: Protocol::TCP, port: Some(443) }
}

fn timeouts(dice: &mut Dice) -> Timeouts {
    let known = ("tcp_timeout_established".to_owned(), dice.one_of(&[7200, 432_000]));
    Timeouts(BTreeMap::from([known, (dice.secret(), 5)]))
}

fn tracking(dice: &mut Dice) -> Tracking {
    let places = [
        format!("nftables inet {} {} handle 7 (dormant)", dice.secret(), dice.secret()),
        format!("iptables-legacy {}", dice.secret()),
    ];
    let tracker = |(place, what)| Tracker { place, what, needed: false, drops: false };
    let whats = [format!("ct state, {}", dice.secret()), dice.text()];
    Tracking {
        trackers: places.into_iter().zip(whats).map(tracker).collect(),
        complete: dice.flip(),
    }
}

fn settings(dice: &mut Dice) -> Settings {
    Settings {
        assignments: vec![assignment(dice), assignment(dice)],
        early_load: early_load(dice),
        forecasts: vec![forecast(dice, Reader::Systemd), forecast(dice, Reader::Procps)],
        kernel_default: Some(limits(dice)),
        limit_origin: origin(dice),
        buckets_origin: origin(dice),
        other_writers: vec!["kube-proxy".to_owned(), dice.secret()],
    }
}

fn early_load(dice: &mut Dice) -> EarlyLoad {
    match dice.one_of(&[0, 1, 2, 3]) {
        0 => EarlyLoad::BuiltIn,
        1 => EarlyLoad::ModulesLoad { file: dice.path().into(), line: 3, module: dice.secret() },
        2 => EarlyLoad::UdevRule { file: dice.path().into(), line: 3 },
        _ => EarlyLoad::Nothing,
    }
}

fn assignment(dice: &mut Dice) -> Assignment {
    Assignment {
        key: dice.one_of(&[SettingKey::Limit, SettingKey::Buckets]),
        text: dice.secret(),
        value: dice.one_of(&[None, Some(1000), Some(262_144)]),
        file: dice.path().into(),
        line: 12,
        module_option: dice.flip(),
        readers: vec![Reader::Systemd],
    }
}

fn forecast(dice: &mut Dice, reader: Reader) -> Forecast {
    Forecast { reader, limit: forecast_value(dice), buckets: forecast_value(dice) }
}

fn forecast_value(dice: &mut Dice) -> ForecastValue {
    ForecastValue {
        value: dice.one_of(&[None, Some(1000), Some(262_144)]),
        source: match dice.one_of(&[0, 1, 2, 3]) {
            0 => ForecastSource::KernelDefault,
            1 => ForecastSource::Sysctl { assignment: assignment(dice) },
            2 => ForecastSource::ModuleOption { assignment: assignment(dice) },
            _ => ForecastSource::Refused { assignment: assignment(dice) },
        },
        lost: dice.flip().then(|| assignment(dice)),
    }
}

fn origin(dice: &mut Dice) -> Origin {
    match dice.one_of(&[0, 1, 2, 3]) {
        0 => Origin::KernelDefault,
        1 => Origin::File { assignment: assignment(dice) },
        2 => Origin::SomebodyElse,
        _ => Origin::Unknown,
    }
}

fn gap(dice: &mut Dice) -> Gap {
    Gap {
        kind: dice.one_of(&[GapKind::Privilege, GapKind::Unavailable, GapKind::BrokenFile]),
        what: dice.text(),
        cause: dice.text(),
        remedy: dice.text(),
    }
}
