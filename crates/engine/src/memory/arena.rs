//! Records in lines of 64 bytes, by size classes.

use std::collections::TryReserveError;

use ctkeeper_flow::Family;
use zerocopy::{transmute_mut, transmute_ref};

use crate::entry::{Addresses, Entry, Line, NOWHERE, Shape, TcpWindow};
use crate::memory::{prefetch, want_huge_pages};
use crate::tuple::Tuple;

/// Lines of one chunk; a chunk holds records of one size only.
const CHUNK: usize = 1024;
/// So many records ahead of the one it looks at a scan asks for.
const AHEAD: usize = 12;
/// Sizes of records: one line to three.
const CLASSES: usize = 3;

/// The records of an engine.
///
/// A record is named by the number of its first line. Memory for the records of every connection
/// at their largest is reserved at the beginning, and taken chunk by chunk when first needed; a
/// chunk whose last record is freed may serve another size.
#[derive(Debug)]
pub(crate) struct Arena {
    lines: Vec<Line>,
    chunks: Vec<Chunk>,
    /// Chunks with room, by class: the first of each list.
    partial: [u32; CLASSES],
    /// Chunks without a record: the first of the list.
    empty: u32,
    /// Chunks there may be.
    limit: usize,
    live: usize,
    /// Places of records in chunks that are not empty.
    places: usize,
    carvings: u32,
}

/// What is known of one chunk.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// First of its freed records, linked by their `links[0]`.
    free: u32,
    /// Records in use.
    live: u16,
    /// Records that were ever in use since the chunk got its class: those behind are not links yet.
    fresh: u16,
    /// Lines of each record.
    size: u8,
    /// Neighbours in the list of chunks with room, or of empty ones.
    next: u32,
    previous: u32,
}

impl Chunk {
    const EMPTY: Self =
        Self { free: NOWHERE, live: 0, fresh: 0, size: 1, next: NOWHERE, previous: NOWHERE };

    const fn room(&self) -> u16 {
        (CHUNK / self.size as usize) as u16
    }
}

impl Arena {
    /// Room for so many records of any shape.
    ///
    /// # Errors
    /// When address space for them cannot be had.
    pub(crate) fn new(entries: u32) -> Result<Self, TryReserveError> {
        let limit = Self::chunks_at(entries as usize, CLASSES) + CLASSES - 1;
        // A line's number must not be `NOWHERE`.
        let limit = limit.min(NOWHERE as usize / CHUNK);
        let mut lines = Vec::new();
        lines.try_reserve_exact(limit * CHUNK)?;
        want_huge_pages(&mut lines);
        let mut chunks = Vec::new();
        chunks.try_reserve_exact(limit)?;
        Ok(Self {
            lines,
            chunks,
            partial: [NOWHERE; CLASSES],
            empty: NOWHERE,
            limit,
            live: 0,
            places: 0,
            carvings: 0,
        })
    }

    /// Takes a record of a shape; `None` when memory set aside is used up.
    ///
    /// Zero but for its shape and its references, which lead nowhere. Its id is 0, which is that of
    /// a free record: the caller gives it one.
    pub(crate) fn allocate(&mut self, shape: Shape) -> Option<u32> {
        let size = shape.lines();
        let at = match self.partial[size - 1] {
            NOWHERE => self.begin(size)?,
            at => at,
        };
        let chunk = &mut self.chunks[at as usize];
        let line = if chunk.free == NOWHERE {
            let line = at * CHUNK as u32 + u32::from(chunk.fresh) * size as u32;
            chunk.fresh += 1;
            line
        } else {
            let line = chunk.free;
            let freed: &Entry = transmute_ref!(&self.lines[line as usize]);
            chunk.free = freed.links[0];
            line
        };
        chunk.live += 1;
        if chunk.live == chunk.room() {
            self.unlink(at);
        }
        self.live += 1;
        self.lines[line as usize..][..size].fill(Line([0; 16]));
        let entry = self.entry_mut(line);
        entry.shape = shape as u8;
        entry.links = [NOWHERE; 2];
        entry.extension = NOWHERE;
        Some(line)
    }

