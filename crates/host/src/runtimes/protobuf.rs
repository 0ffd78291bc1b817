//! As much of Protocol Buffers' wire format as the few messages take that are asked for and read:
//! fields by number, without copying, so that an answer costs no more memory than what is kept of it.

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// An integer.
    Number(u64),
    /// A string, a message, a map's entry.
    Bytes(&'a [u8]),
    /// Of eight or four bytes: read past.
    Fixed,
}

/// The fields of a message, in the order in which they stand; one that is broken comes as an error
/// and is the last.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// The message is broken, or ends within a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// The fields of a message.
pub(super) const fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read().ok_or(Broken);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Seven bits a byte, the lowest first; ten bytes at most.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

/// The messages or strings that stand under a number.
pub(super) fn all(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Broken>> {
    fields(message).filter_map(move |field| match field {
        Ok((found, Value::Bytes(bytes))) if found == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(broken) => Some(Err(broken)),
    })
}

/// The message or string under a number: the last one, as the format wants; empty where there is
/// none.
pub(super) fn last(message: &[u8], number: u64) -> Result<&[u8], Broken> {
    all(message, number).try_fold(&[][..], |_, bytes| bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_read_as_they_are_written() {
        // 1: "ab", 2: 300, 3: fixed64, 4: fixed32, 1: "c"
        let message = [
            &[0x0a, 2, b'a', b'b', 0x10, 0xac, 0x02, 0x19][..],
            &[0; 8],
            &[0x25],
            &[0; 4],
            &[0x0a, 1, b'c'],
        ]
        .concat();
        let read: Vec<_> = fields(&message).map(Result::unwrap).collect();
        let expected = [
            (1, Value::Bytes(b"ab")),
            (2, Value::Number(300)),
            (3, Value::Fixed),
            (4, Value::Fixed),
            (1, Value::Bytes(b"c")),
        ];
        assert_eq!(read, expected);
        assert_eq!(last(&message, 1), Ok(&b"c"[..]));
        assert_eq!(last(&message, 9), Ok(&b""[..]));
    }

    #[test]
    fn what_is_broken_is_said_once() {
        for broken in [
            &[0x0a][..],
            &[0x0a, 5, b'a'],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x0b],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(fields(broken).collect::<Vec<_>>(), [Err(Broken)], "{broken:?}");
            assert_eq!(last(broken, 1), Err(Broken));
        }
    }

    proptest! {
        #[test]
        fn junk_does_no_harm(junk in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (fields(&junk).count(), last(&junk, 1));
        }
    }
}
