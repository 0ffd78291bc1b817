//! Many packets at once, so that the memory they need is on its way before it is used.

use crate::engine::Engine;
use crate::outcome::Outcome;
use crate::packet::{Datagram, Packet};
use crate::rules::Ruleset;
use crate::short::Glance;
use crate::time::Time;

/// Packets whose memory is asked for at once: more would push each other out of the first level
/// cache, fewer would leave the memory idle.
const AT_ONCE: usize = 32;

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
        let has_short_way = self.has_short_way(rules);
        for packets in packets.chunks(AT_ONCE) {
            let glances = self.fetch(packets);
            for (packet, glance) in packets.iter().zip(&glances) {
                // Each outcome is written in one place: a join of both would go through memory.
                if has_short_way && let Some(outcome) = self.short_way(now, packet, glance.as_ref())
                {
                    outcomes.push(outcome);
                } else {
                    outcomes.push(self.long_way(now, packet, rules));
                }
            }
        }
    }

    /// Asks for the places of packets in the table. That zones and translations may lead elsewhere
    /// does no harm: what is fetched is looked at only when the packet's turn comes.
    #[inline]
    fn fetch(&self, packets: &[Packet<'_>]) -> [Option<Glance>; AT_ONCE] {
        let mut glances = [None; AT_ONCE];
        let table = &self.table;
        for (packet, place) in packets.iter().zip(&mut glances) {
            let datagram = Datagram::parse(packet.bytes).ok();
            let glance = datagram.and_then(|datagram| self.glance(packet, &datagram));
            if let Some(glance) = &glance {
                table.index.prefetch(glance.hash);
            }
            *place = glance;
        }
        for glance in glances.iter().flatten() {
            let lines = glance.key.lines();
            table.index.candidates(glance.hash, |line| table.arena.prefetch(line, lines));
        }
        glances
    }
}
