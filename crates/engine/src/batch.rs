//! Many packets at once, so that the memory they need is on its way before it is used.

use crate::engine::Engine;
use crate::entry::Shape;
use crate::outcome::Outcome;
use crate::packet::{Datagram, Packet};
use crate::rules::Ruleset;
use crate::time::Time;

/// Packets whose memory is asked for at once: more would push each other out of the first level
/// cache, fewer would leave the memory idle.
const AT_ONCE: usize = 32;

/// Where a packet will probably be looked up.
#[derive(Clone, Copy, Default)]
struct Glance {
    hash: u32,
    /// Lines of its record; 0 for none.
    lines: u8,
}

impl Engine {
    /// Takes packets through their namespaces, one after the other, and adds what becomes of each
    /// to `outcomes`.
    ///
    /// The outcomes are those of [`Self::packet`] for each in turn: a packet sees what the ones
    /// before it did. It is faster where connections are many, as the places of all packets in the
    /// table are asked for before the first is worked on: two round trips to memory for 32
    /// packets, not for each. Any number of packets may be given; a multiple of 32 is best.
    pub fn batch<R: Ruleset + ?Sized>(
        &mut self,
        now: Time,
        packets: &[Packet<'_>],
        rules: &mut R,
        outcomes: &mut Vec<Outcome>,
    ) {
        outcomes.reserve(packets.len());
        self.partings.clear();
        for packets in packets.chunks(AT_ONCE) {
            self.fetch(packets);
            outcomes.extend(packets.iter().map(|packet| self.one_of_many(now, packet, rules)));
        }
    }

    /// Asks for the places of packets in the table. That zones and translations may lead elsewhere
    /// does no harm: what is fetched is looked at only when the packet's turn comes.
    #[inline]
    fn fetch(&self, packets: &[Packet<'_>]) {
        let mut glances = [Glance::default(); AT_ONCE];
        let table = &self.table;
        for (packet, glance) in packets.iter().zip(&mut glances) {
            let tuple = Datagram::parse(packet.bytes).and_then(|datagram| datagram.tuple());
            if let Ok(tuple) = tuple {
                let hash = table.index.hash(&tuple, packet.namespace);
                table.index.prefetch(hash);
                *glance = Glance { hash, lines: Shape::of(&tuple).lines() as u8 };
            }
        }
        let glances = &glances[..packets.len().min(AT_ONCE)];
        for glance in glances {
            if glance.lines != 0 {
                table.index.candidates(glance.hash, |line| {
                    table.arena.prefetch(line, usize::from(glance.lines));
                });
            }
        }
        if table.extensions.is_used() {
            self.fetch_extensions(glances);
        }
    }

    /// A third round trip, where connections have more than their record.
    #[inline(never)]
    fn fetch_extensions(&self, glances: &[Glance]) {
        let table = &self.table;
        for glance in glances.iter().filter(|glance| glance.lines != 0) {
            table.index.candidates(glance.hash, |line| {
                table.extensions.prefetch(table.arena.entry(line));
            });
        }
    }
}