    /// Takes a record for a connection that begins with a tuple, and writes the tuple into it.
    pub(crate) fn record(&mut self, original: &Tuple) -> Option<u32> {
        let line = self.allocate(Shape::of(original))?;
        let entry = self.entry_mut(line);
        entry.ids = [original.source_id, original.destination_id];
        entry.protocol = original.protocol;
        match original.family {
            Family::Ipv4 => entry.addresses = [original.source as u32, original.destination as u32],
            Family::Ipv6 => {
                let addresses = self.addresses_mut(line)?;
                addresses.source = halves(original.source);
                addresses.destination = halves(original.destination);
            }
        }
        Some(line)
    }

    /// The tuple of the original direction.
    #[inline]
    pub(crate) fn original(&self, line: u32) -> Tuple {
        let entry = self.entry(line);
        let wide = entry.shape >= Shape::Wide as u8;
        let (family, source, destination) = match self.addresses(line) {
            Some(at) if wide => (Family::Ipv6, whole(at.source), whole(at.destination)),
            _ => (Family::Ipv4, entry.addresses[0].into(), entry.addresses[1].into()),
        };
        let [source_id, destination_id] = entry.ids;
        Tuple { source, destination, source_id, destination_id, protocol: entry.protocol, family }
    }

    /// Gives a record back.
    pub(crate) fn free(&mut self, line: u32) {
        let at = line / CHUNK as u32;
        let chunk = &mut self.chunks[at as usize];
        let entry: &mut Entry = transmute_mut!(&mut self.lines[line as usize]);
        entry.id = 0;
        entry.links[0] = chunk.free;
        chunk.free = line;
        let (was_full, size) = (chunk.live == chunk.room(), chunk.size);
        chunk.live -= 1;
        let is_empty = chunk.live == 0;
        self.live -= 1;
        if is_empty {
            if !was_full {
                self.unlink(at);
            }
            self.places -= CHUNK / usize::from(size);
            self.chunks[at as usize] = Chunk::EMPTY;
            self.link(at, None);
        } else if was_full {
            self.link(at, Some(size));
        }
    }

    /// The header of a record.
    ///
    /// # Panics
    /// With a number that never came from [`Self::allocate`] ([`Self::get`] asks).
    #[inline]
    pub(crate) fn entry(&self, line: u32) -> &Entry {
        transmute_ref!(&self.lines[line as usize])
    }

    /// The header of a record, to be changed; as [`Self::entry`].
    #[inline]
    pub(crate) fn entry_mut(&mut self, line: u32) -> &mut Entry {
        transmute_mut!(&mut self.lines[line as usize])
    }

    /// The header of the record in use at a line, if one begins there.
    pub(crate) fn get(&self, line: u32) -> Option<&Entry> {
        let chunk = self.chunks.get(line as usize / CHUNK)?;
        let within = line as usize % CHUNK;
        let (size, fresh) = (usize::from(chunk.size), usize::from(chunk.fresh));
        let entry: &Entry = transmute_ref!(self.lines.get(line as usize)?);
        (within.is_multiple_of(size) && within / size < fresh && entry.id != 0).then_some(entry)
    }

    /// Header and window of a TCP record; `None` for another shape.
    #[expect(clippy::inline_always, reason = "the packet path: a call costs more than the work")]
    #[inline(always)]
    pub(crate) fn tcp_mut(&mut self, line: u32) -> Option<(&mut Entry, &mut TcpWindow)> {
        let (header, rest) = self.lines.get_mut(line as usize..)?.split_first_mut()?;
        let entry: &mut Entry = transmute_mut!(header);
        let window = match Shape::from_number(entry.shape)? {
            Shape::Tcp => rest.first_mut()?,
            Shape::WideTcp => rest.get_mut(1)?,
            Shape::Small | Shape::Wide => return None,
        };
        Some((entry, transmute_mut!(window)))
    }

