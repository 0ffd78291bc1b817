//! Running values: written, and read back.

use ctkeeper_host::SysctlError;
use ctkeeper_host::sysctl;
use ctkeeper_snapshot::SettingKey;

use crate::error::Error;
use crate::plan::RunningStep;

/// Buckets of the largest page, 64 KiB of 8-byte list heads: the kernel may round up by as much.
const LARGEST_PAGE: u64 = 8192;

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
        SettingKey::Buckets => found.checked_sub(wanted).is_some_and(|more| more < LARGEST_PAGE),
    }
}

const fn name(key: SettingKey) -> &'static str {
    match key {
        SettingKey::Limit => sysctl::LIMIT,
        SettingKey::Buckets => sysctl::BUCKETS,
    }
}
