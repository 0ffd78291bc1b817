//! What makes the module be there before sysctls are set, or sets them again when it comes.

use std::path::Path;

use ctkeeper_snapshot::{EarlyLoad, Gap, GapKind, ModuleState, Reader};

use super::folders::{self, DropIn, MODULES_LOAD, UDEV};
use super::glob;
use super::modprobe::{COMMAND_LINE, Modprobe, canonical, logical_lines};
use super::tree::Tree;

const MODULE: &str = "nf_conntrack";

/// Modules that need `nf_conntrack` (`depends` of `net/netfilter/Kconfig` and the modules' symbols,
/// Linux 6.12), for hosts whose `modules.dep` cannot be read.
const DEPENDENTS: &[&str] = &[
    "nf_conntrack_amanda",
    "nf_conntrack_bridge",
    "nf_conntrack_ftp",
    "nf_conntrack_h323",
    "nf_conntrack_irc",
    "nf_conntrack_netbios_ns",
    "nf_conntrack_netlink",
    "nf_conntrack_pptp",
    "nf_conntrack_sane",
    "nf_conntrack_sip",
    "nf_conntrack_snmp",
    "nf_conntrack_tftp",
    "nf_conncount",
    "nf_flow_table",
    "nf_flow_table_inet",
    "nf_nat",
    "nf_synproxy_core",
    "nfnetlink_cttimeout",
    "nfnetlink_cthelper",
    "nft_chain_nat",
    "nft_connlimit",
    "nft_ct",
    "nft_flow_offload",
    "nft_masq",
    "nft_nat",
    "nft_redir",
    "nft_synproxy",
    "xt_conntrack",
    "xt_connbytes",
    "xt_connlabel",
    "xt_connlimit",
    "xt_connmark",
    "xt_CONNSECMARK",
    "xt_CT",
    "xt_helper",
    "xt_MASQUERADE",
    "xt_nat",
    "xt_NETMAP",
    "xt_REDIRECT",
    "xt_state",
    "iptable_nat",
    "ip6table_nat",
    "ipt_SYNPROXY",
    "ip6t_SYNPROXY",
    "ip_vs",
    "openvswitch",
    "act_ct",
    "act_ctinfo",
    "act_connmark",
];

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Early {
    pub(super) load: EarlyLoad,
    /// For a udev rule: the folders below `/proc/sys` that it sets; none stands for all.
    pub(super) prefixes: Vec<String>,
    /// For a udev rule: the reader that it runs.
    pub(super) reader: Option<Reader>,
}