    /// The window of a TCP record; `None` for another shape.
    pub(crate) fn tcp(&self, line: u32) -> Option<&TcpWindow> {
        let place = match Shape::from_number(self.entry(line).shape)? {
            Shape::Tcp => 1,
            Shape::WideTcp => 2,
            Shape::Small | Shape::Wide => return None,
        };
        Some(transmute_ref!(self.lines.get(line as usize + place)?))
    }

    /// The addresses of an IPv6 record, which stand in its second line.
    #[inline]
    pub(crate) fn addresses(&self, line: u32) -> Option<&Addresses> {
        Some(transmute_ref!(self.lines.get(line as usize + 1)?))
    }

    /// As [`Self::addresses`], to be changed.
    #[inline]
    pub(crate) fn addresses_mut(&mut self, line: u32) -> Option<&mut Addresses> {
        Some(transmute_mut!(self.lines.get_mut(line as usize + 1)?))
    }

    /// Asks the processor for the lines of a record that is about to be used.
    #[inline]
    pub(crate) fn prefetch(&self, line: u32, lines: usize) {
        for line in self.lines.iter().skip(line as usize).take(lines) {
            prefetch(line);
        }
    }

    /// Shows records in use to `visit`, looking at so many places of records from `cursor` on.
    ///
    /// Returns the next cursor: 0 at the end, which is where to begin.
    pub(crate) fn scan(
        &self,
        cursor: u32,
        places: usize,
        mut visit: impl FnMut(u32, &Entry),
    ) -> u32 {
        let mut left = places;
        let mut line = cursor as usize;
        while let Some(chunk) = self.chunks.get(line / CHUNK) {
            let first = line / CHUNK * CHUNK;
            let end = first + usize::from(chunk.fresh) * usize::from(chunk.size);
            while line < end {
                if left == 0 {
                    return line as u32;
                }
                left -= 1;
                // Strides of several lines are too long for what processors foresee by themselves.
                if let Some(later) = self.lines.get(line + AHEAD * usize::from(chunk.size)) {
                    prefetch(later);
                }
                let entry: &Entry = transmute_ref!(&self.lines[line]);
                if entry.id != 0 {
                    visit(line as u32, entry);
                }
                line += usize::from(chunk.size);
            }
            line = first + CHUNK;
        }
        0
    }

    /// Places of records at most, in use or not: what one pass of [`Self::scan`] looks at.
    pub(crate) const fn places(&self) -> usize {
        self.places
    }

    /// The records in use by their places in memory.
    pub(crate) fn records(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().enumerate().flat_map(move |(at, chunk)| {
            let end = usize::from(chunk.fresh) * usize::from(chunk.size);
            (0..end).step_by(usize::from(chunk.size)).filter_map(move |within| {
                let line = (at * CHUNK + within) as u32;
                (self.entry(line).id != 0).then_some(line)
            })
        })
    }

    /// How often a chunk got its class, modulo 2^32: as long as that stays, a line at which a record
    /// began is the first of a record, in use or free.
    #[inline]
    pub(crate) const fn carvings(&self) -> u32 {
        self.carvings
    }

