//! What few connections have: a translation, counters, labels, a master.

use ctkeeper_flow::{Counters, Direction, Flow, Labels, SequenceAdjustment, Timestamps};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::entry::{Entry, NOWHERE, Shape, flag};
use crate::event::Changes;
use crate::memory::prefetch;
use crate::nat::by_source::BySource;
use crate::outcome::Handle;
use crate::time::Time;
use crate::tuple::Tuple;

/// Extensions of connections: two lines each, taken when a connection first needs one and given
/// back when it ends.
///
/// There are never more than there are connections, so that memory is bounded by
/// [`Self::bytes_at`].
#[derive(Debug)]
pub(crate) struct Extensions {
    chunks: Vec<Box<[Extension]>>,
    /// First of the free ones, which are linked by [`Extension::next`].
    free: u32,
    /// How many have ever been used; those behind are untouched memory.
    used: u32,
    /// Sequence adjustments by the place of the extension: only helpers that change the length of
    /// what is said need them.
    adjustments: Vec<Adjustments>,
    /// Places of `adjustments` that are free.
    adjustments_free: Vec<u32>,
    pub(crate) by_source: BySource,
}

/// What a connection has beside its record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct Extension {
    /// Source and destination of the reply direction, low words first.
    pub(crate) reply: [[u64; 2]; 2],
    /// Source and destination id of the reply direction.
    pub(crate) reply_ids: [u16; 2],
    /// Next and previous in its chain of [`BySource`]. A free
    /// extension: the next free one.
    pub(crate) next: u32,
    pub(crate) previous: u32,
    /// The record it belongs to.
    pub(crate) line: u32,
    /// The interface whose address it was masqueraded to; 0 for none.
    pub(crate) masquerade: u32,
    /// Number of its helper; 0 for none.
    pub(crate) helper: u16,
    /// [`has`] bits; above them [`Changes`] to be told with the next packet that goes on.
    pub(crate) has: u16,
    /// Line and id of its master.
    pub(crate) master: [u32; 2],
    /// Packets and bytes, original and reply.
    pub(crate) counters: [[u64; 2]; 2],
    /// When it was confirmed, in nanoseconds of the caller's clock.
    pub(crate) start: u64,
    /// As [`Labels`] keeps them.
    pub(crate) labels: [u8; 16],
    /// Place in [`Extensions::adjustments`] plus one; 0 for none.
    pub(crate) adjustments: u32,
    /// Its chain of the index by source.
    pub(crate) chain: u32,
}

const _: () = assert!(size_of::<Extension>() == 128);

/// Bits of [`Extension::has`].
pub(crate) mod has {
    /// It counts packets and bytes.
    pub(crate) const COUNTERS: u16 = 1;
    /// It keeps when it began.
    pub(crate) const START: u16 = 1 << 1;
    /// Labels have been set.
    pub(crate) const LABELS: u16 = 1 << 2;
    /// A master.
    pub(crate) const MASTER: u16 = 1 << 3;
    /// It stands in the index by source.
    pub(crate) const BY_SOURCE: u16 = 1 << 4;
    /// Where changes begin.
    pub(crate) const CHANGES: u32 = 5;
}

impl Extension {
    /// Keeps changes.
    pub(crate) const fn defer(&mut self, changes: Changes) {
        self.has |= changes.0 << has::CHANGES;
    }

    /// The changes that are kept.
    pub(crate) const fn deferred(&self) -> Changes {
        Changes(self.has >> has::CHANGES)
    }

    /// The changes that were kept, which are no longer.
    pub(crate) const fn take_deferred(&mut self) -> Changes {
        let changes = self.deferred();
        self.has &= (1 << has::CHANGES) - 1;
        changes
    }
}

// Every bit of the changes has its place.
const _: () = assert!(Changes::LABELS.0 << has::CHANGES == 1 << 15);

/// Shifts of the sequence numbers that each side sends, original and reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adjustments {
    pub(crate) sides: [Adjustment; 2],
}

/// Shift of one side's sequence numbers (`struct nf_ct_seqadj`,
/// `include/net/netfilter/nf_conntrack_seqadj.h`, Linux 6.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adjustment {
    /// Where the latest shift begins.
    pub(crate) correction: u32,
    /// Shift before and behind that place.
    pub(crate) before: i32,
    pub(crate) after: i32,
}

/// Extensions in one piece of memory.
const CHUNK: usize = 1 << 10;

/// Taking and giving back.
impl Extensions {
    /// None yet, for a table of so many connections.
    pub(crate) fn new(connections: u32, seed: u64) -> Self {
        Self {
            chunks: Vec::new(),
            free: NOWHERE,
            used: 0,
            adjustments: Vec::new(),
            adjustments_free: Vec::new(),
            by_source: BySource::new(connections, seed),
        }
    }

