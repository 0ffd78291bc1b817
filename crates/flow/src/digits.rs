//! Numbers and addresses into a byte buffer, without formatting machinery: the listing of a table
//! writes tens of them for each entry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `0.` to `255.` and their lengths with the dot.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut table = [([b'.'; 4], 0); 256];
    let mut number = 0;
    while number < 256 {
        let (hundreds, tens, ones) = (number / 100, number / 10 % 10, number % 10);
        let mut length = 0;
        if hundreds > 0 {
            table[number].0[length] = b'0' + hundreds as u8;
            length += 1;
        }
        if hundreds > 0 || tens > 0 {
            table[number].0[length] = b'0' + tens as u8;
            length += 1;
        }
        table[number].0[length] = b'0' + ones as u8;
        table[number].1 = length as u8 + 2;
        number += 1;
    }
    table
}

/// Appends a number in decimal.
#[inline]
pub(crate) fn push_number(out: &mut Vec<u8>, number: impl Into<u64>) {
    let number = number.into();
    match u32::try_from(number) {
        Ok(small) => push_u32(out, small),
        Err(_) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
    }
}

/// Most numbers of an entry.
#[inline]
fn push_u32(out: &mut Vec<u8>, number: u32) {
    let length = number.checked_ilog10().map_or(1, |digits| digits as usize + 1);
    push_chunk(out, |text| {
        let (mut rest, mut at) = (number, length);
        while rest >= 100 {
            at -= 2;
            text[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
            rest /= 100;
        }
        if rest >= 10 {
            text[..2].copy_from_slice(&PAIRS[rest as usize]);
        } else {
            text[0] = b'0' + rest as u8;
        }
        length
    });
}

/// Longest text that is written at once.
const CHUNK: usize = 16;

/// Lets `write` put text into the next bytes of `out` and tell its length.
///
/// Writing there at once, rather than into an array that is then copied, spares the processor
/// loads that are wider than the stores before them.
#[inline]
fn push_chunk(out: &mut Vec<u8>, write: impl FnOnce(&mut [u8; CHUNK]) -> usize) {
    let start = out.len();
    out.extend_from_slice(&[0; CHUNK]);
    let length = out.last_chunk_mut().map_or(0, write);
    out.truncate(start + length);
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut table = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        table[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    table
};

/// Appends a number in lower case hexadecimal, without prefix or leading zeros.
pub(crate) fn push_hexadecimal(out: &mut Vec<u8>, number: u32) {
    let digits = (32 - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(nibble((number >> (digit * 4)) as u8 & 15));
    }
}

/// Appends an address as `inet_ntop` of glibc writes it.
pub(crate) fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => push_ipv4(out, v4),
        IpAddr::V6(v6) => push_ipv6(out, v6),
    }
}

pub(crate) const fn nibble(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

#[inline]
fn push_ipv4(out: &mut Vec<u8>, address: Ipv4Addr) {
    push_chunk(out, |text| {
        let mut length = 0;
        for octet in address.octets() {
            let (digits, width) = OCTETS[usize::from(octet)];
            text[length..length + 4].copy_from_slice(&digits);
            length += usize::from(width);
        }
        length - 1
    });
}

/// Differs from Rust's own form in the addresses `::a.b.c.d` (first 96 bits zero), which glibc
/// writes with dots.
fn push_ipv6(out: &mut Vec<u8>, address: Ipv6Addr) {
    let words = address.segments();
    let (start, length) = longest_zeros(&words);
    let dotted = start == 0 && (length == 6 || (length == 5 && words[5] == 0xffff));
    let mut index = 0;
    while index < words.len() {
        if index == start && length > 0 {
            out.extend_from_slice(b"::");
            index += length;
            continue;
        }
        if index > 0 && index != start + length {
            out.push(b':');
        }
        if index == 6 && dotted {
            let [.., a, b, c, d] = address.octets();
            return push_ipv4(out, Ipv4Addr::new(a, b, c, d));
        }
        push_hexadecimal(out, u32::from(words[index]));
        index += 1;
    }
}

/// Start and length of the first longest run of at least two zero words; length 0 without one.
fn longest_zeros(words: &[u16; 8]) -> (usize, usize) {
    let mut best = (8, 0);
    let mut index = 0;
    while index < words.len() {
        let length = words[index..].iter().take_while(|word| **word == 0).count();
        if length > best.1.max(1) {
            best = (index, length);
        }
        index += length + 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(address: &str) -> String {
        let mut out = Vec::new();
        push_address(&mut out, address.parse().unwrap());
        String::from_utf8(out).unwrap()
    }

    /// Expected texts are those of glibc 2.36's `inet_ntop`.
    #[test]
    fn addresses_as_glibc_writes_them() {
        for same in [
            "0.0.0.0",
            "10.0.99.100",
            "255.255.255.255",
            "::",
            "::1",
            "::1.2.3.4",
            "::0.1.0.2",
            "::ffff:1.2.3.4",
            "::ffff:0.0.0.0",
            "::ffff:0:0:0",
            "::1:0:0",
            "1:0:0:2::3",
            "1::2:0:0:3:4",
            "1:0:2:0:3:0:4:0",
            "0:0:0:1::",
            "::5:6:7",
            "fd77:1::2",
            "2001:db8:ffff:1:2:3:4:5",
            "fe80::1:0:0:5",
            "1::",
        ] {
            assert_eq!(text(same), same);
        }
    }

    #[test]
    fn every_octet() {
        for octet in 0..=255u8 {
            let address = Ipv4Addr::new(octet, 0, octet, octet);
            assert_eq!(text(&address.to_string()), address.to_string());
        }
    }

    #[test]
    fn decimal() {
        let powers = (0..20).map(|power| 10u64.pow(power));
        for number in powers.flat_map(|power| [power - 1, power, power + 1, power / 3]) {
            let mut out = b"x".to_vec();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{number}"));
        }
    }

    #[test]
    fn hexadecimal() {
        for number in [0, 1, 15, 16, 0xabc, u32::MAX] {
            let mut out = Vec::new();
            push_hexadecimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number:x}"));
        }
    }
}
