//! Many packets at once, so that the memory they need is on its way before it is used.

use crate::engine::Engine;
use crate::entry::NOWHERE;
use crate::index::Index;
use crate::index::chains::Chains;
use crate::outcome::Outcome;
use crate::packet::Packet;
use crate::rules::Ruleset;
use crate::short::Glance;
use crate::time::Time;

/// Packets whose memory is asked for at once: more would push each other out of the first level
/// cache, fewer would leave the memory idle.
const AT_ONCE: usize = 32;

/// Records of a chain that are fetched behind the first.
const STEPS: usize = 3;

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
            let mut glances = self.fetch(packets);
            let carvings = self.table.arena.carvings();
            for (packet, glance) in packets.iter().zip(&mut glances) {
                if self.table.arena.carvings() != carvings
                    && let Some(glance) = glance
                {
                    glance.line = NOWHERE;
                }
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
    fn fetch<'a>(&self, packets: &[Packet<'a>]) -> [Option<Glance<'a>>; AT_ONCE] {
        let mut glances = [None; AT_ONCE];
        let table = &self.table;
        for (packet, place) in packets.iter().zip(&mut glances) {
            if let Some(glance) = self.glance(packet) {
                table.index.prefetch(glance.hash);
                *place = Some(glance);
            }
        }
        for glance in glances.iter_mut().flatten() {
            glance.line = table.index.fetch(&table.arena, glance.hash, &glance.key);
        }
        match &table.index {
            Index::Exact(_) => {
                for _ in 0..STEPS {
                    for glance in glances.iter_mut().flatten() {
                        Chains::fetch_next(&table.arena, &glance.key, &mut glance.line);
                    }
                }
            }
            Index::Fast(_) if table.extensions.is_unused() => {}
            Index::Fast(_) => {
                for glance in glances.iter().flatten().filter(|glance| glance.line != NOWHERE) {
                    table.extensions.prefetch(table.arena.entry(glance.line).extension);
                }
            }
        }
        glances
    }
}
