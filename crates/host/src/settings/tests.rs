use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use ctkeeper_flow::Limit;
use ctkeeper_snapshot::{EarlyLoad, Forecast, ForecastSource, GapKind, Origin};

use super::*;

const GIB: u64 = 1 << 30;
const LIMIT: &str = "net.netfilter.nf_conntrack_max";

/// A host's files in a folder.
struct Host(tempfile::TempDir);

impl Host {
    fn with(files: &[(&str, &str)]) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            fs::create_dir_all(host.at(path).parent().unwrap()).unwrap();
            fs::write(host.at(path), text).unwrap();
        }
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn judged(&self, running: (u64, u64)) -> Settings {
        self.judged_as(running, ModuleState::Loaded)
    }

    fn judged_as(&self, running: (u64, u64), module: ModuleState) -> Settings {
        let (settings, gaps) = self.judged_with_gaps(running, module);
        assert_eq!(gaps, vec![]);
        settings
    }

    fn judged_with_gaps(
        &self,
        (limit, buckets): (u64, u64),
        module: ModuleState,
    ) -> (Settings, Vec<Gap>) {
        let running = RunningValues {
            limits: Some(Limits { limit: Limit(limit), buckets }),
            module,
            memory_total: GIB - 60_000_000,
            kernel_release: "6.1.0-18-amd64".to_owned(),
        };
        read(self.0.path(), &running)
    }
}

fn values(settings: &Settings) -> Vec<(Option<u64>, Option<u64>)> {
    settings.forecasts.iter().map(|f| (f.limit.value, f.buckets.value)).collect()
}

fn systemd(settings: &Settings) -> &Forecast {
    settings.forecast(Reader::Systemd).unwrap()
}

/// The seed's second fix on a 1 GiB machine, read before the module is there.
#[test]
fn the_seeds_line_is_lost_at_boot() {
    let host =
        Host::with(&[("etc/sysctl.conf", "# limit\nnet.netfilter.nf_conntrack_max = 600000\n")]);
    fs::create_dir_all(host.at("etc/sysctl.d")).unwrap();
    symlink("../sysctl.conf", host.at("etc/sysctl.d/99-sysctl.conf")).unwrap();
    let settings = host.judged((600_000, 8192));
    assert_eq!(values(&settings), [(Some(8192), Some(8192)); 2]);
    let lost = systemd(&settings).limit.lost.as_ref().unwrap();
    assert_eq!((lost.file.as_path(), lost.line), (Path::new("/etc/sysctl.conf"), 2));
    assert_eq!(lost.readers, [Reader::Systemd, Reader::Procps]);
    assert_eq!(settings.early_load, EarlyLoad::Nothing);
    assert!(matches!(settings.limit_origin, Origin::File { .. }));
    assert_eq!(settings.buckets_origin, Origin::KernelDefault);
    assert_eq!(settings.assignments.len(), 1);
}

#[test]
fn a_module_loaded_early_keeps_the_line() {
    let host = Host::with(&[
        ("etc/sysctl.d/90-conntrack.conf", "net.netfilter.nf_conntrack_max = 600000\n"),
        ("etc/modules-load.d/conntrack.conf", "nf_conntrack\n"),
    ]);
    assert_eq!(values(&host.judged((1, 1))), [(Some(600_000), Some(8192)); 2]);
    fs::create_dir_all(host.at("etc/modprobe.d")).unwrap();
    fs::write(host.at("etc/modprobe.d/c.conf"), "options nf_conntrack hashsize=150000\n").unwrap();
    let settings = host.judged((600_000, 150_016));
    assert_eq!(values(&settings), [(Some(600_000), Some(150_016)); 2]);
    assert!(matches!(systemd(&settings).buckets.source, ForecastSource::ModuleOption { .. }));
    assert!(matches!(settings.buckets_origin, Origin::File { .. }));
}

