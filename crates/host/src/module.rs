//! Whether connection tracking is in this kernel, found out without loading anything.

use std::path::Path;

use ctkeeper_snapshot::ModuleState;

use crate::{read, settings};

/// Parameters of `nf_conntrack` as `/sys/module` shows them; absent ones are not shown by this
/// kernel (`enable_hooks` has no file) or not readable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Buckets.
    pub hashsize: Option<u64>,
    /// Whether namespaces track without any rule that asks for it.
    pub enable_hooks: Option<bool>,
    /// Whether new namespaces count packets and bytes.
    pub accounting: Option<bool>,
    /// Whether new namespaces keep timestamps.
    pub timestamps: Option<bool>,
}

/// How this kernel has connection tracking.
pub fn state() -> ModuleState {
    state_in(Path::new("/"))
}

/// The module's parameters.
pub fn parameters() -> Parameters {
    parameters_in(Path::new("/"))
}

/// Whether the module tracks in every namespace without any rule. Kernels do not show this
/// parameter, so where `/sys` says nothing it is what the module's options say.
pub fn enables_hooks() -> Option<bool> {
    parameters().enable_hooks.or_else(|| settings::enables_hooks(Path::new("/")))
}

/// A module that is loaded has `initstate` under `/sys/module`; one that is compiled in has the
/// folder (it has parameters) and no `initstate`. Where `/sys` is masked, `/proc/modules` and the
/// sysctls tell.
fn state_in(root: &Path) -> ModuleState {
    let folder = root.join("sys/module/nf_conntrack");
    if folder.join("initstate").exists() {
        return ModuleState::Loaded;
    }
    if folder.exists() {
        return ModuleState::BuiltIn;
    }
    let sysctls = root.join("proc/sys/net/netfilter/nf_conntrack_max").exists();
    match (listed_in_proc(root), sysctls) {
        (Some(true), _) => ModuleState::Loaded,
        (_, true) => ModuleState::BuiltIn,
        (Some(false), false) => ModuleState::Absent,
        (None, false) if is_readable_without_modules(root) => ModuleState::Absent,
        (None, false) => ModuleState::Unknown,
    }
}

/// Whether `/proc/modules` lists it; `None` when there is no such file.
fn listed_in_proc(root: &Path) -> Option<bool> {
    let modules = read::text(&root.join("proc/modules")).ok()?;
    Some(modules.lines().any(|line| line.split(' ').next() == Some("nf_conntrack")))
}

/// A kernel without module support has no `/proc/modules`; there `/sys/module` alone decides.
fn is_readable_without_modules(root: &Path) -> bool {
    root.join("sys/module/kernel").exists() && root.join("proc/sys/net").exists()
}

fn parameters_in(root: &Path) -> Parameters {
    let folder = root.join("sys/module/nf_conntrack/parameters");
    let flag = |name: &str| read::value(folder.join(name)).ok().and_then(|text| boolean(&text));
    Parameters {
        hashsize: read::number(folder.join("hashsize")),
        enable_hooks: flag("enable_hooks"),
        accounting: flag("acct"),
        timestamps: flag("tstamp"),
    }
}

/// Module parameters show booleans as `Y` and `N`, integers as numbers.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "Y" | "1" => Some(true),
        "N" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn states_are_told_apart() {
        let cases: [(&[(&str, &str)], ModuleState); 6] = [
            (&[("sys/module/nf_conntrack/initstate", "live\n")], ModuleState::Loaded),
            (&[("sys/module/nf_conntrack/parameters/acct", "N\n")], ModuleState::BuiltIn),
            (&[("proc/modules", "nf_conntrack 188416 1 nf_nat, Live 0x0\n")], ModuleState::Loaded),
            (&[("proc/modules", "nf_conntrack_ftp 1 0 - Live 0x0\n")], ModuleState::Absent),
            (&[("sys/module/kernel/x", ""), ("proc/sys/net/core/x", "")], ModuleState::Absent),
            (&[], ModuleState::Unknown),
        ];
        for (files, expected) in cases {
            assert_eq!(state_in(tree(files).path()), expected, "{files:?}");
        }
    }

    #[test]
    fn parameters_are_read() {
        let root = tree(&[
            ("sys/module/nf_conntrack/parameters/hashsize", "262144\n"),
            ("sys/module/nf_conntrack/parameters/acct", "N\n"),
            ("sys/module/nf_conntrack/parameters/tstamp", "\u{fffd}"),
        ]);
        let expected = Parameters {
            hashsize: Some(262_144),
            accounting: Some(false),
            ..Parameters::default()
        };
        assert_eq!(parameters_in(root.path()), expected);
    }
}
