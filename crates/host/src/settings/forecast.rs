//! What each reader gives after a reboot, and where the running values come from.

use ctkeeper_flow::Limits;
use ctkeeper_snapshot::{
    Assignment, EarlyLoad, Forecast, ForecastSource, ForecastValue, Origin, Reader, SettingKey,
};

use super::sysctl_files::Line;
use super::{Files, RunningValues, kernel, module_parameter, option_assignment, sysctl_assignment};

/// Judges files against the kernel and what runs.
pub(super) struct Judge<'a> {
    pub(super) files: &'a Files,
    pub(super) running: &'a RunningValues,
    pub(super) kernel_default: Option<Limits>,
}

impl Judge<'_> {
    pub(super) fn forecast(&self, reader: Reader) -> Forecast {
        Forecast {
            reader,
            limit: self.value(reader, SettingKey::Limit),
            buckets: self.value(reader, SettingKey::Buckets),
        }
    }

    pub(super) fn origin(&self, key: SettingKey) -> Origin {
        let Some(running) = self.running.limits.map(|limits| part(key, &limits)) else {
            return Origin::Unknown;
        };
        if let Some(assignment) = self.line_that_gives(key, running) {
            return Origin::File { assignment };
        }
        match self.kernel_default.map(|limits| part(key, &limits)) {
            None => Origin::Unknown,
            Some(default) if is_default(running, default) => Origin::KernelDefault,
            Some(_) => Origin::SomebodyElse,
        }
    }

    /// The value that the module starts with, then what the reader makes of it.
    fn value(&self, reader: Reader, key: SettingKey) -> ForecastValue {
        let start = self.start(key);
        let lines = self.written(reader, key);
        let (in_time, late): (Vec<_>, Vec<_>) =
            lines.iter().partition(|line| self.files.early.reaches(&line.path));
        let lost = || late.last().map(|line| self.assignment(key, line, reader));
        let Some(last) = in_time.last() else {
            return ForecastValue { lost: lost(), ..start };
        };
        let assignment = self.assignment(key, last, reader);
        let taken = in_time.iter().filter_map(|line| self.accepted(key, &line.text)).next_back();
        let source = match self.accepted(key, &last.text) {
            Some(_) => ForecastSource::Sysctl { assignment },
            None => ForecastSource::Refused { assignment },
        };
        ForecastValue { value: taken.or(start.value), source, lost: None }
    }

    /// What the module comes with: an option's consequence, or the kernel's own choice.
    fn start(&self, key: SettingKey) -> ForecastValue {
        let (value, source) = match self.files.hashsize(self.running.module) {
            None => (self.kernel_default, ForecastSource::KernelDefault),
            Some(option) => {
                let assignment = option_assignment(option);
                match module_parameter(&option.text) {
                    // The module does not load with an option that is no number.
                    None => (None, ForecastSource::Refused { assignment }),
                    Some(hashsize) => (
                        kernel::with_hashsize(hashsize).or(self.kernel_default),
                        ForecastSource::ModuleOption { assignment },
                    ),
                }
            }
        };
        ForecastValue { value: value.map(|limits| part(key, &limits)), source, lost: None }
    }

    /// The lines that a reader writes at boot. A udev rule runs systemd-sysctl whichever reader the
    /// host uses otherwise.
    fn written(&self, reader: Reader, key: SettingKey) -> &[Line] {
        let reader = match self.files.early.load {
            EarlyLoad::UdevRule { .. } => self.files.early.reader.unwrap_or(reader),
            _ => reader,
        };
        self.files.lines(key).written_by(reader)
    }

    /// The line whose value runs: of the lines that win with either reader, else a module option.
    fn line_that_gives(&self, key: SettingKey, running: u64) -> Option<Assignment> {
        let winners = [Reader::Systemd, Reader::Procps].into_iter().filter_map(|reader| {
            let mut lines = self.files.lines(key).written_by(reader).iter();
            let taken = lines.rfind(|line| self.accepted(key, &line.text).is_some())?;
            (self.accepted(key, &taken.text)? == running)
                .then(|| self.assignment(key, taken, reader))
        });
        let by_option = || {
            let option = self.files.hashsize(self.running.module)?;
            let limits = kernel::with_hashsize(module_parameter(&option.text)?)?;
            (part(key, &limits) == running).then(|| option_assignment(option))
        };
        winners.into_iter().next().or_else(by_option)
    }

    fn accepted(&self, key: SettingKey, text: &str) -> Option<u64> {
        kernel::accepted(key, text, &self.running.kernel_release)
    }

    fn assignment(&self, key: SettingKey, line: &Line, reader: Reader) -> Assignment {
        let all = self.files.lines(key).all.iter();
        let mut same =
            all.filter(|(other, _)| (&other.file, other.line) == (&line.file, line.line));
        let readers = same.next().map_or_else(|| vec![reader], |(_, readers)| readers.clone());
        let release = &self.running.kernel_release;
        Assignment { readers, ..sysctl_assignment(key, line, release) }
    }
}

fn part(key: SettingKey, limits: &Limits) -> u64 {
    match key {
        SettingKey::Limit => limits.limit.0,
        SettingKey::Buckets => limits.buckets,
    }
}

/// Memory counted when the kernel sized the table and `MemTotal` now differ a little (memory freed
/// after start, balloons): one page of buckets up or down is the same choice.
fn is_default(running: u64, default: u64) -> bool {
    running.abs_diff(default)
        <= if default.is_power_of_two() && default >= 16_384 { 0 } else { kernel::round_up(1) }
}
