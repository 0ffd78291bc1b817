//! The names of connection labels: connlabel.conf.

use std::fs;
use std::io;

use crate::failure::plain;

/// Where Debian's libnetfilter_conntrack looks.
const PATH: &str = "/etc/xtables/connlabel.conf";

/// Bits that the file may name; connections have the lower 128 of them.
const BITS: u64 = 1024;

/// Which label has which name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelMap(Vec<(u16, String)>);

impl LabelMap {
    /// Reads the file; the error is the system's word for what is wrong with it, which is `Success`
    /// where it names nothing.
    pub(crate) fn read() -> Result<Self, String> {
        let text = match fs::read(PATH) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Vec::new(),
            text => text.map_err(|error| plain(&error))?,
        };
        let map = Self::parse(&text);
        if map.0.is_empty() { Err("Success".to_owned()) } else { Ok(map) }
    }

    /// Reads `BIT NAME` lines. Of two lines for one bit or name the first counts; names have
    /// letters, digits, spaces and hyphens, other lines are passed over.
    fn parse(text: &[u8]) -> Self {
        let mut map = Self::default();
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.starts_with(b"#")) {
            if let Some((bit, name)) = parse_line(line)
                && !map.0.iter().any(|(seen, named)| *seen == bit || named == name)
            {
                map.0.push((bit, name.to_owned()));
            }
        }
        map
    }

    /// The bits that connections have, and their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = (u8, &str)> {
        let bits = self.0.iter().filter(|(bit, _)| *bit < 128);
        bits.map(|(bit, name)| (*bit as u8, name.as_str()))
    }

    /// The bit of a name.
    pub(crate) fn bit(&self, name: &[u8]) -> Option<u8> {
        let (bit, _) = self.0.iter().find(|(_, known)| known.as_bytes() == name)?;
        u8::try_from(*bit).ok().filter(|&bit| bit < 128)
    }
}

fn parse_line(line: &[u8]) -> Option<(u16, &str)> {
    let (bit, rest) = crate::arguments::unsigned(line, 0);
    if rest.len() == line.len() || bit >= BITS {
        return None;
    }
    let name = std::str::from_utf8(rest).ok()?.trim_matches([' ', '\x0c', '\r', '\t', '\x0b']);
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-');
    (!name.is_empty() && name.bytes().all(sane)).then_some((bit as u16, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_bit_and_a_name() {
        let map = LabelMap::parse(
            b"# labels\n1 one\n0x28\tforty \n1 uno\n2 one\n127 last\n5 bad_name\n1024 far\nx y\n7\n200 high",
        );
        let named = |name: &str| map.bit(name.as_bytes());
        assert_eq!(map.0.len(), 4);
        assert_eq!((named("one"), named("forty"), named("last")), (Some(1), Some(40), Some(127)));
        assert_eq!((named("uno"), named("bad_name"), named("high")), (None, None, None));
    }
}
