//! The netlink wire format: messages and attributes, read in place and written into a buffer.
//!
//! Reading borrows from the received bytes and checks every length before it is used; whatever the
//! bytes are, the worst outcome is [`Malformed`]. Lengths and message headers are in the host's byte
//! order, values inside nfnetlink attributes in network order (but where a name says otherwise).
//!
//! Sources: `include/uapi/linux/netlink.h`, `lib/nlattr.c` (Linux 6.12).

/// Size of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Size of `struct nfgenmsg`, which begins the payload of every nfnetlink message.
pub(crate) const NETFILTER_HEADER: usize = 4;
/// Size of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// Attribute lengths have 16 bits.
const ATTRIBUTE_LIMIT: usize = u16::MAX as usize;

const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Bytes that are not a netlink message or attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A message whose length is below its header's or beyond the bytes received.
    #[error("a message's length does not fit the bytes received")]
    Message,
    /// An attribute whose length is below its header's or beyond its container.
    #[error("an attribute's length does not fit its container")]
    Attribute,
    /// An attribute whose value is shorter than its type.
    #[error("attribute {0} is too short for its type")]
    Value(u16),
    /// An attribute without which an entry cannot be described is missing.
    #[error("attribute {0} is missing")]
    Missing(&'static str),
}

/// Message types and flags of `include/uapi/linux/netlink.h`.
pub(crate) mod message {
    pub(crate) const NOOP: u16 = 1;
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;
    pub(crate) const OVERRUN: u16 = 4;

    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const ACKNOWLEDGE: u16 = 1 << 2;
    pub(crate) const DUMP_INTERRUPTED: u16 = 1 << 4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCLUSIVE: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    /// In an error: the request's payload has been left out.
    pub(crate) const CAPPED: u16 = 0x100;
    /// In an error: attributes follow.
    pub(crate) const WITH_ATTRIBUTES: u16 = 0x200;
}

/// One netlink message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// `nlmsg_type`; for nfnetlink the subsystem in the upper byte.
    pub(crate) kind: u16,
    /// `nlmsg_flags`.
    pub(crate) flags: u16,
    /// `nlmsg_seq`: the request that it answers.
    pub(crate) sequence: u32,
    /// `nlmsg_pid`: in an answer our port, in an event the port of who caused it.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind the nfnetlink header.
    pub(crate) fn attributes(&self) -> Result<Attributes<'a>, Malformed> {
        self.payload.get(NETFILTER_HEADER..).map(Attributes).ok_or(Malformed::Message)
    }

    /// `nfgen_family` and `res_id` of the nfnetlink header.
    pub(crate) fn netfilter_header(&self) -> Result<(u8, u16), Malformed> {
        match self.payload {
            [family, _version, high, low, ..] => Ok((*family, u16::from_be_bytes([*high, *low]))),
            _ => Err(Malformed::Message),
        }
    }
}

/// The messages of one datagram. Ends after the first malformed one.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.split();
        if message.is_none() {
            self.0 = &[];
        }
        Some(message.ok_or(Malformed::Message))
    }
}

impl<'a> Messages<'a> {
    fn split(&mut self) -> Option<Message<'a>> {
        let (header, _) = self.0.split_first_chunk::<HEADER>()?;
        let length = native_u32(header, 0)? as usize;
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or(&[]);
        Some(Message {
            kind: native_u16(header, 4)?,
            flags: native_u16(header, 6)?,
            sequence: native_u32(header, 8)?,
            port: native_u32(header, 12)?,
            payload,
        })
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    /// Its type, without the flag bits.
    pub(crate) kind: u16,
    /// Its value.
    pub(crate) value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The first `N` bytes of the value.
    #[inline]
    pub(crate) fn bytes<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.value.first_chunk::<N>().copied().ok_or(Malformed::Value(self.kind))
    }

    #[inline]
    pub(crate) fn u8(&self) -> Result<u8, Malformed> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn be16(&self) -> Result<u16, Malformed> {
        self.bytes().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn be32(&self) -> Result<u32, Malformed> {
        self.bytes().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn be64(&self) -> Result<u64, Malformed> {
        self.bytes().map(u64::from_be_bytes)
    }

    /// Text up to the first NUL; bytes that are not UTF-8 are replaced.
    pub(crate) fn text(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(self.value.get(..end).unwrap_or_default()).into_owned()
    }

    /// The attributes inside.
    #[inline]
    pub(crate) fn nested(&self) -> Attributes<'a> {
        Attributes(self.value)
    }
}

