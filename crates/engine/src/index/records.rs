//! What an index sees of the records it leads to.

use std::borrow::{Borrow, BorrowMut};

use ctkeeper_flow::Direction;

use crate::entry::Entry;
use crate::extension::Extensions;
use crate::memory::Arena;
use crate::tuple::Tuple;

/// The records that an index leads to.
pub(crate) trait Records {
    /// The header of a record.
    fn entry(&self, line: u32) -> &Entry;
    /// The tuple of a record in a direction.
    fn tuple(&self, line: u32, direction: Direction) -> Tuple;
}

/// Records whose links can be written.
pub(crate) trait Links: Records {
    /// The next nodes of a record, by direction.
    fn links(&mut self, line: u32) -> &mut [u32; 2];
}

/// The table's records: headers in the arena, translated tuples in the extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a, A> {
    pub(crate) arena: A,
    pub(crate) extensions: &'a Extensions,
}

impl<A: Borrow<Arena>> Records for Stored<'_, A> {
    #[inline]
    fn entry(&self, line: u32) -> &Entry {
        self.arena.borrow().entry(line)
    }

    #[inline]
    fn tuple(&self, line: u32, direction: Direction) -> Tuple {
        let original = self.arena.borrow().original(line);
        if direction == Direction::Original {
            return original;
        }
        let translated = self.extensions.reply(self.entry(line));
        // Every connection began with a tuple that can be turned round.
        translated.or_else(|| original.inverted()).unwrap_or(original)
    }
}

impl<A: BorrowMut<Arena>> Links for Stored<'_, A> {
    #[inline]
    fn links(&mut self, line: u32) -> &mut [u32; 2] {
        &mut self.arena.borrow_mut().entry_mut(line).links
    }
}