    /// Bytes of memory when each of so many connections has an extension.
    pub(crate) const fn bytes_at(connections: u32) -> usize {
        let chunk = CHUNK * size_of::<Extension>() + size_of::<Box<[Extension]>>();
        (connections as usize).div_ceil(CHUNK) * chunk + BySource::bytes_at(connections)
    }

    /// Bytes of memory taken so far.
    pub(crate) fn bytes(&self) -> usize {
        let chunk = CHUNK * size_of::<Extension>() + size_of::<Box<[Extension]>>();
        self.chunks.len() * chunk + self.by_source.bytes()
    }

    /// The extension of a connection, which it gets now if it has none.
    pub(crate) fn ensure(&mut self, line: u32, entry: &mut Entry) -> &mut Extension {
        if entry.extension == NOWHERE {
            entry.extension = self.take(line);
        }
        self.at_mut(entry.extension)
    }

    fn take(&mut self, line: u32) -> u32 {
        let place = match self.free {
            NOWHERE => self.grow(),
            free => {
                self.free = self.at(free).next;
                free
            }
        };
        *self.at_mut(place) =
            Extension { next: NOWHERE, previous: NOWHERE, line, ..Extension::new_zeroed() };
        place
    }

    fn grow(&mut self) -> u32 {
        let place = self.used;
        if place as usize == self.chunks.len() * CHUNK {
            self.chunks.push(vec![Extension::new_zeroed(); CHUNK].into_boxed_slice());
        }
        self.used += 1;
        place
    }

    /// Gives an extension back.
    pub(crate) fn free(&mut self, place: u32) {
        self.unlist_by_source(place);
        let adjustments = self.at(place).adjustments;
        if adjustments != 0 {
            self.adjustments_free.push(adjustments - 1);
        }
        let free = self.free;
        let extension = self.at_mut(place);
        extension.has = 0;
        extension.line = NOWHERE;
        extension.next = free;
        self.free = place;
    }

    /// # Panics
    /// On a place that was never given out, which no record holds.
    #[inline]
    pub(crate) fn at(&self, place: u32) -> &Extension {
        let place = place as usize;
        &self.chunks[place / CHUNK][place % CHUNK]
    }

    /// Asks the processor for an extension that is about to be used.
    #[inline]
    pub(crate) fn prefetch(&self, place: u32) {
        let place = place as usize;
        if let Some(extension) = self.chunks.get(place / CHUNK).map(|chunk| &chunk[place % CHUNK]) {
            prefetch(extension);
            prefetch(&extension.counters);
        }
    }

    /// Whether no connection has ever had one.
    #[inline]
    pub(crate) const fn is_unused(&self) -> bool {
        self.used == 0
    }

    /// # Panics
    /// As [`Self::at`].
    #[inline]
    pub(crate) fn at_mut(&mut self, place: u32) -> &mut Extension {
        let place = place as usize;
        &mut self.chunks[place / CHUNK][place % CHUNK]
    }

    /// The extension of a connection that has one.
    #[inline]
    pub(crate) fn get(&self, entry: &Entry) -> Option<&Extension> {
        (entry.extension != NOWHERE).then(|| self.at(entry.extension))
    }
}

/// Translation.
impl Extensions {
    /// The reply tuple of a translated connection; of others it is the original one turned round.
    #[inline]
    pub(crate) fn reply(&self, entry: &Entry) -> Option<Tuple> {
        if entry.flags & flag::TRANSLATED == 0 {
            return None;
        }
        let extension = self.at(entry.extension);
        let [source, destination] = extension.reply.map(join);
        let [source_id, destination_id] = extension.reply_ids;
        let family = Shape::from_number(entry.shape)?.family();
        Some(Tuple {
            source,
            destination,
            source_id,
            destination_id,
            protocol: entry.protocol,
            family,
        })
    }

    /// Gives a connection that is not in the table another reply tuple.
    pub(crate) fn set_reply(&mut self, line: u32, entry: &mut Entry, reply: &Tuple) {
        entry.flags |= flag::TRANSLATED;
        let extension = self.ensure(line, entry);
        extension.reply = [split(reply.source), split(reply.destination)];
        extension.reply_ids = [reply.source_id, reply.destination_id];
    }
}

const fn join([low, high]: [u64; 2]) -> u128 {
    (high as u128) << 64 | low as u128
}

const fn split(bits: u128) -> [u64; 2] {
    [bits as u64, (bits >> 64) as u64]
}

