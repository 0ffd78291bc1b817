//! Plans over tables of cases, and properties that hold for every one.

use ctkeeper_snapshot::{
    Assignment, EarlyLoad, EntrySize, EvidenceSource, Forecast, ForecastSource, ForecastValue,
    FullReports, KernelLog, Memory, Namespace, Origin, Rates, Reader, SCHEMA, Settings, Statistic,
    Statistics, Taken,
};
use proptest::prelude::*;

use super::*;
use ctkeeper_snapshot::ModuleState;

const GIB: u64 = 1 << 30;

/// A healthy host: the kernel's default limit, one namespace, nothing in files.
fn host(limit: u64, buckets: u64, available: u64, counts: &[u64]) -> Snapshot {
    let limits = Limits { limit: Limit(limit), buckets };
    Snapshot {
        schema: SCHEMA.to_owned(),
        taken: Taken { boottime_ms: 3_600_000, in_initial_namespace: true, ..Taken::default() },
        module: ModuleState::Loaded,
        limits: Some(limits),
        memory: Memory {
            total: available,
            available,
            entry: EntrySize { measured: true, ..EntrySize::default() },
            ..Memory::default()
        },
        namespaces: counts.iter().enumerate().map(|(i, c)| namespace(i, *c, limit)).collect(),
        settings: Settings {
            assignments: Vec::new(),
            early_load: EarlyLoad::Nothing,
            forecasts: forecasts(limits, &ForecastSource::KernelDefault),
            kernel_default: Some(limits),
            limit_origin: Origin::KernelDefault,
            buckets_origin: Origin::KernelDefault,
            other_writers: Vec::new(),
        },
        log: KernelLog::default(),
        unfinished_change: None,
        gaps: Vec::new(),
    }
}

fn namespace(index: usize, count: u64, limit: u64) -> Namespace {
    Namespace {
        inode: 4_026_531_833 + index as u64,
        initial: index == 0,
        names: vec![format!("ns{index}")],
        count,
        limit: Limit(limit),
        ..Namespace::default()
    }
}

fn forecasts(limits: Limits, source: &ForecastSource) -> Vec<Forecast> {
    let value = |value| ForecastValue { value: Some(value), source: source.clone(), lost: None };
    [Reader::Systemd, Reader::Procps]
        .map(|reader| Forecast {
            reader,
            limit: value(limits.limit.0),
            buckets: value(limits.buckets),
        })
        .to_vec()
}

/// The line of the user's own fix: `/etc/sysctl.conf`, which systemd comes to through a link.
fn sysctl_conf(value: u64) -> Assignment {
    Assignment {
        key: SettingKey::Limit,
        text: value.to_string(),
        value: Some(value),
        file: "/etc/sysctl.conf".into(),
        line: 70,
        module_option: false,
        readers: vec![Reader::Systemd, Reader::Procps],
    }
}

/// A host where that line is lost at boot, as the module comes later.
fn with_lost_line(mut snapshot: Snapshot, value: u64) -> Snapshot {
    snapshot.settings.assignments.push(sysctl_conf(value));
    for forecast in &mut snapshot.settings.forecasts {
        forecast.limit.lost = Some(sysctl_conf(value));
    }
    snapshot
}

fn rates(window_ms: u64, count_change: i64, dropped: u64) -> Rates {
    let mut statistics = Statistics::default();
    statistics.set(Statistic::Drop, dropped);
    Rates { since: EvidenceSource::LastRun, window_ms, count_change, statistics }
}

/// What the host is after the plan: as `apply` leaves it.
fn applied(mut snapshot: Snapshot, plan: &Plan, persist: Persist) -> Snapshot {
    if persist.running() {
        snapshot.limits = Some(plan.after);
        for namespace in &mut snapshot.namespaces {
            namespace.limit = plan.after.limit;
        }
    }
    if persist.files() && !plan.files.is_empty() {
        let wins = Assignment { file: SYSCTL_FILE.into(), ..sysctl_conf(plan.after.limit.0) };
        snapshot.settings.assignments.clear();
        snapshot.settings.forecasts =
            forecasts(plan.after, &ForecastSource::Sysctl { assignment: wins });
    }
    snapshot
}

