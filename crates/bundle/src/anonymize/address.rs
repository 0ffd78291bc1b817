//! Addresses: others of the same kind, alike as far as the originals are.
//!
//! A bit is turned or left depending on the key and the bits before it, so that two addresses with
//! a common prefix keep one of the same length (the scheme of Crypto-PAn: Xu, Fan, Ammar, Moon,
//! "Prefix-preserving IP address anonymization", 2002). The bits that tell the kind (private,
//! loopback, link-local, multicast, …) stay; loopback and unspecified addresses name nobody and stay
//! whole. A public IPv4 address that would become one of another kind goes round again: prefixes
//! shorter than 16 bits may be lost by that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::pseudonym::Pseudonyms;

/// Ranges of IPv4 that are not public, with their lengths. (RFC 6890 has smaller ones for special
/// uses; they are public here.)
const KINDS: [(Ipv4Addr, u32); 9] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The pseudonym of an address.
pub(super) fn address(pseudonyms: &Pseudonyms, address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => v4(pseudonyms, address).into(),
        IpAddr::V6(address) => v6(pseudonyms, address).into(),
    }
}

/// The pseudonym of a prefix of this length: addresses within it have theirs within it.
pub(super) fn prefix(pseudonyms: &Pseudonyms, within: IpAddr, length: u32) -> IpAddr {
    match address(pseudonyms, within) {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & !host).into()
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(length).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & !host).into()
        }
    }
}

fn v4(pseudonyms: &Pseudonyms, address: Ipv4Addr) -> Ipv4Addr {
    if address.is_unspecified() || address == Ipv4Addr::LOCALHOST || address.is_broadcast() {
        return address;
    }
    let turned = |bits: u32, kept| {
        let turned = turn(pseudonyms, b"ipv4", u128::from(bits) << 96, kept, 32);
        (turned >> 96) as u32
    };
    let kept = kind(address);
    if kept > 0 {
        return Ipv4Addr::from_bits(turned(address.to_bits(), kept));
    }
    // It turns all addresses into each other: going on from a public one, it comes to one again.
    let mut bits = turned(address.to_bits(), 0);
    while kind(Ipv4Addr::from_bits(bits)) > 0 {
        bits = turned(bits, 0);
    }
    Ipv4Addr::from_bits(bits)
}

/// How many bits tell the kind; 0 for a public address.
fn kind(address: Ipv4Addr) -> u32 {
    let within =
        |range: Ipv4Addr, length: u32| (address.to_bits() ^ range.to_bits()) >> (32 - length) == 0;
    KINDS.iter().find(|(range, length)| within(*range, *length)).map_or(0, |(_, length)| *length)
}

fn v6(pseudonyms: &Pseudonyms, address: Ipv6Addr) -> Ipv6Addr {
    if address.is_unspecified() || address == Ipv6Addr::LOCALHOST {
        return address;
    }
    let bits = address.to_bits();
    // `::ffff:0:0/96` (RFC 4291) and `64:ff9b::/96` (RFC 6052) hold an IPv4 address.
    if matches!(bits >> 32, 0xffff | 0x0064_ff9b_0000_0000_0000_0000) {
        let inner = v4(pseudonyms, Ipv4Addr::from_bits(bits as u32));
        return Ipv6Addr::from_bits(bits >> 32 << 32 | u128::from(inner.to_bits()));
    }
    let kept = match address.segments()[0] {
        0xfe80 => 64,         // link-local
        0xfc00..=0xfdff => 8, // unique local
        0x2000..=0x3fff => 3, // global
        _ => 16,              // multicast (flags and scope), and what is not given out
    };
    Ipv6Addr::from_bits(turn(pseudonyms, b"ipv6", bits, kept, 128))
}

