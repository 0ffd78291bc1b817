//! The files that set limit and buckets, and what they give after a reboot.
//!
//! Sources for who reads what: `sysctl.d(5)`, `sysctl(8)`, `modprobe.d(5)`, `modules-load.d(5)` of
//! Debian 12, and the programs themselves, against which `tests/suite/host.rs` holds this module.
//!
//! Not read: systemd's credential `sysctl.extra`, modules loaded by an initramfs, and whatever a
//! script or a unit of the host writes to `/proc/sys` itself.

mod early_load;
mod folders;
mod forecast;
mod glob;
mod kernel;
mod mentions;
mod modprobe;
mod number;
mod sysctl_files;
mod tree;
mod writers;

use std::path::Path;

use ctkeeper_flow::Limits;
use ctkeeper_snapshot::{Assignment, Gap, GapKind, ModuleState, Reader, SettingKey, Settings};

use crate::read as file;
use early_load::Early;
use modprobe::{Hashsize, Modprobe};
use sysctl_files::SysctlFiles;
use tree::{Tree, is_missing};

pub use kernel::{MOST_BUCKETS, kernel_default, round_up};
pub use mentions::mentions;
pub use modprobe::{COMMAND_LINE, without_hashsize};
pub use number::{kernel_integer, module_parameter};
pub use sysctl_files::{Line, Lines, gives, lines, outcome};

/// What runs now: files are judged against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningValues {
    /// Limit and buckets; absent when the module is, or when they cannot be read.
    pub limits: Option<Limits>,
    /// How the kernel has connection tracking.
    pub module: ModuleState,
    /// `MemTotal`, bytes.
    pub memory_total: u64,
    /// `uname -r`.
    pub kernel_release: String,
}

/// Reads every file below `root` that sets limit or buckets, and forecasts what each reader gives
/// after a reboot. What cannot be read is a gap, and is taken as empty; a value that the kernel
/// refuses is one, too.
pub fn read(root: &Path, running: &RunningValues) -> (Settings, Vec<Gap>) {
    let mut gaps = Vec::new();
    let files = Files::read(&Tree::new(root), running, &mut gaps);
    let mut settings = files.settings(running);
    settings.other_writers = writers::find(root);
    gaps.extend(settings.assignments.iter().filter_map(refused));
    (settings, gaps)
}

/// Names a line whose value the kernel refuses. Lines that nobody reads are none.
fn refused(assignment: &Assignment) -> Option<Gap> {
    let is_read = assignment.module_option || !assignment.readers.is_empty();
    if assignment.value.is_some() || !is_read {
        return None;
    }
    let (name, consequence) = if assignment.module_option {
        ("the module option hashsize", "the module does not load with it")
    } else {
        (assignment.key.sysctl(), "the line is refused at boot and sets nothing")
    };
    let place = format!("{}:{}", assignment.file.display(), assignment.line);
    Some(Gap {
        kind: GapKind::BrokenFile,
        what: format!("{name} at {place}"),
        cause: format!(
            "{:?} is no number that the kernel takes for it; {consequence}",
            shortened(&assignment.text)
        ),
        remedy: format!("correct the number at {place}"),
    })
}

/// Longest value that is shown, characters: a file may hold megabytes in one line.
const SHOWN: usize = 60;

fn shortened(text: &str) -> String {
    shortened_to(text, SHOWN)
}

fn shortened_to(text: &str, characters: usize) -> String {
    let mut shown: String = text.chars().take(characters).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Whether the files below `root` or the kernel's command line load the module with `enable_hooks`;
/// `None` when nothing says so.
pub(crate) fn enables_hooks(root: &Path) -> Option<bool> {
    let (tree, mut gaps) = (Tree::new(root), Vec::new());
    let command_line = command_line(&tree, &mut gaps);
    Modprobe::read(&tree, &command_line, &mut gaps).enable_hooks
}

/// Names below `/proc/sys` of a setting, the first one current.
const fn paths(key: SettingKey) -> &'static [&'static str] {
    match key {
        SettingKey::Limit => &["net/netfilter/nf_conntrack_max", "net/nf_conntrack_max"],
        SettingKey::Buckets => &["net/netfilter/nf_conntrack_buckets"],
    }
}