impl Early {
    /// Whether a value that is written to `path` is set in time.
    pub(super) fn reaches(&self, path: &str) -> bool {
        let below = |prefix: &String| {
            path.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match self.load {
            EarlyLoad::Nothing => false,
            EarlyLoad::UdevRule { .. } => {
                self.prefixes.is_empty() || self.prefixes.iter().any(below)
            }
            EarlyLoad::BuiltIn | EarlyLoad::ModulesLoad { .. } => true,
        }
    }
}

/// What files and the kernel's command line say.
pub(super) fn find(
    tree: &Tree<'_>,
    state: ModuleState,
    kernel: &str,
    modprobe: &Modprobe,
    gaps: &mut Vec<Gap>,
) -> Early {
    let certain = |load| Early { load, prefixes: Vec::new(), reader: None };
    if state == ModuleState::BuiltIn {
        return certain(EarlyLoad::BuiltIn);
    }
    let dependencies = Dependencies::read(tree, kernel);
    let brings = named_modules(tree, modprobe, gaps).into_iter().find(|named| {
        dependencies.brings_conntrack(&named.module) && !is_kept_away(named, modprobe, gaps)
    });
    if let Some(Named { file, line, module }) = brings {
        return certain(EarlyLoad::ModulesLoad { file, line, module });
    }
    udev_rule(tree, gaps).unwrap_or_else(|| certain(EarlyLoad::Nothing))
}

/// A module that is to be loaded at boot.
struct Named {
    file: std::path::PathBuf,
    line: u32,
    module: String,
}

/// modules-load.d(5), then `modules_load=` of the kernel's command line.
fn named_modules(tree: &Tree<'_>, modprobe: &Modprobe, gaps: &mut Vec<Gap>) -> Vec<Named> {
    let files = folders::files(tree, MODULES_LOAD, gaps);
    let files = files.iter().filter(|file| !file.masked && !file.is_hidden());
    let by_command_line =
        |module: &String| Named { file: COMMAND_LINE.into(), line: 1, module: module.clone() };
    files.flat_map(modules_in).chain(modprobe.modules_load.iter().map(by_command_line)).collect()
}

fn modules_in(file: &DropIn) -> Vec<Named> {
    let text = String::from_utf8_lossy(&file.content.bytes);
    let named = |(line, number): (&str, u32)| {
        let line = line.trim();
        let module =
            (!line.is_empty() && !line.starts_with(['#', ';'])).then(|| canonical(line))?;
        Some(Named { file: file.content.file.clone(), line: number, module })
    };
    text.lines().zip(1..).filter_map(named).collect()
}

/// systemd-modules-load obeys `blacklist`; a command in place of the module may do anything.
fn is_kept_away(named: &Named, modprobe: &Modprobe, gaps: &mut Vec<Gap>) -> bool {
    if modprobe.is_blacklisted(&named.module) {
        return true;
    }
    let replacement = modprobe.replacement(&named.module).or_else(|| modprobe.replacement(MODULE));
    if let Some(note) = replacement {
        gaps.push(Gap {
            kind: GapKind::Unavailable,
            what: "whether connection tracking is loaded early at boot".to_owned(),
            cause: format!(
                "{}:{} runs a command in place of loading {}",
                note.file.display(),
                note.line,
                note.module
            ),
            remedy: "remove the install line, or check limit and buckets after a reboot".to_owned(),
        });
    }
    replacement.is_some()
}

/// Which modules bring `nf_conntrack` with them.
struct Dependencies(Option<String>);

impl Dependencies {
    fn read(tree: &Tree<'_>, kernel: &str) -> Self {
        let readable = !kernel.is_empty() && !kernel.contains('/');
        let path = Path::new("/lib/modules").join(kernel).join("modules.dep");
        let content = readable.then(|| tree.read(&path).ok()).flatten();
        Self(content.map(|content| String::from_utf8_lossy(&content.bytes).into_owned()))
    }

    fn brings_conntrack(&self, module: &str) -> bool {
        if module == MODULE {
            return true;
        }
        match &self.0 {
            Some(text) => depends(text, module),
            None => DEPENDENTS.iter().any(|dependent| canonical(dependent) == module),
        }
    }
}

/// Whether a line `PATH/MODULE.ko…: DEPENDENCIES` of `modules.dep` has conntrack among them.
fn depends(modules_dep: &str, module: &str) -> bool {
    let lines = modules_dep.lines().filter_map(|line| line.split_once(':'));
    let mut own = lines.filter(|(path, _)| module_of(path) == module);
    own.any(|(_, needs)| needs.split_ascii_whitespace().any(|path| module_of(path) == MODULE))
}

/// `nf_nat` of `kernel/net/netfilter/nf_nat.ko.xz`.
fn module_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    canonical(name.split('.').next().unwrap_or(name))
}

/// A rule that runs a reader of sysctl files when `nf_conntrack` is added.
fn udev_rule(tree: &Tree<'_>, gaps: &mut Vec<Gap>) -> Option<Early> {
    let files = folders::files(tree, UDEV, gaps);
    files.iter().filter(|file| !file.masked && !file.is_hidden()).find_map(|file| {
        let text = String::from_utf8_lossy(&file.content.bytes);
        logical_lines(&text).into_iter().find_map(|(rule, line)| {
            let (reader, prefixes) = sysctl_run(&rule)?;
            let load = EarlyLoad::UdevRule { file: file.content.file.clone(), line };
            Some(Early { load, prefixes, reader: Some(reader) })
        })
    })
}

