//! Values of entries on a command line.

use std::net::IpAddr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use ctkeeper_flow::{Mark, Status, units};

/// `0x10`, `16`, `0x10/0xf0`: the mark, and the bits of it that are meant.
pub(super) fn masked_mark(text: &str) -> Result<(Mark, u32), String> {
    let (mark, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    let (value, mask) = (number(mark)?, number(mask)?);
    if value & !mask != 0 {
        return Err(format!("{value:#x} has bits that are not in its mask {mask:#x}"));
    }
    Ok((Mark(value), mask))
}

/// A mark without a mask.
pub(super) fn mark(text: &str) -> Result<Mark, String> {
    number(text).map(Mark)
}

fn number(text: &str) -> Result<u32, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("`{text}` is no number of 32 bits, such as 16 or 0x10"))
}

/// A bit that the kernel lets others set.
pub(super) fn status(name: &str) -> Result<Status, String> {
    let settable = Status::SEEN_REPLY | Status::ASSURED | Status::FIXED_TIMEOUT;
    let name = name.replace('-', "_");
    Status::from_name(if name.eq_ignore_ascii_case("replied") { "SEEN_REPLY" } else { &name })
        .filter(|bit| settable.contains(*bit))
        .ok_or_else(|| {
            "the bits that can be set are assured, seen_reply and fixed_timeout".to_owned()
        })
}

/// A label's bit.
pub(super) fn label() -> impl TypedValueParser<Value = u8> {
    clap::value_parser!(u8).range(0..=127)
}

/// How long an entry is to live.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text)? {
        Duration::ZERO => Err("an entry lives some time: `ctkeeper delete` ends one".to_owned()),
        time => Ok(time),
    }
}

/// Whole seconds, as many as the kernel's timeouts hold; what is not nothing is at least one.
pub(super) fn seconds(time: Duration) -> u32 {
    let whole = time.as_secs().max(u64::from(time > Duration::ZERO));
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// What the kernel made of a timeout that is longer than it can hold (2^31 of its ticks: 99 days
/// at 250 a second).
pub(super) fn shortened(asked: u32, made: Option<u32>) -> Option<String> {
    const LATE: u32 = 60; // it runs already
    let made = made.filter(|made| made.saturating_add(LATE) < asked)?;
    let span = units::duration(Duration::from_secs(made.into()));
    Some(format!("The timeout is {span}: this kernel holds no longer ones."))
}

/// `192.0.2.1`, `192.0.2.1:8080`, `[fd00::1]:8080`.
pub(super) fn endpoint(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    let wrong = || format!("`{text}` is no address, with a port or not: 192.0.2.1:8080");
    if let Ok(address) = text.trim_matches(['[', ']']).parse() {
        return Ok((address, None));
    }
    let end: std::net::SocketAddr = text.parse().map_err(|_| wrong())?;
    Ok((end.ip(), Some(end.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stay_within_their_masks() {
        assert_eq!(masked_mark("16"), Ok((Mark(16), u32::MAX)));
        assert_eq!(masked_mark("0x10/0xf0"), Ok((Mark(16), 0xf0)));
        assert!(masked_mark("0x11/0xf0").unwrap_err().contains("not in its mask"));
        assert!(masked_mark("x").is_err() && masked_mark("1/").is_err());
    }

    #[test]
    fn only_some_bits_can_be_set() {
        assert_eq!(status("fixed-timeout"), Ok(Status::FIXED_TIMEOUT));
        assert_eq!(status("replied"), Ok(Status::SEEN_REPLY));
        assert!(status("dying").is_err());
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(u64::MAX)), u32::MAX);
        assert_eq!(seconds(Duration::ZERO), 0);
    }

    #[test]
    fn a_shortened_timeout_is_told() {
        assert_eq!(shortened(300, Some(299)), None);
        assert_eq!(shortened(300, None), None);
        assert!(shortened(8_640_000, Some(8_589_934)).unwrap().contains("holds no longer"));
    }
}