/// Names that kernels before 4.9 had beside the current ones
/// (`nf_conntrack_l3proto_ipv4_compat.c`); no kernel since knows them, so lines for them are shown
/// and set nothing.
const fn former_paths(key: SettingKey) -> &'static [&'static str] {
    match key {
        SettingKey::Limit => &["net/ipv4/netfilter/ip_conntrack_max", "net/ipv4/ip_conntrack_max"],
        SettingKey::Buckets => &["net/ipv4/netfilter/ip_conntrack_buckets"],
    }
}

/// Everything that files say, before it is judged.
struct Files {
    limit: Lines,
    buckets: Lines,
    /// Lines for former names.
    former: Vec<Assignment>,
    modprobe: Modprobe,
    early: Early,
}

impl Files {
    fn read(tree: &Tree<'_>, running: &RunningValues, gaps: &mut Vec<Gap>) -> Self {
        let command_line = command_line(tree, gaps);
        let modprobe = Modprobe::read(tree, &command_line, gaps);
        let early =
            early_load::find(tree, running.module, &running.kernel_release, &modprobe, gaps);
        let sysctl = SysctlFiles::read(tree, gaps);
        let lines = |key| with_former(&sysctl, key, &running.kernel_release);
        let ((limit, mut former), (buckets, more)) =
            (lines(SettingKey::Limit), lines(SettingKey::Buckets));
        former.extend(more);
        Self { limit, buckets, former, modprobe, early }
    }

    fn lines(&self, key: SettingKey) -> &Lines {
        match key {
            SettingKey::Limit => &self.limit,
            SettingKey::Buckets => &self.buckets,
        }
    }

    /// The `hashsize=` that the kernel gets last.
    fn hashsize(&self, module: ModuleState) -> Option<&Hashsize> {
        let reaches = |option: &&Hashsize| module != ModuleState::BuiltIn || option.on_command_line;
        self.modprobe.hashsizes.iter().rfind(reaches)
    }

    fn settings(&self, running: &RunningValues) -> Settings {
        let kernel_default = kernel_default(running.memory_total, &running.kernel_release);
        let judge = forecast::Judge { files: self, running, kernel_default };
        Settings {
            assignments: self.assignments(&running.kernel_release),
            early_load: self.early.load.clone(),
            forecasts: [Reader::Systemd, Reader::Procps].map(|r| judge.forecast(r)).into(),
            kernel_default,
            limit_origin: judge.origin(SettingKey::Limit),
            buckets_origin: judge.origin(SettingKey::Buckets),
            other_writers: Vec::new(),
        }
    }

    fn assignments(&self, release: &str) -> Vec<Assignment> {
        let of = |key| {
            let all = self.lines(key).all.iter();
            all.map(move |(line, readers)| Assignment {
                readers: readers.clone(),
                ..sysctl_assignment(key, line, release)
            })
        };
        let options = self.modprobe.hashsizes.iter().map(option_assignment);
        let mut found: Vec<_> = of(SettingKey::Limit).chain(of(SettingKey::Buckets)).collect();
        found.extend(self.former.iter().cloned());
        found.extend(options);
        found
    }
}

/// The lines for a setting, and those for its former names.
fn with_former(sysctl: &SysctlFiles, key: SettingKey, release: &str) -> (Lines, Vec<Assignment>) {
    let former = sysctl.lines(former_paths(key)).all;
    let former = former.iter().map(|(line, _)| sysctl_assignment(key, line, release)).collect();
    (sysctl.lines(paths(key)), former)
}

fn command_line(tree: &Tree<'_>, gaps: &mut Vec<Gap>) -> String {
    let path = Path::new(COMMAND_LINE);
    match tree.read(path) {
        Ok(content) => String::from_utf8_lossy(&content.bytes).into_owned(),
        Err(error) => {
            if !is_missing(&error) {
                gaps.push(file::gap("the kernel's command line", path, &error));
            }
            String::new()
        }
    }
}

/// The assignment of a sysctl line; its readers are left out.
fn sysctl_assignment(key: SettingKey, line: &Line, release: &str) -> Assignment {
    Assignment {
        key,
        text: line.text.clone(),
        value: kernel::written_number(key, &line.text, release),
        file: line.file.clone(),
        line: line.line,
        module_option: false,
        readers: Vec::new(),
    }
}

fn option_assignment(option: &Hashsize) -> Assignment {
    Assignment {
        key: SettingKey::Buckets,
        text: option.text.clone(),
        value: module_parameter(&option.text).map(u64::from),
        file: option.file.clone(),
        line: option.line,
        module_option: true,
        readers: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