fn request() -> Request {
    Request::default()
}

fn target(entries: u64) -> Request {
    Request { target: Some(entries), ..request() }
}

fn limits(limit: u64, buckets: u64) -> Limits {
    Limits { limit: Limit(limit), buckets }
}

#[test]
fn a_healthy_host_needs_nothing() {
    let plan = plan(&host(262_144, 262_144, 16 * GIB, &[1000]), &request()).unwrap();
    assert!(plan.is_nothing(), "{plan:?}");
    assert!(plan.why(About::Limit).any(|why| why.contains("enough")));
}

#[test]
fn a_full_table_gets_four_times_the_room() {
    let plan = plan(&host(262_144, 262_144, 16 * GIB, &[262_144]), &request()).unwrap();
    assert_eq!(plan.after, limits(1_048_576, 1_048_576));
    let order: Vec<_> = plan.running.iter().map(|step| step.key).collect();
    assert_eq!(order, [SettingKey::Buckets, SettingKey::Limit]);
    let files: Vec<_> = plan.files.iter().map(|step| step.path().to_str().unwrap()).collect();
    assert_eq!(files, [MODULES_LOAD_FILE, MODPROBE_FILE, SYSCTL_FILE]);
}

#[test]
fn refused_packets_count_unless_older_than_the_last_change() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[200_000]);
    snapshot.namespaces[0].rates = Some(rates(600_000, 0, 312));
    assert_eq!(plan(&snapshot, &request()).unwrap().after.limit, Limit(1_048_576));
    let since = Request { changed_at: Some(3_500_000), ..request() };
    assert_eq!(plan(&snapshot, &since).unwrap().after.limit, Limit(524_288));
}

#[test]
fn ports_that_run_out_are_no_reason_for_a_higher_limit() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[130_000]);
    let mut moved = rates(60_000, 0, 600);
    moved.statistics.set(Statistic::InsertFailed, 600);
    snapshot.namespaces[0].rates = Some(moved);
    assert!(plan(&snapshot, &request()).unwrap().is_nothing());
}

/// An attacker's burst, or one of short-lived entries: the table is nearly empty again.
#[test]
fn packets_refused_are_a_reason_whatever_the_table_holds_now() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[10]);
    snapshot.namespaces[0].rates = Some(rates(60_000, 0, 312));
    let plan = plan(&snapshot, &request()).unwrap();
    assert_eq!(plan.after.limit, Limit(1_048_576));
    assert!(plan.why(About::Limit).any(|why| why.contains("312 packets refused")), "{plan:?}");
}

#[test]
fn without_a_number_for_memory_nothing_is_planned() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[262_144]);
    (snapshot.memory.total, snapshot.memory.available) = (0, 0);
    for request in [request(), target(524_288)] {
        let refusal = plan(&snapshot, &request).unwrap_err();
        assert!(matches!(refusal, Refusal::MemoryUnreadable { .. }), "{refusal}");
    }
    // With nothing free, no limit is named that would fit.
    (snapshot.memory.total, snapshot.memory.available) = (GIB, 0);
    let refusal = plan(&snapshot, &target(524_288)).unwrap_err();
    assert!(!refusal.to_string().contains("--target 0"), "{refusal}");
}

#[test]
fn buckets_alone_may_rise_where_the_whole_does_not_fit_and_it_is_said() {
    let plan = plan(&host(600_000, 512, 256 << 20, &[100]), &request()).unwrap();
    assert_eq!(plan.after, limits(600_000, buckets_in_kernel(300_000)));
    assert!(!plan.memory.holds() && plan.memory.bucket_bytes <= plan.memory.budget);
    assert!(plan.notes.iter().any(|note| note.contains("only buckets are raised")), "{plan:?}");
    assert!(plan.notes.iter().all(|note| !note.contains("nothing is raised")), "{plan:?}");
}

