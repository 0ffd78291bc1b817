//! What a packet is looked up by, in the form in which records can be compared with it at once.

use ctkeeper_flow::{Direction, Family};

use crate::entry::{Entry, Shape};
use crate::memory::Arena;
use crate::tuple::Tuple;

/// A tuple and a namespace beside the inverted tuple, as the heads of two records would have them.
///
/// The first 16 bytes of an [`Entry`] are the tuple of its original direction, but for IPv6
/// addresses, its shape and its namespace: a record is compared in either direction by two words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// A record that began with this tuple; one that began with its inversion.
    heads: [[u64; 2]; 2],
    /// IPv6 source and destination; IPv4: zero.
    addresses: [u128; 2],
    wide: bool,
}

impl Key {
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    pub(crate) fn new(tuple: &Tuple, namespace: u16) -> Self {
        let wide = tuple.family == Family::Ipv6;
        let addresses = if wide { [tuple.source, tuple.destination] } else { [0; 2] };
        let narrow = |address: u128| if wide { 0 } else { u64::from(address as u32) };
        let (source, destination) = (narrow(tuple.source), narrow(tuple.destination));
        let shape = Shape::of(tuple) as u8;
        let rest =
            u64::from(tuple.protocol) << 32 | u64::from(shape) << 40 | u64::from(namespace) << 48;
        let ids =
            |[source, destination]: [u16; 2]| u64::from(source) | u64::from(destination) << 16;
        let original =
            [source | destination << 32, ids([tuple.source_id, tuple.destination_id]) | rest];
        // What cannot be turned round has no record: its own head does instead.
        let reply = match tuple.inverted_ids() {
            Some(inverted) => [destination | source << 32, ids(inverted) | rest],
            None => original,
        };
        Self { heads: [original, reply], addresses, wide }
    }

    /// In which direction the tuple stands in a record whose reply tuple is the inverted original
    /// one. The reply first: of a tuple that is its own inversion the kernel finds that one, which
    /// it put into the chain last.
    #[inline]
    pub(crate) fn direction(&self, arena: &Arena, line: u32) -> Option<Direction> {
        let head = head(arena.entry(line));
        if head == self.heads[1] && self.has_addresses(arena, line, Direction::Reply) {
            return Some(Direction::Reply);
        }
        let original =
            head == self.heads[0] && self.has_addresses(arena, line, Direction::Original);
        original.then_some(Direction::Original)
    }

    /// Whether the tuple stands in a record in a direction, which must be as for
    /// [`Self::direction`].
    #[inline]
    pub(crate) fn is_at(&self, arena: &Arena, line: u32, direction: Direction) -> bool {
        head(arena.entry(line)) == self.heads[direction as usize]
            && self.has_addresses(arena, line, direction)
    }

    /// How many lines such a record has.
    #[inline]
    pub(crate) const fn lines(&self) -> usize {
        match Shape::from_number((self.heads[0][1] >> 40) as u8) {
            Some(shape) => shape.lines(),
            None => 1,
        }
    }

    /// Whether both directions of a record with the tuple have it.
    #[inline]
    pub(crate) fn is_own_inverse(&self) -> bool {
        self.heads[0] == self.heads[1] && self.addresses[0] == self.addresses[1]
    }

    #[inline]
    fn has_addresses(&self, arena: &Arena, line: u32, direction: Direction) -> bool {
        if !self.wide {
            return true;
        }
        let [source, destination] = match direction {
            Direction::Original => self.addresses,
            Direction::Reply => [self.addresses[1], self.addresses[0]],
        };
        arena.addresses(line).is_some_and(|addresses| {
            addresses.source == halves(source) && addresses.destination == halves(destination)
        })
    }
}

/// The first 16 bytes of a record: one load each where bytes are in that order anyway.
#[inline]
fn head(entry: &Entry) -> [u64; 2] {
    let [source, destination] = entry.addresses.map(u64::from);
    let [source_id, destination_id] = entry.ids.map(u64::from);
    let rest = u64::from(entry.protocol) << 32
        | u64::from(entry.shape) << 40
        | u64::from(entry.namespace) << 48;
    [source | destination << 32, source_id | destination_id << 16 | rest]
}

#[inline]
const fn halves(address: u128) -> [u64; 2] {
    [address as u64, (address >> 64) as u64]
}
