//! Moments as people write them.

use std::fmt;

use crate::digits::push_number;

/// Local time: how many seconds it is ahead of UTC at a moment, seconds since the epoch.
///
/// The rules of time zones are read from files, which this crate does not do; whoever writes local
/// times brings them.
#[derive(Clone, Copy)]
pub struct LocalTime<'a>(pub &'a dyn Fn(u64) -> i32);

impl LocalTime<'_> {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(&|_| 0);

    /// The calendar and clock at a moment.
    pub(crate) fn civil(self, seconds: u64) -> Civil {
        Civil::of(seconds.saturating_add_signed(i64::from((self.0)(seconds))))
    }
}

impl fmt::Debug for LocalTime<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalTime")
    }
}

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: u64,
    /// 1 is January.
    pub(crate) month: u64,
    pub(crate) day: u64,
    /// 0 is Sunday.
    pub(crate) weekday: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
}

impl Civil {
    /// Of seconds since the epoch.
    fn of(seconds: u64) -> Self {
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        Self {
            year,
            month,
            day,
            weekday: (days + 4) % 7, // the epoch was a Thursday
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    /// Appends `Sun Nov 22 14:10:02 2026`, as ctime(3) writes it.
    pub(crate) fn push_ctime(self, out: &mut Vec<u8>) {
        const DAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
        const MONTHS: [&[u8; 3]; 12] = [
            b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
            b"Dec",
        ];
        out.extend_from_slice(DAYS[self.weekday as usize % 7]);
        out.push(b' ');
        out.extend_from_slice(MONTHS[(self.month as usize + 11) % 12]);
        push_padded(out, self.day, 3, b' ');
        out.push(b' ');
        for (number, end) in [(self.hour, b':'), (self.minute, b':'), (self.second, b' ')] {
            push_padded(out, number, 2, b'0');
            out.push(end);
        }
        push_number(out, self.year);
    }
}

/// Appends a number in at least `width` places, filled up from the left.
pub(crate) fn push_padded(out: &mut Vec<u8>, number: u64, width: u32, filling: u8) {
    let digits = number.checked_ilog10().unwrap_or(0) + 1;
    out.extend((digits..width).map(|_| filling));
    push_number(out, number);
}

/// Year, month and day of a day since the epoch, in the Gregorian calendar: years are reckoned
/// from March, so that the leap day is the last of its year.
pub(crate) fn date(days: u64) -> (u64, u64, u64) {
    let since = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (since / 146_097, since % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctime(seconds: u64, offset: i32) -> String {
        let mut out = Vec::new();
        LocalTime(&|_| offset).civil(seconds).push_ctime(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Expected texts are those of glibc 2.36's ctime(3).
    #[test]
    fn as_ctime_writes_it() {
        assert_eq!(ctime(0, 0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(ctime(1_709_164_800, 0), "Thu Feb 29 00:00:00 2024");
        assert_eq!(ctime(1_795_356_602, 3600), "Sun Nov 22 15:10:02 2026");
        assert_eq!(ctime(1_795_356_602, -36_000), "Sun Nov 22 04:10:02 2026");
    }

    #[test]
    fn numbers_are_filled_up() {
        let mut out = Vec::new();
        push_padded(&mut out, 7, 2, b'0');
        push_padded(&mut out, 0, 3, b' ');
        push_padded(&mut out, 1234, 3, b'0');
        assert_eq!(out, b"07  01234");
    }

    #[test]
    fn no_moment_is_out_of_range() {
        for seconds in [0, u64::MAX / 2, u64::MAX] {
            assert!(!ctime(seconds, i32::MAX).is_empty());
            assert!(!ctime(seconds, i32::MIN).is_empty());
        }
    }
}
