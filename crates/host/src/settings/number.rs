//! Numbers as the kernel takes them from a sysctl file or a module option.

use std::ops::RangeInclusive;

/// Longest number that `proc_get_long` of `kernel/sysctl.c` (Linux 6.12, `TMPBUFLEN`) takes.
const LONGEST: usize = 20;

/// The number that a write of `text` to an integer sysctl stores, if the kernel takes it and it is
/// in `range`.
///
/// As `proc_dointvec` of `kernel/sysctl.c` (Linux 6.12) does it: blanks before; a minus; decimal,
/// `0x` hexadecimal or `0` octal digits, at most 20 characters; then the end, a blank, a tab or a
/// line feed. What follows those is ignored: `600000 # comment` is 600000.
pub fn kernel_integer(text: &str, range: &RangeInclusive<i64>) -> Option<i64> {
    let text = text.trim_start_matches(is_kernel_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (magnitude, length) = magnitude(digits)?;
    let rest = digits.get(length..)?;
    if !rest.is_empty() && !rest.starts_with([' ', '\t', '\n']) {
        return None;
    }
    if length + usize::from(negative) > LONGEST {
        return None;
    }
    let number = if negative { magnitude.checked_neg()? } else { magnitude };
    Some(number).filter(|number| range.contains(number))
}

/// The number that a module parameter of type `uint` takes (`kstrtouint`, `lib/kstrtox.c`): the
/// whole text is the number, but for one plus before and one line feed behind.
pub fn module_parameter(text: &str) -> Option<u32> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let digits = text.strip_prefix('+').unwrap_or(text);
    let (number, length) = magnitude(digits)?;
    if length == digits.len() { u32::try_from(number).ok() } else { None }
}

/// The number at the start of `text` and how many bytes it is long.
fn magnitude(text: &str) -> Option<(i64, usize)> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (prefix, radix) = radix(text.as_bytes());
    let digits = text.get(prefix..)?;
    let length = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let number = i64::from_str_radix(digits.get(..length)?, radix).ok()?;
    Some((number, prefix + length))
}

/// `_parse_integer_fixup_radix` of `lib/kstrtox.c`: length of the prefix, and the base.
fn radix(text: &[u8]) -> (usize, u32) {
    match text {
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => (2, 16),
        [b'0', ..] => (0, 8),
        _ => (0, 10),
    }
}

/// `isspace` of `lib/ctype.c`, but for the no-break space, which is no single byte here.
fn is_kernel_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INT: RangeInclusive<i64> = 0..=2_147_483_647;

    /// What `net.core.somaxconn` of Linux 6.18 made of these is in `tests/suite/host.rs`.
    #[test]
    fn integers_are_taken_as_the_kernel_takes_them() {
        let cases = [
            ("600000", Some(600_000)),
            (" \t600000\n", Some(600_000)),
            ("600000 # comment", Some(600_000)),
            ("0x927C0", Some(600_000)),
            ("0500", Some(320)),
            ("00000000000000000500", Some(320)),
            ("000000000000000000500", None),
            ("09", None),
            ("0x", None),
            ("+5", None),
            ("-5", None),
            ("5abc", None),
            ("5\r", None),
            ("\"5\"", None),
            ("", None),
            ("-", None),
            ("2147483648", None),
            ("99999999999999999999", None),
            ("0", Some(0)),
        ];
        for (text, expected) in cases {
            assert_eq!(kernel_integer(text, &INT), expected, "{text:?}");
        }
        assert_eq!(kernel_integer("-1", &(-1..=5)), Some(-1));
    }

    #[test]
    fn module_parameters_are_whole() {
        assert_eq!(module_parameter("150000"), Some(150_000));
        assert_eq!(module_parameter("0x10\n"), Some(16));
        for refused in ["150000 ", "-1", "", "4294967296", "1k", "0x"] {
            assert_eq!(module_parameter(refused), None, "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in ".{0,40}") {
            let _ = kernel_integer(&text, &(i64::MIN..=i64::MAX));
            let _ = module_parameter(&text);
        }

        #[test]
        fn decimals_are_themselves(number in 1_i64..2_147_483_647) {
            prop_assert_eq!(kernel_integer(&number.to_string(), &INT), Some(number));
        }
    }
}
