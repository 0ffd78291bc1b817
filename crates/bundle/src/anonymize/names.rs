//! Names whose form is known: what is an id or a path in them is taken for one.

use super::pseudonym::Pseudonyms;
use super::words;

impl Pseudonyms {
    /// A namespace's name: given by somebody, a path, or made from an id.
    pub(super) fn namespace_name(&mut self, name: &str) -> String {
        const KINDS: [&str; 3] = ["container ", "docker sandbox ", "pod "];
        let kind = KINDS.into_iter().find(|kind| name.starts_with(kind)).unwrap_or("");
        match name.strip_prefix(kind) {
            Some(id) if !kind.is_empty() => format!("{kind}{}", self.name(id)),
            _ if name.starts_with('/') => self.path(name),
            _ => self.name(name),
        }
    }

    /// A process' command name; that of a widely used program stays.
    pub(super) fn command(&mut self, command: &str) -> String {
        if words::is_program(command) { command.to_owned() } else { self.name(command) }
    }

    /// `cgroup PATH FILE`, where the path may hold blanks; `kubelet systemReserved`.
    pub(super) fn reservation_owner(&mut self, owner: &str) -> String {
        match owner.strip_prefix("cgroup ").and_then(|rest| rest.rsplit_once(' ')) {
            Some((path, file)) => format!("cgroup {} {}", self.path(path), self.text(file)),
            None => self.text(owner),
        }
    }

    /// `nftables FAMILY TABLE CHAIN handle N`, where table and chain may hold blanks.
    pub(super) fn rule_place(&mut self, place: &str) -> String {
        let parts = place.strip_prefix("nftables ").and_then(|rest| {
            let (names, handle) = rest.rsplit_once(" handle ")?;
            let (family, names) = names.split_once(' ')?;
            Some((family, names, handle))
        });
        let Some((family, names, handle)) = parts else { return self.text(place) };
        let names: Vec<_> = names.split(' ').map(|name| self.rule_name(name)).collect();
        let (family, handle) = (self.text(family), self.text(handle));
        format!("nftables {family} {} handle {handle}", names.join(" "))
    }

    /// The name of a table or chain; one that comes with widely used programs stays.
    fn rule_name(&mut self, name: &str) -> String {
        if words::is_rule_name(name) { name.to_owned() } else { self.name(name) }
    }

    /// A version, of a kernel or distribution: numbers and known words, part by part.
    pub(super) fn version(&self, version: &str) -> String {
        let is_between = |c: char| c.is_ascii_whitespace() || "-+._/()#:~,".contains(c);
        let whole = |part: &str| {
            let word = part.trim_end_matches(is_between);
            let stays = word.bytes().all(|byte| byte.is_ascii_digit())
                || words::is_word(word.trim_end_matches(|c: char| c.is_ascii_digit()))
                || words::is_word(word);
            let given = if stays { word.to_owned() } else { self.of(word) };
            given + &part[word.len()..]
        };
        version.split_inclusive(is_between).map(whole).collect()
    }
}