/// Turns the bits from `kept` to `length` of a number of 128, counted from its top.
fn turn(pseudonyms: &Pseudonyms, family: &[u8], bits: u128, kept: u32, length: u32) -> u128 {
    (kept..length).fold(bits, |turned, position| {
        let before = bits.checked_shr(128 - position).unwrap_or(0);
        let mut input = [0; 17];
        input[..16].copy_from_slice(&before.to_be_bytes());
        input[16] = position as u8;
        let flip = u128::from(pseudonyms.bit(family, &input));
        turned ^ flip << (127 - position)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pseudonym::Key;
    use super::*;

    fn pseudonyms() -> Pseudonyms {
        Pseudonyms::new(&Key::new([3; 32]))
    }

    fn common(one: u128, two: u128) -> u32 {
        (one ^ two).leading_zeros()
    }

    #[test]
    fn kinds_stay() {
        let one = pseudonyms();
        for (original, length) in [
            ("10.1.2.3", 8),
            ("172.31.0.9", 12),
            ("192.168.7.1", 16),
            ("100.100.1.1", 10),
            ("127.9.9.9", 8),
            ("169.254.169.254", 16),
            ("239.1.1.1", 4),
        ] {
            let original: Ipv4Addr = original.parse().unwrap();
            let given = v4(&one, original);
            assert_ne!(given, original);
            assert_eq!(kind(given), length, "{original} {given}");
            assert!((given.to_bits() ^ original.to_bits()).leading_zeros() >= length);
        }
        for (original, kept) in
            [("fe80::1:2", 64), ("fd00:1::2", 8), ("ff02::1:ff00:1", 16), ("2001:db8::7", 3)]
        {
            let original: Ipv6Addr = original.parse().unwrap();
            let given = v6(&one, original);
            assert_ne!(given, original);
            assert!(common(given.to_bits(), original.to_bits()) >= kept, "{original} {given}");
        }
        for same in ["127.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "::"] {
            let same: IpAddr = same.parse().unwrap();
            assert_eq!(address(&one, same), same);
        }
    }

    #[test]
    fn an_address_within_an_address_is_found() {
        let one = pseudonyms();
        let inner = v4(&one, Ipv4Addr::new(203, 0, 113, 9));
        assert_eq!(v6(&one, "::ffff:203.0.113.9".parse().unwrap()), inner.to_ipv6_mapped());
        let given = v6(&one, "64:ff9b::203.0.113.9".parse().unwrap());
        assert_eq!(given.to_bits() as u32, inner.to_bits());
    }

    #[test]
    fn a_prefix_holds_its_addresses() {
        let one = pseudonyms();
        let given = prefix(&one, "10.4.0.0".parse().unwrap(), 16);
        let IpAddr::V4(within) = address(&one, "10.4.200.7".parse().unwrap()) else { panic!() };
        assert_eq!(given, Ipv4Addr::from_bits(within.to_bits() & 0xffff_0000));
        assert_eq!(prefix(&one, "1.2.3.4".parse().unwrap(), 0), Ipv4Addr::UNSPECIFIED);
        assert_eq!(
            prefix(&one, "2001:db8::1".parse().unwrap(), 128),
            address(&one, "2001:db8::1".parse().unwrap())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn common_prefixes_stay(a in any::<u32>(), length in 16_u32..=31, other in any::<u32>()) {
            let one = pseudonyms();
            let host = u32::MAX >> length;
            // Apart at the bit behind the prefix, whatever comes after.
            let b = a ^ 1 << (31 - length) ^ (other & host >> 1);
            let (a, b) = (Ipv4Addr::from_bits(a), Ipv4Addr::from_bits(b));
            prop_assume!(![a, b].iter().any(|x| *x == Ipv4Addr::LOCALHOST || x.is_broadcast() || x.is_unspecified()));
            let (x, y) = (v4(&one, a), v4(&one, b));
            prop_assert_eq!((x.to_bits() ^ y.to_bits()).leading_zeros(), length);
            prop_assert_eq!(kind(x), kind(a));
        }

        #[test]
        fn common_prefixes_of_ipv6_stay(low in any::<u128>(), length in 16_u32..=127) {
            let a = 0x2001_u128 << 112 | low >> 16;
            let b = a ^ 1 << (127 - length);
            let one = pseudonyms();
            let (x, y) = (v6(&one, Ipv6Addr::from_bits(a)), v6(&one, Ipv6Addr::from_bits(b)));
            prop_assert_eq!(common(x.to_bits(), y.to_bits()), length);
        }
    }
}