/// Counters, timestamps, labels, masters.
impl Extensions {
    /// Lets a connection count from now on (`nf_ct_acct_ext_add`, Linux 6.12).
    pub(crate) fn start_counting(&mut self, line: u32, entry: &mut Entry) {
        self.ensure(line, entry).has |= has::COUNTERS;
    }

    /// Counts one packet, if the connection counts.
    #[inline]
    pub(crate) fn count(&mut self, entry: &Entry, direction: Direction, length: u32) {
        if entry.extension != NOWHERE {
            self.count_at(entry.extension, direction, length);
        }
    }

    #[inline]
    fn count_at(&mut self, place: u32, direction: Direction, length: u32) {
        let extension = self.at_mut(place);
        if extension.has & has::COUNTERS != 0 {
            let [packets, bytes] = &mut extension.counters[direction as usize];
            *packets = packets.wrapping_add(1);
            *bytes = bytes.wrapping_add(u64::from(length));
        }
    }

    /// Keeps when a connection began (`nf_ct_tstamp_ext_add`, Linux 6.12).
    pub(crate) fn begin_at(&mut self, line: u32, entry: &mut Entry, now: Time) {
        let extension = self.ensure(line, entry);
        extension.has |= has::START;
        extension.start = now.0;
    }

    /// Adds labels; whether that changed anything (`nf_connlabels_replace`, Linux 6.12).
    pub(crate) fn add_labels(&mut self, line: u32, entry: &mut Entry, labels: Labels) -> bool {
        let extension = self.ensure(line, entry);
        extension.has |= has::LABELS;
        let mut changed = false;
        for (mine, new) in extension.labels.iter_mut().zip(labels.0) {
            changed |= *mine | new != *mine;
            *mine |= new;
        }
        changed
    }

    /// The labels of a connection.
    pub(crate) fn labels(&self, entry: &Entry) -> Labels {
        self.get(entry).map(|extension| Labels(extension.labels)).unwrap_or_default()
    }

    /// Notes who a connection is related to.
    pub(crate) fn set_master(&mut self, line: u32, entry: &mut Entry, master: Handle) {
        let extension = self.ensure(line, entry);
        extension.has |= has::MASTER;
        extension.master = [master.line, master.id];
    }

    /// Who a connection is related to.
    pub(crate) fn master(&self, entry: &Entry) -> Option<Handle> {
        let extension = self.get(entry).filter(|extension| extension.has & has::MASTER != 0)?;
        let [line, id] = extension.master;
        Some(Handle { line, id })
    }

    /// The sequence adjustments of a connection, which it gets now if it has none.
    pub(crate) fn adjust(&mut self, line: u32, entry: &mut Entry) -> &mut Adjustments {
        let place = self.ensure(line, entry).adjustments;
        if place == 0 {
            let place = self.adjustments_free.pop().unwrap_or(self.adjustments.len() as u32);
            if place as usize == self.adjustments.len() {
                self.adjustments.push(Adjustments::default());
            }
            self.adjustments[place as usize] = Adjustments::default();
            self.at_mut(entry.extension).adjustments = place + 1;
        }
        let place = self.at(entry.extension).adjustments;
        &mut self.adjustments[place as usize - 1]
    }

    /// The sequence adjustments of a connection, if it has any.
    pub(crate) fn adjustments(&self, entry: &Entry) -> Option<&Adjustments> {
        let place = self.get(entry)?.adjustments;
        self.adjustments.get((place as usize).checked_sub(1)?)
    }

    /// By how much the numbers that a segment acknowledges were shifted under way, in the direction
    /// against its own (`nf_ct_seq_offset` as `tcp_in_window` asks it, Linux 6.12).
    #[inline]
    pub(crate) fn shift(&self, entry: &Entry, segment: Direction, acknowledgement: u32) -> i32 {
        let Some(Adjustments { sides: [original, reply] }) = self.adjustments(entry) else {
            return 0;
        };
        let receiver = match segment {
            Direction::Original => reply,
            Direction::Reply => original,
        };
        receiver.at(acknowledgement.wrapping_sub(1))
    }

    /// Puts what the extension knows into the vocabulary's value of the connection; the master's
    /// tuple is the table's to look up.
    pub(crate) fn describe(&self, entry: &Entry, flow: &mut Flow) {
        let Some(extension) = self.get(entry) else { return };
        let counters = |[packets, bytes]: [u64; 2]| Counters { packets, bytes };
        if extension.has & has::COUNTERS != 0 {
            flow.counters_original = Some(counters(extension.counters[0]));
            flow.counters_reply = Some(counters(extension.counters[1]));
        }
        if extension.has & has::START != 0 {
            flow.timestamps = Some(Timestamps { start: extension.start, stop: 0 });
        }
        if extension.has & has::LABELS != 0 {
            flow.labels = Some(self.labels(entry));
        }
        flow.sequence_adjustment = self.adjustments(entry).map(|adjustments| {
            let [original, reply] = adjustments.sides.map(SequenceAdjustment::from);
            Box::new((original, reply))
        });
    }
}

