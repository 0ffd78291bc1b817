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
            Some(name) => name.to_str().and_then(|name| TimeZone::from_posix_tz(name).ok()),
            None => TimeZone::local().ok(),
        };
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

/// Seconds ahead of UTC.
fn offset(zone: &TimeZone, seconds: u64) -> i32 {
    let moment = i64::try_from(seconds).unwrap_or(i64::MAX);
    zone.find_local_time_type(moment).map_or(0, tz::LocalTimeType::ut_offset)
}
