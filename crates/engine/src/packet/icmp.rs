//! ICMP and ICMPv6 messages, and the packet inside an error.

use ctkeeper_flow::Family;

use super::datagram::inner_tuple;
use crate::outcome::Reason;
use crate::tuple::Tuple;

/// An ICMP or ICMPv6 message with a whole header.
#[derive(Clone, Copy, Debug)]
pub struct IcmpMessage<'a> {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier, where the type has one; else whatever stands there.
    pub id: u16,
    /// What follows the 8 bytes of header: the packet inside an error.
    pub body: &'a [u8],
}

const HEADER: usize = 8;

impl<'a> IcmpMessage<'a> {
    /// Reads the header at the start of a datagram's payload.
    ///
    /// # Errors
    /// [`Reason::IcmpHeader`], which for ICMPv6 the caller calls [`Reason::Icmpv6Header`].
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Self, Reason> {
        let (&[kind, code, _, _, high, low, _, _], body) =
            payload.split_first_chunk::<HEADER>().ok_or(Reason::IcmpHeader)?;
        Ok(Self { kind, code, id: u16::from_be_bytes([high, low]), body })
    }

    /// The tuple of the packet inside, in the direction that packet went.
    ///
    /// # Errors
    /// [`Reason::IcmpInner`] where it is cut short or not the first fragment.
    pub fn inner_tuple(&self, family: Family) -> Result<Tuple, Reason> {
        inner_tuple(family, self.body)
    }

    /// The tuple of the packet inside an ICMPv6 redirect, which stands behind two addresses and the
    /// head of the redirected-header option. `None` where another option stands first: the message
    /// then is no error to the tracker (`nf_conntrack_icmpv6_redirect`,
    /// `nf_conntrack_proto_icmpv6.c`, Linux 6.12).
    ///
    /// # Errors
    /// [`Reason::Icmpv6Redirect`] where the addresses are cut short or no option follows,
    /// [`Reason::IcmpInner`] as for [`inner_tuple`](Self::inner_tuple).
    pub fn redirected_tuple(&self) -> Result<Option<Tuple>, Reason> {
        const REDIRECTED_HEADER: u8 = 4;
        let option = self.body.get(32..).ok_or(Reason::Icmpv6Redirect)?;
        match *option.first_chunk().ok_or(Reason::Icmpv6Redirect)? {
            [_, 0] => Err(Reason::Icmpv6Redirect),
            [REDIRECTED_HEADER, _] => {
                inner_tuple(Family::Ipv6, option.get(8..).unwrap_or_default()).map(Some)
            }
            _ => Ok(None),
        }
    }
}