#[test]
fn a_log_line_of_last_night_is_a_reason() {
    let mut snapshot = host(65_536, 65_536, 16 * GIB, &[1000]);
    let report =
        FullReports { namespace: None, lines: 10, first_ms: Some(5000), last_ms: Some(9000) };
    snapshot.log.full.push(report);
    assert_eq!(plan(&snapshot, &request()).unwrap().after.limit, Limit(262_144));
    let since = Request { changed_at: Some(10_000), ..request() };
    assert!(plan(&snapshot, &since).unwrap().is_nothing());
    // A limit set by hand may be the answer to that line.
    snapshot.settings.limit_origin = Origin::SomebodyElse;
    let by_hand = plan(&snapshot, &request()).unwrap();
    assert!(by_hand.running.is_empty());
    assert!(by_hand.notes.iter().any(|note| note.contains("--target N")), "{by_hand:?}");
}

#[test]
fn growth_is_carried_no_further_than_the_look_supports() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[100_000]);
    // 100 more a second for a minute: an hour ahead is 460,000, kept under half.
    snapshot.namespaces[0].rates = Some(rates(60_000, 6000, 0));
    assert_eq!(plan(&snapshot, &request()).unwrap().after.limit, Limit(1_048_576));
    // The same in a look of one second speaks for a minute: 106,000.
    snapshot.namespaces[0].rates = Some(rates(1000, 100, 0));
    assert!(plan(&snapshot, &request()).unwrap().is_nothing());
}

#[test]
fn the_seeds_limit_on_one_gibibyte_is_possible_by_saying_so() {
    let snapshot = host(65_536, 65_536, 800 << 20, &[65_536]);
    let refusal = plan(&snapshot, &target(600_000)).unwrap_err();
    let share = refusal.memory_share_that_allows().unwrap();
    assert!(refusal.to_string().contains(&format!("--memory-share {share}%")), "{refusal}");
    let told = Request { memory_share: share as f64 / 100.0, ..target(600_000) };
    let plan = plan(&snapshot, &told).unwrap();
    assert_eq!(plan.after.limit, Limit(600_000));
    assert!(plan.memory.holds());
}

#[test]
fn without_a_target_memory_cuts_and_says_so() {
    let plan = plan(&host(65_536, 65_536, 800 << 20, &[65_536]), &request()).unwrap();
    assert!((65_537..262_144).contains(&plan.after.limit.0), "{plan:?}");
    assert!(plan.memory.holds());
    assert!(plan.why(About::Limit).any(|why| why.contains("cut down to the memory budget")));
}

#[test]
fn a_full_table_without_memory_is_a_refusal_with_the_way_out() {
    let mut snapshot = host(262_144, 262_144, 800 << 20, &[262_144]);
    let refusal = plan(&snapshot, &request()).unwrap_err();
    assert!(matches!(refusal, Refusal::BeyondMemory { limit: 1_048_576, .. }), "{refusal}");
    // With other things to do they are done, and the refusal is a note.
    snapshot.limits = Some(limits(262_144, 6144));
    let plan = plan(&snapshot, &request()).unwrap();
    assert_eq!(plan.after, limits(262_144, 131_072));
    assert!(plan.notes.iter().any(|note| note.contains("--memory-share")), "{plan:?}");
}

#[test]
fn other_namespaces_and_reservations_take_their_part() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[200_000, 100_000]);
    let memory = plan(&snapshot, &request()).unwrap().memory;
    assert_eq!(memory.needed, (524_288 + 150_000) * 384 + 524_288 * 8);
    assert_eq!(memory.worst_case, 2 * 524_288 * 384 + 524_288 * 8);
    snapshot.memory.reservations.push(ctkeeper_snapshot::Reservation {
        owner: "kubelet".to_owned(),
        bytes: 15 * GIB,
        file: String::new(),
    });
    let refusal = plan(&snapshot, &target(1_048_576)).unwrap_err();
    assert!(matches!(refusal, Refusal::BeyondMemory { free: GIB, .. }), "{refusal}");
}

#[test]
fn a_target_below_what_runs_is_refused_and_lowering_goes_limit_first() {
    let snapshot = host(262_144, 6144, 16 * GIB, &[10, 70_000]);
    let refusal = plan(&snapshot, &target(65_536)).unwrap_err();
    assert!(refusal.to_string().contains("ns1"), "{refusal}");
    let plan = plan(&snapshot, &target(131_072)).unwrap();
    let order: Vec<_> = plan.running.iter().map(|step| step.key).collect();
    assert_eq!(order, [SettingKey::Limit, SettingKey::Buckets]);
}

