//! Numbers with units, as every face of ctkeeper writes them.

use std::time::Duration;

/// `262144` as `262,144`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 entry`, `262,144 entries`: a count with the word for what is counted.
pub fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { several })
}

/// A share of 1 as a percentage: `71.0 %`, `2.4 %`, `100 %`; shares that are not quite all or
/// nothing never read as such.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 100.0 || percent == 0.0 {
        format!("{percent:.0} %")
    } else if percent > 99.9 {
        "99.9 %".to_owned()
    } else if percent < 0.1 {
        "<0.1 %".to_owned()
    } else {
        format!("{percent:.1} %")
    }
}

/// Bytes as `393 MiB`, `1.5 MiB`, `12.0 GiB`.
pub fn mebibytes(bytes: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let mib = bytes as f64 / MIB;
    if mib >= 10.0 * 1024.0 {
        format!("{:.1} GiB", mib / 1024.0)
    } else if mib >= 10.0 {
        format!("{mib:.0} MiB")
    } else {
        format!("{mib:.1} MiB")
    }
}

/// A duration in its largest fitting unit: `350 ms`, `38 min`, `5 days`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match seconds {
        0 => return format!("{} ms", duration.as_millis()),
        1..=119 => (seconds, "s"),
        120..=7199 => (seconds / 60, "min"),
        7200..=172_799 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{number} {unit}")
}

/// A time as people write it: `500ms`, `2s`, `30m` (or `min`), `1h`, `2d`; a bare number is
/// seconds, fractions are fine. The error is a sentence for whoever wrote it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 500ms, 2s, 30m, 1h or 2d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..) {
        Some("ms") => 0.001,
        Some("" | "s") => 1.0,
        Some("m" | "min") => 60.0,
        Some("h") => 3600.0,
        Some("d") => 86_400.0,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (262_144, "262,144"), (1 << 20, "1,048,576")]
        {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "entry", "entries"), "1 entry");
        assert_eq!(counted(0, "entry", "entries"), "0 entries");
    }

    #[test]
    fn nearly_all_is_not_all() {
        assert_eq!(percent(0.99999), "99.9 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.000_01), "<0.1 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.024), "2.4 %");
    }

    #[test]
    fn durations_take_the_largest_fitting_unit() {
        assert_eq!(duration(Duration::from_millis(350)), "350 ms");
        assert_eq!(duration(Duration::from_secs(38 * 60)), "38 min");
        assert_eq!(duration(Duration::from_secs(432_000)), "5 days");
    }

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in [
            ("2s", 2000),
            ("500ms", 500),
            ("1m", 60_000),
            ("1min", 60_000),
            ("0.5", 500),
            ("90", 90_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "2 parsecs", "1y", "-1s", "1e300h", "NaN", "inf", "ü", "2 s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