/// The reader that a rule runs when the module is added, and the prefixes that it hands to it (or
/// none, for everything); `None` when it is not such a rule.
fn sysctl_run(rule: &str) -> Option<(Reader, Vec<String>)> {
    let parts: Vec<_> = split_rule(rule);
    let of = |name: &'static str| parts.iter().filter(move |(key, ..)| key == name);
    let wants = |name: &'static str, value: &str| {
        of(name).all(|(_, operator, wanted)| {
            let matches = wanted.split('|').any(|pattern| glob::matches(pattern, value));
            matches == (*operator == "==")
        })
    };
    let is_about_module = of("SUBSYSTEM")
        .any(|(_, operator, value)| *operator == "==" && value == "module")
        && of("KERNEL").chain(of("DEVPATH")).next().is_some()
        && wants("ACTION", "add")
        && wants("KERNEL", MODULE)
        && wants("DEVPATH", "/module/nf_conntrack");
    let commands = parts.iter().filter(|(key, operator, _)| {
        (key == "RUN" || key == "RUN{program}") && matches!(*operator, "+=" | "=" | ":=")
    });
    let mut commands = commands.filter_map(|(_, _, command)| command_run(command));
    if is_about_module { commands.next() } else { None }
}

/// `systemd-sysctl --prefix=/net/netfilter` gives `net/netfilter`. Only runs that read every file
/// count: `sysctl -p FILE` and `sysctl -w` set what they please.
fn command_run(command: &str) -> Option<(Reader, Vec<String>)> {
    let mut words = command.split_ascii_whitespace();
    let program = words.next()?.rsplit('/').next()?;
    let arguments: Vec<_> = words.collect();
    match program {
        "systemd-sysctl" => {
            let prefixes = arguments.iter().filter_map(|word| word.strip_prefix("--prefix="));
            Some((Reader::Systemd, prefixes.map(prefix).collect()))
        }
        "sysctl" if arguments.contains(&"--system") => Some((Reader::Procps, Vec::new())),
        _ => None,
    }
}

fn prefix(text: &str) -> String {
    let path = text.replace('.', "/");
    let path = path.trim_matches('/');
    path.strip_prefix("proc/sys/").unwrap_or(path).to_owned()
}

