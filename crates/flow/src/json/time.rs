//! Times as RFC 3339 in UTC with nanoseconds: exact, where a JSON number of nanoseconds since the
//! epoch would lose its last digits in readers that hold numbers as doubles.

use crate::civil::date;

const SECOND: u64 = 1_000_000_000;

/// Appends `2026-11-22T14:10:02.000000000Z`.
pub(super) fn push(out: &mut Vec<u8>, nanoseconds: u64) {
    let (seconds, fraction) = (nanoseconds / SECOND, nanoseconds % SECOND);
    let (year, month, day) = date(seconds / 86_400);
    let second = seconds % 86_400;
    for (number, width, end) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
        (fraction, 9, b'Z'),
    ] {
        for digit in (0..width).rev() {
            out.push(b'0' + (number / 10u64.pow(digit) % 10) as u8);
        }
        out.push(end);
    }
}

/// Reads such a time, with any number of decimals up to nine, or `None` if it is none or lies
/// outside the years 1970 to 2554 that 64 bits of nanoseconds hold.
pub(super) fn parse(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark)) {
        return None;
    }
    let part = |from: usize, to: usize| digits(text.get(from..to)?);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(year, month, day)?;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    seconds.checked_mul(SECOND)?.checked_add(fraction(text.get(19..)?)?)
}

fn fraction(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let Some(decimals) = text.strip_prefix('.') else {
        return text.is_empty().then_some(0);
    };
    let missing = 9u32.checked_sub(decimals.len() as u32)?;
    Some(digits(decimals)? * 10u64.pow(missing))
}

fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let (before, rest) = lengths.split_at(month as usize - 1);
    if day > *rest.first()? {
        return None;
    }
    let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    Some(years + before.iter().sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(nanoseconds: u64) -> String {
        let mut out = Vec::new();
        push(&mut out, nanoseconds);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_times() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(1_709_164_800 * SECOND + 5), "2024-02-29T00:00:00.000000005Z");
        assert_eq!(text(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn every_day_comes_back() {
        for day in 0..213_000 {
            let time = day * 86_400 * SECOND + 86_399 * SECOND + 999_999_999;
            assert_eq!(parse(&text(time)), Some(time));
        }
    }

    #[test]
    fn what_is_no_time() {
        for wrong in [
            "",
            "2026",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.1234567890Z",
            "9999-01-01T00:00:00Z",
            "2026-01-01T00:00:0éZ",
            "+026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(SECOND));
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(SECOND * 3 / 2));
    }
}