#[test]
fn targets_outside_the_kernels_range_are_refused() {
    let snapshot = host(262_144, 262_144, 16 * GIB, &[10]);
    for entries in [0, LIMIT_LARGEST + 1, u64::MAX] {
        let refusal = plan(&snapshot, &target(entries)).unwrap_err();
        assert_eq!(refusal, Refusal::OutOfRange { target: entries });
    }
    for share in [0.0, -1.0, 1.01, f64::NAN] {
        let request = Request { memory_share: share, ..request() };
        assert!(matches!(plan(&snapshot, &request), Err(Refusal::ImpossibleShare(_))));
    }
}

#[test]
fn an_unlimited_table_has_nothing_to_raise() {
    let snapshot = host(0, 262_144, 16 * GIB, &[500_000]);
    let refusal = plan(&snapshot, &request()).unwrap_err();
    assert_eq!(refusal, Refusal::Unlimited { suggestion: 1_048_576 });
    let plan = plan(&snapshot, &target(1_048_576)).unwrap();
    assert_eq!(plan.running.first().map(|step| step.key), Some(SettingKey::Limit));
}

#[test]
fn few_buckets_are_the_second_wall() {
    let plan = plan(&host(600_000, 6144, 16 * GIB, &[100]), &request()).unwrap();
    assert_eq!(plan.after, limits(600_000, 600_064));
    assert!(plan.why(About::Buckets).any(|why| why.contains("98")), "{plan:?}");
}

#[test]
fn a_line_lost_at_boot_is_what_the_owner_wanted() {
    let snapshot = with_lost_line(host(65_536, 65_536, 16 * GIB, &[10]), 600_000);
    let plan = plan(&snapshot, &request()).unwrap();
    assert_eq!(plan.after, limits(600_000, 600_064));
    assert!(plan.why(About::Limit).any(|why| why.contains("/etc/sysctl.conf line 70")));
    // The line says the same as ours: it may stay.
    assert!(plan.files.iter().all(|step| matches!(step, FileStep::Write { .. })));
}

#[test]
fn persist_alone_keeps_what_runs() {
    let mut snapshot = with_lost_line(host(600_000, 600_064, 16 * GIB, &[10]), 600_000);
    snapshot.settings.forecasts = forecasts(limits(8192, 8192), &ForecastSource::KernelDefault);
    let files = Request { persist: Persist::FilesOnly, ..request() };
    let made = plan(&snapshot, &files).unwrap();
    assert!(made.running.is_empty());
    assert_eq!(made.after, limits(600_000, 600_064));
    assert_eq!(made.files.len(), 3);
    let running = Request { persist: Persist::Running, ..request() };
    assert!(plan(&snapshot, &running).unwrap().is_nothing());
}

#[test]
fn a_line_that_would_win_is_commented_out() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[262_144]);
    snapshot.settings.assignments = vec![
        Assignment { file: "/etc/sysctl.d/10-a.conf".into(), line: 1, ..sysctl_conf(5) },
        sysctl_conf(600_000),
        Assignment { file: "/usr/lib/sysctl.d/zzz.conf".into(), line: 3, ..sysctl_conf(7) },
        Assignment { file: "/srv/linked.conf".into(), line: 4, ..sysctl_conf(1_048_576) },
        Assignment { file: "/srv/unread.conf".into(), readers: Vec::new(), ..sysctl_conf(9) },
    ];
    let plan = plan(&snapshot, &request()).unwrap();
    let out: Vec<_> = plan
        .files
        .iter()
        .filter_map(|step| match step {
            FileStep::CommentOut { path, line, .. } => Some((path.to_str().unwrap(), *line)),
            FileStep::Write { .. } => None,
        })
        .collect();
    assert_eq!(out, [("/etc/sysctl.conf", 70), ("/usr/lib/sysctl.d/zzz.conf", 3)]);
    assert!(plan.notes.iter().any(|note| note.contains("belongs to a package")));
}