    /// Records taken and not given back.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.live
    }

    /// Bytes of memory that have been taken so far.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.chunks)
    }

    /// Bytes that may at most be taken, of which [`Self::bytes`] are.
    #[cfg(test)]
    pub(crate) fn bytes_reserved(&self) -> usize {
        self.limit * (CHUNK * size_of::<Line>() + size_of::<Chunk>())
    }

    /// Bytes that so many records of one shape take.
    pub(crate) const fn bytes_at(entries: usize, shape: Shape) -> usize {
        Self::chunks_at(entries, shape.lines()) * (CHUNK * size_of::<Line>() + size_of::<Chunk>())
    }

    const fn chunks_at(entries: usize, size: usize) -> usize {
        entries.div_ceil(CHUNK / size)
    }

    /// Makes an empty chunk one for records of a size.
    fn begin(&mut self, size: usize) -> Option<u32> {
        let at = match self.empty {
            NOWHERE => self.grow()?,
            at => {
                self.unlink(at);
                at
            }
        };
        self.carvings = self.carvings.wrapping_add(1);
        self.places += CHUNK / size;
        self.chunks[at as usize] = Chunk { size: size as u8, ..Chunk::EMPTY };
        self.link(at, Some(size as u8));
        Some(at)
    }

    fn grow(&mut self) -> Option<u32> {
        if self.chunks.len() == self.limit {
            return None;
        }
        // Within what was reserved: the records do not move.
        self.lines.resize(self.lines.len() + CHUNK, Line([0; 16]));
        self.chunks.push(Chunk::EMPTY);
        Some(self.chunks.len() as u32 - 1)
    }

    /// Puts a chunk first into the list of a size, or of the empty ones.
    fn link(&mut self, at: u32, size: Option<u8>) {
        let first = match size {
            Some(size) => &mut self.partial[usize::from(size) - 1],
            None => &mut self.empty,
        };
        let next = std::mem::replace(first, at);
        let chunk = &mut self.chunks[at as usize];
        (chunk.next, chunk.previous) = (next, NOWHERE);
        if let Some(next) = self.chunks.get_mut(next as usize) {
            next.previous = at;
        }
    }

    /// Takes a chunk out of the list it is in.
    fn unlink(&mut self, at: u32) {
        let Chunk { next, previous, size, .. } = self.chunks[at as usize];
        if let Some(next) = self.chunks.get_mut(next as usize) {
            next.previous = previous;
        }
        if let Some(previous) = self.chunks.get_mut(previous as usize) {
            previous.next = next;
        } else if self.empty == at {
            self.empty = next;
        } else {
            self.partial[usize::from(size) - 1] = next;
        }
    }
}

const fn halves(address: u128) -> [u64; 2] {
    [address as u64, (address >> 64) as u64]
}