/// Debian links its older `/etc/modules` into modules-load.d.
#[test]
fn the_older_list_of_modules_counts_by_its_link() {
    let host = Host::with(&[("etc/modules", "# one a line\nnf_conntrack_ftp\n")]);
    assert_eq!(host.judged((8192, 8192)).early_load, EarlyLoad::Nothing);
    fs::create_dir_all(host.at("etc/modules-load.d")).unwrap();
    symlink("../modules", host.at("etc/modules-load.d/modules.conf")).unwrap();
    let (file, line, module) = ("/etc/modules".into(), 2, "nf_conntrack_ftp".to_owned());
    let expected = EarlyLoad::ModulesLoad { file, line, module };
    assert_eq!(host.judged((8192, 8192)).early_load, expected);
}

#[test]
fn an_option_alone_brings_eight_times_its_number() {
    let host = Host::with(&[("etc/modprobe.d/c.conf", "options nf_conntrack hashsize=65536\n")]);
    let settings = host.judged((524_288, 65_536));
    assert_eq!(values(&settings), [(Some(524_288), Some(65_536)); 2]);
    assert!(matches!(settings.limit_origin, Origin::File { .. }));
    let built_in = host.judged_as((8192, 8192), ModuleState::BuiltIn);
    assert_eq!(values(&built_in), [(Some(8192), Some(8192)); 2]);
    let option = "nf_conntrack.hashsize=1024\n";
    let host = Host::with(&[("proc/cmdline", option)]);
    let built_in = host.judged_as((8192, 1024), ModuleState::BuiltIn);
    assert_eq!(values(&built_in), [(Some(8192), Some(1024)); 2]);
}

#[test]
fn an_option_that_is_no_number_leaves_nothing_to_forecast() {
    let host = Host::with(&[("etc/modprobe.d/c.conf", "options nf_conntrack hashsize=many\n")]);
    let (settings, gaps) = host.judged_with_gaps((8192, 8192), ModuleState::Loaded);
    assert_eq!(values(&settings), [(None, None); 2]);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].what, "the module option hashsize at /etc/modprobe.d/c.conf:1");
    assert!(matches!(systemd(&settings).limit.source, ForecastSource::Refused { .. }));
}

#[test]
fn readers_disagree_about_sysctl_conf_without_its_link() {
    let host = Host::with(&[
        ("etc/sysctl.conf", "net.netfilter.nf_conntrack_max = 600000\n"),
        ("etc/sysctl.d/99-zz.conf", "net.netfilter.nf_conntrack_max = 500000\n"),
    ]);
    let settings = host.judged_as((600_000, 8192), ModuleState::BuiltIn);
    assert_eq!(values(&settings), [(Some(500_000), Some(8192)), (Some(600_000), Some(8192))]);
    let readers: Vec<_> = settings.assignments.iter().map(|a| a.readers.clone()).collect();
    assert_eq!(readers, [vec![Reader::Systemd, Reader::Procps], vec![Reader::Procps]]);
}

#[test]
fn refused_lines_leave_what_was_before() {
    let text = format!("{LIMIT} = 500000\n{LIMIT} = 600,000\n");
    let host = Host::with(&[("etc/sysctl.d/a.conf", &text)]);
    let (settings, gaps) = host.judged_with_gaps((8192, 8192), ModuleState::BuiltIn);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(values(&settings), [(Some(8192), Some(8192)), (Some(500_000), Some(8192))]);
    let ForecastSource::Refused { assignment } = &systemd(&settings).limit.source else {
        panic!("{settings:?}")
    };
    assert_eq!((assignment.line, assignment.value), (2, None));
}

#[test]
fn aliases_and_patterns_set_the_limit() {
    for text in [
        "net.nf_conntrack_max = 600000\n",
        "net.netfilter.nf_conntrack_m* = 600000\n",
        "net.*.nf_conntrack_max = 600000\n",
        "net/nf_conntrack_max=0x927c0 # six hundred thousand\n",
    ] {
        let host = Host::with(&[("etc/sysctl.d/a.conf", text)]);
        let settings = host.judged_as((600_000, 8192), ModuleState::BuiltIn);
        assert_eq!(systemd(&settings).limit.value, Some(600_000), "{text}");
    }
}

#[test]
fn former_names_are_shown_and_set_nothing() {
    let host = Host::with(&[("etc/sysctl.d/a.conf", "net.ipv4.ip_conntrack_max = 600000\n")]);
    let settings = host.judged_as((8192, 8192), ModuleState::BuiltIn);
    assert_eq!(values(&settings), [(Some(8192), Some(8192)); 2]);
    assert_eq!(settings.assignments.len(), 1);
    assert_eq!(settings.assignments[0].readers, vec![]);
}