#[test]
fn keeping_what_is_too_small_is_said() {
    let files = Request { persist: Persist::FilesOnly, ..request() };
    let full = plan(&host(262_144, 262_144, 16 * GIB, &[262_144]), &files).unwrap();
    assert!(full.is_nothing());
    assert!(full.notes.iter().any(|note| note.contains("are too small")), "{full:?}");
    let healthy = plan(&host(262_144, 262_144, 16 * GIB, &[10]), &files).unwrap();
    assert_eq!(healthy.notes, Vec::<String>::new());
}

#[test]
fn a_size_chosen_from_a_part_says_so_wherever_it_goes() {
    let elsewhere = Request { access: Access::Elsewhere, ..request() };
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[262_144]);
    let emitted = |snapshot: &Snapshot, request: &Request| {
        let plan = plan(snapshot, request).unwrap();
        [crate::Format::Sysctl, crate::Format::CloudInit, crate::Format::Ansible]
            .map(|format| crate::emit(&plan, format).contains("# WARNING: the size was chosen"))
    };
    assert_eq!(emitted(&snapshot, &elsewhere), [false; 3]);
    snapshot.taken.in_initial_namespace = false;
    assert_eq!(emitted(&snapshot, &elsewhere), [true; 3]);
    let named = Request { target: Some(524_288), ..elsewhere };
    assert_eq!(emitted(&snapshot, &named), [false; 3]);
}

#[test]
fn a_built_in_module_needs_no_module_files() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[262_144]);
    snapshot.module = ModuleState::BuiltIn;
    snapshot.settings.early_load = EarlyLoad::BuiltIn;
    let plan = plan(&snapshot, &request()).unwrap();
    assert_eq!(plan.files.len(), 1);
    assert!(plan.why(About::Files).any(|why| why.contains("built into this kernel")));
}

#[test]
fn without_the_module_only_files_can_be_had() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[]);
    (snapshot.module, snapshot.limits) = (ModuleState::Absent, None);
    assert_eq!(plan(&snapshot, &request()), Err(Refusal::ModuleAbsent));
    let files = Request { persist: Persist::FilesOnly, ..target(524_288) };
    let made = plan(&snapshot, &files).unwrap();
    assert_eq!(made.after, limits(524_288, 524_288));
    assert!(made.running.is_empty() && made.files.len() == 3);
    snapshot.module = ModuleState::Unknown;
    assert!(matches!(plan(&snapshot, &request()), Err(Refusal::LimitsUnreadable { .. })));
}

#[test]
fn counts_that_could_not_be_read_are_no_empty_table() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[]);
    snapshot.namespaces.clear();
    assert!(matches!(plan(&snapshot, &request()), Err(Refusal::CountsUnreadable { .. })));
    assert!(matches!(plan(&snapshot, &target(300_000)), Err(Refusal::CountsUnreadable { .. })));
    let files = Request { persist: Persist::FilesOnly, ..target(524_288) };
    assert!(plan(&snapshot, &files).is_ok());
}

#[test]
fn where_it_cannot_be_changed_the_refusal_says_what_to_run() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[262_144]);
    let with = |access| Request { access, ..request() };
    let refused = |snapshot: &Snapshot, access| plan(snapshot, &with(access)).unwrap_err();
    assert_eq!(refused(&snapshot, Access::Denied), Refusal::NoPrivilege);
    let refusal = refused(&snapshot, Access::ReadOnly);
    assert!(refusal.to_string().contains("ctkeeper fix --target 1048576"), "{refusal}");
    snapshot.taken.in_initial_namespace = false;
    let refusal = refused(&snapshot, Access::Writable);
    assert!(matches!(refusal, Refusal::NotInitialNamespace { .. }));
    assert!(plan(&snapshot, &with(Access::Elsewhere)).is_ok());
}

#[test]
fn hostile_names_reach_no_line_of_their_own() {
    let mut snapshot = host(262_144, 262_144, 16 * GIB, &[262_144]);
    snapshot.namespaces[0].initial = false;
    snapshot.namespaces[0].names = vec!["x\nkernel.panic = 1\u{1b}[2J".to_owned()];
    snapshot.settings.other_writers = vec!["evil\nwriter".to_owned()];
    let plan = plan(&snapshot, &request()).unwrap();
    let texts = plan.why.iter().map(|reason| &reason.text).chain(&plan.notes);
    assert!(texts.clone().all(|text| !text.contains(char::is_control)), "{plan:?}");
    assert!(texts.into_iter().any(|text| text.contains("kernel.panic")));
}

