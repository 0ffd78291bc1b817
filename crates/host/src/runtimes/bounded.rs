//! Reading no more of an answer than is kept.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Bytes of a name, at most: every runtime's own limits are lower.
const NAME: usize = 4096;

/// The first `MOST` elements of a list, or values of a map; an absent or other value is none.
#[derive(Debug)]
pub(super) struct Bounded<T, const MOST: usize> {
    /// They.
    pub(super) first: Vec<T>,
    /// Whether there were no more.
    pub(super) complete: bool,
}

impl<T, const MOST: usize> Default for Bounded<T, MOST> {
    fn default() -> Self {
        Self { first: Vec::new(), complete: true }
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Bounded<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Elements(PhantomData))
    }
}

struct Elements<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Elements<T, MOST> {
    type Value = Bounded<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, a map or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Bounded::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut kept = Bounded::default();
        while kept.first.len() < MOST {
            let Some(element) = elements.next_element()? else { return Ok(kept) };
            kept.first.push(element);
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {
            kept.complete = false;
        }
        Ok(kept)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut kept = Bounded::default();
        while kept.first.len() < MOST {
            let Some((_, value)) = entries.next_entry::<IgnoredAny, T>()? else { return Ok(kept) };
            kept.first.push(value);
        }
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            kept.complete = false;
        }
        Ok(kept)
    }
}

/// A name that is not absent, cut where it is longer than names are.
pub(super) fn name(text: impl Into<String>) -> Option<String> {
    let mut text = text.into();
    let end = (0..=NAME).rev().find(|&end| text.is_char_boundary(end));
    if text.len() > NAME {
        text.truncate(end.unwrap_or_default());
    }
    text.shrink_to_fit();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_wanted() {
        let read = |json: &str| {
            let kept: Bounded<u8, 2> = serde_json::from_str(json).unwrap();
            (kept.first, kept.complete)
        };
        assert_eq!(read("[1,2]"), (vec![1, 2], true));
        assert_eq!(read("[1,2,3,{\"x\":[]}]"), (vec![1, 2], false));
        assert_eq!(read("{\"a\":1}"), (vec![1], true));
        assert_eq!(read("{\"a\":1,\"b\":2,\"c\":\"x\"}"), (vec![1, 2], false));
        assert_eq!(read("null"), (vec![], true));
        assert!(serde_json::from_str::<Bounded<u8, 2>>("[1,2,").is_err());
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(name(""), None);
        assert_eq!(name("a\u{1b}[31m").as_deref(), Some("a\u{1b}[31m"));
        let long = name("ä".repeat(NAME) + "x").unwrap();
        assert_eq!(long.len(), NAME);
    }
}
