//! Numbers as the C library reads them: what does not look like one is 0, what is too large sticks
//! at the largest, a sign is welcome.

/// `strtoul`: the number and what follows it; `base` 0 knows `0x` and a leading 0. The rest is the
/// whole text where there is no number.
pub(crate) fn unsigned(text: &[u8], base: u64) -> (u64, &[u8]) {
    let Some((negative, magnitude, rest)) = digits(text, base) else {
        return (0, text);
    };
    match magnitude {
        Some(value) if negative => (value.wrapping_neg(), rest),
        Some(value) => (value, rest),
        None => (u64::MAX, rest),
    }
}

/// `strtol` in base 10: the number and what follows it.
pub(super) fn signed(text: &[u8]) -> (i64, &[u8]) {
    let Some((negative, magnitude, rest)) = digits(text, 10) else {
        return (0, text);
    };
    let limit = if negative { i64::MIN } else { i64::MAX };
    let value = magnitude.and_then(|value| {
        if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
    });
    (value.unwrap_or(limit), rest)
}

/// `strtoul` in any base, for fields of 32 bits: higher bits are lost.
pub(super) fn word(text: &[u8]) -> u32 {
    unsigned(text, 0).0 as u32
}

/// `strtoul` in any base, for fields of 16 bits: higher bits are lost.
pub(super) fn half_word(text: &[u8]) -> u16 {
    unsigned(text, 0).0 as u16
}

/// `atol`.
pub(super) fn long(text: &[u8]) -> i64 {
    signed(text).0
}

/// `atoi`, which keeps the lower half of what `strtol` reads.
pub(super) fn integer(text: &[u8]) -> i32 {
    signed(text).0 as i32
}

/// Whether C's `isspace` says so in the C locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Sign, magnitude (`None`: more than 64 bits) and the rest; `None` where there are no digits.
fn digits(text: &[u8], base: u64) -> Option<(bool, Option<u64>, &[u8])> {
    let start = text.iter().position(|&byte| !is_space(byte)).unwrap_or(text.len());
    let (negative, text) = match text[start..] {
        [b'-', ..] => (true, &text[start + 1..]),
        [b'+', ..] => (false, &text[start + 1..]),
        _ => (false, &text[start..]),
    };
    let (base, text) = match text {
        [b'0', b'x' | b'X', digit, ..] if base == 0 && digit.is_ascii_hexdigit() => {
            (16, &text[2..])
        }
        [b'0', ..] if base == 0 => (8, text),
        _ if base == 0 => (10, text),
        _ => (base, text),
    };
    let digit = |byte: u8| char::from(byte).to_digit(base as u32).map(u64::from);
    let length = text.iter().position(|&byte| digit(byte).is_none()).unwrap_or(text.len());
    let magnitude = text[..length]
        .iter()
        .copied()
        .filter_map(digit)
        .try_fold(0u64, |sum, digit| sum.checked_mul(base)?.checked_add(digit));
    (length > 0).then_some((negative, magnitude, &text[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_numbers() {
        assert_eq!(unsigned(b"0x1Fz", 0), (31, &b"z"[..]));
        assert_eq!(unsigned(b"0x", 0), (0, &b"x"[..]));
        assert_eq!(unsigned(b"017", 0), (15, &b""[..]));
        assert_eq!(unsigned(b"08", 0), (0, &b"8"[..]));
        assert_eq!(unsigned(b" \t+7 ", 0), (7, &b" "[..]));
        assert_eq!(unsigned(b"-1", 0), (u64::MAX, &b""[..]));
        assert_eq!(unsigned(b"-99999999999999999999", 0), (u64::MAX, &b""[..]));
        assert_eq!(unsigned(b"five", 0), (0, &b"five"[..]));
        assert_eq!(unsigned(b"-", 0), (0, &b"-"[..]));
    }

    #[test]
    fn signed_numbers() {
        assert_eq!(signed(b"-9223372036854775808"), (i64::MIN, &b""[..]));
        assert_eq!(signed(b"9223372036854775808"), (i64::MAX, &b""[..]));
        assert_eq!(integer(b"9223372036854775808"), -1);
        assert_eq!(integer(b"4294967297"), 1);
        assert_eq!(signed(b"0x10"), (0, &b"x10"[..]));
        assert_eq!(half_word(b"65541"), 5);
    }
}
