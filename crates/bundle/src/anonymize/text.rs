//! Texts: what is known to be harmless stays, word by word; the rest is replaced.

use std::net::IpAddr;

use super::pseudonym::Pseudonyms;
use super::{address, words};

/// Characters between words, beside blanks. They may stay whatever they separate.
const BETWEEN: &str = ",;()[]{}<>\"'`=|!?*&^$#~\\…";

impl Pseudonyms {
    /// A text with pseudonyms in place of addresses, paths, learned names and whatever words are not
    /// known.
    pub(super) fn text(&self, text: &str) -> String {
        let mut given = String::with_capacity(text.len());
        let mut plain = 0;
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let found = self.learned_at(rest, |length| stands_alone(text, at, length));
            if let Some((length, replacement)) = found {
                self.add_words(&mut given, &text[plain..at]);
                given.push_str(replacement);
                at += length;
                plain = at;
            } else {
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
        }
        self.add_words(&mut given, &text[plain..]);
        given
    }

    fn add_words(&self, given: &mut String, text: &str) {
        for piece in text.split_inclusive(is_between) {
            let word = piece.trim_end_matches(is_between);
            given.push_str(&self.word(word));
            given.push_str(&piece[word.len()..]);
        }
    }

    /// A word with whatever points and colons stand around it.
    fn word(&self, word: &str) -> String {
        let is_mark = |c: char| ".:-/_+%@".contains(c);
        if let Some(given) = self.address(word) {
            return given;
        }
        let rest = word.trim_end_matches([':', '.', '-']);
        let end = &word[rest.len()..];
        if let Some(given) = self.address(rest) {
            return given + end;
        }
        if let Some((path, line)) = path_and_line(rest) {
            return self.path_of(path) + line + end;
        }
        let rest_without_marks = rest.trim_start_matches(is_mark);
        let start = &rest[..rest.len() - rest_without_marks.len()];
        let given = self.plain_word(rest_without_marks);
        format!("{start}{given}{end}")
    }

    fn plain_word(&self, word: &str) -> String {
        if word.is_empty() || words::is_known(word) || words::is_number(word) {
            return word.to_owned();
        }
        self.of(word)
    }

    /// The pseudonym of an address, or of a prefix, with port or interface behind it.
    fn address(&self, word: &str) -> Option<String> {
        if let Ok(found) = word.parse::<IpAddr>() {
            return Some(address::address(self, found).to_string());
        }
        let (before, after, mark) = [('/', '/'), ('%', '%'), (':', ':')]
            .into_iter()
            .find_map(|(at, mark)| word.rsplit_once(at).map(|(b, a)| (b, a, mark)))?;
        let found: IpAddr = before.parse().ok()?;
        if mark == '/' {
            let length: u32 = after.parse().ok()?;
            return Some(format!("{}/{length}", address::prefix(self, found, length)));
        }
        let after = self.plain_word(after);
        Some(format!("{}{mark}{after}", address::address(self, found)))
    }
}

/// Whether what begins at `at` is a name of its own and no part of a longer one.
fn stands_alone(text: &str, at: usize, length: usize) -> bool {
    let before = text[..at].chars().next_back();
    let after = text[at + length..].chars().next();
    ![before, after].into_iter().flatten().any(char::is_alphanumeric)
}

fn is_between(character: char) -> bool {
    character.is_ascii_whitespace() || BETWEEN.contains(character)
}