/// The attributes of a container. Ends after the first malformed one.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let attribute = self.split();
        if attribute.is_none() {
            self.0 = &[];
        }
        Some(attribute.ok_or(Malformed::Attribute))
    }
}

impl<'a> Attributes<'a> {
    #[inline]
    fn split(&mut self) -> Option<Attribute<'a>> {
        let header = self.0.first_chunk::<ATTRIBUTE_HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or(&[]);
        Some(Attribute { kind, value })
    }
}

/// Writes messages one after another into a buffer.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    /// Where the message being written begins.
    start: usize,
    /// Where the message that was completed last begins.
    completed: usize,
    /// Whether an attribute was longer than its length field can say.
    overflow: bool,
}

impl Builder {
    /// Begins an nfnetlink message; the one before it is complete.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, sequence: u32, family: u8) {
        self.begin_with(kind, flags, sequence, &[family, 0, 0, 0]);
    }

    /// Begins a message with the fixed part that stands before its attributes: a multiple of four
    /// bytes. The message before it is complete.
    pub(crate) fn begin_with(&mut self, kind: u16, flags: u16, sequence: u32, fixed: &[u8]) {
        self.start = self.bytes.len();
        self.overflow = false;
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
    }

    /// Completes the message. False if something in it was too long to be written: then it is gone
    /// from the buffer.
    #[must_use]
    pub(crate) fn end(&mut self) -> bool {
        let length = self.bytes.len() - self.start;
        if self.overflow {
            self.bytes.truncate(self.start);
            return false;
        }
        if let Some(field) = self.bytes.get_mut(self.start..self.start + 4) {
            field.copy_from_slice(&(length as u32).to_ne_bytes());
        }
        self.completed = self.start;
        true
    }

    /// Sets flags of the message that was completed last.
    pub(crate) fn add_flags(&mut self, flags: u16) {
        if let Some(field) = self.bytes.get_mut(self.completed + 6..self.completed + 8) {
            let old = u16::from_ne_bytes([field[0], field[1]]);
            field.copy_from_slice(&(old | flags).to_ne_bytes());
        }
    }

    /// An attribute that holds the attributes which `write` writes.
    pub(crate) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ATTRIBUTE_HEADER]);
        write(self);
        self.close(start, kind | NLA_F_NESTED);
    }

    /// An attribute with a value.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ATTRIBUTE_HEADER]);
        self.bytes.extend_from_slice(value);
        self.close(start, kind);
    }

    /// An attribute with text and its closing NUL.
    pub(crate) fn put_text(&mut self, kind: u16, text: &str) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ATTRIBUTE_HEADER]);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start, kind);
    }

    pub(crate) fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    pub(crate) fn put_be16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(crate) fn put_be64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// The complete messages.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The complete messages, taken out.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Forgets everything written.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        (self.start, self.completed) = (0, 0);
    }

    fn close(&mut self, start: usize, kind: u16) {
        let length = self.bytes.len() - start;
        self.overflow |= length > ATTRIBUTE_LIMIT;
        if let Some(header) = self.bytes.get_mut(start..start + ATTRIBUTE_HEADER) {
            header[..2].copy_from_slice(&(length as u16).to_ne_bytes());
            header[2..].copy_from_slice(&kind.to_ne_bytes());
        }
        self.bytes.resize(start + align(length), 0);
    }
}

