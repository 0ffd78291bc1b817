//! Lists of words: statuses, events, outputs. Any beginning of a word stands for it, in any case.

use ctkeeper_flow::Status;

/// A word and the bits it stands for.
type Word = (&'static str, u32);

/// `-u`.
pub(super) const STATUSES: &[Word] = &[
    ("ASSURED", Status::ASSURED.0),
    ("SEEN_REPLY", Status::SEEN_REPLY.0),
    ("UNSET", 0),
    ("FIXED_TIMEOUT", Status::FIXED_TIMEOUT.0),
    ("EXPECTED", Status::EXPECTED.0),
    ("OFFLOAD", Status::OFFLOAD.0),
    ("HW_OFFLOAD", Status::HW_OFFLOAD.0),
];

/// `-e`.
pub(super) const EVENTS: &[Word] = &[("ALL", 7), ("NEW", 1), ("UPDATES", 2), ("DESTROY", 4)];

/// `-o`.
pub(super) const OUTPUTS: &[Word] = &[
    ("xml", output::XML),
    ("extended", output::EXTENDED),
    ("timestamp", output::TIMESTAMP),
    ("id", output::ID),
    ("ktimestamp", output::KERNEL_TIMESTAMP),
    ("labels", output::LABELS),
    ("userspace", output::USERSPACE),
    ("save", output::SAVE),
];

/// Bits of `-o`.
pub(super) mod output {
    pub(in super::super) const XML: u32 = 1;
    pub(in super::super) const EXTENDED: u32 = 1 << 1;
    pub(in super::super) const TIMESTAMP: u32 = 1 << 2;
    pub(in super::super) const ID: u32 = 1 << 3;
    pub(in super::super) const KERNEL_TIMESTAMP: u32 = 1 << 4;
    pub(in super::super) const LABELS: u32 = 1 << 5;
    pub(in super::super) const SAVE: u32 = 1 << 6;
    /// Changes nothing, and goes with everything.
    pub(in super::super) const USERSPACE: u32 = 1 << 7;
}

/// A list of words that is wrong from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bad<'a>(pub(super) &'a [u8]);

/// Reads a list into bits.
pub(super) fn bits<'a>(
    text: &'a [u8],
    words: &[Word],
    bits: &mut u32,
    warnings: &mut Vec<String>,
) -> Result<(), Bad<'a>> {
    for_each(text, |rest, word| {
        *bits |= lookup(word, words, warnings).ok_or(Bad(rest))?;
        Ok(())
    })
}

/// Reads a list of statuses: bits that are to be set go to `set`, those of words behind a `!` and of
/// `UNREPLIED` to `mask`.
pub(super) fn statuses<'a>(
    text: &'a [u8],
    set: &mut u32,
    mask: &mut u32,
    warnings: &mut Vec<String>,
) -> Result<(), Bad<'a>> {
    for_each(text, |rest, word| {
        if let Some(word) = word.strip_prefix(b"!") {
            *mask |= lookup(word, STATUSES, warnings).ok_or_else(|| Bad(&rest[1..]))?;
        } else if rest.starts_with(b"UNREPLIED") {
            *mask |= Status::SEEN_REPLY.0;
        } else {
            *set |= lookup(word, STATUSES, warnings).ok_or(Bad(rest))?;
        }
        Ok(())
    })
}

/// Calls `read` with each word and with the list from that word on.
fn for_each<'a>(
    mut rest: &'a [u8],
    mut read: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), Bad<'a>>,
) -> Result<(), Bad<'a>> {
    while let Some(comma) = rest.iter().position(|&byte| byte == b',') {
        read(rest, &rest[..comma])?;
        rest = &rest[comma + 1..];
    }
    read(rest, rest)
}

/// The bits of the first word that begins so. The two translations are no statuses to be set, and
/// their names come first whatever the list is of.
fn lookup(beginning: &[u8], words: &[Word], warnings: &mut Vec<String>) -> Option<u32> {
    let begins = |word: &str| {
        let word = word.as_bytes();
        word.len() >= beginning.len() && word[..beginning.len()].eq_ignore_ascii_case(beginning)
    };
    if beginning.is_empty() {
        return None;
    }
    for (name, option) in [("SRC_NAT", "--src-nat"), ("DST_NAT", "--dst-nat")] {
        if begins(name) {
            warnings.push(format!("WARNING: ignoring {name}, use {option} instead"));
            return Some(0);
        }
    }
    words.iter().find(|(word, _)| begins(word)).map(|(_, bits)| *bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_by_their_beginnings() {
        let read = |text: &'static str, words| {
            let (mut value, mut warnings) = (0, Vec::new());
            bits(text.as_bytes(), words, &mut value, &mut warnings)
                .map(|()| (value, warnings.len()))
                .map_err(|Bad(rest)| String::from_utf8_lossy(rest).into_owned())
        };
        assert_eq!(read("NEW,d", EVENTS), Ok((1, 1)));
        assert_eq!(read("new,des,U", EVENTS), Ok((7, 0)));
        assert_eq!(read("x,i,e", OUTPUTS), Ok((output::XML | output::ID | output::EXTENDED, 0)));
        assert_eq!(read("s", OUTPUTS), Ok((0, 1)));
        assert_eq!(read("sa", OUTPUTS), Ok((output::SAVE, 0)));
        assert_eq!(read("xml,foo,id", OUTPUTS), Err("foo,id".to_owned()));
        assert_eq!(read("xml,", OUTPUTS), Err(String::new()));
        assert_eq!(read(",xml", OUTPUTS), Err(",xml".to_owned()));
    }

    #[test]
    fn statuses_to_be_set_and_to_be_clear() {
        let read = |text: &'static str| {
            let (mut set, mut mask, mut warnings) = (0, 0, Vec::new());
            statuses(text.as_bytes(), &mut set, &mut mask, &mut warnings)
                .map(|()| (set, mask))
                .map_err(|Bad(rest)| String::from_utf8_lossy(rest).into_owned())
        };
        assert_eq!(read("ASSURED,!seen"), Ok((4, 2)));
        assert_eq!(read("UNREPLIEDxyz,a"), Ok((4, 2)));
        assert_eq!(read("unreplied"), Err("unreplied".to_owned()));
        assert_eq!(read("!UNREPLIED"), Err("UNREPLIED".to_owned()));
        assert_eq!(read("!"), Err(String::new()));
        assert_eq!(read("!,A"), Err(",A".to_owned()));
    }
}
