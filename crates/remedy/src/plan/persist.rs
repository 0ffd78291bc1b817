//! Which files have to say what, so that every reader gives the planned values after a reboot.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use ctkeeper_host::settings::COMMAND_LINE;
use ctkeeper_snapshot::{
    Assignment, EarlyLoad, Forecast, ForecastSource, ForecastValue, Limits, ModuleState, Reader,
    SettingKey, Settings, Snapshot,
};

use super::size::buckets_in_kernel;
use super::{About, FileStep, Plan, Reason};
use ctkeeper_flow::hostile::masked;
use ctkeeper_flow::units;

/// Our sysctl lines. The name sorts behind nearly every other: systemd and procps take the last.
pub const SYSCTL_FILE: &str = "/etc/sysctl.d/zz-ctkeeper.conf";
/// Has the module loaded before systemd-sysctl comes to those lines.
pub const MODULES_LOAD_FILE: &str = "/etc/modules-load.d/zz-ctkeeper.conf";
/// Gives the module its buckets when it is loaded.
pub const MODPROBE_FILE: &str = "/etc/modprobe.d/zz-ctkeeper.conf";

const READERS: [Reader; 2] = [Reader::Systemd, Reader::Procps];

/// The line of a file that gives, or was meant to give, a setting its highest value after a
/// reboot. The kernel's own choice is nobody's wish.
pub(super) fn wanted_by_files(settings: &Settings, key: SettingKey) -> Option<&Assignment> {
    let values = settings.forecasts.iter().map(|forecast| match key {
        SettingKey::Limit => &forecast.limit,
        SettingKey::Buckets => &forecast.buckets,
    });
    values.flat_map(wishes).filter(|wish| wish.key == key).max_by_key(|wish| wish.value)
}

fn wishes(value: &ForecastValue) -> impl Iterator<Item = &Assignment> {
    let wins = match &value.source {
        ForecastSource::Sysctl { assignment } | ForecastSource::ModuleOption { assignment } => {
            Some(assignment)
        }
        ForecastSource::KernelDefault | ForecastSource::Refused { .. } => None,
    };
    wins.into_iter().chain(&value.lost)
}

/// The first reader that gives other values after a reboot, and what it gives.
pub(crate) fn unsettled(settings: &Settings, limits: Limits) -> Option<String> {
    let unread = READERS.iter().find(|reader| settings.forecast(**reader).is_none());
    if let Some(reader) = unread {
        return Some(format!("what {reader} gives after a reboot is not known"));
    }
    let differs = |forecast: &&Forecast| {
        forecast.limit.value != Some(limits.limit.0)
            || forecast.buckets.value.map(buckets_in_kernel) != Some(limits.buckets)
    };
    settings.forecasts.iter().find(differs).map(given)
}

/// `after a reboot systemd gives a limit of 77 and 512 buckets`.
fn given(forecast: &Forecast) -> String {
    let Forecast { reader, limit, buckets } = forecast;
    let limit = limit.value.map(|limit| format!("a limit of {}", units::count(limit)));
    let buckets = buckets.value.map(|buckets| format!("{} buckets", units::count(buckets)));
    format!(
        "after a reboot {reader} gives {} and {}",
        limit.as_deref().unwrap_or("a limit that cannot be told"),
        buckets.as_deref().unwrap_or("a number of buckets that cannot be told")
    )
}

/// Adds the files that the plan needs, and says why.
pub(super) fn add_files(plan: &mut Plan, snapshot: &Snapshot) {
    let settings = &snapshot.settings;
    let mut because = |text: String| plan.why.push(Reason { about: About::Files, text });
    match unsettled(settings, plan.after) {
        None => return because("they give these values after a reboot already".to_owned()),
        Some(gap) => because(format!("without a change, {gap}")),
    }
    if snapshot.module == ModuleState::BuiltIn {
        because(
            "connection tracking is built into this kernel: no file has to load it or give it \
             options"
                .to_owned(),
        );
    } else {
        plan.files.extend(load_early(settings));
        plan.files.extend(module_option(settings, plan.after));
    }
    plan.files.extend(sysctl_lines(settings, plan.after));
    plan.notes.extend(command_line_option(settings, plan.after));
    let winners = settings.assignments.iter().filter(|line| wins_wrongly(line, plan.after));
    // A line with a pattern may set both.
    let mut seen = BTreeSet::new();
    let winners: Vec<_> = winners.filter(|line| seen.insert((&line.file, line.line))).collect();
    for line in winners {
        plan.notes.extend(not_ours_to_keep(&line.file));
        plan.files.push(comment_out(line));
    }
}

/// The lines of [`SYSCTL_FILE`]; buckets first, as when running values are raised.
pub(crate) fn sysctl_text(limits: Limits) -> [String; 2] {
    [
        format!("{} = {}", SettingKey::Buckets, limits.buckets),
        format!("{} = {}", SettingKey::Limit, limits.limit.0),
    ]
}