/// An absolute path, and the line or column behind it: `/etc/sysctl.conf:3`.
fn path_and_line(word: &str) -> Option<(&str, &str)> {
    if !word.starts_with('/') {
        return None;
    }
    let path = word.trim_end_matches(|c: char| c.is_ascii_digit() || c == ':');
    match word.get(path.len()..).and_then(|rest| rest.find(':')) {
        Some(colon) => Some(word.split_at(path.len() + colon)),
        None => Some((word, "")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pseudonym::Key;
    use super::*;

    fn pseudonyms() -> Pseudonyms {
        Pseudonyms::new(&Key::new([5; 32]))
    }

    #[test]
    fn our_own_words_stay() {
        for same in [
            "nf_conntrack: nf_conntrack: table full in netns 4026532465, dropping packet",
            "net_ratelimit: 59 callbacks suppressed",
            "reading /proc/12/ns/net: permission denied",
            "the counters of namespace 4026532465",
            "run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN",
            "net.netfilter.nf_conntrack_tcp_timeout_established = 432000",
            "options nf_conntrack hashsize=262144",
            "correct the number at /etc/sysctl.d/99-sysctl.conf:3",
            "kubelet systemReserved",
            "look from the host, where /proc/sys is whole",
            "ct state, ct helper set, masquerade, NETMAP, FULLCONENAT, ct count, flow table",
        ] {
            assert_eq!(pseudonyms().text(same), same);
        }
    }

    #[test]
    fn what_is_not_known_goes() {
        let one = pseudonyms();
        let (acme, host) = (one.of("acme"), one.of("ip-10-0-0-1"));
        assert_eq!(one.text("reading acme: denied"), format!("reading {acme}: denied"));
        assert_eq!(one.text("\"acme\"=acme."), format!("\"{acme}\"={acme}."));
        assert_eq!(one.text("on ip-10-0-0-1"), format!("on {host}"));
        assert_eq!(one.text("/srv/acme:12: no"), format!("/srv/{acme}:12: no"));
        assert!(!one.text("größe \u{1b}[2J").contains(['ö', '\u{1b}']));
    }

    #[test]
    fn addresses_are_found_in_all_forms() {
        let one = pseudonyms();
        let given = |text: &str| {
            let address: IpAddr = text.parse().unwrap();
            address::address(&one, address).to_string()
        };
        let (a, b) = (given("203.0.113.9"), given("2001:db8::7"));
        for (text, expected) in [
            ("203.0.113.9", a.clone()),
            ("SRC=203.0.113.9 DPT=443", format!("SRC={a} DPT=443")),
            ("to 203.0.113.9:443.", format!("to {a}:443.")),
            ("[2001:db8::7]:443", format!("[{b}]:443")),
            ("2001:0DB8:0::7, 203.0.113.9", format!("{b}, {a}")),
            ("2001:db8::7%eth0", format!("{b}%eth0")),
            ("127.0.0.1 and ::1", "127.0.0.1 and ::1".to_owned()),
        ] {
            assert_eq!(one.text(text), expected, "{text}");
        }
        assert!(!one.text("203.0.113.9->203.0.113.9").contains("203.0.113.9"));
        assert!(!one.text("x203.0.113.9y 203-0-113-9 203.0.113.9.4").contains("113"));
        let prefix = one.text("203.0.113.0/24");
        assert!(prefix.ends_with(".0/24") && a.starts_with(&prefix[..prefix.len() - 5]));
    }

    #[test]
    fn learned_names_go_where_their_words_are_harmless() {
        let mut one = pseudonyms();
        let name = one.name("the last host");
        assert_eq!(one.text("in the last host: no"), format!("in {name}: no"));
        assert_eq!(one.text("in the last hosts"), "in the last hosts");
        let host = one.name("server7");
        assert_eq!(one.text("on server7: no"), format!("on {host}: no"));
        let shorter = one.name("the last");
        assert_eq!(one.text("in the last hosts"), format!("in {shorter} hosts"));
    }

    proptest! {
        /// Whatever stands around it, and in whatever spelling.
        #[test]
        fn no_unknown_word_stays(before in ".{0,20}", secret in "zq[a-z]{6}", after in ".{0,20}") {
            let given = pseudonyms().text(&format!("{before}{secret}{after}"));
            prop_assert!(!given.contains(&secret), "{given}");
        }

        #[test]
        fn no_address_stays(before in "[a-z0-9 .:=/-]{0,8}", bits in 0x0b00_0000_u32..0x6400_0000, after in "[a-z0-9 .:=/-]{0,8}") {
            let address = std::net::Ipv4Addr::from_bits(bits).to_string();
            let given = pseudonyms().text(&format!("{before} {address} {after}"));
            prop_assert!(!given.contains(&address), "{given}");
            let given = pseudonyms().text(&format!("{before}{address}{after}"));
            prop_assert!(!given.contains(&address), "{given}");
        }
    }
}
