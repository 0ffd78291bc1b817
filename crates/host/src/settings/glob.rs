//! `glob(3)` patterns against the paths of sysctls.

/// Whether a key is a pattern rather than a name, as both readers of sysctl files judge it.
pub(super) fn is_pattern(key: &str) -> bool {
    key.contains(['*', '?', '['])
}

/// Whether a pattern matches a path: part by part, as no `*` reaches over a slash.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if matches_part(pattern.as_bytes(), part.as_bytes()) => {}
            _ => return false,
        }
    }
}

/// Goes back to the last `*` only, so the time is bounded by the product of the lengths.
fn matches_part(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while let Some(&byte) = text.get(read) {
        match token(pattern.get(at..).unwrap_or_default()) {
            Some((Token::Star, length)) => {
                at += length;
                star = Some((at, read));
            }
            Some((one, length)) if one.takes(byte) => {
                at += length;
                read += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    at = after;
                    read = from + 1;
                    star = Some((after, read));
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// One element of a pattern.
enum Token<'a> {
    Star,
    Any,
    Byte(u8),
    Set { negated: bool, members: &'a [u8] },
}

impl Token<'_> {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Star => false,
            Self::Any => true,
            Self::Byte(own) => *own == byte,
            Self::Set { negated, members } => is_member(members, byte) != *negated,
        }
    }
}

/// The first element of a pattern and its length.
fn token(pattern: &[u8]) -> Option<(Token<'_>, usize)> {
    Some(match pattern {
        [] => return None,
        [b'*', ..] => (Token::Star, 1),
        [b'?', ..] => (Token::Any, 1),
        [b'\\', byte, ..] => (Token::Byte(*byte), 2),
        [b'[', rest @ ..] => set(rest).map_or((Token::Byte(b'['), 1), |(set, n)| (set, n + 1)),
        [byte, ..] => (Token::Byte(*byte), 1),
    })
}

/// A bracket expression after its `[`; a `]` that comes first is a member.
fn set(rest: &[u8]) -> Option<(Token<'_>, usize)> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let start = usize::from(negated);
    let members = rest.get(start..)?;
    let end = members.iter().skip(1).position(|byte| *byte == b']')? + 1;
    Some((Token::Set { negated, members: members.get(..end)? }, start + end + 1))
}

fn is_member(members: &[u8], byte: u8) -> bool {
    let mut rest = members;
    loop {
        rest = match rest {
            [] => return false,
            [first, b'-', last, ..] if (*first..=*last).contains(&byte) => return true,
            [_, b'-', _, rest @ ..] => rest,
            [own, ..] if *own == byte => return true,
            [_, rest @ ..] => rest,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: &str = "net/netfilter/nf_conntrack_max";

    #[test]
    fn patterns_match_as_glob_does() {
        for pattern in [
            "net/*/nf_conntrack_max",
            "net/netfilter/nf_conntrack_*",
            "net/netfilter/*",
            "net/netfilter/nf_conntrack_ma?",
            "net/netfilter/nf_conntrack_m[a-c]x",
            "net/netfilter/nf_conntrack_m[!b]x",
            "*/*/*",
            "net/netfilter/*track*max*",
        ] {
            assert!(matches(pattern, LIMIT), "{pattern}");
        }
        for pattern in [
            "net/*",
            "net*max",
            "net/netfilter/nf_conntrack_m[!a-c]x",
            "net/netfilter/nf_conntrack_max?",
            "net/netfilter/nf_conntrack_ma[",
            "net/*/*/nf_conntrack_max",
            "",
        ] {
            assert!(!matches(pattern, LIMIT), "{pattern}");
        }
        assert!(matches("a[]]b", "a]b") && matches("a\\*b", "a*b") && matches("**", "x"));
    }

    proptest! {
        #[test]
        fn no_pattern_does_harm(pattern in "[*?\\[\\]!^a-c/\\\\-]{0,40}", path in "[a-c/\\-\\]]{0,40}") {
            let _ = matches(&pattern, &path);
        }

        #[test]
        fn a_name_matches_itself(path in "[a-z_/.]{0,30}") {
            prop_assert!(matches(&path, &path));
        }
    }
}
