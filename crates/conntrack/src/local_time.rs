//! The local time zone, as the C library finds it.

use std::{env, fmt};

use ctkeeper_flow::LocalTime;
use tz::TimeZone;

/// The rules of the local time zone, by which moments become times of day.
pub(crate) struct LocalZone(Box<dyn Fn(u64) -> i32>);

impl LocalZone {
    /// The zone that `TZ` names (a file of the time zone database, with or without a colon, or
    /// POSIX rules), or without `TZ` that of `/etc/localtime`. UTC where there is none.
    pub(crate) fn load() -> Self {
        let zone = match env::var_os("TZ") {
            Some(name) => name.to_str().and_then(named),
            None => TimeZone::local().ok(),
        };
        Self::of(zone)
    }

    fn of(zone: Option<TimeZone>) -> Self {
        let zone = zone.unwrap_or_else(TimeZone::utc);
        Self(Box::new(move |seconds| offset(&zone, seconds)))
    }

    /// For writers.
    pub(crate) fn local_time(&self) -> LocalTime<'_> {
        LocalTime(&*self.0)
    }
}

impl fmt::Debug for LocalZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalZone")
    }
}

fn named(name: &str) -> Option<TimeZone> {
    TimeZone::from_posix_tz(name).ok()
}

/// Seconds ahead of UTC.
fn offset(zone: &TimeZone, seconds: u64) -> i32 {
    let moment = i64::try_from(seconds).unwrap_or(i64::MAX);
    zone.find_local_time_type(moment).map_or(0, tz::LocalTimeType::ut_offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(name: &str, seconds: u64) -> i32 {
        (LocalZone::of(named(name)).0)(seconds)
    }

    /// Offsets are those that date(1) of Debian 12 shows.
    #[test]
    fn zones_by_name_and_by_rules() {
        let (january, july) = (1_768_478_400, 1_784_116_800); // the 15th, 2026, noon
        assert_eq!(ahead("JST-9", july), 32_400);
        assert_eq!(ahead("<+0330>-3:30", july), 12_600);
        let new_york = "EST5EDT,M3.2.0,M11.1.0";
        assert_eq!((ahead(new_york, january), ahead(new_york, july)), (-18_000, -14_400));
        for nonsense in ["", "Nowhere/Land", "junk", "\0", "../../etc/passwd"] {
            assert_eq!(ahead(nonsense, july), 0, "{nonsense:?}");
        }
        assert_eq!(ahead("JST-9", u64::MAX), 32_400);
    }
}
