//! GRE, of which only PPTP's version 1 has a key that tells connections apart.

use crate::outcome::Reason;

/// Bits of the version in the second byte.
pub(super) const VERSION: u8 = 0x07;
/// PPTP's version.
pub(super) const VERSION_1: u8 = 1;
const PPP: u16 = 0x880b;

/// The destination's key: the call id of a PPTP packet, 0 for other versions and for headers cut
/// short (`gre_pkt_to_tuple`, `nf_conntrack_proto_gre.c`, Linux 6.12).
///
/// # Errors
/// [`Reason::Gre`] for a version 1 packet that does not carry PPP.
pub(super) fn key(payload: &[u8]) -> Result<u16, Reason> {
    let Some(&[_, flags, high, low, _, _, key_high, key_low]) = payload.first_chunk() else {
        return Ok(0);
    };
    if flags & VERSION != VERSION_1 {
        return Ok(0);
    }
    if u16::from_be_bytes([high, low]) != PPP {
        return Err(Reason::Gre);
    }
    Ok(u16::from_be_bytes([key_high, key_low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_1_has_a_key() {
        assert_eq!(key(&[0x30, 0x81, 0x88, 0x0b, 0, 0, 0x12, 0x34, 0, 0]), Ok(0x1234));
        assert_eq!(key(&[0x20, 0x00, 0x08, 0x00, 0, 0, 0x12, 0x34]), Ok(0));
        assert_eq!(key(&[0x30, 0x81, 0x88, 0x0b, 0, 0, 0x12]), Ok(0));
        assert_eq!(key(&[0x30, 0x81, 0x08, 0x00, 0, 0, 0x12, 0x34]), Err(Reason::Gre));
    }
}