/// The line of [`MODULES_LOAD_FILE`].
pub(crate) const MODULE: &str = "nf_conntrack";

/// The line of [`MODPROBE_FILE`].
pub(crate) fn module_option_text(limits: Limits) -> String {
    format!("options {MODULE} hashsize={}", limits.buckets)
}

fn sysctl_lines(settings: &Settings, after: Limits) -> Option<FileStep> {
    let wanted = [(SettingKey::Buckets, after.buckets), (SettingKey::Limit, after.limit.0)];
    let ours = settings.assignments.iter().filter(|line| line.file == Path::new(SYSCTL_FILE));
    let mut standing: Vec<_> = ours.map(|line| (line.key, line.value)).collect();
    standing.sort_unstable();
    let mut sorted = wanted.map(|(key, value)| (key, Some(value)));
    sorted.sort_unstable();
    if standing == sorted {
        return None;
    }
    Some(FileStep::Write {
        path: SYSCTL_FILE.into(),
        lines: sysctl_text(after).into(),
        why: "sets both at boot; its name sorts last".to_owned(),
    })
}

fn load_early(settings: &Settings) -> Option<FileStep> {
    // A udev rule may set one folder of sysctls and not another; the module early is surer.
    let comes_late = matches!(settings.early_load, EarlyLoad::Nothing | EarlyLoad::UdevRule { .. });
    comes_late.then(|| FileStep::Write {
        path: MODULES_LOAD_FILE.into(),
        lines: vec![MODULE.to_owned()],
        why: "loads the module before systemd-sysctl runs; its lines are lost otherwise".to_owned(),
    })
}

fn module_option(settings: &Settings, after: Limits) -> Option<FileStep> {
    let options: Vec<_> = settings.assignments.iter().filter(|line| line.module_option).collect();
    if !options.is_empty() && options.iter().all(|line| gives(line, after)) {
        return None;
    }
    Some(FileStep::Write {
        path: MODPROBE_FILE.into(),
        lines: vec![module_option_text(after)],
        why: "gives the module its buckets whenever it is loaded".to_owned(),
    })
}

fn gives(line: &Assignment, after: Limits) -> bool {
    match line.key {
        SettingKey::Limit => line.value == Some(after.limit.0),
        SettingKey::Buckets => line.value.map(buckets_in_kernel) == Some(after.buckets),
    }
}

/// Whether a line of somebody else's gives another value and may be read after ours.
fn wins_wrongly(line: &Assignment, after: Limits) -> bool {
    let (ours, folder) =
        if line.module_option { (MODPROBE_FILE, "modprobe.d") } else { (SYSCTL_FILE, "sysctl.d") };
    let is_read = line.module_option || !line.readers.is_empty();
    let is_ours = line.file == Path::new(ours);
    is_read
        && !is_ours
        && !is_on_command_line(line)
        && !gives(line, after)
        && !sorts_before(&line.file, folder, Path::new(ours))
}

fn is_on_command_line(line: &Assignment) -> bool {
    line.file == Path::new(COMMAND_LINE)
}

/// The kernel's command line comes after all files of modprobe.d, and no file can be edited for it.
fn command_line_option(settings: &Settings, after: Limits) -> Option<String> {
    let last = settings.assignments.iter().rfind(|line| is_on_command_line(line))?;
    (!gives(last, after)).then(|| {
        format!(
            "the kernel's command line gives the module {} buckets, whatever modprobe.d says; the \
             sysctl lines set them after it; `{MODULE}.hashsize=` may go from the boot loader's \
             configuration",
            value_of(last)
        )
    })
}

/// Files of the `.d` folders are read in the order of their names. A file elsewhere (read through
/// a link of another name, or `/etc/sysctl.conf`) may come last.
fn sorts_before(file: &Path, folder: &str, ours: &Path) -> bool {
    let in_folder = file.parent().and_then(Path::file_name) == Some(OsStr::new(folder));
    in_folder && file.file_name() < ours.file_name()
}

fn comment_out(line: &Assignment) -> FileStep {
    let last = if line.readers.contains(&Reader::Procps) && line.file.ends_with("sysctl.conf") {
        "`sysctl --system` reads this file last"
    } else {
        "may be read after ours"
    };
    FileStep::CommentOut {
        path: line.file.clone(),
        line: line.line,
        key: line.key,
        value: line.text.clone(),
        module_option: line.module_option,
        why: format!("says {}, and {last}", value_of(line)),
    }
}

fn value_of(line: &Assignment) -> String {
    line.value.map_or_else(|| format!("{:?}", masked(&line.text)), units::count)
}

fn not_ours_to_keep(file: &Path) -> Option<String> {
    let shown = masked(&file.display().to_string());
    if file.starts_with("/run") {
        Some(format!("{shown} is written anew at each boot: have its writer changed as well"))
    } else if file.starts_with("/usr") || file.starts_with("/lib") {
        Some(format!("{shown} belongs to a package, whose next version may bring the line back"))
    } else {
        None
    }
}
