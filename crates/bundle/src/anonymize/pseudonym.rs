//! What stands in place of a name.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::words;

/// What pseudonyms depend on. With another key they are others; without it they lead nowhere.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// A key of random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// It keeps itself to itself.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Gives pseudonyms, the same for the same original, and remembers what they stand for.
#[derive(Debug)]
pub(super) struct Pseudonyms {
    keyed: Hmac<Sha256>,
    /// Names that stood alone in a field, to be found again in texts.
    learned: BTreeMap<String, String>,
}

/// What every pseudonym begins with.
const PREFIX: &str = "name-";

/// Characters behind it: 40 bits, so that a thousand names meet with a chance of one in two million.
const LENGTH: usize = 8;

const ALPHABET: [u8; 32] = *b"abcdefghijklmnopqrstuvwxyz234567";

/// Characters of a container's id by which it is known, as the runtimes' own tools show it: the
/// whole id and its short form have one pseudonym.
const SHORT_ID: usize = 12;

impl Pseudonyms {
    pub(super) fn new(key: &Key) -> Self {
        let keyed = Hmac::new_from_slice(&key.0).expect("HMAC takes keys of any length");
        Self { keyed, learned: BTreeMap::new() }
    }

    /// The pseudonym of a name, which is looked for in texts from now on. A single common word
    /// (`host`, `default`) is not: nobody could tell the name from the word.
    pub(super) fn name(&mut self, original: &str) -> String {
        let pseudonym = self.of(original);
        if !words::is_word(original) {
            self.learn(original, &pseudonym);
        }
        pseudonym
    }

    /// Replaces `original` in texts from now on.
    pub(super) fn learn(&mut self, original: &str, replacement: &str) {
        if !original.is_empty() && original != replacement {
            self.learned.insert(original.to_owned(), replacement.to_owned());
        }
    }

    /// The pseudonym of a name.
    pub(super) fn of(&self, original: &str) -> String {
        if original.is_empty() {
            return String::new();
        }
        let digest = self.digest(b"name", canonical(original).as_bytes());
        let characters = digest.iter().take(LENGTH).map(|byte| {
            // 32 characters: five bits of the byte choose one.
            char::from(ALPHABET[usize::from(byte % 32)])
        });
        PREFIX.chars().chain(characters).collect()
    }

    /// The longest learned name at the beginning of `text` that `is_whole` lets pass by its length,
    /// and what replaces it.
    pub(super) fn learned_at(
        &self,
        text: &str,
        is_whole: impl Fn(usize) -> bool,
    ) -> Option<(usize, &str)> {
        let mut bound = text;
        // A name that `text` begins with sorts at or before it. The nearest one before either is
        // it, or has some beginning in common with it, and any other is a part of that.
        while !bound.is_empty() {
            let before = (Bound::Unbounded, Bound::Included(bound));
            let (name, replacement) = self.learned.range::<str, _>(before).next_back()?;
            bound = common(text, name);
            if bound.len() == name.len() {
                if is_whole(name.len()) {
                    return Some((name.len(), replacement));
                }
                bound = without_last(bound);
            }
        }
        None
    }

    /// A bit that depends on the key and on `input`.
    pub(super) fn bit(&self, domain: &[u8], input: &[u8]) -> bool {
        self.digest(domain, input)[0] & 1 == 1
    }

    fn digest(&self, domain: &[u8], input: &[u8]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        mac.update(&(domain.len() as u64).to_be_bytes());
        mac.update(domain);
        mac.update(input);
        mac.finalize().into_bytes().into()
    }
}

/// What both texts begin with.
fn common<'a>(one: &'a str, two: &str) -> &'a str {
    let same = one.char_indices().zip(two.chars()).find(|((_, a), b)| a != b);
    let end = same.map_or_else(|| one.len().min(two.len()), |((at, _), _)| at);
    one.get(..end).unwrap_or_default()
}

fn without_last(text: &str) -> &str {
    let mut characters = text.chars();
    characters.next_back();
    characters.as_str()
}

/// One spelling for the spellings of an id: of a container's the short one, of a pod's the one with
/// dashes (systemd has underscores).
fn canonical(name: &str) -> String {
    if is_container_id(name) {
        return name.get(..SHORT_ID).unwrap_or(name).to_owned();
    }
    if is_uid(name) {
        return name.replace('_', "-");
    }
    name.to_owned()
}

/// Whether it is an id of a container, or of something else that was made at random.
pub(super) fn is_id(text: &str) -> bool {
    is_container_id(text) || is_uid(text)
}

fn is_container_id(text: &str) -> bool {
    text.len() >= SHORT_ID && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `0f3c2a1b-1111-2222-3333-444455556666`.
fn is_uid(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-' || byte == b'_';
    text.len() == 36 && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pseudonyms() -> Pseudonyms {
        Pseudonyms::new(&Key::new([7; 32]))
    }

    #[test]
    fn the_same_name_has_the_same_pseudonym() {
        let mut one = pseudonyms();
        assert_eq!(one.name("web"), one.of("web"));
        assert_ne!(one.of("web"), one.of("Web"));
        assert_ne!(one.of("web"), Pseudonyms::new(&Key::new([8; 32])).of("web"));
        assert_eq!(one.of("web").len(), PREFIX.len() + LENGTH);
        assert_eq!(one.of(""), "");
    }

    #[test]
    fn spellings_of_an_id_have_one_pseudonym() {
        let id = "3f2a9c1b7d04e5a69788b0c1d2e3f4053f2a9c1b7d04e5a69788b0c1d2e3f405";
        let one = pseudonyms();
        assert_eq!(one.of(id), one.of(&id[..12]));
        let uid = "0f3c2a1b-1111-2222-3333-444455556666";
        assert_eq!(one.of(uid), one.of(&uid.replace('-', "_")));
    }

    #[test]
    fn the_longest_learned_name_is_found() {
        let mut one = pseudonyms();
        for name in ["web", "web front", "web front end", "wea", "x"] {
            let pseudonym = one.name(name);
            assert_eq!(one.learned_at(name, |_| true), Some((name.len(), pseudonym.as_str())));
        }
        let length = |text, most| one.learned_at(text, |length| length <= most).map(|(l, _)| l);
        assert_eq!(length("web front e", 20), Some(9));
        assert_eq!(length("web front end", 12), Some(9));
        assert_eq!(length("web front end", 3), Some(3));
        assert_eq!(length("web zz", 20), Some(3));
        assert_eq!(length("we", 20), None);
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", Key::new([65; 32])), "Key(…)");
    }
}
