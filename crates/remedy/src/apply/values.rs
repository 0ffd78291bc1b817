//! Running values: written, and read back.

use ctkeeper_host::SysctlError;
use ctkeeper_host::settings::round_up;
use ctkeeper_host::sysctl;
use ctkeeper_snapshot::SettingKey;

use crate::error::Error;
use crate::plan::RunningStep;

/// A value as it runs.
pub(super) fn read(key: SettingKey) -> Result<u64, SysctlError> {
    sysctl::read(name(key))
}

/// Writes a value and looks whether it took.
pub(super) fn write(key: SettingKey, wanted: u64) -> Result<(), Error> {
    sysctl::write(name(key), wanted)?;
    let found = read(key)?;
    if is(key, wanted, found) {
        Ok(())
    } else {
        Err(Error::ReadBack { key: key.sysctl(), wanted, found })
    }
}

/// Whether a step's value stands at `end` now.
pub(super) fn is_at(step: RunningStep, end: u64) -> bool {
    read(step.key).is_ok_and(|found| is(step.key, end, found))
}

fn is(key: SettingKey, wanted: u64, found: u64) -> bool {
    match key {
        SettingKey::Limit => found == wanted,
        // The kernel rounds up to whole pages; a value that it made itself stands as it is.
        SettingKey::Buckets => found == wanted || found == round_up(wanted),
    }
}

const fn name(key: SettingKey) -> &'static str {
    match key {
        SettingKey::Limit => sysctl::LIMIT,
        SettingKey::Buckets => sysctl::BUCKETS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_told_apart_by_the_page() {
        let is = |wanted, found| is(SettingKey::Buckets, wanted, found);
        assert!(is(65_536, 65_536) && is(70_144, round_up(70_144)));
        assert!(is(600_000, round_up(600_000)) && !is(600_000, 600_000 - 1));
        // A raise by less than the largest of pages is a raise.
        let page = round_up(1);
        for (before, after) in [(65_536, 65_536 + page), (65_536, 65_536 + 9 * page)] {
            assert!(!is(before, after) && !is(after, before), "{before} and {after}");
        }
    }
}
