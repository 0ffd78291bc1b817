//! Protocols by the names of /etc/protocols.

use std::fs;

const PATH: &str = "/etc/protocols";

/// The number of a name or alias.
pub(crate) fn number(name: &[u8]) -> Option<u8> {
    lines(&fs::read(PATH).ok()?).find(|line| line.names.contains(&name)).map(|line| line.number)
}

/// The first name of a number.
pub(crate) fn name(number: u8) -> Option<Vec<u8>> {
    let text = fs::read(PATH).ok()?;
    let line = lines(&text).find(|line| line.number == number)?;
    line.names.first().map(|name| name.to_vec())
}

struct Line<'t> {
    number: u8,
    names: Vec<&'t [u8]>,
}

/// `NAME NUMBER ALIAS…`, as protocols(5) has it; what cannot be read is passed over.
fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = line.split(|&byte| byte == b'#').next()?;
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let name = words.next()?;
        let number = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        Some(Line { number, names: std::iter::once(name).chain(words).collect() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases() {
        let text = b"# comment\nip\t0\tIP\t# internet\nipv6-icmp 58 IPv6-ICMP\nbroken\nx 256\n";
        let read: Vec<_> = lines(text).map(|line| (line.number, line.names)).collect();
        assert_eq!(
            read,
            [(0, vec![&b"ip"[..], b"IP"]), (58, vec![&b"ipv6-icmp"[..], b"IPv6-ICMP"])]
        );
    }
}