/// The number of the first request in `messages`.
pub(crate) fn sequence_of(messages: &[u8]) -> u32 {
    native_u32(messages, 8).unwrap_or_default()
}

const fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn native_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn native_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn messages_follow_one_another_aligned() {
        let mut bytes = framed(b"abcde");
        bytes.extend_from_slice(&[0; 3]);
        bytes.extend(framed(b"f"));
        let payloads: Vec<_> = Messages(&bytes).map(|m| m.unwrap().payload.to_vec()).collect();
        assert_eq!(payloads, [b"abcde".to_vec(), b"f".to_vec()]);
    }

    #[test]
    fn impossible_lengths_end_the_walk() {
        for length in [0_u32, 15, 22, u32::MAX] {
            let mut bytes = framed(b"abcde");
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            let mut messages = Messages(&bytes);
            assert_eq!(messages.next().map(|m| m.is_err()), Some(true), "{length}");
            assert!(messages.next().is_none());
        }
        for bytes in [&[0, 0, 1, 0][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 7, 7, 7, 7], &[8, 0]] {
            let mut attributes = Attributes(bytes);
            assert!(matches!(attributes.next(), Some(Err(Malformed::Attribute))));
            assert!(attributes.next().is_none());
        }
    }

    #[test]
    fn values_shorter_than_their_type_are_refused() {
        let attribute = Attribute { kind: 7, value: &[1, 2, 3] };
        assert_eq!(attribute.be32(), Err(Malformed::Value(7)));
        assert_eq!(attribute.be16(), Ok(0x0102));
        assert_eq!(attribute.u8(), Ok(1));
    }

    #[test]
    fn text_ends_at_its_nul_and_may_be_anything() {
        assert_eq!(Attribute { kind: 1, value: b"ftp\0junk" }.text(), "ftp");
        assert_eq!(Attribute { kind: 1, value: b"ftp" }.text(), "ftp");
        assert_eq!(Attribute { kind: 1, value: b"\xff" }.text(), "\u{fffd}");
    }

    #[test]
    fn what_is_built_reads_back() {
        let mut builder = Builder::default();
        builder.begin(0x101, 5, 9, 2);
        builder.nest(1, |outer| {
            outer.put_u8(2, 7);
            outer.nest(3, |inner| inner.put_be64(4, 1));
        });
        builder.put_text(5, "x");
        assert!(builder.end());
        let message = Messages(builder.bytes()).next().unwrap().unwrap();
        assert_eq!((message.kind, message.flags, message.sequence), (0x101, 5, 9));
        assert_eq!(message.netfilter_header(), Ok((2, 0)));
        let attributes: Vec<_> = message.attributes().unwrap().map(Result::unwrap).collect();
        assert_eq!(attributes[0].kind, 1);
        let inside: Vec<_> = attributes[0].nested().map(Result::unwrap).collect();
        assert_eq!(inside[0].u8(), Ok(7));
        assert_eq!(inside[1].nested().next().unwrap().unwrap().be64(), Ok(1));
        assert_eq!(attributes[1].value, b"x\0");
    }

    #[test]
    fn a_message_with_too_long_a_value_leaves_nothing_behind() {
        let mut builder = Builder::default();
        builder.begin(1, 0, 1, 0);
        assert!(builder.end());
        let before = builder.bytes().len();
        builder.begin(1, 0, 2, 0);
        builder.put(1, &vec![0; 70_000]);
        assert!(!builder.end());
        assert_eq!(builder.bytes().len(), before);
        // Flags that are set now are those of the message before.
        builder.add_flags(message::ACKNOWLEDGE);
        let kept = Messages(builder.bytes()).next().unwrap().unwrap();
        assert_eq!((kept.sequence, kept.flags), (1, message::ACKNOWLEDGE));
    }
}