fn any_host() -> impl Strategy<Value = Snapshot> {
    let sizes = (1u64..40_000_000, 1u64..40_000, (64u64 << 20)..(256 * GIB));
    let counts = prop::collection::vec(0u64..3_000_000, 1..6);
    let moved = prop::option::of((1u64..7_200_000, -500_000i64..500_000, 0u64..1000));
    let file = prop::option::of(1u64..20_000_000);
    (sizes, counts, moved, file).prop_map(|((limit, pages, available), counts, moved, file)| {
        let mut snapshot = host(limit, buckets_in_kernel(pages * 512), available, &counts);
        snapshot.namespaces[0].rates =
            moved.map(|(window, change, drop)| rates(window, change, drop));
        match file {
            Some(value) => with_lost_line(snapshot, value),
            None => snapshot,
        }
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let persist =
        prop_oneof![Just(Persist::Running), Just(Persist::Both), Just(Persist::FilesOnly)];
    let target = prop::option::of(prop_oneof![1u64..4_000_000, any::<u64>()]);
    (target, 0.001f64..=1.0, persist).prop_map(|(target, memory_share, persist)| Request {
        target,
        memory_share,
        persist,
        ..Request::default()
    })
}

proptest! {
    #[test]
    fn every_plan_is_safe(snapshot in any_host(), request in any_request()) {
        let before = snapshot.limits.unwrap();
        match plan(&snapshot, &request) {
            Ok(made) => {
                let after = made.after;
                let fullest = snapshot.fullest().unwrap().count;
                let raised = after.limit.0 > before.limit.0;
                let changes_running = request.persist.running() && after.limit != before.limit;
                prop_assert!(after.limit.0 >= fullest || !changes_running, "{:?}", made);
                prop_assert!(request.target.is_some() || after.limit.0 >= before.limit.0);
                prop_assert!(request.target.is_none_or(|target| after.limit == Limit(target)));
                prop_assert!(!raised || made.memory.holds());
                prop_assert!(!raised || after.load_at_limit().unwrap() <= 2.0);
                prop_assert!(after.buckets == buckets_in_kernel(after.buckets));
                prop_assert!(after.buckets >= before.buckets);
                prop_assert_eq!(made.running.is_empty(), !request.persist.running() || after == before);
                prop_assert!(request.persist.files() || made.files.is_empty());
                prop_assert!(made.why.iter().all(|reason| !reason.text.is_empty()));
            }
            Err(refusal @ Refusal::BeyondMemory { largest, limit, .. }) => {
                prop_assert!(largest < limit);
                if let (Some(share), Some(_)) = (refusal.memory_share_that_allows(), request.target) {
                    let told = Request { memory_share: share as f64 / 100.0, ..request.clone() };
                    prop_assert!(plan(&snapshot, &told).is_ok(), "{}", refusal);
                }
                let smaller = Request { target: Some(largest), ..request };
                let below_count = largest < snapshot.fullest().unwrap().count || largest == 0;
                prop_assert!(below_count || plan(&snapshot, &smaller).is_ok(), "{}", refusal);
            }
            Err(Refusal::BelowRunningCount { target, count, .. }) => prop_assert!(target < count),
            Err(Refusal::OutOfRange { target }) => prop_assert!(target > LIMIT_LARGEST),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn a_plan_applied_leaves_nothing_to_do(snapshot in any_host(), request in any_request()) {
        if let Ok(first) = plan(&snapshot, &request) {
            let after = applied(snapshot, &first, request.persist);
            let again = Request { changed_at: Some(after.taken.boottime_ms), ..request };
            match plan(&after, &again) {
                Ok(second) => prop_assert!(second.is_nothing(), "{:?}\n{:?}", first, second),
                Err(refusal) => prop_assert!(matches!(refusal, Refusal::BeyondMemory { .. }), "{}", refusal),
            }
        }
    }
}
