//! Tests with needs: root, a program, a kernel feature.

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Something without which a test cannot run.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Root, and a kernel that lets it make network namespaces.
    Root,
    /// Connection tracking in this kernel.
    Conntrack,
    /// A program on the `PATH`, with Debian's package that brings it.
    Program(&'static str, &'static str),
    /// A folder of the workspace that `cargo xtask setup` fills.
    Fetched(&'static str),
}

/// What most tests need: namespaces with tracking.
pub const KERNEL: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("ip", "iproute2")];
/// And rules in them.
pub const RULES: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("ip", "iproute2"),
    Need::Program("nft", "nftables"),
];
/// A mount namespace of the test's own.
pub const MOUNTS: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("unshare", "util-linux")];
/// To become somebody without privileges.
pub const NOBODY: &[Need] = &[Need::Root, Need::Conntrack, Need::Program("setpriv", "util-linux")];

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it needs.
    pub needs: &'static [Need],
    /// The test; an error or a panic is a failure.
    pub run: fn() -> anyhow::Result<()>,
}

/// Runs the tests as `cargo test` would: same arguments, same closing line.
pub fn main(cases: &[Case]) -> ExitCode {
    // What cannot be removed fails those tests that need its place, with their own reasons.
    let _ = ctkeeper_lab::clean();
    let trials = cases.iter().map(|&case| trial(case)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(case: Case) -> Trial {
    named_trial(case.name, case.needs, case.run)
}

/// A test whose name is made while the tests are read from somewhere.
pub fn named_trial(
    name: impl Into<String>,
    needs: &'static [Need],
    run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
            return refuse(reason);
        }
        run().map_err(|error| Failed::from(format!("{error:#}")))?;
        Ok(Completion::Completed)
    })
}

/// In CI a test that cannot run is a failure: it would show a green that nobody earned.
fn refuse(reason: String) -> Result<Completion, Failed> {
    if std::env::var_os("CI").is_some() {
        return Err(Failed::from(format!("cannot run here: {reason}")));
    }
    Ok(Completion::ignored_with(reason))
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Self::Root if !rustix::process::geteuid().is_root() => Some("needs root".to_owned()),
            Self::Conntrack if !Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists() => {
                Some("needs connection tracking in the kernel (modprobe nf_conntrack)".to_owned())
            }
            Self::Program(name, package) if !ctkeeper_lab::is_installed(name) => {
                Some(format!("needs `{name}` (Debian package {package})"))
            }
            Self::Fetched(folder) if !workspace().join(folder).exists() => {
                Some(format!("needs {folder} (cargo xtask setup)"))
            }
            _ => None,
        }
    }
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
