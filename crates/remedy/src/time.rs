//! Clocks and calendar, for the journal.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::ClockId;

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `CLOCK_BOOTTIME`, milliseconds.
pub(crate) fn since_boot_ms() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Which boot this is; empty where `/proc` is masked.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// `2026-11-22 17:36:00 UTC`.
pub fn readable(unix: u64) -> String {
    let ([year, month, day], [hour, minute, second]) = calendar(unix);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// `20261122-173600`.
pub fn compact(unix: u64) -> String {
    let ([year, month, day], [hour, minute, second]) = calendar(unix);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

fn calendar(unix: u64) -> ([u64; 3], [u64; 3]) {
    let second = unix % 86_400;
    (date(unix / 86_400), [second / 3600, second / 60 % 60, second % 60])
}

/// The date of a number of days since 1970-01-01. Years are counted from March on, so that the
/// leap day is the last of its year.
fn date(days: u64) -> [u64; 3] {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + 719_468;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let leap_corrected =
        day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096;
    let year_of_era = leap_corrected / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    [era * 400 + year_of_era + u64::from(month <= 2), month, day]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_dated() {
        // Held against `date -u -d @N`.
        assert_eq!(readable(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(readable(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(readable(1_795_369_200), "2026-11-22 17:40:00 UTC");
        assert_eq!(compact(4_107_542_399), "21000228-235959");
        assert_eq!(compact(4_107_542_400), "21000301-000000");
    }
}