impl Adjustment {
    /// The shift at a sequence number, modulo 2^32.
    const fn at(&self, number: u32) -> i32 {
        let is_behind = self.correction.wrapping_sub(number).cast_signed() < 0;
        if is_behind { self.after } else { self.before }
    }
}

impl From<Adjustment> for SequenceAdjustment {
    fn from(side: Adjustment) -> Self {
        Self {
            correction: side.correction,
            before: side.before.cast_unsigned(),
            after: side.after.cast_unsigned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::protocol;
    use ctkeeper_flow::Family;

    fn entry(shape: Shape) -> Entry {
        let mut entry = Entry::new_zeroed();
        entry.extension = NOWHERE;
        entry.shape = shape as u8;
        entry.protocol = protocol::UDP;
        entry
    }

    fn reply(family: Family) -> Tuple {
        Tuple {
            source: 0x2001_0db8_0000_0000_0000_0000_0000_0001,
            destination: 0x2001_0db8_0000_0000_0000_0000_0000_0002,
            source_id: 53,
            destination_id: 40_000,
            protocol: protocol::UDP,
            family,
        }
    }

    #[test]
    fn a_shift_counts_behind_its_correction() {
        let mut extensions = Extensions::new(4, 0);
        let mut connection = entry(Shape::Tcp);
        assert_eq!(extensions.shift(&connection, Direction::Original, 5), 0);
        let sides = &mut extensions.adjust(1, &mut connection).sides;
        sides[1] = Adjustment { correction: u32::MAX, before: 2, after: -4 };
        let at = |number| extensions.shift(&connection, Direction::Original, number);
        assert_eq!([u32::MAX, 0, 1, 2].map(at), [2, 2, -4, -4]);
        assert_eq!(extensions.shift(&connection, Direction::Reply, 1), 0);
    }

    #[test]
    fn a_translated_connection_gives_its_reply_tuple_back() {
        let mut extensions = Extensions::new(4, 0);
        let mut connection = entry(Shape::Wide);
        assert_eq!(extensions.reply(&connection), None);
        extensions.set_reply(7, &mut connection, &reply(Family::Ipv6));
        assert_eq!(extensions.reply(&connection), Some(reply(Family::Ipv6)));
        assert_eq!(extensions.at(connection.extension).line, 7);
    }

    #[test]
    fn what_is_given_back_is_given_out_again_and_clean() {
        let mut extensions = Extensions::new(4, 0);
        let mut first = entry(Shape::Small);
        extensions.add_labels(1, &mut first, Labels::from_bits([3]));
        extensions.adjust(1, &mut first).sides[1].after = -4;
        let mut second = entry(Shape::Small);
        extensions.start_counting(2, &mut second);
        extensions.free(first.extension);
        let mut third = entry(Shape::Small);
        extensions.ensure(3, &mut third);
        assert_eq!(third.extension, first.extension);
        assert_eq!(extensions.labels(&third), Labels::default());
        assert_eq!(extensions.adjustments(&third), None);
        assert_eq!(extensions.adjust(3, &mut third), &Adjustments::default());
        assert_eq!(extensions.adjustments.len(), 1);
        assert_eq!(extensions.used, 2);
    }

    #[test]
    fn only_connections_that_count_count() {
        let mut extensions = Extensions::new(4, 0);
        let mut counting = entry(Shape::Small);
        extensions.start_counting(1, &mut counting);
        let mut other = entry(Shape::Small);
        extensions.ensure(2, &mut other);
        for connection in [&counting, &other, &entry(Shape::Small)] {
            extensions.count(connection, Direction::Reply, 60);
            extensions.count(connection, Direction::Reply, 40);
        }
        let mut flow = Flow::default();
        extensions.describe(&counting, &mut flow);
        assert_eq!(flow.counters_reply, Some(Counters { packets: 2, bytes: 100 }));
        assert_eq!(flow.counters_original, Some(Counters::default()));
        let mut flow = Flow::default();
        extensions.describe(&other, &mut flow);
        assert_eq!(flow.counters_reply, None);
    }

    #[test]
    fn chunks_are_added_as_they_are_needed() {
        let mut extensions = Extensions::new(4, 0);
        for line in 0..=CHUNK as u32 {
            let mut connection = entry(Shape::Small);
            extensions.set_reply(line, &mut connection, &reply(Family::Ipv4));
            assert_eq!(connection.extension, line);
        }
        assert_eq!(extensions.chunks.len(), 2);
    }
}
