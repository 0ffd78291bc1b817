//! Numbers on the command line.

/// `600000`, `600k`, `1M`, `512Ki`, `1Mi`; separators of thousands are welcome.
pub(super) fn entries(text: &str) -> Result<u64, String> {
    let plain: String = text.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    let digits = plain.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match plain.get(digits.len()..) {
        Some("") => 1,
        Some("k" | "K") => 1000,
        Some("m" | "M") => 1_000_000,
        Some("Ki" | "ki") => 1 << 10,
        Some("Mi" | "mi") => 1 << 20,
        _ => return Err(not_entries(text)),
    };
    let number: u64 = digits.parse().map_err(|_| not_entries(text))?;
    number.checked_mul(factor).ok_or_else(|| not_entries(text))
}

fn not_entries(text: &str) -> String {
    format!("{text:?} is no number of entries: write 600000, 600k, 1M or 512Ki")
}

/// `40%`, `40` or `0.4`: above 0, at most all.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no share: write 40% (above 0, at most 100%)");
    let (number, is_percent) = match text.strip_suffix('%') {
        Some(number) => (number.trim(), true),
        None => (text, false),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let share = if is_percent || number > 1.0 { number / 100.0 } else { number };
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_take_units() {
        let cases = [
            ("600000", 600_000),
            ("600k", 600_000),
            ("1M", 1_000_000),
            ("512Ki", 524_288),
            ("1,048,576", 1_048_576),
            ("0", 0),
        ];
        for (text, number) in cases {
            assert_eq!(entries(text), Ok(number));
        }
        for text in ["", "k", "-1", "1.5M", "1G", "99999999999999999999", "99999999999999999M", "ü"]
        {
            assert!(entries(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_percents_or_fractions() {
        for (text, expected) in [("40%", 0.4), ("40", 0.4), ("0.4", 0.4), ("100%", 1.0), ("1", 1.0)]
        {
            assert!((share(text).unwrap() - expected).abs() < 1e-9, "{text}");
        }
        for text in ["0", "0%", "-1%", "101%", "NaN", "inf", "", "%"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