/// The parts `KEY OPERATOR "VALUE"` of a rule.
fn split_rule(rule: &str) -> Vec<(String, &'static str, String)> {
    const OPERATORS: [&str; 6] = ["==", "!=", "+=", "-=", ":=", "="];
    let mut parts = Vec::new();
    let mut rest = rule;
    while let Some((head, tail)) = rest.split_once('"') {
        let Some((value, after)) = tail.split_once('"') else { break };
        let head = head.trim().trim_start_matches(',').trim();
        if let Some(operator) = OPERATORS.into_iter().find(|operator| head.ends_with(operator)) {
            let key = head.strip_suffix(operator).unwrap_or(head).trim();
            parts.push((key.to_owned(), operator, value.to_owned()));
        }
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn early(files: &[(&str, &str)]) -> (Early, usize) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let (tree, mut gaps) = (Tree::new(root.path()), Vec::new());
        let command_line = fs::read_to_string(root.path().join("proc/cmdline")).unwrap_or_default();
        let modprobe = Modprobe::read(&tree, &command_line, &mut gaps);
        let found = find(&tree, ModuleState::Absent, "6.1.0", &modprobe, &mut gaps);
        (found, gaps.len())
    }

    fn module(files: &[(&str, &str)]) -> Option<String> {
        match early(files).0.load {
            EarlyLoad::ModulesLoad { file, line, module } => {
                Some(format!("{}:{line} {module}", file.display()))
            }
            _ => None,
        }
    }

    #[test]
    fn a_named_module_or_one_that_needs_it_is_early() {
        let found = module(&[("etc/modules-load.d/a.conf", "# x\n\nnf-conntrack\n")]);
        assert_eq!(found.as_deref(), Some("/etc/modules-load.d/a.conf:3 nf_conntrack"));
        let found = module(&[("usr/lib/modules-load.d/a.conf", "br_netfilter\nnf_nat\n")]);
        assert_eq!(found.as_deref(), Some("/usr/lib/modules-load.d/a.conf:2 nf_nat"));
        let found = module(&[("proc/cmdline", "quiet modules_load=loop,nft_ct\n")]);
        assert_eq!(found.as_deref(), Some("/proc/cmdline:1 nft_ct"));
        assert_eq!(module(&[("etc/modules-load.d/a.conf", "br_netfilter\n")]), None);
        assert_eq!(module(&[("etc/modules-load.d/a.txt", "nf_conntrack\n")]), None);
    }

    #[test]
    fn modules_dep_decides_where_it_is_there() {
        let dep = "kernel/a/own.ko.xz: kernel/net/netfilter/nf_conntrack.ko.xz\n\
            kernel/net/netfilter/nf_nat.ko.xz:\n";
        let with = |name| {
            module(&[("lib/modules/6.1.0/modules.dep", dep), ("etc/modules-load.d/a.conf", name)])
        };
        assert!(with("own\n").is_some());
        assert_eq!(with("nf_nat\n"), None);
    }

    #[test]
    fn masked_blacklisted_and_replaced_modules_are_not_early() {
        let named = ("usr/lib/modules-load.d/a.conf", "nf_conntrack\n");
        assert!(module(&[named]).is_some());
        assert_eq!(module(&[named, ("etc/modules-load.d/a.conf", "\n")]), None);
        assert_eq!(module(&[named, ("etc/modprobe.d/b.conf", "blacklist nf_conntrack\n")]), None);
        let install = ("etc/modprobe.d/b.conf", "install nf_conntrack /bin/true\n");
        let (found, gaps) = early(&[named, install]);
        assert_eq!((found.load, gaps), (EarlyLoad::Nothing, 1));
    }

    #[test]
    fn udev_rules_are_found() {
        let rule = |text| early(&[("etc/udev/rules.d/50-c.rules", text)]).0;
        let found = rule(
            "# comment\nACTION==\"add\", SUBSYSTEM==\"module\", KERNEL==\"nf_conntrack\", \\\n \
             RUN+=\"/usr/lib/systemd/systemd-sysctl --prefix=/net/netfilter\"\n",
        );
        assert!(matches!(found.load, EarlyLoad::UdevRule { line: 2, .. }), "{found:?}");
        assert!(found.reaches("net/netfilter/nf_conntrack_max"));
        assert!(!found.reaches("net/nf_conntrack_max") && !found.reaches("net/netfilterx"));
        for text in [
            "ACTION==\"remove\", SUBSYSTEM==\"module\", KERNEL==\"nf_conntrack\", RUN+=\"/x/systemd-sysctl\"",
            "ACTION==\"add\", SUBSYSTEM==\"module\", KERNEL==\"br_netfilter\", RUN+=\"/x/systemd-sysctl\"",
            "ACTION==\"add\", SUBSYSTEM==\"net\", KERNEL==\"nf_conntrack\", RUN+=\"/x/systemd-sysctl\"",
            "SUBSYSTEM==\"module\", KERNEL==\"nf_conntrack\", RUN+=\"/sbin/sysctl -w a=b\"",
            "SUBSYSTEM==\"module\", RUN+=\"/x/systemd-sysctl",
        ] {
            assert_eq!(rule(text).load, EarlyLoad::Nothing, "{text}");
        }
        let any = rule("SUBSYSTEM==\"module\", KERNEL==\"nf_*\", RUN=\"/sbin/sysctl --system\"");
        assert!(any.reaches("net/nf_conntrack_max"));
    }

    proptest! {
        #[test]
        fn hostile_files_do_no_harm(text in ".{0,200}", module in "[a-z_./:]{0,20}") {
            let _ = sysctl_run(&text);
            let _ = depends(&text, &module);
        }
    }
}
