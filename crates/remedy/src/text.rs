//! Numbers and names as people read them.

/// `1,048,576`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `393 MiB`; below 10 MiB with one decimal.
pub(crate) fn mebibytes(bytes: u64) -> String {
    let amount = bytes as f64 / f64::from(1 << 20);
    if amount < 10.0 {
        format!("{amount:.1} MiB")
    } else {
        format!("{} MiB", grouped(amount.round() as u64))
    }
}

/// `2.4 %` of a share of 0.024; whole percents from 10 on.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 9.95 && percent.fract() != 0.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// A name that others chose, without anything that could end a line or steer a terminal.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and the invisible ones that reorder or break text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 262_144, 1_048_576].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "262,144", "1,048,576"]);
    }

    #[test]
    fn shares_keep_one_decimal_while_small() {
        assert_eq!([0.024, 0.1, 0.286, 1.0].map(percent), ["2.4 %", "10 %", "29 %", "100 %"]);
    }

    #[test]
    fn a_hostile_name_ends_no_line() {
        assert_eq!(printable("a\nnet.x = 1\u{1b}[2J"), "a\u{fffd}net.x = 1\u{fffd}[2J");
    }
}