#[test]
fn a_udev_rule_sets_what_its_prefix_covers() {
    let host = Host::with(&[
        ("etc/sysctl.d/a.conf", "net.netfilter.nf_conntrack_max = 600000\n"),
        (
            "etc/udev/rules.d/50.rules",
            "ACTION==\"add\", SUBSYSTEM==\"module\", KERNEL==\"nf_conntrack\", \
             RUN+=\"/lib/systemd/systemd-sysctl --prefix=/net/netfilter\"\n",
        ),
    ]);
    assert_eq!(systemd(&host.judged((1, 1))).limit.value, Some(600_000));
    fs::write(host.at("etc/sysctl.d/a.conf"), "net.nf_conntrack_max = 600000\n").unwrap();
    let settings = host.judged((1, 1));
    assert_eq!(systemd(&settings).limit.value, Some(8192));
    assert!(systemd(&settings).limit.lost.is_some());
}

#[test]
fn somebody_else_is_who_no_file_and_no_default_explains() {
    let settings = Host::with(&[]).judged((131_072, 32_768));
    assert_eq!(settings.limit_origin, Origin::SomebodyElse);
    assert_eq!(settings.buckets_origin, Origin::SomebodyElse);
    assert_eq!(Host::with(&[]).judged((8192, 7680)).buckets_origin, Origin::KernelDefault);
}

#[test]
fn a_broken_file_is_named_and_the_rest_is_read() {
    let host = Host::with(&[("etc/sysctl.d/b.conf", "net.netfilter.nf_conntrack_max = 600000\n")]);
    fs::create_dir_all(host.at("etc/sysctl.d/a.conf")).unwrap();
    let running = RunningValues {
        limits: None,
        module: ModuleState::BuiltIn,
        memory_total: GIB,
        kernel_release: "6.1".to_owned(),
    };
    let (settings, gaps) = read(host.0.path(), &running);
    assert_eq!(systemd(&settings).limit.value, Some(600_000));
    assert_eq!(settings.limit_origin, Origin::Unknown);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
}

#[test]
fn a_value_that_the_kernel_refuses_is_named() {
    for value in ["abc", "99999999999999", ""] {
        let text = format!("# limit\n{LIMIT} = {value}\n");
        let host = Host::with(&[("etc/sysctl.d/a.conf", &text)]);
        let (_, gaps) = host.judged_with_gaps((8192, 8192), ModuleState::BuiltIn);
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(gaps[0].kind, GapKind::BrokenFile);
        assert_eq!(gaps[0].what, format!("{LIMIT} at /etc/sysctl.d/a.conf:2"));
        assert!(gaps[0].cause.contains(&format!("{value:?}")), "{gaps:?}");
    }
    let long = format!("{LIMIT} = {}\n", "ä".repeat(5000));
    let host = Host::with(&[("etc/sysctl.d/a.conf", &long)]);
    let (_, gaps) = host.judged_with_gaps((8192, 8192), ModuleState::BuiltIn);
    assert!(gaps[0].cause.len() < 300, "{gaps:?}");
}

#[test]
fn a_refused_value_that_nobody_reads_is_not_named() {
    let host = Host::with(&[
        ("etc/sysctl.d/a.conf", "net.ipv4.ip_conntrack_max = abc\n"),
        ("usr/lib/sysctl.d/a.conf", "net.netfilter.nf_conntrack_max = abc\n"),
    ]);
    assert_eq!(host.judged((8192, 8192)).assignments.len(), 2);
}

#[test]
fn a_link_to_nothing_hides_others_and_is_no_trouble() {
    let host = Host::with(&[("usr/lib/sysctl.d/a.conf", "net.nf_conntrack_max = 600000\n")]);
    fs::create_dir_all(host.at("etc/sysctl.d")).unwrap();
    symlink("/nowhere", host.at("etc/sysctl.d/a.conf")).unwrap();
    let (settings, gaps) = host.judged_with_gaps((8192, 8192), ModuleState::BuiltIn);
    assert_eq!(systemd(&settings).limit.value, Some(8192));
    assert_eq!(gaps, []);
}