const fn whole([low, high]: [u64; 2]) -> u128 {
    (high as u128) << 64 | low as u128
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::tuple::protocol;

    const SHAPES: [Shape; 4] = [Shape::Small, Shape::Tcp, Shape::Wide, Shape::WideTcp];

    fn take(arena: &mut Arena, shape: Shape, id: u32) -> u32 {
        let line = arena.allocate(shape).unwrap();
        arena.entry_mut(line).id = id;
        line
    }

    /// Writes the record's number into every line it has.
    fn fill(arena: &mut Arena, line: u32, shape: Shape) {
        let mark = u64::from(line) + 1;
        arena.entry_mut(line).small = [mark as u32; 3];
        if shape.lines() == 3 || shape == Shape::Wide {
            arena.addresses_mut(line).unwrap().spare = [mark; 4];
        }
        if let Some((_, window)) = arena.tcp_mut(line) {
            window.last_end = mark as u32;
        }
    }

    fn holds(arena: &Arena, line: u32, shape: Shape) -> bool {
        let mark = u64::from(line) + 1;
        let wide = matches!(shape, Shape::Wide | Shape::WideTcp);
        let tcp = matches!(shape, Shape::Tcp | Shape::WideTcp);
        arena.entry(line).small == [mark as u32; 3]
            && (!wide || arena.addresses(line).unwrap().spare == [mark; 4])
            && arena.tcp(line).map(|window| window.last_end) == tcp.then_some(mark as u32)
    }

    proptest! {
        #[test]
        fn records_never_overlap_and_are_all_seen(
            steps in prop::collection::vec((0usize..4, any::<bool>(), any::<prop::sample::Index>()), 1..4000),
        ) {
            let mut arena = Arena::new(3000).unwrap();
            let mut model: BTreeMap<u32, Shape> = BTreeMap::new();
            for (shape, leave, which) in steps {
                if leave && !model.is_empty() {
                    let line = *model.keys().nth(which.index(model.len())).unwrap();
                    let shape = model.remove(&line).unwrap();
                    prop_assert!(holds(&arena, line, shape));
                    arena.free(line);
                    prop_assert!(arena.get(line).is_none());
                } else {
                    let line = take(&mut arena, SHAPES[shape], 1);
                    fill(&mut arena, line, SHAPES[shape]);
                    prop_assert!(model.insert(line, SHAPES[shape]).is_none());
                }
            }
            for (&line, &shape) in &model {
                prop_assert!(holds(&arena, line, shape));
                prop_assert!(arena.get(line).is_some());
            }
            prop_assert_eq!(arena.len(), model.len());
            prop_assert!(arena.records().eq(model.keys().copied()));
            let mut seen = BTreeSet::new();
            let mut cursor = 0;
            loop {
                cursor = arena.scan(cursor, 7, |line, _| { seen.insert(line); });
                if cursor == 0 {
                    break;
                }
            }
            prop_assert!(seen.iter().eq(model.keys()));
        }
    }

    #[test]
    fn holds_the_promised_number_of_every_shape_one_after_the_other() {
        let mut arena = Arena::new(5000).unwrap();
        for shape in SHAPES.into_iter().chain([Shape::Small]) {
            let lines: Vec<_> = (0..5000).map(|_| take(&mut arena, shape, 9)).collect();
            assert_eq!(arena.len(), 5000);
            for line in lines {
                arena.free(line);
            }
        }
        assert!(arena.bytes() <= arena.bytes_reserved());
    }

    #[test]
    fn tuples_are_kept() {
        let mut arena = Arena::new(10).unwrap();
        for (family, protocol, source) in [
            (Family::Ipv4, protocol::UDP, 0xffff_fffe),
            (Family::Ipv4, protocol::TCP, 1),
            (Family::Ipv6, protocol::TCP, u128::MAX - 1),
            (Family::Ipv6, protocol::ICMPV6, 1 << 64 | 1),
        ] {
            let (source_id, destination_id, destination) = (65_535, 1, source ^ 0xff00);
            let tuple = Tuple { source, destination, source_id, destination_id, protocol, family };
            let line = arena.record(&tuple).unwrap();
            assert_eq!(arena.original(line), tuple);
        }
    }

    #[test]
    fn says_when_it_is_full_and_goes_on_after_a_record_is_freed() {
        let mut arena = Arena::new(10).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = arena.allocate(Shape::WideTcp) {
            lines.push(line);
        }
        assert!(lines.len() >= 10);
        arena.free(lines[3]);
        assert_eq!(arena.allocate(Shape::WideTcp), Some(lines[3]));
        assert_eq!(arena.allocate(Shape::WideTcp), None);
        assert_eq!(arena.allocate(Shape::Small), None);
    }

    #[test]
    fn numbers_from_elsewhere_name_nothing() {
        let mut arena = Arena::new(10).unwrap();
        let line = take(&mut arena, Shape::WideTcp, 5);
        for other in [line + 1, line + 2, line + 3, 1023, 1024, 5000, NOWHERE] {
            assert!(arena.get(other).is_none(), "{other}");
            arena.prefetch(other, 3);
        }
        assert_eq!(arena.get(line).map(|entry| entry.id), Some(5));
    }

    #[test]
    fn takes_what_it_says() {
        let mut arena = Arena::new(100_000).unwrap();
        assert_eq!(arena.bytes(), 0);
        for id in 1..=100_000 {
            take(&mut arena, Shape::Tcp, id);
        }
        assert_eq!(arena.bytes(), Arena::bytes_at(100_000, Shape::Tcp));
        assert!(Arena::bytes_at(1_000_000, Shape::Small) < 64_200_000);
    }
}
