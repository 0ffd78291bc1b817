//! What an engine takes of memory, and of the work that many share.

use crate::engine::Engine;
use crate::entry::Shape;
use crate::extension::Extensions;
use crate::hash::Hasher;
use crate::index::Index;
use crate::memory::Arena;
use crate::packet::{Datagram, Packet};
use crate::settings::Config;

/// Memory.
impl Engine {
    /// Bytes of memory that an engine of this configuration takes at most for its table, whatever
    /// packets bring: every connection IPv6, TCP, translated, with counters and labels.
    ///
    /// Set aside when the engine is made and taken as connections come. The table of IPv4
    /// connections without any of that takes far less: [`Self::bytes`] tells what one takes.
    pub fn bytes_at(config: &Config) -> usize {
        let entries = config.entries();
        let records = Arena::bytes_at(entries as usize, Shape::WideTcp);
        records + Index::bytes_at(config, true) + Extensions::bytes_at(entries)
    }

    /// Bytes of memory that the table has taken so far: what was once taken is kept for the
    /// connections to come.
    pub fn bytes(&self) -> usize {
        self.table.arena.bytes() + self.table.index.bytes() + self.table.extensions.bytes()
    }
}

impl Packet<'_> {
    /// Which of so many engines a packet belongs to, when each has a processor of its own and
    /// nothing in common with the others: the same for both directions of a connection, and for
    /// every packet that has no layer 4 header the first.
    ///
    /// Tuples decide, so connections whose answers come with another tuple (translated ones) and
    /// ICMP errors need a share of their own: give each engine its own ports to translate to, and
    /// send by those.
    pub fn shard(&self, seed: u64, engines: u32) -> u32 {
        let tuple = Datagram::parse(self.bytes).and_then(|datagram| datagram.tuple());
        let hash = tuple.map_or(0, |tuple| {
            // Another key than the tables', whose buckets would be used unevenly else.
            Hasher::new(seed.rotate_left(17) ^ 2).symmetric(&tuple, 0, self.namespace)
        });
        ((u64::from(hash) * u64::from(engines)) >> 32) as u32
    }
}
